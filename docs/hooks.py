"""MkDocs hooks: pages that are made from sources as the site is built, and links that lead out of docs/."""

import posixpath
import sys
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

sys.path.insert(0, str(Path(__file__).parent))
import site_pages as sp

ROOT = sp.ROOT
MARKS = {
    "<!-- names -->": sp.reference_table,
    "<!-- notebooks -->": sp.tutorial_list,
    "<!-- commands -->": sp.command_pages,
}
_sources: dict[str, tuple[str, str]] = {}
"""Pages that are no files of docs/: by their path on the site, Markdown and the folder it links from."""


def on_config(config: Any) -> Any:
    """Puts the notebooks and the groups of the reference into the navigation, and watches their sources."""
    pages = {
        "tutorials.md": [f"{sp.TUTORIALS}{path.stem}.md" for path in sp.notebooks()],
        "reference.md": list(sp.reference_pages()),
    }
    for section in config.nav:
        for items in section.values():
            for page, more in pages.items():
                if isinstance(items, list) and page in items:
                    items += more
    config.watch += [str(sp.PACKAGE), str(sp.NOTEBOOKS), str(ROOT / "CONTRIBUTING.md")]
    return config


def on_files(files: Files, config: Any) -> Files:
    """Adds the pages that are made."""
    _sources.clear()
    _sources.update({page: (text, "") for page, text in sp.reference_pages().items()})
    for path in sp.notebooks():
        _sources[f"{sp.TUTORIALS}{path.stem}.md"] = sp.tutorial(path), "notebooks"
    for name in ("CONTRIBUTING.md", "CHANGELOG.md"):
        _sources[sp.ELSEWHERE[name]] = (ROOT / name).read_text(encoding="utf-8"), ""
    for path in sp.files_linked():
        _sources[f"{sp.FILES}{path}.md"] = sp.file_page(path), ""
    for page, (text, _) in _sources.items():
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Links of the repository become links of the site; marks become the lists that are made."""
    where = page.file.src_uri
    if not where.startswith((sp.REFERENCE, sp.FILES)):
        place = _sources[where][1] if where in _sources else posixpath.join("docs", posixpath.dirname(where))
        markdown = sp.with_site_links(markdown, place, where)
    for mark, made in MARKS.items():
        markdown = markdown.replace(mark, made()) if mark in markdown else markdown
    return markdown
