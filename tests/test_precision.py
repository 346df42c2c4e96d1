"""Every public function under each setting of JAX that changes what numbers are: x64, NaN checks, keys.

A new public name must join `CALLS`, or `NO_NUMBERS` with the reason.
"""

import contextlib
import functools
import types
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import diet_jax as dj

SHAPE = (4, 4, 1)
CLASSES = 3
RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (6, *SHAPE)).astype(np.uint8)
INPUTS = RNG.normal(size=(6, *SHAPE)).astype(np.float32)
LABELS = np.array([0, 1, 2, 0, 1, 2], np.int32)
SCORES = RNG.normal(size=6).astype(np.float32)
DATASET = dj.Dataset.from_arrays(PIXELS, LABELS)
CONFIG = dj.TrainConfig(steps=2, batch_size=3, augment="crop_flip", crop_offsets="example")
CONFIG = dj.TrainConfig(steps=2, batch_size=3, augment="none")
MODEL = dj.create_model("mlp", num_classes=CLASSES, widths=[8])
PARAMS = jax.tree.map(np.asarray, MODEL.init(jax.random.key(0), SHAPE).params)
OTHER = jax.tree.map(np.asarray, MODEL.init(jax.random.key(1), SHAPE).params)


def predict(variables, inputs, kind=None):
    """The network of `MODEL` written out: in the dtype of its arrays, and logits of any."""
    first, last = (variables.params[name] for name in ("Dense_0", "Dense_1"))
    x = inputs.reshape(len(inputs), -1).astype(first["kernel"].dtype)
    x = jax.nn.relu(x @ first["kernel"] + first["bias"][None])
    logits = x @ last["kernel"] + last["bias"][None]
    return logits if kind is None else logits.astype(kind)


def features(variables, inputs, kind=None):
    first = variables.params["Dense_0"]
    x = jax.nn.relu(inputs.reshape(len(inputs), -1) @ first["kernel"] + first["bias"][None])
    return predict(variables, inputs, kind), x, True


PREDICT = {kind: functools.partial(predict, kind=kind) for kind in (None, "bfloat16", "float16")}


@dataclass
class Given:
    """What the calls are given; `used` remembers what they asked for."""

    mode: str
    kind: str = "float32"
    logits: str | None = None
    make_key: object = jax.random.key

    def __post_init__(self):
        self.used = set()

    def key(self, seed=0):
        self.used.add("key")
        return self.make_key(seed)

    @property
    def keys(self):
        return jnp.stack([self.key(0), self.key(1)])

    @property
    def predict(self):
        self.used.add("logits")
        return PREDICT[self.logits]

    @property
    def features(self):
        self.used.add("logits")
        return functools.partial(features, kind=self.logits)

    def array(self, values):
        self.used.add("floats")
        return jnp.asarray(values, self.kind)

    @property
    def inputs(self):
        return self.array(INPUTS)

    @property
    def labels(self):
        return jnp.asarray(LABELS)

    def net(self, params=PARAMS):
        return dj.Variables(jax.tree.map(self.array, params), {})

    @property
    def variables(self):
        return self.net()

    @property
    def other(self):
        return self.net(OTHER)

    @property
    def batch(self):
        return self.predict, self.variables, self.inputs, self.labels

    @property
    def gram(self):
        half = self.array(RNG_MATRIX)
        return half @ half.T


RNG_MATRIX = np.random.default_rng(5).normal(size=(6, 6)).astype(np.float32)

def jitted(fn, *args, **options):
    return jax.jit(functools.partial(fn, **options), static_argnums=0)(*args)


def own_loss(params, x, y):
    return jnp.square(jnp.sum(x * params["w"]) - y)


def conv(fn):
    def call(g):
        x, kernel = g.inputs, g.array(RNG_MATRIX[:, :3].reshape(3, 3, 1, 2))
        options = {"dimension_numbers": ("NHWC", "HWIO", "NHWC")}
        return jax.value_and_grad(lambda k: jnp.sum(jnp.square(fn(x, k, (1, 1), "SAME", **options))))(kernel)
    return call


def adapted(make):
    def call(g):
        model = make()
        variables = model.init(g.key(), SHAPE)
        return model.predict(variables, jnp.asarray(INPUTS)), model.apply(variables, jnp.asarray(INPUTS), train=True, key=g.key(1))[0]
    return call

