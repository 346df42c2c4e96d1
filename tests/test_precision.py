"""Every public function under the settings of JAX that change numbers, and with other keys and logits.

A new public name joins `CALLS`, or `NO_NUMBERS` with the reason.
"""

import contextlib
import dataclasses
import functools
import inspect
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from built_in import SCORE_NAMES
from flax import nnx

import diet_jax as dj
from diet_jax.selection.ranks import WINDOW, WindowOptions
from diet_jax.training.loop import start

eqx = pytest.importorskip("equinox")

RNG = np.random.default_rng(0)
SHAPE, CLASSES = (6, 6, 1), 3
STORED = RNG.integers(0, 256, (6, *SHAPE)).astype(np.uint8)
INPUTS = RNG.normal(size=(6, *SHAPE)).astype(np.float32)
LABELS = np.array([0, 1, 2, 0, 1, 2], np.int32)
MATRIX = RNG.normal(size=(6, 6)).astype(np.float32)
KERNEL = RNG.normal(size=(3, 3, 1, 2)).astype(np.float32)
DATASET = dj.Dataset.from_arrays(STORED, LABELS)
MODEL = dj.create_model("mlp", num_classes=CLASSES, widths=[8])
PARAMS, OTHER = (jax.tree.map(np.asarray, MODEL.init(jax.random.key(i), SHAPE).params) for i in (0, 1))
SGD = dj.TrainConfig(steps=2, batch_size=3, augment="crop_flip")
ADAMW = dj.TrainConfig(steps=2, batch_size=3, augment="none", optimizer="adamw", learning_rate=1e-3)


def features(variables, inputs, kind=None):
    """The network of `MODEL` written out: in the dtype of its arrays, with logits of any."""
    first, last = (variables.params[name] for name in ("Dense_0", "Dense_1"))
    x = inputs.reshape(len(inputs), -1).astype(first["kernel"].dtype)
    x = jax.nn.relu(x @ first["kernel"] + first["bias"][None])
    logits = x @ last["kernel"] + last["bias"][None]
    return logits if kind is None else logits.astype(kind), x, True


def predict(variables, inputs, kind=None):
    return features(variables, inputs, kind)[0]


def wide_init(key, shape):
    """In JAX's default dtype, as one writes it: float64 under x64."""
    return jax.random.normal(key, (np.prod(shape), CLASSES)) / 10


def wide_apply(params, inputs):
    return inputs.reshape(len(inputs), -1).astype(params.dtype) @ params


@dataclass(frozen=True)
class Mode:
    """A setting, and what the calls are given in it."""

    setting: Callable[..., Any] = contextlib.nullcontext
    dtype: str = "float32"
    logits: str | None = None
    make_key: Callable[..., Any] = jax.random.key
    needs: str | None = None
    """What a call must ask for to differ at all."""
    same: float | None = 1e-5
    """How far numbers may be from those of JAX as it comes; None for any."""


def x64():
    return jax.enable_x64(True)


PLAIN = Mode()
MODES = {
    "x64": Mode(x64),
    "x64 with float64 arrays": Mode(x64, dtype="float64", needs="array"),
    "x64 with a float64 network of float32 logits": Mode(x64, "float64", "float32", needs="predict"),
    "NaN checks": Mode(lambda: jax.debug_nans(True), same=0),
    "bfloat16 logits": Mode(logits="bfloat16", needs="predict", same=0.1),
    "float16 logits": Mode(logits="float16", needs="predict", same=0.02),
    "keys as words": Mode(make_key=jax.random.PRNGKey, needs="key", same=0),
    "rbg keys": Mode(make_key=functools.partial(jax.random.key, impl="rbg"), needs="key", same=None),
}
# Their draws depend on JAX's default dtype: dropout, `jax.random.rademacher`, `wide_init`.
DRAWN_WIDE = {
    *("estimate_kernel_distance", "estimate_logit_gram", "from_equinox", "from_functions", "from_linen"),
    *("from_nnx",),
}
# With keys of any kind trainings are those of Threefry keys.
TRAININGS = {
    "last_subset",
    "score_ensemble",
    "share_left_out",
    "spawn",
    "train",
    "train_ensemble",
    "train_from",
    "stream_between",
}


