"""What every experiment starts from: data, model, and the config's epochs as steps, checked first."""

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np

from diet_jax.analysis.results import BALANCED, FULL, RANDOM, RS2
from diet_jax.data.dataset import Splits, first_examples
from diet_jax.data.labels import labels_of_file, new_labels_remark, read_matrix
from diet_jax.data.noise import flip_labels
from diet_jax.data.remarks import empty_classes
from diet_jax.data.sources import load_dataset, load_streamed
from diet_jax.devices.deadline import NEVER, Deadline
from diet_jax.devices.defaults import How
from diet_jax.devices.progress import say
from diet_jax.ensemble.over_seeds import AnyHow, resolve_how
from diet_jax.ensemble.scoring import all_folds
from diet_jax.errors import InputError, NotHereError, counted
from diet_jax.experiments.config import RunConfig
from diet_jax.experiments.own import NOTHING, Own, code_of
from diet_jax.experiments.run_folder import RunFolder
from diet_jax.models import MODEL_NAMES, create_model
from diet_jax.options.identity import identify, is_of_package
from diet_jax.scores.file import ScoreFile
from diet_jax.scores.gradients import GRAND_LAST_LAYER
from diet_jax.scores.score import Score, check_function
from diet_jax.selection.masks import num_kept
from diet_jax.selection.per_class import check_balanced, check_minimum
from diet_jax.selection.rule import Rule
from diet_jax.training.dynamic_pruning.methods import check_candidates
from diet_jax.training.loop import check_classes, check_optimizer, program_of
from diet_jax.training.recipe import (
    check_augment,
    decay_boundaries,
    epoch_to_step,
    make_optimizer,
    rate_remark,
    steps_per_epoch,
    total_steps,
)
from diet_jax.training.seeds import seed_keys
from diet_jax.training.step import Program
from diet_jax.types import Model


@dataclass(frozen=True, eq=False)
class Setup:
    """A config with its data and model."""

    config: RunConfig
    splits: Splits
    model: Model
    clean_labels: np.ndarray | None = None
    """int32 `[n]`, the labels as they came, where the config replaces some; else None."""
    own: Own = NOTHING
    """What was brought in place of what the config would name."""
    files: tuple[ScoreFile, ...] = ()
    """Scores of the train examples that were made elsewhere."""
    deadline: Deadline = NEVER
    """When this process must stop."""

    @property
    def changed(self) -> np.ndarray:
        """bool `[n]`, True where a train label is not the one that it came with."""
        labels = self.splits.train.labels
        return np.zeros(len(labels), bool) if self.clean_labels is None else labels != self.clean_labels

    @functools.cached_property
    def per_epoch(self) -> int:
        """Steps in one pass over the full train split."""
        return steps_per_epoch(len(self.splits.train), self.config.train.batch_size)

    @functools.cached_property
    def num_steps(self) -> int:
        """Steps of a training on everything."""
        return total_steps(self.config.train, len(self.splits.train))

    @functools.cached_property
    def score_step(self) -> int:
        """The step at which examples are scored."""
        return self._step(self.config.score.epoch, "score.epoch")

    @functools.cached_property
    def checkpoint_steps(self) -> tuple[int, ...]:
        """The steps whose states are saved, ascending."""
        epochs = self.config.checkpoint_epochs
        return tuple(sorted({self._step(epoch, "checkpoint_epochs") for epoch in epochs}))

    @functools.cached_property
    def scores(self) -> tuple[Score, ...]:
        """What examples are scored by."""
        return self.config.score.scores

    @functools.cached_property
    def left_out(self) -> dict[float, str]:
        """The keep fractions of the config that cannot be trained on, and why."""
        config, train, reasons = self.config, self.splits.train, {}
        for fraction in config.select.fractions:
            try:
                kept = num_kept(len(train), fraction)
                make_optimizer(config.train, total_steps(config.train, len(train), kept))
                check_candidates(config.train, kept)
                check_minimum(train.labels, kept, config.select.min_per_class)
                if config.select.balanced:
                    check_balanced(config.select.rules, train.labels, kept)
            except InputError as error:
                reasons[fraction] = str(error)
        return reasons

    @functools.cached_property
    def fractions(self) -> tuple[float, ...]:
        """The keep fractions that are trained on, in the order of the config."""
        return tuple(f for f in self.config.select.fractions if f not in self.left_out)

    @functools.cached_property
    def groups(self) -> list[tuple[Rule, tuple[str, ...]]]:
        """Each rule with the names of scores that it reads: once for each selection at a keep fraction."""
        names = [*self.config.score.names, *(file.name for file in self.files)]
        of_rule = {0: [()], 1: [(name,) for name in names]}
        return [
            (rule, group)
            for rule in self.config.select.rules
            for group in of_rule.get(rule.num_scores, [tuple(names)])
        ]

    def steps_at(self, fraction: float) -> int:
        """Steps of a training on a keep fraction, 1 for everything."""
        count = len(self.splits.train)
        return total_steps(self.config.train, count, num_kept(count, fraction))

    @property
    def has_balanced(self) -> bool:
        """Whether class-balanced random subsets are wanted, and are others than the random ones."""
        return BALANCED in self.config.select.baselines and not self.config.select.balanced

    def has_rs2(self, fraction: float) -> bool:
        """Whether RS2 is wanted at a keep fraction, and is there another training than that on everything."""
        return RS2 in self.config.select.baselines and self.steps_at(fraction) != self.num_steps

    def program(self, num_kept: int | None = None) -> Program:
        """Returns the program of a training on so many of the train examples, by default all."""
        return program_of(
            self.model, self.splits.train, self.config.train, num_kept=num_kept, folds=all_folds(self.scores)
        )

    def how(self, asked: AnyHow) -> How:
        """How seeds are batched: as asked for or the default; one by one with checkpoints or streaming.

        One by one, too, before a deadline, unless another way was asked for: each can then stop and go on.
        """
        one_by_one = self.config.checkpoint_epochs or self.config.data.streaming
        if one_by_one or (self.deadline.comes and asked == "auto"):
            return "loop"
        # Whether there is a mesh for "mesh" is seen where the seeds run.
        return asked if asked == "mesh" else resolve_how(asked, self.model, self.splits.train)

    def resolved(self) -> dict[str, Any]:
        """What followed from the config and the data, as JSON values."""
        config, count = self.config, len(self.splits.train)
        kept = {str(f): num_kept(count, f) for f in self.fractions}
        boundaries = decay_boundaries(config.train, self.num_steps)
        return {
            "dataset": self.splits.train.name,
            "code": code_of(config, self.own, self.files),
            "fingerprint": [split.fingerprint for split in self.splits],
            "ids": self.splits.train.id_source,
            "train_examples": count,
            "changed_labels": int(self.changed.sum()),
            "test_examples": len(self.splits.test),
            "test_split": self.splits.test.split,
            "normalization": [list(values) for values in self.splits.train.normalization],
            "kind": self.splits.train.kind,
            "classes": identify(self.splits.train.class_names),
            "steps_per_epoch": self.per_epoch,
            "steps": self.num_steps,
            "score_step": epoch_to_step(config.score.epoch, self.per_epoch),
            "checkpoint_steps": list(self.checkpoint_steps),
            "decay_after_steps": None if boundaries is None else list(boundaries),
            "kept_examples": kept,
            "score_how": self.how(config.score.how),
            "retrain_how": self.how(config.retrain.how),
        }

    def _step(self, epoch: float, name: str) -> int:
        step = epoch_to_step(epoch, self.per_epoch)
        if step > self.num_steps:
            raise InputError(
                f"{name} {epoch:g} is step {step}, beyond the {self.num_steps} steps of the training "
                f"({self.num_steps / self.per_epoch:g} epochs)"
            )
        return step


