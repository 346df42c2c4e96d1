"""Runs every computation on meshes of 8 devices and on one; prints one JSON line for each comparison.

Started by test_mesh.py in a process of its own, for the number of devices is fixed when JAX starts.
"""

import contextlib
import functools
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
import conftest
import jax
import jax.numpy as jnp
import numpy as np
import optax

import diet_jax as dj
from diet_jax.analysis.connectivity.barriers import path_correct
from diet_jax.devices.mesh import fetch, replicate
from diet_jax.ensemble.over_seeds import resolve_how
from diet_jax.ensemble.retraining import predict_dataset
from diet_jax.training.loop import one_step, put_examples, start, train_between
from diet_jax.training.passes import mapped_batches

MODEL = dj.from_linen(conftest.ConvNet())
TRAIN = conftest.tiny_dataset(50, 0, "train")
TEST = conftest.tiny_dataset(23, 1, "test", TRAIN.normalization)
CONFIG = dj.TrainConfig(steps=9, batch_size=8, steps_per_call=3)
KEEP = np.arange(50) % 5 != 0
NAMES = ("el2n", "grand", "forgetting")
BEGIN = time.monotonic()


@contextlib.contextmanager
def compilations() -> Iterator[list[str]]:
    """Collects the names of the programs that are compiled inside."""
    names: list[str] = []

    def note(event: str, duration: float, **facts: Any) -> None:
        if "backend_compile" in event:
            names.append(facts.get("fun_name", "unnamed"))

    jax.monitoring.register_event_duration_secs_listener(note)
    try:
        yield names
    finally:
        jax.monitoring.unregister_event_duration_listener(note)


def emit(check: str, **numbers: Any) -> None:
    print(json.dumps({"check": check, "after_s": round(time.monotonic() - BEGIN, 1), **numbers}), flush=True)


def difference(result: Any, expected: Any) -> float:
    """Largest difference of any two leaves, relative to the largest number of the leaf, or to 0.01.

    The bias before a BatchNorm has no gradient but rounding: it is all noise.
    """

    def of_leaf(a: Any, b: Any) -> float:
        a, b = (np.asarray(x, np.float64) for x in fetch((a, b)))
        assert a.shape == b.shape, (a.shape, b.shape)
        np.testing.assert_array_equal(a[~np.isfinite(b)], b[~np.isfinite(b)])
        a, b = a[np.isfinite(b)], b[np.isfinite(b)]
        return float(np.abs(a - b).max(initial=0) / np.abs(b).max(initial=0.01))

    return max(jax.tree.leaves(jax.tree.map(of_leaf, result, expected)))


def score(how: Any, num_seeds: int) -> Any:
    keys = dj.seed_keys(0, "score", num_seeds)
    return dj.score_ensemble(
        keys, MODEL, TRAIN, config=CONFIG, step=(0, 7), names=NAMES, keep=KEEP, how=how, batch_size=16
    )


def retrain(how: Any) -> Any:
    masks = np.stack([dj.keep_random(jax.random.key(seed), 50, 0.6) for seed in range(3)])
    keys = dj.seed_keys(0, "retrain", 3)
    return dj.train_ensemble(keys, MODEL, TRAIN, TEST, config=CONFIG, keep=masks, how=how)


def example_loss(params: Any, model_state: Any, image: Any, label: Any) -> Any:
    logits = MODEL.predict(dj.Variables(params, model_state), image[None])
    return dj.cross_entropy(logits, label[None])[0]


def gradient_norms(variables: Any, images: Any, labels: Any) -> Any:
    norms = dj.per_example_grad_norms(lambda params, *example: example_loss(params, variables[1], *example))
    return norms(variables.params, images, labels)


GRAND = functools.partial(dj.grand, MODEL.predict)
GRAND_VMAP = functools.partial(dj.grand_vmap, MODEL.predict)


def trainings(batch_size: int) -> dict[str, Any]:
    """One network at steps 5 and 9 of its training."""
    config = dj.TrainConfig(steps=9, batch_size=batch_size, steps_per_call=3)
    state, history = dj.train(jax.random.key(0), MODEL, TRAIN, keep=KEEP, config=config, num_updates=5)
    final, later = dj.train_from(state, MODEL, TRAIN, keep=KEEP, config=config)
    return {"train": (state._replace(key=0), history), "train_from": (final._replace(key=0), later)}


def own_optimizer(rate: Any) -> optax.GradientTransformation:
    """Its state has numbers, masked nodes and a dict; with a large eps AdamW makes no steps of noise."""
    decay = optax.masked(
        optax.add_decayed_weights(0.1), lambda p: jax.tree.map(lambda leaf: leaf.ndim > 1, p)
    )
    adam = optax.inject_hyperparams(optax.adam)(rate, eps=0.1)
    return optax.chain(decay, adam, optax.contrib.reduce_on_plateau(patience=1))


