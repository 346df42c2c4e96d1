"""Batch sizes that fit memory, and going on with smaller ones where memory runs out."""

import functools
import json
import subprocess
import sys
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import diet_jax as dj
from diet_jax.devices import free_memory
from diet_jax.devices.memory import (
    BatchPlan,
    fit_batch,
    halving,
    is_out_of_memory,
    program_bytes,
    resident_bytes,
)
from diet_jax.ensemble import over_seeds
from diet_jax.errors import InputError
from diet_jax.training import passes

ROOT = Path(__file__).parents[2]


def real_error() -> Exception:
    """What XLA raises for an array that no machine has room for."""
    with pytest.raises(jax.errors.JaxRuntimeError) as caught:
        jnp.zeros(10**17, jnp.uint8).block_until_ready()
    return caught.value


OUT_OF_MEMORY = real_error()


@pytest.fixture
def compiled_names():
    """Names of the programs that are compiled while a test runs."""
    names, active = [], [True]

    def note(event: str, seconds: float, **facts) -> None:
        if active[0] and event.endswith("backend_compile_duration"):
            names.append(facts.get("fun_name"))

    jax.monitoring.register_event_duration_secs_listener(note)
    yield names
    active[0] = False


def test_errors_that_mean_no_memory_and_errors_that_do_not():
    assert is_out_of_memory(OUT_OF_MEMORY)
    assert is_out_of_memory(MemoryError())
    with pytest.raises(MemoryError) as caught:
        np.zeros(10**17, np.uint8)
    assert is_out_of_memory(caught.value)
    assert not is_out_of_memory(jax.errors.JaxRuntimeError("INVALID_ARGUMENT: shapes differ"))
    assert not is_out_of_memory(RuntimeError("Out of memory"))


@pytest.mark.parametrize(
    ("count", "size", "most"), [(10, 8, 8), (10, 8, 3), (7, 1, 1), (64, 64, 1), (5, 6, 2)]
)
@pytest.mark.parametrize("error", [OUT_OF_MEMORY, MemoryError()], ids=["xla", "host"])
def test_halving_finishes_with_the_largest_size_that_works(count, size, most, error):
    told, done = [], []

    def run(first, size):
        if size > most:
            raise error
        done.append((first, size))
        return list(range(first, first + size))

    parts = halving(run, count, size, what="seeds", remedy="-", warn=told.append)
    assert [i for taken, values in parts for i in values[:taken]] == list(range(count))
    expected = size
    while expected > most:
        expected //= 2
    assert {size for _, size in done} == {expected}
    assert [text.rsplit(" ", 1)[1] for text in told] == [
        str(size >> k) for k in range(1, 20) if size >> k >= expected
    ]


def test_finished_groups_are_kept_when_memory_runs_out_later():
    calls = []

    def run(first, size):
        calls.append((first, size))
        if first >= 8 and size > 2:
            raise OUT_OF_MEMORY
        return first

    told = []
    parts = halving(run, 12, 4, what="seeds", remedy="-", warn=told.append)
    assert calls == [(0, 4), (4, 4), (8, 4), (8, 2), (10, 2)]
    assert parts == [(4, 0), (4, 4), (2, 8), (2, 10)]
    assert told == ["memory ran out with 4 seeds at a time, going on with 2"]


def test_one_piece_that_does_not_fit_is_bad_input_and_other_errors_pass():
    def fail(error):
        def run(first, size):
            raise error

        return run

    with pytest.raises(InputError, match="one of the seeds at a time; take a smaller model") as caught:
        halving(fail(OUT_OF_MEMORY), 3, 4, what="seeds", remedy="take a smaller model", warn=str)
    assert caught.value.__cause__ is OUT_OF_MEMORY
    with pytest.raises(ZeroDivisionError):
        halving(fail(ZeroDivisionError()), 3, 4, what="seeds", remedy="-")


