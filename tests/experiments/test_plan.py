"""`diet-jax run --plan`: counts and bytes against closed forms and against what a run really does."""

import dataclasses

import jax
import numpy as np
import pytest

from diet_jax.cli import main as cli
from diet_jax.data.published import PUBLISHED
from diet_jax.data.sources import load_dataset
from diet_jax.ensemble.scoring import score_function
from diet_jax.errors import InputError
from diet_jax.experiments import calibration
from diet_jax.experiments import plan as plan_module
from diet_jax.experiments.config import (
    DataConfig,
    ModelConfig,
    RetrainConfig,
    RunConfig,
    ScoreConfig,
    SelectConfig,
)
from diet_jax.experiments.operations import example_flops, nbytes, state_shapes, step_flops
from diet_jax.experiments.plan import count_checkpoints, count_programs, plan_run, setup_to_plan, trainings
from diet_jax.experiments.plan_table import bytes_text, duration
from diet_jax.experiments.prune import run_prune
from diet_jax.experiments.setup import prepare
from diet_jax.models import create_model
from diet_jax.training.recipe import TrainConfig

WIDTH = 24
SMALL = RunConfig(
    data=DataConfig(num_train=500),
    model=ModelConfig(widths=(WIDTH,)),
    train=TrainConfig(epochs=2, batch_size=20, learning_rate=0.05, augment="none"),
    score=ScoreConfig(epoch=1, num_seeds=2),
    select=SelectConfig(fractions=(0.5, 0.7)),
    retrain=RetrainConfig(num_seeds=2),
)
ONE_BY_ONE = dataclasses.replace(
    SMALL, score=ScoreConfig(epoch=1, num_seeds=2, how="loop"), retrain=RetrainConfig(2, how="loop")
)
EQUAL_EPOCHS = dataclasses.replace(ONE_BY_ONE, train=dataclasses.replace(SMALL.train, budget="equal_epochs"))
PARAMETERS = 64 * WIDTH + WIDTH + WIDTH * 10 + 10


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


def test_the_plan_of_a_small_network_in_closed_form():
    plan = plan_run(SMALL, seconds=0.2)
    names = [stage.name for stage in plan.stages]
    assert names == [
        "scoring: train to epoch 1",
        "scoring: el2n",
        "scoring: grand",
        "retraining: everything",
        "retraining: keep 0.5",
        "retraining: keep 0.7",
        "retraining: judge on the test split",
    ]
    assert [stage.networks for stage in plan.stages] == [2, 2, 2, 2, 6, 6, 14]
    # Two epochs, scored after one.
    shares = [stage.flops / plan.one_training for stage in plan.stages]
    np.testing.assert_allclose([shares[0], *shares[3:6]], [2 * 0.5, 2, 6, 6])
    assert plan.memory.parameters == 4 * PARAMETERS
    # Momentum of each parameter, and a count of steps.
    assert plan.memory.optimizer == 4 * PARAMETERS + 4
    assert plan.memory.dataset == (500 + 719) * (64 + 4) + 2 * 2 * 4
    assert plan.memory.temporaries > 0
    assert plan.memory.total < plan.memory.limit
    assert all(stage.seconds > 0 for stage in plan.stages)
    assert plan.compile_seconds > 0
    assert plan.seconds == pytest.approx(sum(stage.seconds for stage in plan.stages) + plan.compile_seconds)
    assert plan.checkpoints == 0
    assert plan.notes == ()


@pytest.mark.parametrize("width", [24, 400])
def test_operations_are_those_of_the_matrix_products(width):
    """A product of `[b i]` and `[i o]` is 2 b i o operations; biases, relu, softmax and update on top."""
    config = dataclasses.replace(SMALL, model=ModelConfig(widths=(width,)))
    setup = prepare(config)
    forward = 2 * (64 * width + width * 10)
    # Backward: the gradients of both kernels, and of the hidden layer.
    products = 20 * (2 * forward + 2 * width * 10)
    elementwise = 20 * 10 * (64 + width + 10) + 12 * (74 * width + 10)
    assert products <= step_flops(setup) <= products + elementwise
    per_example = example_flops(score_function("el2n", setup.model), setup, setup.splits.train)
    assert forward <= per_example <= forward + 10 * (width + 10)


def test_a_training_state_in_bytes():
    setup = prepare(SMALL)
    # Parameters and momentum, each step's count twice, the key, and for each example two counts and a flag.
    state = state_shapes(setup)
    forgetting = nbytes(state.forgetting)
    assert nbytes(state) == 2 * 4 * PARAMETERS + 4 + 4 + 8 + forgetting
    assert forgetting == sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state.forgetting))


def test_checkpoints_are_counted_as_they_are_saved(tmp_path):
    config = dataclasses.replace(
        SMALL,
        checkpoint_epochs=(0, 1, 2),
        score=dataclasses.replace(SMALL.score, names=("el2n",)),
        select=SelectConfig(fractions=(0.5,)),
        retrain=RetrainConfig(num_seeds=1),
        run_dir=str(tmp_path / "run"),
    )
    planned = count_checkpoints(prepare(config))
    # Scoring stops after the second of three; each of the three retrainings saves all.
    assert planned == 2 * 2 + 3 * 3
    run_prune(config)
    steps = [p for p in (tmp_path / "run/checkpoints").rglob("*") if p.name.isdigit()]
    assert len(steps) == planned


