"""Checkpoints that are damaged, exchanged, missing or too many: refused by name wherever they are read."""

import re
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

import diet_jax as dj
from diet_jax.cli.main import main
from diet_jax.devices.progress import Progress
from diet_jax.experiments.config import DataConfig, ModelConfig
from diet_jax.experiments.reproduction.store import Training, open_store
from diet_jax.experiments.reproduction.task import Task
from diet_jax.experiments.run_folder import RunFolder
from diet_jax.experiments.train_one import trained_network
from diet_jax.training.checkpoint_files import RECORD, verify_checkpoint

OPTIONS = [
    *("--data.num-train", "64", "--model.widths", "4", "--train.steps", "4", "--train.batch-size", "32"),
    *(
        "--score.num-seeds",
        "2",
        "--score.names",
        "el2n",
        "--score.epoch",
        "1",
        "--checkpoint-epochs",
        "1",
        "2",
    ),
]
SEED = Path("checkpoints/score/seed_00")
ANY_OTHER = "retrain/everything/seed_00"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run folder with two scoring networks and one that was retrained, at the steps 2 and 4."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    main(["train", *OPTIONS, "--purpose", "score", "--run-dir", str(folder)])
    main(["train", *OPTIONS, "--run-dir", str(folder)])
    return folder


@pytest.fixture
def run(finished, tmp_path):
    return Path(shutil.copytree(finished, tmp_path / "run"))


def files_of(place):
    return sorted(path for path in place.rglob("*") if path.is_file())


def leaves_of(network):
    state = network.state._replace(key=jax.random.key_data(network.state.key))
    return [np.asarray(leaf) for leaf in jax.tree.leaves(state)]


def flip(path, rng):
    """Turns one bit of a file."""
    content = bytearray(path.read_bytes())
    content[rng.integers(len(content))] ^= 1 << rng.integers(8)
    path.write_bytes(content)


