"""Flipped bits and cut files in everything that is read again: named, or without effect, or wrong.

Each damage is done in a copy and read by what commands read it with, in this process.
"""

import argparse
import collections
import contextlib
import io
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import crashes
import jax
import numpy as np
from contents import contents
from PIL import Image

import diet_jax as dj
from diet_jax.cli.main import main as diet_jax
from diet_jax.data.sources import load_dataset, load_streamed
from diet_jax.data.sources.tfds.archives import Contents
from diet_jax.data.sources.tfds.write import write_prepared
from diet_jax.devices.progress import Progress
from diet_jax.experiments import prune

KINDS = ("run folder", "checkpoints", "caches", "prepared")


def flip(path: Path, rng: random.Random) -> None:
    content = bytearray(path.read_bytes())
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


def cut(path: Path, rng: random.Random) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: rng.randrange(len(content))])


def files_of(folder: Path) -> list[Path]:
    """All that have a byte, in their order."""
    return sorted(p for p in folder.rglob("*") if p.is_file() and p.stat().st_size)


def splits_of(load: Callable[[], Any]) -> Any:
    """All of the numbers and names of two splits."""
    splits = load()
    rows = [np.asarray(split.inputs[np.arange(len(split))]) for split in splits]
    facts = [(s.fingerprint, s.class_names, s.normalization, s.encoding, s.id_source) for s in splits]
    names = [(s.ids.tolist(), s.labels.tolist()) for s in splits]
    return [row.tobytes() for row in rows], facts, names


