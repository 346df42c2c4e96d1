"""Figures: what they show is what the rows, scores and images say."""

import io
import itertools

import matplotlib
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.patches import StepPatch
from PIL import Image

import diet_jax as dj
from diet_jax.analysis.results import Result, to_rows
from diet_jax.data.dataset import Dataset
from diet_jax.errors import InputError
from diet_jax.plotting import draw_accuracy, draw_examples, draw_histogram, hardest_and_easiest, save_figure
from diet_jax.plotting.style import DPI, OTHER_STYLES, STYLES, styles_of
from diet_jax.scores.file import ScoreFile
from diet_jax.scores.score import SCORES, Score

FRACTIONS = (0.1, 0.2, 0.3, 0.5, 0.7)
NAMES = ("el2n", "grand", "grand_last_layer", "forgetting", "random")


def make_rows(fractions=FRACTIONS, names=NAMES, seeds=4):
    rng = np.random.default_rng(0)
    picked = [("everything", 1.0), *((name, fraction) for fraction in fractions for name in names)]
    return to_rows(
        [
            Result(
                *(name, f, round(1000 * f), 100),
                *(0.5 + 0.4 * rng.random(seeds), rng.random((seeds, 3)), np.arange(seeds)),
            )
            for name, f in picked
        ]
    )


def make_dataset(sizes=(12, 12, 12), shape=(8, 8), dtype=np.uint8, **kwargs):
    rng = np.random.default_rng(1)
    labels = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    images = rng.integers(0, 17, (len(labels), *shape)).astype(dtype)
    return Dataset.from_arrays(images, labels, num_classes=len(sizes), **kwargs)


def make_file(dataset, name="el2n", seeds=3, infinite=0):
    rng = np.random.default_rng(2)
    per_seed = rng.gamma(1.0, 0.3, (seeds, len(dataset)))
    per_seed[0, rng.permutation(len(dataset))[:infinite]] = np.inf
    return ScoreFile.from_seeds(name, per_seed, dataset, step=20)


def line_of(figure, name):
    color = styles_of([name])[name].color
    return next(line for line in figure.axes[0].lines if line.get_color() == color)


def legend_texts(figure):
    (legend,) = figure.legends
    return [text.get_text() for text in legend.get_texts()]


def bars_of(figure):
    """Left edge, right edge and count of every bin that holds something, and whether it is infinity's."""
    # Each group is drawn twice: its area and its outline.
    steps = [patch.get_data() for patch in figure.axes[0].patches if isinstance(patch, StepPatch)][::2]
    return [
        (left, right, count, place > 0)
        for place, step in enumerate(steps)
        for (left, right), count in zip(itertools.pairwise(step.edges), step.values, strict=True)
        if count > 0
    ]


def texts_of(figure):
    return [text.get_text() for text in figure.axes[0].texts]


def all_text(figure):
    """Every text of a figure, titles and tick labels too."""
    return "\n".join(text.get_text() for text in figure.findobj(matplotlib.text.Text))


def touches_border(figure):
    """Whether anything is drawn at the very edge, as text is that leaves the figure."""
    figure.set_dpi(DPI)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())
    inside = np.zeros(pixels.shape, bool)
    inside[3:-3, 3:-3] = True
    return bool((pixels[~inside] != 255).any())


