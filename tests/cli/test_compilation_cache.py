"""Programs on disk: a second start compiles nothing, and nothing that befalls them changes a result."""

import hashlib
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import jax
import numpy as np
import pytest

from diet_jax.cli.compilation_cache import DIGEST_BYTES, ProgramStore, machine_name

pytestmark = pytest.mark.skipif(
    jax.__version_info__ < (0, 10, 2), reason="no programs are kept with this jax"
)

ROOT = Path(__file__).parents[2]
COMMAND = """
import json, sys
from collections import Counter
import jax
counts = Counter()
jax.monitoring.register_event_listener(lambda event, **_: counts.update([event.rsplit("/", 1)[-1]]))
{body}
print("COUNTS", json.dumps(counts))
"""
MAIN = "from diet_jax.cli.main import main; main(sys.argv[1:])"
SMALL = ["--model.widths", "8", "--train.steps", "20", "--score.epoch", "0.5", "--score.num-seeds", "2"]
RUN = ["run", *SMALL, "--retrain.num-seeds", "2", "--select.fractions", "0.5", "--run-dir"]
SCORE = ["score", *SMALL, "--score.names", "el2n", "--run-dir"]
IMAGES = """
import numpy as np
import diet_jax as dj
from diet_jax.data.dataset import Dataset, Splits
from diet_jax.data.sources.source import SOURCES, Source
from diet_jax.experiments.config import DataConfig, RunConfig, ScoreConfig


def load(*, data_dir, cache_dir, quiet):
    rng = np.random.default_rng(0)

    def split(name, count, normalization=None):
        images = rng.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
        about = {"class_names": tuple("0123456789"), "split": name, "normalization": normalization}
        return Dataset.from_arrays(images, np.arange(count) % 10, **about)

    train = split("train", 24)
    return Splits(train, split("test", 10, train.normalization))


SOURCES.register(Source(name="few", about="random images", load=load))
CONFIG = RunConfig(
    data=DataConfig(name="few"),
    train=dj.TrainConfig(epochs=2, batch_size=8),
    score=ScoreConfig(epoch=1, num_seeds=1),
)
"""


