"""What is trained on what, and which score is meant: the words in which figures are described."""

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

from diet_jax.errors import InputError
from diet_jax.experiments.config import DataConfig, ModelConfig, RunConfig
from diet_jax.options.plain import plain
from diet_jax.options.typed import check_types
from diet_jax.scores.score import SCORES, Score
from diet_jax.training.recipe import TrainConfig


@dataclass(frozen=True)
class Task:
    """One dataset, one network and one recipe: everything but the seeds of the runs."""

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    seed: int = 0
    """Decides every random number, the label noise's too."""

    def config(self, data_dir: str | None) -> RunConfig:
        """Returns the run config with this data, model and recipe."""
        data = dataclasses.replace(self.data, data_dir=data_dir or self.data.data_dir)
        return RunConfig(data=data, model=self.model, train=self.train, seed=self.seed)

    def facts(self) -> dict[str, Any]:
        """Returns all that decides the numbers but for rounding, as JSON values."""
        facts = plain(dataclasses.asdict(self))
        del facts["data"]["data_dir"], facts["model"]["convolution"]
        del facts["train"]["steps_per_call"], facts["train"]["compiler_options"]
        return facts

    @property
    def identity(self) -> str:
        """Names it in results, by the settings that are not the usual ones: new options do not change it."""
        return digest(_unusual(self.facts(), Task().facts()))

    def with_noise(self, share: float, mode: str = "permute") -> "Task":
        """Returns the same task with this label noise in place of any other."""
        data = dataclasses.replace(
            self.data, label_noise=share, noise_mode=mode, noise_matrix=None, labels=None
        )
        return dataclasses.replace(self, data=data)

    def clean(self) -> "Task":
        """Returns the same task with the labels that came with the data."""
        return self.with_noise(0.0)

    @property
    def data_name(self) -> str:
        """The data, for titles."""
        return (
            self.data.name if self.data.num_train is None else f"{self.data.name} ({self.data.num_train:,})"
        )

    @property
    def network(self) -> str:
        """The model, for titles."""
        widths = [] if self.model.widths is None else ["-".join(map(str, self.model.widths))]
        dtype = [] if self.model.dtype == "float32" else [self.model.dtype]
        return " ".join([self.model.name, *widths, *dtype])

    @property
    def name(self) -> str:
        """Data and model, for titles."""
        return f"{self.data_name}, {self.network}"


@dataclass(frozen=True)
class ScoreAt:
    """A score at an epoch, such as EL2N at epoch 20."""

    name: str
    """Of a registered score."""
    epoch: float = 0.0

    def __post_init__(self) -> None:
        check_types(self)
        SCORES.find(self.name)
        if self.epoch < 0:
            raise InputError(f"the epoch of {self.name} must be at least 0, got {self.epoch}")

    @property
    def score(self) -> Score:
        """The score of that name."""
        return SCORES.find(self.name)

    @property
    def label(self) -> str:
        """Such as "EL2N at epoch 20"."""
        at_epoch = f" at epoch {self.epoch:g}" if self.score.needs_training else ""
        return self.score.label + at_epoch


def _unusual(facts: dict[str, Any], usual: dict[str, Any]) -> dict[str, Any]:
    """What differs, section by section."""
    return {
        name: _unusual(value, usual[name]) if isinstance(value, dict) else value
        for name, value in facts.items()
        if value != usual[name]
    }


def digest(facts: dict[str, Any]) -> str:
    """Names JSON facts by their contents."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