class Matrix:
    """What is damaged, with what reads it; everything is made in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, rng = folder, np.random.default_rng(0)
        self.run, self.caches = folder / "whole/run", folder / "whole/caches"
        self.prepared, self.images = folder / "whole/prepared", folder / "images"
        with quiet():
            diet_jax(["run", *crashes.JOB, "--run-dir", str(self.run)])
        sizes = {"train": 30, "test": 12}
        pixels = {s: rng.integers(0, 256, (n, 28, 28, 1), np.uint8) for s, n in sizes.items()}
        labels = {s: {"label": np.arange(n) % 10} for s, n in sizes.items()}
        write_prepared("mnist", Contents(pixels, labels, {}), False, self.prepared, Progress("", quiet=True))
        for split, count in sizes.items():
            for number in range(count):
                place = self.images / split / "abc"[number % 3]
                place.mkdir(parents=True, exist_ok=True)
                Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).save(place / f"{number}.png")
        self.figures = {n: v for n, v in contents(self.run).items() if n.startswith("figures/")}
        self.wanted: dict[str, Any] = {kind: self.read(kind, self.copy(kind), None) for kind in KINDS}

    def copy(self, kind: str) -> Path:
        source = {"caches": self.caches, "prepared": self.prepared}.get(kind, self.run)
        place = self.folder / "copy" / source.name
        shutil.rmtree(place, ignore_errors=True)
        if kind == "caches" and not source.exists():
            self.read(kind, source, None)
        return Path(shutil.copytree(source, place))

    def victims(self, kind: str) -> list[Path]:
        """Files by their paths in the folder."""
        root = {"caches": self.caches, "prepared": self.prepared}.get(kind, self.run)
        inside = [path.relative_to(root) for path in files_of(root)]
        if root == self.run:
            inside = [p for p in inside if (p.parts[0] == "checkpoints") == (kind == "checkpoints")]
        # Nothing is read of these.
        return [p for p in inside if p.suffix != ".lock" and p.name != ".lock"]

    def read(self, kind: str, place: Path, damaged: Path | None) -> Any:
        """What commands make of a folder in which one file is damaged."""
        if kind == "prepared":
            with tempfile.TemporaryDirectory() as fresh:
                held = splits_of(lambda: load_dataset("mnist", data_dir=place, cache_dir=fresh, quiet=True))
                streamed = splits_of(lambda: load_streamed("mnist", data_dir=place, cache_dir=fresh))
            return held, streamed
        if kind == "caches":
            name = f"folder:{self.images}"
            return [splits_of(lambda load=load: load(name, cache_dir=place)) for load in LOADERS]
        if kind == "checkpoints":
            self.remove_what_came_of(place, damaged)
        elif damaged is not None and damaged.suffix == ".npz":
            if damaged.parts[0] == "masks":
                dj.KeepFile.load(place / damaged)
            elif damaged.parent.name == "scores":
                dj.ScoreFile.load(place / damaged)
        # Figures are written and never read; drawing them takes longer than all the rest.
        draws = damaged is not None and damaged.parts[0] == "figures"
        with contextlib.nullcontext() if draws else mock.patch.object(prune, "draw"), quiet():
            config = dj_config(place)
            prune.run_prune(config)
            found = contents(place)
        if draws and any(found[name] != value for name, value in self.figures.items()):
            return "other figures"
        return {name: value for name, value in found.items() if not name.startswith("figures/")}

    def remove_what_came_of(self, place: Path, damaged: Path | None) -> None:
        """Removes the result that a checkpoint belongs to, so that it is needed again."""
        if damaged is None:
            return
        _, purpose, *unit = damaged.parts
        if purpose == "retrain":
            (place / "retrain" / unit[0] / f"{unit[1]}.npz").unlink()
        else:
            (place / "scores/per_seed" / f"{unit[0]}.npz").unlink()
            (place / "scores/el2n.npz").unlink()


LOADERS = (lambda name, cache_dir: load_dataset(name, cache_dir=cache_dir, quiet=True), load_streamed)


def dj_config(place: Path) -> Any:
    import dataclasses

    from diet_jax.experiments.run_folder import RunFolder

    return dataclasses.replace(RunFolder(place).config(), run_dir=str(place))


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        yield


def outcome(matrix: Matrix, kind: str, victim: Path, how: Callable[..., None], seed: int) -> tuple[str, str]:
    """Damages one file and says how that ends: "detected", "same" or "wrong", and what was seen."""
    place, rng = matrix.copy(kind), random.Random(seed)
    how(place / victim, rng)
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            found = matrix.read(kind, place, victim)
    except dj.InputError as error:
        named = victim.name in str(error)
        return ("detected", "") if named else ("wrong", f"{victim} is not named: {error}")
    except Exception as error:
        return "wrong", f"{type(error).__name__}: {error}"
    wanted = matrix.wanted[kind]
    if found == wanted:
        # A decoded copy that is damaged is told and made anew.
        return ("made anew" if "is damaged" in said.getvalue() else "same"), ""
    if isinstance(found, dict):
        changed = [n for n in {*found, *wanted} if found.get(n) != wanted.get(n)]
        return "wrong", f"other contents: {sorted(changed)}"
    return "wrong", "other contents"


def run_all(each: int, folder: Path, seed: int = 0) -> list[tuple[str, str, str, str, str]]:
    """So many damages of each kind, files in turn: kind, file, damage, outcome, what was seen."""
    matrix, rng, found = Matrix(folder), random.Random(seed), []
    for kind in KINDS:
        files = matrix.victims(kind)
        rng.shuffle(files)
        for number in range(each):
            victim, how = files[number % len(files)], (flip, cut)[rng.randrange(2)]
            if number >= len(files):
                victim = rng.choice(files)
            end = outcome(matrix, kind, victim, how, rng.randrange(2**32))
            found.append((kind, str(victim), how.__name__, *end))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--each", type=int, default=80)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, mock.patch.dict("os.environ", DIET_JAX_CACHE=folder):
        found = run_all(args.each, Path(folder))
    for each in found:
        if each[3] == "wrong":
            print(*each)
    for kind in KINDS:
        print(kind, dict(collections.Counter(end for k, *_, end, _ in found if k == kind)))


if __name__ == "__main__":
    jax.config.update("jax_platforms", "cpu")
    main()
