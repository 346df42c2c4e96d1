"""The store: trainings, scores and predictions on disk, found by what they are. Figures share them.

Nothing in it depends on which figure asked first. What is there is not computed again; a training that a
killed process or a deadline left goes on from its last checkpoint.
"""

import functools
import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np

from diet_jax.analysis.connectivity.paths import spawn
from diet_jax.data.dataset import Dataset, fingerprint
from diet_jax.devices.deadline import NEVER, Deadline, OutOfTime
from diet_jax.devices.defaults import How
from diet_jax.devices.progress import Progress, say
from diet_jax.ensemble.over_seeds import joined, take_seed
from diet_jax.ensemble.retraining import predict_dataset
from diet_jax.ensemble.scoring import score_ensemble, score_state
from diet_jax.errors import InputError, counted
from diet_jax.experiments.divergence import Diverged, broken_by, broken_predictor
from diet_jax.experiments.reproduction.task import ScoreAt, Task, digest
from diet_jax.experiments.retraining import train_together
from diet_jax.experiments.run_folder import RunFolder
from diet_jax.experiments.setup import Setup, prepare
from diet_jax.experiments.train_one import trained_network
from diet_jax.files.arrays import load_checked, save_arrays
from diet_jax.files.records import from_record, with_checksum
from diet_jax.files.writing import hold, remove_leftovers, write_atomically
from diet_jax.selection.ranks import keep_random
from diet_jax.training.divergence import bad_losses, said_elsewhere
from diet_jax.training.loop import check_keep
from diet_jax.training.recipe import epoch_to_step, steps_per_epoch, total_steps
from diet_jax.training.seeds import seed_keys
from diet_jax.training.step import StepMetrics, TrainState
from diet_jax.types import PRNGKey

KIND = "predictions"

Masks = Mapping[Any, np.ndarray | None]
"""Selections by any key: keep masks bool `[n]`, one for each seed `[s n]`, or None for everything."""


@dataclass(frozen=True, eq=False)
class Training:
    """One training: a task, a seed of a purpose, the examples that are kept, and for a child its parent."""

    task: Task
    purpose: Literal["score", "retrain", "child"]
    seed: int
    keep: np.ndarray | None = None
    """bool `[n]`; None trains on everything."""
    parent: tuple[int, int] | None = None
    """For a child: the scoring seed that it was spawned from, and the step."""


