"""Writers get the records of metrics.jsonl: all, once, in their order; and none stops a run."""

import json
import struct
import sys
from datetime import datetime
from types import ModuleType, SimpleNamespace

import pytest

import diet_jax as dj
from diet_jax.experiments.run_folder import RunFolder
from diet_jax.experiments.writers.writer import ABOUT, WRITERS, RecordWriter, Writer, opened

CONFIG = {"seed": 0}


@pytest.fixture(scope="module")
def logged(tmp_path_factory):
    """A small run with TensorBoard beside its log."""
    pytest.importorskip("tensorboardX", reason="tensorboardX is not installed: diet_jax[tensorboard]")
    folder = tmp_path_factory.mktemp("logged") / "run"
    config = dj.RunConfig(
        train=dj.TrainConfig(steps=40, batch_size=32, augment="none"),
        score=dj.ScoreConfig(epoch=0.5, num_seeds=1, names=("el2n",)),
        select=dj.SelectConfig(fractions=(0.5,)),
        retrain=dj.RetrainConfig(num_seeds=2),
        run_dir=str(folder),
    )
    dj.run(config, writers=("tensorboard",))
    return folder, config


def events(folder):
    """The events of all files, read as TFRecords by hand: length, its checksum, content, its checksum."""
    from tensorboardX.proto import event_pb2

    for file in sorted(folder.glob("events.*")):
        content, place = file.read_bytes(), 0
        while place < len(content):
            (length,) = struct.unpack_from("<Q", content, place)
            yield event_pb2.Event.FromString(content[place + 12 : place + 12 + length])
            place += 16 + length


def scalars(folder):
    return [
        (value.tag, event.step, value.simple_value, event.wall_time)
        for event in events(folder)
        for value in event.summary.value
        if value.HasField("simple_value")
    ]


def numbers_of(records):
    for record in records:
        when = datetime.fromisoformat(record["time"]).timestamp()
        for name, value in record.items():
            if name not in ABOUT and isinstance(value, (int, float)):
                yield f"{record['unit']}/{name}", record.get("step", 0), pytest.approx(value), when


def test_tensorboard_has_every_number_of_the_log(logged):
    folder, _ = logged
    records = RunFolder(folder).metrics()
    assert len(records) > 8
    assert scalars(folder / "writers/tensorboard") == list(numbers_of(records))


def test_a_run_with_writers_can_be_continued_and_verified(logged, capsys):
    from diet_jax.cli.main import main

    folder, config = logged
    before = len(scalars(folder / "writers/tensorboard"))
    dj.run(config, writers=("tensorboard",))
    records = RunFolder(folder).metrics()
    # What was there is not written again; what is logged now is.
    found = scalars(folder / "writers/tensorboard")
    assert len(found) > before
    assert found == list(numbers_of(records))
    main(["verify", str(folder), "--examples", "0", "--quiet"])
    assert capsys.readouterr().out.split() == [str(folder)]


class Wandb(ModuleType):
    """What wandb's documentation shows: init, and of a run define_metric, log, finish and dir."""

    def __init__(self) -> None:
        super().__init__("wandb")
        self.__spec__ = SimpleNamespace(name="wandb", loader=None, origin="here")
        self.calls: list = []

    def init(self, *, project, mode, id, resume, name, config):
        self.calls.append(("init", project, mode, id, resume, name, config))
        return self

    dir = "wandb/offline-run"

    def define_metric(self, name, step_metric=None):
        self.calls.append(("define", name, step_metric))

    def log(self, values):
        self.calls.append(("log", values))

    def finish(self):
        self.calls.append(("finish",))


RECORDS = [
    {"unit": "score/seed_00", "step": 3, "epoch": 1.0, "loss": 0.5, "time": "2026-01-01T00:00:00+0000"},
    {"unit": "score/seed_00", "step": 6, "epoch": 2.0, "loss": 0.4, "time": "2026-01-01T00:00:01+0000"},
    {"unit": "stage/scoring", "seconds": 2.0, "time": "2026-01-01T00:00:02+0000"},
]


