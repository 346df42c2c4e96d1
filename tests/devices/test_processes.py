"""Several processes on this machine: the numbers of one process, agreement, and what a lost one leaves."""

import csv
import functools
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from diet_jax import InputError
from diet_jax.cli.main import main
from diet_jax.devices import processes, supervise
from diet_jax.experiments.config import LOCATIONS, MeshConfig, RunConfig, ScoreConfig
from diet_jax.experiments.run_folder import RunFolder
from diet_jax.options.plain import differences, to_json

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}
OPTIONS = [
    *("--model.widths", "8", "--train.steps", "20", "--score.names", "el2n", "--score.epoch", "0.5"),
    *("--score.num-seeds", "3", "--retrain.num-seeds", "3", "--select.fractions", "0.5"),
]
# JAX takes up to HEARTBEAT_SECONDS to miss a process; the rest is for a busy machine.
SECONDS_TO_NOTICE = processes.HEARTBEAT_SECONDS + 20


@pytest.fixture(autouse=True, scope="module")
def compiled_once(tmp_path_factory):
    """The processes of all tests here share what XLA has compiled."""
    ENVIRONMENT["JAX_ENABLE_COMPILATION_CACHE"] = "1"
    ENVIRONMENT["JAX_COMPILATION_CACHE_DIR"] = str(tmp_path_factory.mktemp("compiled"))
    ENVIRONMENT["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    ENVIRONMENT["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"


@pytest.fixture(autouse=True)
def signals_are_heard():
    """Jobs of a shell without job control ignore SIGINT, those of nohup SIGHUP, and children inherit that."""
    defaults = {
        signal.SIGINT: signal.default_int_handler,
        signal.SIGTERM: signal.SIG_DFL,
        signal.SIGHUP: signal.SIG_DFL,
    }
    ignored = [number for number in defaults if signal.getsignal(number) is signal.SIG_IGN]
    for number in ignored:
        signal.signal(number, defaults[number])
    yield
    for number in ignored:
        signal.signal(number, signal.SIG_IGN)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("localhost", 0))
        return sock.getsockname()[1]