class Store:
    """A folder of trainings and of what was computed from them; open it with `open_store`.

    Before a deadline seeds train one by one, and scores leave no checkpoints: what must travel is small.
    """

    def __init__(self, path: Path, data_dir: str | None, deadline: Deadline = NEVER) -> None:
        self.path, self.data_dir, self.deadline = path, data_dir, deadline
        self._setups: dict[str, Setup] = {}

    def setup(self, task: Task) -> Setup:
        """Returns a task with its data and model loaded."""
        name = digest(task.facts())
        if name not in self._setups:
            config = task.config(self.data_dir)
            self._setups[name] = prepare(config, scores=False, prunes=False, deadline=self.deadline)
        return self._setups[name]

    def facts(self, training: Training) -> dict[str, Any]:
        """Returns all that decides a training, the contents of its data among it, as JSON values."""
        return {
            "task": training.task.facts(),
            "purpose": training.purpose,
            "seed": training.seed,
            "keep": None if training.keep is None else fingerprint(training.keep),
            "parent": None if training.parent is None else list(training.parent),
            "fingerprint": self.setup(training.task).splits.train.fingerprint,
        }

    def step(self, task: Task, epoch: float) -> int:
        """Returns the step that an epoch of a task's full training names."""
        setup = self.setup(task)
        step = epoch_to_step(epoch, setup.per_epoch)
        if step > setup.num_steps:
            raise InputError(
                f"epoch {epoch:g} is step {step}, beyond the {setup.num_steps} steps of {task.name}; "
                f"choose an earlier epoch"
            )
        return step

    def last_epoch(self, task: Task) -> float:
        """Returns the epoch at which a task's full training ends."""
        setup = self.setup(task)
        return setup.num_steps / setup.per_epoch

    def memo(
        self, kind: str, facts: dict[str, Any], compute: Callable[[], dict[str, Any]]
    ) -> dict[str, np.ndarray]:
        """Returns arrays that were stored under these facts, or computes and stores them.

        Raises:
            OutOfTime: they are not there, and the deadline has come.
        """
        path = self._path(kind, facts)
        if not path.is_file():
            self.deadline.check()
            self._keep(kind, facts, compute())
        return load_checked(path, kind, None, facts)

    def _keep(self, kind: str, facts: dict[str, Any], arrays: dict[str, Any]) -> None:
        arrays = {name: np.asarray(array) for name, array in arrays.items()}
        save_arrays(self._path(kind, facts), kind, arrays, facts)

    def _path(self, kind: str, facts: dict[str, Any]) -> Path:
        return self.path / kind / f"{digest(facts)}.npz"

    def state(
        self, training: Training, step: int, progress: Progress | None = None, *, save: bool = True
    ) -> TrainState:
        """Returns the state of a training at a step, from its checkpoint or trained up to it.

        Args:
            training: which one.
            step: updates done.
            progress: is told of every step done.
            save: whether to keep a checkpoint of this step.

        Raises:
            OutOfTime: the deadline has come; the training goes on from where it was.
        """
        with self._trained(training, step, progress, save=save) as state:
            return state

    def _trained(
        self,
        training: Training,
        step: int,
        progress: Progress | None,
        *,
        save: bool = False,
        goes_on: bool = False,
    ) -> AbstractContextManager[TrainState]:
        """The state of a training at a step, for a block that works with it, see `trained_network`."""
        setup, folder, facts = self.setup(training.task), self._folder(training), self.facts(training)
        header, described = folder.path / "training.json", json.dumps(with_checksum(facts), indent=1)
        if not header.is_file():
            write_atomically(header, described)
        elif (there := header.read_bytes()) != described.encode():
            try:
                from_record(there)
            except (ValueError, RecursionError) as error:
                raise InputError(f"{header} is damaged ({error}); delete that file") from error
            raise InputError(
                f"{header} describes another training than this one; delete {folder.path} to train it again"
            )
        key = seed_keys(training.task.seed, training.purpose, training.seed + 1)[training.seed]
        options: Any = {
            "keep": training.keep,
            "stop": step,
            "save": {step} if save else (),
            "goes_on": goes_on,
            "facts": facts,
        }
        if training.parent is not None:
            seed, spawned_at = training.parent
            key, parent = jax.random.fold_in(key, seed), Training(training.task, "score", seed)
            options["first"] = lambda: spawn(self.state(parent, spawned_at), key)
        return trained_network(setup, folder, "", key, progress=_NewSteps(progress), **options)

    def _folder(self, training: Training) -> RunFolder:
        """The folder of a training: what it is, its checkpoints and its log."""
        setup = self.setup(training.task)
        name = f"{setup.splits.train.name.replace(':', '-').replace('/', '-')}-{setup.config.model.name}"
        unit = f"{training.purpose}-{training.seed:02d}-{digest(self.facts(training))}"
        return RunFolder(self.path / "trainings" / name / unit)

    def _check_known(self, training: Training, step: int) -> None:
        """Raises Diverged if the training is known to diverge up to a step."""
        folder = self._folder(training)
        known = folder.diverged().get("")
        if known is not None and known.step <= step:
            raise Diverged("", known, folder)

    def scores(self, task: Task, wanted: Sequence[ScoreAt], num_seeds: int) -> dict[ScoreAt, np.ndarray]:
        """Returns scores of every example and seed: float32 `[s n]` for each score asked for.

        Seeds that lack any are trained together where that is how the backend trains seeds best; else one
        after the other, each from its last checkpoint.
        """
        # By seed, then ascending, so that each state is trained on from the one before.
        pairs = [(seed, at) for seed in range(num_seeds) for at in sorted(wanted, key=lambda at: at.epoch)]
        missing = self._unscored(task, pairs)
        if missing and self._how(task) != "loop":
            self._score_together(task, missing)
            missing = []
        last = dict(missing)
        total = sum(self.step(task, at.epoch) for at in last.values())
        try:
            with Progress(f"scoring {task.name}", total=total, quiet=not missing) as progress:
                found = {
                    (seed, at): self._score(task, at, seed, progress, goes_on=last.get(seed, at) != at)
                    for seed, at in pairs
                }
        except OutOfTime as out:
            left = self._unscored(task, pairs)
            steps = sum({seed: self.step(task, at.epoch) for seed, at in left}.values())
            there = {at: num_seeds - sum(other == at for _, other in left) for at in wanted}
            lines = [
                f"  {at.label}: {count} of {counted(num_seeds, 'network')}"
                for at, count in there.items()
                if count
            ]
            out.report += [f"{task.name}: {len(left)} scores are left{self.deadline.time_for(steps)}", *lines]
            raise
        return {at: np.stack([found[seed, at] for seed in range(num_seeds)]) for at in wanted}

    def _unscored(self, task: Task, pairs: Sequence[tuple[int, ScoreAt]]) -> list[tuple[int, ScoreAt]]:
        """The pairs of seed and score that need a training and are not stored."""
        return [
            (seed, at)
            for seed, at in pairs
            if at.score.needs_training
            and not self._path("scores", self._score_facts(task, at, seed)).is_file()
        ]

    def _how(self, task: Task) -> How:
        return self.setup(task).how("auto")

    def _score_together(self, task: Task, missing: Sequence[tuple[int, ScoreAt]]) -> None:
        """Scores an ensemble in one program at all epochs that are missing, and stores each score."""
        setup = self.setup(task)
        for seed, at in missing:
            self._check_known(Training(task, "score", seed), self.step(task, at.epoch))
        seeds = sorted({seed for seed, _ in missing})
        steps = tuple(sorted({self.step(task, at.epoch) for _, at in missing}))
        scores = tuple({at.name: at.score for _, at in missing}.values())
        keys = seed_keys(task.seed, "score", seeds[-1] + 1)[np.asarray(seeds)]
        say(
            f"scoring {task.name} with {counted(len(seeds), 'network')} at steps {', '.join(map(str, steps))}"
        )
        options: Any = {"config": setup.config.train, "step": steps, "names": scores}
        with said_elsewhere():
            result = score_ensemble(keys, setup.model, setup.splits.train, **options)
        for seed, at in missing:
            values = result.scores[at.name][steps.index(self.step(task, at.epoch)), seeds.index(seed)]
            # Those that are NaN are looked at one by one, where the network is at hand.
            if not np.isnan(values).any():
                self._keep("scores", self._score_facts(task, at, seed), {"scores": values})
        for place in bad_losses(result.history.loss):
            folder = self._folder(Training(task, "score", seeds[place]))
            folder.log_history("", take_seed(result.history, place), 0, setup.per_epoch)

    def mean_scores(self, task: Task, wanted: Sequence[ScoreAt], num_seeds: int) -> dict[ScoreAt, np.ndarray]:
        """Returns scores averaged over seeds: float64 `[n]` for each score asked for."""
        scores = self.scores(task, wanted, num_seeds)
        return {at: values.mean(axis=0, dtype=np.float64) for at, values in scores.items()}

    def _score_facts(self, task: Task, at: ScoreAt, seed: int) -> dict[str, Any]:
        facts: dict[str, Any] = {"score": at.name, "fingerprint": self.setup(task).splits.train.fingerprint}
        if not at.score.needs_training:
            return {**facts, "seed": None if at.score.of_examples else seed, "of": task.seed}
        return {**facts, "step": self.step(task, at.epoch), "of": self.facts(Training(task, "score", seed))}

    def _score(self, task: Task, at: ScoreAt, seed: int, progress: Progress, *, goes_on: bool) -> np.ndarray:
        def compute() -> dict[str, Any]:
            setup, needed = self.setup(task), at.score.needs_training
            if at.score.reads == "nothing":
                key = seed_keys(task.seed, "random_subset", seed + 1)[seed]
                return {"scores": at.score.function()(key, len(setup.splits.train))}
            step = self.step(task, at.epoch) if needed else 0
            keep: Any = {"goes_on": goes_on and needed} if self.deadline.comes else {"save": needed}
            options: Any = {"scores": (at.score,), "deadline": self.deadline}
            training = Training(task, "score", seed)
            with self._trained(training, step, progress, **keep) as state:
                found = score_state(state, setup.model, setup.splits.train, **options)
                folder, network = self._folder(training), functools.partial(getattr, state, "variables")
                why = broken_by(setup, folder, "", step, found, network)
                if why is not None:
                    raise Diverged("", why, folder)
            return {"scores": found[at.name]}

        return self.memo("scores", self._score_facts(task, at, seed), compute)["scores"]

    def random_masks(self, task: Task, fraction: float, num_seeds: int) -> np.ndarray:
        """Returns a random mask for each retraining seed, bool `[s n]`."""
        keys = seed_keys(task.seed, "random_subset", num_seeds)
        return np.stack([keep_random(key, len(self.setup(task).splits.train), fraction) for key in keys])

    def trainable(self, task: Task, keep: Masks) -> Masks:
        """Returns the masks that keep some example of every class: on others no network can be trained."""
        train = self.setup(task).splits.train

        def whole(mask: np.ndarray | None) -> bool:
            rows = [] if mask is None else np.atleast_2d(mask)
            return all(len(np.unique(train.labels[one])) == train.num_classes for one in rows)

        return {name: mask for name, mask in keep.items() if whole(mask)}

    def predictions(
        self, task: Task, keep: Masks, num_seeds: int, *, split: str = "test"
    ) -> dict[Any, np.ndarray]:
        """Retrains fresh networks on selections and returns what their last step predicts.

        Args:
            task: what is trained.
            keep: by any key bool `[n]`, one for each seed `[s n]`, or None for everything.
            num_seeds: fresh networks for each.
            split: "test" or "train": which examples to predict.

        Returns:
            int32 `[s m]` by key, without the selections that are not `trainable`.
        """
        groups = {
            key: _retrainings(task, mask, num_seeds) for key, mask in self.trainable(task, keep).items()
        }
        dataset = getattr(self.setup(task).splits, split)

        todo = {key: self._lacking(group, dataset) for key, group in groups.items()}
        steps = sum(self._num_steps(training) for group in todo.values() for training in group)
        count = sum(map(len, todo.values()))
        try:
            name = f"training {count} x {task.name}"
            with Progress(name, steps, quiet=not count) as progress:
                how = self._how(task)
                for together in joined(todo.values(), how, self._num_kept) if how != "loop" else ():
                    self._retrain_together(together, dataset, how)
                    progress.update(sum(map(self._num_steps, together)))
                # Seed by seed, so that what is finished early can be compared.
                found = {
                    (key, seed): self._predict(group[seed], dataset, progress)
                    for seed in range(num_seeds)
                    for key, group in groups.items()
                }
        except OutOfTime as out:
            out.report += self._retrained(task, groups, dataset)
            raise
        return {key: np.stack([found[key, seed] for seed in range(num_seeds)]) for key in groups}

    def _retrained(self, task: Task, groups: Mapping[Any, list[Training]], dataset: Dataset) -> list[str]:
        """What is there of retrainings that were asked for, in words: counts and mean accuracies."""
        left = {key: self._lacking(group, dataset) for key, group in groups.items()}
        time = self.deadline.time_for(sum(self._num_steps(t) for group in left.values() for t in group))
        lines = [f"{task.name}: {sum(map(len, left.values()))} retrainings are left{time}"]
        for key, group in groups.items():
            there = [self._prediction_facts(t, dataset) for t in group if t not in left[key]]
            found = [load_checked(self._path(KIND, facts), KIND, None, facts) for facts in there]
            if there:
                right = 100 * np.mean([one["predicted"] == dataset.labels for one in found])
                name = ", ".join(map(str, key)) if isinstance(key, tuple) else str(key)
                accuracy = f"{right:.2f} % {dataset.split} accuracy"
                lines.append(f"  {name}: {len(there)} of {counted(len(group), 'network')}, {accuracy}")
        return lines

    def _lacking(self, group: Collection[Training], dataset: Dataset) -> list[Training]:
        """The trainings whose predictions are not stored."""
        paths = (self._path(KIND, self._prediction_facts(t, dataset)) for t in group)
        return [training for training, path in zip(group, paths, strict=True) if not path.is_file()]

    def _retrain_together(self, group: Sequence[Training], dataset: Dataset, how: How) -> None:
        """Retrains networks on equally many examples in one program and stores what they predict."""
        # An equal selection may have been trained under another key by now, or be in the group twice.
        group = self._lacking(
            {digest(self.facts(training)): training for training in group}.values(), dataset
        )
        if not group:
            return
        setup = self.setup(group[0].task)
        for training in group:
            self._check_known(training, self._num_steps(training))
        networks, num_steps = [(t.seed, t.keep) for t in group], self._num_steps(group[0])
        trained = train_together(setup, networks, dataset, num_steps=num_steps, how=how)
        for place, training in enumerate(group):
            if place not in trained.diverged:
                found = {"predicted": trained.predicted[place]}
                self._keep(KIND, self._prediction_facts(training, dataset), found)
        for place in trained.diverged:
            history = take_seed(trained.history, place)
            self._log_divergence(group[place], history, trained.loss[place])

    def _log_divergence(self, training: Training, history: StepMetrics | None, loss: np.ndarray) -> None:
        """Logs that a network diverged, by its history, or by its losses on what it predicts."""
        setup, folder = self.setup(training.task), self._folder(training)
        per_epoch = steps_per_epoch(self._num_kept(training), setup.config.train.batch_size)
        known = None if history is None else folder.log_history("", history, 0, per_epoch)
        if known is None:
            broken_predictor(folder, "", self._num_steps(training), per_epoch, loss)

    def accuracies(self, task: Task, keep: Masks, num_seeds: int) -> dict[Any, np.ndarray]:
        """Returns the final test accuracy float64 `[s]` by key; arguments as of `predictions`."""
        labels = self.setup(task).splits.test.labels
        predicted = self.predictions(task, keep, num_seeds)
        return {key: (values == labels).mean(axis=1) for key, values in predicted.items()}

    def _num_kept(self, training: Training) -> int:
        setup = self.setup(training.task)
        return len(check_keep(setup.splits.train, training.keep, setup.config.train))

    def _num_steps(self, training: Training) -> int:
        setup = self.setup(training.task)
        return total_steps(setup.config.train, len(setup.splits.train), self._num_kept(training))

    def _prediction_facts(self, training: Training, dataset: Dataset) -> dict[str, Any]:
        return {"of": self.facts(training), "dataset": dataset.fingerprint}

    def _predict(self, training: Training, dataset: Dataset, progress: Progress) -> np.ndarray:
        def compute() -> dict[str, np.ndarray]:
            setup, steps = self.setup(training.task), self._num_steps(training)
            with self._trained(training, steps, progress) as state:
                found = predict_dataset(setup.model, state.variables, dataset, deadline=self.deadline)
            self._log_divergence(training, None, found[1])
            self._check_known(training, steps)
            return {"predicted": found[0]}

        return self.memo(KIND, self._prediction_facts(training, dataset), compute)["predicted"]