class TestAccuracy:
    @pytest.mark.parametrize("fractions", [FRACTIONS, (0.01, 0.02, 0.5, 0.9)])
    def test_lines_are_the_rows_in_per_cent(self, fractions):
        rows = make_rows(fractions)
        figure = draw_accuracy(rows[::-1], title="t")
        for name in NAMES:
            wanted = [100 * r["accuracy"] for r in rows if r["kept_by"] == name]
            np.testing.assert_allclose(line_of(figure, name).get_ydata(), wanted)
        assert set(line_of(figure, "everything").get_ydata()) == {100 * rows[0]["accuracy"]}
        np.testing.assert_allclose(figure.axes[0].get_xticks(), fractions)
        assert [t.get_text() for t in figure.axes[0].get_xticklabels()] == [f"{f:g}" for f in fractions]

    def test_x_values_are_the_fractions(self):
        figure = draw_accuracy(make_rows(), title="t")
        assert all(tuple(line_of(figure, name).get_xdata()) == FRACTIONS for name in NAMES)

    def test_bands_are_the_percentiles(self):
        rows = make_rows(names=("el2n",))
        band = draw_accuracy(rows, title="t").axes[0].collections[0].get_paths()[0].vertices
        for row in rows[1:]:
            y = band[np.isclose(band[:, 0], row["keep_fraction"]), 1]
            np.testing.assert_allclose(
                [y.min(), y.max()], [100 * row["accuracy_p16"], 100 * row["accuracy_p84"]]
            )

    def test_a_single_fraction_is_points_with_bands_by_name(self):
        rows = make_rows((0.3,))
        figure = draw_accuracy(rows, title="t")
        axes = figure.axes[0]
        assert [t.get_text().replace("\n", " ") for t in axes.get_xticklabels()] == [
            SCORES.find(name).label for name in NAMES
        ]
        for place, row in enumerate(rows[1:]):
            (point,) = line_of(figure, row["kept_by"]).get_xydata()
            np.testing.assert_allclose(point, [place, 100 * row["accuracy"]])
        wanted = [[100 * row["accuracy_p16"], 100 * row["accuracy_p84"]] for row in rows[1:]]
        bars = [part.get_segments()[0] for part in axes.collections[::2]]
        np.testing.assert_allclose([bar[:, 1] for bar in bars], wanted)
        # Caps wider than markers, in front of them: a short bar is seen.
        for name, caps, ends in zip(NAMES, axes.collections[1::2], wanted, strict=True):
            np.testing.assert_allclose(caps.get_offsets()[:, 1], ends)
            assert caps.get_zorder() > line_of(figure, name).get_zorder()
            assert np.sqrt(caps.get_sizes()) > line_of(figure, name).get_markersize()
        assert "0.3 of the 1,000 training examples" in axes.get_xlabel()
        # The line is named where it ends; a legend would have nothing else.
        assert not figure.legends
        (name,) = axes.texts
        assert (name.get_text(), name.xy[1]) == ("everything", pytest.approx(100 * rows[0]["accuracy"]))
        assert not touches_border(figure)

    @pytest.mark.parametrize("fractions", [FRACTIONS, (0.01, 0.02, 0.5, 0.9)])
    def test_equal_series_do_not_hide_each_other(self, fractions):
        rows = [{**row, "accuracy": 0.9, "accuracy_p16": 0.89} for row in make_rows(fractions)]
        figure = draw_accuracy(rows, title="t")
        FigureCanvasAgg(figure).draw()
        points = [line_of(figure, name) for name in NAMES]
        points = [line.get_transform().transform(line.get_xydata()) for line in points]
        # Markers are 5.5 points wide, and half of one must be seen.
        for one, other in itertools.combinations(points, 2):
            assert np.abs(one - other)[:, 0].min() > 0.5 * 5.5 / 72 * figure.dpi
        box = figure.axes[0].get_window_extent()
        assert all((box.x0 < one[:, 0]).all() and (one[:, 0] < box.x1).all() for one in points)

    def test_all_of_the_lines_and_bands_is_inside(self):
        rows = make_rows()
        low, high = draw_accuracy(rows, title="t").axes[0].get_ylim()
        assert low < 100 * min(row["accuracy_p16"] for row in rows)
        assert high > 100 * max(row["accuracy_p84"] for row in rows)

    @pytest.mark.parametrize("fractions", [FRACTIONS, (0.3, 0.5)])
    def test_colour_follows_the_score_dash_and_marker_the_rule(self, fractions):
        names = ("el2n", "el2n window", "grand", "grand window", "el2n+grand mean_rank", "random")
        figure = draw_accuracy(make_rows(fractions, names), title="t")
        lines = dict(zip(names, figure.axes[0].lines[-len(names) :], strict=True))
        colors = {name: line.get_color() for name, line in lines.items()}
        assert colors["el2n window"] == colors["el2n"] == SCORES.find("el2n").color
        assert colors["grand window"] == colors["grand"] == SCORES.find("grand").color
        assert len(set(colors.values())) == 4
        looks = {name: (line.get_linestyle(), line.get_marker()) for name, line in lines.items()}
        assert looks["el2n window"] == looks["grand window"]
        assert looks["el2n"] != looks["el2n window"] != looks["grand"]
        assert legend_texts(figure)[1:] == [
            *("EL2N", "EL2N, window", "GraNd", "GraNd, window", "EL2N + GraNd, mean rank", "random")
        ]

    def test_names_of_one_rule_that_is_named_are_drawn_as_the_scores(self):
        styles = styles_of(["el2n window", "grand window", "random"])
        assert styles["el2n window"][1:] == styles_of(["el2n"])["el2n"][1:]
        assert styles["grand window"].label == "GraNd, window"

    def test_a_selection_has_the_same_color_in_every_figure(self):
        rows = make_rows()
        wanted = [100 * r["accuracy"] for r in rows if r["kept_by"] == "forgetting"]
        for names in (NAMES, ("random", "forgetting"), ("forgetting",)):
            picked = [r for r in rows if r["kept_by"] in ("everything", *names)]
            lines = draw_accuracy(picked, title="t").axes[0].lines
            (line,) = (x for x in lines if x.get_color() == SCORES.find("forgetting").color)
            np.testing.assert_allclose(line.get_ydata(), wanted)

    def test_other_names_are_drawn_apart(self):
        figure = draw_accuracy(make_rows(names=("mine", "yours", "random")), title="t")
        assert legend_texts(figure) == ["everything", "mine", "yours", "random"]
        assert len({line.get_color() for line in figure.axes[0].lines}) == 4

    def test_legend_lists_each_line_once(self):
        figure = draw_accuracy(make_rows(), title="t")
        assert legend_texts(figure) == ["everything", *(SCORES.find(name).label for name in NAMES)]

    def test_the_baseline_goes_behind(self):
        figure = draw_accuracy(make_rows(), title="t")
        others = [line_of(figure, name).get_zorder() for name in NAMES[:-1]]
        assert line_of(figure, "random").get_zorder() < min(others)

    @pytest.mark.parametrize(("seeds", "wanted"), [(1, "One seed each"), (4, "Mean over 4 seeds")])
    def test_says_the_number_of_seeds(self, seeds, wanted):
        assert wanted in draw_accuracy(make_rows(seeds=seeds), title="t").get_supxlabel()

    def test_says_a_range_where_seeds_differ(self):
        rows = make_rows((0.3,), ("random",), 2) + make_rows((0.3,), ("el2n",), 5)[1:]
        assert "2 to 5 seeds" in draw_accuracy(rows, title="t").get_supxlabel()

    def test_log_axis_only_for_small_fractions(self):
        assert draw_accuracy(make_rows(), title="t").axes[0].get_xscale() == "linear"
        assert draw_accuracy(make_rows((0.01, 0.02, 0.5)), title="t").axes[0].get_xscale() == "log"

    def test_crowded_ticks_stand_at_round_numbers(self):
        fractions = tuple(np.arange(1, 20) / 20)
        figure = draw_accuracy(make_rows(fractions, ("random",)), title="t")
        assert line_of(figure, "random").get_xdata().tolist() == list(fractions)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        labels = [label for label in figure.axes[0].get_xticklabels() if 0 < label.get_position()[0] < 1]
        assert [label.get_text() for label in labels] == ["0.2", "0.4", "0.6", "0.8"]
        boxes = [label.get_window_extent() for label in labels]
        assert all(one.x1 < other.x0 for one, other in itertools.pairwise(boxes))

    def test_everything_alone_and_nothing_to_compare_with(self):
        rows = make_rows()
        assert len(draw_accuracy(rows[:1], title="t").axes[0].lines) == 1
        assert len(draw_accuracy(rows[1:], title="t").axes[0].lines) == len(NAMES)

    def test_no_rows(self):
        with pytest.raises(InputError, match="no rows"):
            draw_accuracy([], title="t")

    def test_a_long_title_is_not_clipped_and_not_read_as_formulas(self):
        figure = draw_accuracy(make_rows(), title="cost $a_b$ and again " * 12)
        assert not touches_border(figure)


