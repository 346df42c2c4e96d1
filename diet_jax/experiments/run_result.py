"""What a run made, for reading in Python and in notebooks."""

import base64
import html
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diet_jax.analysis.results import headings, to_cells, to_markdown
from diet_jax.scores.file import ScoreFile
from diet_jax.selection.file import KeepFile


@dataclass(frozen=True, eq=False)
class RunResult:
    """What `run` returns; a notebook shows its table and its accuracy figure.

    Attributes:
        path: the run folder, absolute.
        rows: of the table, numbers by column name, as far as it goes; a data frame takes them as they are.
        unfinished: what is done and what is left, in words, where the time was up; else "".
        notes: what a reader of the table must know, such as classes that a selection lost.
    """

    path: Path
    rows: list[dict[str, Any]]
    unfinished: str = ""
    notes: tuple[str, ...] = ()

    @property
    def table(self) -> str:
        """The table for reading, in Markdown; "" while nothing of it is there."""
        return to_markdown(headings(self.rows), to_cells(self.rows)) if self.rows else ""

    @property
    def figures(self) -> dict[str, Path]:
        """The pictures (PNG) by name, such as "accuracy" or "scores_el2n"; none while it is unfinished."""
        return {path.stem: path for path in sorted((self.path / "figures").glob("*.png"))}

    @property
    def scores(self) -> dict[str, ScoreFile]:
        """The scores of every train example, by name."""
        return {path.stem: ScoreFile.load(path) for path in sorted((self.path / "scores").glob("*.npz"))}

    @property
    def masks(self) -> dict[str, KeepFile]:
        """What was kept, by the name of the selection, such as "el2n_keep0.5"."""
        return {path.stem: KeepFile.load(path) for path in sorted((self.path / "masks").glob("*.npz"))}

    def __str__(self) -> str:
        note = f"unfinished: {self.unfinished}\n" if self.unfinished else ""
        notes = "".join(f"note: {line}\n" for line in self.notes)
        return f"{self.table}{note}{notes}run folder: {shown(self.path)}"

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        if not self.rows:
            return f"<p>{html.escape(str(self))}</p>"
        top = "".join(f"<th>{html.escape(text)}</th>" for text in headings(self.rows))
        lines = ["".join(f"<td>{html.escape(text)}</td>" for text in cells) for cells in to_cells(self.rows)]
        body = "".join(f"<tr>{line}</tr>" for line in lines)
        note = f"<p>unfinished: {html.escape(self.unfinished)}</p>" if self.unfinished else ""
        note += "".join(f"<p>note: {html.escape(line)}</p>" for line in self.notes)
        picture = self.figures.get("accuracy")
        if picture is not None:
            content = base64.b64encode(picture.read_bytes()).decode()
            note += f'<img alt="accuracy against keep fraction" src="data:image/png;base64,{content}">'
        folder = html.escape(shown(self.path))
        return f"<table><tr>{top}</tr>{body}</table>{note}<p>run folder: {folder}</p>"


def shown(path: Path) -> str:
    """Returns a path as a reader here would write it."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