class _NewSteps(Progress):
    """Tells another progress of the steps done now; those before a checkpoint were told already."""

    def __init__(self, progress: Progress | None) -> None:
        super().__init__("", quiet=True)
        self._told, self._restored = progress, True

    def update(self, count: int) -> None:
        if self._told is not None and not self._restored:
            self._told.update(count)
        self._restored = False


def _retrainings(task: Task, keep: np.ndarray | None, num_seeds: int) -> list[Training]:
    masks = [keep] * num_seeds if keep is None or keep.ndim == 1 else list(keep)
    if len(masks) != num_seeds:
        raise InputError(
            f"keep has {counted(len(masks), 'mask')} for {counted(num_seeds, 'seed')}; give one for each"
        )
    return [Training(task, "retrain", seed, mask) for seed, mask in enumerate(masks)]


def tie_key(task: Task) -> PRNGKey:
    """Returns the key that decides between equal scores."""
    return seed_keys(task.seed, "tie_break", 1)[0]


@contextmanager
def open_store(path: Path, data_dir: str | None, deadline: Deadline = NEVER) -> Iterator[Store]:
    """Opens a store for one process at a time.

    Raises:
        InputError: it cannot be written, or another process works in it.
    """
    with hold(path, "store"):
        remove_leftovers(path)
        yield Store(path, data_dir, deadline)
