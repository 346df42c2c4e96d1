"""`diet-jax run --plan`: counts and bytes against closed forms and against what a run really does."""

import dataclasses
from pathlib import Path

import jax
import numpy as np
import pytest

import diet_jax as dj
from diet_jax.cli import main as cli
from diet_jax.cli.config_file import load_config
from diet_jax.data.published import PUBLISHED
from diet_jax.ensemble.retraining import train_program
from diet_jax.ensemble.scoring import score_program
from diet_jax.errors import InputError
from diet_jax.experiments import costs
from diet_jax.experiments import plan as planning
from diet_jax.experiments.config import (
    DataConfig,
    ModelConfig,
    RetrainConfig,
    RunConfig,
    ScoreConfig,
    SelectConfig,
)
from diet_jax.experiments.costs import Rate, cost_of, nbytes, state_shapes, step_cost
from diet_jax.experiments.plan import plan_run, setup_to_plan, stages, trainings
from diet_jax.experiments.plan_table import bytes_text, duration
from diet_jax.experiments.prune import run_prune
from diet_jax.experiments.setup import prepare
from diet_jax.training.loop import many_steps, one_step
from diet_jax.training.passes import mapped_batches
from diet_jax.training.recipe import TrainConfig
from diet_jax.training.step import batch_rows, init_state, train_on_batch

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
CIFAR10 = load_config(str(Path(__file__).parents[2] / "configs" / "cifar10.py"))


WHAT = {
    f"jit({program.__name__})": name
    for program, name in (
        (init_state, "initialise"),
        (batch_rows, "draw batches"),
        (one_step, "train"),
        (many_steps, "train"),
        (train_on_batch, "train"),
        (score_program, "score an ensemble"),
        (train_program, "retrain an ensemble"),
        (mapped_batches, "by chunks"),
    )
}


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
    plan = plan_run(SMALL, tflops=0.5)
    names = [stage.name for stage in plan.stages]
    assert names == [
        "scoring: train to epoch 1",
        "scoring: el2n",
        "scoring: grand",
        "retraining: everything",
        "retraining: keep 0.5",
        "retraining: keep 0.7",
        "retraining: judge",
    ]
    assert [stage.networks for stage in plan.stages] == [2, 2, 2, 2, 6, 6, 14]
    # Two epochs, scored after one.
    shares = [stage.flops / plan.one_training for stage in plan.stages]
    np.testing.assert_allclose([shares[0], *shares[3:6]], [2 * 0.5, 2, 6, 6])
    assert plan.memory == {
        "parameters": 4 * PARAMETERS,
        # Momentum of each parameter, and a count of steps.
        "optimiser state": 4 * PARAMETERS + 4,
        # Two flags and a count of each example.
        "training dynamics": 500 * (1 + 1 + 4),
        "dataset": (500 + 719) * (64 + 4),
        "intermediate arrays of the largest stage": max(stage.temporaries for stage in plan.stages),
    }
    assert sum(plan.memory.values()) < plan.free
    assert plan.checkpoints == 0


def test_at_a_rate_that_is_given_nothing_is_compiled(compiled_names):
    slow, fast = (plan_run(SMALL, tflops=tflops) for tflops in (0.25, 20))
    assert compiled_names == []
    assert [stage.seconds for stage in slow.stages] == [stage.flops / 0.25e12 for stage in slow.stages]
    assert slow.seconds == pytest.approx(80 * fast.seconds)
    assert slow.rate.source == "as given"
    assert slow._replace(stages=(), rate=None, free=0) == fast._replace(stages=(), rate=None, free=0)


def test_the_rate_is_that_of_one_compiled_program(compiled_names):
    plan = plan_run(ONE_BY_ONE)
    # Beside it what fills arrays, but none of the run's own.
    assert not WHAT.keys() & set(compiled_names)
    assert compiled_names.count("jit(steps)") == 1
    assert [s.seconds for s in plan.stages] == [s.flops / plan.rate.flops_per_second for s in plan.stages]
    assert plan.rate.source.endswith("steps of training on 20 examples")