def refused(capsys, *arguments):
    """What the command line says, and that it writes no score."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        main([str(argument) for argument in arguments])
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert "Traceback" not in error
    return error.splitlines()[-1]


def from_run(capsys, run, *options):
    message = refused(capsys, "score", "--from-run", run, "--step", "4", *options)
    assert not (run / "scores").exists()
    return message


@pytest.mark.parametrize("count", [15, pytest.param(200, marks=pytest.mark.slow)])
def test_no_turned_bit_goes_unnoticed(count, run):
    rng, place = np.random.default_rng(count), run / SEED / "4"
    wanted = leaves_of(dj.load_checkpoint(run, seed=0, step=4))
    files = files_of(place)
    assert len(files) > 8
    for number in range(count):
        path = files[number % len(files)]
        content = path.read_bytes()
        flip(path, rng)
        with pytest.raises(dj.InputError) as raised:
            dj.load_checkpoint(run, seed=0, step=4)
        named = f"checkpoint {place} is damaged ({path.relative_to(place)} is not what was written)"
        assert f"{named}; delete the folder {place}" in str(raised.value)
        path.write_bytes(content)
    found = leaves_of(dj.load_checkpoint(run, seed=0, step=4))
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(one, other)


def cut(place):
    path = max(files_of(place), key=lambda path: path.stat().st_size)
    path.write_bytes(path.read_bytes()[:-1])


def copy_over(source, target):
    shutil.rmtree(target)
    shutil.copytree(source, target)


DAMAGES = {
    "turned bit": (lambda run: flip(files_of(run / SEED / "4")[-1], np.random.default_rng(0)), "damaged"),
    "cut file": (lambda run: cut(run / SEED / "4"), "is not what was written"),
    "no file": (
        lambda run: files_of(run / SEED / "4/ocdbt.process_0")[0].unlink(),
        "there is no ocdbt.process",
    ),
    "no record": (lambda run: (run / SEED / "4" / RECORD).unlink(), f"there is no {RECORD}"),
    "one more file": (lambda run: (run / SEED / "4/d/more").write_text(""), "d/more is no part of it"),
    "step renamed": (lambda run: copy_over(run / SEED / "2", run / SEED / "4"), "holds step 2, not 4"),
    "other seed": (lambda run: copy_over(run / SEED.parent / "seed_01", run / SEED), "to another training"),
    "retrained": (
        lambda run: copy_over(run / "checkpoints" / ANY_OTHER, run / SEED),
        "unit: score/seed_00, was",
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
@pytest.mark.slow
def test_every_way_in_refuses(name, run, capsys):
    damage, words = DAMAGES[name]
    damage(run)
    place = run / SEED / "4"
    with pytest.raises(dj.InputError, match=words) as raised:
        dj.load_checkpoint(run, seed=0, step=4)
    messages = [
        str(raised.value),
        from_run(capsys, run),
        refused(capsys, "train", *OPTIONS, "--purpose", "score", "--run-dir", run),
    ]
    for message in messages:
        assert words in message
        assert f"{place}" in message
    # What the message says to do.
    shutil.rmtree(place)
    if "training" in words or "was" in words:
        shutil.rmtree(place.parent)
    main(["train", *OPTIONS, "--purpose", "score", "--run-dir", str(run)])
    main(["score", "--from-run", str(run), "--step", "4"])


def test_what_deleting_leads_to_is_the_same_training(run, finished):
    wanted = leaves_of(dj.load_checkpoint(finished, seed=0, step=4))
    shutil.rmtree(run / SEED / "4")
    main(["train", *OPTIONS, "--purpose", "score", "--run-dir", str(run)])
    for one, other in zip(leaves_of(dj.load_checkpoint(run, seed=0, step=4)), wanted, strict=True):
        np.testing.assert_array_equal(one, other)
    facts = verify_checkpoint(run / SEED / "4")
    assert (facts["step"], facts["unit"], facts["keep"]) == (4, "score/seed_00", None)
    assert facts["key"] == jax.random.key_data(dj.seed_keys(0, "score", 1)[0]).tolist()


def link_first(run):
    shutil.rmtree(run / SEED.parent / "seed_01")
    (run / SEED.parent / "seed_01").symlink_to(run / SEED, target_is_directory=True)


SEEDS = {
    "missing": (
        lambda place: shutil.rmtree(place / "seed_01"),
        "without checkpoints: seed_01; make them with",
    ),
    "backup": (
        lambda place: shutil.copytree(place / "seed_00", place / "seed_00.bak"),
        "no seed.*: seed_00.bak",
    ),
    "one more": (lambda place: shutil.copytree(place / "seed_00", place / "seed_02"), "no seed.*: seed_02"),
    "power of two": (lambda place: (place / "seed_01").rename(place / "seed_²"), "seed_01;.*: seed_²"),
    "no step": (lambda place: shutil.rmtree(place / "seed_01/4"), "no checkpoint of step 4 .*steps there: 2"),
    "step ²": (lambda place: (place / "seed_01/4").rename(place / "seed_01/²"), "steps there: 2$"),
    "link": (lambda place: link_first(place.parents[1]), r"seed_01 .*seed_00, .*delete the link"),
}


@pytest.mark.parametrize("name", SEEDS)
def test_seeds_are_those_of_the_config_each_once(name, run, capsys):
    change, words = SEEDS[name]
    change(run / SEED.parent)
    assert re.search(words, from_run(capsys, run))


def test_a_link_to_another_seed_is_that_other_seed(run):
    link_first(run)
    with pytest.raises(dj.InputError, match=r"to another training .*unit: score/seed_01, was score/seed_00"):
        dj.load_checkpoint(run, seed=1, step=4)


def test_a_score_is_named_once(run, capsys):
    assert "el2n is asked for more than once" in from_run(capsys, run, "--names", "el2n", "el2n")


def test_a_folder_that_is_no_step_is_none(run):
    (run / SEED / "²").mkdir()
    (run / SEED / "04").mkdir()
    main(["train", *OPTIONS, "--purpose", "score", "--run-dir", str(run)])
    main(["score", "--from-run", str(run), "--step", "4"])
    file = dj.ScoreFile.load(run / "scores/step_4/el2n.npz")
    assert (file.per_seed.shape, file.provenance["seeds"]) == ((2, 64), 2)


TASK = Task(
    DataConfig("digits", num_train=64),
    ModelConfig("mlp", widths=(4,)),
    dj.TrainConfig(steps=4, batch_size=32, augment="none"),
)


def test_the_store_refuses_what_is_damaged_or_exchanged(tmp_path):
    with open_store(tmp_path, None) as store:
        one, other = Training(TASK, "score", 0), Training(TASK, "score", 1)
        child, later = (Training(TASK, "child", 0, parent=(0, step)) for step in (1, 2))
        for training in (one, other, child, later):
            store.state(training, 3)
        places = {t: store._folder(t).path / "checkpoints" / "3" for t in (one, other, child, later)}
        for training, source in ((one, other), (child, later)):
            copy_over(places[source], places[training])
            with pytest.raises(dj.InputError, match="belongs to another training") as raised:
                store.state(training, 3)
            assert str(places[training]) in str(raised.value)
        # A child of a parent that is damaged.
        flip(files_of(store._folder(one).path / "checkpoints" / "2")[-1], np.random.default_rng(1))
        with pytest.raises(dj.InputError, match="is damaged"):
            store.state(Training(TASK, "child", 1, parent=(0, 2)), 3)


def test_an_unfinished_training_goes_on_from_what_was_written_alone(tmp_path):
    folder, key = tmp_path / "run", dj.seed_keys(0, "score", 1)[0]
    folder.mkdir()
    options = {"stop": 2, "save": (), "goes_on": True, "progress": Progress("", quiet=True)}
    with open_store(tmp_path / "store", None) as store:
        setup = store.setup(TASK)
        with trained_network(setup, RunFolder(folder), "unit", key, **options):
            pass
        place = folder / "unfinished" / "unit" / "2"
        mask = np.ones(64, bool)
        with (
            pytest.raises(dj.InputError, match=r"belongs to another training \(keep: .*, was None"),
            trained_network(setup, RunFolder(folder), "unit", key, keep=mask, **options),
        ):
            pass
        flip(files_of(place)[-1], np.random.default_rng(1))
        with (
            pytest.raises(dj.InputError, match=f"{place} is damaged"),
            trained_network(setup, RunFolder(folder), "unit", key, **options),
        ):
            pass