class TestHistogram:
    def test_counts_every_example_once(self):
        dataset = make_dataset()
        file = make_file(dataset)
        figure = draw_histogram(file, dataset.class_names)
        bars = bars_of(figure)
        for left, right, count, infinite in bars:
            last = right == max(bar[1] for bar in bars)
            inside = (file.scores >= left) & ((file.scores < right) | (last & (file.scores == right)))
            assert (count, infinite) == (inside.sum(), False)
        assert sum(bar[2] for bar in bars) == len(dataset)
        assert "∞" not in all_text(figure)

    def test_infinite_scores_have_a_bar_of_their_own(self):
        dataset = make_dataset()
        figure = draw_histogram(make_file(dataset, "forgetting", infinite=7), dataset.class_names)
        *finite, infinite = bars_of(figure)
        assert sum(bar[2] for bar in finite) == len(dataset) - 7
        assert infinite[2:] == (7, True)
        assert infinite[0] > max(bar[1] for bar in finite)
        assert legend_texts(figure) == ["forgetting", "never learned: 7"]
        for axes in figure.axes:
            label, place = axes.get_xticklabels()[-1], axes.get_xticks()[-1]
            assert label.get_text() == "∞"
            assert infinite[0] < place < infinite[1]
        assert "at least one of the 3 seeds" in figure.get_supxlabel()

    def test_all_infinite(self):
        dataset = make_dataset()
        file = ScoreFile.from_seeds("el2n", np.full((1, len(dataset)), np.inf), dataset, step=0)
        figure = draw_histogram(file, dataset.class_names)
        assert "not finite: 36" in legend_texts(figure)
        assert [bar[2:] for bar in bars_of(figure)] == [(36, True)]
        (medians,) = figure.axes[1].lines
        assert set(medians.get_xdata()) == set(figure.axes[1].get_xticks())
        assert [t.get_text() for t in figure.axes[1].get_xticklabels()] == ["∞"]

    def test_nan_counts_as_not_finite(self):
        dataset = make_dataset()
        scores = np.ones((2, len(dataset)))
        scores[0, 4] = np.nan
        with pytest.warns(UserWarning, match="grand is NaN for 1 of 36 examples"):
            file = ScoreFile.from_seeds("grand", scores, dataset, step=0)
        assert "not finite: 1" in legend_texts(draw_histogram(file, dataset.class_names))

    def test_classes_by_median(self):
        dataset = make_dataset((11, 13, 15), class_names=("ape", "bee", "cat"))
        file = ScoreFile.from_seeds("el2n", np.random.default_rng(3).random((2, 39)), dataset, step=0)
        axes = draw_histogram(file, dataset.class_names).axes[1]
        medians = {
            name: np.median(file.scores[dataset.labels == c]) for c, name in enumerate(dataset.class_names)
        }
        assert [t.get_text() for t in axes.get_yticklabels()] == sorted(medians, key=medians.__getitem__)
        (line,) = axes.lines
        np.testing.assert_allclose(line.get_xdata(), sorted(medians.values()))
        # Sizes are odd: the element at rank ceil(share * size) has no neighbour that could stand for it.
        (bars,) = axes.collections
        for row, segment in enumerate(bars.get_segments()):
            c = dataset.class_names.index(axes.get_yticklabels()[row].get_text())
            ranked = np.sort(file.scores[dataset.labels == c])
            ends = [ranked[int(np.ceil(share * len(ranked))) - 1] for share in (0.16, 0.84)]
            np.testing.assert_allclose(segment, [[ends[0], row], [ends[1], row]])

    def test_both_panels_have_one_scale(self):
        dataset = make_dataset()
        for infinite in (0, 5):
            axes = draw_histogram(make_file(dataset, infinite=infinite), dataset.class_names).axes
            assert axes[0].get_xlim() == axes[1].get_xlim()

    def test_of_many_classes_the_ends(self):
        dataset = make_dataset((3,) * 14)
        file = ScoreFile.from_seeds("el2n", (dataset.labels + 0.5)[None], dataset, step=0)
        figure = draw_histogram(file, dataset.class_names)
        shown = [t.get_text() for t in figure.axes[1].get_yticklabels()]
        assert shown == ["0", "1", "2", "3", "4", "9", "10", "11", "12", "13"]
        assert "4 classes" in figure.get_supxlabel()

    def test_a_class_without_examples_is_no_row(self):
        dataset = make_dataset((5, 0, 5))
        figure = draw_histogram(make_file(dataset), dataset.class_names)
        assert sorted(t.get_text() for t in figure.axes[1].get_yticklabels()) == ["0", "2"]

    def test_counts_get_bins_around_whole_numbers(self):
        dataset = make_dataset()
        events = np.arange(36)[None] % 5
        file = ScoreFile.from_seeds("forgetting", events, dataset, step=0)
        wanted = [(v - 0.5, v + 0.5, count, False) for v, count in enumerate(np.bincount(events[0]))]
        assert bars_of(draw_histogram(file, dataset.class_names)) == wanted

    @pytest.mark.parametrize("power", [1, 3])
    def test_scores_that_are_spread_have_a_linear_axis(self, power):
        dataset = make_dataset((400, 400))
        file = ScoreFile.from_seeds("el2n", np.linspace(0, 1, 800) ** power, dataset, step=0)
        figure = draw_histogram(file, dataset.class_names)
        assert "log scale" not in all_text(figure)
        assert bars_of(figure)[-1][1] == 1

    @pytest.mark.parametrize("infinite", [0, 5])
    def test_scores_near_0_have_a_log_axis(self, infinite):
        dataset = make_dataset((400, 400))
        scores = 10.0 ** np.linspace(-4.5, 0.2, 800)
        scores[:infinite] = np.inf
        file = ScoreFile.from_seeds("el2n", scores, dataset, step=0)
        figure = draw_histogram(file, dataset.class_names)
        assert "log scale" in figure.axes[0].get_xlabel()
        bars = [bar for bar in bars_of(figure) if not bar[3]]
        finite = file.scores[np.isfinite(file.scores)]
        assert sum(bar[2] for bar in bars) == len(finite)
        for left, right, count, _ in bars[1:-1]:
            # A score at an edge is in either bin, as its logarithm is rounded.
            assert abs(((finite >= 10**left) & (finite < 10**right)).sum() - count) <= 1
        for axes in figure.axes:
            ticks = dict(zip(axes.get_xticks(), axes.get_xticklabels(), strict=True))
            texts = {place: text.get_text() for place, text in ticks.items()}
            for place, text in ((-4, "10⁻⁴"), (-3, "0.001"), (-1, "0.1"), (0, "1")):
                assert texts[place] == text
            assert ("∞" in texts.values()) == bool(infinite)
        medians = sorted(np.sort(file.scores[dataset.labels == c])[199] for c in range(2))
        np.testing.assert_allclose(figure.axes[1].lines[0].get_xdata(), np.log10(medians), rtol=1e-9)
        assert not touches_border(figure)

    def test_zeros_and_tiny_scores_share_a_bin_on_the_left(self):
        dataset = make_dataset((400, 400))
        scores = 10.0 ** np.linspace(-12, 0, 800)
        scores[:7] = 0
        figure = draw_histogram(ScoreFile.from_seeds("el2n", scores, dataset, step=0), dataset.class_names)
        first, second, *others = bars_of(figure)
        tiny = int((scores < 1e-6).sum())
        assert first[2] == tiny
        assert second[0] == pytest.approx(-6)
        assert second[2] + sum(bar[2] for bar in others) == 800 - tiny
        assert [t.get_text() for t in figure.axes[0].get_xticklabels()][:2] == ["<", "10⁻⁶"]
        assert f"in the bin on the left: {tiny} examples" in figure.get_supxlabel()

    def test_counts_near_0_keep_whole_bins_and_are_counted_on_a_log_axis(self):
        dataset = make_dataset((400, 400))
        events = np.where(np.arange(800) < 760, 0, np.arange(800) - 758)
        axes = draw_histogram(
            ScoreFile.from_seeds("forgetting", events, dataset, step=0), dataset.class_names
        ).axes[0]
        assert axes.get_yscale() == "log"
        assert "log" in axes.get_ylabel()
        assert "log" not in axes.get_xlabel()

    def test_labels_say_score_seeds_and_direction(self):
        dataset = make_dataset()
        for seeds, wanted in [(1, "one seed"), (3, "mean over 3 seeds")]:
            label = draw_histogram(make_file(dataset, seeds=seeds), dataset.class_names).axes[1].get_xlabel()
            assert label == f"EL2N score, {wanted} (high = hard)"

    def test_equal_scores(self):
        dataset = make_dataset()
        file = ScoreFile.from_seeds("el2n", np.full((2, 36), 0.25), dataset, step=0)
        assert [bar[2] for bar in bars_of(draw_histogram(file, dataset.class_names))] == [36]

    def test_too_few_names(self):
        with pytest.raises(InputError, match="has no name"):
            draw_histogram(make_file(make_dataset()), ["a", "b"])

    def test_nothing_is_clipped(self):
        dataset = make_dataset(class_names=("x$y$", "a class of a very, very long name", "c"), name="n" * 70)
        assert not touches_border(draw_histogram(make_file(dataset, infinite=5), dataset.class_names))


