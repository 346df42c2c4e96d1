"""What the site has beside the pages of docs/: the reference, the tutorials, the files that pages link to.

All from the sources: a public name, a notebook or a linked file appears by itself. Nothing here needs MkDocs;
`hooks.py` hands it over.
"""

import ast
import contextlib
import io
import os
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "diet_jax"
NOTEBOOKS = ROOT / "notebooks"
REFERENCE, TUTORIALS, FILES = "reference/", "tutorials/", "files/"

# Where a file or folder of the repository is on the site, if it is not a page of docs/ under its own name.
ELSEWHERE = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "docs": "index.md",
    "docs/results": "results/README.md",
    "docs/results/paper": "gallery.md",
    "notebooks": "tutorials.md",
}
FENCED = re.compile(r"^( *)(`{3,}).*?^\1\2 *$", re.DOTALL | re.MULTILINE)
CODE = re.compile(r"`[^`\n]+`")
FORMULA = re.compile(r"\$([^$\s](?:[^$\n]*[^$\s])?)\$")
LINK = re.compile(r"(\]\()([^)\s]+)(\))|(src=\")([^\"]+)(\")")


class PublicName(NamedTuple):
    """A name of `diet_jax` and where it lives."""

    name: str
    path: str
    group: str


def public_names() -> list[PublicName]:
    """Returns every name of `__init__.pyi`, in its order, and the functions of `diet_jax.plotting`."""
    names = []
    for node in ast.parse((PACKAGE / "__init__.pyi").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom) and node.module:
            group = node.module.split(".")[0]
            names += [PublicName(a.name, f"diet_jax.{node.module}.{a.name}", group) for a in node.names]
    there = {one.path for one in names}
    for node in ast.parse((PACKAGE / "plotting" / "__init__.py").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom) and node.module:
            paths = {alias.name: f"{node.module}.{alias.name}" for alias in node.names}
            found = [PublicName(f"plotting.{name}", path, "plotting") for name, path in paths.items()]
            names += [one for one in found if one.path not in there]
    return names


def groups() -> dict[str, list[PublicName]]:
    """Returns the names by the folder they live in, folders in the order of `__init__.pyi`."""
    found: dict[str, list[PublicName]] = {}
    for one in public_names():
        found.setdefault(one.group, []).append(one)
    return found


def about(group: str) -> str:
    """Returns what the docstring of a folder or file of the package says first."""
    path = PACKAGE / group / "__init__.py"
    path = path if path.is_file() else PACKAGE / f"{group}.py"
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return text.split("\n\n")[0].replace("\n", " ")


def reference_pages() -> dict[str, str]:
    """Returns the pages of the reference, one for each folder: path on the site and Markdown."""
    pages = {}
    for group, names in groups().items():
        blocks = [f"::: {one.path}\n    options:\n      heading: dj.{one.name}\n" for one in names]
        pages[f"{REFERENCE}{group}.md"] = f"# dj: {group}\n\n{about(group)}\n\n" + "\n".join(blocks)
    return pages


def reference_table() -> str:
    """Returns a table of all names by group, each a link to its entry."""
    rows = ["| group | names |", "|---|---|"]
    for group, names in groups().items():
        links = ", ".join(f"[`{one.name}`]({REFERENCE}{group}.md#{one.path})" for one in names)
        rows.append(f"| [{group}]({REFERENCE}{group}.md): {about(group)} | {links} |")
    return "\n".join(rows) + "\n"


def command_pages() -> str:
    """Returns the help of every command of the command line, as it prints it."""
    general = help_of()
    names = re.search(r"\{([\w,-]+)\}", general)
    assert names is not None, general
    parts = [f"```text\n{general}```\n"]
    parts += [f"### {name} --help\n\n```text\n{help_of(name)}```\n" for name in names[1].split(",")]
    return "\n".join(parts)


def help_of(*command: str) -> str:
    """Returns what `diet-jax COMMAND --help` prints, 100 columns wide."""
    from diet_jax.cli.main import main  # Heavy.

    printed, width = io.StringIO(), os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "100"
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        main([*command, "--help"])
    os.environ.pop("COLUMNS") if width is None else os.environ.update(COLUMNS=width)
    return re.sub(r"\x1b\[[\d;]*m", "", printed.getvalue())


def notebooks() -> list[Path]:
    """Returns the sources of the notebooks in their order."""
    return sorted(NOTEBOOKS.glob("[0-9]*.py"))


def tutorial(path: Path) -> str:
    """Returns a notebook's source as Markdown, with the picture of its name in docs/tutorials, if any."""
    import jupytext  # Heavy.

    parts = []
    for cell in jupytext.read(path).cells:
        is_text = cell.cell_type == "markdown"
        parts.append(with_formulas(cell.source) if is_text else f"```python\n{cell.source}\n```")
    picture = ROOT / "docs" / TUTORIALS / f"{path.stem}.png"
    if picture.is_file():
        parts.append(f"![The last picture of this notebook](../{picture.relative_to(ROOT).as_posix()})")
    where = f"This page is `notebooks/{path.name}`, which runs as it stands or as `{path.stem}.ipynb`."
    return "\n\n".join([*parts, f"---\n\n{where}"]) + "\n"


