"""Every score against its published formula, written anew in NumPy from the paper or the authors' code.

All are given the same logits, features and gradients: what differs is the definition alone. A new score of
the registry joins a table here, or `ELSEWHERE` with the test that holds its formula.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from built_in import SCORE_NAMES

import diet_jax as dj
from diet_jax.scores.score import takes

RNG = np.random.default_rng(5)
TIMES, COUNT, CLASSES, WIDTH = 14, 40, 4, 6
LABELS = RNG.integers(0, CLASSES, COUNT)
# A path of logits for each example that drifts to its label: learned, forgotten, never learned, all of them.
DRIFT = RNG.uniform(-0.3, 0.6, COUNT)[:, None] * np.eye(CLASSES)[LABELS]
LOGITS = (RNG.normal(size=(TIMES, COUNT, CLASSES)) + np.arange(TIMES)[:, None, None] * DRIFT).astype(
    np.float32
)
FEATURES = RNG.normal(size=(COUNT, WIDTH)).astype(np.float32)
ROWS = np.arange(COUNT)


def softmax(logits):
    powers = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


PROBABILITIES = softmax(LOGITS)
CONFIDENCE = PROBABILITIES[:, ROWS, LABELS]
RIGHT = LOGITS.argmax(axis=-1) == LABELS
ERRORS = PROBABILITIES - np.eye(CLASSES)[LABELS]


def others(values):
    """Of each example the values of the classes that are not its label."""
    return np.array([np.delete(row, label) for row, label in zip(values, LABELS, strict=True)])


LAST, ERROR = PROBABILITIES[-1], ERRORS[-1]
OF_LOGITS = {
    # Paul et al. 2021, Definition 2.3.
    "el2n": [np.sqrt((error**2).sum()) for error in ERROR],
    # data_diet's scores.py: the order of the norm; margins of probabilities over the other classes.
    "l1_error": [np.abs(error).sum() for error in ERROR],
    "max_margin": (others(LAST) - CONFIDENCE[-1][:, None]).max(axis=1),
    "sum_margin": (others(LAST) - CONFIDENCE[-1][:, None]).sum(axis=1),
    "loss": -np.log(CONFIDENCE[-1]),
    # Northcutt et al. 2021: self-confidence is the probability of the label; ours has the other sign.
    "confidence": -CONFIDENCE[-1],
    "entropy": [-sum(p * np.log(p) for p in row) for row in LAST],
    # The gradient in kernel and bias of the last layer: an outer product of error and features with a 1.
    "grand_last_layer": [
        np.linalg.norm(np.outer(error, np.append(h, 1))) for error, h in zip(ERROR, FEATURES, strict=True)
    ],
}


def sample_deviation(window):
    return np.sqrt(((window - window.mean(axis=0)) ** 2).sum(axis=0) / (len(window) - 1))


def windows(length):
    return [CONFIDENCE[first : first + length] for first in range(TIMES - length + 1)]


def forgotten():
    """Toneva et al. 2019: right at a presentation and wrong at the next; data_diet has inf for never."""
    events = [sum(a and not b for a, b in itertools.pairwise(path)) for path in RIGHT.T]
    return np.where(RIGHT.any(axis=0), events, np.inf)


def tdds(length, decay):
    """Zhang et al. 2024: in windows of presentations, how unsteady the moves are; the last weigh the most."""
    log = np.log(PROBABILITIES + 1e-8)
    moves = np.abs(PROBABILITIES[1:] * (log[1:] - log[:-1])).sum(axis=2)
    total = np.zeros(COUNT)
    for first in range(TIMES - length + 1):
        window = moves[first : first + length - 1]
        unsteady = np.sqrt(((window - window.mean(axis=0)) ** 2).sum(axis=0))
        total += decay * (1 - decay) ** (TIMES - length - first) * unsteady
    return total


MARGINS = [LOGITS[t][ROWS, LABELS] - others(LOGITS[t]).max(axis=1) for t in range(TIMES)]
OF_DYNAMICS = {
    "forgetting": forgotten(),
    # CCS (Zheng et al. 2023): EL2N of the first ten epochs, added up.
    "el2n_sum": sum(np.linalg.norm(ERRORS[t], axis=1) for t in range(10)),
    # Pleiss et al. 2020: mean of the label's logit minus the largest other one; high means easy there.
    "aum": -np.mean(MARGINS, axis=0),
    # CCS: the same of probabilities.
    "aum_softmax": -np.mean([p[ROWS, LABELS] - others(p).max(axis=1) for p in PROBABILITIES], axis=0),
    # Swayamdipta et al. 2020, section 2.1; high means easy there, but for variability.
    "mean_confidence": -CONFIDENCE.mean(axis=0),
    "variability": np.sqrt(((CONFIDENCE - CONFIDENCE.mean(axis=0)) ** 2).mean(axis=0)),
    "correctness": -RIGHT.mean(axis=0),
    "mean_loss": -np.log(CONFIDENCE).mean(axis=0),
    "first_learned": [np.flatnonzero(path)[0] + 1 if path.any() else TIMES + 1 for path in RIGHT.T],
    "last_wrong": [np.flatnonzero(~path)[-1] + 1 if not path.all() else 0 for path in RIGHT.T],
    # He et al. 2024, equations 2 and 3, windows of ten.
    "dyn_unc": np.mean([sample_deviation(window) for window in windows(10)], axis=0),
    # Cho et al. 2025: the same, each times how far from certain the window is.
    "tdds": tdds(10, 0.9),
    "dual": np.mean([sample_deviation(w) * (1 - w.mean(axis=0)) for w in windows(10)], axis=0),
}


def moderate(center):
    """Xia et al. 2023: distance of the features from the mean, in their code the median, over the class."""
    return [
        np.linalg.norm(
            h - center([g for g, other in zip(FEATURES, LABELS, strict=True) if other == y], axis=0)
        )
        for h, y in zip(FEATURES, LABELS, strict=True)
    ]


def vog():
    """The authors' `train_visualize_grad.py`: deviation of each pixel, mean over pixels, then by class."""
    raw = np.array([np.mean([np.std(pixel) for pixel in path.T]) for path in np.moveaxis(GRADIENTS, 1, 0)])
    classes = [[raw[row] for row in ROWS if LABELS[row] == y] for y in LABELS]
    return [(v - np.mean(own)) / np.std(own) for v, own in zip(raw, classes, strict=True)]


