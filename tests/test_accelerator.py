"""The visit to an accelerator: what it writes, that it ends in time, and that its small form runs here."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

ROOT = Path(__file__).parents[1]
BENCHMARKS = ROOT / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import accelerator  # noqa: E402
import measure  # noqa: E402
import programs  # noqa: E402
from accelerator_rows import experiment, report, training  # noqa: E402
from accelerator_rows.visit import Skipped, Task, Visit, in_time  # noqa: E402

from diet_jax.cli.commands.run import Run  # noqa: E402

ABOUT = {
    "scale": "full",
    "date": "2026-11-26",
    "device": "card",
    "devices": 1,
    "platform": "CUDA 13",
    "python": "3.12",
    "packages": {"jax": "0.11.2"},
    "commit": "abc",
    "sources": "123",
}


def read(folder: Path) -> list[dict]:
    return json.loads((folder / "gpu.json").read_text(encoding="utf-8"))["visits"]


def visit_of(folder: Path, seconds: float = 60, about=ABOUT) -> Visit:
    return Visit(folder, about, report.markdown, time.monotonic() + seconds)


def task(name: str, measure, kind: str = "scores", weight: float = 1) -> Task:
    return Task("scores", name, measure, kind, weight)


@pytest.fixture
def quick(monkeypatch):
    """One good flag and one that no compiler knows; short timings; no PyTorch, installed or not."""
    monkeypatch.setattr(measure, "TIMED_S", 0.001)
    flags = (("xla_gpu_graph_min_graph_size", 1), ("xla_gpu_no_such_flag", True))
    monkeypatch.setattr(training, "FLAGS", flags)
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "torch" else found(name))


@pytest.mark.slow
def test_a_tiny_visit_measures_everything_and_a_second_one_keeps_it(tmp_path, quick):
    arguments = ["--tiny", "--minutes", "5", "--out", str(tmp_path)]
    assert accelerator.main(arguments) == "done"
    (visit,) = read(tmp_path)
    rows = {(row["part"], row["what"]): row for row in visit["rows"]}
    assert list(dict.fromkeys(part for part, _ in rows)) == [
        "ceilings",
        "one seed",
        "several seeds",
        "scores",
        "exactness of the norms",
        "XLA's flags",
        "PyTorch: training",
        "PyTorch: gradient norms",
        "layers",
        "CIFAR-10",
    ]
    assert visit["ended"] == ""
    assert visit["not_begun"] == []
    assert visit["environment"]["scale"] == "tiny"
    assert [row["what"] for row in visit["rows"][:4]] == [
        "matrix product 32³, bfloat16",
        "matrix product 32³, float32",
        "matrix product 32³, float32, highest precision",
        "copy of 1 MiB, bytes read and written",
    ]

    one = rows["one seed", "bfloat16, batch 4"]
    assert one["images_per_s"] == pytest.approx(4 * 1000 / one["step_ms"])
    assert one["of_peak"] == pytest.approx(
        one["tflops"] / rows["ceilings", "matrix product 32³, bfloat16"]["tflops"]
    )
    assert one["loops"]["known"] == one["loops"]["all"] > 0
    # One convolution: forward and the gradient of its kernel, for the images need none.
    assert rows["several seeds", "2 seeds by vmap, convolution lax"]["convolutions"] == {
        "plain": 0,
        "batch_grouped": 1,
        "grouped": 1,
    }
    unrolled = rows["several seeds", "2 seeds by vmap, convolution unrolled"]["convolutions"]
    assert unrolled == {"plain": 4, "batch_grouped": 0, "grouped": 0}
    assert {what.split(", ")[0] for part, what in rows if part == "several seeds"} == {
        f"2 seeds by {how}" for how in ("vmap", "map", "unroll")
    }

    exact = rows["exactness of the norms", "grand, float32"]
    assert exact["median"] <= exact["most"] < 1e-5
    assert rows["scores", "grand_vmap, bfloat16, batch 6"]["over_grand"] > 0
    (layer,) = (row for (part, _), row in rows.items() if part == "layers")
    assert layer["forms"].keys() >= {"offset", "vmap(grad)"}
    assert sum(form["chosen"] for form in layer["forms"].values()) == 1
    flags = [row for (part, _), row in rows.items() if part == "XLA's flags"]
    assert [("failed" in row, "ratio" in row) for row in flags] == [(False, True), (True, False)] * 2
    assert "xla_gpu_no_such_flag" in flags[1]["failed"]
    assert rows["CIFAR-10", "cifar10.py"]["skipped"].startswith("no data")

    lines = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert lines == visit["rows"]
    page = (tmp_path / "gpu.md").read_text(encoding="utf-8")
    assert "| 2 seeds by vmap, convolution lax |" in page
    assert "Fitted to these times: Costs(element=" in " ".join(page.split())
    assert "- eager, TF32, batch 4: skipped: PyTorch is not installed" in page
    assert page == report.markdown(read(tmp_path))

    assert accelerator.main(arguments) == "done"
    (again,) = read(tmp_path)
    done = [row for row in visit["rows"] if not {"failed", "skipped"} & row.keys()]
    assert [row for row in again["rows"] if not {"failed", "skipped"} & row.keys()] == done
    assert len(again["rows"]) == len(visit["rows"])


def test_it_needs_none_of_the_commands_packages(tmp_path):
    """A machine of accelerators may have JAX, and PyTorch, and no package index."""
    missing = ("tyro", "array_record", "tensorflow_datasets", "pooch", "importlib_resources", "torch")
    code = (
        "import runpy, sys\n"
        f"for name in {missing}:\n"
        "    sys.modules[name] = None\n"
        f"sys.argv = ['accelerator.py', '--tiny', '--out', {str(tmp_path)!r}, '--parts', 'torch']\n"
        f"runpy.run_path({str(BENCHMARKS / 'accelerator.py')!r}, run_name='__main__')\n"
    )
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run([sys.executable, "-c", code], env=env, cwd=tmp_path, check=True, timeout=100)
    assert {row["skipped"] for row in read(tmp_path)[0]["rows"]} == {"PyTorch is not installed"}


def test_a_failing_row_is_recorded_and_the_next_goes_on(tmp_path):
    def fail():
        raise MemoryError("RESOURCE_EXHAUSTED: out of\nmemory")

    def skip():
        raise Skipped("there is no such thing")

    visit = visit_of(tmp_path)
    visit.run(
        [
            task("a", fail),
            task("b", skip),
            task("c", lambda: [{"median_s": 0.002}, {"what": "d", "median_s": 0.003}]),
        ]
    )
    (found,) = read(tmp_path)
    assert [row["what"] for row in found["rows"]] == ["a", "b", "c", "d"]
    page = (tmp_path / "gpu.md").read_text(encoding="utf-8")
    assert "- a: failed: MemoryError: RESOURCE_EXHAUSTED: out of memory\n" in page
    assert "- b: skipped: there is no such thing\n" in page
    assert "| c | 2 |" in page


def test_a_later_visit_repeats_what_has_no_result_or_more_to_do(tmp_path):
    calls = []

    def tasks(succeed):
        def measured(name, **row):
            calls.append(name)
            return row

        def perhaps():
            calls.append("perhaps")
            if not succeed:
                raise ValueError("not yet")
            return {"median_s": 0.004}

        return [
            task("done", lambda: measured("done", median_s=0.001)),
            task("perhaps", perhaps),
            task("slices", lambda: measured("slices", text="a slice", goes_on=True)),
        ]

    visit_of(tmp_path).run(tasks(False))
    visit_of(tmp_path).run(tasks(True))
    assert calls == ["done", "perhaps", "slices", "perhaps", "slices"]
    (visit,) = read(tmp_path)
    assert sorted(row["what"] for row in visit["rows"]) == ["done", "perhaps", "slices"]
    assert not any("failed" in row for row in visit["rows"])


@pytest.mark.parametrize("other", [{"device": "x"}, {"sources": "456"}, {"packages": {"jax": "0.12"}}])
def test_another_card_and_other_code_begin_a_section_of_their_own(tmp_path, other):
    visit_of(tmp_path).run([task("a", lambda: {"median_s": 0.001})])
    visit_of(tmp_path, about={**ABOUT, "date": "2026-11-27"}).run([task("a", lambda: {"median_s": 0.002})])
    visit_of(tmp_path, about={**ABOUT, **other}).run([task("a", lambda: {"median_s": 0.003})])
    assert [[row["median_s"] for row in visit["rows"]] for visit in read(tmp_path)] == [[0.001], [0.003]]
    page = (tmp_path / "gpu.md").read_text(encoding="utf-8")
    assert page.index("| a | 3 |") < page.index("| a | 1 |")


def test_what_would_take_longer_than_is_left_is_not_begun(tmp_path):
    """An earlier row of the same kind says how long."""

    def wait():
        time.sleep(0.4)
        return {"median_s": 0.001}

    # The guess before anything was seen is that of an accelerator.
    visit = visit_of(tmp_path, seconds=20)
    visit.run([task("unseen", wait, "eager")])
    assert [row["what"] for row in read(tmp_path)[0]["not_begun"]] == ["unseen"]
    visit.caution = 0
    first, long, short = (
        task(name, wait, "eager", weight) for name, weight in (("a", 1), ("b", 99), ("c", 0))
    )
    visit.run([first, long, short])
    (found,) = read(tmp_path)
    assert [row["what"] for row in found["rows"]] == ["a", "c"]
    assert [row["what"] for row in found["not_begun"]] == ["unseen", "b"]
    assert "Not begun, for want of time: 2 of scores." in (tmp_path / "gpu.md").read_text()


def test_it_ends_in_time_whatever_it_is_at(tmp_path):
    release, visit = threading.Event(), visit_of(tmp_path)

    def compile_for_ever():
        release.wait(60)
        return {"median_s": 0.005}

    begin = time.monotonic()
    ended = in_time(
        lambda: visit.run([task("a", lambda: {"median_s": 0.001}), task("b", compile_for_ever)]), 0.5
    )
    visit.close(ended)
    assert time.monotonic() - begin < 5
    assert ended == "out of time"
    release.set()
    time.sleep(0.2)
    (found,) = read(tmp_path)
    assert [row["what"] for row in found["rows"]] == ["a"]
    assert found["ended"] == "out of time during scores: b"
    assert "The last visit ended: out of time during scores: b." in (tmp_path / "gpu.md").read_text()


def test_sigterm_keeps_what_is_there(tmp_path):
    visit, before = visit_of(tmp_path), signal.getsignal(signal.SIGTERM)

    def terminated():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)

    ended = in_time(lambda: visit.run([task("a", lambda: {"median_s": 0.001}), task("b", terminated)]), 30)
    visit.close(ended)
    (found,) = read(tmp_path)
    assert ended == "SIGTERM"
    assert [row["what"] for row in found["rows"]] == ["a"]
    assert found["ended"] == "SIGTERM during scores: b"
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_fault_outside_of_rows_is_not_hidden():
    with pytest.raises(ZeroDivisionError):
        in_time(lambda: 1 // 0, 30)


@pytest.mark.slow
def test_convolutions_and_loops_are_counted():
    def convolve(kernel, images):
        return jax.lax.conv(images, kernel, (1, 1), "SAME")

    def loss(kernel, images):
        return jnp.square(convolve(kernel, images)).sum()

    kernels, images = jnp.ones((3, 4, 2, 3, 3)), jnp.ones((3, 5, 2, 8, 8))
    forward = programs.compiled(jax.vmap(convolve), kernels, images)
    assert programs.convolutions(forward) == {"plain": 0, "batch_grouped": 0, "grouped": 1}
    summed = programs.compiled(
        jax.grad(lambda kernels, images: jax.vmap(loss)(kernels, images).sum()), kernels, images
    )
    assert programs.convolutions(summed) == {"plain": 0, "batch_grouped": 1, "grouped": 1}
    plain = programs.compiled(jax.grad(loss), kernels[0], images[0])
    assert programs.convolutions(plain) == {"plain": 2, "batch_grouped": 0, "grouped": 0}

    def loop(x, count):
        return jax.lax.fori_loop(0, count, lambda _, x: x @ x, x)

    square = jnp.ones((4, 4))
    assert programs.loops(programs.compiled(loop, square, jnp.int32(5))) == (0, 1)
    assert programs.loops(programs.compiled(lambda x: loop(x, 5), square)) == (1, 1)


def test_the_page_of_accelerators_is_that_of_its_numbers():
    results = ROOT / "docs" / "results"
    assert (results / "gpu.md").read_text(encoding="utf-8") == report.markdown(read(results))


@pytest.mark.slow
@pytest.mark.skipif("minutes" not in Run.__dataclass_fields__, reason="runs cannot be stopped after minutes")
def test_the_time_that_is_left_is_a_slice_of_the_experiment(tmp_path, monkeypatch):
    """On the digits: it stops after its minutes, and the next visit goes on with it."""
    monkeypatch.setattr(experiment, "CONFIG", ROOT / "configs" / "digits.py")
    monkeypatch.setattr(experiment, "LEAST_S", 0)
    visit = visit_of(tmp_path, seconds=3 + experiment.LATE_S + 1)
    visit.run(experiment.experiment(visit, None))
    assert "no data" in visit.rows[0]["skipped"]
    visit.run(experiment.experiment(visit, tmp_path))
    (row,) = visit.rows
    assert row["goes_on"]
    assert "stopped after" in row["text"]
    assert (tmp_path / "run" / "config.json").exists()


def test_a_slice_tells_its_table_and_whether_it_goes_on(tmp_path, monkeypatch):
    table = tmp_path / "run" / "table.md"
    said = [f"print('half of it; {experiment.GOES_ON}')", f"open({str(table)!r}, 'w').write('| a | b |')"]

    def command(folder, data_dir, seconds):
        assert folder == table.parent
        assert 60 < seconds <= 70
        folder.mkdir(exist_ok=True)
        return [sys.executable, "-c", said.pop(0)]

    def slices():
        visit = visit_of(tmp_path, seconds=3 + experiment.LATE_S + 70)
        visit.run(experiment.experiment(visit, tmp_path))
        return visit.rows

    monkeypatch.setattr(experiment, "command", command)
    (row,) = slices()
    assert row["goes_on"]
    assert row["text"].startswith("half of it;")
    (row,) = slices()
    assert "goes_on" not in row
    assert row["text"].strip() == "| a | b |"
    # What has ended is not begun again.
    assert slices() == [row]


def test_a_slice_that_fails_says_why(tmp_path, monkeypatch):
    monkeypatch.setattr(experiment, "CONFIG", tmp_path / "missing.py")
    visit = visit_of(tmp_path, seconds=100)
    visit.run(experiment.experiment(visit, tmp_path))
    assert "missing.py" in visit.rows[0]["failed"]
