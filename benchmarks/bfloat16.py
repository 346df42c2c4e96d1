"""What computing in bfloat16 does to scores: rank agreement with float32, and throughput.

Command: python benchmarks/bfloat16.py [--data-dir DIR] [--dataset fashion_mnist] [--json PATH] [--table PATH]
Floor:   float32; for the agreement of scores, that of other seeds in float32.

The same seeds are trained in float32 and in bfloat16 and score the same examples. Rounding is harmless as
far as it changes a ranking less than another seed does: that is the yardstick. Without a folder of prepared
data the embedded digits are scored.
"""

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
import tyro
from measure import interleaved, report, rows
from rich.console import Console
from rich.table import Table
from scipy.stats import spearmanr

import diet_jax as dj
from diet_jax.data.dataset import first_examples

NAMES = ("el2n", "grand")
DTYPES = ("float32", "bfloat16")


@dataclass(frozen=True)
class Options:
    """Rank agreement of EL2N and GraNd in bfloat16 and float32, and time of training and scoring."""

    networks: tuple[Literal["mlp", "small_cnn"], ...] = ("mlp", "small_cnn")
    data_dir: str | None = None
    """Folder of prepared datasets; by default the embedded digits are used."""
    dataset: str = "fashion_mnist"
    """Which one of them."""
    num_train: int = 5000
    """Examples, evenly by class."""
    num_seeds: int = 4
    """Seeds of a mean; twice as many are trained in float32."""
    epochs: float = 12
    """Length of the training."""
    epoch: float = 4
    """Score after this epoch."""
    rounds: int = 3
    """Timings of each program after the first."""
    json: Path | None = None
    """Where to write the numbers."""
    table: Path | None = None
    """Where to write the agreement as a Markdown table."""


def load(options: Options) -> dj.Dataset:
    """Returns the train split to score."""
    if options.data_dir is None:
        return dj.load_dataset("digits").train
    train = dj.load_dataset(options.dataset, data_dir=options.data_dir).train
    return first_examples(train, min(options.num_train, len(train)))