def test_among_several_processes_no_one_goes_its_own_way(monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)

    def run(first, size):
        raise OUT_OF_MEMORY

    with pytest.raises(InputError, match="4 seeds at a time; with several processes choose fewer"):
        halving(run, 3, 4, what="seeds", remedy="-")


def sorted_rows(x):
    """Needs an intermediate array as large as its argument, whatever XLA fuses."""
    return jnp.sort(x, axis=-1)[:, 0]


def test_the_bytes_of_a_program_are_arguments_results_and_what_is_between():
    x = jnp.ones((64, 1000))
    compiled = jax.jit(sorted_rows).lower(x).compile()
    assert program_bytes(compiled) >= 2 * x.nbytes + 64 * 4
    assert program_bytes(compiled) < 4 * x.nbytes
    donated = jax.jit(lambda x: x + 1, donate_argnums=0).lower(x).compile()
    assert program_bytes(donated) == x.nbytes


def test_what_is_on_the_device_already_is_counted_without_what_is_not():
    tree = {"a": jnp.ones((3, 5)), "b": np.ones(7), "c": jax.ShapeDtypeStruct((9,), "float32")}
    assert resident_bytes(tree, jnp.ones(2, jnp.int32)) == 15 * 4 + 2 * 4


@pytest.mark.parametrize("limit", [10, 3_000, 100_000, 10**9])
def test_the_plan_is_the_largest_power_of_two_within_the_limit(limit):
    tried = []

    def compile_at(size):
        tried.append(size)
        return jax.jit(jnp.sin).lower(jax.ShapeDtypeStruct((size, 100), "float32")).compile()

    plan = fit_batch(compile_at, 256, limit=limit)
    # A sine needs its argument and its result.
    fitting = [size for size in (256, 128, 64, 32, 16, 8, 4, 2, 1) if 2 * size * 400 <= limit]
    expected = fitting[0] if fitting else 1
    assert plan == BatchPlan(expected, 2 * expected * 400, limit)
    assert plan.fits == bool(fitting)
    assert tried == [256 >> k for k in range(len(tried))]
    if plan.batch_size < 256:
        on_device = fit_batch(compile_at, 256, limit=limit, resident=2 * 400 * 2 * plan.batch_size)
        assert on_device.batch_size > plan.batch_size


def test_a_compiler_that_runs_out_of_memory_counts_as_not_fitting():
    def compile_at(size):
        if size > 4:
            raise OUT_OF_MEMORY
        return jax.jit(jnp.sin).lower(jnp.zeros(size)).compile()

    assert fit_batch(compile_at, 64, limit=100).batch_size == 4

    def never(size):
        raise OUT_OF_MEMORY

    with pytest.raises(jax.errors.JaxRuntimeError):
        fit_batch(never, 4, limit=100)


def wide(variables, images, labels):
    """A score with intermediate arrays of 4 MB for each example, that are alive at once."""
    hidden = images.reshape(len(images), -1)[:, :4] @ jnp.linspace(0, 1, 4_000_000).reshape(4, -1)
    return (jnp.tanh(hidden) @ jnp.linspace(0, 1e-4, 1_000_000)[:, None])[:, 0]


