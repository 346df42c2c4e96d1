"""Examples with hostile names, and the page of a report as a browser takes it apart."""

import base64
import json
import zlib
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import diet_jax as dj

NAMES = ('</script><img src=x onerror="window.hacked = 1">', "$$\\frac{a}{b}$$", "=1+1", "ünï&amp;<b>")
EXAMPLES = 160


class Runs(NamedTuple):
    """Two run folders, what they were made of, and what `run` returned of the first."""

    first: Path
    second: Path
    train: dj.Dataset
    test: dj.Dataset
    result: dj.RunResult


def pictures(count: int, split: str, seed: int, normalization: Any = None) -> dj.Dataset:
    """Classes that can be told apart, by where they are bright."""
    draw = np.random.default_rng(seed)
    labels = np.arange(count) % len(NAMES)
    images = draw.integers(0, 120, (count, 8, 8)).astype(np.uint8)
    for row, label in enumerate(labels):
        images[row, 2 * label : 2 * label + 2] += 100
    ids = [f'{split}"<i>{row * 7 % count}' for row in range(count)]
    options: Any = {} if normalization is None else {"normalization": normalization}
    return dj.Dataset.from_arrays(
        images, labels, ids, class_names=NAMES, name="<script>x</script>", split=split, **options
    )


class Page(HTMLParser):
    """A page as a browser takes it apart: its elements, its scripts by type and id, and its data."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.within = False
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.feed(path.read_text(encoding="utf-8"))
        self.data = json.loads(
            next(text for attributes, text in self.scripts if attributes.get("id") == "data")
        )
        self.blobs = {at["id"]: text for at, text in self.scripts if (at.get("id") or "").startswith("blob-")}

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append((dict(attrs), ""))
        self.within = tag == "script"

    def handle_endtag(self, tag):
        self.within = False

    def handle_data(self, data):
        if self.within:
            attributes, text = self.scripts[-1]
            self.scripts[-1] = attributes, text + data

    def section(self, name: str) -> dict[str, Any]:
        return next(each["data"] for each in self.data["sections"] if each["name"] == name)

    def bytes_of(self, where: dict[str, Any]) -> bytes:
        return base64.b64decode(self.blobs[f"blob-{where['blob']}"])

    def column(self, where: dict[str, Any]) -> Any:
        content = zlib.decompress(self.bytes_of(where))
        if where["kind"] == "text":
            return json.loads(content)
        if where["kind"] == "bits":
            return np.unpackbits(np.frombuffer(content, np.uint8), bitorder="little")[: where["count"]] == 1
        dtype = np.dtype("<" + where["kind"])
        planes = np.frombuffer(content, np.uint8).reshape(dtype.itemsize, -1)
        return np.ascontiguousarray(planes.T).view(dtype).ravel()