def top_half(scores: Any) -> set[int]:
    """Returns the rows of the higher half."""
    return set(np.argsort(scores)[len(scores) // 2 :].tolist())


def agreement(pairs: list[tuple[Any, Any]]) -> dict[str, float]:
    """Returns rank correlations and overlaps of the top halves: mean, lowest and highest over pairs."""
    ranks = [float(np.asarray(spearmanr(a, b))[0]) for a, b in pairs]
    shared = [len(top_half(a) & top_half(b)) / len(top_half(a)) for a, b in pairs]
    return {
        "pairs": len(pairs),
        "rank": float(np.mean(ranks)),
        "rank_low": min(ranks),
        "rank_high": max(ranks),
        "top_half": float(np.mean(shared)),
    }


def compare(network: str, data: dj.Dataset, options: Options) -> list[dict[str, Any]]:
    """Trains and scores in both dtypes and returns the agreements, a row for each score and comparison."""
    models = {dtype: dj.create_model(network, num_classes=data.num_classes, dtype=dtype) for dtype in DTYPES}
    config = recipe(options)
    step = round(options.epoch * (len(data) // config.batch_size))
    count = options.num_seeds
    keys = dj.seed_keys(0, "score", 2 * count)
    score = partial(dj.score_ensemble, dataset=data, config=config, step=step, names=NAMES)
    full = score(keys, models["float32"])
    low = score(keys[:count], models["bfloat16"])
    result = []
    for name in NAMES:
        fn = partial(getattr(dj, name), models["bfloat16"].predict)
        only = np.stack(
            [
                dj.score_dataset(fn, dj.take_seed(full.variables, seed), data, batch_size=250)
                for seed in range(count)
            ]
        )
        exact, rounded = full.scores[name], low.scores[name]
        first, others = exact[:count], exact[count:]
        print(
            f"{network} {name}: median relative change by scoring in bfloat16 alone "
            f"{np.median(np.abs(only / first - 1)):.2g}",
            flush=True,
        )
        comparisons = {
            "scored in bfloat16, trained in float32": list(zip(first, only, strict=True)),
            "trained and scored in bfloat16, same seed": list(zip(first, rounded, strict=True)),
            "another seed, float32": list(itertools.combinations(exact, 2)),
            f"mean of {count} seeds, bfloat16": [(first.mean(0), rounded.mean(0))],
            f"mean of {count} other seeds, float32": [(first.mean(0), others.mean(0))],
        }
        for what, pairs in comparisons.items():
            result.append({"network": network, "score": name, "to float32": what, **agreement(pairs)})
    losses = {"float32": full.history.loss[:count, -20:], "bfloat16": low.history.loss[:, -20:]}
    for dtype, loss in losses.items():
        print(f"{network} {dtype}: mean loss of the last 20 batches {np.mean(loss):.4f}", flush=True)
    return result


def recipe(options: Options) -> dj.TrainConfig:
    """Returns how networks are trained."""
    return dj.TrainConfig(
        epochs=options.epochs, batch_size=64, learning_rate=0.05, schedule="cosine", augment="none"
    )


def throughput(network: str, data: dj.Dataset, options: Options) -> list[dict[str, Any]]:
    """Times 30 training steps, and both scores of 1,000 examples."""
    part = first_examples(data, min(1000, len(data)))
    config = recipe(options)
    programs: dict[str, dict[str, Callable[[], Any]]] = {"30 steps": {}, **{name: {} for name in NAMES}}
    for dtype in DTYPES:
        model = dj.create_model(network, num_classes=data.num_classes, dtype=dtype)
        state, _ = dj.train(jax.random.key(0), model, data, config=config, num_updates=1)
        programs["30 steps"][dtype] = partial(
            dj.train, jax.random.key(0), model, data, config=config, num_updates=30
        )
        for name in NAMES:
            fn = partial(getattr(dj, name), model.predict)
            programs[name][dtype] = partial(dj.score_dataset, fn, state.variables, part, batch_size=250)
    table = []
    for what, variants in programs.items():
        waited = {dtype: partial(_wait, fn) for dtype, fn in variants.items()}
        timings = interleaved(waited, options.rounds, timer=processor_seconds)
        table += rows(f"{network}: {what}", timings, "float32")
    return table


def processor_seconds(fn: Callable[[], Any]) -> float:
    """Returns the processor time of one call, in all threads: other work disturbs it less than the clock."""
    begin = time.process_time()
    fn()
    return time.process_time() - begin


def _wait(fn: Callable[[], Any]) -> None:
    jax.block_until_ready(fn())


def markdown(table: list[dict[str, Any]]) -> str:
    """Returns the agreements as a Markdown table."""
    lines = ["| network | score | compared with float32 | Spearman (lowest to highest) | same top half |"]
    lines.append("|---|---|---|---:|---:|")
    for row in table:
        spread = f" ({row['rank_low']:.4f} to {row['rank_high']:.4f})" if row["pairs"] > 1 else ""
        lines.append(
            f"| {row['network']} | {row['score']} | {row['to float32']} | {row['rank']:.4f}{spread} | "
            f"{row['top_half']:.1%} |"
        )
    return "\n".join(lines) + "\n"


def main(options: Options) -> None:
    data = load(options)
    found: list[dict[str, Any]] = []
    times: list[dict[str, Any]] = []
    for network in options.networks:
        found += compare(network, data, options)
        times += throughput(network, data, options)
    table = Table(title=f"Scores of {len(data)} examples of {data.name}", title_justify="left")
    for heading in ("network", "score", "compared with float32", "Spearman", "same top half"):
        table.add_column(heading)
    for row in found:
        values = (f"{row['rank']:.4f}", f"{row['top_half']:.1%}")
        table.add_row(row["network"], row["score"], row["to float32"], *values)
    Console(width=150).print(table)
    if options.table is not None:
        options.table.write_text(markdown(found))
    extra = {"dataset": data.name, "examples": len(data), "agreement": found}
    report("Processor time in bfloat16", times, unit="ms", path=options.json, extra=extra)


if __name__ == "__main__":
    main(tyro.cli(Options))