GRADIENTS = RNG.normal(size=(3, COUNT, WIDTH)).astype(np.float32)
NORMS, RATES = np.abs(RNG.normal(size=(3, COUNT))).astype(np.float32), np.float32([0.1, 0.1, 0.02])
FUNCTIONS = {
    "class_center_distance": (
        lambda: dj.class_center_distance(FEATURES, LABELS, num_classes=CLASSES),
        lambda: moderate(np.mean),
    ),
    "class_center_distance, median": (
        lambda: dj.class_center_distance(FEATURES, LABELS, num_classes=CLASSES, center="median"),
        lambda: moderate(np.median),
    ),
    "vog": (lambda: dj.vog_scores(GRADIENTS, LABELS, num_classes=CLASSES), vog),
    # Pruthi et al. 2020, TracInCP of an example with itself.
    "tracin_self": (
        lambda: dj.tracin_self_scores(NORMS, RATES),
        lambda: [sum(r * g**2 for r, g in zip(RATES, path, strict=True)) for path in NORMS.T],
    ),
    # Mindermann et al. 2022, equation 3.
    "reducible loss": (
        lambda: dj.reducible_loss(NORMS[0], NORMS[1]),
        lambda: [loss - held_out for loss, held_out in zip(*NORMS[:2], strict=True)],
    ),
    "input_norm": (
        lambda: dj.input_norm(dj.Variables({}, {}), jnp.asarray(FEATURES), jnp.asarray(LABELS)),
        lambda: [np.sqrt((x.astype(np.float64) ** 2).sum()) for x in FEATURES],
    ),
}
ELSEWHERE = {
    "grand": "test_losses_and_scores.py",
    "prototype_distance": "test_features.py",
    "random": "test_score.py",
}