def launch(count: int, folder: Path, *options: str, own: tuple[str, ...] = (), command: str = "run"):
    """Starts processes of one run, process i with the run folder folder/i; `own` is for the last one."""
    port = free_port()
    return [
        subprocess.Popen(
            [
                *(sys.executable, "-m", "diet_jax", command, "--distributed"),
                *("--coordinator", f"localhost:{port}", "--num-processes", str(count)),
                *("--process-id", str(i), "--run-dir", str(folder / str(i)), *OPTIONS, *options),
                *(own if i == count - 1 else ()),
            ],
            env=ENVIRONMENT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in range(count)
    ]


def outcomes(processes) -> list[tuple[int, str, str]]:
    """Exit code, stdout and stderr of each."""
    try:
        texts = [process.communicate(timeout=400) for process in processes]
        return [(p.returncode, *text) for p, text in zip(processes, texts, strict=True)]
    finally:
        for process in processes:
            process.kill()


def run_worker(code: str, count: int = 2) -> list[tuple[int, str, str]]:
    """Runs Python code in several connected processes; it may use `number`."""
    port = free_port()
    program = (
        "import sys, numpy as np; from diet_jax import InputError; from diet_jax.devices import processes\n"
        "number = int(sys.argv[1])\n"
    )
    return outcomes(
        [
            subprocess.Popen(
                [sys.executable, "-c", program + code, str(i), str(port)],
                env=ENVIRONMENT,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for i in range(count)
        ]
    )


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> Path:
    """The run folder of the same run in one process without a mesh."""
    folder = tmp_path_factory.mktemp("alone") / "run"
    done = subprocess.run(
        [sys.executable, "-m", "diet_jax", "run", "--run-dir", str(folder), *OPTIONS],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return folder


def assert_same_run(folder: Path, alone: Path) -> None:
    """Scores and losses within rounding; the same masks, and all but the same predictions and tables.

    The processes' programs round otherwise, so of two classes as good as equal either may be predicted: for
    one of 719 examples at most. The masks have room: the last score kept is 3e-4 above the first one cut.
    """
    files = sorted(p.relative_to(alone) for p in alone.rglob("*.npz"))
    assert files == sorted(p.relative_to(folder) for p in folder.rglob("*.npz"))
    assert len(files) == 3 + 1 + 2 + 3 * 3
    for file in files:
        with np.load(alone / file) as old, np.load(folder / file) as new:
            assert old.files == new.files
            for name in set(old.files) - {"header"}:
                if old[name].dtype.kind == "f":
                    np.testing.assert_allclose(
                        new[name], old[name], rtol=2e-4, atol=2e-5, err_msg=f"{file} {name}"
                    )
                elif name == "predicted":
                    assert (new[name] != old[name]).sum() <= 1, f"{file} {name}"
                else:
                    np.testing.assert_array_equal(new[name], old[name], err_msg=f"{file} {name}")
    for new, old in zip(cells(folder), cells(alone), strict=True):
        assert new == (old if isinstance(old, str) else pytest.approx(old, abs=0.02)), (new, old)
    assert last_steps(folder) == last_steps(alone)


def cells(folder: Path) -> list[str | float]:
    """The cells of the table of a run; a number in its columns of numbers."""
    with open(folder / "table.csv", newline="") as file:
        texts = [text for row in csv.reader(file) for text in row]
    return [float(text) if re.fullmatch(r"-?[\d.]+(e-?\d+)?", text) else text for text in texts]


def last_steps(folder: Path) -> dict[str, int]:
    """The last step in the log of each training."""
    lines = [line for line in RunFolder(folder).metrics() if "step" in line]
    return {line["unit"]: line["step"] for line in sorted(lines, key=lambda line: line["step"])}


def kill_after_first_scores(processes, victim: int, folder: Path) -> tuple[set[Path], float]:
    """Kills a process once a seed is scored; returns the scores there and when it was killed."""
    scores = folder / "0" / "scores" / "per_seed"
    limit = time.monotonic() + 300
    while not list(scores.glob("*.npz")):
        assert time.monotonic() < limit
        assert all(p.poll() is None for p in processes), outcomes(processes)
        time.sleep(0.02)
    processes[victim].kill()
    return set(scores.glob("*.npz")), time.monotonic()


@pytest.mark.slow
def test_a_lost_process_ends_all_and_any_number_goes_on(alone, tmp_path):
    processes = launch(4, tmp_path, "--score.num-seeds", "3")
    there, killed = kill_after_first_scores(processes, 2, tmp_path)
    survivors = [processes[i] for i in (0, 1, 3)]
    results = outcomes(survivors)
    assert time.monotonic() - killed < SECONDS_TO_NOTICE
    for code, out, error in results:
        assert code == supervise.LOST
        assert out == ""
        last = error.splitlines()[-1]
        assert last.startswith("diet-jax: process 2 of this run was lost")
        assert "the same command" in last
        assert "Traceback" not in error
        assert "Check failure" not in error
    assert [len(error.splitlines()) for _, _, error in results[1:]] == [1, 1]
    processes[2].communicate()
    times = {path: path.stat().st_mtime_ns for path in there}

    results = outcomes(launch(2, tmp_path))
    assert [code for code, _, _ in results] == [0, 0], results
    assert {path: path.stat().st_mtime_ns for path in there} == times
    assert_same_run(tmp_path / "0", alone)
    assert "final test accuracy" in results[0][1]
    assert "retraining" in results[0][2]
    assert results[1][1:] == ("", "")
    assert [p.name for p in tmp_path.iterdir()] == ["0"]


@pytest.mark.slow
def test_losing_process_0_ends_all_and_checkpoints_go_on(alone, tmp_path):
    options = ("--checkpoint-epochs", "0.3")
    processes = launch(2, tmp_path, *options)
    there, killed = kill_after_first_scores(processes, 0, tmp_path)
    ((code, out, error),) = outcomes(processes[1:])
    assert time.monotonic() - killed < SECONDS_TO_NOTICE
    processes[0].communicate()
    assert (code, out) == (supervise.LOST, "")
    assert error.startswith("diet-jax: process 0 of this run was lost")
    assert error.count("\n") == 1
    times = {path: path.stat().st_mtime_ns for path in there}

    results = outcomes(launch(2, tmp_path, *options))
    assert [code for code, _, _ in results] == [0, 0], results
    assert {path: path.stat().st_mtime_ns for path in there} == times
    assert len(list((tmp_path / "0").glob("checkpoints/score/seed_*/10"))) == 3
    assert_same_run(tmp_path / "0", alone)
    assert [p.name for p in tmp_path.iterdir()] == ["0"]


@pytest.mark.slow
def test_processes_that_disagree_all_say_so(tmp_path):
    for code, out, error in outcomes(launch(2, tmp_path, own=("--seed", "7"))):
        assert (code, out) == (2, "")
        message = error.splitlines()[-1]
        assert "same config.seed: process 0 has 0, process 1 has 7" in message
        assert "Traceback" not in error
    assert not list(tmp_path.iterdir())


def test_values_errors_and_checkpoints_between_processes(tmp_path):
    code = f"""
import jax
processes.start("localhost:" + sys.argv[2], 2, number)
from pathlib import Path
from diet_jax.devices.deadline import Deadline
from diet_jax.training.checkpoints import Checkpoints
from diet_jax.experiments.config import RunConfig, MeshConfig
from diet_jax.experiments.devices import config_mesh
from diet_jax.training.step import TrainState
from diet_jax.types import Variables

def fails(action):
    try:
        action()
    except InputError as error:
        return str(error)
    raise AssertionError("no error")

def only(bad, text):
    if number == bad:
        raise InputError(text)
    return number

def disk_full():
    raise OSError("no space left")

assert processes.is_writer() == (number == 0) and not processes.is_alone()
value = {{"a": np.arange(3) + number, "b": [None, "x"]}}
got = processes.from_writer(lambda: value)
assert got["a"].tolist() == [0, 1, 2] and got["b"] == [None, "x"]
assert processes.from_writer(lambda: jax.numpy.zeros(2).sum().item()) == 0
ran = []
processes.from_writer(lambda: ran.append(1))
assert len(ran) == 1 - number
text = fails(lambda: processes.from_writer(lambda: only(0, "no")))
assert text == ("process 0 failed: no" if number else "no")
try:
    processes.from_writer(disk_full)
except (InputError if number else OSError) as error:
    assert "no space left" in str(error)
assert processes.together(lambda: number * 2) == number * 2
assert fails(lambda: processes.together(lambda: only(1, "no such dataset"))) == "process 1: no such dataset"
assert fails(lambda: processes.together(lambda: only(number, "same"))) == "same"
now = [0.0]
deadline = Deadline(1, clock=lambda: now[0])
for late, over in ((0, True), (1, False)):  # The clock of process 0 decides.
    now[0] = 100.0 * (number == late)
    assert deadline.is_over() == over
processes.agree({{"x": [1, 2]}}, "thing")
text = fails(lambda: processes.agree({{"x": {{"y": number}}}}, "thing"))
assert "same thing.x.y: process 0 has 0, process 1 has 1" in text, text

with config_mesh(RunConfig(mesh=MeshConfig(data=2))):
    spread = jax.device_put(np.arange(4.0, dtype="float32"), jax.P("data"))
    state = TrainState(np.int32(5), Variables({{"w": spread}}, ()), (), jax.random.key(3), ())
    place = Checkpoints(Path({str(tmp_path)!r}) / str(number) / "unit")
    place.save(state)
    assert place.steps() == [5]
    back = place.restore(5, state._replace(key=jax.random.key(0)))
    assert np.asarray(back.variables.params["w"]).tolist() == [0, 1, 2, 3]
    assert jax.random.key_data(back.key).tolist() == [0, 3]
    assert "no checkpoint of step 6" in fails(lambda: place.restore(6, state))
    place.remove(lambda step: step == 5)
    assert place.steps() == []
assert "product is 2" in fails(lambda: config_mesh(RunConfig(mesh=MeshConfig(seed=1))).__enter__())
processes.stop()
"""
    for returncode, _, error in run_worker(code):
        assert returncode == 0, error
    assert [p.name for p in tmp_path.iterdir()] == ["0"]


@pytest.mark.slow
def test_the_mesh_of_a_config():
    code = """
import jax
from diet_jax.experiments.config import RunConfig, MeshConfig
from diet_jax.experiments.devices import config_mesh

def shape(config, **options):
    with config_mesh(config, **options):
        return dict(jax.sharding.get_mesh().shape)

assert shape(RunConfig()) == {"seed": 4, "data": 1}
assert shape(RunConfig(checkpoint_epochs=(1.0,))) == {"seed": 1, "data": 4}
assert shape(RunConfig(), one_by_one=True) == {"seed": 1, "data": 4}
assert shape(RunConfig(mesh=MeshConfig(data=2))) == {"seed": 2, "data": 2}
assert shape(RunConfig(mesh=MeshConfig(seed=2), checkpoint_epochs=(1.0,))) == {"seed": 2, "data": 1}
assert shape(RunConfig(mesh=MeshConfig(data=2, shard_params=True))) == {"seed": 2, "fsdp": 2}
assert jax.sharding.get_mesh().empty
"""
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=4"
    environment = {**ENVIRONMENT, "XLA_FLAGS": flags}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)


def test_one_process_needs_none_of_it(capsys):
    from diet_jax.experiments.devices import config_mesh

    assert processes.is_writer()
    assert processes.is_alone()
    assert processes.from_writer(lambda: 3) == processes.together(lambda: 3) == 3
    processes.agree(1, "number")
    processes.stop()
    with config_mesh(RunConfig()):
        import jax

        assert jax.sharding.get_mesh().empty


def test_where_a_run_is_computed_is_not_what_it_is():
    old = to_json(RunConfig())
    assert differences(old, to_json(RunConfig(mesh=MeshConfig(2, 3, True))), leaving_out=LOCATIONS) == []
    assert differences(old, to_json(RunConfig(score=ScoreConfig(num_seeds=3))), leaving_out=LOCATIONS) == [
        "score.num_seeds: 3, was 10"
    ]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("a:1", 2, None), "--coordinator, --num-processes without --process-id"),
        ((None, None, 1), "--process-id without --coordinator, --num-processes"),
        (("host", 2, 0), "must be HOST:PORT"),
        ((":80", 2, 0), "must be HOST:PORT"),
        (("host:http", 2, 0), "must be HOST:PORT"),
        (("host:70000", 2, 0), "must be HOST:PORT"),
        (("host:80", 0, 0), "at least 1, got 0"),
        (("host:80", 2, 2), r"0\.\.1 for --num-processes 2, got 2"),
        (("host:80", 2, -1), "got -1"),
    ],
)
def test_flags_that_make_no_sense(flags, message):
    with pytest.raises(InputError, match=message):
        processes.start(*flags)


