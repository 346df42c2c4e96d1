"""Objects that take part in a run in place of what its config names: data, a model, score files."""

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from diet_jax.data.dataset import Dataset, Splits, fingerprint
from diet_jax.errors import InputError
from diet_jax.experiments.choices import with_others
from diet_jax.experiments.config import DataConfig, ModelConfig, RunConfig
from diet_jax.models.adapters import check_model, model_name
from diet_jax.options.identity import LETTERS, identify
from diet_jax.scores.file import ScoreFile
from diet_jax.training.recipe import TrainConfig
from diet_jax.types import Model

# In config.json, before the name of a score that was made elsewhere.
OF = "scores of "


@dataclass(frozen=True, eq=False)
class Own:
    """What a config cannot name.

    Attributes:
        train: examples to score, to prune and to train on, in place of `data.name`.
        test: examples to judge by; goes with `train`.
        model: in place of the config's network.
        files: scores that were made elsewhere, beside the config's.
        recipe: whose optimiser and schedule, where they are functions, stand for those of a config that was
            read back from a file.
    """

    train: Dataset | None = None
    test: Dataset | None = None
    model: Model | None = None
    files: tuple[ScoreFile, ...] = ()
    recipe: TrainConfig | None = None

    def __post_init__(self) -> None:
        for name in ("train", "test"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, Dataset):
                raise InputError(
                    f"{name} must be a dj.Dataset, got {type(value).__name__}; make one by "
                    f"dj.Dataset.from_arrays(inputs, labels, split={name!r})"
                )
        if (self.train is None) != (self.test is None):
            there, lacking = ("train", "test") if self.test is None else ("test", "train")
            raise InputError(f"{there} without {lacking}: a run needs both splits; give {lacking} as well")
        if self.model is not None:
            check_model(self.model)

    @property
    def splits(self) -> Splits | None:
        """Both splits, if they were brought."""
        return None if self.train is None or self.test is None else Splits(self.train, self.test)

    def named(self, config: RunConfig) -> RunConfig:
        """Returns the config with the names of what was brought in place of its own.

        Raises:
            InputError: the config names something else: which of the two is meant cannot be known.
        """
        data, model = config.data, config.model
        if self.train is not None:
            if data.name not in (DataConfig().name, self.train.name):
                raise InputError(
                    f"data.name is {data.name} and there are examples of one's own, {self.train.name}: "
                    f"leave out one of the two"
                )
            data = dataclasses.replace(data, name=self.train.name, streaming=self.train.streamed)
        if self.model is not None:
            own = ModelConfig(name=model_name(self.model))
            if model not in (ModelConfig(), own):
                raise InputError(
                    f"the options of model choose a network ({model.name}), and there is a model of one's "
                    f"own ({own.name}): leave out one of the two"
                )
            model = own
        return dataclasses.replace(config, data=data, model=model)

    def score_files(self, config: RunConfig, train: Dataset) -> tuple[ScoreFile, ...]:
        """Returns the score files of the config and those brought, which must be of these train examples.

        Raises:
            InputError: one is missing, damaged or of other examples, or two scores have one name.
        """
        files = [ScoreFile.load(path, dataset=train) for path in config.score.files]
        files += [file.of(train) for file in self.files]
        for file in files:
            if not file.name.isidentifier():
                raise InputError(f"the name of a score must be letters, digits and _, got {file.name!r}")
            if undefined := int(np.isnan(file.scores).sum()):
                raise InputError(
                    f"the score file {file.name} is NaN for {undefined:,} of {len(file.scores):,} examples, "
                    f"first in row {int(np.isnan(file.scores).argmax())}: no selection can be made by it"
                )
        names = [*config.score.names, *(file.name for file in files)]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise InputError(
                f"two scores are called {', '.join(twice)}: leave it out of score.names, or give the file "
                f"another name"
            )
        return tuple(files)


NOTHING = Own()


def with_choices(config: RunConfig, scores: Any, rules: Any) -> tuple[RunConfig, tuple[ScoreFile, ...]]:
    """Returns a config with other scores and rules, where any are given, and the score files among them."""
    files: tuple[ScoreFile, ...] = ()
    if scores is not None:
        given = tuple(scores) if isinstance(scores, tuple | list) else (scores,)
        files = tuple(score for score in given if isinstance(score, ScoreFile))
        names = tuple(score for score in given if not isinstance(score, ScoreFile))
        config = dataclasses.replace(config, score=with_others(config.score, "names", names))
    if rules is not None:
        method = tuple(rules) if isinstance(rules, tuple | list) else (rules,)
        config = dataclasses.replace(config, select=with_others(config.select, "method", method))
    return config, files


def from_folder(
    config: RunConfig, own: Own, resolved: Mapping[str, Any], scores: Path
) -> tuple[RunConfig, Own]:
    """Returns config and what is brought to a run that is there, with its copies of scores made elsewhere.

    Args:
        config: of the run.
        own: what is brought beside them.
        resolved: what followed from the config, as in config.json.
        scores: the run's folder of score files. Where it lacks a copy, files are those of the config.
    """
    code = resolved.get("code", {})
    paths = [scores / f"{name.removeprefix(OF)}.npz" for name in code if name.startswith(OF)]
    if not paths or not all(path.is_file() for path in paths):
        return config, own
    config = dataclasses.replace(config, score=dataclasses.replace(config.score, files=()))
    return config, dataclasses.replace(own, files=tuple(map(ScoreFile.load, paths)))


def code_of(config: RunConfig, own: Own, files: tuple[ScoreFile, ...]) -> dict[str, str]:
    """Names what decides a run's numbers and is not in its config, with digests of source or contents."""
    return dict(_code_of(config, own, files))


def _code_of(config: RunConfig, own: Own, files: tuple[ScoreFile, ...]) -> Iterator[tuple[str, str]]:
    if own.model is not None:
        yield "model", _named(model_name(own.model), own.model)
    for score in config.score.scores:
        functions: list[Any] = [score.build, score.measure, *(score.fold or ())]
        parts = [part for part in functions if part is not None]
        yield f"score {score.name}", _named(score.name, parts)
    for rule in config.select.rules:
        yield f"rule {rule.name}", _named(rule.name, rule.select)
    for file in files:
        yield f"{OF}{file.name}", fingerprint(file.scores, file.per_seed)[:LETTERS]


def _named(name: str, thing: Any) -> str:
    return f"{name} {identify(thing).rpartition(' ')[2]}"