class Fixed:
    """A model of these logits and features, whose input is the number of the row."""

    def init(self, key, shape):
        return dj.Variables({}, {})

    def apply(self, variables, inputs, *, train):
        return self.predict(variables, inputs), {}

    def predict(self, variables, inputs):
        return jnp.asarray(LOGITS[-1])[inputs[:, 0].astype(int)]

    def features(self, variables, inputs):
        rows = inputs[:, 0].astype(int)
        return jnp.asarray(LOGITS[-1])[rows], jnp.asarray(FEATURES)[rows], True


def test_every_score_is_held_to_its_formula():
    """A score of the same formula in the other pass has the name of the first."""
    held = {*OF_LOGITS, *OF_DYNAMICS, *FUNCTIONS, *ELSEWHERE}
    assert {name.removesuffix("_clean") for name in SCORE_NAMES} <= held


@pytest.mark.parametrize("name", OF_LOGITS)
def test_scores_of_logits(name):
    order = RNG.permutation(COUNT)
    inputs, labels = jnp.asarray(order[:, None], jnp.float32), jnp.asarray(LABELS[order])
    found = dj.SCORES.find(name).function(Fixed())(dj.Variables({}, {}), inputs, labels)
    np.testing.assert_allclose(found, np.asarray(OF_LOGITS[name])[order], rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("name", sorted({*OF_DYNAMICS} & {*SCORE_NAMES}))
def test_scores_of_dynamics(name):
    """Presented in batches of any order, as in training."""
    score = dj.SCORES.find(name)
    fold = score.fold
    options = {"num_classes": CLASSES} if takes(fold.init, "num_classes") else {}
    state = fold.init(COUNT, **options)
    for logits in LOGITS:
        for rows in np.array_split(RNG.permutation(COUNT), 3):
            state = fold.update(
                state, jnp.asarray(rows), jnp.asarray(logits[rows]), jnp.asarray(LABELS[rows])
            )
    found = score.function()(state, jnp.ones(COUNT, bool))
    np.testing.assert_allclose(found, OF_DYNAMICS[name], rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_scores_of_all_examples_or_checkpoints(name):
    found, expected = FUNCTIONS[name]
    np.testing.assert_allclose(found(), expected(), rtol=2e-5, atol=1e-6)


def test_high_means_hard():
    """Of examples that differ in how they are learned alone, the one that is not has the highest score."""
    learned = np.outer(np.arange(TIMES), [1.0, 0, 0])
    logits = jnp.asarray(np.stack([learned, np.zeros((TIMES, 3)), -learned], axis=1), jnp.float32)
    labels = jnp.zeros(3, jnp.int32)
    model = type("Model", (), {"predict": lambda self, variables, inputs: logits[-1]})()
    for name in ("el2n", "l1_error", "max_margin", "sum_margin", "loss", "confidence"):
        score = dj.SCORES.find(name)
        found = score.function(model)(dj.Variables({}, {}), jnp.zeros((3, 1)), labels)
        assert score.high_means == "hard"
        assert (np.diff(found) > 0).all(), name


def test_one_program_gives_all_of_them():
    """Traced together they are what each is alone."""
    inputs, labels = jnp.asarray(ROWS[:, None], jnp.float32), jnp.asarray(LABELS)
    functions = {name: dj.SCORES.find(name).function(Fixed()) for name in OF_LOGITS}
    found = jax.jit(lambda x, y: {name: fn({}, x, y) for name, fn in functions.items()})(inputs, labels)
    for name, values in found.items():
        np.testing.assert_allclose(values, OF_LOGITS[name], rtol=2e-5, atol=1e-6)
