"""Dynamic pruning: accuracy against updates and their cost, beside training on everything.

Command: python benchmarks/dynamic_pruning.py [--data-dir DIR] [--json PATH]
Floor:   everything, for as many updates; times are of networks side by side, to training on everything.

InfoBatch and batch-hardest do as many updates as they are asked to. So each is run for as many as training on
everything does, and for fewer: InfoBatch for about as many passes, as many updates as it had examples left in
the first run; batch-hardest for as many passes over the candidates. Training on everything is run for these
numbers of updates, too: what is saved by fewer updates alone. InfoBatch's weights make its expected batch
gradient larger, by the examples of an epoch over those that stay; so everything is trained at a learning rate
larger by that factor as well.
"""

import dataclasses
import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from measure import PACKAGES, environment, interleaved

import diet_jax as dj
from diet_jax.training.dynamic_pruning.methods import rows_per_step
from diet_jax.training.recipe import total_steps

HEADINGS = {
    "method": "trained on",
    "updates": "updates",
    "left_out": "left out, %",
    "passes": "passes",
    "cost": "cost, %",
    "accuracy": "accuracy, %",
    "difference": "vs everything",
    "same": "vs everything, as many updates",
}


@dataclass(frozen=True)
class Options:
    """How accurate networks are that choose their examples while they train, and for how many updates."""

    data_dir: Path | None = None
    """Folder of a prepared Fashion-MNIST; by default the embedded digits are used."""
    network: str = "mlp"
    """Which network."""
    epochs: int = 20
    """Length of the training on everything."""
    seeds: int = 5
    """Networks of each kind, with the same initialisations."""
    rounds: int = 3
    """Calls of each that are timed, of 3 epochs, after the first."""
    json: Path | None = None
    """Where to write the numbers."""


def described(config: dj.TrainConfig, updates: int, result: Any, count: int) -> dict[str, Any]:
    """Returns what a training did: of one forward pass counted 1 and its backward pass 2 for an example."""
    size, drawn = config.batch_size, rows_per_step(config)
    left_out = 0.0 if result.pruning is None else float(np.mean(dj.share_left_out(result.pruning)))
    passes = updates * size / (1 - left_out) / count
    looked = drawn if drawn > size else 0
    return {"updates": updates, "left_out": left_out, "passes": passes, "cost": updates * (3 * size + looked)}


def main(options: Options) -> None:
    digits = options.data_dir is None
    train, test = dj.load_dataset("digits" if digits else "fashion_mnist", data_dir=options.data_dir)
    model = dj.create_model(options.network, num_classes=train.num_classes)
    base = dj.TrainConfig(
        epochs=options.epochs,
        batch_size=32 if digits else 128,
        learning_rate=0.05,
        schedule="cosine",
        augment="none",
    )
    full = total_steps(base, len(train))
    keys = dj.seed_keys(0, "retrain", options.seeds)
    methods = {"everything": "none", "InfoBatch": "infobatch", "batch-hardest": "hardest"}
    rows: list[dict[str, Any]] = []
    correct: dict[tuple[str, int], np.ndarray] = {}

    def measure(name: str, updates: int, rate: float = 1.0) -> dict[str, Any]:
        config = dataclasses.replace(base, steps=updates, dynamic=methods[name])
        if rate != 1:
            name = f"{name}, rate x {rate:.2f}"
            config = dataclasses.replace(config, learning_rate=rate * base.learning_rate)
        result = dj.train_ensemble(keys, model, train, test, config=config)
        correct[name, updates] = (result.predicted == test.labels).mean(axis=1)
        rows.append({"method": name, **described(config, updates, result, len(train))})
        return rows[-1]

    measure("everything", full)
    infobatch = measure("InfoBatch", full)
    fewer = round(full * (1 - infobatch["left_out"]))
    measure("InfoBatch", fewer)
    measure("everything", fewer)
    measure("everything", fewer, full / fewer)
    measure("batch-hardest", full)
    measure("batch-hardest", full // 2)
    measure("everything", full // 2)
    for row in rows:
        own = correct[row["method"], row["updates"]]
        row["cost"] /= 3 * full * base.batch_size
        row["accuracy"] = float(own.mean())
        for heading, updates in (("difference", full), ("same", row["updates"])):
            difference = own - correct["everything", updates]
            row[heading] = float(difference.mean())
            row[f"{heading}_error"] = float(difference.std(ddof=1) / np.sqrt(len(own)))

    def cell(row: dict[str, Any], name: str) -> str:
        value = row[name]
        if name in ("method", "updates"):
            return f"{value:,}" if name == "updates" else value
        if f"{name}_error" in row:
            return f"{100 * value:+.2f} ± {100 * row[f'{name}_error']:.2f}" if value else ""
        return f"{value:.1f}" if name == "passes" else f"{100 * value:.{2 * (name == 'accuracy')}f}"

    print(
        f"{options.network} on {train.name}, {len(train):,} examples, batches of {base.batch_size}, "
        f"{options.seeds} networks of each kind\n"
    )
    lines = [list(HEADINGS.values()), ["---"] * len(HEADINGS)]
    lines += [[cell(row, name) for name in HEADINGS] for row in rows]
    print("\n".join(f"| {' | '.join(line)} |" for line in lines))
    together = partial(dj.train_ensemble, keys, model, train, test, how="vmap")
    configs = {name: dataclasses.replace(base, epochs=3, dynamic=of) for name, of in methods.items()}
    times = interleaved({name: partial(together, config=c) for name, c in configs.items()}, options.rounds)
    updates = total_steps(configs["everything"], len(train))
    print(f"\nseconds of {options.seeds} networks side by side for {updates:,} updates:")
    seconds = {}
    for name, timing in times.items():
        ratio, low, high = timing.ratio_to(times["everything"])
        seconds[name] = {"median_s": timing.median, "ratio": ratio, "low": low, "high": high}
        print(f"{name}: {timing.median:.2f}, ratio {ratio:.2f} ({low:.2f} to {high:.2f})")
    if options.json is not None:
        numbers = {"environment": environment(PACKAGES), "rows": rows, "seconds": seconds}
        options.json.write_text(json.dumps(numbers, indent=1))


if __name__ == "__main__":
    main(tyro.cli(Options))