def train_with_own_optimizer() -> Any:
    config = dj.TrainConfig(steps=9, batch_size=8, steps_per_call=3, optimizer=own_optimizer)
    state, history = dj.train(jax.random.key(0), MODEL, TRAIN, keep=KEEP, config=config)
    return state.variables, state.opt_state, history


def scores_of(variables: Any) -> dict[str, Any]:
    """Every way to the scores of one network, with batches that devices divide or not."""
    return {
        "score_dataset": dj.score_dataset(GRAND, variables, TRAIN, batch_size=16),
        "score_dataset, ragged batches": dj.score_dataset(GRAND, variables, TRAIN, batch_size=21),
        "score_dataset, vmap of gradients": dj.score_dataset(GRAND_VMAP, variables, TRAIN, batch_size=16),
        "per_example_grad_norms": dj.score_dataset(gradient_norms, variables, TRAIN, batch_size=16),
        "predict_dataset": predict_dataset(MODEL, variables, TEST),
    }


def kernels_and_barriers(variables: Any, other: Any) -> dict[str, Any]:
    """What compares examples or networks."""
    images, key = jnp.asarray(TRAIN.images[:7], jnp.float32) / 100, jax.random.key(3)
    eight = jnp.concatenate([images, images[:1]])
    options: Any = {"num_points": 3, "batch_statistics": "reestimated"}
    return {
        "logit_gram": dj.logit_gram(MODEL.predict, variables, images),
        "logit_gram of two sets": dj.logit_gram(MODEL.predict, variables, images, images[:3]),
        "estimate_logit_gram": dj.estimate_logit_gram(
            key, MODEL.predict, variables, eight, num_projections=3
        ),
        "path_correct": path_correct(MODEL, variables, other, TRAIN, **options),
        "error_barrier": dj.error_barrier(MODEL, variables, other, TRAIN, num_points=3),
    }


def check_ensembles(*shapes: str) -> None:
    """Six seeds: uneven on 8 devices, even on 2. Three on 4 devices are the first three of the six."""
    meshes = {
        "8x1": (dj.make_mesh(8), 6),
        "4x2": (dj.make_mesh(4, 2), 3),
        "2x4 fsdp": (dj.make_mesh(2, 4, shard_params=True), 6),
    }
    expected, trained = score("map", 6), retrain("map") if "4x2" in shapes else None
    for name, (mesh, num_seeds) in ((shape, meshes[shape]) for shape in shapes):
        with jax.set_mesh(mesh):
            result = score("mesh", num_seeds)
            for part in NAMES:
                these = difference(result.scores[part], expected.scores[part][:, :num_seeds])
                emit(f"score {part}, {name}", difference=these)
            for part in ("history", "variables"):
                first = jax.tree.map(lambda leaf: fetch(leaf)[:num_seeds], getattr(expected, part))  # noqa: B023
                emit(f"score {part}, {name}", difference=difference(getattr(result, part), first))
            leaf = jax.tree.leaves(result.variables)[0]
            emit(f"seeds on one device, {name}", count=leaf.addressable_shards[0].data.shape[0])
            if name == "4x2":
                emit(f"train_ensemble, {name}", difference=difference(retrain("mesh"), trained))
                emit(f"auto, {name}", how=resolve_how("auto", MODEL, TRAIN))
                check_over_seeds(name)


def losses(key: Any, offset: Any) -> Any:
    return dj.train(key, MODEL, TRAIN, config=CONFIG)[1].loss + offset


def check_over_seeds(name: str) -> None:
    """A function that closes over a dataset; called inside `jit` and outside."""
    keys, offset = dj.seed_keys(0, "score", 3), jnp.float32(2)
    expected = jax.jit(dj.over_seeds(losses, how="map"))(keys, offset)
    inside = jax.jit(dj.over_seeds(losses, how="mesh"))(keys, offset)
    emit(f"over_seeds inside jit, {name}", difference=difference(inside, expected))
    outside = dj.over_seeds(losses)(keys, offset)
    emit(f"over_seeds outside jit, {name}", difference=difference(outside, expected))


