"""What each row of a table costs, as shares of one training on everything: counted, not timed."""

import functools
from collections.abc import Sequence
from typing import Any

import jax

from diet_jax.analysis.results import Costs, Result
from diet_jax.devices.processes import from_writer
from diet_jax.ensemble.retraining import prediction_function
from diet_jax.experiments.costs import cost_of, counted_model, state_shapes, step_cost
from diet_jax.experiments.run_folder import RunFolder
from diet_jax.experiments.selecting import Selection
from diet_jax.experiments.setup import Setup
from diet_jax.scores.file import ScoreFile
from diet_jax.selection.rule import Rule

UNIT = "cost"
# No score can be called so.
BESIDE = "beside scores"


def cost_stage(setup: Setup, folder: RunFolder) -> None:
    """Counts and logs what the passes of a network over the train examples take by each score, in its steps.

    One pass, or one at the end of every epoch for dynamics that are measured there. What is folded into the
    training, or needs no network, takes none. What rules read of a network beside scores is a pass too.

    Floating-point operations as XLA counts them before optimising, of a batch of the training's size. What
    was logged before is not counted again: other versions may count otherwise.
    """
    known = _passes(folder)
    scores = [score for score in setup.scores if score.name not in known]
    beside = BESIDE not in known and any(reads_network(rule) for rule in setup.config.select.rules)
    if not scores and not beside:
        return
    step = functools.cache(lambda: step_cost(setup).flops)
    train, model = setup.splits.train, counted_model(setup)
    size = min(setup.config.train.batch_size, len(train))
    images = jax.ShapeDtypeStruct((size, *train.shape), train.spec.dtype)
    shapes: Any = (state_shapes(setup).variables, images, jax.ShapeDtypeStruct((size,), "int32"))
    for score in scores:
        fn, passes = score.on_batches(model), 1
        if score.fold is not None and score.fold.measure is not None:
            fn, passes = score.fold.measure(model), setup.score_step // setup.per_epoch
        steps = 0.0 if fn is None else passes * cost_of(fn, *shapes).flops / step() * len(train) / size
        folder.log(f"{UNIT}/{score.name}", steps_of_passes=steps)
    if beside:
        steps = cost_of(prediction_function(model), *shapes).flops / step() * len(train) / size
        folder.log(f"{UNIT}/{BESIDE}", steps_of_passes=steps)


def costs_of(
    setup: Setup, folder: RunFolder, files: Sequence[ScoreFile], selections: Sequence[Selection]
) -> dict[str, Costs | None]:
    """Returns the costs of each selection by its name; None for one by a score that was made elsewhere.

    A rule that reads several scores takes one training of the scoring networks, and a pass for each score.
    One that reads features or the errors of classes takes a pass of one network, and its training.
    """
    passes, full = _passes(folder), setup.num_steps
    tried = {file.name: len(file.per_seed) + len(file.provenance.get("missing_seeds", {})) for file in files}
    trained = {score.name for score in setup.scores if score.needs_training}
    reading = {rule.name for rule in setup.config.select.rules if reads_network(rule)}
    found: dict[str, Costs | None] = {}
    for selection in selections:
        costs = Costs(0.0, 0.0, setup.steps_at(selection.fraction) / full)
        if not set(selection.scores) <= set(passes):
            found[selection.name] = None
            continue
        seeds = [tried[name] for name in selection.scores if name in trained]
        seeds += [1] if selection.rule in reading else []
        training = max(seeds, default=0) * setup.score_step / full
        over = sum(tried[name] * passes[name] for name in selection.scores) / full
        over += passes[BESIDE] / full if selection.rule in reading else 0.0
        found[selection.name] = costs._replace(training=training, passes=over)
    return found


def cost_rows(
    folder: RunFolder, rows: Sequence[dict[str, Any]], results: Sequence[Result]
) -> list[dict[str, Any]]:
    """Returns the parts of the costs of each row, and the seconds that its selecting took, by the clock."""
    seconds = {
        line["unit"].removeprefix("select/"): line["seconds"]
        for line in from_writer(folder.metrics)
        if line["unit"].startswith("select/")
    }
    return [
        {
            **{name: row[name] for name in ("kept_by", "keep_fraction", "accuracy", "cost")},
            **{f"cost_of_{name}": result.costs and getattr(result.costs, name) for name in Costs._fields},
            "selecting_seconds": seconds.get(Selection(result.kept_by, result.fraction, None).name),
        }
        for row, result in zip(rows, results, strict=True)
    ]


def reads_network(rule: Rule) -> bool:
    """Whether a rule reads what a network measures, beside scores."""
    return not {"features", "class_errors"}.isdisjoint(rule.reads)


def _passes(folder: RunFolder) -> dict[str, float]:
    lines = [line for line in from_writer(folder.metrics) if "steps_of_passes" in line]
    return {line["unit"].removeprefix(f"{UNIT}/"): line["steps_of_passes"] for line in lines}