@dataclass
class Given:
    """What a call is given in a mode; `used` remembers what it asked for."""

    mode: Mode
    folder: Any = None
    images: Any = None
    used: set[str] = field(default_factory=set)

    def key(self, seed: int = 0) -> Any:
        self.used.add("key")
        return self.mode.make_key(seed)

    def array(self, values: Any) -> Any:
        self.used.add("array")
        return jnp.asarray(values, self.mode.dtype)

    @property
    def keys(self) -> Any:
        return jnp.stack([self.key(0), self.key(1)])

    @property
    def predict(self) -> Any:
        self.used.add("predict")
        return PREDICT[self.mode.logits]

    @property
    def variables(self) -> Any:
        return dj.Variables(jax.tree.map(self.array, PARAMS), {})

    @property
    def other(self) -> Any:
        return dj.Variables(jax.tree.map(self.array, OTHER), {})

    @property
    def inputs(self) -> Any:
        return self.array(INPUTS)

    @property
    def network(self) -> Any:
        return self.predict, self.variables, self.inputs

    @property
    def labelled(self) -> Any:
        return (*self.network, jnp.asarray(LABELS))

    @property
    def logits(self) -> Any:
        return self.predict(self.variables, self.inputs)

    @property
    def gram(self) -> Any:
        return self.array(MATRIX @ MATRIX.T)


# One object for each, so that compiled programs are found again.
PREDICT = {kind: functools.partial(predict, kind=kind) for kind in (None, "float32", "bfloat16", "float16")}
FEATURES = {kind: functools.partial(features, kind=kind) for kind in PREDICT}


def jitted(fn, first, *args):
    """As one calls it; the first argument is a function."""
    return jax.jit(fn, static_argnums=0)(first, *args)


def convolved(fn):
    """A convolution and the gradient of its kernel."""

    @jax.jit
    @functools.partial(jax.value_and_grad, argnums=1)
    def loss(x, kernel):
        return jnp.sum(jnp.square(fn(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))))

    return lambda g: loss(g.inputs, g.array(KERNEL))


class LinenNet(nn.Module):
    @nn.compact
    def __call__(self, x, train: bool):
        x = nn.BatchNorm(use_running_average=not train)(nn.Dense(4)(x.reshape(len(x), -1)))
        return nn.Dense(CLASSES)(nn.Dropout(0.5, deterministic=not train)(x))


class NnxNet(nnx.Module):
    def __init__(self, rngs):
        self.dense, self.dropout = nnx.Linear(36, CLASSES, rngs=rngs), nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x):
        return self.dropout(self.dense(x.reshape(len(x), -1)))


class EquinoxNet(eqx.Module):
    dense: eqx.nn.Linear
    dropout: eqx.nn.Dropout

    def __init__(self, key):
        # Equinox's own default is JAX's, float64 under x64.
        self.dense = eqx.nn.Linear(36, CLASSES, key=key, dtype=jnp.float32)
        self.dropout = eqx.nn.Dropout(0.5)

    def __call__(self, x, key=None):
        return self.dropout(self.dense(x.ravel()), key=key)


def applied(make):
    """A model's logits in both modes; GraNd goes through whatever its library does."""

    @functools.cache
    def program():
        model = make()

        @jax.jit
        def logits(key, other, inputs):
            variables = model.init(key, SHAPE)
            trained = model.apply(variables, inputs, train=True, **random(model, other))[0]
            return model.predict(variables, inputs), trained

        return logits

    def random(model, key):
        return {"key": key} if "key" in inspect.signature(model.apply).parameters else {}

    return lambda g: program()(g.key(0), g.key(1), jnp.asarray(INPUTS))


def forgetting(g):
    state = dj.init_forgetting(3)
    for correct in ([True, False, False], [False, False, True]):
        state = dj.update_forgetting(state, jnp.arange(3), jnp.asarray(correct))
    return state


