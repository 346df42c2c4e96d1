"""Writes docs/reproduction.md from the results of `diet-jax reproduce` in docs/results/paper.

Command: python docs/ledger.py
"""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from diet_jax.experiments.reproduction.figure import figure_names
from diet_jax.experiments.reproduction.outcome import FEW_SEEDS, verdict

DOCS = Path(__file__).parent
RESULTS = DOCS / "results" / "paper"
SCALES = ("small", "medium", "paper")
# In the paper's order; what is not named here comes last.
ORDER = ("fig1-", "fig2-", "fig3-", "fig4-", "grand-at-init", "examples", "number-", "fig11-", "fig12-")
HEAD = """\
# The paper's claims, one by one

Every row was measured: by the command above it, on the machine in the result's JSON file. "published" is the
paper's figure (digitised) or that of the work it names, on CIFAR-10 with ResNet18 unless the figure says
otherwise.

"holds" is yes or no where the difference is more than twice its standard error over paired seeds, and unclear
where it is not; "loses no accuracy" holds where no loss beyond that error was seen. With two or three seeds
that error is itself uncertain, and a verdict over two says so; no correction was made for the number of rows.
Rows without a standard error compare with a number that we set, often in the row. The best of several windows
is picked by test accuracy, as in the paper, which favours it. "seeds" is the networks whose mean score
ranked the examples + those that the verdict is over; one number where scores themselves are judged.

A row whose measure was taken of the same trainings as that of an earlier row names it and is not counted.

This page is written by `docs/ledger.py` from [the results](results/paper); a test keeps the two together.

"""
SCALES_TEXT = """\
- small: other data and networks and far shorter trainings, for two CPU cores; titles say what stands in place
  of what. The sign of a difference can be compared with the paper's, not its size.
- medium: the paper's data, network and optimiser, for 40 epochs instead of 200, in bfloat16; scores at
  epoch 10, mean of 10 networks; 2 retrained networks.
- paper: the paper's own 200 epochs; scores mostly at epoch 20, mean of 10 networks; 4 retrained networks.

Medium and paper need an accelerator.

"""
DATA_TEXT = """\
Images that were stored as JPEG are not the original pixels. Results from before this was recorded do not say:
the CIFAR-10 [of those days](results/cifar10_cpu/README.md) was JPEG of quality 75.

"""


class Row(NamedTuple):
    """A claim in its result."""

    result: dict[str, Any]
    number: int
    """Of the claim in its figure, from 1."""
    same_as: "Row | None"
    """The first row of the same measure of the same trainings."""

    @property
    def claim(self) -> dict[str, Any]:
        return self.result["claims"][self.number - 1]

    @property
    def trained(self) -> list[dict[str, Any]]:
        """The trainings of all parts of the evidence, each once."""
        return [
            self.result["trained"][task] for task in dict.fromkeys(p["task"] for p in self.claim["parts"])
        ]


def rows_of(results: list[dict]) -> list[Row]:
    """Returns every claim, with the row that it repeats if there is one."""
    rows: list[Row] = []
    for result in results:
        for number in range(1, len(result["claims"]) + 1):
            row = Row(result, number, None)
            same = next((other for other in rows if other.same_as is None and is_same(row, other)), None)
            rows.append(row._replace(same_as=same))
    return rows


def is_same(row: Row, other: Row) -> bool:
    """Whether two claims stand on one measure of the same trainings, on data that is not known to differ."""
    if what_of(row) != what_of(other):
        return False
    return all(
        one == another or None in (one, another)
        for task in {part["task"] for part in row.claim["parts"]}
        for one, another in [(of.result["trained"][task]["fingerprints"] for of in (row, other))]
    )


def what_of(row: Row) -> tuple:
    """What was measured of which trainings; it does not matter which of them is named first."""
    parts = frozenset((part["task"], part["what"]) for part in row.claim["parts"])
    return row.claim["measure"], parts, row.claim["seeds"]


def count_text(rows: list[Row]) -> str:
    """Such as "3 yes, 1 no, 2 not counted"."""
    counts = Counter(row.claim["holds"] for row in rows if row.same_as is None)
    said = [f"{counts[v]} {v}" for v in ("yes", "no", "unclear") if counts[v]]
    repeats = len(rows) - counts.total()
    return ", ".join(said + [f"{repeats} not counted"] * bool(repeats))


def ledger(results: list[dict], names: list[str]) -> str:
    """Returns the page as Markdown: of the results, and of the names of all figures."""
    rows = rows_of(results)
    counted = [row for row in rows if row.same_as is None]
    few = Counter(row.claim["holds"] for row in counted if row.claim["seeds"] < FEW_SEEDS)
    of_few = ", ".join(f"{few[v]} {v}" for v in ("yes", "no", "unclear") if few[v])
    lines = [HEAD, f"{len(counted)} claims in {len(results)} figures: {count_text(counted)}"]
    lines.append(f"; of these over fewer than {FEW_SEEDS} seeds: {of_few}. " if of_few else ". ")
    lines.append(f"{len(rows) - len(counted)} more rows stand on the same trainings as another.\n")
    lines += [
        "\n## What is finished\n\n",
        SCALES_TEXT,
        *table(("figure", *SCALES), finished(rows, results, names)),
    ]
    lines += ["\n## The data\n\n", DATA_TEXT]
    head = "data", "images to train on + to test with", "stored as", "fingerprints", "figures"
    lines += table(head, data_of(results))
    for name in sorted({result["figure"] for result in results}, key=place):
        lines += section(name, [r for r in results if r["figure"] == name], rows)
    return "".join(lines)