class Child:
    """A process with the command's cache of programs in a folder of its own."""

    def __init__(self, cache: Path, *arguments: str, body: str = MAIN, **variables: str):
        environment = {k: v for k, v in os.environ.items() if not k.startswith("JAX_ENABLE_COMPILATION")}
        environment |= {"DIET_JAX_CACHE": str(cache), "PYTHONPATH": str(ROOT), **variables}
        self.process = subprocess.Popen(
            [sys.executable, "-c", COMMAND.format(body=body), *map(str, arguments)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def done(self) -> "Child":
        self.out, self.err = self.process.communicate()
        assert self.process.returncode == 0, self.err
        lines = self.out.splitlines()
        self.counts = Counter(json.loads(lines[-1].removeprefix("COUNTS ")))
        return self

    @property
    def asked(self) -> tuple[int, int, int]:
        """Programs that were needed, found and compiled."""
        names = ("compile_requests_use_cache", "cache_hits", "cache_misses")
        return tuple(self.counts[name] for name in names)


def programs(cache: Path) -> list[Path]:
    return sorted((cache / "programs").glob("*/*"))


def is_whole(path: Path) -> bool:
    content = path.read_bytes()
    return hashlib.sha256(content[DIGEST_BYTES:]).digest() == content[:DIGEST_BYTES]


def results(run: Path) -> dict[str, bytes]:
    """Everything that a run found, to the last bit: its table and each array of each file."""
    found = {path.name: path.read_bytes() for path in run.glob("table.csv")}
    for path in sorted(run.rglob("*.npz")):
        with np.load(path) as stored:
            names = [name for name in stored.files if name != "header"]  # It names the folder.
            found |= {f"{path.relative_to(run)}:{name}": stored[name].tobytes() for name in names}
    return found


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """A first start, with its cache folder and what it found."""
    folder = tmp_path_factory.mktemp("first")
    child = Child(folder / "cache", *RUN, folder / "run").done()
    return folder / "cache", child, results(folder / "run")


def test_the_first_start_keeps_every_program_and_says_where(first):
    cache, child, _ = first
    needed, found, compiled = child.asked
    assert (needed, found, compiled) == (len(programs(cache)), 0, needed)
    assert needed > 10
    assert all(is_whole(path) for path in programs(cache))
    assert not cache.joinpath("programs").stat().st_mode & 0o077
    (line,) = [line for line in child.err.splitlines() if "programs" in line]
    assert line.startswith(f"compiled programs are kept in {cache / 'programs' / machine_name()}; --no-comp")


@pytest.mark.slow
def test_the_second_start_compiles_nothing_and_finds_the_same(first, tmp_path):
    cache, child, found = first
    again = Child(cache, *RUN, tmp_path / "run").done()
    assert again.asked == (child.asked[0], child.asked[0], 0)
    assert results(tmp_path / "run") == found
    assert len(found) > 10


@pytest.mark.slow
def test_without_the_cache_the_same_is_found(first, tmp_path):
    child = Child(tmp_path / "cache", *RUN, tmp_path / "run", "--no-compilation-cache").done()
    assert child.asked == (0, 0, 0)
    assert not programs(tmp_path / "cache")
    assert "compiled programs" not in child.err
    assert results(tmp_path / "run") == first[2]


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    """Two first starts at the same time, with their cache folder and what one of them found."""
    folder = tmp_path_factory.mktemp("scored")
    children = [Child(folder / "cache", *SCORE, folder / run) for run in "ab"]
    assert not [child.err for child in children if "warning" in child.done().err]
    found, other = (results(folder / run) for run in "ab")
    assert found == other != {}
    return folder / "cache", children[0].asked[0], found


@pytest.mark.slow
def test_two_first_starts_at_once_keep_whole_programs(scored):
    cache, needed, _ = scored
    assert len(programs(cache)) == needed
    assert all(is_whole(path) for path in programs(cache))


@pytest.mark.slow
def test_damaged_programs_are_compiled_again_and_replaced(scored, tmp_path):
    cache, needed, found = scored
    whole = {path: path.read_bytes() for path in programs(cache)}
    for number, (path, content) in enumerate(whole.items()):
        middle = (DIGEST_BYTES + len(content)) // 2
        flipped = content[:middle] + bytes([content[middle] ^ 16]) + content[middle + 1 :]
        # Cut, empty, one bit another, or whole but no program.
        garbage = b"of a later version"
        damaged = [content[:-1], b"", flipped, hashlib.sha256(garbage).digest() + garbage]
        path.write_bytes(damaged[number % 4])
    again = Child(cache, *SCORE, tmp_path / "run").done()
    assert again.asked == (needed, 0, needed)
    assert results(tmp_path / "run") == found
    assert again.err.count("is damaged") == again.err.lower().count("warning") == 1
    assert all(is_whole(path) and path.stat().st_size > 1000 for path in whole)
    assert Child(cache, *SCORE, tmp_path / "again").done().asked == (needed, needed, 0)


@pytest.mark.slow
@pytest.mark.parametrize(
    "network",
    [
        ("--model.name", "small_cnn", "--model.widths", "4", "4"),
        pytest.param(("--model.name", "resnet18", "--model.width", "2"), marks=pytest.mark.slow),
    ],
    ids=lambda network: network[1],
)
def test_a_second_scoring_takes_as_many_at_a_time_and_compiles_nothing(network, tmp_path):
    config = tmp_path / "few.py"
    config.write_text(IMAGES)
    options = ("score", config, *network, "--run-dir")
    one, two = (Child(tmp_path / "cache", *options, tmp_path / name).done() for name in "ab")
    assert one.asked[1:] == (0, one.asked[0])
    assert two.asked == (one.asked[0], one.asked[0], 0)
    sizes = [[line for line in child.err.splitlines() if "at a time" in line] for child in (one, two)]
    assert sizes[0] == sizes[1] != []
    assert results(tmp_path / "a") == results(tmp_path / "b") != {}


ON = "from diet_jax.cli.compilation_cache import keep_programs; keep_programs(wanted=True)\n"
ONE = "jax.block_until_ready(jax.jit(lambda x: 3 * x, donate_argnums=0)(jax.numpy.ones(100)))"
SIZES = """
from diet_jax.devices.memory import program_bytes, temporary_bytes
lowered = jax.jit(lambda x, y: (y @ y, x + 1), donate_argnums=0).lower(*jax.numpy.ones((2, 40, 40)))
compiled = lowered.compile()
print("SIZES", program_bytes(compiled), temporary_bytes(compiled), compiled.memory_analysis())
"""


@pytest.mark.slow
def test_a_program_that_was_read_tells_its_memory(tmp_path):
    one, two = (Child(tmp_path, body=ON + SIZES).done() for _ in range(2))
    assert two.counts["cache_misses"] == 0 < two.counts["cache_hits"]
    lines = [[line for line in child.out.splitlines() if line.startswith("SIZES")] for child in (one, two)]
    assert lines[0] == lines[1]
    assert "alias_size_in_bytes=6400" in lines[0][0]


@pytest.mark.slow
def test_importing_the_package_keeps_nothing(tmp_path):
    imports = "import diet_jax.cli.compilation_cache; from diet_jax import score_ensemble\n"
    child = Child(tmp_path, body=imports + ONE).done()
    assert child.asked[1:] == (0, 0)
    assert not programs(tmp_path)
    assert child.err == ""


@pytest.mark.parametrize(
    ("variables", "in_folder"),
    [
        ({"JAX_COMPILATION_CACHE_DIR": "own"}, True),
        pytest.param({"JAX_ENABLE_COMPILATION_CACHE": "0"}, False, marks=pytest.mark.slow),
    ],
)
def test_what_the_user_has_set_is_respected(tmp_path, variables, in_folder):
    own = tmp_path / "own"
    variables = {name: str(own) if value == "own" else value for name, value in variables.items()}
    child = Child(
        tmp_path / "cache", body=ON + ONE, JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS="0", **variables
    ).done()
    assert child.err == ""
    assert not programs(tmp_path / "cache")
    assert own.exists() == in_folder == any(own.glob("*-cache"))


@pytest.mark.slow
def test_a_setting_of_the_users_stays_beside_the_commands_own(tmp_path):
    child = Child(tmp_path, body=ON + ONE, JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS="1000").done()
    assert child.asked[0] > 0
    assert not programs(tmp_path)


@pytest.mark.slow
def test_a_command_that_compiles_nothing_says_nothing(tmp_path):
    child = Child(tmp_path / "cache", "reproduce").done()
    assert "compiled programs" not in child.err
    assert not (tmp_path / "cache").exists()


@pytest.mark.slow
def test_with_several_processes_nothing_is_kept(tmp_path):
    several = "import diet_jax.cli.compilation_cache as cache; cache.is_alone = lambda: False\n"
    child = Child(tmp_path, body=several + ON + ONE).done()
    assert child.asked[1:] == (0, 0)
    assert not programs(tmp_path)
    assert child.err == ""


@pytest.mark.slow
def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    child = Child(tmp_path / "file", body=ON + ONE).done()
    assert child.err.startswith("warning: compiled programs are not kept: ")
    assert child.err.count("\n") == 1


@pytest.mark.parametrize(
    "change",
    [
        "jax.__version_info__ = (0, 10, 1)\n",
        pytest.param("del jax._src.compilation_cache.get_file_cache\n", marks=pytest.mark.slow),
    ],
)
def test_a_jax_that_does_it_another_way_is_one_line(tmp_path, change):
    child = Child(tmp_path, body=change + ON + ONE).done()
    assert child.err == f"warning: compiled programs are not kept with jax {jax.__version__}\n"
    assert not programs(tmp_path)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "getuid"), reason="no such permissions here")