@pytest.mark.slow
def test_operations_do_not_depend_on_the_form_of_convolutions():
    """The form that networks train with on CPUs loops over images: a loop's body is counted once."""
    model = ModelConfig(name="resnet18", width=8)
    setup = prepare(dataclasses.replace(SMALL, model=model))
    explicit = prepare(dataclasses.replace(SMALL, model=dataclasses.replace(model, convolution="lax")))
    assert step_cost(setup).flops == step_cost(explicit).flops
    half = step_cost(setup, setup.config.train.batch_size // 2).flops
    assert 0.45 < half / step_cost(setup).flops < 0.6


@pytest.mark.slow
def test_the_measured_step_is_bounded(monkeypatch, tmp_path):
    """ResNet18 on CIFAR-10: 128 examples a step take 430 GFLOP, so 16 of them are compiled and run."""
    data = DataConfig(name="cifar10", data_dir=str(tmp_path))
    setup, _ = setup_to_plan(dataclasses.replace(CIFAR10, data=data))
    step = step_cost(setup)
    batch = costs.measured_batch(setup, step)
    assert batch == 16
    assert batch / 128 * step.flops < costs.CPU_MEASURED_FLOPS == 2**36
    # The same rule where it is quick to follow through: 3 of 20 examples would fit.
    setup = prepare(SMALL)
    step = step_cost(setup)
    monkeypatch.setattr(costs, "CPU_MEASURED_FLOPS", int(3.5 / 20 * step.flops))
    monkeypatch.setattr(costs, "SECONDS", 1e-9)
    assert costs.measured_rate(setup, step).source == "measured here in one step of training on 2 examples"


@pytest.mark.parametrize("width", [24, 400])
def test_operations_are_those_of_the_matrix_products(width):
    """A product of `[b i]` and `[i o]` is 2 b i o operations; biases, relu, softmax and update on top."""
    config = dataclasses.replace(SMALL, model=ModelConfig(widths=(width,)))
    setup = prepare(config)
    forward = 2 * (64 * width + width * 10)
    # Backward: the gradients of both kernels, and of the hidden layer.
    products = 20 * (2 * forward + 2 * width * 10)
    elementwise = 20 * 10 * (64 + width + 10) + 12 * (74 * width + 10)
    step = step_cost(setup)
    assert products <= step.flops <= products + elementwise
    per_example = {s.each: s.flops / s.networks for s in stages(setup, step, Rate(1.0, ""))}[
        "719 examples"
    ] / 719
    assert forward <= per_example <= forward + 10 * (width + 10)


def test_intermediate_arrays_are_those_alive_at_once():
    image = jax.ShapeDtypeStruct((10, 64), "float32")
    cost = cost_of(lambda x: jax.numpy.tanh(jax.numpy.sin(x) * 2.0).sum(), image)
    # Each of two elementwise results with the one that it is made from.
    assert cost.temporaries == 2 * 4 * 640


def test_a_training_state_in_bytes():
    setup = prepare(SMALL)
    # Parameters and momentum, each step's count twice, the key, and for each example a count and two flags.
    assert nbytes(state_shapes(setup)) == 2 * 4 * PARAMETERS + 4 + 4 + 8 + 500 * (4 + 1 + 1)


def test_networks_side_by_side_share_the_time_and_not_the_memory(monkeypatch):
    config = dataclasses.replace(SMALL, score=ScoreConfig(epoch=1, num_seeds=5, how="mesh"))
    vmapped = dataclasses.replace(SMALL, retrain=RetrainConfig(num_seeds=3, how="vmap"))
    for changed, devices in ((config, 1), (config, 4)):
        monkeypatch.setattr(planning, "axis_size", lambda name: devices)  # noqa: B023
        setup = prepare(changed)
        first = next(stages(setup, step_cost(setup), Rate(1e9, "")))
        # Five seeds on four devices are two rounds.
        assert first.seconds == pytest.approx(first.flops / 1e9 * (1 if devices == 1 else 2 / 5))
    plan = plan_run(vmapped, tflops=1)
    assert plan.memory["parameters of 3 networks at once"] == 3 * 4 * PARAMETERS
    assert plan.stages[3].temporaries == 3 * plan.stages[0].temporaries


def test_a_rule_of_several_scores_makes_one_selection():
    rule = dj.Rule(
        name="sums", words="sums", reference="none", select=lambda a, b, **_: a + b > 0, num_scores=2
    )
    setup = prepare(dataclasses.replace(SMALL, select=SelectConfig(method=rule, fractions=(0.5,))))
    # And one at random.
    assert [(name, networks) for name, networks, _, _ in trainings(setup)] == [
        ("everything", 2),
        ("keep 0.5", 4),
    ]


@pytest.mark.parametrize("reads", ["features", "class_errors"])
def test_what_rules_read_of_a_network_takes_a_training_and_a_pass(reads):
    plans = [
        plan_run(dataclasses.replace(SMALL, select=SelectConfig(method=method, fractions=(0.5,))), tflops=0.5)
        for method in ("highest", {"features": "d2", "class_errors": "class_quotas"}[reads])
    ]
    before, after = ({stage.name: stage for stage in plan.stages} for plan in plans)
    again, over = (after[name] for name in after if name not in before)
    assert again.name == "selecting: train one scoring network again"
    # One epoch of two, by one network, as the two that score; the pass is that of EL2N by one network.
    assert again.flops == before["scoring: train to epoch 1"].flops / 2
    np.testing.assert_allclose(over.flops, before["scoring: el2n"].flops / 2, rtol=0.02)
    assert (again.networks, over.networks) == (1, 1)
    assert set(plans[1].programs) - set(plans[0].programs) == {
        *("initialise", "draw batches", "train", "measure what rules read")
    }


@pytest.mark.slow
def test_checkpoints_are_counted_as_they_are_saved(tmp_path):
    config = dataclasses.replace(
        SMALL,
        checkpoint_epochs=(0, 1, 2),
        score=dataclasses.replace(SMALL.score, names=("el2n",)),
        select=SelectConfig(fractions=(0.5,)),
        retrain=RetrainConfig(num_seeds=1),
        run_dir=str(tmp_path / "run"),
    )
    planned = planning.count_checkpoints(prepare(config))
    # Scoring stops after the second of three; each of the three retrainings saves all.
    assert planned == 2 * 2 + 3 * 3
    run_prune(config)
    steps = [p for p in (tmp_path / "run/checkpoints").rglob("*") if p.name.isdigit()]
    assert len(steps) == planned


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind",
    [
        pytest.param("together", marks=pytest.mark.slow),
        "one by one",
        pytest.param("streamed", marks=pytest.mark.slow),
    ],
)
def test_a_run_compiles_the_programs_of_its_plan(kind, tmp_path, compiled_names, image_folder):
    config = SMALL if kind == "together" else EQUAL_EPOCHS
    if kind == "streamed":
        pytest.importorskip("grain")
        data = DataConfig(name=f"folder:{image_folder}", streaming=True, image_size=7)
        train = TrainConfig(epochs=2, batch_size=5, augment="resized_crop")
        parts = {"score": ScoreConfig(epoch=1, num_seeds=1), "retrain": RetrainConfig(num_seeds=1)}
        parts |= {"select": SelectConfig(fractions=(0.9,))}
        config = dataclasses.replace(SMALL, data=data, train=train, **parts)
    plan = plan_run(config, tflops=1)
    jax.clear_caches()
    compiled_names.clear()
    run_prune(dataclasses.replace(config, run_dir=str(tmp_path / "run")))
    done = [WHAT[name] for name in compiled_names if name in WHAT]
    expected = {}
    for name, count in plan.programs.items():
        what = "by chunks" if name == "judge" or name.startswith("score by") else name
        expected[what] = expected.get(what, 0) + count
    assert {name: done.count(name) for name in set(done)} == expected
    if kind == "streamed":
        assert plan.memory["dataset"] == 2 * 5 * (7 * 7 * 3 + 4)
        assert "without reading" in plan.notes[0]


