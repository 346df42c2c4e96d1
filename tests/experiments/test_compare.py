"""`diet-jax compare`: baselines, costs, tests over seeds, ended in between, networks of one size together."""

import csv
import dataclasses
import json

import jax
import numpy as np
import pytest

import diet_jax as dj
from diet_jax.analysis.results import BALANCED, FULL, RANDOM, RS2
from diet_jax.cli.main import main
from diet_jax.ensemble import over_seeds
from diet_jax.experiments import retraining, selecting
from diet_jax.experiments.config import (
    DataConfig,
    ModelConfig,
    RetrainConfig,
    RunConfig,
    ScoreConfig,
    SelectConfig,
)
from diet_jax.experiments.plan import plan_run, trainings
from diet_jax.experiments.prune import run_prune
from diet_jax.experiments.run_folder import RunFolder
from diet_jax.experiments.setup import prepare
from diet_jax.training.step import batch_rows, run_keys

TRAINING = dj.TrainConfig(
    epochs=5, batch_size=20, learning_rate=0.05, schedule="cosine", augment="none", budget="equal_epochs"
)
CONFIG = RunConfig(
    data=DataConfig("digits", num_train=400),
    model=ModelConfig("mlp", widths=(8,)),
    train=TRAINING,
    score=ScoreConfig(names=("el2n", "forgetting", "input_norm"), epoch=2, num_seeds=2),
    select=SelectConfig(method=("highest", "lowest"), fractions=(0.25, 0.5), baselines=(BALANCED, RS2)),
    retrain=RetrainConfig(num_seeds=2),
)
OPTIONS = (
    *("--data.num-train", "400", "--model.widths", "8", "--train.epochs", "5", "--train.batch-size", "20"),
    *("--train.budget", "equal_epochs", "--score.names", "el2n", "forgetting", "input_norm"),
    *("--score.epoch", "2", "--score.num-seeds", "2", "--select.method", "highest", "lowest"),
    *("--select.fractions", "0.25", "0.5", "--retrain.num-seeds", "2"),
)
SELECTIONS = [
    f"{score} {rule}" for rule in ("highest", "lowest") for score in ("el2n", "forgetting", "input_norm")
]


def rows_of(path):
    with open(path, newline="") as text:
        return list(csv.DictReader(text))


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compare") / "run"
    main(["compare", *OPTIONS, "--run-dir", str(folder)])
    return folder


def test_compare_is_run_with_all_baselines(compared):
    """The same run folder: run goes on with it where it is given the same baselines, and no other."""
    expected = [(FULL, 1.0)]
    for fraction in (0.25, 0.5):
        expected += [(name, fraction) for name in (*SELECTIONS, RANDOM, BALANCED, RS2)]
    table = rows_of(compared / "table.csv")
    assert [(row["kept_by"], float(row["keep_fraction"])) for row in table] == expected
    before = (compared / "table.csv").read_bytes()
    result = run_prune(dataclasses.replace(CONFIG, run_dir=str(compared)))
    assert (compared / "table.csv").read_bytes() == before
    assert [row["budget"] for row in result.rows] == ["equal_epochs"] * len(expected)
    plain = dataclasses.replace(CONFIG, select=dataclasses.replace(CONFIG.select, baselines=()))
    with pytest.raises(dj.InputError, match=r"select\.baselines"):
        run_prune(dataclasses.replace(plain, run_dir=str(compared)))


def test_the_budget_is_said_in_table_and_provenance(compared):
    assert (compared / "table.md").read_text().startswith("equal epochs: ")
    assert json.loads((compared / "provenance.json").read_text())["budget"] == "equal_epochs"