WHAT = {
    "jit(init_state)": "initialise",
    "jit(batch_rows)": "draw batches",
    "jit(train_steps)": "train",
    "jit(train_step)": "train",
    "jit(score_program)": "score an ensemble",
    "jit(train_program)": "retrain an ensemble",
    "jit(mapped_batches)": "by chunks",
}


@pytest.mark.parametrize(
    "config",
    [pytest.param(SMALL, marks=pytest.mark.slow), EQUAL_EPOCHS],
    ids=["together", "one by one"],
)
def test_a_run_compiles_the_programs_of_its_plan(config, tmp_path, compiled_names):
    planned = count_programs(prepare(config))
    jax.clear_caches()
    compiled_names.clear()
    run_prune(dataclasses.replace(config, run_dir=str(tmp_path / "run")))
    done = [WHAT[name] for name in compiled_names if name in WHAT]
    chunks = sum(count for name, count in planned.items() if name == "judge" or name.startswith("score by"))
    expected = {name: n for name, n in planned.items() if name != "judge" and not name.startswith("score by")}
    if chunks:
        expected["by chunks"] = chunks
    assert {name: done.count(name) for name in set(done)} == expected


def test_the_command_prints_tables_and_leaves_no_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plan_module, "CALIBRATION_SECONDS", 0.1)
    options = ["--data.num-train", "200", "--train.epochs", "2", "--train.batch-size", "20"]
    options += ["--score.epoch", "1", "--select.fractions", "0.5", "--model.widths", "8"]
    options += ["--score.how", "loop", "--retrain.how", "loop"]
    cli.main(["run", "--plan", *options])
    shown = capsys.readouterr().out
    for text in ("retraining: keep 0.5", "compiling", "total", "free now", "programs:", "checkpoints: none"):
        assert text in shown
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "options",
    [
        ["--score.epoch", "50"],
        ["--data.name", "folder:nowhere"],
        ["--data.name", "cifar1"],
        ["--train.batch-size", "2000"],
        ["--select.fractions", "0.01"],
    ],
)
def test_bad_configs_are_refused_as_a_run_refuses_them(options, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    messages = []
    for flags in ([], ["--plan"]):
        with pytest.raises(SystemExit) as stopped:
            cli.main(["run", *flags, *options])
        assert stopped.value.code == 2
        messages.append(capsys.readouterr().err)
    assert messages[0] == messages[1]


@pytest.mark.parametrize("name", ["cifar10", "imagenet2012", "cinic10"])
def test_data_that_is_not_on_disk_is_planned_by_its_published_sizes(name, tmp_path):
    config = dataclasses.replace(SMALL, data=DataConfig(name=name, data_dir=str(tmp_path)))
    setup, notes = setup_to_plan(config)
    train, test = setup.splits
    sizes = PUBLISHED[name]
    assert (len(train), len(test), train.num_classes) == sizes[:3]
    assert train.image_shape == sizes.image_shape
    assert "not on disk; sizes as published" in notes[0]
    assert setup.per_epoch == sizes.train // 20
    assert not train.images[[0, -1]].any()
    assert list(trainings(setup))[1][2] == round(0.5 * sizes.train)
    other = dataclasses.replace(SMALL, data=DataConfig(name="kmnist", data_dir=str(tmp_path)))
    with pytest.raises(InputError, match="not prepared"):
        setup_to_plan(other)


def test_the_plan_of_data_that_is_not_on_disk_is_of_the_configs_own_network(tmp_path):
    model = ModelConfig(name="vgg16", width=2)
    data = DataConfig(name="cifar10", data_dir=str(tmp_path))
    setup, _ = setup_to_plan(dataclasses.replace(SMALL, data=data, model=model))
    assert setup.model == create_model("vgg16", num_classes=10, width=2)


def test_a_batch_larger_than_what_is_taken_of_large_data(monkeypatch):
    dataset = load_dataset("digits").train
    monkeypatch.setattr(calibration, "free_bytes", lambda: 0)
    assert len(calibration._at_hand(dataset, 32)) == calibration.ROWS_OF_LARGE
    assert len(calibration._at_hand(dataset, 1050)) == 1050


def test_a_large_data_set_that_is_not_on_disk_is_planned_in_full(tmp_path, monkeypatch):
    """More images than memory: the calibration takes some of them."""
    count = 20_000
    monkeypatch.setitem(PUBLISHED, "imagenet2012", PUBLISHED["imagenet2012"]._replace(train=count, test=40))
    for module in (calibration, plan_module):
        monkeypatch.setattr(module, "free_bytes", lambda: 2**30)
    config = dataclasses.replace(
        SMALL,
        data=DataConfig(name="imagenet2012", data_dir=str(tmp_path)),
        model=ModelConfig(widths=(2,)),
        score=ScoreConfig(names=("el2n",), epoch=1, num_seeds=1, batch_size=4, how="loop"),
        retrain=RetrainConfig(1, how="loop"),
    )
    plan = plan_run(config, seconds=0.1)
    assert plan.memory.dataset == count * (224 * 224 * 3 + 4) + 2 * 3 * 4
    assert plan.memory.total > plan.memory.limit
    assert plan.stages[0].each == f"{count // 20:,} steps"


def test_numbers_for_reading():
    assert bytes_text(999) == "999 B"
    assert bytes_text(1023 * 1024) == "1023 KiB"
    assert duration(59.9) == "59.9 s"
    assert duration(119.7) == "2 min 0 s"
