"""docs/reproduction.md: every row says what it stands on, and no training is counted twice."""

import copy
import importlib.util
import re
from collections import Counter
from pathlib import Path

import pytest

from diet_jax.experiments.reproduction.figure import figure_names

DOCS = Path(__file__).parents[1] / "docs"
SPEC = importlib.util.spec_from_file_location("ledger", DOCS / "ledger.py")
LEDGER = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(LEDGER)
RESULTS = LEDGER.read_results()


def tables(page: str, start: str) -> list[dict[str, str]]:
    """The rows of every table whose head begins so."""
    rows, head = [], None
    for line in page.splitlines():
        cells = line[2:-2].split(" | ") if line.startswith("| ") else None
        if cells is None:
            head = None
        elif head is None:
            head = cells
        elif head[0] == start and set(cells) != {"---"}:
            rows.append(dict(zip(head, cells, strict=True)))
    return rows


def result(name="fig1", scale="small", *claims, **trained):
    """A result whose trainings are all of one task, t."""
    about = {
        "dataset": "cifar10",
        "network": "resnet18",
        "epochs": 40.0,
        "train_examples": 50_000,
        "test_examples": 10_000,
        "wrong_labels": 0,
        "fingerprints": ["a" * 64, "b" * 64],
        "stored_as": "PNG",
    }
    return {
        "figure": name,
        "scale": scale,
        "command": "",
        "title": "",
        "claims": list(claims),
        "facts": {},
        "trained": {"t": {**about, **trained}},
    }


def claim(*parts, seeds=4, holds="yes", measure="final test accuracy"):
    return {
        "claim": "one beats the other",
        "published": "",
        "ours": "",
        "holds": holds,
        "measure": measure,
        "parts": [{"task": "t", "what": part} for part in parts],
        "seeds": seeds,
        "score_seeds": 10,
    }


def repeats(*results):
    """(figure, number) of each row that is not counted, and of the row that it repeats."""
    rows = LEDGER.rows_of(list(results))
    return {
        (row.result["figure"], row.number): (row.same_as.result["figure"], row.same_as.number)
        for row in rows
        if row.same_as is not None
    }


def test_the_page_is_that_of_the_results():
    page = LEDGER.ledger(RESULTS, figure_names())
    assert (DOCS / "reproduction.md").read_text(encoding="utf-8") == page
    for one in RESULTS:
        assert (DOCS / "results" / "paper" / f"{one['figure']}_{one['scale']}.png").is_file()


def test_every_row_names_data_network_epochs_and_seeds():
    rows = tables(LEDGER.ledger(RESULTS, []), "claim")
    assert len(rows) == sum(len(one["claims"]) for one in RESULTS)
    for row in rows:
        assert all(row[name] for name in ("data", "network", "epochs", "seeds", "holds")), row
    first = rows[0]
    assert [first[name] for name in ("scale", "data", "network", "epochs", "seeds")] == [
        "small",
        "fashion_mnist, 60,000",
        "mlp",
        "8",
        "4 + 3",
    ]


def test_the_repeats_of_the_results_are_these():
    """Half by EL2N against everything and random stand in two figures, both rows of CINIC-10 twice."""
    assert repeats(*RESULTS) == {
        ("fig1-fractions-cinic10", 1): ("fig1-epochs-cinic10", 1),
        ("fig1-fractions-cinic10", 2): ("fig1-epochs-cinic10", 2),
        ("fig11-networks", 1): ("fig1-fractions-cifar10", 1),
        ("fig11-networks", 2): ("fig1-fractions-cifar10", 2),
        ("grand-at-init", 2): ("fig1-epochs-cifar10", 3),
        ("fig12-correlations", 1): ("grand-at-init", 1),
    }
    # A second route, by the numbers: repeats have equal ones, and no other rows have all of theirs in common.
    words = {(one["figure"], n): c["ours"] for one in RESULTS for n, c in enumerate(one["claims"], 1)}
    numbers = {row: re.findall(r"\d+\.\d+", text) for row, text in words.items()}
    for row, other in repeats(*RESULTS).items():
        assert all(one == another for one, another in zip(numbers[row], numbers[other], strict=False))
    groups = Counter(tuple(found) for found in numbers.values() if len(found) > 2)
    assert {found for found, count in groups.items() if count > 1} == {
        tuple(numbers[row]) for row in repeats(*RESULTS) if row[0] != "fig12-correlations"
    }


