"""Files of a store of `diet-jax reproduce`, verified by their checksums and by what they belong to."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

from diet_jax.experiments.reproduction.figure import Scale
from diet_jax.experiments.reproduction.task import digest
from diet_jax.experiments.run_folder import RunFolder
from diet_jax.experiments.verify_files import Check, noting
from diet_jax.files.arrays import MADE_AGAIN, load_arrays
from diet_jax.files.records import from_record
from diet_jax.training.checkpoint_files import verify_checkpoint

# What a training is named by, beside what decides it.
HEADER = "training.json"


def is_store(folder: Path) -> bool:
    """Whether a folder is a store, or one of figures; run folders, also without their config, are neither."""
    has = any((folder / name).is_dir() for name in ("trainings", "predictions"))
    return has or any(_figures(folder) + _figures(folder / "figures"))


def verify_store(folder: Path) -> Iterator[Check]:
    """Verifies a store and the numbers of its figures, and changes nothing in it; nothing is made again.

    Args:
        folder: a store, or a folder of figures.

    Yields:
        Each kind as soon as it is done.
    """
    headers = sorted(folder.glob(f"trainings/*/*/{HEADER}"))
    trainings = sorted(path for path in folder.glob("trainings/*/*") if path.is_dir())
    checkpoints = [path for at in trainings for path in sorted(at.glob("*/*")) if path.name.isdecimal()]
    arrays = sorted(path for path in folder.glob("*/*.npz"))
    kinds: tuple[tuple[str, list[Path], Callable[[Path], None]], ...] = (
        ("trainings", headers, _training),
        ("logs", sorted(folder.glob("trainings/*/*/*.jsonl")), _log),
        ("checkpoints", checkpoints, _checkpoint),
        ("scores and predictions", arrays, _arrays),
        ("numbers of figures", [*_figures(folder), *_figures(folder / "figures")], _figure),
    )
    for name, paths, look in kinds:
        check = Check(name, len(paths))
        for path in paths:
            with noting(check, path.relative_to(folder).as_posix(), "" if look == _log else MADE_AGAIN):
                look(path)
        yield check


def _figures(folder: Path) -> list[Path]:
    return sorted(path for scale in get_args(Scale) for path in folder.glob(f"*_{scale}.json"))


def _training(path: Path) -> None:
    facts = from_record(path.read_bytes())
    _check_name(path.parent.name.rpartition("-")[2], facts)


def _log(path: Path) -> None:
    RunFolder(path.parent).metrics()


def _checkpoint(path: Path) -> None:
    belongs_to = verify_checkpoint(path)
    del belongs_to["step"]
    _check_name(path.parents[1].name.rpartition("-")[2], belongs_to)


def _arrays(path: Path) -> None:
    facts = load_arrays(path, path.parent.name, None)[1]
    del facts["format"]
    _check_name(path.stem, facts)


def _figure(path: Path) -> None:
    values = from_record(path.read_bytes())
    if path.stem != (stem := f"{values['figure']}_{values['scale']}"):
        raise ValueError(f"it holds the numbers of {stem}")


def _check_name(name: str, facts: dict[str, Any]) -> None:
    """Raises ValueError unless something is named by what decides it."""
    if name != digest(facts):
        raise ValueError(f"it belongs to something else: its digest is {digest(facts)}, not {name}")