def forgotten(g):
    once = dj.forgetting_scores(jnp.array([[True, False], [False, False]]))
    return once, dj.forgetting_scores(forgetting(g)), dj.forgetting_scores(forgetting(g), never_learned=3)


def logged(g):
    log = dj.DynamicsLog(3, 4)
    for logits in (MATRIX[:3, :4], MATRIX[1:4, :4], MATRIX[:3, 1:5]):
        log.update([2, 0, 1], g.array(logits), jnp.array([0, 1, 3]))
    return log.scores()


def trained(g, model=MODEL, **options):
    return dj.train(g.key(), model, DATASET, config=SGD, **options)


def scored(g):
    """All registered scores."""
    # Three epochs: before, nothing is known yet for some scores of dynamics, and that is NaN.
    options = {"step": (6, 7), "names": SCORE_NAMES, "how": "map", "batch_size": 4}
    config = dataclasses.replace(SGD, steps=7)
    return dj.score_ensemble(g.keys, MODEL, DATASET, config=config, **options)


def wide_features(variables, inputs):
    x = inputs.reshape(len(inputs), -1).astype(variables.params.dtype)
    return x @ variables.params, x, False


def streamed(g):
    train = dj.load_streamed(f"folder:{g.images}", cache_dir=g.folder / "cache", image_size=6).train
    config = dj.TrainConfig(steps=2, batch_size=15, augment="none")
    program = dj.Program(MODEL, config, num_steps=2)
    state = start(g.key(), train, program=program)
    return next(dj.stream_between(state, train, np.arange(30), [2], program=program))[1]


def linearized(g):
    model, variables = dj.linearize(MODEL, g.variables)
    return model.predict(variables, g.inputs)


def own_loss(params, x, y):
    return jnp.square(jnp.sum(x * params["w"]) - y)


def norms(g, **options):
    batch = g.inputs, g.array(MATRIX[0])
    return dj.per_example_grad_norms(own_loss, **options)({"w": g.array(INPUTS[0])}, *batch)


BATCH_NORM = dj.from_linen(LinenNet())


def pruned(g, dynamic):
    config = dataclasses.replace(SGD, steps=8, batch_size=2, dynamic=dynamic)
    return dj.train(g.key(), MODEL, DATASET, config=config)[0]


ONE_SCORE = [
    WINDOW.with_options(WindowOptions(0.1)) if rule is WINDOW else rule
    for rule in dj.RULES
    if rule.num_scores == 1 and not rule.reads
]

