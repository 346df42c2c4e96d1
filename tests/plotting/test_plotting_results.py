"""Figures of results: what they show is what the dict says, and nothing covers anything."""

import itertools
import json

import matplotlib
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex, to_rgba
from matplotlib.patches import StepPatch
from PIL import Image

from diet_jax.errors import InputError
from diet_jax.plotting import draw_result, save_figure
from diet_jax.plotting.style import DPI, OTHER_STYLES, STYLES, styles_of
from diet_jax.scores.score import SCORES

EPOCHS = [0, 2, 4, 5, 8, 10, 15, 20]
# The paper's Figure 1, half of CIFAR-10 kept.
EL2N = [0.951, 0.933, 0.946, 0.950, 0.951, 0.953, 0.951, 0.952]
GRAND = [0.951, 0.938, 0.947, 0.950, 0.951, 0.950, 0.949, 0.951]
FORGETTING = [None, None, 0.946, 0.950, 0.952, 0.952, 0.951, 0.952]
LONG = "a label that is $so_long$ that it never fits beside anything and must be wrapped; "


def series(name, mean=EL2N, x=EPOCHS, spread=0.002, **extra):
    low = [None if value is None else value - spread for value in mean]
    high = [None if value is None else value + 2 * spread for value in mean]
    return {"name": name, "label": None, "x": x, "mean": mean, "low": low, "high": high, **extra}


def level(name="everything", mean=0.9521, spread=0.001):
    return {"name": name, "label": None, "mean": mean, "low": mean - spread, "high": mean + spread}


def lines_panel(*items, levels=(), **extra):
    texts = {"title": "CIFAR-10, ResNet18", "x_label": "score epoch", "y_label": "final test accuracy"}
    return {**texts, "x_scale": "linear", "percent": True, "series": items, "levels": levels, **extra}


FIG1 = lines_panel(
    series("forgetting", FORGETTING),
    series("el2n"),
    series("grand", GRAND),
    levels=[level(), level("random", 0.934)],
)
NAMES = ["EL2N, epoch 20", "GraNd, epoch 20", "GraNd at initialization", "forgetting", "input norm"]
CORRELATIONS = [
    [1, 0.985, -0.022, 0.894, -0.015],
    [0.985, 1, -0.024, 0.868, None],
    [-0.022, -0.024, 1, -0.023, 0.963],
    [0.894, 0.868, -0.023, 1, None],
    [-0.001, float("nan"), 0.963, None, 1],
]
MATRIX = {
    "title": "CIFAR-10",
    "rows": NAMES,
    "columns": NAMES,
    "values": CORRELATIONS,
    "format": ".2f",
    "low": -1,
    "high": 1,
    "value_label": "rank correlation",
}
HISTOGRAM = {
    "title": "10 % of the labels changed",
    "x_label": "EL2N",
    "edges": [0, 0.5, 1, 1.5],
    "groups": [
        {"name": "clean", "label": None, "counts": [30, 20, 10]},
        {"name": "corrupted", "label": "wrong", "counts": [5, None, 25]},
    ],
}
POINTS = {
    "title": "memorization",
    "x_label": "memorization value",
    "y_label": "score",
    "groups": [
        {"name": "el2n", "label": None, "x": [0, 1, 2, None], "y": [3, None, 5, 6]},
        {"name": "random", "label": None, "x": [1], "y": [1]},
    ],
}
BARS = {
    "title": "transfer",
    "y_label": "accuracy",
    "percent": True,
    "groups": ["ResNet18", "VGG"],
    "series": [
        {"name": "el2n", "label": None, "values": [0.95, None], "errors": [0.01, None]},
        {"name": "mine", "label": "my score", "values": [0.94, 0.93], "errors": None},
    ],
}
ONE_OF_EACH = {
    "lines": FIG1,
    "matrix": MATRIX,
    "distributions": HISTOGRAM,
    "points": POINTS,
    "bars": BARS,
}


def result(kind, *panels, title="Final test accuracy", note="Mean over 4 seeds.", **extra):
    chart = {"kind": kind, "panels": list(panels)}
    return {"figure": "fig1", "title": title, "scale": "paper", "note": note, "chart": chart, **extra}


