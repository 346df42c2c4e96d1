"""Finding wrong labels: scores of an early ensemble against confident learning by cleanlab.

Command: python benchmarks/noise_detection.py [--data-dir DIR] [--json PATH]
Floor:   guessing: ROC AUC 0.5, precision the share of wrong labels.

Labels of the train split are made wrong in three ways. The scores come from a few networks trained on all
examples for a few epochs. cleanlab judges the probabilities that a network gives to examples it was not
trained on, by cross-validation: after as many steps as the scores, and at the end of the training. All is
done for several draws of the noise, each with networks of its own. Without cleanlab its lines are left out.
"""

import importlib.util
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro
from measure import PACKAGES, environment
from sklearn.model_selection import StratifiedKFold

import diet_jax as dj
from diet_jax.data.noise import NoiseMode, NoisyLabels, flip_labels
from diet_jax.selection.detection import detection_quality
from diet_jax.training.passes import map_dataset
from diet_jax.training.recipe import epoch_to_step, steps_per_epoch

NOISES: tuple[tuple[float, NoiseMode], ...] = ((0.1, "permute"), (0.1, "different"), (0.2, "uniform"))
SCORES: tuple[str, ...] = ("el2n", "grand", "forgetting")
HEADINGS = {
    "noise": "noise",
    "method": "method",
    "roc_auc": "ROC AUC",
    "average_precision": "average precision",
    "precision_at_share": "precision at share",
    "flagged": "share flagged",
    "precision": "precision of flagged",
    "recall": "recall of flagged",
    "seconds": "seconds",
    "first_call_s": "first call (s)",
}
MEASURED = (
    "share",
    *(name for name in HEADINGS if name not in ("noise", "method", "seconds", "first_call_s")),
)


@dataclass(frozen=True)
class Options:
    """How well scores and confident learning find wrong labels, and how long that takes."""

    data_dir: Path | None = None
    """Folder of a prepared Fashion-MNIST; by default the embedded digits are used."""
    network: str | None = None
    """By default mlp for digits and small_cnn for Fashion-MNIST."""
    epochs: int = 30
    """Length of the whole training."""
    early: int = 6
    """Epochs before the scores are taken."""
    seeds: int = 4
    """Networks that each score is averaged over."""
    folds: int = 5
    """Parts of the cross-validation; each is one training."""
    draws: int = 5
    """Draws of each noise; seconds are their median, the other numbers means with standard errors."""
    json: Path | None = None
    """Where to write the numbers."""


@dataclass(frozen=True)
class Task:
    """What is trained, on which labels, and when it is scored."""

    model: dj.Model
    noisy: NoisyLabels
    config: dj.TrainConfig
    early_step: int
    draw: int
    options: Options


def timed(fn: Callable[[], Any]) -> tuple[Any, float]:
    """Returns what a function returns, and its seconds."""
    begin = time.perf_counter()
    result = fn()
    return result, time.perf_counter() - begin


def mean_score(task: Task, name: str) -> np.ndarray:
    """Returns one score `[n]` after the early epochs, averaged over seeds."""
    keys = dj.seed_keys(task.draw, "score", task.options.seeds)
    result = dj.score_ensemble(
        keys, task.model, task.noisy.dataset, config=task.config, step=task.early_step, names=(name,)
    )
    return result.scores[name].mean(axis=0)


def probabilities(model: dj.Model, variables: dj.Variables, images: Any, labels: Any) -> Any:
    """Returns the classes' probabilities; the labels are there because `map_dataset` gives them."""
    del labels
    return jax.nn.softmax(model.predict(variables, images), axis=-1)


def out_of_sample(task: Task, num_updates: int | None) -> np.ndarray:
    """Returns float `[n c]`: the probabilities of each example by the network that was not trained on it."""
    dataset = task.noisy.dataset
    result = np.zeros((len(dataset), dataset.num_classes))
    keys = dj.seed_keys(task.draw, "retrain", task.options.folds)
    folds = StratifiedKFold(task.options.folds, shuffle=True, random_state=task.draw).split(
        dataset.labels, dataset.labels
    )
    predict = partial(probabilities, task.model)
    for key, (_, rest) in zip(keys, folds, strict=True):
        keep = np.ones(len(dataset), bool)
        keep[rest] = False
        state, _ = dj.train(key, task.model, dataset, keep=keep, config=task.config, num_updates=num_updates)
        result[rest] = map_dataset(predict, state.variables, dataset)[rest]
    # cleanlab wants rows that sum to 1 more closely than float32's do.
    return result / result.sum(axis=1, keepdims=True)


