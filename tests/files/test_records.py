"""A changed byte in a file of ours is noticed."""

import json
import re

import numpy as np
import pytest

import diet_jax as dj
from diet_jax.files.arrays import load_arrays, save_arrays
from diet_jax.files.records import append_lines, from_record, read_lines, scan_lines, with_checksum

LINES = [
    {"unit": "score/seed_00", "step": 3, "loss": 0.1 + 0.2},
    {"unit": "ä", "x": [float("inf"), None, {}]},
]


def flips(content):
    """Each byte changed, in a bit that depends on its place."""
    for place in range(len(content)):
        changed = bytearray(content)
        changed[place] ^= 1 << (place % 8)
        yield bytes(changed)


def refusal(read):
    """What a reader says of a damaged file; nothing where it finds none."""
    try:
        read()
    except dj.InputError as error:
        return str(error)
    return ""


def test_lines_come_back(tmp_path):
    path = tmp_path / "a.jsonl"
    assert read_lines(path, "a").values == []
    for line in LINES:
        append_lines(path, [line], "a")
    assert read_lines(path, "a").values == LINES
    # Any reader of JSON lines can read them.
    assert [json.loads(line)["unit"] for line in path.read_text().splitlines()] == ["score/seed_00", "ä"]


def test_a_changed_byte_in_lines_is_noticed(tmp_path):
    path = tmp_path / "a.jsonl"
    append_lines(path, LINES, "a")
    for content in flips(path.read_bytes()):
        path.write_bytes(content)
        message = refusal(lambda: read_lines(path, "a"))
        # `1e-05` and `1E-05` are one number.
        named = re.match(rf"{path}: line [123]( \(and 1 more\))? is damaged; bring the file", message)
        assert named or (not message and read_lines(path, "a").values == LINES)


def test_lines_that_were_cut_off_end_where_they_are_whole(tmp_path):
    path = tmp_path / "a.jsonl"
    append_lines(path, LINES, "a")
    content = path.read_bytes()
    first = content.index(b"\n") + 1
    for length in range(len(content)):
        path.write_bytes(content[:length])
        # Without its line feed alone a line is whole.
        whole = LINES[: (length >= first - 1) + (length >= len(content) - 1)]
        assert read_lines(path, "a").values == whole
        append_lines(path, [{"unit": "next"}], "a")
        found = read_lines(path, "a")
        assert found.values == [*whole, {"unit": "next"}]
        assert found.numbers == list(range(1, len(whole) + 2))


def lines_of(path, run="a", count=4):
    append_lines(path, [{"unit": str(i)} for i in range(count)], run)
    return path.read_bytes().splitlines(keepends=True)


# What is done to four lines and those of another run; what is said of it, and the numbers that are missing.
CHANGED = {
    "as written": (lambda mine, other: mine, "", []),
    "one taken away": (lambda mine, other: mine[:1] + mine[2:], "", [2]),
    "the first ones taken away": (lambda mine, other: mine[2:], "", [1, 2]),
    # As a killed process leaves it; what finished runs know of their end, verify asks.
    "the last one taken away": (lambda mine, other: mine[:3], "", []),
    "all of another": (lambda mine, other: other, "line 1 (and 3 more) is of another run; bring", []),
    "one of another at the end": (lambda mine, other: mine + other[:1], "line 5 is of another run; ", []),
    "one of another in place": (lambda m, o: m[:1] + o[1:2] + m[2:], "line 2 is of another run; ", []),
    "one twice": (lambda mine, other: mine[:2] + mine[1:], "line 3 is not in its place; ", []),
    "two exchanged": (lambda m, o: [m[1], m[0], *m[2:]], "line 2 is not in its place; ", []),
    "one by another hand": (lambda m, o: [*m, b'{"unit": "x"}\n'], "line 5 is damaged; ", []),
    "two kinds": (lambda m, o: [b"x\n", *o[:1], *m], "line 1 is damaged; line 2 is of another run; ", []),
}


@pytest.mark.parametrize("case", CHANGED)
def test_lines_of_others_and_lines_taken_away_are_noticed(tmp_path, case):
    path = tmp_path / "a.jsonl"
    change, said, missing = CHANGED[case]
    content = change(lines_of(path), lines_of(tmp_path / "other.jsonl", "b"))
    path.write_bytes(b"".join(content))
    found = scan_lines(path, "a")
    assert (found.count, found.missing) == (len(content), missing)
    message = refusal(lambda: read_lines(path, "a"))
    assert (f"{path}: {said}" in message) if said else not message
    # What is wrong at the end is not built upon; elsewhere the next number follows the last one.
    if content[-1] not in lines_of(tmp_path / "again.jsonl"):
        assert refusal(lambda: append_lines(path, [{}], "a")) == message
    else:
        append_lines(path, [{}], "a")
        assert json.loads(path.read_text().splitlines()[-1])["line"] == json.loads(content[-1])["line"] + 1


def test_a_long_line_is_continued_by_its_number(tmp_path):
    path = tmp_path / "a.jsonl"
    for size in (10, 5000, 70_000, 10, 5000):
        append_lines(path, [{"text": "x" * size}], "a")
    assert read_lines(path, "a").numbers == [1, 2, 3, 4, 5]


def test_a_changed_byte_in_a_record_is_noticed_or_means_the_same():
    values = {"format": "x", "config": {"steps": 3, "rate": 1e-05}, "list": [True, None, "é"]}
    text = json.dumps(with_checksum(values), indent=2).encode()
    assert from_record(text) == values
    noticed = 0
    for content in flips(text):
        try:
            assert from_record(content) == values
        except ValueError:
            noticed += 1
    assert noticed > 0.8 * len(text)


@pytest.mark.parametrize("text", ["", "[]", "3", "{}", '{"a": 1}', '{"checksum": ""}', "[" * 100_000])
def test_what_is_no_record_is_refused(tmp_path, text):
    path = tmp_path / "a.jsonl"
    path.write_text(text + "\n")
    with pytest.raises(dj.InputError, match="line 1 is damaged"):
        read_lines(path, "a")


def test_a_changed_byte_in_arrays_is_noticed_whichever_are_read(tmp_path):
    """Such as the losses beside the predicted classes: the file is damaged, whoever reads it."""
    path, rng = tmp_path / "a.npz", np.random.default_rng(0)
    arrays = {"predicted": np.arange(5, dtype=np.int32), "loss": rng.random(20, np.float32)}
    save_arrays(path, "predictions", arrays, {"seed": 3})
    sound, noticed = path.read_bytes(), 0
    for content in flips(sound):
        path.write_bytes(content)
        message = refusal(lambda: load_arrays(path, "predictions", ("predicted",)))
        noticed += bool(message)
        assert not message or str(path) in message
        if not message:  # Dates, versions and the like of the zip format.
            found, facts = load_arrays(path, "predictions", None)
            assert facts["seed"] == 3
            assert {name: array.tolist() for name, array in found.items()} == {
                name: array.tolist() for name, array in arrays.items()
            }
    assert noticed > 0.5 * len(sound)
