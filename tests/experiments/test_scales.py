"""Every figure at every scale, without training: settings fit their data, and cost what the configs say."""

import csv
import dataclasses
import re
from typing import get_args

import jax.numpy as jnp
import numpy as np
import pytest
from pretended_store import PretendedStore

from diet_jax.cli.commands.reproduce import Reproduce
from diet_jax.cli.config_file import load_config
from diet_jax.experiments.reproduction.figure import PaperFigure, Scale, config_folder, figure_names
from diet_jax.experiments.reproduction.recipes import CIFAR10_RESNET18, CINIC10_RESNET18, shortened
from diet_jax.training.recipe import decay_boundaries, make_schedule, total_steps

NAMES = figure_names()
FURTHER = ("medium", "paper")


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "none"))
    return PretendedStore()


def path_of(name):
    return config_folder() / f"{name.replace('-', '_')}.py"


def config(name) -> PaperFigure:
    return load_config(str(path_of(name)), PaperFigure)


def at_scale(name, scale, store, tmp_path):
    """The experiment, with a table where it needs one."""
    experiment = getattr(config(name), scale)
    if experiment.needs_table:
        ids = store.setup(experiment.task).splits.train.ids
        with open(tmp_path / "table.csv", "w", newline="") as file:
            csv.writer(file).writerows([("id", "memorisation"), *((i, n % 7 / 7) for n, i in enumerate(ids))])
        experiment = dataclasses.replace(experiment, table=str(tmp_path / "table.csv"))
    return experiment


@pytest.mark.slow
@pytest.mark.parametrize(
    "scale",
    ["small", pytest.param("medium", marks=pytest.mark.slow), pytest.param("paper", marks=pytest.mark.slow)],
)
@pytest.mark.parametrize("name", NAMES)
def test_settings_fit_their_data(name, scale, store, tmp_path):
    """Each training's epochs, fractions, offsets and groups, and what every claim compares."""
    figure = config(name)
    outcome = at_scale(name, scale, store, tmp_path).run(store, figure.published)
    # The kernels of single networks are not counted.
    assert store.steps or name == "frozen-kernel"
    assert outcome.claims or name == "examples"
    tasks = getattr(figure, scale).all_tasks()
    for claim in outcome.claims:
        facts = claim.evidence.facts()
        assert {part.task.clean() for part in claim.evidence.parts} <= {task.clean() for task in tasks}
        assert len({(part["task"], part["what"]) for part in facts["parts"]}) == len(facts["parts"])
        assert facts["seeds"] >= 1
    assert len({claim.evidence for claim in outcome.claims}) == len(outcome.claims)


@pytest.mark.parametrize("name", NAMES)
def test_medium_is_the_papers_data_network_and_optimiser_for_40_epochs(name):
    figure = config(name)
    for task in figure.medium.all_tasks():
        assert task.train.epochs == 40
        assert (task.model.dtype, task.model.name[:3]) in (("bfloat16", "res"), ("bfloat16", "vgg"))
        as_long = dataclasses.replace(
            task,
            model=dataclasses.replace(task.model, dtype="float32"),
            train=dataclasses.replace(task.train, epochs=200.0),
        )
        # Recipes that are compared with one another are fewer at medium.
        assert as_long in figure.paper.all_tasks()
    seeds = {f.name: getattr(figure.medium, f.name) for f in dataclasses.fields(figure.medium)}
    assert seeds.get("score_seeds", 10) == 10
    assert seeds.get("retrain_seeds", 2) == 2


def test_the_schedule_of_medium_is_the_papers_scaled():
    for task, count in ((CIFAR10_RESNET18, 50_000), (CINIC10_RESNET18, 180_000)):
        rates = []
        for recipe in (task.train, shortened(task).train):
            steps = total_steps(recipe, count)
            schedule = make_schedule(recipe, steps)
            rates.append([float(schedule(jnp.int32(share * steps))) for share in np.linspace(0.01, 0.99, 50)])
        np.testing.assert_allclose(*rates)
    # Scores are taken at epoch 10, before the rate falls for the first time, as the paper's at epoch 20.
    steps = total_steps(shortened(CIFAR10_RESNET18).train, 50_000)
    assert decay_boundaries(shortened(CIFAR10_RESNET18).train, steps)[0] == 12 * 390


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("fig1-")])
def test_a_panel_of_figure_1_costs_what_its_config_says(name, store):
    figure = config(name)
    figure.medium.run(store, figure.published)
    said = re.search(r"Medium: +(\d+) million images.*some\n? *(\d+)\n? *minutes", path_of(name).read_text())
    assert store.images / 1e6 == pytest.approx(int(said[1]), abs=0.5)
    # Multiplications of ResNet50 over those of ResNet18, on 32x32 pixels.
    times = 2.33 if "cifar100" in name else 1
    assert store.images * times / 44_000 / 60 == pytest.approx(int(said[2]), abs=1)


def test_the_command_offers_every_scale():
    assert get_args(Reproduce.__annotations__["scale"]) == get_args(Scale)