def test_wandb_gets_each_unit_against_its_own_steps(tmp_path, monkeypatch):
    module = Wandb()
    monkeypatch.setitem(sys.modules, "wandb", module)
    for name in ("WANDB_MODE", "WANDB_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    with opened(["wandb"], tmp_path, CONFIG, lambda: RECORDS[:1]) as write:
        for record in RECORDS[1:]:
            write(record)
    first, *calls = module.calls
    assert first[:3] == ("init", "diet_jax", "offline")
    assert first[4:] == ("allow", tmp_path.name, CONFIG)
    unit = "score/seed_00"
    assert calls == [
        ("define", f"{unit}/step", None),
        ("define", f"{unit}/*", f"{unit}/step"),
        ("log", {f"{unit}/epoch": 1.0, f"{unit}/loss": 0.5, f"{unit}/step": 3}),
        ("log", {f"{unit}/epoch": 2.0, f"{unit}/loss": 0.4, f"{unit}/step": 6}),
        ("log", {"stage/scoring/seconds": 2.0}),
        ("finish",),
    ]
    # The same run goes on, and what was logged before is not logged again.
    module.calls.clear()
    with opened(["wandb"], tmp_path, CONFIG, lambda: RECORDS) as write:
        write(RECORDS[2])
    assert module.calls[0][3] == first[3]
    assert [call[0] for call in module.calls] == ["init", "log", "finish"]


class Failing(RecordWriter):
    def __init__(self) -> None:
        self.got = []

    def write(self, record):
        self.got.append(record)
        raise ConnectionError("no server")

    def close(self):
        raise AssertionError("it was left out")


def test_a_writer_that_fails_is_left_out_and_the_run_goes_on(tmp_path, monkeypatch, capsys):
    failing = Failing()
    monkeypatch.setitem(WRITERS._items, "failing", Writer("failing", "json", "none", lambda *_: failing))
    with opened(["failing"], tmp_path, CONFIG, list) as write:
        for record in RECORDS:
            write(record)
    assert failing.got == RECORDS[:1]
    assert capsys.readouterr().err.count("failing is left out from here on: ConnectionError: no server") == 1


def test_a_file_where_its_folder_should_be_leaves_a_writer_out(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(WRITERS._items, "failing", Writer("failing", "json", "none", lambda *_: Failing()))
    (tmp_path / "writers").mkdir()
    (tmp_path / "writers/failing").write_text("")
    with opened(["failing"], tmp_path, CONFIG, list) as write:
        write(RECORDS[0])
    assert "failing is left out from here on: FileExistsError" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["nothing"], "no writer is called 'nothing'"),
        (["tensorboard", "tensorboard"], "once each"),
        (["absent"], r"needs the package no_such_package: pip install 'diet_jax\[extra\]'"),
    ],
)
def test_what_cannot_write_is_refused_before_anything_is_done(names, said, tmp_path, monkeypatch):
    monkeypatch.setitem(
        WRITERS._items, "absent", Writer("absent", "no_such_package", "extra", lambda *_: None)
    )
    with pytest.raises(dj.InputError, match=said):
        dj.run(dj.RunConfig(run_dir=str(tmp_path / "run")), writers=names)
    assert not (tmp_path / "run").exists()


def test_the_command_line_knows_their_names(capsys):
    from diet_jax.cli.main import main

    with pytest.raises(SystemExit):
        main(["run", "--writers", "tensorbord"])
    assert "'tensorboard', 'wandb'" in capsys.readouterr().err


def test_records_are_those_of_the_file(tmp_path):
    """What a writer gets is what the line says, without what makes it a line."""
    folder, got = RunFolder(tmp_path), []
    folder.also = got.append
    folder.log("stage/scoring", seconds=1.5)
    (line,) = (tmp_path / "metrics.jsonl").read_text().splitlines()
    values = json.loads(line)
    assert got == [{name: values[name] for name in ("unit", "seconds", "time")}]
    assert got == folder.metrics()
