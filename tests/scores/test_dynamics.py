"""Scores of training dynamics: each against a loop in NumPy over whole paths, by the published formula."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

import diet_jax as dj
from diet_jax.scores.score import SCORES, takes

TIMES, COUNT, CLASSES = 13, 24, 4
RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, CLASSES, COUNT).astype(np.int32)
# Presentation t of every row, which drifts towards its label, some never.
DRIFT = np.linspace(0, 2.5, TIMES)[:, None] * RNG.uniform(-0.3, 1.5, COUNT)
LOGITS = RNG.normal(size=(TIMES, COUNT, CLASSES))
LOGITS[:, np.arange(COUNT), LABELS] += DRIFT
LOGITS[:, 3, LABELS[3]] -= 9  # Never learned.
LOGITS[:, 5, LABELS[5]] += 99  # Certain throughout.
LOGITS = LOGITS.astype(np.float32)
# How often each row is presented, in batches of four.
PRESENTED = np.repeat([0, 1, 2, 3, TIMES - 1, TIMES], 4)[RNG.permutation(COUNT)]


def softmax(z):
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


class Path:
    """All that one row went through, float64."""

    def __init__(self, logits, label):
        self.z, self.y = logits.astype(np.float64), label
        self.p, self.t = softmax(self.z), len(logits)
        self.own = self.p[:, label]
        self.right = self.z.argmax(axis=1) == label
        self.loss = np.log(np.exp(self.z - self.z[:, [label]]).sum(axis=1))
        self.el2n = np.linalg.norm(self.p - np.eye(CLASSES)[label], axis=1)

    def margin(self, values):
        return values[:, self.y] - np.delete(values, self.y, axis=1).max(axis=1)

    def forgotten(self, never):
        return int(np.sum(self.right[:-1] & ~self.right[1:])) if self.right.any() else never(self)

    def windows(self, size):
        return [self.own[k : k + size] for k in range(max(1, self.t - size + 1))]

    def tdds(self, size, decay):
        logs = np.log(self.p + 1e-8)
        moves = np.sum(np.abs(self.p[1:] * (logs[1:] - logs[:-1])), axis=1)
        size = min(size, self.t)
        windows = [moves[k : k + size - 1] for k in range(self.t - size + 1)]
        norms = [np.sqrt(np.sum((w - w.mean()) ** 2)) for w in windows]
        weights = [decay * (1 - decay) ** (len(norms) - 1 - k) for k in range(len(norms))]
        return float(np.dot(norms, weights))


def mean_deviation(path, size, weight=lambda window: 1.0):
    return np.mean([w.std(ddof=1) * weight(w) for w in path.windows(size)])


def first(path):
    return 1 + (int(path.right.argmax()) if path.right.any() else path.t)


def last_wrong(path):
    return 0 if path.right.all() else 1 + int(np.flatnonzero(~path.right)[-1])


# Score, its options, how many presentations it needs, and the published formula.
CASES = [
    ("aum", {}, 1, lambda p: -p.margin(p.z).mean()),
    ("aum_softmax", {}, 1, lambda p: -p.margin(p.p).mean()),
    ("mean_confidence", {}, 1, lambda p: -p.own.mean()),
    ("variability", {}, 1, lambda p: p.own.std()),
    ("correctness", {}, 1, lambda p: -p.right.mean()),
    ("mean_loss", {}, 1, lambda p: p.loss.mean()),
    ("first_learned", {}, 1, first),
    ("last_wrong", {}, 1, last_wrong),
    ("el2n_sum", {}, 1, lambda p: p.el2n[:10].sum()),
    ("el2n_sum", {"first": 3, "stop": 5}, 4, lambda p: p.el2n[3:5].sum()),
    ("dyn_unc", {}, 2, lambda p: mean_deviation(p, 10)),
    ("dyn_unc", {"window": 3}, 2, lambda p: mean_deviation(p, 3)),
    ("dual", {"window": 4}, 2, lambda p: mean_deviation(p, 4, lambda w: 1 - w.mean())),
    ("tdds", {}, 3, lambda p: p.tdds(10, 0.9)),
    ("tdds", {"window": 5, "decay": 0.6}, 3, lambda p: p.tdds(5, 0.6)),
    ("forgetting", {}, 0, lambda p: p.forgotten(lambda p: np.inf)),
    ("forgetting", {"never_learned": "zero"}, 0, lambda p: p.forgotten(lambda p: 0)),
    ("forgetting", {"never_learned": 7.0}, 0, lambda p: p.forgotten(lambda p: 7)),
    ("forgetting", {"never_learned": "epochs"}, 1, lambda p: p.forgotten(lambda p: p.t)),
    ("forgetting_clean", {}, 1, lambda p: p.forgotten(lambda p: np.inf)),
    ("forgetting_clean", {"never_learned": "epochs"}, 1, lambda p: p.forgotten(lambda p: p.t)),
    ("forgetting_clean", {"never_learned": "zero"}, 1, lambda p: p.forgotten(lambda p: 0)),
]
CLEAN_TOO = ("aum", "mean_confidence", "variability", "mean_loss", "dyn_unc", "dual")
CASES += [(f"{name}_clean", *rest) for name, *rest in CASES if name in CLEAN_TOO]


def score_of(name, options):
    score = SCORES.find(name)
    return score.with_options(dataclasses.replace(score.options, **options)) if options else score


def test_every_score_of_dynamics_is_compared():
    # Those of gradients at the ends of epochs: tests/scores/test_checkpoint_gradients.py.
    others = {"tracin_self", "vog"}
    dynamics = {score.name for score in SCORES if score.reads == "dynamics"}
    assert {name for name, *_ in CASES} | others == dynamics


# A network whose inputs are its logits.
IDENTITY = dj.from_functions(lambda key, shape: {}, lambda params, inputs: inputs)


@functools.cache
def measured(measure, t):
    """What a clean pass at the end of an epoch returns."""
    return compiled(measure)(dj.Variables({}, {}), LOGITS[t], LABELS)


@functools.cache
def compiled(measure):
    return jax.jit(measure(IDENTITY))


@pytest.mark.parametrize(("name", "options", "needed", "formula"), CASES)
def test_the_fold_gives_what_the_formula_gives_of_whole_paths(name, options, needed, formula):
    score = score_of(name, options)
    fold, rng = score.fold, np.random.default_rng(1)
    classes = {"num_classes": CLASSES} if takes(fold.init, "num_classes") else {}
    state, update = fold.init(COUNT, **classes), jax.jit(fold.update)
    for t in range(TIMES):
        if fold.measure is None:
            for rows in rng.permutation(np.flatnonzero(t < PRESENTED)).reshape(-1, 4):
                state = update(state, rows, LOGITS[t, rows], LABELS[rows])
        else:
            state = update(state, np.arange(COUNT), measured(fold.measure, t), LABELS)
    keep = np.arange(COUNT) % 7 != 6
    found = np.asarray(jax.jit(score.function())(state, keep))
    presented = np.full(COUNT, TIMES) if fold.measure is not None else PRESENTED
    for row in range(COUNT):
        if not keep[row] or presented[row] < needed:
            assert np.isnan(found[row])
        else:
            path = Path(LOGITS[: presented[row], row], LABELS[row])
            expected = formula(path) if presented[row] else found[row]
            np.testing.assert_allclose(found[row], expected, rtol=2e-5, atol=2e-6)