def draw(kind, *panels, **extra):
    return draw_result(result(kind, *panels, **extra))


def line_of(axes, color):
    """The line of a colour that has markers."""
    return next(line for line in axes.lines if line.get_color() == color and line.get_marker() != "None")


def legend_texts(figure):
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def legend_handle(figure, label):
    (legend,) = figure.legends
    return dict(zip(legend_texts(figure), legend.legend_handles, strict=True))[label]


def draw_pixels(figure):
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())


def overlap(first, second):
    """Whether boxes of two texts or axes share more than a pixel."""
    return (
        min(first.x1, second.x1) - max(first.x0, second.x0) > 1
        and min(first.y1, second.y1) - max(first.y0, second.y0) > 1
    )


def check_layout(figure):
    """Nothing leaves the figure; title, note, legend and panels lie apart, and so do tick labels."""
    pixels = draw_pixels(figure)
    inside = np.zeros(pixels.shape, bool)
    inside[3:-3, 3:-3] = True
    assert (pixels[~inside] == 255).all(), "something touches the border"
    renderer = figure.canvas.get_renderer()
    parts = {"title": figure._suptitle, "note": figure._supxlabel, "legend": next(iter(figure.legends), None)}
    parts = {name: part.get_window_extent(renderer) for name, part in parts.items() if part}
    for place, axes in enumerate(figure.axes):
        pieces = {
            "title": axes._left_title.get_window_extent(renderer) if axes.get_title(loc="left") else None,
            "x axis": axes.xaxis.get_tightbbox(renderer),
            "y axis": axes.yaxis.get_tightbbox(renderer),
            "cells": axes.get_window_extent(renderer),
        }
        parts |= {f"{name} of {place}": box for name, box in pieces.items() if box is not None}
    for first, second in itertools.combinations(parts, 2):
        # Ticks reach into their own panel.
        if first[-5:] == second[-5:] and "title" not in first + second:
            continue
        assert not overlap(parts[first], parts[second]), f"{second} covers {first}"
    for axes in figure.axes:
        assert axes.get_window_extent().width > 0.05 * DPI
        for labels in (axes.get_xticklabels(), axes.get_yticklabels()):
            boxes = [t.get_window_extent(renderer) for t in labels if t.get_text() and not t.get_rotation()]
            low, high = axes.get_window_extent().intervalx
            boxes = [box for box in boxes if box.x1 > low - 200 and box.x0 < high + 200]
            for place, first in enumerate(boxes):
                assert not any(overlap(first, second) for second in boxes[:place]), "tick labels overlap"