def test_a_batch_is_halved_until_its_program_fits_and_is_compiled_once(
    train_split, conv_model, conv_variables, monkeypatch, compiled_names
):
    fn = functools.partial(wide)  # An object of its own: nothing is compiled for it yet.
    monkeypatch.setattr(free_memory, "free_bytes", lambda: 10**12)
    roomy = passes.chunk_plan(fn, conv_variables, train_split)
    assert roomy.fits
    assert roomy.batch_size > 2
    monkeypatch.setattr(free_memory, "free_bytes", lambda: roomy.needed // 2)
    compiled_names.clear()
    tight = passes.chunk_plan(fn, conv_variables, train_split)
    assert tight.needed <= tight.limit == int(free_memory.SHARE_TO_PLAN_WITH * (roomy.needed // 2))
    assert 1 < tight.batch_size < roomy.batch_size
    halvings = int(np.log2(roomy.batch_size / tight.batch_size))
    assert compiled_names == ["jit(mapped_batches)"] * halvings
    compiled_names.clear()
    scores = passes.map_dataset(fn, conv_variables, train_split)
    assert compiled_names == []
    np.testing.assert_allclose(
        scores, dj.score_dataset(fn, conv_variables, train_split, batch_size=5), rtol=1e-6
    )


def test_shapes_of_variables_give_the_plan_and_the_program_of_the_variables(
    train_split, conv_model, conv_variables, compiled_names
):
    fn = functools.partial(dj.el2n, conv_model.predict)
    shapes = jax.eval_shape(lambda: conv_variables)
    plan = passes.chunk_plan(fn, shapes, train_split)
    assert compiled_names == ["jit(mapped_batches)"]
    passes.map_dataset(fn, conv_variables, train_split, batch_size=plan.batch_size)
    passes.map_dataset(fn, conv_variables, train_split)
    assert compiled_names == ["jit(mapped_batches)"]


def test_scoring_goes_on_with_half_the_batch_where_memory_runs_out(
    train_split, conv_model, conv_variables, monkeypatch
):
    fn = functools.partial(dj.el2n, conv_model.predict)
    expected = dj.score_dataset(fn, conv_variables, train_split)
    real, sizes = passes.mapped_batches, []

    def mapped(variables, images, labels, *stats, fn, batch_size):
        sizes.append((len(images), batch_size))
        if len(sizes) > 1 and len(images) > 4:
            raise OUT_OF_MEMORY
        return real(variables, images, labels, *stats, fn=fn, batch_size=batch_size)

    monkeypatch.setattr(passes, "mapped_batches", mapped)
    for chunks, done, smaller in [
        # The first sixteen are kept, the others are scored by fours.
        (1, [(16, 16), (16, 16), (8, 8)] + [(4, 4)] * 9, ["8", "4"]),
        # Twenty-five batches are four calls of seven. There are fewer in a call once they cannot be smaller.
        (8, [(14, 2), (14, 2), (7, 1)] + [(3, 1)] * 12, ["7", "3"]),
    ]:
        sizes.clear()
        monkeypatch.setattr(passes, "default_chunks_per_call", lambda value=chunks: value)
        with pytest.warns(UserWarning, match="memory ran out") as told:
            scores = dj.score_dataset(fn, conv_variables, train_split, batch_size=16 // chunks)
        assert [str(w.message).split("going on with ")[1] for w in told] == smaller
        assert sizes == done
        np.testing.assert_allclose(scores, expected, rtol=1e-6)


def test_one_example_that_does_not_fit_names_the_remedy(train_split, conv_model, conv_variables, monkeypatch):
    def mapped(*args, **kwargs):
        raise OUT_OF_MEMORY

    monkeypatch.setattr(passes, "mapped_batches", mapped)
    fn = functools.partial(dj.el2n, conv_model.predict)
    warnings.simplefilter("ignore")
    with pytest.raises(InputError, match="one of the examples at a time; choose"):
        dj.score_dataset(fn, conv_variables, train_split, batch_size=8)


def normals(keys, shift):
    return {"x": jax.vmap(lambda key: jax.random.normal(key, (1000,)))(keys) + shift}


@pytest.mark.parametrize(
    ("limit", "most", "sizes"), [(10**9, 5, [5]), (10**9, 2, [5, 2, 2, 2]), (None, 9, [2] * 3)]
)
def test_seeds_run_in_groups_that_fit(limit, most, sizes, compiled_names, monkeypatch):
    keys, shift = jax.random.split(jax.random.key(0), 5), jnp.float32(1.0)
    expected = np.asarray(normals(keys, shift)["x"])
    done, told = [], []
    tight = limit is None
    if tight:
        limit = program_bytes(jax.jit(normals).lower(keys[:2], shift).compile())

    jitted = jax.jit(lambda keys, shift: normals(keys, shift))

    class Program:
        def lower(self, keys, shift, *, how):
            return jitted.lower(keys, shift)

        def __call__(self, keys, shift, *, how):
            assert how == "map"
            done.append(len(keys))
            if len(keys) > most:
                raise OUT_OF_MEMORY
            return jitted(keys, shift)

    compiled_names.clear()
    monkeypatch.setattr(over_seeds, "memory_to_plan_with", lambda: limit)
    result = over_seeds.run_seeds(Program(), keys, shift, how="map", one=list, warn=told.append)
    assert done == sizes
    assert compiled_names.count("jit(<lambda>)") == len(set(sizes)) + tight
    # Drawn in groups by other programs, which may fuse the sum: a few units in the last place.
    np.testing.assert_allclose(result["x"], expected, rtol=1e-6, atol=1e-6)
    assert len(told) == (sizes != [5])


def test_free_memory_is_the_least_of_what_system_container_and_limits_leave(tmp_path, monkeypatch):
    free = free_memory.free_bytes()
    assert 0 < free < 2**50
    for available, container, process, expected in [
        (50, [], [], 50),
        (50, [30, 70], [90], 30),
        (50, [60], [20], 20),
        (None, [], [], free_memory.UNKNOWN),
        (50, [-5], [], 0),
    ]:
        monkeypatch.setattr(free_memory, "_available", lambda value=available: value)
        monkeypatch.setattr(free_memory, "_left_in_container", lambda value=container: value)
        monkeypatch.setattr(free_memory, "_left_to_process", lambda value=process: value)
        assert free_memory.free_bytes() == expected


def test_an_accelerator_says_itself_what_is_free(monkeypatch):
    class Device:
        def __init__(self, limit, used):
            self.stats = {"bytes_limit": limit, "bytes_in_use": used}

        def memory_stats(self):
            return self.stats

    monkeypatch.setattr(jax, "local_devices", lambda: [Device(100, 30), Device(100, 55)])
    assert free_memory.free_bytes() == 45


LIMITED = """
import json, resource, warnings
import jax, jax.numpy as jnp, numpy as np
from diet_jax import Dataset, score_dataset
from diet_jax.devices.free_memory import free_bytes

def wide(variables, images, labels):
    hidden = images.reshape(len(images), -1)[:, :4] @ jnp.linspace(0, 1, 4_000_000).reshape(4, -1)
    return (jnp.tanh(hidden) @ jnp.linspace(0, 1e-4, 1_000_000)[:, None])[:, 0]

data = Dataset.from_arrays(np.arange(64 * 16, dtype=np.uint8).reshape(64, 4, 4), np.arange(64) % 2)
variables = {"w": np.zeros(1, np.float32)}
small = score_dataset(wide, variables, data, batch_size=4)
jax.block_until_ready(jnp.zeros(3))
status = dict(line.split(":") for line in open("/proc/self/status").read().splitlines() if "kB" in line)
used = int(status["VmData"].split()[0]) * 1024
resource.setrlimit(resource.RLIMIT_DATA, (used + 150 * 2**20,) * 2)
free = free_bytes()
with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always")
    scores = score_dataset(wide, variables, data, batch_size=64)
print(json.dumps([free, [str(w.message) for w in told], bool(np.allclose(scores, small))]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the limit on a process's memory is Linux's")
def test_a_process_whose_memory_really_runs_out_goes_on():
    """64 examples need 256 MB and more at once; the process may take 150 MB."""
    done = subprocess.run(
        [sys.executable, "-c", LIMITED], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    free, told, same = json.loads(done.stdout)
    assert 0 < free <= 150 * 2**20
    assert told
    assert told[0].startswith("memory ran out with 64 examples at a time, going on with 32")
    assert same