def table(head: tuple[str, ...], cells: Iterator[tuple[str, ...]]) -> list[str]:
    """Returns the lines of a table."""
    escaped = ([cell.replace("|", "\\|") for cell in line] for line in (head, ("---",) * len(head), *cells))
    return ["| " + " | ".join(line) + " |\n" for line in escaped]


def finished(rows: list[Row], results: list[dict], names: list[str]) -> Iterator[tuple[str, ...]]:
    """For each figure what came out at each scale: verdicts, data, networks, epochs and seeds."""
    there = {(result["figure"], result["scale"]): result for result in results}
    for name in sorted({*names, *(figure for figure, _ in there)}, key=place):
        cells = []
        for scale in SCALES:
            result = there.get((name, scale))
            own = [row for row in rows if row.result is result]
            cells.append(
                "not run yet" if result is None else f"{count_text(own) or 'drawn'}; {made_of(result)}"
            )
        linked = any(figure == name for figure, _ in there)
        yield (f"[{name}](#{name})" if linked else name, *cells)


def made_of(result: dict[str, Any]) -> str:
    """Such as "fashion_mnist, mlp, 8 epochs, 4 + 3 seeds"."""
    trained = result["trained"].values()
    words = [" / ".join(dict.fromkeys(stored_text(one) for one in trained))]
    words.append(" / ".join(dict.fromkeys(one["network"] for one in trained)))
    words.append(" / ".join(dict.fromkeys(epochs_text(one) for one in trained)) + " epochs")
    seeds = " / ".join(dict.fromkeys(seeds_text(claim) for claim in result["claims"]))
    return ", ".join([*words, f"{seeds} seeds"] if seeds else words)


def data_of(results: list[dict]) -> Iterator[tuple[str, ...]]:
    """Each data set that was trained on, with what is known of it."""
    seen: dict[tuple, set[str]] = {}
    for result in results:
        for one in result["trained"].values():
            prints = one["fingerprints"] and ", ".join(p[:12] for p in one["fingerprints"])
            count = f"{one['train_examples']:,} + {one['test_examples']:,}"
            key = data_text(one), count, one["stored_as"] or "not recorded", prints or "not recorded"
            seen.setdefault(key, set()).add(f"{result['figure']} ({result['scale']})")
    for key, figures in sorted(seen.items()):
        yield (*key, ", ".join(sorted(figures)) if len(figures) < 4 else str(len(figures)))


def data_text(trained: dict[str, Any]) -> str:
    """Such as "cifar10 (JPEG), 4,480 labels wrong"."""
    wrong = f", {trained['wrong_labels']:,} labels wrong" if trained["wrong_labels"] else ""
    return stored_text(trained) + wrong


def stored_text(trained: dict[str, Any]) -> str:
    """Such as "cifar10 (JPEG)"; of images that no compression changed the name alone."""
    return trained["dataset"] + (" (JPEG)" if trained["stored_as"] == "JPEG" else "")


def epochs_text(trained: dict[str, Any]) -> str:
    """Such as "40"."""
    return f"{trained['epochs']:g}"


def seeds_text(claim: dict[str, Any]) -> str:
    """Networks that scored + networks that the verdict is over."""
    return " + ".join(str(claim[key]) for key in ("score_seeds", "seeds") if claim[key])


def section(name: str, results: list[dict], rows: list[Row]) -> Iterator[str]:
    """The part of the page about one figure: its pictures, then all its claims."""
    yield f"\n## {name}\n"
    for result in results:
        place = f"{name}_{result['scale']}"
        yield f"\n{result['title']}.\n\n`{result['command']}` · [numbers](results/paper/{place}.json)\n\n"
        yield f"![{result['title']}](results/paper/{place}.png)\n"
    own = [row for row in rows if row.result["figure"] == name]
    if own:
        yield "\n"
        head = "claim", "published", "here", "scale", "data", "network", "epochs", "seeds", "holds"
        yield from table(head, map(cells_of, own))
    for story in dict.fromkeys(r["facts"]["story"] for r in results if "story" in r["facts"]):
        yield f"\n{story}\n"


def cells_of(row: Row) -> tuple[str, ...]:
    """The line of a claim."""
    claim, trained = row.claim, row.trained
    data = dict.fromkeys(f"{data_text(one)}, {one['train_examples']:,}" for one in trained)
    networks = dict.fromkeys(one["network"] for one in trained)
    epochs = dict.fromkeys(epochs_text(one) for one in trained)
    holds = verdict(claim["holds"], claim["seeds"])
    if row.same_as is not None:
        figure = row.same_as.result["figure"]
        holds += f"; not counted: same trainings as row {row.same_as.number} of [{figure}](#{figure})"
    words = claim["claim"], claim["published"], claim["ours"], row.result["scale"]
    return (*words, " and ".join(data), ", ".join(networks), ", ".join(epochs), seeds_text(claim), holds)


def place(figure: str) -> tuple[int, str]:
    """Where a figure stands on the page."""
    return (next((n for n, start in enumerate(ORDER) if figure.startswith(start)), len(ORDER)), figure)


def read_results(folder: Path = RESULTS) -> list[dict]:
    """Returns the results in the order of the page."""
    results = [json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("*.json")]
    return sorted(results, key=lambda result: (place(result["figure"]), SCALES.index(result["scale"])))


if __name__ == "__main__":
    (DOCS / "reproduction.md").write_text(ledger(read_results(), figure_names()), encoding="utf-8")