class TestLines:
    def test_lines_and_colors(self):
        axes = draw("lines", FIG1).axes[0]
        for name, wanted in (("el2n", EL2N), ("grand", GRAND), ("forgetting", FORGETTING)):
            line = line_of(axes, styles_of([name])[name].color)
            np.testing.assert_array_equal(line.get_xdata(), EPOCHS)
            np.testing.assert_allclose(line.get_ydata(), 100 * np.array(wanted, float))
            assert line.get_marker() == styles_of([name])[name].marker

    @pytest.mark.parametrize(("percent", "scale", "label"), [(True, 100, "error (%)"), (False, 1, "error")])
    def test_per_cent(self, percent, scale, label):
        panel = lines_panel(series("el2n"), levels=[level()], percent=percent, y_label="error")
        axes = draw("lines", panel).axes[0]
        np.testing.assert_allclose(
            line_of(axes, SCORES.find("el2n").color).get_ydata(), scale * np.array(EL2N)
        )
        assert axes.lines[0].get_ydata()[0] == pytest.approx(scale * 0.9521)
        assert axes.get_ylabel() == label

    def test_bands(self):
        axes = draw("lines", lines_panel(series("el2n", EL2N[::-1], EPOCHS[::-1]))).axes[0]
        (band,) = axes.collections
        corners = band.get_paths()[0].vertices
        for epoch, mean in zip(EPOCHS, EL2N, strict=True):
            y = corners[corners[:, 0] == epoch, 1]
            np.testing.assert_allclose([y.min(), y.max()], [100 * mean - 0.2, 100 * mean + 0.4])
        assert to_hex(band.get_facecolor()[0]) == SCORES.find("el2n").color.lower()

    def test_rows_are_drawn_by_rising_x(self):
        axes = draw("lines", lines_panel(series("el2n", [0.3, 0.1, 0.2], [9, 1, 4]))).axes[0]
        assert line_of(axes, SCORES.find("el2n").color).get_xdata().tolist() == [1, 4, 9]
        np.testing.assert_allclose(line_of(axes, SCORES.find("el2n").color).get_ydata(), [10, 20, 30])

    def test_a_point_between_gaps_has_a_marker_and_a_bar(self):
        mean = [0.9, None, 0.8, None, *[0.7] * 36]
        axes = draw("lines", lines_panel(series("el2n", mean, list(range(40))))).axes[0]
        assert {0, 2} <= set(line_of(axes, SCORES.find("el2n").color).get_markevery())
        bars = [
            segment
            for part in axes.collections
            if hasattr(part, "get_segments")
            for segment in part.get_segments()
        ]
        np.testing.assert_allclose(bars, [[[0, 89.8], [0, 90.4]], [[2, 79.8], [2, 80.4]]])

    @pytest.mark.parametrize(("mean", "dash"), [([0.9, None, 0.8], "None"), ([0.9, 0.85, 0.8], "-")])
    def test_two_points_are_no_line(self, mean, dash):
        figure = draw("lines", lines_panel(series("el2n", mean, [1, 2, 3])))
        line = line_of(figure.axes[0], SCORES.find("el2n").color)
        assert line.get_linestyle() == legend_handle(figure, "EL2N").get_linestyle() == dash
        # Bars and their caps where there is no line, a band where there is one.
        bars = {hasattr(part, "get_segments") for part in figure.axes[0].collections}
        assert bars == ({True, False} if dash == "None" else {False})

    def test_no_band_is_no_band(self):
        item = {"name": "el2n", "x": EPOCHS, "mean": EL2N}
        assert len(draw("lines", lines_panel(item)).axes[0].collections) == 0

    def test_levels(self):
        axes = draw("lines", lines_panel(levels=[level(), level("random", 0.934)])).axes[0]
        for line, name, mean in zip(axes.lines, ("everything", "random"), (95.21, 93.4), strict=True):
            assert line.get_color() == styles_of([name])[name].color
            assert line.get_linestyle() == "--"
            np.testing.assert_allclose(line.get_ydata(), mean)
        spans = [(span.get_y(), span.get_y() + span.get_height()) for span in axes.patches]
        np.testing.assert_allclose(spans, [(95.11, 95.31), (93.3, 93.5)])

    def test_ticks_at_the_places_or_at_round_numbers(self):
        few = draw("lines", FIG1).axes[0]
        assert few.get_xticks().tolist() == EPOCHS
        assert [t.get_text() for t in few.get_xticklabels()] == [str(epoch) for epoch in EPOCHS]
        window = [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.52, 0.54, 0.56, 0.57, 0.58, 0.59, 0.6]
        many = draw("lines", lines_panel(series("el2n", [0.9] * 13, window))).axes[0]
        assert np.allclose(np.diff(many.get_xticks()), 0.1)

    def test_log_axis_has_room_for_zero(self):
        x = [0, 1, 2, 8, 64]
        axes = draw("lines", lines_panel(series("el2n", EL2N[:5], x), x_scale="log")).axes[0]
        assert axes.get_xticks().tolist() == x
        places = axes.transData.transform([(place, 95) for place in x])[:, 0]
        assert (np.diff(places) > 10).all()
        assert places[2] - places[1] == pytest.approx((places[3] - places[2]) / 2)
        positive = draw("lines", lines_panel(series("el2n", EL2N[1:5], x[1:]), x_scale="log")).axes[0]
        assert positive.get_xscale() == "log"

    def test_points_of_a_single_place_stand_side_by_side(self):
        items = [series(name, [0.9], [20]) for name in ("el2n", "grand", "random")]
        axes = draw("lines", lines_panel(*items)).axes[0]
        places = [float(line.get_xdata()[0]) for line in axes.lines]
        assert len(set(places)) == 3
        assert np.mean(places) == 20
        assert [t.get_text() for t in axes.get_xticklabels()] == ["20"]

    def test_published_panels_look_different_and_say_so(self):
        figure = draw("lines", FIG1, {**FIG1, "published": True})
        ours, theirs = figure.axes
        assert ours.get_title(loc="left") == "CIFAR-10, ResNet18"
        assert theirs.get_title(loc="left") == "CIFAR-10, ResNet18 (published)"
        color = SCORES.find("el2n").color
        assert line_of(ours, color).get_markerfacecolor() == color
        assert line_of(theirs, color).get_markerfacecolor() == "white"
        assert line_of(theirs, color).get_markeredgecolor() == color
        assert not ours.spines["top"].get_visible()
        assert theirs.spines["top"].get_visible()
        assert ours.get_xticks().tolist() == theirs.get_xticks().tolist()
        # The legend lists each once, as ours are drawn.
        assert legend_texts(figure) == ["everything", "random", "forgetting", "EL2N", "GraNd"]
        assert legend_handle(figure, "EL2N").get_markerfacecolor() == color


