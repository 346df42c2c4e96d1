"""Meshes of devices: whatever is computed on one device comes out the same on eight."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType

import diet_jax as dj
from diet_jax.devices.mesh import axis_size, fetch, replicate, split_batch
from diet_jax.errors import InputError

# Largest measured: 3e-6 for parameters after 9 steps, 6e-7 for everything else.
TOLERANCE = 2e-5
SCORES = ("score el2n", "score grand", "score forgetting", "score history", "score variables")
TRAININGS = ("train", "train_from")
SCORED = (
    "score_dataset",
    "score_dataset, ragged batches",
    "score_dataset, vmap of gradients",
    "per_example_grad_norms",
    "predict_dataset",
)
COMPARED = ("logit_gram", "logit_gram of two sets", "estimate_logit_gram", "path_correct", "error_barrier")
OF_ONE_NETWORK = [
    *(f"{check}, 1x8" for check in (*TRAININGS, *SCORED, *COMPARED)),
    *(f"{check}, 1x4 fsdp" for check in (*TRAININGS, *SCORED)),
    *(f"{check}, 1x8, a batch of 10" for check in TRAININGS),
    "own optimizer, 1x4 fsdp",
    "keys of another mesh",
    "a state of another mesh",
]


@pytest.fixture(scope="module")
def run_checks():
    """Runs one part of mesh_checks.py with 8 devices, once; returns what it printed by check."""
    done: dict[str, dict] = {}

    def run(part: str) -> dict:
        if part not in done:
            flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=8"
            env = {**os.environ, "XLA_FLAGS": flags}
            env["PYTHONPATH"] = str(Path(dj.__file__).parents[1])
            script = Path(__file__).with_name("mesh_checks.py")
            process = subprocess.run(
                [sys.executable, script, part], env=env, capture_output=True, text=True, check=False
            )
            assert process.returncode == 0, process.stderr[-3000:]
            lines = [json.loads(line) for line in process.stdout.splitlines() if line.startswith("{")]
            done[part] = {line["check"]: line for line in lines}
        return done[part]

    return run


@pytest.mark.parametrize("mesh", [pytest.param("8x1", marks=pytest.mark.slow), "4x2", "2x4 fsdp"])
@pytest.mark.parametrize("part", SCORES)
def test_scores_of_an_ensemble_are_those_of_one_device(run_checks, part, mesh):
    checks = run_checks("ensemble 8x1" if mesh == "8x1" else "ensembles")
    assert checks[f"{part}, {mesh}"]["difference"] < TOLERANCE


@pytest.mark.parametrize(
    "check", ["train_ensemble, 4x2", "over_seeds inside jit, 4x2", "over_seeds outside jit, 4x2"]
)
def test_seeds_on_a_mesh_are_those_of_one_device(run_checks, check):
    assert run_checks("ensembles")[check]["difference"] < TOLERANCE


def test_seeds_lie_on_their_devices_and_auto_spreads_them(run_checks):
    checks = run_checks("ensembles")
    assert checks["seeds on one device, 2x4 fsdp"]["count"] == 3
    assert checks["auto, 4x2"]["how"] == "mesh"


@pytest.mark.slow
@pytest.mark.parametrize("check", OF_ONE_NETWORK)
def test_one_network_is_that_of_one_device(run_checks, check):
    assert run_checks("network")[check]["difference"] < TOLERANCE


@pytest.mark.slow
def test_each_device_does_its_share(run_checks):
    checks = run_checks("devices")
    # A step also updates parameters and forgetting events, which "data" does not split.
    for mesh, step, grand, rows in (("1x8", 0.25, 0.13, 3), ("1x4 fsdp", 0.3, 0.26, 6)):
        assert checks[f"work of a training step, {mesh}"]["share"] < step
        assert checks[f"work of grand, {mesh}"]["share"] < grand
        assert checks[f"rows of a kernel, {mesh}"]["count"] == rows
    assert checks["rows of a kernel, one device"]["count"] == 24


@pytest.mark.slow
def test_parameters_and_optimiser_state_are_split_while_training(run_checks):
    checks = run_checks("devices")
    whole, split = checks["bytes on one device, 1x8"], checks["bytes on one device, 1x4 fsdp"]
    # Convolution 72 + 4, BatchNorm 4 + 4, dense 48 + 3 floats; 4 does not divide the last 3.
    assert whole["params"] == 4 * 135
    assert split["params"] == 4 * (18 + 1 + 1 + 1 + 12 + 3)
    # Momentum, and the number of steps done.
    assert whole["opt_state"] == whole["params"] + 4
    assert split["opt_state"] == split["params"] + 4


@pytest.mark.slow
def test_the_state_of_an_own_optimizer_is_split_too(run_checks):
    """A quarter, and the leaves that 4 does not divide."""
    assert run_checks("network")["own optimizer, bytes"]["share"] < 0.31


@pytest.mark.parametrize("mesh", ["one device", "1x8", "1x4 fsdp"])
def test_training_compiles_once_and_uses_its_buffers_again(run_checks, mesh):
    check = run_checks("devices")[f"donation, {mesh}"]
    assert check["compiled"] == 1
    assert check["used_up"]


def test_a_mesh_needs_an_axis_for_seeds(conv_model, train_split, test_split):
    keys, config = dj.seed_keys(0, "score", 2), dj.TrainConfig(steps=2, batch_size=8)
    for call in (
        lambda: dj.over_seeds(lambda x: x, how="mesh")(jnp.arange(3.0)),
        lambda: dj.score_ensemble(keys, conv_model, train_split, config=config, step=0, how="mesh"),
        lambda: dj.train_ensemble(keys, conv_model, train_split, test_split, config=config, how="mesh"),
    ):
        with pytest.raises(InputError, match="there is no mesh; call it inside"):
            call()
        with (
            jax.set_mesh(jax.make_mesh((1,), ("data",), axis_types=(AxisType.Auto,))),
            pytest.raises(InputError, match="its axes are data; call it inside"),
        ):
            call()


def test_a_mesh_with_explicit_axes_is_refused():
    with jax.set_mesh(jax.make_mesh((1,), ("data",), axis_types=(AxisType.Explicit,))):
        assert axis_size("seed") == 1
        with pytest.raises(InputError, match="'data' of the current mesh has the type Explicit"):
            split_batch(jnp.ones(4))


def test_a_mesh_is_as_large_as_asked_for_or_refused():
    assert dict(dj.make_mesh(1, 1, shard_params=True).shape) == {"seed": 1, "fsdp": 1}
    for wrong, message in (
        ((0, 1), "at least 1"),
        ((1, 0), "at least 1"),
        ((1, 99), "needs 99 devices, of"),
    ):
        with pytest.raises(InputError, match=message):
            dj.make_mesh(*wrong)


def test_arrays_go_to_the_devices_and_come_back():
    tree = {"key": jax.random.key(3), "image": np.arange(4, dtype=np.uint8), "none": None}
    with jax.set_mesh(dj.make_mesh(1)):
        there = replicate(tree)
        assert replicate(there)["image"] is there["image"]
    np.testing.assert_array_equal(fetch(there["image"]), tree["image"])
    assert isinstance(fetch(there["image"]), np.ndarray)
    assert jax.random.key_data(there["key"]).tolist() == jax.random.key_data(tree["key"]).tolist()
