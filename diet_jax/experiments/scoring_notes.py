"""What is said of scores beside their values: how far networks had learned, seeds, changed labels."""

from collections.abc import Sequence

import numpy as np

from diet_jax.analysis.statistics import seed_agreement
from diet_jax.devices.processes import from_writer
from diet_jax.devices.progress import say
from diet_jax.experiments.divergence import scorers
from diet_jax.experiments.run_folder import RunFolder
from diet_jax.experiments.setup import Setup
from diet_jax.scores.file import ScoreFile
from diet_jax.selection.detection import DetectionQuality, detection_quality

# Networks have hardly learned while less than this share of what guessing gets wrong is right.
HARDLY_LEARNED = 0.1
# On the digits two seeds agree to 0.25 or less before training, 0.42 after a quarter epoch, 0.75 at epoch 5.
DISAGREEING = 0.3


def detection_stage(
    setup: Setup, folder: RunFolder, files: Sequence[ScoreFile]
) -> dict[str, DetectionQuality]:
    """Says and logs how well each score finds the labels that were changed, if some were.

    Returns:
        The quality by score name; empty where no label was changed, or all were.
    """
    found = detections(setup, files)
    for name, quality in found.items():
        say(
            f"{name} finds the changed labels with ROC AUC {quality.roc_auc:.3f}, precision "
            f"{quality.precision_at_share:.3f} among as many examples as were changed"
        )
        folder.log(f"changed_labels/{name}", **quality._asdict())
    return found


def detections(setup: Setup, files: Sequence[ScoreFile]) -> dict[str, DetectionQuality]:
    """Returns how well each score finds the labels that were changed, as `detection_stage` does."""
    if not 0 < setup.changed.sum() < len(setup.changed):
        return {}
    defined = (file for file in files if not np.isnan(file.scores).any())
    return {file.name: detection_quality(file.scores, setup.changed) for file in defined}


def accuracy_of(setup: Setup, folder: RunFolder, seed: int) -> float | None:
    """Returns the accuracy of a scoring network on its own batches, in the epoch before scoring.

    None where it did not train, or what it logged is not there.
    """
    begin, stop = (setup.score_step - 1) // setup.per_epoch * setup.per_epoch, setup.score_step
    unit = scorers(setup)[seed]
    # A checkpoint, or a stop, within the epoch cuts its line into several.
    found = from_writer(
        lambda: {
            line["step"]: line["accuracy"]
            for line in folder.metrics()
            if line["unit"] == unit and "accuracy" in line and begin < line["step"] <= stop
        }
    )
    steps = sorted(found)
    if steps[-1:] != [stop]:
        return None
    return float(np.average([found[step] for step in steps], weights=np.diff([begin, *steps])))


def mean_accuracy(found: Sequence[float | None]) -> float | None:
    """Returns the mean of what is known, the same in the last digit however epochs were cut; None of none."""
    known = [accuracy for accuracy in found if accuracy is not None]
    return round(float(np.mean(known)), 6) if known else None


def scoring_notes(setup: Setup, files: Sequence[ScoreFile]) -> list[str]:
    """Says what a reader must know of scores: how far the networks had learned, and seeds that disagree."""
    notes = []
    trained = any(score.needs_training for score in setup.scores)
    own = {score.name for score in setup.scores} if trained else set()
    known = [file.provenance.get("scorer_accuracy") for file in files if file.name in own]
    accuracy = known[0] if known else None
    if accuracy is not None:
        shares = np.bincount(setup.splits.train.labels) / len(setup.splits.train)
        guess = float(shares.max())
        hardly = accuracy < guess + HARDLY_LEARNED * (1 - guess)
        early = f": they have hardly learned, guessing gives {100 * guess:.1f} %; score later"
        notes.append(
            f"the networks that scored had {100 * accuracy:.1f} % accuracy on their batches of that epoch"
            + early * hardly
        )
    notes += missing_notes(files)
    for file in files:
        agreement = seed_agreement(file.per_seed)
        if agreement is not None and agreement < DISAGREEING:
            notes.append(
                f"{file.name}: seeds disagree, the mean rank correlation of two of them is {agreement:.2f}; "
                f"average over more of them, or score later"
            )
    return notes


def missing_notes(files: Sequence[ScoreFile]) -> list[str]:
    """Says of which scores seeds are missing, and why; scores that miss the same ones share a note."""
    names: dict[str, list[str]] = {}
    stops = [file.provenance["stopped"] for file in files if "stopped" in file.provenance]
    stopped = {f"{stop['seeds']} of {stop['of']} seeds have scored: {stop['why']}": None for stop in stops}
    for file in files:
        names.setdefault(file.describe_missing(), []).append(file.name)
    return [*stopped] + [
        f"{', '.join(of)} {'is' if len(of) == 1 else 'are each'} {text}" for text, of in names.items() if text
    ]