class TestLooks:
    def test_a_label_replaces_the_name(self):
        figure = draw("lines", lines_panel(series("el2n", label="EL2N, epoch 20"), series("input_norm")))
        assert legend_texts(figure) == ["EL2N, epoch 20", "input norm"]

    def test_ordered_series_go_through_one_map_in_their_order(self):
        items = [series(f"epoch {e}", order=float(e)) for e in (16, 1, 4)]
        figure = draw("lines", lines_panel(*items), lines_panel(items[1]))
        assert legend_texts(figure) == ["epoch 1", "epoch 4", "epoch 16"]
        colors = [legend_handle(figure, f"epoch {e}").get_color() for e in (1, 4, 16)]
        assert colors[0] == to_hex(matplotlib.colormaps["viridis"](0.0))
        brightness = [sum(to_rgba(color)[:3]) for color in colors]
        assert brightness == sorted(brightness)
        assert figure.axes[1].lines[0].get_color() == colors[0]

    def test_twelve_unknown_names_are_told_apart_and_keep_their_look(self):
        items = [series(f"setting {i}") for i in range(12)]
        figure = draw("lines", lines_panel(*items), lines_panel(*items[6:]))
        looks = [(line.get_color(), line.get_linestyle()) for line in figure.axes[0].lines]
        assert len(set(looks)) == 12
        assert [(line.get_color(), line.get_linestyle()) for line in figure.axes[1].lines] == looks[6:]
        assert len(legend_texts(figure)) == 12

    def test_a_repeated_name_changes_its_dashes(self):
        lines = draw("lines", lines_panel(series("el2n"), series("el2n", GRAND, label="again"))).axes[0].lines
        assert [line.get_linestyle() for line in lines] == ["-", "--"]

    def test_unknown_levels_and_series_do_not_share_colors(self):
        lines = draw("lines", lines_panel(series("b"), levels=[level("a")])).axes[0].lines
        assert [line.get_color() for line in lines] == [OTHER_STYLES[0][0], OTHER_STYLES[1][0]]

    def test_series_without_values_say_so_unless_another_panel_has_some(self):
        empty = series("el2n", [None] * 8)
        assert legend_texts(draw("lines", lines_panel(empty))) == ["EL2N (no values)"]
        assert legend_texts(draw("lines", lines_panel(empty), lines_panel(series("el2n")))) == ["EL2N"]
        assert [t.get_text() for t in draw("lines", lines_panel(empty)).axes[0].texts] == ["no values"]