class TestStyles:
    """Scores bring their own; whatever is registered or unknown is told apart from the rest."""

    @pytest.fixture
    def register(self, monkeypatch):
        monkeypatch.setattr(SCORES, "_items", dict(SCORES._items))

        def register(name, **style):
            built = {"formula": "f", "reference": "r", "reads": "logits", "build": lambda model: None}
            return SCORES.register(Score(name=name, label=name.upper(), **built, **style))

        SCORES.names()
        return register

    def test_a_registered_score_is_drawn_as_it_says(self, register):
        register("mine", color="#123456", marker="h", infinite_means="gone")
        assert styles_of(["mine"])["mine"][:4] == ("MINE", "#123456", "h", False)
        dataset = make_dataset()
        figure = draw_histogram(make_file(dataset, "mine", infinite=3), dataset.class_names)
        assert legend_texts(figure) == ["MINE", "gone: 3"]
        assert "MINE" in legend_texts(draw_accuracy(make_rows(names=("mine",)), title="t"))

    def test_a_score_without_colour_gets_a_free_one_the_same_in_all_figures(self, register):
        for name in ("alpha", "beta"):
            register(name)
        alone, together = styles_of(["beta"]), styles_of(["unknown", "beta", "alpha", *NAMES])
        assert alone["beta"] == together["beta"]
        assert len({style.color for style in together.values()}) == len(together)
        assert together == styles_of(["alpha", *NAMES, "unknown", "beta"])

    def test_a_colour_in_use_is_not_free(self, register):
        register("mine", color=OTHER_STYLES[0][0])
        assert styles_of(["mine", "unknown"])["unknown"].color == OTHER_STYLES[1][0]

    def test_colors_of_the_palette_differ(self):
        colors = [style.color for style in STYLES.values()] + [color for color, _ in OTHER_STYLES]
        colors += [score.color for score in SCORES if score.color is not None]
        assert len(set(colors)) == len(colors)

    def test_what_reads_nothing_is_a_baseline(self):
        assert [name for name, style in styles_of([*NAMES, "everything"]).items() if style.baseline] == [
            "random"
        ]


