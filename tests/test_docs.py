"""The Python blocks of the pages in docs/ run one after the other and print what the page says."""

import contextlib
import io
import re
import subprocess
import sys
from pathlib import Path

import jax
import pytest

DOCS = Path(__file__).parents[1] / "docs"
PAGES = [page for page in sorted(DOCS.glob("*.md")) if "```python" in page.read_text(encoding="utf-8")]
BLOCKS = re.compile(r"```python\n(.*?)```\n(?:\n```text\n(.*?)```)?", re.DOTALL)
NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")


@pytest.fixture(autouse=True)
def as_a_reader_runs_them(tmp_path, monkeypatch):
    """In a folder of its own, and with JAX as it comes: Optax's Adam needs its promotion of dtypes."""
    monkeypatch.chdir(tmp_path)
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_blocks_of_pages_run_and_print_what_they_say(page):
    names: dict = {}
    for code, expected in BLOCKS.findall(page.read_text(encoding="utf-8")):
        if "import torch" not in code:
            check(code, expected, names)


def test_blocks_with_pytorch_run_and_print_what_they_say():
    """Each by itself."""
    blocks = [block for page in PAGES for block in BLOCKS.findall(page.read_text(encoding="utf-8"))]
    blocks = [block for block in blocks if "import torch" in block[0]]
    assert blocks
    pytest.importorskip("torch", reason="PyTorch is not installed")
    for code, expected in blocks:
        check(code, expected, {})


def test_blocks_of_the_readme_run():
    """Of fewer and shorter trainings."""
    text = (DOCS.parent / "README.md").read_text(encoding="utf-8")
    for long, short in (
        ("epochs=40", "epochs=6"),
        ('"score", 10', '"score", 2'),
        ('"retrain", 20', '"retrain", 2'),
    ):
        assert long in text
        text = text.replace(long, short)
    names: dict = {}
    for code, _ in BLOCKS.findall(text):
        exec(compile(code, "README.md", "exec"), names)
    assert names["half"].predicted.shape == (2, len(names["test"]))


def check(code: str, expected: str, names: dict) -> None:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "a page of docs/", "exec"), names)
    told = printed.getvalue()
    assert words(told) == words(expected)
    # Last digits differ between machines.
    assert numbers(told) == pytest.approx(numbers(expected), rel=0.03, abs=0.01)


def words(text: str) -> list[str]:
    """What is left without numbers, and without rules, whose lengths follow them."""
    return [word for word in NUMBER.sub("#", text).split() if word.strip("-")]


def numbers(text: str) -> list[float]:
    return [float(number.replace(",", "")) for number in NUMBER.findall(text)]


def test_the_lists_are_those_of_the_registries():
    """In docs/lists.md, definitions.md and commands.md; other tests may have registered more."""
    code = (
        "import pathlib, sys; docs = pathlib.Path('docs'); sys.path.insert(0, 'docs'); "
        "import commands, definitions, lists; "
        "text = commands.PAGE.read_text(encoding='utf-8'); "
        "assert text == commands.page(), 'run docs/lists.py'; "
        "text = definitions.PAGE.read_text(encoding='utf-8'); "
        "assert text == definitions.page(), 'run docs/lists.py'; "
        "assert (docs / 'lists.md').read_text(encoding='utf-8') == lists.page(), 'run docs/lists.py'"
    )
    subprocess.run([sys.executable, "-c", code], cwd=DOCS.parent, check=True)


def test_the_gallery_is_of_the_results():
    code = (
        "import sys; sys.path.insert(0, 'docs'); import gallery, ledger; "
        "wanted = gallery.page(ledger.read_results(), gallery.figure_names()); "
        "assert gallery.PAGE.read_text(encoding='utf-8') == wanted, 'run docs/gallery.py'"
    )
    subprocess.run([sys.executable, "-c", code], cwd=DOCS.parent, check=True)