def test_the_command_prints_tables_and_leaves_no_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    options = ["--data.num-train", "200", "--train.epochs", "2", "--train.batch-size", "20"]
    options += ["--score.epoch", "1", "--select.fractions", "0.5", "--model.widths", "8"]
    options += ["--score.how", "loop", "--retrain.how", "loop", "--plan-tflops", "1.5"]
    cli.main(["run", "--plan", *options])
    shown = capsys.readouterr().out
    for text in ("keep 0.5", "1.5 TFLOP/s", "as given", "free here now", "7 programs:", "checkpoints: none"):
        assert text in shown
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--plan-tflops", "1"], "without --plan"),
        (["--plan", "--plan-tflops", "0"], "above 0, got 0"),
        (["--plan", "--plan-tflops", "inf"], "above 0, got inf"),
    ],
)
def test_a_rate_needs_a_plan_and_a_positive_number(options, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["run", *options])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    "options",
    [
        ["--score.epoch", "50"],
        ["--data.name", "folder:nowhere"],
        ["--data.name", "cifar1"],
        ["--train.batch-size", "2000"],
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


@pytest.mark.parametrize("name", ["cifar10", "tfds:cifar10", "imagenet2012", "cinic10"])
def test_data_that_is_not_on_disk_is_planned_by_its_published_sizes(name, tmp_path):
    model = ModelConfig(name="vgg16", width=2)
    config = dataclasses.replace(SMALL, data=DataConfig(name=name, data_dir=str(tmp_path)), model=model)
    setup, notes = setup_to_plan(config)
    train, test = setup.splits
    sizes = PUBLISHED[name.removeprefix("tfds:")]
    assert (len(train), len(test), train.num_classes) == sizes[:3]
    assert train.image_shape == sizes.image_shape
    assert "not on disk; sizes as published" in notes[0]
    assert setup.per_epoch == sizes.train // 20
    assert not train.images[[0, -1]].any()
    assert list(trainings(setup))[1][2] == round(0.5 * sizes.train)
    assert setup.model == dj.create_model("vgg16", num_classes=sizes.num_classes, width=2)
    assert len(notes) == 1
    for more in ({"label_noise": 0.2}, {"labels": "no.csv"}):
        data = DataConfig(name=name, data_dir=str(tmp_path), **more)
        setup, notes = setup_to_plan(dataclasses.replace(config, data=data))
        assert "labels of a file and noise are not looked at without the data" in notes[1]
        np.testing.assert_array_equal(setup.splits.train.labels, train.labels)
    other = dataclasses.replace(SMALL, data=DataConfig(name="kmnist", data_dir=str(tmp_path)))
    with pytest.raises(InputError, match="not prepared"):
        setup_to_plan(other)


def test_data_larger_than_memory_is_planned_in_full(tmp_path, monkeypatch):
    monkeypatch.setattr(planning, "free_bytes", lambda: 2**30)
    config = dataclasses.replace(
        ONE_BY_ONE,
        data=DataConfig(name="imagenet2012", data_dir=str(tmp_path)),
        model=ModelConfig(widths=(2,)),
    )
    plan = plan_run(config, tflops=1)
    assert plan.memory["dataset"] == 1_281_167 * (224 * 224 * 3 + 4)
    assert plan.stages[0].each == "64,058 steps"
    assert sum(plan.memory.values()) > plan.free


def test_numbers_for_reading():
    assert bytes_text(999) == "999 B"
    assert bytes_text(1023 * 1024) == "1023 KiB"
    assert duration(59.9) == "59.9 s"
    assert duration(119.7) == "2 min 0 s"