class TestExamples:
    def test_hardest_and_easiest_of_each_class(self):
        dataset = make_dataset((12, 30, 17))
        file = make_file(dataset, infinite=6)
        for c in range(3):
            hard, easy = hardest_and_easiest(file.scores, dataset.labels, c)
            order = np.argsort(np.where(dataset.labels == c, file.scores, np.nan), kind="stable")
            order = order[: (dataset.labels == c).sum()]
            np.testing.assert_array_equal(easy, order[:5])
            np.testing.assert_array_equal(hard, order[:-6:-1])

    @pytest.mark.parametrize(
        ("size", "easy", "hard"), [(0, 0, 0), (1, 1, 0), (2, 1, 1), (7, 4, 3), (9, 5, 4), (10, 5, 5)]
    )
    def test_small_classes_show_nothing_twice(self, size, easy, hard):
        rows = hardest_and_easiest(np.arange(float(size)), np.zeros(size, np.int32), 0)
        assert (len(rows[0]), len(rows[1])) == (hard, easy)
        assert len({*rows[0].tolist(), *rows[1].tolist()}) == easy + hard

    def test_draws_their_pixels_scores_and_ids_in_order(self):
        dataset = make_dataset((12, 2), ids=np.array([f"id{i}" for i in range(14)]))
        file = make_file(dataset)
        figure = draw_examples(dataset, file)
        rows = np.concatenate(
            [r for c in (0, 1) for r in hardest_and_easiest(file.scores, dataset.labels, c)]
        )
        drawn = [np.asarray(image.get_array()) for image in figure.axes[0].images]
        assert len(drawn) == len(rows) == 12
        for pixels, row in zip(drawn, rows, strict=True):
            # Digits are stored as 0 .. 16.
            np.testing.assert_allclose(pixels, dataset.images[row, ..., 0] / 16, rtol=1e-6)
        texts = texts_of(figure)
        assert [t for t in texts if t.startswith("id")] == [f"id{row}" for row in rows]
        wanted = [f"{file.scores[row]:.3g}" for row in rows]
        assert [t for t in texts if t in wanted] == wanted

    @pytest.mark.parametrize("kind", ["images", "table"])
    @pytest.mark.parametrize(("score", "hard"), [("el2n", True), ("variability", False)])
    @pytest.mark.parametrize("which", [{}, {"hardest": 2, "easiest": 1}])
    def test_ends_are_called_hard_and_easy_only_where_high_means_hard(self, kind, score, hard, which):
        dataset = make_dataset()
        if kind == "table":
            inputs = np.random.default_rng(0).normal(size=(len(dataset), 3))
            dataset = dj.Dataset.from_arrays(inputs, dataset.labels, num_classes=dataset.num_classes)
        figure = draw_examples(dataset, make_file(dataset, score), **which)
        texts = " ".join(text.get_text() for text in figure.findobj(matplotlib.text.Text)).lower()
        assert ("hardest" in texts, "easiest" in texts) == (hard, hard)
        if not hard:
            assert "highest" in texts
            assert "lowest" in texts

    def test_images_lie_inside_and_apart(self):
        dataset = make_dataset()
        axes = draw_examples(dataset, make_file(dataset)).axes[0]
        boxes = np.array([image.get_extent() for image in axes.images])
        assert boxes[:, :2].min() > 0
        assert boxes[:, 1].max() < axes.get_xlim()[1]
        assert boxes[:, 3].max() < axes.get_ylim()[1]
        for i, (left, right, bottom, top) in enumerate(boxes):
            others = np.delete(boxes, i, axis=0)
            beside = (others[:, 0] >= right) | (others[:, 1] <= left)
            above = (others[:, 2] >= top) | (others[:, 3] <= bottom)
            assert (beside | above).all()

    def test_of_many_classes_those_with_most_examples(self):
        sizes = [5] * 12
        sizes[3], sizes[7] = 4, 2
        dataset = make_dataset(sizes, class_names=[f"class {c}" for c in range(12)])
        texts = texts_of(draw_examples(dataset, make_file(dataset)))
        assert [t for t in texts if t.startswith("class ")] == [
            f"class {c}" for c in range(12) if c not in (3, 7)
        ]
        assert any("10 classes with most examples, of 12" in t for t in texts)

    def test_infinite_scores(self):
        dataset = make_dataset()
        assert texts_of(draw_examples(dataset, make_file(dataset, infinite=2))).count("∞") == 2

    @pytest.mark.parametrize("channels", [1, 2, 3, 4])
    def test_any_number_of_channels(self, channels):
        dataset = make_dataset(shape=(5, 7, channels))
        pixels = draw_examples(dataset, make_file(dataset)).axes[0].images[0].get_array()
        assert pixels.shape == ((5, 7, 3) if channels >= 3 else (5, 7))

    def test_float_images_by_their_range(self):
        images = np.random.default_rng(0).normal(3, 2, (20, 6, 4, 3)).astype(np.float32)
        dataset = Dataset.from_arrays(images, np.zeros(20, int))
        file = make_file(dataset)
        shown = draw_examples(dataset, file).axes[0].images
        rows = np.concatenate(hardest_and_easiest(file.scores, dataset.labels, 0))
        wanted = (images[rows] - images.min()) / np.ptp(images)
        np.testing.assert_allclose([np.asarray(image.get_array()) for image in shown], wanted, atol=1e-6)
        left, right, bottom, top = shown[0].get_extent()
        assert (right - left) / (top - bottom) == pytest.approx(4 / 6)

    def test_images_of_one_value(self):
        dataset = Dataset.from_arrays(np.zeros((4, 3, 3), np.uint8), [0, 0, 0, 1])
        assert len(draw_examples(dataset, make_file(dataset)).axes[0].images) == 4

    @pytest.mark.parametrize("ids", [np.arange(36)[::-1], np.array([str(i) for i in range(36)])])
    def test_scores_of_other_examples(self, ids):
        dataset = make_dataset()
        other = Dataset.from_arrays(dataset.images, dataset.labels, ids, name="other")
        with pytest.raises(InputError, match=r"score file el2n belongs to .* not to other/train"):
            draw_examples(other, make_file(dataset))

    def test_scores_of_other_data_with_the_same_ids(self):
        dataset = make_dataset()
        other = Dataset.from_arrays(dataset.images[::-1], dataset.labels)
        with pytest.raises(InputError, match="score file el2n belongs to arrays/train"):
            draw_examples(other, make_file(dataset))

    def test_long_names_and_ids_are_shortened_not_clipped(self):
        names = ("x$y$", "WWWWWWWWWWWWWWWWWWWWWW", "a class of a very, very long name")
        ids = np.array([f"folder/of/{i:04d}_$_image.png" for i in range(36)])
        dataset = make_dataset(class_names=names, ids=ids, name="d" * 80)
        assert not touches_border(draw_examples(dataset, make_file(dataset)))