def test_a_folder_that_others_may_write_to_is_not_trusted(tmp_path):
    (tmp_path / "programs").mkdir()
    (tmp_path / "programs").chmod(0o777)
    child = Child(tmp_path, body=ON + ONE).done()
    assert f"others may write to {tmp_path / 'programs'}" in child.err
    assert not programs(tmp_path)


def test_a_store_gives_back_what_it_was_given(tmp_path):
    store = ProgramStore(tmp_path, tmp_path, -1)
    assert store.get("f-1") is None
    store.put("f-1", b"one")
    store.put("f-2", b"two")
    store.put("f-1", b"new")
    assert (store.get("f-1"), store.get("f-2"), store.get("f-3")) == (b"new", b"two", None)
    long = "f" * 1000
    store.put(f"{long}-1", b"long")
    assert (store.get(f"{long}-1"), store.get(f"{long}-2")) == (b"long", None)


@pytest.mark.parametrize("change", ["flip", "cut", "longer"])
def test_no_damaged_byte_is_handed_out(tmp_path, change, capsys):
    store = ProgramStore(tmp_path, tmp_path, -1)
    store.put("f-1", b"machine code")
    content = (tmp_path / "f-1").read_bytes()
    for place in range(len(content)):
        damaged = {
            "flip": content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :],
            "cut": content[:place],
            "longer": content + b"\0" * (place + 1),
        }
        (tmp_path / "f-1").write_bytes(damaged[change])
        assert store.get("f-1") is None
        assert not (tmp_path / "f-1").exists()
    assert capsys.readouterr().err.count("warning") == 1