def confident_learning(task: Task) -> Iterator[dict[str, Any]]:
    """Yields a row for each way in which cleanlab judges cross-validated probabilities."""
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores

    labels, changed = task.noisy.dataset.labels, task.noisy.changed
    for when, num_updates in (("early", task.early_step), ("end", None)):
        pred_probs, training = timed(partial(out_of_sample, task, num_updates))
        for method in ("self_confidence", "normalized_margin"):
            quality, judging = timed(partial(get_label_quality_scores, labels, pred_probs, method=method))
            yield {
                "method": f"cleanlab {method}, {when}",
                **detection_quality(-quality, changed)._asdict(),
                "seconds": training + judging,
            }
        # In this process: others, forked from one that runs JAX, may hang.
        find = partial(find_label_issues, labels, pred_probs, n_jobs=1)
        issues, judging = timed(find)
        found = int((issues & changed).sum())
        yield {
            "method": f"cleanlab find_label_issues, {when}",
            "flagged": float(issues.mean()),
            "precision": found / max(int(issues.sum()), 1),
            "recall": found / int(changed.sum()),
            "seconds": training + judging,
        }


def rows_of(task: Task) -> list[dict[str, Any]]:
    """Returns a row for each method."""
    rows: list[dict[str, Any]] = []
    for name in SCORES:
        scores, spent = timed(partial(mean_score, task, name))
        quality = detection_quality(scores, task.noisy.changed)
        rows.append({"method": f"diet_jax {name}, early", **quality._asdict(), "seconds": spent})
    if importlib.util.find_spec("cleanlab") is not None:
        rows += confident_learning(task)
    return rows


def summary(draws: list[dict[str, Any]]) -> dict[str, Any]:
    """Returns the means and standard errors of one method's rows, and the median of its seconds."""
    row = {"method": draws[0]["method"], "seconds": float(np.median([draw["seconds"] for draw in draws]))}
    for name in MEASURED:
        if name in draws[0]:
            values = [draw[name] for draw in draws]
            row[name] = float(np.mean(values))
            if len(values) > 1:
                row[f"{name}_error"] = float(np.std(values, ddof=1) / np.sqrt(len(values)))
    return row


def cell(row: dict[str, Any], name: str) -> str:
    """Writes an entry of a row for reading; nothing where there is none."""
    value = row.get(name, "")
    if not isinstance(value, float):
        return value
    error = f" ± {row[f'{name}_error']:.3f}" if f"{name}_error" in row else ""
    return f"{value:.3g}" if name in ("seconds", "first_call_s") else f"{value:.3f}{error}"


def markdown(rows: list[dict[str, Any]]) -> str:
    """Returns the rows as a Markdown table."""
    lines = [list(HEADINGS.values()), ["---"] * len(HEADINGS)]
    lines += [[cell(row, name) for name in HEADINGS] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main(options: Options) -> None:
    digits = options.data_dir is None
    train = dj.load_dataset("digits" if digits else "fashion_mnist", data_dir=options.data_dir).train
    network = options.network or ("mlp" if digits else "small_cnn")
    config = dj.TrainConfig(
        epochs=options.epochs,
        batch_size=32 if digits else 128,
        learning_rate=0.05,
        schedule="cosine",
        augment="none",
    )
    early_step = epoch_to_step(options.early, steps_per_epoch(len(train), config.batch_size))
    model = dj.create_model(network, num_classes=train.num_classes)
    rows: list[dict[str, Any]] = []
    for fraction, mode in NOISES:
        draws = []
        for draw in range(options.draws):
            key = dj.seed_keys(draw, "label_noise", 1)[0]
            noisy = flip_labels(key, train, fraction, mode=mode)
            draws.append(rows_of(Task(model, noisy, config, early_step, draw, options)))
        # The first calls of all compile, except that cleanlab's later lines use what its first have compiled.
        first = {} if rows else {row["method"]: row["seconds"] for row in draws[0]}
        for method in zip(*draws, strict=True):
            row = {"noise": f"{100 * fraction:g} % {mode}", **summary(list(method))}
            if row["method"] in first:
                row["first_call_s"] = first[row["method"]]
            rows.append(row)
    shares = ", ".join(f"{row['share']:.3f} ({row['noise']})" for row in rows if "el2n" in row["method"])
    print(
        f"{network} on {train.name}, {len(train)} examples, {options.draws} draws of the noise\n"
        f"scores: {options.seeds} networks after {options.early} of {options.epochs} epochs\n"
        f"cleanlab: {options.folds} folds, after as many steps and at the end\n"
        f"share of wrong labels, the precision of guessing: {shares}\n"
    )
    print(markdown(rows))
    peers = ("cleanlab",) if importlib.util.find_spec("cleanlab") is not None else ()
    if not peers:
        print("\ncleanlab is not installed, so there is nothing to compare with: pip install cleanlab")
    machine = environment((*PACKAGES, *peers))
    print(f"\n{machine['date']}; {machine['cores']} cores of {machine['cpu']}; {machine['packages']}")
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        numbers = {
            "title": "Finding wrong labels",
            "environment": machine,
            "options": {"network": network, "dataset": train.name, "examples": len(train)}
            | {name: getattr(options, name) for name in ("epochs", "early", "seeds", "folds", "draws")},
            "rows": rows,
        }
        options.json.write_text(json.dumps(numbers, indent=1))


if __name__ == "__main__":
    main(tyro.cli(Options))