class TestHardest:
    """The hardest of all examples, and the easiest."""

    def rows_of(self, figure):
        """Ids of the pictures, in order, which are the row numbers."""
        return [int(t.get_text()) for t in figure.axes[0].texts if t.get_color() == "#777777"]

    def test_draws_the_hardest_first(self):
        dataset = make_dataset()
        scores = np.random.default_rng(0).permutation(36).astype(float)
        figure = draw_examples(dataset, scores, hardest=12)
        assert self.rows_of(figure) == np.argsort(-scores)[:12].tolist()
        wanted = dataset.images[np.argsort(-scores)[:12], ..., 0] / 16
        shown = [np.asarray(image.get_array()) for image in figure.axes[0].images]
        np.testing.assert_allclose(shown, wanted, rtol=1e-6)
        # Ten in a line.
        assert len({image.get_extent()[2] for image in figure.axes[0].images}) == 2
        assert "The 12 hardest of 36 examples of arrays/train by the given scores" in texts_of(figure)
        assert not touches_border(figure)

    def test_of_equal_scores_none_is_drawn_twice_and_what_is_cut_is_said(self):
        dataset = make_dataset((4, 4))
        figure = draw_examples(dataset, np.ones(8), hardest=6, easiest=5)
        assert sorted(self.rows_of(figure)) == list(range(8))
        assert any("easiest=5, of which there are 2" in text for text in texts_of(figure))
        assert any("The 6 hardest and the 2 easiest of 8" in text for text in texts_of(figure))

    def test_a_score_file_says_what_it_is(self):
        dataset = make_dataset(name="n" * 80)
        figure = draw_examples(dataset, make_file(dataset, "grand_last_layer"), easiest=36, hardest=36)
        text = " ".join(texts_of(figure)).replace("\n", " ")
        assert f"by {SCORES.find('grand_last_layer').label}, step 20" in text
        assert "mean score over 3 seeds" in text
        assert not touches_border(figure)

    @pytest.mark.parametrize("options", [{}, {"hardest": 30}])
    def test_given_and_clean_labels(self, options):
        dataset = make_dataset(class_names=("ape", "bee", "cat"))
        clean = dataset.labels.copy()
        changed = [3, 14, 15]
        clean[changed] = (clean[changed] + 1) % 3
        scores = np.where(np.isin(np.arange(36), changed), 2.0, np.arange(36) / 36)
        texts = texts_of(draw_examples(dataset, scores, clean_labels=clean, **options))
        wanted = sorted(f"clean: {dataset.class_names[clean[row]]}" for row in changed)
        assert sorted(text for text in texts if text.startswith("clean:")) == wanted
        if options:
            given = [dataset.class_names[c] for c in dataset.labels[np.argsort(scores, kind="stable")[:5:-1]]]
            assert [text for text in texts if text in dataset.class_names] == given

    def test_tables_have_both_labels(self):
        dataset = Dataset.from_arrays(np.random.default_rng(0).normal(size=(8, 3)), [0, 1] * 4)
        figure = draw_examples(dataset, np.arange(8.0), hardest=3, easiest=9, clean_labels=[0] * 8)
        cells = figure.axes[0].tables[0].get_celld()
        texts = [[cells[row, column].get_text().get_text() for column in range(8)] for row in range(9)]
        # Ids of arrays without any are the row numbers: one column for both.
        assert texts[0] == ["", "score", "row", "given", "clean", "[0]", "[1]", "[2]"]
        assert texts[1][:5] == ["hardest", "7", "7", "1", "0"]
        assert [line[2] for line in texts[1:]] == list("76501234")
        assert texts[4][0] == "easiest"
        (note,) = [text.get_text() for text in figure.texts if text.get_text().startswith("All 3 values")]
        assert "Hardest first, then the easiest, easiest first." in note
        assert "of which there are 5" in note
        assert len(cells) == 9 * 8

    def test_notebooks_show_figures_without_pyplot(self):
        dataset = make_dataset()
        file = make_file(dataset)
        rows = Dataset.from_arrays(np.zeros((36, 2)), dataset.labels)
        for figure in (
            *(draw_examples(dataset, file), draw_examples(rows, file.scores)),
            *(draw_histogram(file, dataset.class_names), draw_accuracy(make_rows(), title="t")),
        ):
            with Image.open(io.BytesIO(figure._repr_png_())) as image:
                assert image.width > 800
                size = image.size
            # savefig without a dpi makes the picture of a run.
            figure.savefig(plain := io.BytesIO())
            with Image.open(plain) as image:
                assert image.size == size

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"hardest": 0}, "hardest must be a whole number of examples of at least 1, got 0"),
            ({"easiest": -2}, "easiest must be a whole number of examples of at least 1, got -2"),
            ({"scores": np.ones(5)}, "one number for each of the 36 examples of arrays/train, .* got 5"),
            ({"scores": np.ones((1, 36))}, "must be one vector"),
            ({"scores": "el2n"}, "scores must be numbers, one vector .n., got 'el2n'; .* not its name"),
            ({"scores": np.full(36, np.nan)}, "scores must not be NaN: 36 of 36"),
            ({"clean_labels": [0, 1]}, "clean_labels must have shape .36,., one for each of the 36 examples"),
            ({"clean_labels": np.full(36, 3)}, "labels must lie in 0..2"),
        ],
    )
    def test_what_cannot_be_drawn_is_refused(self, options, message):
        with pytest.raises(InputError, match=message):
            draw_examples(make_dataset(), **{"scores": np.ones(36), **options})

    def test_too_many_for_one_figure(self):
        dataset = make_dataset((2000,))
        with pytest.raises(InputError, match="at most 1,000 for one figure, got 1,500"):
            draw_examples(dataset, np.arange(2000.0), hardest=1500)