@pytest.mark.slow
def test_ended_in_between_and_called_again_it_makes_the_same_table(compared, tmp_path, monkeypatch, capsys):
    """After scoring, within a group of networks that train together, and before the last of them."""
    saved, real = [0], RunFolder.save

    def save(self, *args):
        real(self, *args)
        saved[0] += 1
        if saved[0] in (2, 9, 35):
            raise KeyboardInterrupt

    monkeypatch.setattr(RunFolder, "save", save)
    monkeypatch.setattr("diet_jax.experiments.prune.draw", lambda *_: None)
    folder = tmp_path / "run"
    for _ in range(3):
        with pytest.raises(SystemExit) as stopped:
            main(["compare", *OPTIONS, "--run-dir", str(folder)])
        assert stopped.value.code == 130
        assert not (folder / "table.csv").exists()
    main(["compare", *OPTIONS, "--run-dir", str(folder)])
    # Nothing was computed twice: 2 scoring networks, 19 selections of 2 networks.
    assert saved[0] == 2 + 19 * 2
    for name in ("table.csv", "classes.csv", "table.md"):
        assert (folder / name).read_bytes() == (compared / name).read_bytes()
    main(["verify", str(folder)])
    assert "not as written" not in capsys.readouterr().out


def test_rs2_is_a_training_on_everything_of_the_length_of_its_fraction(compared):
    train, test = prepare(CONFIG).splits
    model = dj.create_model("mlp", num_classes=10, widths=(8,))
    for fraction, steps in ((0.25, 5 * 5), (0.5, 5 * 10)):
        config = dataclasses.replace(TRAINING, steps=steps, budget="equal_steps")
        keys = dj.seed_keys(0, "retrain", 2)
        # "map" is what the run chose on CPUs; other programs round otherwise.
        trained = dj.train_ensemble(keys, model, train, test, config=config, how="map")
        row = next(
            row
            for row in rows_of(compared / "table.csv")
            if row["kept_by"] == RS2 and float(row["keep_fraction"]) == fraction
        )
        assert (int(row["steps"]), int(row["examples"])) == (steps, 400)
        assert float(row["accuracy"]) == pytest.approx((trained.predicted == test.labels).mean())


