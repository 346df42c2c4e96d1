"""The main job: score an ensemble early in training, prune, retrain on what is kept, compare."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from diet_jax.config import RunConfig, to_json
from diet_jax.ensemble import predict_dataset, score_ensemble, score_state, train_ensemble
from diet_jax.ensemble import score_batch_sizes as batch_sizes_of
from diet_jax.errors import InputError
from diet_jax.experiments.setup import Setup, prepare
from diet_jax.experiments.train_one import train_with_records
from diet_jax.plotting import accuracy_figure, examples_figure, histogram_figure
from diet_jax.progress import Progress, say
from diet_jax.pruning import keep_highest, keep_lowest, keep_random, keep_window, num_kept, tie_mass
from diet_jax.recipe import total_steps
from diet_jax.runs import RunFolder, epoch_means, open_run
from diet_jax.score_files import KeepFile, ScoreFile, load_arrays, save_arrays, write_atomically
from diet_jax.seeds import seed_keys
from diet_jax.tables import FULL, RANDOM, Result, to_csv, to_markdown, to_rows
from diet_jax.types import PRNGKey


@dataclass(frozen=True, eq=False)
class Selection:
    """What one group of networks is retrained on: a mask bool `[n]`, one per seed `[s n]`, or everything."""

    kept_by: str
    fraction: float
    keep: np.ndarray | None

    @property
    def name(self) -> str:
        """Name of its files."""
        return FULL if self.keep is None else f"{self.kept_by}_keep{self.fraction:g}"


def run_prune(config: RunConfig) -> tuple[RunFolder, list[dict[str, Any]]]:
    """Runs or continues the whole experiment and returns its folder and the table's rows.

    Args:
        config: of the run.

    Returns:
        The run folder, complete, and the rows of its table.

    Raises:
        InputError: something in config, data or folder does not fit.
    """
    setup = prepare(config)
    with open_run(config, setup.resolved()) as folder:
        with _timed(folder, "scoring"):
            files = score_stage(setup, folder)
        selections = select_stage(setup, folder, files)
        with _timed(folder, "retraining"):
            results = retrain_stage(setup, folder, selections)
        rows = to_rows(results)
        write_atomically(folder.path / "table.csv", to_csv(rows))
        write_atomically(folder.path / "table.md", to_markdown(rows))
        draw(folder.path / "figures", setup, files, rows)
    return folder, rows


def score_stage(setup: Setup, folder: RunFolder) -> list[ScoreFile]:
    """Scores every seed that is not scored yet and writes one score file per score, scores/NAME.npz."""
    config, train = setup.config, setup.splits.train
    names, count = config.score.names, config.score.num_seeds
    paths = [folder.path / "scores" / "per_seed" / f"seed_{r:02d}.npz" for r in range(count)]
    keys = seed_keys(config.seed, "score", count)
    how = setup.how(config.score.how)
    missing = [r for r in range(count) if not paths[r].is_file()]
    facts = {"fingerprint": train.fingerprint, "step": setup.score_step}

    def save(seed: int, scores: dict[str, np.ndarray]) -> None:
        save_arrays(paths[seed], "scores of one seed", {n: scores[n] for n in names}, {**facts, "seed": seed})

    if missing:
        say(f"scoring {len(train):,} examples with {count} networks at step {setup.score_step:,} ({how})")
    if missing and how != "loop":
        result = score_ensemble(
            keys,
            setup.model,
            train,
            config=config.train,
            step=setup.score_step,
            names=names,
            how=how,
            batch_size=config.score.batch_size,
            never_learned=config.score.never_learned,
        )
        for seed in range(count):
            _log_history(folder, f"score/seed_{seed:02d}", result.history, seed, setup.per_epoch)
            save(seed, {name: result.scores[name][seed] for name in names})
    elif missing:
        sizes = batch_sizes_of(names, setup.model, train, config.score.batch_size)
        with Progress("scoring", total=max(1, len(missing) * setup.score_step)) as progress:
            for seed in missing:
                unit = f"score/seed_{seed:02d}"
                state = train_with_records(
                    setup, folder, unit, keys[seed], stop=setup.score_step, progress=progress
                )
                save(
                    seed,
                    score_state(
                        state,
                        setup.model,
                        train,
                        batch_sizes=sizes,
                        keep=None,
                        never_learned=config.score.never_learned,
                    ),
                )
    loaded = [_load_seed(path, names, facts) for path in paths]
    files = []
    for name in names:
        file = ScoreFile.from_seeds(
            name,
            np.stack([arrays[name] for arrays in loaded]),
            train,
            step=setup.score_step,
            provenance={"config": to_json(config), "epoch": config.score.epoch, "id_source": train.id_source},
        )
        file.save(folder.path / "scores" / f"{name}.npz")
        report_infinite(file)
        files.append(file)
    return files


def report_infinite(file: ScoreFile) -> None:
    """Says how many examples have an infinite mean score, if any."""
    if file.num_infinite:
        seeds = int(np.isinf(file.per_seed).sum())
        say(
            f"{file.name}: {file.num_infinite:,} of {len(file.scores):,} examples have an infinite mean "
            f"({seeds:,} of {file.per_seed.size:,} single scores are: never learned by that seed); they rank "
            f"highest, tied"
        )


def mask_of(
    file: ScoreFile, method: str, fraction: float, offset: float = 0.0, *, key: PRNGKey
) -> tuple[np.ndarray, dict[str, Any]]:
    """Returns the mask bool `[n]` that a method keeps of a score, and how it came about; says ties."""
    if method == "window":
        keep = keep_window(file.scores, fraction, offset=offset, key=key)
    elif offset:
        raise InputError(f"offset {offset} needs the method window, got {method}")
    else:
        keep = {"highest": keep_highest, "lowest": keep_lowest}[method](file.scores, fraction, key=key)
    ties = tie_mass(file.scores, keep)
    if ties.tied:
        say(
            f"{file.name}, keep {fraction:g}: {ties.tied:,} examples tie at the edge of the selection, "
            f"{ties.kept:,} of them are kept by lot"
        )
    facts = {"score": file.name, "method": method, "offset": offset, "keep_fraction": fraction}
    return keep, {**facts, "num_kept": int(keep.sum()), "ties": ties._asdict()}


def select_stage(setup: Setup, folder: RunFolder, files: list[ScoreFile]) -> list[Selection]:
    """Makes the masks of every score and of the random baselines, masks/NAME_keepFRACTION.npz."""
    config, train = setup.config, setup.splits.train
    tie_key = seed_keys(config.seed, "tie_break", 1)[0]
    random_keys = seed_keys(config.seed, "random_subset", config.retrain.num_seeds)
    selections = [Selection(FULL, 1.0, None)]
    for fraction in sorted(config.select.fractions):
        method, offset = config.select.method, config.select.offset
        masks = {file.name: mask_of(file, method, fraction, offset, key=tie_key) for file in files}
        random = np.stack([keep_random(key, len(train), fraction) for key in random_keys])
        facts = {"method": RANDOM, "keep_fraction": fraction, "num_kept": num_kept(len(train), fraction)}
        masks[RANDOM] = (random, {**facts, "seeds": "one mask per retraining seed"})
        for kept_by, (keep, provenance) in masks.items():
            selection = Selection(kept_by, fraction, keep)
            mask = KeepFile(keep, train.ids, f"{train.name}/{train.split}", train.fingerprint, provenance)
            mask.save(folder.path / "masks" / f"{selection.name}.npz")
            selections.append(selection)
    return selections


def retrain_stage(setup: Setup, folder: RunFolder, selections: list[Selection]) -> list[Result]:
    """Retrains fresh networks on every selection and judges their last step: retrain/SELECTION/seed_R.npz."""
    config, (train, test) = setup.config, setup.splits
    count = config.retrain.num_seeds
    keys = seed_keys(config.seed, "retrain", count)
    how = setup.how(config.retrain.how)
    sizes = [
        len(train) if s.keep is None else int(np.count_nonzero(np.atleast_2d(s.keep)[0])) for s in selections
    ]
    steps = [total_steps(config.train, len(train), size) for size in sizes]
    paths = {
        s.name: [folder.path / "retrain" / s.name / f"seed_{r:02d}.npz" for r in range(count)]
        for s in selections
    }
    missing = {s.name: [r for r in range(count) if not paths[s.name][r].is_file()] for s in selections}
    work = sum(n * len(missing[s.name]) for s, n in zip(selections, steps, strict=True))
    if work:
        say(f"retraining {count} fresh networks on each of {len(selections)} selections ({how})")
    results = []
    with Progress("retraining", total=work, quiet=not work) as progress:
        for selection, size, num_steps in zip(selections, sizes, steps, strict=True):
            facts = {"fingerprint": test.fingerprint, "steps": num_steps, "num_kept": size}

            def save(seed: int, predicted: np.ndarray, loss: np.ndarray) -> None:
                arrays = {"predicted": predicted, "loss": loss}
                save_arrays(
                    paths[selection.name][seed],  # noqa: B023
                    "predictions",
                    arrays,
                    {**facts, "seed": seed},  # noqa: B023
                )

            todo = missing[selection.name]
            if todo and how != "loop":
                trained = train_ensemble(
                    keys, setup.model, train, test, config=config.train, keep=selection.keep, how=how
                )
                for seed in range(count):
                    unit = f"retrain/{selection.name}/seed_{seed:02d}"
                    _log_history(folder, unit, trained.history, seed, size // config.train.batch_size)
                    save(seed, trained.predicted[seed], trained.loss[seed])
                progress.update(num_steps * len(todo))
            elif todo:
                for seed in todo:
                    unit = f"retrain/{selection.name}/seed_{seed:02d}"
                    keep = selection.keep
                    mask = keep[seed] if keep is not None and keep.ndim == 2 else keep
                    state = train_with_records(setup, folder, unit, keys[seed], keep=mask, progress=progress)
                    save(seed, *predict_dataset(setup.model, state.variables, test))
            loaded = [
                _load_seed(path, ("predicted",), facts, "predictions") for path in paths[selection.name]
            ]
            predicted = np.stack([arrays["predicted"] for arrays in loaded])
            results.append(
                Result.from_predictions(
                    selection.kept_by, selection.fraction, size, num_steps, predicted, test.labels
                )
            )
    return results


def draw(folder: Path, setup: Setup, files: list[ScoreFile], rows: list[dict[str, Any]]) -> None:
    """Draws the figures of a run from its scores and rows."""
    folder.mkdir(exist_ok=True)
    accuracy_figure(rows, folder / "accuracy.png", title=_title(setup))
    for file in files:
        histogram_figure(file, setup.splits.train.class_names, folder / f"scores_{file.name}.png")
        examples_figure(setup.splits.train, file, folder / f"examples_{file.name}.png")


def _title(setup: Setup) -> str:
    return (
        f"{setup.splits.train.name}, {setup.config.model.name}, scored at epoch {setup.config.score.epoch:g}"
    )


def _log_history(folder: RunFolder, unit: str, history: Any, seed: int, per_epoch: int) -> None:
    folder.forget_after(unit, 0)
    for line in epoch_means(type(history)(*(values[seed] for values in history)), 0, per_epoch):
        folder.log(unit, **line)


def _load_seed(
    path: Path, names: tuple[str, ...], facts: dict[str, Any], kind: str = "scores of one seed"
) -> dict[str, np.ndarray]:
    arrays, stored = load_arrays(path, kind, names)
    wrong = [
        f"{name} is {stored.get(name)}, not {value}"
        for name, value in facts.items()
        if stored.get(name) != value
    ]
    if wrong:
        raise InputError(f"{path} is not of this run ({'; '.join(wrong)}); delete it to compute it again")
    return arrays


@contextmanager
def _timed(folder: RunFolder, stage: str) -> Iterator[None]:
    start = time.monotonic()
    yield
    seconds = round(time.monotonic() - start, 2)
    folder.log(f"stage/{stage}", seconds=seconds)
    say(f"{stage}: {seconds:.1f} s")
