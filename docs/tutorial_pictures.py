"""Runs notebooks and keeps the last picture of each, for its page on the site: docs/tutorials/NAME.png.

Command: python docs/tutorial_pictures.py            (all; minutes)
         python docs/tutorial_pictures.py notebooks/04_label_noise.py
"""

import base64
import sys
import tempfile
from pathlib import Path

import jupytext
from nbclient import NotebookClient
from site_pages import ROOT, TUTORIALS, notebooks


def last_picture(path: Path) -> bytes | None:
    """Runs a notebook in a folder of its own; returns the last picture that it shows, as PNG, if any."""
    notebook = jupytext.read(path)
    with tempfile.TemporaryDirectory() as folder:
        NotebookClient(notebook, timeout=1200, resources={"metadata": {"path": folder}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    pictures = [output["data"]["image/png"] for output in outputs if "image/png" in output.get("data", ())]
    return base64.b64decode(pictures[-1]) if pictures else None


if __name__ == "__main__":
    for source in [Path(name) for name in sys.argv[1:]] or notebooks():
        if picture := last_picture(source):
            place = ROOT / "docs" / TUTORIALS / f"{source.stem}.png"
            place.parent.mkdir(exist_ok=True)
            place.write_bytes(picture)
            print(place)