class TestMatrix:
    def test_values_colors_and_gaps(self):
        axes = draw("matrix", MATRIX).axes[0]
        written = {text.get_position(): text.get_text() for text in axes.texts}
        assert written[(1, 0)] == "0.98"
        assert written[(0, 2)] == "−0.02"
        assert written[(0, 4)] == "0.00"
        gaps = {(4, 1), (4, 3), (1, 4), (3, 4)}
        assert set(written) == {(c, r) for c in range(5) for r in range(5)} - gaps
        assert {(patch.get_x() + 0.5, patch.get_y() + 0.5) for patch in axes.patches} == gaps
        assert all(patch.get_hatch() for patch in axes.patches)
        image = axes.images[0]
        np.testing.assert_array_equal(image.get_array().mask, np.isnan(np.array(CORRELATIONS, float)))
        assert image.get_clim() == (-1, 1)

    def test_labels(self):
        axes = draw("matrix", {**MATRIX, "columns": ["1", "2", "5", "10", "20"]}).axes[0]
        assert [t.get_text() for t in axes.get_yticklabels()] == NAMES
        assert [t.get_text() for t in axes.get_xticklabels()] == ["1", "2", "5", "10", "20"]
        assert {t.get_rotation() for t in axes.get_xticklabels()} == {0}
        assert {t.get_rotation() for t in draw("matrix", MATRIX).axes[0].get_xticklabels()} == {45}

    @pytest.mark.parametrize("low", [-1, 0])
    def test_numbers_stand_out_from_their_cells(self, low):
        values = np.linspace(low, 1, 100).reshape(10, 10)
        names = [str(i) for i in range(10)]
        figure = draw(
            "matrix", {**MATRIX, "rows": names, "columns": names, "values": values.tolist(), "low": low}
        )
        image = figure.axes[0].images[0]
        for text in figure.axes[0].texts:
            column, row = text.get_position()
            light = [
                np.dot(
                    [c / 12.92 if c < 0.04 else ((c + 0.055) / 1.055) ** 2.4 for c in rgb],
                    [0.2126, 0.7152, 0.0722],
                )
                for rgb in (image.cmap(image.norm(values[row, column]))[:3], to_rgba(text.get_color())[:3])
            ]
            assert (max(light) + 0.05) / (min(light) + 0.05) > 4.5

    def test_numbers_fit_their_cells(self):
        names = [f"score {i}" for i in range(15)]
        values = np.random.default_rng(0).uniform(-1, 1, (15, 15)).tolist()
        panel = {**MATRIX, "rows": names, "columns": names, "values": values}
        figure = draw("matrix", {**panel, "format": ".4f"})
        check_layout(figure)
        axes = figure.axes[0]
        cell = axes.get_window_extent().width / 15
        assert max(text.get_window_extent().width for text in axes.texts) < cell


