"""The Python blocks of the pages in docs/ run one after the other and print what the page says."""

import contextlib
import importlib.util
import io
import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"
PAGES = [page for page in sorted(DOCS.glob("*.md")) if "```python" in page.read_text(encoding="utf-8")]
BLOCKS = re.compile(r"```python\n(.*?)```\n(?:\n```text\n(.*?)```)?", re.DOTALL)
NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_blocks_of_pages_run_and_print_what_they_say(page):
    names: dict = {}
    for code, expected in BLOCKS.findall(page.read_text(encoding="utf-8")):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, page.name, "exec"), names)
        told = printed.getvalue()
        assert words(told) == words(expected)
        # Last digits differ between machines.
        assert numbers(told) == pytest.approx(numbers(expected), rel=0.03, abs=0.01)


def words(text: str) -> list[str]:
    """What is left without numbers, and without rules, whose lengths follow them."""
    return [word for word in NUMBER.sub("#", text).split() if word.strip("-")]


def numbers(text: str) -> list[float]:
    return [float(number.replace(",", "")) for number in NUMBER.findall(text)]


def test_the_ledger_is_that_of_the_results():
    spec = importlib.util.spec_from_file_location("ledger", DOCS / "ledger.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    results = module.read_results()
    assert (DOCS / "reproduction.md").read_text(encoding="utf-8") == module.ledger(results)
    for result in results:
        assert (DOCS / "results" / "paper" / f"{result['figure']}_{result['scale']}.png").is_file()