CALLS: dict[str, Callable[[Given], Any]] = {
    "Dataset": lambda g: dj.Dataset.from_arrays(INPUTS.astype(g.mode.dtype), LABELS).examples(),
    "KeepFile": lambda g: dj.KeepFile.from_mask(LABELS == 0, DATASET).keep,
    "RULES": lambda g: [rule(g.array(MATRIX[0]), fraction=0.5, key=g.key()) for rule in ONE_SCORE],
    "ProbabilityFile": lambda g: (
        dj.ProbabilityFile.from_logits(g.array(MATRIX[:, :3]), DATASET, out_of_sample=True).pred_probs
    ),
    "ScoreFile": lambda g: dj.ScoreFile.from_seeds("el2n", g.array(MATRIX), DATASET, step=1).per_seed,
    "barrier_height": lambda g: dj.barrier_height(g.array([0.1, 0.5, 0.3])),
    "best_window": lambda g: dj.best_window(g.array(MATRIX)),
    "DynamicsLog": logged,
    "cld_scores": lambda g: dj.cld_scores(
        g.array(MATRIX[:, :2]), jnp.array([0, 1]), g.array(MATRIX[:, 2:4]), jnp.array([1, 0])
    ),
    "class_center_distance": lambda g: [
        dj.class_center_distance(g.array(MATRIX), LABELS, num_classes=CLASSES, center=center)
        for center in ("mean", "median")
    ],
    "clipping_factors": lambda g: dj.clipping_factors(g.array([0.0, 1.0, 4.0]), 2.0),
    "confidence_score": lambda g: jitted(dj.confidence_score, *g.labelled),
    "connectivity_onset": lambda g: dj.connectivity_onset([0, 1, 2], g.array([0.5, 0.01, 0.0])),
    "cpu_convolution": convolved(dj.cpu_convolution),
    "create_model": applied(lambda: dj.create_model("small_cnn", num_classes=CLASSES, widths=[2])),
    "cross_entropy": lambda g: jax.jit(dj.cross_entropy)(g.logits, LABELS),
    "detection_quality": lambda g: dj.detection_quality(g.array(MATRIX[0]), LABELS == 0),
    "diagnose_el2n": lambda g: jitted(dj.diagnose_el2n, *g.labelled),
    "el2n": lambda g: jitted(dj.el2n, *g.labelled),
    "el2n_agreement": lambda g: dj.el2n_agreement(jitted(dj.diagnose_el2n, *g.labelled)),
    "entropy_score": lambda g: jitted(dj.entropy_score, *g.network),
    "epoch_to_step": lambda g: dj.epoch_to_step(0.5, 33),
    "error_barrier": lambda g: dj.error_barrier(MODEL, g.variables, g.other, DATASET, num_points=3),
    "error_norm": lambda g: dj.error_norm(g.array(MATRIX)),
    "error_vector": lambda g: jax.jit(dj.error_vector)(g.logits, LABELS),
    "estimate_kernel_distance": lambda g: jax.jit(
        dj.estimate_kernel_distance, static_argnums=1, static_argnames="num_projections"
    )(g.key(), *g.network[:2], g.other, g.inputs, num_projections=4),
    "estimate_logit_gram": lambda g: dj.estimate_logit_gram(g.key(), *g.network, num_projections=2),
    "example_loss": lambda g: jax.jit(jax.grad(dj.example_loss(g.predict, {})))(
        g.variables.params, g.inputs[0], jnp.int32(0)
    ),
    "explain": lambda g: dj.explain(dj.example_loss(g.predict, {}), g.variables.params, *g.labelled[2:]),
    "flip_labels": lambda g: [
        dj.flip_labels(g.key(), DATASET, 0.5, mode=mode).dataset.labels
        for mode in ("permute", "uniform", "different")
    ],
    "forgetting_scores": forgotten,
    "from_equinox": applied(lambda: dj.from_equinox(EquinoxNet)),
    "from_functions": applied(lambda: dj.from_functions(wide_init, wide_apply)),
    "from_linen": applied(lambda: BATCH_NORM),
    "from_nnx": applied(lambda: dj.from_nnx(NnxNet)),
    "grand": lambda g: jitted(dj.grand, *g.labelled),
    "grand_last_layer": lambda g: jitted(
        dj.grand_last_layer, g.predict and FEATURES[g.mode.logits], *g.labelled[1:]
    ),
    "grand_vmap": lambda g: jitted(dj.grand_vmap, *g.labelled),
    "held_out": lambda g: dj.held_out(g.key(), LABELS, 0.5),
    "init_forgetting": lambda g: dj.init_forgetting(3),
    "input_norm": lambda g: dj.input_norm(g.variables, *g.labelled[2:]),
    "interpolate": lambda g: jax.jit(dj.interpolate)(g.variables, g.other, 0.3),
    "keep_beta": lambda g: dj.keep_beta(np.abs(MATRIX[0]), g.array(LABELS / 9), 0.5, key=g.key()),
    "keep_covering": lambda g: dj.keep_covering(g.array(MATRIX[0]), 0.5, cutoff=0.2, key=g.key()),
    "keep_highest": lambda g: dj.keep_highest(g.array(MATRIX[0]), 0.5, key=g.key()),
    "keep_lowest": lambda g: dj.keep_lowest(g.array(MATRIX[0]), 0.5),
    "keep_moderate": lambda g: dj.keep_moderate(g.array(MATRIX[0]), 0.5, nearest_by="value"),
    "keep_random": lambda g: dj.keep_random(g.key(), 6, 0.5),
    "keep_window": lambda g: dj.keep_window(g.array(LABELS), 0.5, offset=0.2, key=g.key()),
    "kept_indices": lambda g: dj.kept_indices(LABELS == 0, 2),
    "kernel_distance": lambda g: dj.kernel_distance(g.gram, 2 * g.gram + 1),
    "kernel_regression": lambda g: dj.kernel_regression(
        g.gram, g.array(MATRIX[:2, :3]), g.gram[:3], ridge=0.1
    ),
    "kernel_velocity": lambda g: dj.kernel_velocity(g.gram, g.gram + 1, duration=0.5),
    "l1_error": lambda g: jitted(dj.l1_error, *g.labelled),
    "label_free_score": lambda g: jitted(dj.label_free_score, *g.network, g.other.params),
    "last_subset": lambda g: dj.last_subset(pruned(g, "hardest"), DATASET).keep,
    "label_logit_gradients": lambda g: jitted(dj.label_logit_gradients, *g.labelled),
    "linearize": linearized,
    "load_dataset": lambda g: dj.load_dataset("digits").test.examples(),
    "logit_grad_gram": lambda g: jitted(dj.logit_grad_gram, *g.network),
    "logit_grad_norms": lambda g: jitted(dj.logit_grad_norms, *g.network),
    "logit_gram": lambda g: (dj.logit_gram(*g.network), jitted(dj.logit_gram, *g.network)),
    "logit_sum_gradient": lambda g: jitted(dj.logit_sum_gradient, *g.network),
    "loss_score": lambda g: jitted(dj.loss_score, *g.labelled),
    "matmul_convolution": convolved(dj.matmul_convolution),
    "max_margin": lambda g: jitted(dj.max_margin, *g.labelled),
    "normalize": lambda g: (
        dj.normalize(g.inputs, g.array([0.5]), g.array([2.0])),
        dj.normalize(jnp.asarray(STORED), jnp.array([0.5]), jnp.array([2.0])),
    ),
    "normalized_images": lambda g: dj.normalized_images(DATASET, [0, 1]),
    "normalized_inputs": lambda g: dj.normalized_inputs(DATASET),
    "num_kept": lambda g: dj.num_kept(10, 0.5),
    "over_seeds": lambda g: [
        dj.over_seeds(
            lambda seed: seed["w"] + jax.random.bits(seed["key"], (), "uint32").astype("float32"), how=how
        )({"key": g.keys, "w": jnp.float32([1, 2])})
        for how in ("vmap", "map", "loop")
    ],
    "pairwise_barriers": lambda g: dj.pairwise_barriers(MODEL, [g.variables, g.other], DATASET, num_points=3),
    "path_correct": lambda g: dj.path_correct(MODEL, g.variables, g.other, DATASET, num_points=3),
    "per_example_grad_norms": lambda g: (norms(g), norms(g, per_leaf=True)),
    "prototype_distance": lambda g: dj.prototype_distance(g.key(), g.array(MATRIX), num_prototypes=2),
    "reducible_loss": lambda g: dj.reducible_loss(g.array(MATRIX[0]), g.array(MATRIX[1])),
    "reestimate_statistics": lambda g: dj.reestimate_statistics(
        BATCH_NORM, BATCH_NORM.init(g.key(), SHAPE), DATASET, num_batches=2, batch_size=3
    ),
    "replace_labels": lambda g: dj.replace_labels(DATASET, jnp.asarray(LABELS[::-1])).changed,
    "score_dataset": lambda g: dj.score_dataset(
        functools.partial(dj.el2n, g.predict), g.variables, DATASET, batch_size=4
    ),
    "score_ensemble": scored,
    "score_streamed": lambda g: dj.score_streamed(
        MODEL,
        g.variables,
        DATASET,
        names=("el2n", "predicted", "loss"),
        folder=g.folder / "shards",
        replace=True,
    ),
    "seed_keys": lambda g: jax.random.key_data(dj.seed_keys(0, "score", 3)),
    "share_left_out": lambda g: dj.share_left_out(pruned(g, "infobatch")),
    "stability": lambda g: [row.correlation.mean for row in dj.stability(g.array(MATRIX))],
    "expected_overlap": lambda g: dj.expected_overlap(0.8, 0.5, seeds=5, now=10, more=10),
    "smallest_fraction": lambda g: dj.smallest_fraction(
        g.array([0.1, 0.5]), g.array(MATRIX[:2, :3]), g.array(MATRIX[2, :3]), max_loss=0.1
    ),
    "spawn": lambda g: dj.spawn(trained(g, num_updates=1)[0], g.key(1)).variables,
    "steps_per_epoch": lambda g: dj.steps_per_epoch(6, 3),
    "stream_between": streamed,
    "sum_margin": lambda g: jitted(dj.sum_margin, *g.labelled),
    "take_seed": lambda g: dj.take_seed({"w": g.gram}, 1),
    "tie_mass": lambda g: dj.tie_mass(g.array(MATRIX[0]), MATRIX[0] > 0),
    "tracin_self_scores": lambda g: dj.tracin_self_scores(g.array(MATRIX), g.array(np.abs(MATRIX[0]))),
    "train": lambda g: trained(g)[1],
    "train_ensemble": lambda g: dj.train_ensemble(g.keys, MODEL, DATASET, DATASET, config=ADAMW, how="vmap"),
    "train_from": lambda g: dj.train_from(
        dj.spawn(trained(g, num_updates=1)[0], g.key(1)), MODEL, DATASET, config=SGD
    )[1],
    "unrolled_convolution": convolved(dj.unrolled_convolution),
    "update_forgetting": forgetting,
    "vog_scores": lambda g: dj.vog_scores(g.array([MATRIX, MATRIX**2]), LABELS, num_classes=CLASSES),
}