class TestDistributionsPointsAndBars:
    def test_histograms(self):
        figure = draw("distributions", HISTOGRAM)
        axes = figure.axes[0]
        drawn = [patch for patch in axes.patches if isinstance(patch, StepPatch)]
        assert len(drawn) == 4
        for patch, counts in zip(drawn[::2], ([30, 20, 10], [5, np.nan, 25]), strict=True):
            np.testing.assert_array_equal(patch.get_data().values, counts)
            np.testing.assert_array_equal(patch.get_data().edges, HISTOGRAM["edges"])
        assert legend_texts(figure) == ["label kept", "wrong"]
        assert to_hex(drawn[0].get_facecolor()) == STYLES["clean"].color.lower()
        assert axes.get_yscale() == "linear"

    def test_log_counts_where_few_bins_would_show(self):
        groups = [{"name": "clean", "counts": [9000, 3, 2]}, {"name": "corrupted", "counts": [1, 2, 3]}]
        axes = draw("distributions", {**HISTOGRAM, "groups": groups}).axes[0]
        assert axes.get_yscale() == "log"
        assert "log" in axes.get_ylabel()

    def test_points(self):
        figure = draw("points", POINTS)
        first, second = figure.axes[0].lines
        assert first.get_xydata().tolist() == [[0, 3], [2, 5]]
        assert (first.get_color(), first.get_marker()) == (SCORES.find("el2n").color, "o")
        assert second.get_xydata().tolist() == [[1, 1]]
        assert {line.get_linestyle() for line in (first, second)} == {"None"}
        assert legend_texts(figure) == ["EL2N", "random"]

    def test_bars(self):
        figure = draw("bars", BARS)
        axes = figure.axes[0]
        heights = [bar.get_height() for bar in axes.patches]
        np.testing.assert_allclose(heights, [95, 94, 93])
        places = [bar.get_x() + bar.get_width() / 2 for bar in axes.patches]
        np.testing.assert_allclose(places, [-0.2, 0.2, 1.2])
        (errors,) = (part for part in axes.collections if len(part.get_segments()))
        np.testing.assert_allclose(errors.get_segments(), [[[-0.2, 94], [-0.2, 96]]])
        assert [t.get_text() for t in axes.texts] == ["95", "94", "93"]
        assert [t.get_text() for t in axes.get_xticklabels()] == ["ResNet18", "VGG"]
        assert axes.get_ylabel() == "accuracy (%)"
        assert axes.get_ylim()[0] == 0
        assert legend_texts(figure) == ["EL2N", "my score"]

    @pytest.mark.parametrize("kind", ["distributions", "bars"])
    def test_published_areas_are_hatched(self, kind):
        ours, theirs = draw(kind, ONE_OF_EACH[kind], {**ONE_OF_EACH[kind], "published": True}).axes
        assert not ours.patches[0].get_hatch()
        assert theirs.patches[0].get_hatch()
        assert to_rgba(theirs.patches[0].get_facecolor())[3] == 0

    def test_bars_through_points_names_of_places_and_a_range(self):
        group = {"name": "el2n", "x": [3, 1], "y": [0, 1], "low": [2, None], "high": [4, None]}
        panel = {**POINTS, "groups": [group], "y_ticks": [(0, "ape"), (1, "$b$")], "x_range": (-1, 5)}
        axes = draw("points", panel).axes[0]
        (bars,) = axes.collections
        np.testing.assert_array_equal(bars.get_segments()[0], [[2, 0], [4, 0]])
        assert [t.get_text() for t in axes.get_yticklabels()] == ["ape", "$b$"]
        assert axes.get_xlim() == (-1, 5)
        check_layout(draw("points", panel))

    def test_a_panel_may_have_a_kind_of_its_own(self):
        panels = ({**POINTS, "kind": "points"}, HISTOGRAM, {**POINTS, "kind": "points", "groups": []})
        figure = draw("distributions", *panels)
        check_layout(figure)
        assert [bool(axes.lines) for axes in figure.axes] == [True, False, False]
        assert [bool(axes.patches) for axes in figure.axes] == [False, True, False]
        assert set(legend_texts(figure)) == {"EL2N", "random", "label kept", "wrong"}

    def test_published_points_are_hollow(self):
        ours, theirs = draw("points", POINTS, {**POINTS, "published": True}).axes
        assert ours.lines[0].get_markerfacecolor() == SCORES.find("el2n").color
        assert theirs.lines[0].get_markerfacecolor() == "white"


def long_panel(panel):
    """The same panel with long texts everywhere."""
    longer = {key: LONG + text for key, text in panel.items() if key.endswith("label")}
    for key in ("series", "groups", "levels"):
        if key in panel:
            longer[key] = [
                {**item, "label": LONG + item["name"]} if isinstance(item, dict) else LONG + item
                for item in panel[key]
            ]
    for key in ("rows", "columns"):
        if key in panel:
            longer[key] = [LONG + name for name in panel[key]]
    return {**panel, **longer, "title": LONG * 2}