def test_the_least_used_programs_go_when_the_folders_are_full(tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here, there):
        folder.mkdir()
    size = DIGEST_BYTES + 100
    store, other = (ProgramStore(folder, tmp_path, 10 * size) for folder in (here, there))

    def age():
        """Time goes by: all files become a second older."""
        for path in tmp_path.glob("*/*"):
            then = path.stat().st_mtime_ns - 10**9
            os.utime(path, ns=(then, then))

    for number in range(10):
        (other if number < 3 else store).put(f"f-{number}", bytes(100))
        age()
    assert other.get("f-1") == bytes(100)  # Was the least used but one.
    age()
    fresh = ProgramStore(here, tmp_path, 10 * size)
    fresh.put("f-10", bytes(100))
    left = {path.name for path in tmp_path.glob("*/*")}
    # Room for the new one and a tenth more.
    assert left == {f"f-{number}" for number in (1, *range(3, 11))}
    for number in range(11, 40):
        fresh.put(f"f-{number}", bytes(100))
        assert sum(path.stat().st_size for path in tmp_path.glob("*/*")) <= 10 * size
    fresh.put("huge", bytes(11 * size))
    assert fresh.get("huge") is None


def test_a_full_disk_is_one_line_and_reading_goes_on(tmp_path, monkeypatch, capsys):
    store = ProgramStore(tmp_path, tmp_path, -1)
    store.put("f-1", b"one")

    def full(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    store.put("f-2", b"two")
    store.put("f-3", b"three")
    assert store.get("f-1") == b"one"
    assert [path.name for path in tmp_path.iterdir()] == ["f-1"]
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "No space left" in error


CPUINFO = """processor\t: 0
vendor_id\t: GenuineIntel
cpu family\t: 6
model\t\t: 85
cpu MHz\t\t: 2300.0
flags\t\t: fpu avx2 avx512f

processor\t: 1
cpu MHz\t\t: 2100.0
"""


def test_other_processors_have_other_folders(tmp_path):
    def name(text):
        path = tmp_path / str(len(list(tmp_path.iterdir())))
        path.write_text(text)
        return machine_name(path)

    ours = name(CPUINFO)
    assert name(CPUINFO.replace("2300.0", "800.0")) == ours
    others = [CPUINFO.replace(a, b) for a, b in ((" avx512f", ""), (": 85", ": 106"), ("Intel", "Other"))]
    assert len({ours, *map(name, others), machine_name(tmp_path / "none")}) == 5
    assert ours.split("-")[0] == machine_name().split("-")[0]