_OPTIONS, _RECORD, _SHELL = (
    "options",
    "holds arrays of others",
    "reads files or draws, computes by the others",
)
NO_NUMBERS = {
    **dict.fromkeys(
        ("DataConfig", "ModelConfig", "RetrainConfig", "RunConfig", "ScoreConfig", "SelectConfig"), _OPTIONS
    ),
    **dict.fromkeys(
        ("AdamWOptions", "HardestOptions", "InfoBatchOptions", "TrainConfig"),
        _OPTIONS + "; train and train_ensemble use them",
    ),
    **dict.fromkeys(("EnsembleScores", "EnsembleTraining", "Examples", "ForgettingState"), _RECORD),
    **dict.fromkeys(
        ("NoisyLabels", "Normalization", "RunResult", "Splits", "TrainState", "Variables"), _RECORD
    ),
    "import_scores": "reads a file; tests/scores/test_formats.py",
    **dict.fromkeys(("Fold", "Model", "Program", "Rule", "Score", "Source"), "says how, computes nothing"),
    **dict.fromkeys(("SCORES", "SOURCES"), "a list; score_ensemble computes all scores"),
    **dict.fromkeys(("StreamedDataset", "draw_examples", "load_streamed", "prepare_dataset"), _SHELL),
    "write_report": _SHELL,
    **dict.fromkeys(("TrainedNetwork", "load_checkpoint", "read_labels", "run"), _SHELL),
    **dict.fromkeys(("connectivity", "noise", "ntk"), "a module of functions that stand here by themselves"),
    "InputError": "an exception",
    "make_mesh": "devices",
}