class TestSaving:
    @pytest.fixture
    def dataset(self):
        return make_dataset((12,) * 10, shape=(32, 32, 3))

    def save_all(self, dataset, folder):
        file = make_file(dataset, infinite=3)
        save_figure(draw_accuracy(make_rows(), title="t"), folder / "accuracy.png")
        save_figure(draw_histogram(file, dataset.class_names), folder / "scores.png")
        save_figure(draw_examples(dataset, file), str(folder / "examples.png"))
        return {path.name: path.read_bytes() for path in folder.iterdir()}

    def test_writes_equal_pngs_of_moderate_size_and_changes_no_settings(self, dataset, tmp_path):
        settings = dict(matplotlib.rcParams)
        first, second = (self.save_all(dataset, tmp_path / name / "figures") for name in ("a", "b"))
        assert dict(matplotlib.rcParams) == settings
        assert first == second
        assert set(first) == {"accuracy.png", "scores.png", "examples.png"}
        for name, data in first.items():
            with Image.open(io.BytesIO(data)) as image:
                assert image.format == "PNG"
                assert 900 < image.width < 1600
                assert 500 < image.height < 2000
                assert "Software" not in image.info
            assert len(data) < (800_000 if name == "examples.png" else 300_000)

    def test_a_name_in_a_script_without_font_does_not_end_a_run(self, tmp_path):
        dataset = make_dataset((4, 4), class_names=("猫", "犬"))
        save_figure(draw_histogram(make_file(dataset), dataset.class_names), tmp_path / "h.png")
        assert (tmp_path / "h.png").stat().st_size > 1000

    def test_nowhere_to_write(self, tmp_path):
        (tmp_path / "file").touch()
        with pytest.raises(InputError, match="cannot write"):
            save_figure(draw_accuracy(make_rows(), title="t"), tmp_path / "file" / "a.png")