def test_what_is_not_counted_is_in_no_count():
    page = LEDGER.ledger(RESULTS, [])
    rows = tables(page, "claim")
    counted = [row["holds"].split()[0] for row in rows if "not counted" not in row["holds"]]
    total = Counter(counted)
    verdicts = f"{total['yes']} yes, {total['no']} no, {total['unclear']} unclear"
    assert f"{len(counted)} claims in {len(RESULTS)} figures: {verdicts}" in page
    assert f"{len(rows) - len(counted)} more rows stand on the same trainings" in page


def test_nothing_is_compared_with_itself():
    for one in RESULTS:
        for found in one["claims"]:
            parts = [(part["task"], part["what"]) for part in found["parts"]]
            assert len(parts) == len(set(parts)), (one["figure"], found["claim"])


def test_the_same_trainings_are_found_whichever_is_named_first():
    one, other = result("a", "small", claim("x", "y")), result("b", "small", claim("y", "x"))
    assert repeats(one, other) == {("b", 1): ("a", 1)}
    assert "same trainings as row 1 of [a](#a)" in LEDGER.ledger([one, other], [])


@pytest.mark.parametrize(
    "other",
    [
        result("b", "small", claim("x", "z")),
        result("b", "small", claim("x", "y", "z")),
        result("b", "small", claim("x", "y", seeds=2)),
        result("b", "small", claim("x", "y", measure="mean barrier")),
        result("b", "small", claim("x", "y"), fingerprints=["c" * 64, "b" * 64]),
    ],
    ids=["part", "more", "seeds", "measure", "data"],
)
def test_other_trainings_are_counted(other):
    assert repeats(result("a", "small", claim("x", "y")), other) == {}


def test_data_that_was_not_recorded_is_taken_to_be_the_same():
    one = result("a", "small", claim("x", "y"), fingerprints=None)
    assert repeats(one, result("b", "small", claim("x", "y"))) == {("b", 1): ("a", 1)}


def test_two_seeds_say_so():
    page = LEDGER.ledger([result("a", "small", claim("x", "y", seeds=2), claim("x", "z", seeds=3))], [])
    assert [row["holds"] for row in tables(page, "claim")] == ["yes (2 seeds)", "yes"]
    assert "2 claims in 1 figures: 2 yes; of these over fewer than 3 seeds: 1 yes." in page
    for row in tables((DOCS / "reproduction.md").read_text(encoding="utf-8"), "claim"):
        judged = int(row["seeds"].split(" + ")[-1])
        assert ("(2 seeds)" in row["holds"]) == (judged == 2), row


def test_a_column_for_each_scale_shows_what_is_finished():
    medium = result("fig1-a", "medium", claim("x", "y", seeds=2), stored_as="JPEG")
    page = LEDGER.ledger([copy.deepcopy(medium)], ["fig1-a", "fig2-b"])
    first, second = tables(page, "figure")
    assert first == {
        "figure": "[fig1-a](#fig1-a)",
        "small": "not run yet",
        "medium": "1 yes; cifar10 (JPEG), resnet18, 40 epochs, 10 + 2 seeds",
        "paper": "not run yet",
    }
    assert set(second.values()) == {"fig2-b", "not run yet"}
    (row,) = tables(page, "claim")
    assert row["data"] == "cifar10 (JPEG), 50,000"
    (data,) = tables(page, "data")
    assert (data["stored as"], data["fingerprints"]) == ("JPEG", f"{'a' * 12}, {'b' * 12}")
