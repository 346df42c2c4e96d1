"""What rules read beside scores, measured by a scoring network: features, and the errors of classes."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diet_jax.checks.arrays import plain_array
from diet_jax.devices.progress import Progress, say
from diet_jax.errors import InputError
from diet_jax.experiments.divergence import diverged_scorers, scorers
from diet_jax.experiments.run_folder import RunFolder
from diet_jax.experiments.setup import Setup
from diet_jax.experiments.train_one import trained_network
from diet_jax.files.arrays import load_arrays
from diet_jax.files.ids import rows_by_id
from diet_jax.scores.file import ScoreFile
from diet_jax.training.passes import map_dataset
from diet_jax.training.seeds import seed_keys

KIND = "features"
PLACE = "features.npz"


def beside_stage(setup: Setup, folder: RunFolder) -> dict[str, np.ndarray]:
    """Measures what the config's rules read beside scores and labels, features.npz, unless it is there.

    The network is the first scoring one that did not diverge, trained once more by itself unless it left a
    checkpoint: features are what its last layer is given, un-augmented. With `w` of the `n` train examples of
    a class wrong, by their labels, its error is `(w + 1) / (n + 2)`. No held-out examples take part.

    Returns:
        "features" float32 `[n d]` and "class_errors" float64 `[c]`, as far as a rule reads them.
    """
    if _wanted(setup) and folder.missing([PLACE]):
        _measure(setup, folder)
    return load_beside(setup, folder)


def load_beside(setup: Setup, folder: RunFolder) -> dict[str, np.ndarray]:
    """Returns what `beside_stage` measured; nothing where no rule reads it."""
    wanted = _wanted(setup)
    return folder.load(PLACE, KIND, wanted, _facts(setup)) if wanted else {}


def read_beside(path: Path, of: ScoreFile) -> dict[str, np.ndarray]:
    """Reads features and class errors from a file, of a run or another .npz, for the examples of scores.

    Features of one's own are joined by id, numbers written as text or not; there may be more of them. A run's
    file is of the examples and labels that its run had.

    Raises:
        InputError: the file is missing or damaged, has neither, is of a run on other data, or lacks the
            features of some of the ids.
    """
    if not path.is_file():
        raise InputError(f"no file {path}")
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive}
    except Exception as error:
        raise InputError(f"{path} is damaged or no .npz file ({type(error).__name__})") from error
    if "header" in arrays:
        arrays, facts = load_arrays(path, KIND, None)
        if facts["fingerprint"] not in (of.fingerprint, of.provenance.get("taken_from")):
            raise InputError(
                f"{path} is of a run on other inputs, labels or ids (fingerprint "
                f"{str(facts['fingerprint'])[:12]}) than the scores, of {of.dataset} (fingerprint "
                f"{of.fingerprint[:12]}); give the file of their own run, or an .npz of your own with "
                f"features and ids"
            )
    found = {name: arrays[name] for name in ("features", "class_errors") if name in arrays}
    if not found or ("features" in found and "ids" not in arrays):
        raise InputError(
            f"{path} must hold features [n d] and ids [n], or class_errors [c]; it holds {', '.join(arrays)}"
        )
    if "features" in found:
        features, ids = plain_array(found["features"], "features"), arrays["ids"].astype(str)
        if ids.shape != features.shape[:1]:
            raise InputError(
                f"{path} must have one id for each row of features; it has {len(features)} rows and ids of "
                f"shape {ids.shape}"
            )
        wanted = of.ids.astype(str)
        there = np.isin(ids, wanted)
        found["features"] = features[there][rows_by_id(ids[there], wanted, path, of.dataset)]
    return found


def _wanted(setup: Setup) -> tuple[str, ...]:
    read = {name for rule in setup.config.select.rules for name in rule.reads}
    return tuple(name for name in ("features", "class_errors") if name in read)


def _facts(setup: Setup) -> dict[str, Any]:
    return {"fingerprint": setup.splits.train.fingerprint, "step": setup.score_step}


def _measure(setup: Setup, folder: RunFolder) -> None:
    train, wanted = setup.splits.train, _wanted(setup)
    diverged = diverged_scorers(setup, folder)
    seed = min(set(range(setup.config.score.num_seeds)) - set(diverged))
    key = seed_keys(setup.config.seed, "score", setup.config.score.num_seeds)[seed]
    say(f"{' and '.join(wanted).replace('_', ' ')}: by scoring network {seed} at step {setup.score_step:,}")
    with Progress("features", total=max(1, setup.score_step)) as progress:
        unit = scorers(setup)[seed]
        options: Any = {"stop": setup.score_step, "progress": progress}
        with trained_network(setup, folder, unit, key, **options) as state:
            setup.deadline.check()
            size = setup.config.score.batch_size
            of = _both(setup.model) if "features" in wanted else _correct(setup.model)
            found = map_dataset(of, state.variables, train, batch_size=size)
    arrays: dict[str, np.ndarray] = {"ids": train.ids}
    if "features" in wanted:
        arrays["features"] = np.asarray(found["features"], np.float32)
    if "class_errors" in wanted:
        there = np.bincount(train.labels, minlength=train.num_classes)
        wrong = np.bincount(train.labels[~found["correct"]], minlength=train.num_classes)
        # As if one more had been right and one wrong: else a class without mistakes would have no quota.
        arrays["class_errors"] = (wrong + 1) / (there + 2)
    about = "the last layer's inputs, un-augmented; class errors (w + 1) / (n + 2) on the train examples"
    folder.save(PLACE, KIND, arrays, {**_facts(setup), "seed": seed, "about": about})


def _features_of(model: Any) -> Callable[..., tuple[jax.Array, jax.Array]]:
    def features(variables: Any, inputs: Any) -> tuple[jax.Array, jax.Array]:
        logits, features, _ = model.features(variables, inputs)
        return logits, features

    return features


@functools.lru_cache(maxsize=8)
def _both(model: Any) -> Callable[..., dict[str, jax.Array]]:
    def both(variables: Any, inputs: Any, labels: Any) -> dict[str, jax.Array]:
        logits, features = _features_of(model)(variables, inputs)
        return {"features": features, "correct": jnp.argmax(logits, axis=-1) == labels}

    return both


@functools.lru_cache(maxsize=8)
def _correct(model: Any) -> Callable[..., dict[str, jax.Array]]:
    def correct(variables: Any, inputs: Any, labels: Any) -> dict[str, jax.Array]:
        return {"correct": jnp.argmax(model.predict(variables, inputs), axis=-1) == labels}

    return correct
