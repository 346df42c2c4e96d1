"""The site: every page is in its navigation, every link leads somewhere, every public name has an entry."""

import importlib.util
import re
from pathlib import Path

import pytest
import yaml

import diet_jax

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
CONFIG = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))


def module(name):
    """A file of docs/ as a module."""
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


SITE = module("site_pages")


def pages_of(nav):
    """The pages of a navigation, in order."""
    if isinstance(nav, str):
        yield nav
    elif isinstance(nav, dict):
        yield from pages_of(list(nav.values()))
    else:
        for item in nav:
            yield from pages_of(item)


def test_every_page_is_in_the_navigation_once():
    pages = list(pages_of(CONFIG["nav"]))
    assert len(pages) == len(set(pages))
    there = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}
    assert set(pages) - there == {"contributing.md", "changelog.md"}
    assert there - set(pages) == set()


def test_every_public_name_is_in_the_reference_once():
    names = [one.name for one in SITE.public_names() if not one.name.startswith("plotting.")]
    assert sorted(names) == sorted(set(diet_jax.__all__))
    found = re.findall(r"^::: (\S+)", "".join(SITE.reference_pages().values()), re.MULTILINE)
    assert sorted(found) == sorted(one.path for one in SITE.public_names())
    assert len(found) == len(set(found))
    plots = {one.name for one in SITE.public_names()}
    assert {"plotting.draw_accuracy", "plotting.save_figure"} <= plots
    table = SITE.reference_table()
    assert all(f"[`{one.name}`](" in table and f"#{one.path})" in table for one in SITE.public_names())


def test_every_link_to_a_file_leads_to_one():
    pages = [*DOCS.rglob("*.md"), *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md"))]
    broken = [
        (page.relative_to(ROOT).as_posix(), target)
        for page in pages
        for target in SITE.linked(page.read_text(encoding="utf-8"), page.parent.relative_to(ROOT).as_posix())
        if not (ROOT / target).exists()
    ]
    assert broken == []


@pytest.mark.parametrize(
    ("link", "place", "page", "there"),
    [
        ("[a](limits.md#keys)", "docs", "index.md", "[a](limits.md#keys)"),
        ("[a](../CONTRIBUTING.md#a-score)", "docs", "own-score.md", "[a](contributing.md#a-score)"),
        ("[a](docs/design.md)", "", "contributing.md", "[a](design.md)"),
        ("[`b`](../examples/own_run.py)", "docs", "x.md", "[`b`](files/examples/own_run.py.md)"),
        ("[a](../../configs/)", "docs/results", "results/gpu.md", "[a](../files/configs.md)"),
        ("[a](../docs/limits.md)", "notebooks", "tutorials/01.md", "[a](../limits.md)"),
        ("[a](02_prune.ipynb)", "notebooks", "tutorials/01.md", "[a](02_prune.md)"),
        ("[a](https://arxiv.org/abs/1)", "docs", "x.md", "[a](https://arxiv.org/abs/1)"),
        ("`[a](../b.py)` ![c](d.png)", "docs", "x.md", "`[a](../b.py)` ![c](d.png)"),
        ("```py\n[a](../b.py)\n```\n", "docs", "x.md", "```py\n[a](../b.py)\n```\n"),
        ('<img src="docs/a.png">', "", "contributing.md", '<img src="a.png">'),
        ("[a](../README.md#two)", "docs", "results/README.md", "[a](../index.md)"),
    ],
)
def test_links_of_the_repository_become_links_of_the_site(link, place, page, there):
    assert SITE.with_site_links(link, place, page) == there


def test_notebooks_become_pages():
    pytest.importorskip("latex2mathml", reason="a package of the extra docs")
    for path in SITE.notebooks():
        text = SITE.tutorial(path)
        assert text.startswith("# ")
        assert SITE.title(path) in SITE.tutorial_list()
        cells = re.findall(r"^# %%(?! \[markdown\])", path.read_text(encoding="utf-8"), re.MULTILINE)
        assert text.count("```python\n") == len(cells)


def test_nothing_is_fetched_from_elsewhere():
    """No font, and no script of a server: the one that search needs is in the site."""
    assert CONFIG["theme"]["font"] is False
    shims = CONFIG["extra"]["polyfills"]
    assert any("iframe-worker" in shim for shim in shims)
    assert all((DOCS / shim).is_file() for shim in shims)
    # Formulas of pages are in the letters of the text; LaTeX would need a script.
    prose = "".join(page.read_text(encoding="utf-8") for page in DOCS.glob("*.md"))
    assert "$" not in re.sub(r"```.*?```|`[^`]*`", "", prose, flags=re.DOTALL)


def test_the_citation_is_of_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == diet_jax.__version__
    assert citation["license"] == "Apache-2.0"
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert [one["title"].split(":")[0] for one in citation["references"]] == ["Deep Learning on a Data Diet"]
