"""A changed byte in a file of ours is noticed."""

import json
import re

import numpy as np
import pytest

import diet_jax as dj
from diet_jax.files.arrays import load_arrays, save_arrays
from diet_jax.files.records import append_lines, from_record, read_lines, with_checksum

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
    assert read_lines(path) == []
    for line in LINES:
        append_lines(path, [line])
    assert read_lines(path) == LINES
    # Any reader of JSON lines can read them.
    assert [json.loads(line)["unit"] for line in path.read_text().splitlines()] == ["score/seed_00", "ä"]


def test_a_changed_byte_in_lines_is_noticed(tmp_path):
    path = tmp_path / "a.jsonl"
    append_lines(path, LINES)
    for content in flips(path.read_bytes()):
        path.write_bytes(content)
        message = refusal(lambda: read_lines(path))
        # `1e-05` and `1E-05` are one number.
        assert re.fullmatch(rf"line [123] of {path} is damaged; delete that line", message) or (
            not message and read_lines(path) == LINES
        )


def test_lines_that_were_cut_off_end_where_they_are_whole(tmp_path):
    path = tmp_path / "a.jsonl"
    append_lines(path, LINES)
    content = path.read_bytes()
    first = content.index(b"\n") + 1
    for length in range(len(content)):
        path.write_bytes(content[:length])
        # Without its line feed alone a line is whole.
        whole = LINES[: (length >= first - 1) + (length >= len(content) - 1)]
        assert read_lines(path) == whole
        append_lines(path, [{"unit": "next"}])
        assert read_lines(path) == [*whole, {"unit": "next"}]


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
    with pytest.raises(dj.InputError, match=r"line 1 of .* is damaged"):
        read_lines(path)


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
