"""`diet-jax stability`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro
from rich.table import Table

from diet_jax.analysis.stability import expected_overlap
from diet_jax.analysis.stability import stability as measure
from diet_jax.checks.values import check_count
from diet_jax.cli.command import Answer, Command
from diet_jax.cli.console import console
from diet_jax.cli.options import Printing
from diet_jax.devices.progress import say
from diet_jax.errors import InputError
from diet_jax.scores.file import ScoreFile
from diet_jax.training.seeds import MOST_SEEDS, check_seed


@dataclass(frozen=True)
class Stability(Printing):
    """Say how much score files depend on their seeds, and what further seeds would change.

    Groups of seeds that have none in common are compared: rank correlation, and what both keep, with standard
    errors by the jackknife over seeds. Files of several steps are drawn against the step too.
    """

    scores: tyro.conf.Positional[tuple[Path, ...]]
    """Score files with at least four seeds each."""
    fractions: tuple[float, ...] = (0.1, 0.3, 0.5)
    """Keep fractions: the highest scores are kept."""
    more: int = 4
    """Say how many of the kept examples so many further seeds would leave."""
    pairs: int = 10
    """Pairs of groups of each size, drawn at random; more of them take longer and narrow the errors."""
    seed: int = 0
    """Draws them."""
    out: Path | None = None
    """Picture to draw (.png)."""


CAPTION = (
    "keep: share of what one group keeps that the other keeps too; ± is the standard error by the jackknife"
)


def stability(command: Stability) -> Answer:
    """Prints how much score files depend on their seeds, and draws it where a picture is asked for."""
    if command.out is not None and (command.out.suffix != ".png" or command.out.exists()):
        raise InputError(f"out must end in .png and not be there yet, got {command.out}")
    if not command.scores:
        raise InputError("stability needs a score file, such as runs/digits-mlp/scores/el2n.npz")
    check_count(command.more, "more", most=MOST_SEEDS)
    check_seed(command.seed)
    table = Table(title="how two groups of seeds agree that have none in common", caption=CAPTION)
    kept = [f"keep {fraction:g}" for fraction in command.fractions]
    for name in ("score", "seeds in each", "rank correlation", "with all seeds", *kept):
        table.add_column(name, justify="left" if name == "score" else "right")
    found: list[dict[str, Any]] = []
    expected: list[dict[str, Any]] = []
    for path in command.scores:
        file = ScoreFile.load(path)
        rows = measure(file.per_seed, command.fractions, pairs=command.pairs, seed=command.seed)
        for row in rows:
            shares = [row.kept[fraction].text() for fraction in command.fractions]
            what = f"{file.name}, {file.when}"
            table.add_row(what, f"{row.seeds}", row.correlation.text(), row.with_all.text(), *shares)
            found.append({"score": file.name, "step": file.step, **row._asdict()})
        now, last = len(file.per_seed), rows[-1]
        ahead = {"seeds": last.seeds, "now": now, "more": command.more}
        left = {f"{f:g}": expected_overlap(last.kept[f].mean, f, **ahead) for f in command.fractions}
        expected.append({"score": file.name, "step": file.step, "more": command.more, "left": left})
        stay = (f"{100 * share:.1f} % at {f}" for f, share in left.items())
        say(
            f"{file.name}, {file.when}: of what the mean of {now} seeds keeps, {command.more} more would be "
            f"expected to leave {', '.join(stay)}"
        )
    console().print(table)
    if command.out is not None:
        # Drawing takes as long to import as all the rest.
        from diet_jax.plotting.stability import draw_stability
        from diet_jax.plotting.style import save_figure

        save_figure(draw_stability(found), command.out)
        print(command.out)
    values = {"rows": found, "expected": expected}
    return Answer(values, () if command.out is None else (command.out,))


COMMAND = Command(
    Stability,
    stability,
    {
        "stability runs/digits-mlp/scores/el2n.npz": "how much the scores depend on their seeds",
        "stability runs/digits-mlp/scores/el2n.npz --fractions 0.2 --out seeds.png": "and a picture",
    },
)