class TestLayout:
    @pytest.mark.parametrize("kind", ONE_OF_EACH)
    def test_one_panel(self, kind):
        check_layout(draw(kind, ONE_OF_EACH[kind]))

    @pytest.mark.parametrize("kind", ONE_OF_EACH)
    def test_three_panels(self, kind):
        panel = ONE_OF_EACH[kind]
        check_layout(draw(kind, panel, {**panel, "published": True}, panel))

    def test_places_of_six(self):
        figure = draw("lines", *[lines_panel(series("el2n"), title=str(i)) for i in range(6)])
        check_layout(figure)
        boxes = [axes.get_window_extent() for axes in figure.axes]
        assert [round(box.y0) for box in boxes[:3]] == [round(boxes[0].y0)] * 3
        assert boxes[0].x1 < boxes[1].x0 < boxes[1].x1 < boxes[2].x0
        assert boxes[3].y1 < boxes[0].y0
        assert [axes.get_title(loc="left") for axes in figure.axes] == list("012345")

    @pytest.mark.parametrize(
        ("kind", "count"), [*((kind, 1) for kind in ONE_OF_EACH), ("lines", 2), ("matrix", 2)]
    )
    def test_long_texts(self, kind, count):
        panel = long_panel(ONE_OF_EACH[kind])
        check_layout(draw(kind, *[panel] * count, title=LONG * 4, note=(LONG * 5 + "\n") * 2, scale="smoke"))

    @pytest.mark.parametrize(
        "panels",
        [
            [lines_panel(series("el2n", [0.9], [20]))],
            [lines_panel(*[series(f"setting {i}", [0.9 + i] * 20, list(range(20))) for i in range(12)])],
            [lines_panel(*[series(LONG + str(i)) for i in range(12)])],
            [lines_panel(levels=[level()])],
            [lines_panel(series("el2n", [None] * 8), levels=[])],
            [lines_panel(series("el2n", [None] * 8)), FIG1],
            [lines_panel()],
            [lines_panel(series("el2n", [1e-7, 2e-7], [1000, 49900]), percent=False)],
            [lines_panel(series("el2n", [0.5] * 500, list(range(1, 50000, 100))), x_scale="log")],
        ],
    )
    def test_few_many_or_no_lines(self, panels):
        check_layout(draw("lines", *panels))

    @pytest.mark.parametrize(
        ("kind", "panel"),
        [
            ("matrix", {**MATRIX, "values": [[None] * 5] * 5}),
            ("matrix", {**MATRIX, "rows": ["a"], "columns": ["b"], "values": [[0.5]]}),
            ("distributions", {**HISTOGRAM, "groups": [{"name": "clean", "counts": [None] * 3}]}),
            ("distributions", {**HISTOGRAM, "groups": [{"name": "clean", "counts": [0] * 3}]}),
            ("points", {**POINTS, "groups": [{"name": "el2n", "x": [None], "y": [1]}]}),
            ("bars", {**BARS, "series": [{"name": "el2n", "values": [None, None]}]}),
        ],
    )
    def test_nothing_or_little(self, kind, panel):
        check_layout(draw(kind, panel))

    def test_title_note_and_scale(self):
        figure = draw("lines", FIG1, title="cost $x_1$", note="One seed.", scale="smoke")
        assert figure.get_suptitle() == "cost $x_1$"
        assert figure.get_supxlabel() == "One seed.\nScale: smoke, not the paper's."
        assert draw("lines", FIG1).get_supxlabel() == "Mean over 4 seeds."
        check_layout(draw("lines", FIG1, note=""))


class TestSaving:
    @pytest.mark.parametrize("kind", ONE_OF_EACH)
    def test_equal_bytes_from_a_file(self, kind, tmp_path):
        settings = dict(matplotlib.rcParams)
        plain = result(kind, ONE_OF_EACH[kind])
        save_figure(draw_result(plain), tmp_path / "a.png")
        save_figure(draw_result(json.loads(json.dumps(plain))), str(tmp_path / "b.png"))
        assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
        assert dict(matplotlib.rcParams) == settings
        with Image.open(tmp_path / "a.png") as image:
            assert image.format == "PNG"
            assert 400 < image.width < 2000
            assert "Software" not in image.info

    def test_a_name_in_a_script_without_font(self, tmp_path):
        figure = draw_result(result("lines", lines_panel(series("el2n", label="猫")), title="猫"))
        save_figure(figure, tmp_path / "a.png")
        assert (tmp_path / "a.png").stat().st_size > 1000