def nnx_model():
    from flax import nnx
    class Net(nnx.Module):
        def __init__(self, rngs):
            self.dense = nnx.Linear(16, 3, rngs=rngs)
            self.dropout = nnx.Dropout(0.5, rngs=rngs)
        def __call__(self, x):
            return self.dropout(self.dense(x.reshape(len(x), -1)))
    return dj.from_nnx(Net)

def equinox_model():
    import equinox as eqx
    class Net(eqx.Module):
        dense: eqx.nn.Linear
        dropout: eqx.nn.Dropout
        def __init__(self, key):
            self.dense = eqx.nn.Linear(16, 3, key=key, dtype=jnp.float32)
            self.dropout = eqx.nn.Dropout(0.5)
        def __call__(self, x, key=None):
            return self.dropout(self.dense(x.ravel()), key=key)
    return dj.from_equinox(Net)

def linen_model():
    import flax.linen as nn
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x, train: bool):
            x = nn.Dense(8)(x.reshape(len(x), -1))
            x = nn.BatchNorm(use_running_average=not train)(x)
            x = nn.Dropout(0.5, deterministic=not train)(x)
            return nn.Dense(3)(x)
    return dj.from_linen(Net())

def own_init(key, shape):
    return {"w": jax.random.normal(key, (16, 3), jnp.float32)}

def functions_model():
    return dj.from_functions(own_init, lambda params, x: x.reshape(len(x), -1) @ params["w"])


def forgetting(g):
    state = dj.init_forgetting(3)
    for correct in ([True, False, False], [False, False, True]):
        state = dj.update_forgetting(state, jnp.arange(3), jnp.asarray(correct))
    return state

def forgotten(g):
    return dj.forgetting_scores(forgetting(g)), dj.forgetting_scores(jnp.asarray([[True, False], [False, False]])), dj.forgetting_scores(forgetting(g), never_learned=3)

def trained(g, **options):
    return dj.train(g.key(), MODEL, DATASET, config=CONFIG, **options)


