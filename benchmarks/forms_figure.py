"""The table and the figure of every form of every layer."""

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullLocator

import diet_jax as dj
from diet_jax.plotting.style import NOTE, OTHER_STYLES, TITLE, plain, wrap

FLOOR = "ordinary gradient"
VMAP = "vmap(grad)"
# Colour, marker, and how far below the line, so that no mark hides another one.
MARKS = {
    "offset": (dj.SCORES.find("grand").color, "s", 0.14),
    "pixel": (dj.SCORES.find("el2n").color, "o", 0.0),
    "patch gram": (dj.SCORES.find("forgetting").color, "^", 0.0),
    "patch product": (dj.SCORES.find("grand_last_layer").color, "D", -0.14),
    "split product": (*OTHER_STYLES[1], 0.28),
    VMAP: (*OTHER_STYLES[0], 0.0),
}


def by_layer(table: Sequence[dict[str, Any]]) -> dict[str, dict[str, dict[str, Any]]]:
    """Groups rows by layer, then by variant."""
    groups: dict[str, dict[str, dict[str, Any]]] = {}
    for row in table:
        groups.setdefault(row["what"], {})[row["variant"]] = row
    return groups


def markdown(table: Sequence[dict[str, Any]], note: str) -> str:
    """Returns a table with a line for each layer: times over that of the ordinary weight gradient."""
    names = [name for name in MARKS if any(row["variant"] == name for row in table)]
    lines = [
        f"| layer | layers | {FLOOR}, ms | {' | '.join(names)} |",
        "|---|" + "---:|" * (2 + len(names)),
    ]
    for what, ways in by_layer(table).items():
        cells = []
        for name in names:
            cell = f"{ways[name]['ratio']:.2f}" if name in ways else ""
            cells.append(f"**{cell}**" if name in ways and ways[name]["chosen"] else cell)
        floor = ways[FLOOR]
        cells = [what, str(floor["layers"]), f"{1000 * floor['median_s']:.3g}", *cells]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", f"Bold: the form that the library chooses. {note}", ""])


def draw(table: Sequence[dict[str, Any]], network: str, note: str) -> Figure:
    """Draws a line of marks for each layer; bars go from the lowest to the highest ratio."""
    groups = by_layer(table)
    figure = Figure(figsize=(9.5, 1.9 + 0.36 * len(groups)), layout="constrained")
    panel = figure.subplots()
    panel.axvline(1, color="black", linewidth=1.2, linestyle="--", zorder=1)
    for place, ways in enumerate(groups.values()):
        for name, (color, marker, below) in MARKS.items():
            if name in ways:
                _mark(panel, place + below, ways[name], color, marker)
    panel.set_yticks(range(len(groups)), [_name(what, ways) for what, ways in groups.items()])
    panel.set_ylim(len(groups) - 0.4, -0.6)
    panel.grid(axis="x", color="#E5E5E5", linewidth=0.7)
    panel.grid(axis="y", color="#F0F0F0", linewidth=0.7)
    plain(panel)
    panel.spines["left"].set_visible(False)
    panel.tick_params(axis="y", length=0)
    panel.set_xscale("log")
    low, high = panel.get_xlim()
    steps = [m * 10.0**e for e in range(-4, 5) for m in (1, 2, 5)]
    ticks = [tick for tick in steps if low <= tick <= high]
    panel.xaxis.set_major_locator(FixedLocator(ticks))
    panel.xaxis.set_minor_locator(NullLocator())
    panel.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    panel.set_xlabel("time / ordinary weight gradient of the batch")

    shown = [name for name in MARKS if any(name in ways for ways in groups.values())]
    handles = [_handle(*MARKS[name][:2], name) for name in shown]
    handles.append(Line2D([], [], ls="", marker="o", ms=12, mfc="none", mec="black", label="chosen"))
    handles.append(Line2D([], [], color="black", lw=1.2, ls="--", label="ordinary gradient"))
    figure.legend(handles=handles, loc="outside right upper", frameon=False, fontsize=9, labelspacing=0.8)
    title = f"Norms of every example's weight gradient: each form, each convolution of {network}"
    figure.suptitle(title, **TITLE)
    figure.supxlabel(wrap(note, 165), x=0.01, ha="left", **NOTE)
    return figure


def _mark(panel: Axes, place: float, row: dict[str, Any], color: str, marker: str) -> None:
    panel.hlines(place, row["ratio_low"], row["ratio_high"], color=color, linewidth=2.5, alpha=0.35)
    panel.plot(
        row["ratio"], place, color=color, marker=marker, markersize=6.5, mec="white", mew=0.6, zorder=3
    )
    if row["chosen"]:
        panel.plot(row["ratio"], place, marker="o", markersize=13, mfc="none", mec="black", mew=1.1, zorder=4)


def _name(what: str, ways: dict[str, dict[str, Any]]) -> str:
    count = ways[FLOOR]["layers"]
    return f"{what}  ({count} layers)" if count > 1 else what


def _handle(color: str, marker: str, label: str) -> Line2D:
    return Line2D([], [], color=color, ls="", marker=marker, ms=6.5, mec="white", mew=0.6, label=label)
