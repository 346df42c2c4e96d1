"""How the cost of GraNd grows: time against batch size, width and depth of a ResNet, and a figure of it.

Command: python benchmarks/cost.py [--figure PATH] [--json PATH]
Floor:   the ordinary gradient of the mean loss of the same batch of the same network, in eval mode.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import tyro
from grand import CLASSES, FLOOR, IMAGE_SHAPE, batches, ways_of
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator
from measure import interleaved, report, rows, seconds_per_call

import diet_jax as dj
from diet_jax.models import ResNet
from diet_jax.plotting.style import NOTE, OTHER_STYLES, TITLE, plain, save_figure

LINES = {
    "grand": (dj.SCORES.find("grand").color, dj.SCORES.find("grand").marker, "dj.grand"),
    "grand_vmap": (*OTHER_STYLES[0], "vmap(grad)"),
}


class Setting(NamedTuple):
    """One network and batch. The field names are the axes of the figure."""

    batch_size: int
    width: int
    blocks: int


AXES = {
    "batch_size": "batch size",
    "width": "width (filters of the first stage)",
    "blocks": "depth (blocks per stage)",
}


@dataclass(frozen=True)
class Options:
    """Time of GraNd against batch size, width and depth: ResNet of four stages, 32x32 images, float32."""

    batch_sizes: tuple[int, ...] = (4, 8, 16, 32, 64)
    widths: tuple[int, ...] = (8, 16, 32, 64)
    """Filters of the first stage; ResNet18 has 64."""
    blocks: tuple[int, ...] = (1, 2, 3)
    """Residual blocks in each stage; ResNet18 has 2."""
    base: tuple[int, int, int] = (16, 32, 2)
    """Batch size, width and blocks where they are not varied."""
    rounds: int = 5
    """Timings of each after the first; a timing is the mean of the calls in 0.2 s."""
    figure: Path | None = None
    """Where to write the figure."""
    json: Path | None = None
    """Where to write the numbers."""


def settings(options: Options) -> dict[str, list[Setting]]:
    """Returns the settings along each axis of the figure; one may lie on several."""
    base = Setting(*options.base)
    values = {"batch_size": options.batch_sizes, "width": options.widths, "blocks": options.blocks}
    return {axis: [base._replace(**{axis: value}) for value in values[axis]] for axis in values}


def measured(setting: Setting, rounds: int) -> list[dict[str, Any]]:
    """Times one setting; a row for each way."""
    net = ResNet(CLASSES, (setting.blocks,) * 4, width=setting.width)
    model = dj.from_linen(net)
    variables = jax.jit(model.init, static_argnums=1)(jax.random.key(0), IMAGE_SHAPE)
    batch = next(batches(1, setting.batch_size))

    def call(program: Any) -> None:
        jax.block_until_ready(program(variables, *batch))

    ways = ways_of(model.predict)
    programs = {name: partial(call, jax.jit(ways[name])) for name in (FLOOR, *LINES)}
    what = f"batch {setting.batch_size}, width {setting.width}, {setting.blocks} blocks"
    table = rows(what, interleaved(programs, rounds, timer=seconds_per_call), FLOOR)
    # Programs that are not needed again would be kept.
    jax.clear_caches()
    return [{**row, **setting._asdict()} for row in table]


def draw(table: dict[Setting, list[dict[str, Any]]], axes: dict[str, list[Setting]], note: str) -> Figure:
    """Draws the ratio to the ordinary gradient along each axis; bars from the lowest to the highest ratio."""
    figure = Figure(figsize=(9.5, 3.6), layout="constrained")
    panels = figure.subplots(1, len(axes), sharey=True)
    for panel, (axis, along) in zip(panels, axes.items(), strict=True):
        panel.axhline(1, color="black", linewidth=1.2, linestyle="--", label="ordinary gradient")
        places = [getattr(setting, axis) for setting in along]
        for variant, (color, marker, label) in LINES.items():
            line = [next(row for row in table[setting] if row["variant"] == variant) for setting in along]
            low, middle, high = ([row[key] for row in line] for key in ("ratio_low", "ratio", "ratio_high"))
            panel.vlines(places, low, high, color=color, linewidth=2.5, alpha=0.35)
            panel.plot(
                places,
                middle,
                color=color,
                marker=marker,
                markersize=5.5,
                label=label,
                lw=1.6,
                mec="white",
                mew=0.6,
            )
        panel.set_xscale("log", base=2)
        panel.set_xticks(places, [str(place) for place in places])
        panel.xaxis.set_minor_locator(NullLocator())
        panel.set_xlabel(AXES[axis])
        panel.grid(axis="y", color="#E5E5E5", linewidth=0.7)
        plain(panel)
    panels[0].set_ylabel("time / ordinary gradient")
    panels[0].set_ylim(bottom=0)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles[::-1], labels[::-1], loc="outside right upper", frameon=False, fontsize=9)
    figure.suptitle("Time of GraNd, the gradient norm of every example of a batch", **TITLE)
    figure.supxlabel(note, x=0.01, ha="left", **NOTE)
    return figure


def main(options: Options) -> None:
    axes = settings(options)
    wanted = dict.fromkeys(setting for along in axes.values() for setting in along)
    table = {setting: measured(setting, options.rounds) for setting in wanted}
    report(
        "GraNd's time against batch size, width and depth",
        [row for entries in table.values() for row in entries],
        unit="ms",
        path=options.json,
        first_call=False,
    )
    if options.figure is not None:
        base = Setting(*options.base)
        note = (
            f"ResNet of four stages, 32x32 images, float32, {jax.devices()[0].device_kind}. "
            f"Where not varied: batch {base.batch_size}, width {base.width}, {base.blocks} blocks per stage. "
            f"Medians of {options.rounds} rounds, bars from lowest to highest."
        )
        options.figure.parent.mkdir(parents=True, exist_ok=True)
        save_figure(draw(table, axes, note), options.figure)


if __name__ == "__main__":
    main(tyro.cli(Options))