def check_one_network() -> None:
    def compare(mesh: str, results: dict[str, Any], expected: dict[str, Any]) -> None:
        for check, result in results.items():
            emit(f"{check}, {mesh}", difference=difference(result, expected[check]))

    expected, owned = trainings(8), train_with_own_optimizer()
    later, earlier = (fetch(expected[name][0].variables) for name in ("train_from", "train"))
    expected |= scores_of(later) | kernels_and_barriers(later, earlier)
    with jax.set_mesh(dj.make_mesh(1, 8)):
        compare("1x8", trainings(8) | scores_of(later) | kernels_and_barriers(later, earlier), expected)
    with jax.set_mesh(dj.make_mesh(1, 4, shard_params=True)):
        trained = trainings(8)
        there = train_with_own_optimizer()
        emit("own optimizer, 1x4 fsdp", difference=difference(there, owned))
        parts = (first_shard_bytes(there[1]), sum(leaf.nbytes for leaf in jax.tree.leaves(there[1])))
        emit("own optimizer, bytes", share=parts[0] / parts[1])
        # Scored where its training left it, in parts.
        scores = scores_of(trained["train_from"][0].variables)
        compare("1x4 fsdp", trained | scores, expected)
        state, keys = trained["train"][0]._replace(key=jax.random.key(0)), dj.seed_keys(0, "score", 3)
    # What one mesh made, under another one.
    with jax.set_mesh(dj.make_mesh(4, 2)):
        options: Any = {"config": CONFIG, "step": 3, "names": ("el2n",)}
        there = dj.score_ensemble(keys, MODEL, TRAIN, **options).scores["el2n"]
    here = dj.score_ensemble(dj.seed_keys(0, "score", 3), MODEL, TRAIN, **options).scores["el2n"]
    emit("keys of another mesh", difference=difference(there, here))
    with jax.set_mesh(dj.make_mesh(1, 8)):
        child = dj.spawn(state, jax.random.key(0))
        gone_on, _ = dj.train_from(child, MODEL, TRAIN, keep=KEEP, config=CONFIG)
        emit("a state of another mesh", difference=difference(gone_on.variables, later))
    uneven = trainings(10)
    with jax.set_mesh(dj.make_mesh(1, 8)):
        compare("1x8, a batch of 10", trainings(10), uneven)


def first_shard_bytes(tree: Any) -> int:
    return sum(leaf.addressable_shards[0].data.nbytes for leaf in jax.tree.leaves(tree))


def check_devices() -> None:
    """What lies and happens where: sizes of parts, work on one device, buffers that are used again."""
    config = dj.TrainConfig(steps=9, batch_size=8, steps_per_call=1)
    program = dj.Program(MODEL, config, 9)
    kept, rows = np.arange(50, dtype=np.int32), np.arange(8, dtype=np.int32)
    flops = {}
    for name, mesh in (
        ("one device", jax.sharding.Mesh(np.asarray(jax.devices()[:1]).reshape(1, 1), ("seed", "data"))),
        ("1x8", dj.make_mesh(1, 8)),
        ("1x4 fsdp", dj.make_mesh(1, 4, shard_params=True)),
    ):
        with jax.set_mesh(mesh), compilations() as compiled:
            state = start(jax.random.key(0), TRAIN, program=program)
            stops = train_between(state, put_examples(TRAIN), kept, [2, 9], program=program)
            middle, _ = next(stops)
            emit(
                f"bytes on one device, {name}",
                params=first_shard_bytes(middle.variables.params),
                opt_state=first_shard_bytes(middle.opt_state),
                in_all=sum(leaf.nbytes for leaf in jax.tree.leaves(middle.variables.params)),
            )
            final, _ = next(stops)
            leaves = jax.tree.leaves((state._replace(key=0), middle._replace(key=0)))
            emit(
                f"donation, {name}",
                used_up=all(leaf.is_deleted() for leaf in leaves if isinstance(leaf, jax.Array)),
                compiled=compiled.count("jit(train_step)"),
            )
            lowered = one_step.lower(final, put_examples(TRAIN), replicate(rows), program=program)
            compiled_step = lowered.compile()
            flops[name] = compiled_step.cost_analysis()["flops"]
            emit(f"work of a training step, {name}", share=flops[name] / flops["one device"])
            images = replicate(jnp.asarray(TRAIN.images[:16], jnp.float32) / 100)
            labels = replicate(TRAIN.labels[:16])
            stats = (np.zeros(2, np.float32), np.ones(2, np.float32))
            scoring = mapped_batches.lower(
                final.variables, images, labels, *stats, fn=GRAND, batch_size=16
            ).compile()
            flops[f"grand {name}"] = scoring.cost_analysis()["flops"]
            emit(f"work of grand, {name}", share=flops[f"grand {name}"] / flops["grand one device"])
            gram = dj.logit_gram(MODEL.predict, final.variables, images[:8], images[:3])
            emit(f"rows of a kernel, {name}", count=gram.addressable_shards[0].data.shape[0])


def main() -> None:
    assert jax.device_count() == 8
    checks = {
        "ensembles": functools.partial(check_ensembles, "4x2", "2x4 fsdp"),
        "ensemble 8x1": functools.partial(check_ensembles, "8x1"),
        "network": check_one_network,
        "devices": check_devices,
    }
    for name in sys.argv[1:]:
        checks[name]()


if __name__ == "__main__":
    main()