@pytest.mark.parametrize(("fraction", "epochs"), [(0.25, 8), (0.4, 5)])
def test_the_order_of_rs2_has_every_example_once_before_any_twice(fraction, epochs):
    """Its epochs are successive parts of one order of all, also where they do not divide it."""
    key, size = run_keys(jax.random.key(3)).order, 20
    steps = epochs * int(400 * fraction) // size
    rows = np.asarray(batch_rows(key, np.arange(400), 0, num_steps=steps, batch_size=size)).ravel()
    assert len(rows) == epochs * 400 * fraction
    for whole in rows[: len(rows) // 400 * 400].reshape(-1, 400):
        np.testing.assert_array_equal(np.sort(whole), np.arange(400))
    parts = rows[: int(1 / fraction) * int(400 * fraction)].reshape(int(1 / fraction), -1)
    assert len(np.unique(parts)) == parts.size
    again = rows[400:800]
    assert len(again) < 400 or (again != rows[:400]).any()


@pytest.mark.slow
def test_with_equal_steps_rs2_is_everything_and_not_trained_again(tmp_path):
    config = dataclasses.replace(
        CONFIG,
        train=dataclasses.replace(TRAINING, budget="equal_steps", epochs=1),
        score=ScoreConfig(names=("input_norm",), epoch=0, num_seeds=1),
        select=SelectConfig(fractions=(0.5,), baselines=(RS2,)),
        run_dir=str(tmp_path / "run"),
    )
    result = run_prune(config)
    assert [row["kept_by"] for row in result.rows] == [FULL, "input_norm", RANDOM]
    assert any(
        note.startswith("rs2, a fresh random subset in each epoch, is everything") for note in result.notes
    )
    assert {row["steps"] for row in result.rows} == {20}
    assert (result.path / "table.md").read_text().startswith("equal steps: ")


def test_class_balanced_random_has_equally_many_of_each_class(compared):
    train = prepare(CONFIG).splits.train
    for fraction, count in ((0.25, 100), (0.5, 200)):
        masks = dj.KeepFile.load(compared / f"masks/{BALANCED}_keep{fraction}.npz", dataset=train).keep
        assert masks.shape == (2, 400)
        assert (masks[0] != masks[1]).any()
        for mask in masks:
            kept = np.bincount(train.labels[mask], minlength=10)
            there = np.bincount(train.labels, minlength=10)
            assert kept.sum() == count
            assert (kept >= np.minimum(there, count // 10)).all()


def test_costs_by_hand(compared):
    """Two networks to epoch 2 of 5, a pass of each, and a retraining of 5 epochs on what is kept."""
    costs = {(row["kept_by"], float(row["keep_fraction"])): row for row in rows_of(compared / "costs.csv")}
    table = {(row["kept_by"], float(row["keep_fraction"])): row for row in rows_of(compared / "table.csv")}
    assert costs.keys() == table.keys()
    # Operations of an example, those of matrices: forward 64 x 8 + 8 x 10, and twice as much again for the
    # gradient but for that of the inputs. What is left out, such as the softmax, is less than a third here.
    forward, training = 64 * 8 + 8 * 10, 2 * 64 * 8 + 3 * 8 * 10
    for (kept_by, fraction), row in costs.items():
        trained = {"el2n": 2 * 2 / 5, "forgetting": 2 * 2 / 5}.get(kept_by.split()[0], 0.0)
        assert float(row["cost_of_training"]) == pytest.approx(trained)
        assert float(row["cost_of_retraining"]) == pytest.approx(fraction)
        passes = float(row["cost_of_passes"])
        if kept_by.startswith("el2n"):
            assert passes == pytest.approx(2 * forward / training / 5, rel=0.34)
        elif kept_by.startswith("input_norm"):
            assert 0 < passes < 2 * 0.2 / 5
        else:
            assert passes == 0
        total = trained + passes + fraction
        assert float(row["cost"]) == pytest.approx(total)
        assert table[kept_by, fraction]["cost"] == row["cost"]
        assert (row["selecting_seconds"] == "") == (kept_by in (FULL, RS2))


@pytest.mark.slow
def test_the_costs_are_those_that_the_folder_has_whatever_counts_now(compared, monkeypatch):
    monkeypatch.setattr("diet_jax.experiments.row_costs.cost_of", lambda *_: pytest.fail("counted again"))
    before = (compared / "costs.csv").read_bytes()
    run_prune(dataclasses.replace(CONFIG, run_dir=str(compared)))
    assert (compared / "costs.csv").read_bytes() == before


@pytest.mark.slow
def test_masks_that_are_there_are_not_made_again_unless_scores_are_others(compared, monkeypatch):
    name, made = "el2n-highest_keep0.5", []
    path, real = compared / f"masks/{name}.npz", selecting.mask_of

    def watched(files, rule, fraction, **options):
        made.append((files[0].name, rule.name, fraction))
        return real(files, rule, fraction, **options)

    monkeypatch.setattr(selecting, "mask_of", watched)
    monkeypatch.setattr("diet_jax.experiments.prune.draw", lambda *_: None)
    before, config = dj.KeepFile.load(path), dataclasses.replace(CONFIG, run_dir=str(compared))
    run_prune(config)
    assert made == []
    other = dataclasses.replace(before, provenance={**before.provenance, "made_from": ["other scores"]})
    other.save(path)
    run_prune(config)
    path.write_bytes(path.read_bytes()[:-20])
    run_prune(config)
    assert made == [("el2n", "highest", 0.5)] * 2
    np.testing.assert_array_equal(dj.KeepFile.load(path).keep, before.keep)


@pytest.mark.slow
def test_a_score_that_was_made_elsewhere_has_no_known_cost(compared, tmp_path):
    file = dj.ScoreFile.load(compared / "scores/el2n.npz")
    other = dataclasses.replace(file, name="elsewhere")
    other.save(tmp_path / "elsewhere.npz")
    config = dataclasses.replace(
        CONFIG,
        train=dataclasses.replace(TRAINING, epochs=1),
        score=ScoreConfig(names=(), files=(str(tmp_path / "elsewhere.npz"),), epoch=0, num_seeds=1),
        select=SelectConfig(fractions=(0.5,)),
        run_dir=str(tmp_path / "run"),
    )
    result = run_prune(config)
    assert [row["cost"] for row in result.rows] == [1.0, None, 0.5]
    assert (tmp_path / "run/figures/costs.png").is_file()


def test_accuracies_of_classes_are_those_of_the_predictions(compared):
    labels = prepare(CONFIG).splits.test.labels
    rows = rows_of(compared / "classes.csv")
    assert len(rows) == 19 * 10
    for row in rows[::7]:
        name = row["kept_by"].replace(" ", "-")
        name = name if name == FULL else f"{name}_keep{float(row['keep_fraction']):g}"
        hits = []
        for seed in range(2):
            with np.load(compared / f"retrain/{name}/seed_{seed:02d}.npz") as arrays:
                hits.append((arrays["predicted"] == labels)[labels == int(row["class"])].mean())
        assert float(row["accuracy"]) == pytest.approx(np.mean(hits))


@pytest.mark.slow
def test_networks_of_one_size_train_in_one_program_as_each_does_alone(tmp_path, monkeypatch):
    """At most eight at once, of several selections; RS2 and everything have sizes of their own."""
    together, real = [], retraining.train_ensemble

    def watched(keys, *args, **options):
        together.append(len(keys))
        return real(keys, *args, **options)

    monkeypatch.setattr(retraining, "train_ensemble", watched)
    config = dataclasses.replace(
        CONFIG,
        train=dataclasses.replace(TRAINING, epochs=2),
        score=ScoreConfig(names=("input_norm",), epoch=0, num_seeds=1),
        select=dataclasses.replace(CONFIG.select, fractions=(0.5,)),
        retrain=RetrainConfig(num_seeds=2, how="vmap"),
    )
    monkeypatch.setattr("diet_jax.experiments.prune.draw", lambda *_: None)
    grouped = run_prune(dataclasses.replace(config, run_dir=str(tmp_path / "grouped")))
    # Four selections of half of the examples, everything, and RS2.
    assert sorted(together) == [2, 2, 8]
    together.clear()
    monkeypatch.setattr(over_seeds, "SIDE_BY_SIDE", 1)
    single = run_prune(dataclasses.replace(config, run_dir=str(tmp_path / "single")))
    assert together == [2] * 6
    for path in sorted((grouped.path / "retrain").rglob("*.npz")):
        with np.load(path) as one, np.load(single.path / path.relative_to(grouped.path)) as other:
            np.testing.assert_array_equal(one["predicted"], other["predicted"])
            np.testing.assert_allclose(one["loss"], other["loss"], rtol=1e-5, atol=1e-7)


def test_the_plan_counts_the_baselines(capsys):
    plan = plan_run(CONFIG, tflops=1)
    retrained = {stage.name: stage for stage in plan.stages if stage.name.startswith("retraining: ")}
    # Two rules by three scores, random and class-balanced random, of two networks each; RS2 by itself.
    networks = {"everything": 2, "keep 0.25": 16, "keep 0.5": 16, "rs2, keep 0.25": 2, "rs2, keep 0.5": 2}
    for name, count in networks.items():
        assert retrained[f"retraining: {name}"].networks == count
    full = plan.one_training
    assert retrained["retraining: rs2, keep 0.25"].flops == pytest.approx(2 * 0.25 * full)
    assert retrained["retraining: judge"].networks == 19 * 2 == sum(g[1] for g in trainings(prepare(CONFIG)))
    main(["compare", *OPTIONS, "--plan", "--plan-tflops", "1"])
    assert "rs2, keep 0.25" in capsys.readouterr().out
