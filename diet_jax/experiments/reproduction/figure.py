"""A figure of the paper at four scales, and `diet-jax reproduce`, which makes it."""

import dataclasses
import json
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import diet_jax
from diet_jax.errors import InputError
from diet_jax.experiments.config import LOCATIONS
from diet_jax.experiments.environment import environment, versions_of_code
from diet_jax.experiments.reproduction.experiment import Experiment
from diet_jax.experiments.reproduction.outcome import Published
from diet_jax.experiments.reproduction.store import Store
from diet_jax.experiments.reproduction.task import Task
from diet_jax.files.records import with_checksum
from diet_jax.files.writing import write_atomically
from diet_jax.options.plain import plain, without
from diet_jax.plotting import save_figure

Scale = Literal["smoke", "small", "medium", "paper"]


@dataclass(frozen=True)
class PaperFigure:
    """One figure or panel: an experiment at one or more scales, and the paper's points if they are known."""

    smoke: Experiment | None = None
    """The embedded digits, seconds: shows that it runs."""
    small: Experiment | None = None
    """Fashion-MNIST or part of CIFAR-10, minutes on two CPU cores."""
    medium: Experiment | None = None
    """The paper's data, network and optimiser, but 40 epochs and fewer networks; an hour or so of a GPU."""
    paper: Experiment | None = None
    """The paper's own settings; needs an accelerator."""
    published: Published | None = None

    @property
    def needs_table(self) -> bool:
        """Whether it compares with values that the user brings."""
        scales = (getattr(self, scale) for scale in get_args(Scale))
        return any(one is not None and one.needs_table for one in scales)

    def title(self, title: str, scale: Scale) -> str:
        """Completes a title with the data and networks of a scale, and the paper's where those are others."""
        here, paper = (
            _data_and_networks(one.all_tasks()) if one else "" for one in (getattr(self, scale), self.paper)
        )
        place = f" in place of {paper}" if here and paper not in ("", here) else ""
        return f"{title}; {here}{place}" if here else title


def config_folder() -> Path:
    """Returns the folder of the figures' configs: beside the package, or where an installation put it.

    Raises:
        InputError: neither is there.
    """
    package = Path(diet_jax.__file__).parent
    places = [package.parent / "configs" / "paper", Path(sys.prefix) / "share/diet_jax/configs/paper"]
    for place in places:
        if place.is_dir():
            return place
    raise InputError(
        f"no folder with the configs of the paper's figures; looked for {places[0]}, {places[1]}"
    )


def figure_names() -> list[str]:
    """Returns the names that `diet-jax reproduce` knows."""
    return sorted(path.stem.replace("_", "-") for path in config_folder().glob("*.py"))


def make_figure(
    name: str, figure: PaperFigure, scale: Scale, store: Store, out: Path, table: str | None
) -> dict[str, Any]:
    """Makes what is missing and writes OUT/NAME_SCALE.json and .png.

    Args:
        name: of the figure.
        figure: its config.
        scale: which of its experiments.
        store: of the trainings.
        out: folder for the two files.
        table: file of the user's values, for a figure that needs them.

    Returns:
        What the JSON file holds.
    """
    experiment: Any = getattr(figure, scale)
    if experiment is None:
        there = [s for s in get_args(Scale) if getattr(figure, s) is not None]
        raise InputError(f"{name} has no scale {scale}; it has {', '.join(there) or 'none'}")
    if table is not None and experiment.needs_table:
        experiment = dataclasses.replace(experiment, table=table)
    start = time.monotonic()
    outcome = experiment.run(store, figure.published)
    started = environment()
    settings = dataclasses.asdict(experiment, dict_factory=_without_places)
    tasks = [*experiment.all_tasks(), *(p.task for claim in outcome.claims for p in claim.evidence.parts)]
    result = {
        "figure": name,
        "scale": scale,
        "command": f"diet-jax reproduce {name} --scale {scale}",
        "title": figure.title(outcome.title, scale),
        "note": outcome.note,
        "chart": outcome.chart,
        "claims": [claim.facts() for claim in outcome.claims],
        "facts": outcome.facts,
        "trained": {task.identity: _trained(store, task) for task in dict.fromkeys(tasks)},
        "experiment": {"kind": type(experiment).__name__, **settings},
        "made": {
            "seconds_this_time": round(time.monotonic() - start, 1),
            **{key: started[key] for key in ("time", "python", "versions", "machine", "devices")},
            "code": versions_of_code(),
        },
    }
    result = with_checksum(plain(result))
    write_atomically(out / f"{name}_{scale}.json", json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    save_figure(experiment.draw(store, result), out / f"{name}_{scale}.png")
    return result


def _data_and_networks(tasks: Iterable[Task]) -> str:
    """Such as "cifar10, resnet18, resnet50 and vgg16"."""
    networks: dict[str, list[str]] = {}
    for task in tasks:
        of_data = networks.setdefault(task.data_name, [])
        if task.network not in of_data:
            of_data.append(task.network)
    said = (" and ".join([*filter(None, [", ".join(names[:-1])]), names[-1]]) for names in networks.values())
    return "; ".join(f"{data}, {names}" for data, names in zip(networks, said, strict=True))


def _trained(store: Store, task: Task) -> dict[str, Any]:
    """What a reader of a claim must know of its trainings, as JSON values."""
    setup = store.setup(task)
    return {
        "dataset": setup.splits.train.name,
        "network": task.network,
        "epochs": store.last_epoch(task),
        "train_examples": len(setup.splits.train),
        "test_examples": len(setup.splits.test),
        "wrong_labels": int(setup.changed.sum()),
        # Its seed decides all keys.
        "config": without(setup.config.facts(), LOCATIONS),
        "fingerprints": [split.fingerprint for split in setup.splits],
        "stored_as": setup.splits.train.encoding or None,
    }


def _without_places(fields: list[tuple[str, Any]]) -> dict[str, Any]:
    """Leaves the places of files on this machine out of a config."""
    return {name: value for name, value in fields if name not in ("data_dir", "table")}