def test_flags_without_distributed(capsys):
    with pytest.raises(SystemExit) as end:
        main(["run", "--coordinator", "localhost:1"])
    assert end.value.code == 2
    assert "--coordinator without --distributed" in capsys.readouterr().err


def test_a_cluster_that_is_not_there_and_a_port_in_use():
    with socket.socket(socket.AF_INET6) as sock:
        sock.bind(("::", 0))
        sock.listen()
        port = sock.getsockname()[1]
        code = f"""
def fails(*flags):
    try:
        processes.start(*flags)
    except InputError as error:
        return str(error)
if number:
    assert "found no Slurm" in (text := fails()), text
else:
    assert "in use" in (text := fails("localhost:{port}", 2, 0)), text
import os
os._exit(0)  # JAX may crash when Python takes it down half started.
"""
        for returncode, _, error in run_worker(code):
            assert returncode == 0, error


@pytest.mark.slow
def test_a_process_that_nobody_joins_says_so():
    code = """
processes.CONNECT_SECONDS = 2
from diet_jax.devices.supervise import supervised
work = lambda: processes.start("localhost:" + sys.argv[2], 3, number + 1)
sys.exit(supervised(work, verdict_seconds=1, connection="there"))
"""
    for returncode, _, error in run_worker(code):
        assert returncode == supervise.LOST
        assert error.count("\n") == 1
        assert "did not all find each other (there)" in error


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_process_in_native_code_is_stopped_all_the_same(number):
    code = f"""
import os, signal, sys, time
from diet_jax.devices import supervise
supervise.SECONDS_TO_STOP = 0.5
def work():
    signal.signal({int(number)}, signal.SIG_IGN)
    os.kill(os.getppid(), {int(number)})
    time.sleep(60)
sys.exit(supervise.supervised(work, verdict_seconds=1, connection="there"))
"""
    done = subprocess.run([sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 128 + number
    assert done.stderr.startswith(f"diet-jax: stopped by {number.name}; finished work is on disk")


@pytest.mark.parametrize(
    ("listed", "message"),
    [
        ("\n1\n", "process 1 of"),
        ("\n1\n12\n", "processes 1, 12 of"),
        ("\n/job:jax_worker/replica:0/task:4\n", "process 4 of"),
    ],
)
def test_the_message_names_who_was_lost(listed, message):
    fatal = "JAX distributed service detected fatal errors"
    native = f"tasks are unhealthy (stopped sending heartbeats):{listed}The tasks have crashed. {fatal}"
    text, code = supervise.explain(native, signal.SIGABRT, "")
    assert text.startswith(message)
    assert "the same command" in text
    assert code == supervise.LOST
    text, _ = supervise.explain(f"{fatal}\nGRPC error", signal.SIGABRT, "")
    assert text.startswith("process 0 of")
    assert "does not say which" in supervise.explain(fatal, signal.SIGABRT, "")[0]


def supervise_worker(work: str) -> subprocess.Popen:
    code = f"import os, sys, time; from diet_jax.devices.supervise import supervised\ndef work():\n {work}\n"
    code += "sys.exit(supervised(work, verdict_seconds=0.1, connection=''))"
    pipe = functools.partial(subprocess.Popen, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    return pipe([sys.executable, "-c", code], env=ENVIRONMENT)


@pytest.mark.parametrize(
    ("work", "code", "out", "error"),
    [
        ("print('done'); os.write(1, b'noise')", 0, "done\n", ""),
        ("print('bad', file=sys.stderr); sys.exit(2)", 2, "", "bad\n"),
        ("os.write(2, b'last words'); os.abort()", 134, "", "SIGABRT"),
        ("os.write(2, b'last words'); os.abort()", 134, "", "last words"),
        ("os.kill(os.getppid(), 15); time.sleep(60)", 143, "", "SIGTERM"),
        ("raise ValueError('Gloo failed')", 1, "", "ValueError: Gloo failed"),
    ],
)
def test_what_a_child_does_its_parent_says(work, code, out, error):
    process = supervise_worker(work)
    said = process.communicate(timeout=60)
    assert (process.returncode, said[0]) == (code, out)
    assert error in said[1]
    assert bool(error) == bool(said[1])


def test_a_child_hears_ctrl_c_once_and_does_not_outlive_its_parent():
    work = (
        "try: print('up', flush=True); time.sleep(60)\n except KeyboardInterrupt: print('caught'); exit(130)"
    )
    process = supervise_worker(work)
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=60)[0] == "caught\n"
    assert process.returncode == 130
    process = supervise_worker("print(os.getpid(), flush=True); time.sleep(600)")
    assert process.stdout is not None
    process.stdout.readline()
    process.kill()
    # Reading ends when the last writer has gone, which is the child.
    assert process.communicate(timeout=60) == ("", "")
