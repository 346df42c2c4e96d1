"""Whether all is there that the config, results and provenance of a run folder promise."""

from collections.abc import Iterator

from diet_jax.analysis.results import FULL, RS2
from diet_jax.experiments.own import OF
from diet_jax.experiments.run_folder import RESULTS
from diet_jax.experiments.run_log import METRICS, PROVENANCE, STARTS
from diet_jax.experiments.verify_files import AGAIN, Check, Files
from diet_jax.files.records import Lines


def required(files: Files) -> Check:
    """Looks whether all is there, after `Files.checks`."""
    check, path = Check("what must be there"), files.folder.path
    metrics = files.lines.get(METRICS, Lines([], [], {}))
    if not metrics.wrong:
        check.wrong |= files.folder.lost(metrics.values, files.lines.get(STARTS, Lines([], [], {})))
        reached: dict[str, int] = {}
        for line in metrics.values:
            if "loss" in line:
                reached[line["unit"]] = max(line["step"], reached.get(line["unit"], 0))
        lacking = [(unit, step) for unit, step, _ in files.trained if reached.get(unit, 0) < step]
        if lacking:
            unit, step = lacking[0]
            more = f" (and of {len(lacking) - 1} more)" * (len(lacking) > 1)
            check.wrong.setdefault(
                METRICS,
                f"it has no line of {unit} at step {step}{more}, whose result is there; bring the file back "
                f"from a copy: what it said is not made again",
            )
    for name, remedy in _required(files):
        check.count += 1
        if not (path / name).exists():
            check.wrong.setdefault(name, f"it is missing; {remedy}")
    return check


def _required(files: Files) -> Iterator[tuple[str, str]]:
    """Paths, and what to do where they are missing."""
    path, data = files.folder.path, files.config["data"]
    if any((path / name).exists() for name in RESULTS):
        yield STARTS, "bring it back from a copy: no result is made from it"
        if data["label_noise"] or data["labels"] is not None:
            yield "noise.npz", AGAIN
    retrained = {file.parent.name for file in path.glob("retrain/*/*.npz")}
    for name in sorted(retrained):
        # These keep everything.
        if name.partition("_keep")[0] not in (FULL, RS2):
            yield f"masks/{name}.npz", AGAIN
    if retrained or files.masks:
        for name in files.resolved["code"]:
            kind, _, score = name.rpartition(" ")
            if kind in ("score", OF.strip()):
                yield f"scores/{score}.npz", AGAIN
    if files.finished:
        yield PROVENANCE, AGAIN
    for name in files.provenance.get("results", ()):
        yield name, AGAIN
    for unit, last, result in files.trained:
        for step in files.resolved["checkpoint_steps"]:
            if step <= last:
                place = f"checkpoints/{unit}/{step}"
                yield place, AGAIN if result.startswith("trained") else files.remedy_of_checkpoint(unit, step)