# What both splits have in common, and how to see to it with arrays of one's own.
SHARED = {
    "class_names": "; give both the same num_classes or class_names",
    "kind": "",
    "shape": "",
    "normalization": "; make the test split with normalization=train.normalization",
}


def _check_scores(setup: Setup, prunes: bool) -> None:
    """Raises InputError unless there are scores, and as many as the rules read."""
    names = [*setup.config.score.names, *(file.name for file in setup.files)]
    if not names:
        raise InputError("there is no score: choose some with score.names, or bring files with score.files")
    rules = setup.config.select.rules if prunes else ()
    without = {rule.name for rule in rules if not rule.num_scores}
    if taken := ({FULL, RANDOM, BALANCED, RS2} | without) & set(names):
        raise InputError(f"{taken.pop()!r} is part of every comparison as it is; leave that score out")
    for score in setup.scores:
        if (score.of_examples or score.measure is not None) and not is_of_package(score.build):
            check_function(score, setup.model, setup.splits.train.spec)
    for rule in rules:
        if "features" in rule.reads:
            try:
                check_function(GRAND_LAST_LAYER, setup.model, setup.splits.train.spec)
            except InputError as error:
                raise InputError(
                    f"the rule {rule.name} reads what the last layer is given: {error}"
                ) from error
        if rule.num_scores not in (0, 1, len(names)):
            raise InputError(
                f"the rule {rule.name} reads {counted(rule.num_scores, 'score')}, there are {len(names)}: "
                f"{', '.join(names)}"
            )


def save_noise(setup: Setup, folder: RunFolder) -> None:
    """Writes clean labels, labels and which of them differ, with ids; nothing where no label was replaced."""
    if setup.clean_labels is None:
        return
    train = setup.splits.train
    arrays = {
        "ids": train.ids,
        "clean_labels": setup.clean_labels,
        "labels": train.labels,
        "changed": setup.changed,
    }
    facts = {"fingerprint": train.fingerprint, "changed_share": float(setup.changed.mean())}
    folder.save("noise.npz", "label noise", arrays, facts)