def with_formulas(text: str) -> str:
    """Returns Markdown with its LaTeX formulas as MathML, which browsers draw without a script."""
    from latex2mathml.converter import convert

    return outside_code(text, lambda part: FORMULA.sub(lambda match: convert(match[1]), part))


def title(path: Path) -> str:
    """Returns a notebook's number and its first heading."""
    found = re.search(r"^# # (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return f"{path.stem[:2]} {found[1]}" if found else path.stem


def tutorial_list() -> str:
    """Returns the notebooks as a list of links."""
    return "".join(f"- [{title(path)}]({TUTORIALS}{path.stem}.md)\n" for path in notebooks())


def outside_code(text: str, change) -> str:
    """Returns Markdown with `change` made of each stretch that is neither in a fence nor in backticks."""
    places = sorted(
        [match.span() for match in FENCED.finditer(text)]
        + [match.span() for match in CODE.finditer(FENCED.sub(lambda m: " " * len(m[0]), text))]
    )
    done, start = [], 0
    for first, last in places:
        done += [change(text[start:first]), text[first:last]]
        start = last
    return "".join([*done, change(text[start:])])


def linked(text: str, place: str) -> Iterator[str]:
    """Yields the files and folders of the repository that a page links to.

    Args:
        text: Markdown.
        place: the page's folder in the repository, such as "docs/results".
    """
    found: list[str] = []

    def note(part: str) -> str:
        found.extend(match[2] or match[5] for match in LINK.finditer(part))
        return part

    outside_code(text, note)
    for target in found:
        path = target.partition("#")[0]
        if path and not re.match(r"[a-z]+:", path):
            yield posixpath.normpath(posixpath.join(place, path))


def on_site(path: str) -> str:
    """Returns where a file or folder of the repository is on the site."""
    path = path.rstrip("/")
    if path in ELSEWHERE:
        return ELSEWHERE[path]
    if path.startswith("notebooks/"):
        return f"{TUTORIALS}{Path(path).stem}.md"
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    return f"{FILES}{path}.md"


def with_site_links(text: str, place: str, page: str) -> str:
    """Returns a page with its links, which are those of the repository, as those of the site.

    Args:
        text: Markdown.
        place: the page's folder in the repository, "" for its root.
        page: the page on the site, such as "results/README.md".
    """

    def moved(match: re.Match) -> str:
        before, target, after = match.groups()[:3] if match[2] else match.groups()[3:]
        path, mark, anchor = target.partition("#")
        if not path or re.match(r"[a-z]+:", path):
            return match[0]
        site = on_site(posixpath.normpath(posixpath.join(place, path)))
        # The home page is not README.md and has other headings.
        kept = "" if site == "index.md" else mark + anchor
        return f"{before}{posixpath.relpath(site, posixpath.dirname(page) or '.')}{kept}{after}"

    return outside_code(text, lambda part: LINK.sub(moved, part))


def files_linked() -> list[str]:
    """Returns what pages link to outside docs/ and is no page yet, and what is in such folders."""
    pages = [(path, path.parent.relative_to(ROOT).as_posix()) for path in (ROOT / "docs").rglob("*.md")]
    pages += [(ROOT / name, "") for name in ("CONTRIBUTING.md", "CHANGELOG.md")]
    pages += [(path, "notebooks") for path in notebooks()]
    found = {target for path, place in pages for target in linked(path.read_text(encoding="utf-8"), place)}
    found = {target for target in found if on_site(target).startswith(FILES) and (ROOT / target).exists()}
    within = {
        child.relative_to(ROOT).as_posix()
        for folder in found
        if (ROOT / folder).is_dir()
        for child in (ROOT / folder).glob("*.py")
    }
    return sorted(found | within)


def file_page(path: str) -> str:
    """Returns the page of a file of the repository: what is in it; of a folder, the files in it."""
    there = ROOT / path
    # Whoever searches looks for pages, not for files.
    head = f"---\nsearch:\n  exclude: true\n---\n\n# `{path}`\n\n"
    if there.is_dir():
        names = sorted(child.name for child in there.glob("*.py"))
        lines = [f"- [{name}]({posixpath.basename(path)}/{name}.md)" for name in names]
        return head + "\n".join(lines) + "\n"
    kind = {".py": "python", ".pyi": "python", ".toml": "toml", ".cfg": "ini", ".cff": "yaml"}
    language = kind.get(there.suffix, "text")
    return f"{head}````{language}\n{there.read_text(encoding='utf-8')}````\n"
