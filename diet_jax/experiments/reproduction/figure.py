"""A figure of the paper at three scales, and `diet-jax reproduce`, which makes it."""

import dataclasses
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import diet_jax
from diet_jax.errors import InputError
from diet_jax.experiments.reproduction.experiment import Experiment
from diet_jax.experiments.reproduction.outcome import Published
from diet_jax.experiments.reproduction.store import Store
from diet_jax.experiments.run_folder import environment
from diet_jax.files.arrays import write_atomically
from diet_jax.options.plain import plain
from diet_jax.plotting import save_figure

Scale = Literal["smoke", "small", "paper"]


@dataclass(frozen=True)
class PaperFigure:
    """One figure or panel: an experiment at one or more scales, and the paper's points if they are known."""

    smoke: Experiment | None = None
    """The embedded digits, seconds: shows that it runs."""
    small: Experiment | None = None
    """Fashion-MNIST or part of CIFAR-10, minutes on two CPU cores."""
    paper: Experiment | None = None
    """The paper's own settings; needs an accelerator."""
    published: Published | None = None

    @property
    def needs_table(self) -> bool:
        """Whether it compares with values that the user brings."""
        return any(one is not None and one.needs_table for one in (self.smoke, self.small, self.paper))


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
        scale: which of its three experiments.
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
    result = {
        "figure": name,
        "scale": scale,
        "command": f"diet-jax reproduce {name} --scale {scale}",
        **dataclasses.asdict(outcome),
        "experiment": {"kind": type(experiment).__name__, **settings},
        "made": {
            "seconds_this_time": round(time.monotonic() - start, 1),
            **{key: started[key] for key in ("time", "python", "versions", "machine", "devices")},
        },
    }
    result = plain(result)
    write_atomically(out / f"{name}_{scale}.json", json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    save_figure(experiment.draw(store, result), out / f"{name}_{scale}.png")
    return result


def _without_places(fields: list[tuple[str, Any]]) -> dict[str, Any]:
    """Leaves the places of files on this machine out of a config."""
    return {name: value for name, value in fields if name not in ("data_dir", "table")}