def test_every_public_name_is_here_once():
    assert sorted((*CALLS, *NO_NUMBERS)) == sorted(dj.__all__)
    for module in (dj.connectivity, dj.ntk, dj.noise):
        made_there = [fn for fn in vars(module).values() if inspect.isfunction(fn) and fn.__name__[0] != "_"]
        own = [fn.__name__ for fn in made_there if fn.__module__.startswith(module.__name__)]
        assert own
        assert set(own) <= set(CALLS)


# What has found the most; the others take several times as long.
FIRST = ("x64",)


@pytest.mark.parametrize("modes", ["first", pytest.param("others", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", sorted(CALLS))
def test_a_public_name_in_every_mode(name, modes, tmp_path, image_folder):
    given = Given(PLAIN, tmp_path, image_folder)
    plain = jax.block_until_ready(CALLS[name](given))
    document = getattr(dj, name).__doc__ or ""
    for dtype in dtypes(plain):
        assert dtype in ("float32", "int32", "bool", "uint8", "uint32") or str(dtype) in document
    for told, mode in MODES.items():
        if (told in FIRST) != (modes == "first") or (mode.needs and mode.needs not in given.used):
            continue
        with mode.setting():
            found = jax.block_until_ready(CALLS[name](Given(mode, tmp_path, image_folder)))
        assert jax.tree.structure(found) == jax.tree.structure(plain), told
        for before, after in zip(dtypes(plain), dtypes(found), strict=True):
            widened = mode.dtype == "float64" and (before, after) == ("float32", "float64")
            assert before == after or (widened and re.search("float64|dtype", document)), (
                told,
                before,
                after,
            )
        if told == "rbg keys" and name in TRAININGS:
            mode = MODES["keys as words"]
        if mode.same is not None and not (mode.setting is x64 and name in DRAWN_WIDE):
            for before, after in zip(numbers(plain), numbers(found), strict=True):
                np.testing.assert_allclose(after, before, rtol=mode.same, atol=mode.same, err_msg=told)


EAGER = [name for name, call in CALLS.items() if "jitted" in call.__code__.co_names]


@pytest.mark.slow
@pytest.mark.parametrize("name", EAGER)
@pytest.mark.parametrize("scale", [(1, 1), (1e3, 1), (0, 1), (1, 0), (1, 1e-20)])
def test_no_nan_is_made_on_the_way_to_a_result(name, scale, monkeypatch):
    """Uncompiled, where every step is checked: usual, perfectly fitted, and without weights or inputs."""
    monkeypatch.setitem(globals(), "jitted", lambda fn, *args: fn(*args))
    monkeypatch.setitem(globals(), "PARAMS", jax.tree.map(lambda a: a * np.float32(scale[0]), PARAMS))
    monkeypatch.setitem(globals(), "INPUTS", INPUTS * np.float32(scale[1]))
    with warnings.catch_warnings(), jax.debug_nans(True):
        warnings.filterwarnings("ignore", "An input array is constant")
        jax.block_until_ready(CALLS[name](Given(PLAIN)))


@pytest.mark.slow
def test_scores_of_a_float64_network_are_float32():
    """As written under x64, where JAX's default dtype is float64."""
    model = dj.from_functions(wide_init, wide_apply, features=wide_features)
    with x64():
        keys = dj.seed_keys(0, "score", 2)
        options = {"config": SGD, "step": 1, "names": SCORE_NAMES, "how": "vmap", "batch_size": 6}
        found = dj.score_ensemble(keys, model, DATASET, **options)
    assert found.variables.params.dtype == "float64"
    assert {values.dtype for values in found.scores.values()} == {np.dtype("float32")}


def leaves(result):
    return [leaf for leaf in jax.tree.leaves(result) if hasattr(leaf, "dtype")]


def dtypes(result):
    return [str(leaf.dtype) for leaf in leaves(result)]


def numbers(result):
    """All numbers in it, also Python's, in float64."""
    found = [
        leaf for leaf in jax.tree.leaves(result) if isinstance(leaf, int | float) or hasattr(leaf, "dtype")
    ]
    return [np.asarray(leaf, np.float64) for leaf in found]


def test_the_settings_are_on():
    """Were they not, nothing would be tested."""
    with MODES["x64"].setting():
        assert jnp.zeros(1).dtype == "float64"
    with MODES["NaN checks"].setting(), pytest.raises(FloatingPointError):
        jnp.log(jnp.float32(-1))
    with pytest.raises(Exception, match="no available implicit dtype promotion"):
        jnp.float32(1) + jnp.zeros(1, jnp.int32)


def test_seeds_mean_the_same_whatever_keys_jax_makes():
    """`jax_default_prng_impl` is set on TPUs for speed."""
    with jax.default_prng_impl("rbg"):
        found = dj.seed_keys(0, "score", 3), dj.keep_lowest(np.zeros(9), 0.5)
    np.testing.assert_array_equal(
        jax.random.key_data(found[0]), jax.random.key_data(dj.seed_keys(0, "score", 3))
    )
    np.testing.assert_array_equal(found[1], dj.keep_lowest(np.zeros(9), 0.5))