def load_splits(config: RunConfig, own: Splits | None = None) -> tuple[Splits, np.ndarray | None]:
    """Loads the config's data: cut to size, then with the labels to train on in the train split.

    Args:
        config: of the run.
        own: what to begin with instead of what the config names.

    Returns:
        The splits, and the clean train labels int32 `[n]` if they were replaced, else None.
    """
    data = config.data
    if own is not None:
        train, test = own
    elif data.streaming:
        options: Any = {"image_size": data.image_size, "workers": data.workers}
        train, test = load_streamed(data.name, data_dir=data.data_dir, **options)
    else:
        train, test = load_dataset(data.name, data_dir=data.data_dir)
    whole = train
    if data.num_train is not None:
        if data.num_train > len(whole):
            raise InputError(
                f"data.num_train is {data.num_train:,}, {whole.name}/{whole.split} has {len(whole):,} "
                "examples; lower it"
            )
        train = first_examples(whole, data.num_train)
    if data.labels is not None:
        noisy = labels_of_file(data.labels, whole, train)
    elif data.label_noise:
        matrix = None if data.noise_matrix is None else read_matrix(data.noise_matrix)
        key = seed_keys(config.seed, "label_noise", 1)[0]
        noisy = flip_labels(key, train, data.label_noise, mode=data.noise_mode, matrix=matrix)
    else:
        return Splits(train, test), None
    say(f"{noisy.changed.mean():.2%} of the train labels differ from those that came with the data")
    if data.labels is not None:
        remark = new_labels_remark(train.labels, noisy.dataset.labels, train.num_classes)
        if remark:
            say(f"warning: {data.labels}: {remark}")
    return Splits(noisy.dataset, test), train.labels


def config_model(config: RunConfig, num_classes: int) -> Model:
    """Returns the config's network for a number of classes.

    Raises:
        InputError: it is none of the library's.
    """
    options = {name: getattr(config.model, name) for name in ("widths", "width", "stem", "convolution")}
    given = {name: value for name, value in options.items() if value is not None}
    try:
        return create_model(config.model.name, num_classes=num_classes, dtype=config.model.dtype, **given)
    except InputError as error:
        if config.model.name in MODEL_NAMES:
            raise
        own = "A model of one's own comes with a config file that has it as MODEL."
        raise NotHereError(f"{error} {own}") from error


def prepare(
    config: RunConfig,
    own: Own = NOTHING,
    *,
    splits: Splits | None = None,
    scores: bool = True,
    prunes: bool = True,
    deadline: Deadline = NEVER,
) -> Setup:
    """Loads the data, makes the model and checks that the config fits both.

    Args:
        config: of the run.
        own: what takes part in place of what the config would name.
        splits: data in place of the config's own, with its labels as they are.
        scores: whether examples will be scored at the config's epoch, which must then exist.
        prunes: whether trainings on the config's fractions follow; those that cannot be are told.
        deadline: of what is done with it.

    Raises:
        InputError: the data, the model or a number does not fit. Nothing was written.
    """
    config = own.named(config)
    splits, clean_labels = load_splits(config, own.splits) if splits is None else (splits, None)
    train = splits.train
    for name, remedy in SHARED.items():
        here, there = getattr(splits.test, name), getattr(train, name)
        if here != there:
            raise InputError(
                f"{train.name}: {name} is {str(there)[:100]} in the train and {str(here)[:100]} in the test "
                f"split{remedy}"
            )
    model = config_model(config, train.num_classes) if own.model is None else own.model
    check_augment(config.train, train.kind)
    # Of the library's own it is known that they fit; to trace them takes seconds where they are large.
    if own.model is not None:
        check_classes(model, train.spec, train.num_classes)
    files = own.score_files(config, train)
    setup = Setup(config, splits, model, clean_labels, own, files, deadline)
    setup.resolved()
    if not isinstance(config.train.optimizer, str):
        check_optimizer(setup.program(), train.spec)
    if scores:
        _check_scores(setup, prunes)
    make_optimizer(config.train, setup.num_steps)
    if scores:
        _ = setup.score_step
    if remark := rate_remark(config.train):
        say(f"warning: {remark}")
    if prunes and not setup.fractions:
        reasons = "; ".join(f"keep {fraction:g}: {reason}" for fraction, reason in setup.left_out.items())
        raise InputError(f"no keep fraction can be trained on (select.fractions): {reasons}")
    for fraction, reason in setup.left_out.items() if prunes else ():
        say(f"keep {fraction:g} is left out: {reason}")
    # Of what was loaded by its name, and is whole, this was said when it was loaded.
    for line in empty_classes(splits) if own.train is not None or config.data.num_train is not None else ():
        say(line)
    return setup