class TestErrors:
    @pytest.mark.parametrize("key", ["title", "chart"])
    def test_missing_in_the_result(self, key):
        broken = result("lines", FIG1)
        del broken[key]
        with pytest.raises(InputError, match=f"the result has no key '{key}'"):
            draw_result(broken)

    @pytest.mark.parametrize("key", ["kind", "panels"])
    def test_missing_in_the_chart(self, key):
        broken = result("lines", FIG1)
        del broken["chart"][key]
        with pytest.raises(InputError, match=f"the chart has no key '{key}'"):
            draw_result(broken)

    def test_a_chart_that_is_no_dict(self):
        with pytest.raises(InputError, match="the chart must be a dict with the key 'kind', got int"):
            draw_result({"title": "t", "chart": 7})

    def test_unknown_kind_and_no_panels(self):
        with pytest.raises(InputError, match=r"must be one of lines, .*, got 'pie'"):
            draw("pie", FIG1)
        with pytest.raises(InputError, match=r"must be one of lines, .*, got 'pie'"):
            draw("lines", FIG1, {**FIG1, "kind": "pie"})
        with pytest.raises(InputError, match="no panels"):
            draw("lines")

    @pytest.mark.parametrize(
        ("kind", "key"),
        [
            *(("lines", key) for key in ("title", "x_label", "y_label", "series")),
            *(("matrix", key) for key in MATRIX),
            *(("distributions", key) for key in HISTOGRAM),
            *(("points", key) for key in POINTS),
            *(("bars", key) for key in BARS if key != "percent"),
        ],
    )
    def test_missing_in_a_panel(self, kind, key):
        broken = {name: value for name, value in ONE_OF_EACH[kind].items() if name != key}
        with pytest.raises(InputError, match=f"has no key '{key}'"):
            draw(kind, broken)

    @pytest.mark.parametrize(
        ("kind", "part", "key"),
        [
            *(("lines", "series", key) for key in ("name", "x", "mean")),
            *(("lines", "levels", key) for key in ("name", "mean")),
            *(("distributions", "groups", key) for key in ("name", "counts")),
            *(("points", "groups", key) for key in ("name", "x", "y")),
            *(("bars", "series", key) for key in ("name", "values")),
        ],
    )
    def test_missing_in_a_series(self, kind, part, key):
        panel = ONE_OF_EACH[kind]
        items = [{name: value for name, value in item.items() if name != key} for item in panel[part]]
        with pytest.raises(InputError, match=f"has no key '{key}'"):
            draw(kind, {**panel, part: items})

    @pytest.mark.parametrize(
        ("kind", "panel", "message"),
        [
            (
                "lines",
                lines_panel(series("el2n", EL2N[1:])),
                "mean of series 'el2n' has 7 values, must have 8",
            ),
            ("lines", lines_panel({**series("el2n"), "high": [1.0]}), "high of series 'el2n' has 1 value,"),
            (
                "lines",
                lines_panel(series("el2n", [float("inf")], [1])),
                "mean of series 'el2n' has an infinite",
            ),
            ("lines", lines_panel({**series("el2n"), "x": ["a"]}), "must be a list of numbers"),
            ("lines", lines_panel(series("el2n"), x_scale="cubic"), "x_scale must be 'linear' or 'log'"),
            ("lines", lines_panel(series("el2n", [1, 2], [-1, 1]), x_scale="log"), "x goes down to -1"),
            ("matrix", {**MATRIX, "rows": NAMES[1:]}, "values has 5 rows, must have 4"),
            ("matrix", {**MATRIX, "columns": NAMES[1:]}, "has 5 values, must have 4"),
            ("matrix", {**MATRIX, "rows": [], "values": []}, "needs rows and columns"),
            ("matrix", {**MATRIX, "format": "two digits"}, "format must be a number format"),
            ("matrix", {**MATRIX, "low": 1}, "low must be below high, got 1 and 1"),
            (
                "distributions",
                {**HISTOGRAM, "edges": [0, 1]},
                "counts of group 'clean' has 3 values, must have 1",
            ),
            ("distributions", {**HISTOGRAM, "edges": [0, 2, 1, 3]}, "two rising numbers"),
            (
                "points",
                {**POINTS, "groups": [{"name": "a", "x": [1], "y": []}]},
                "y of series 'a' has 0 values",
            ),
            ("bars", {**BARS, "groups": ["one"]}, "values of series 'el2n' has 2 values, must have 1"),
        ],
    )
    def test_wrong_contents(self, kind, panel, message):
        with pytest.raises(InputError, match=message):
            draw(kind, panel)
