"""Configs: what goes to JSON comes back, and every file in configs/ is one that can run."""

import dataclasses
import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

import diet_jax as dj
from diet_jax import InputError
from diet_jax.experiments.config import LOCATIONS, RunConfig, ScoreConfig, SelectConfig
from diet_jax.experiments.own import with_choices
from diet_jax.options.plain import differences, from_json, to_json
from diet_jax.training.recipe import (
    TrainConfig,
    decay_boundaries,
    epoch_to_step,
    steps_per_epoch,
    total_steps,
)

CONFIGS = [
    path
    for pattern in ("*.py", "compare/*.py")
    for path in sorted((Path(__file__).parents[2] / "configs").glob(pattern))
]
SIZES = {"digits": 1078, "cifar10": 50_000, "fashion_mnist": 60_000, "imagenet2012": 1_281_167}


def load(path: Path) -> RunConfig:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.CONFIG


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_every_config_file_makes_sense_and_survives_json(path):
    config = load(path)
    assert from_json(RunConfig, to_json(config)) == config
    size = SIZES[config.data.name]
    per_epoch = steps_per_epoch(size, config.train.batch_size)
    assert epoch_to_step(config.score.epoch, per_epoch) <= total_steps(config.train, size)
    assert "Command:" in path.read_text()


def test_the_paper_recipe_to_the_letter():
    config = load(Path(__file__).parents[2] / "configs" / "cifar10.py")
    train = config.train
    assert total_steps(train, 50_000) == total_steps(train, 50_000, 25_000) == 78_000
    assert decay_boundaries(train, 78_000) == (23_400, 46_800, 62_400)
    assert epoch_to_step(config.score.epoch, 390) == 7_800
    assert (train.learning_rate, train.momentum, train.nesterov) == (0.1, 0.9, True)
    assert (train.weight_decay, train.decay_factor, train.batch_size) == (5e-4, 0.2, 128)
    assert (config.score.num_seeds, config.retrain.num_seeds) == (10, 4)
    assert config.model.name == "resnet18"


def test_infinity_survives_json():
    config = RunConfig()
    assert (
        to_json(config)["score"]["options"]["forgetting"]["never_learned"] == "inf"
    )  # JSON has no infinity.
    json.dumps(to_json(config), allow_nan=False)
    assert config.score.options["forgetting"].never_learned == float("inf")
    assert from_json(RunConfig, to_json(config)) == config


def test_differences_name_the_options_but_not_the_places():
    one = RunConfig()
    train = dataclasses.replace(one.train, epochs=7.0)
    data = dataclasses.replace(one.data, data_dir="elsewhere")
    two = dataclasses.replace(one, train=train, data=data, run_dir="there", seed=3)
    changed = differences(to_json(one), to_json(two), leaving_out=LOCATIONS)
    assert changed == ["seed: 3, was 0", "train.epochs: 7.0, was 40"]
    assert differences(to_json(one), to_json(one), leaving_out=LOCATIONS) == []
    # An option that is None is not one that is not there: to read such a file back is refused as well.
    old = to_json(one)
    assert old["train"].pop("steps_per_call") is None
    assert differences(old, to_json(one)) == ["train.steps_per_call: None, was not there"]


@pytest.mark.parametrize(
    "change", [lambda v: v.pop("seed"), lambda v: v.update(colour="red"), lambda v: v.update(train=3)]
)
def test_a_config_of_another_version_is_refused(change):
    values = to_json(RunConfig())
    change(values)
    with pytest.raises(InputError, match="does not fit this version"):
        from_json(RunConfig, values)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RunConfig(score=ScoreConfig(num_seeds=2.5)), r"num_seeds must be int, got 2\.5 \(float\)"),
        (lambda: RunConfig(seed=np.int64(1)), r"seed must be int, got .*int64"),
        (lambda: RunConfig(run_dir=Path("x")), "run_dir must be str or None"),
        (lambda: RunConfig(seed=True), "seed must be int"),
        (
            lambda: RunConfig(select=SelectConfig(fractions=("a",))),
            "fractions must be a tuple, each",
        ),
        (
            lambda: RunConfig(score=ScoreConfig(names=("el2m",))),
            "no score is called .*el2n, .*grand",
        ),
        (lambda: TrainConfig(decay_at=[0.3]), "decay_at must be a tuple"),
        (lambda: TrainConfig(schedule="foo"), "schedule must be one of piecewise, linear, cosine"),
        (lambda: RunConfig(train=None), "train must be TrainConfig"),
        (
            lambda: RunConfig(score=ScoreConfig(options={"forgetting": {"never_learned": float("-inf")}})),
            "never_learned",
        ),
        (
            lambda: RunConfig(select=SelectConfig("window", options={"window": {"offset": True}})),
            "offset must be float",
        ),
    ],
)
def test_values_of_the_wrong_type_are_named(make, message, unchecked_types):
    with pytest.raises(InputError, match=message):
        make()


def test_whole_numbers_serve_as_floats():
    assert TrainConfig(epochs=3) == TrainConfig(epochs=3.0)


def test_an_object_with_options_of_its_own_leaves_its_name_as_it_was():
    """A name in the next config, or in score_ensemble, means the defaults whatever was given before."""
    for section, field, registry, name, value in (
        (dj.ScoreConfig, "names", dj.SCORES, "forgetting", {"never_learned": "zero"}),
        (dj.SelectConfig, "method", dj.RULES, "coverage", {"cutoff": 0.3}),
    ):
        known = registry.find(name)
        changed = known.with_options(dataclasses.replace(known.options, **value))
        config = section(**{field: (changed,)})
        assert registry.find(name) is known
        of = "scores" if field == "names" else "rules"
        assert getattr(config, of) == (changed,)
        assert getattr(section(**{field: (name,)}), of) == (known,)
        assert getattr(dataclasses.replace(config, **{field: (name,)}), of) == (changed,)


def test_the_options_of_an_object_are_those_that_a_run_takes():
    """A config holds the defaults of every name: they are not asked for by anyone."""
    scores, rules = dj.SCORES.find("forgetting"), dj.RULES.find("coverage")
    score = scores.with_options(dataclasses.replace(scores.options, never_learned="zero"))
    rule = rules.with_options(dataclasses.replace(rules.options, cutoff=0.3))
    config, _ = with_choices(dj.RunConfig(), score, rule)
    assert (config.score.scores, config.select.rules) == ((score,), (rule,))
    # Options that a config asks for are those of a name, and contradict an object that has others.
    asking = dj.RunConfig(select=dj.SelectConfig(method=("coverage",), options={"coverage": {"cutoff": 0.1}}))
    assert with_choices(asking, None, rules)[0].select.rules[0].options.cutoff == 0.1
    with pytest.raises(InputError, match=r"an object with .*0\.3.* ask for .*0\.1.*leave one out"):
        with_choices(asking, None, rule)
    # They go with the object.
    other, _ = with_choices(config, "forgetting", ("highest", "coverage"))
    assert (other.score.scores, other.select.rules[1]) == ((scores,), rules)
    assert with_choices(config, "el2n", "highest")[0].select.method == ("highest",)