CALLS = {
    "barrier_height": lambda g: dj.barrier_height(g.array([0.1, 0.5, 0.3])),
    "best_window": lambda g: dj.best_window(g.array(RNG_MATRIX)),
    "clipping_factors": lambda g: dj.clipping_factors(g.array([0.0, 1.0, 4.0]), 2.0),
    "connectivity_onset": lambda g: dj.connectivity_onset([0, 1, 2], g.array([0.5, 0.01, 0.0])),
    "cpu_convolution": conv(dj.cpu_convolution),
    "create_model": adapted(lambda: MODEL),
    "cross_entropy": lambda g: dj.cross_entropy(g.predict(g.variables, g.inputs), g.labels),
    "detection_quality": lambda g: dj.detection_quality(g.array(SCORES), LABELS == 0),
    "diagnose_el2n": lambda g: jitted(dj.diagnose_el2n, *g.batch),
    "el2n": lambda g: dj.el2n(*g.batch),
    "el2n_agreement": lambda g: dj.el2n_agreement(jitted(dj.diagnose_el2n, *g.batch)),
    "epoch_to_step": lambda g: dj.epoch_to_step(0.5, 33),
    "error_barrier": lambda g: dj.error_barrier(MODEL, g.variables, g.other, DATASET, num_points=3),
    "error_vector": lambda g: dj.error_vector(g.predict(g.variables, g.inputs), g.labels),
    "estimate_kernel_distance": lambda g: dj.estimate_kernel_distance(g.key(), g.predict, g.variables, g.other, g.inputs, num_projections=4),
    "estimate_logit_gram": lambda g: dj.estimate_logit_gram(g.key(), g.predict, g.variables, g.inputs, num_projections=2),
    "example_loss": lambda g: jax.grad(dj.example_loss(g.predict, {}))(g.variables.params, g.inputs[0], g.labels[0]),
    "explain": lambda g: str(dj.explain(dj.example_loss(g.predict, {}), g.variables.params, g.inputs, g.labels)).count("Dense"),
    "flip_labels": lambda g: [dj.flip_labels(g.key(), DATASET, 0.5, mode=mode) [1] for mode in ("permute", "uniform", "different")],
    "forgetting_scores": forgotten,
    "from_equinox": adapted(equinox_model),
    "from_functions": adapted(functions_model),
    "from_linen": adapted(linen_model),
    "from_nnx": adapted(nnx_model),
    "grand": lambda g: jitted(dj.grand, *g.batch),
    "grand_last_layer": lambda g: jitted(dj.grand_last_layer, g.features, g.variables, g.inputs, g.labels),
    "grand_vmap": lambda g: dj.grand_vmap(*g.batch),
    "held_out": lambda g: dj.held_out(g.key(), LABELS, 0.5),
    "init_forgetting": lambda g: dj.init_forgetting(3),
    "input_norm": lambda g: dj.input_norm(g.variables, g.inputs, g.labels),
    "interpolate": lambda g: dj.interpolate(g.variables, g.other, 0.3),
    "keep_highest": lambda g: dj.keep_highest(g.array(SCORES), 0.5, key=g.key()),
    "keep_lowest": lambda g: dj.keep_lowest(g.array(SCORES), 0.5, key=g.key()),
    "keep_random": lambda g: dj.keep_random(g.key(), 6, 0.5),
    "keep_window": lambda g: dj.keep_window(g.array(SCORES), 0.5, offset=0.2, key=g.key()),
    "kept_indices": lambda g: dj.kept_indices(LABELS == 0, 2),
    "kernel_distance": lambda g: dj.kernel_distance(g.gram, 2 * g.gram),
    "kernel_regression": lambda g: dj.kernel_regression(g.gram, g.array(RNG_MATRIX[:2, :3]), g.gram[:3], ridge=0.1),
    "kernel_velocity": lambda g: dj.kernel_velocity(g.gram, g.gram + 1, duration=0.5),
    "label_free_score": lambda g: jitted(dj.label_free_score, g.predict, g.variables, g.inputs, g.other.params),
    "linearize": lambda g: (lambda m, v: m.predict(v, g.inputs))(*dj.linearize(MODEL, g.variables)),
    "load_dataset": lambda g: dj.load_dataset("digits").train.examples(),
    "logit_grad_gram": lambda g: jitted(dj.logit_grad_gram, *g.batch[:3]),
    "logit_grad_norms": lambda g: jitted(dj.logit_grad_norms, *g.batch[:3]),
    "logit_gram": lambda g: (dj.logit_gram(*g.batch[:3]), jitted(dj.logit_gram, *g.batch[:3])),
    "logit_sum_gradient": lambda g: dj.logit_sum_gradient(*g.batch[:3]),
    "matmul_convolution": conv(dj.matmul_convolution),
    "normalize": lambda g: (dj.normalize(g.inputs, g.array([0.5]), g.array([2.0])), dj.normalize(jnp.asarray(PIXELS), jnp.float32([0.5]), jnp.float32([2.0]))),
    "normalized_images": lambda g: dj.normalized_images(DATASET, [0, 1]),
    "normalized_inputs": lambda g: dj.normalized_inputs(DATASET),
    "num_kept": lambda g: dj.num_kept(10, 0.5),
    "over_seeds": lambda g: [dj.over_seeds(lambda key, x: jax.random.normal(key, (2,), jnp.float32) + x, how=how)(g.keys, jnp.float32(1)) for how in ("vmap", "map", "loop")],
    "pairwise_barriers": lambda g: dj.pairwise_barriers(MODEL, [g.variables, g.other], DATASET, num_points=3),
    "path_correct": lambda g: dj.path_correct(MODEL, g.variables, g.other, DATASET, num_points=3),
    "per_example_grad_norms": lambda g: (dj.per_example_grad_norms(own_loss)({"w": g.array(INPUTS[0])}, g.inputs, g.array(SCORES)), dj.per_example_grad_norms(own_loss, per_leaf=True)({"w": g.array(INPUTS[0])}, g.inputs, g.array(SCORES))),
    "reestimate_statistics": lambda g: (lambda m: dj.reestimate_statistics(m, m.init(g.key(), SHAPE), DATASET, num_batches=2, batch_size=3))(linen_model()),
    "replace_labels": lambda g: dj.replace_labels(DATASET, LABELS[::-1])[1],
    "score_dataset": lambda g: dj.score_dataset(functools.partial(dj.el2n, g.predict), g.variables, DATASET, batch_size=4),
    "score_ensemble": lambda g: dj.score_ensemble(g.keys, MODEL, DATASET, config=CONFIG, step=(1, 2), names=tuple(n for n in dj.SCORES.names()), how="map", batch_size=4),
    "score_streamed": lambda g: (_ for _ in ()).throw(NotImplementedError),
    "seed_keys": lambda g: dj.seed_keys(0, "score", 3),
    "spawn": lambda g: dj.spawn(trained(g, num_updates=1)[0], g.key(1)).step,
    "steps_per_epoch": lambda g: dj.steps_per_epoch(6, 3),
    "stream_between": lambda g: (_ for _ in ()).throw(NotImplementedError),
    "take_seed": lambda g: dj.take_seed({"w": g.gram}, 1),
    "tie_mass": lambda g: dj.tie_mass(g.array(SCORES), SCORES > 0),
    "train": lambda g: trained(g)[1],
    "train_ensemble": lambda g: dj.train_ensemble(g.keys, MODEL, DATASET, DATASET, config=CONFIG, how="vmap"),
    "train_from": lambda g: dj.train_from(dj.spawn(trained(g, num_updates=1)[0], g.key(1)), MODEL, DATASET, config=CONFIG)[1],
    "unrolled_convolution": conv(dj.unrolled_convolution),
    "update_forgetting": forgetting,
}
if __name__ == "__main__":
    import sys, time
    jax.config.update("jax_numpy_rank_promotion", "raise")
    jax.config.update("jax_numpy_dtype_promotion", "strict")
    MODES = {
        "plain": (Given("plain"), contextlib.nullcontext),
        "x64": (Given("x64"), lambda: jax.enable_x64(True)),
        "float64": (Given("float64", kind="float64"), lambda: jax.enable_x64(True)),
        "nans": (Given("nans"), lambda: jax.debug_nans(True)),
        "bfloat16": (Given("bf", logits="bfloat16"), contextlib.nullcontext),
        "float16": (Given("f16", logits="float16"), contextlib.nullcontext),
        "legacy": (Given("legacy", make_key=jax.random.PRNGKey), contextlib.nullcontext),
        "rbg": (Given("rbg", make_key=functools.partial(jax.random.key, impl="rbg")), contextlib.nullcontext),
    }
    only = sys.argv[1:]
    plain = {}
    def dt(x):
        return [str(getattr(l, "dtype", type(l).__name__)) for l in jax.tree.leaves(x)]
    total = time.time()
    for mode, (g, ctx) in MODES.items():
        t0 = time.time()
        for name, call in CALLS.items():
            if only and name not in only: continue
            t = time.time()
            g.used.clear()
            try:
                with ctx():
                    r = jax.block_until_ready(call(g))
            except Exception as e:
                msg = str(e).strip().splitlines()
                import traceback
                fr = [f for f in traceback.extract_tb(e.__traceback__) if "diet_jax/" in f.filename]
                where = f"{fr[-1].filename.split('diet_jax/')[-1]}:{fr[-1].lineno}" if fr else ""
                print(f"{mode:9} {name:25} FAIL {type(e).__name__} {msg[0][:150] if msg else ''} @ {where}")
                continue
            took = time.time() - t
            if took > 1: print(f"   {mode} {name} {took:.1f}s")
            if mode == "plain": plain[name] = r; continue
            if name not in plain: continue
            if mode == "legacy" and "key" not in g.used or mode == "rbg" and "key" not in g.used: continue
            if dt(r) != dt(plain[name]):
                print(f"{mode:9} {name:25} dtypes {dt(plain[name])[:8]} -> {dt(r)[:8]}")
            try:
                tol = 1e-6 if mode in ("x64","nans","legacy","float64") else 0.05
                if mode != "rbg":
                    for a, b in zip(jax.tree.leaves(plain[name]), jax.tree.leaves(r), strict=True):
                        if jax.dtypes.issubdtype(getattr(a, "dtype", None) or np.float32, jax.dtypes.prng_key): continue
                        np.testing.assert_allclose(np.asarray(a, np.float64), np.asarray(b, np.float64), rtol=tol*10, atol=tol)
            except Exception as e:
                print(f"{mode:9} {name:25} VALUES {' '.join(str(e).split())[:200]}")
        print(f"== {mode} {time.time()-t0:.1f}s")
    print(f"{time.time()-total:.1f}")
