"""Accuracy against cost, and several rules side by side: what is drawn is what the rows say."""

import numpy as np
import pytest

from diet_jax.errors import InputError
from diet_jax.plotting import draw_accuracy, draw_costs
from diet_jax.plotting.costs import front


def row(kept_by, fraction, accuracy, cost, rule=""):
    return {
        "kept_by": f"{kept_by} {rule}".strip(),
        "score": kept_by if rule else "",
        "rule": rule,
        "keep_fraction": fraction,
        "examples": 100,
        "seeds": 3,
        "accuracy": accuracy,
        "cost": cost,
        "accuracy_p16": accuracy - 0.01,
        "accuracy_p84": accuracy + 0.01,
    }


ROWS = [
    row("everything", 1.0, 0.9, 1.0),
    *(row("random", fraction, 0.7 + fraction / 5, fraction) for fraction in (0.1, 0.3, 0.5)),
    *(row("rs2", fraction, 0.72 + fraction / 5, fraction) for fraction in (0.1, 0.3, 0.5)),
    *(row("el2n", f, 0.2 + f, 0.5 + f, rule) for f in (0.1, 0.3, 0.5) for rule in ("highest", "lowest")),
]


def test_the_front_is_what_nothing_as_cheap_beats():
    points = [tuple(point) for point in np.random.default_rng(0).integers(0, 12, (40, 2)).tolist()]
    beaten = {
        (cost, good)
        for cost, good in points
        if any(c <= cost and g >= good and (c, g) != (cost, good) for c, g in points)
    }
    assert front(points) == sorted(set(points) - beaten)
    assert front([]) == []


def test_costs_have_a_panel_per_rule_with_baselines_and_one_front():
    figure = draw_costs(ROWS, title="t")
    assert [ax.get_title(loc="left") for ax in figure.axes] == [
        "kept by the rule highest",
        "kept by the rule lowest",
    ]
    for ax in figure.axes:
        lines = [(line.get_xdata(), line.get_ydata()) for line in ax.lines]
        for name, shift, slope in (("random", 70, 20), ("rs2", 72, 20), ("el2n", 20, 100)):
            x = np.array([0.1, 0.3, 0.5]) + (0.5 if name == "el2n" else 0)
            fractions = np.array([0.1, 0.3, 0.5])
            assert any(
                np.shape(xs) == (3,) and np.allclose(xs, x) and np.allclose(ys, shift + slope * fractions)
                for xs, ys in lines
            ), name
        # RS2 is above random at the same price, everything above both.
        (best,) = [line for line in ax.lines if line.get_drawstyle() == "steps-post"]
        np.testing.assert_allclose(best.get_xdata(), [0.1, 0.3, 0.5, 1.0])
        np.testing.assert_allclose(best.get_ydata(), [74, 78, 82, 90])


def test_costs_that_are_not_known_are_left_out_and_said():
    rows = [*ROWS, row("elsewhere", 0.1, 0.5, None, "highest")]
    note = draw_costs(rows, title="t").get_supxlabel().replace("\n", " ")
    assert "Without 1 row by scores that were made elsewhere" in note
    with pytest.raises(InputError, match="no row has a cost"):
        draw_costs([{**each, "cost": None} for each in ROWS], title="t")


def test_accuracies_of_several_rules_have_a_panel_each():
    figure = draw_accuracy(ROWS, title="t")
    assert len(figure.axes) == 2
    labels = {text.get_text() for text in figure.legends[0].get_texts()}
    assert labels == {"everything", "random", "RS2, random anew each epoch", "EL2N"}
    assert len(draw_accuracy([each for each in ROWS if each["rule"] != "lowest"], title="t").axes) == 1
