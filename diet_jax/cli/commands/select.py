"""`diet-jax select`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro

from diet_jax.checks.values import check_count
from diet_jax.cli.command import Answer, Command
from diet_jax.cli.options import Printing
from diet_jax.data.image_files import as_line
from diet_jax.devices.progress import say
from diet_jax.errors import InputError, counted
from diet_jax.experiments.choices import choices_of, chosen, options_of, take_options
from diet_jax.experiments.features import read_beside
from diet_jax.experiments.scoring_notes import missing_notes
from diet_jax.experiments.selecting import mask_of
from diet_jax.files.tables import csv_text
from diet_jax.files.writing import write_together
from diet_jax.scores.file import ScoreFile, score_columns
from diet_jax.selection.file import KeepFile
from diet_jax.selection.masks import num_kept
from diet_jax.selection.per_class import balance_notes, check_by_class, check_minimum
from diet_jax.selection.risk import risk_note
from diet_jax.selection.rule import RULES, Rule
from diet_jax.training.seeds import seed_keys


@dataclass(frozen=True)
class Select(Printing):
    """Turn score files into a mask file, and a text file of the ids that are kept.

    A Python file (.py) that registers rules of your own, if any, comes first.
    """

    scores: tyro.conf.Positional[tuple[Path, ...]]
    """Score file that `diet-jax run` or `score` wrote; several for rules that read several scores."""
    out: Path
    """Mask file to write (.npz); the ids go beside it, ending in .kept_ids.txt."""
    fraction: float
    """Keep fraction."""
    csv: Path | None = None
    """Table to write too (.csv): row, id, class, score and kept of every example."""
    method: Annotated[str, tyro.conf.arg(constructor_factory=choices_of(RULES))] = "highest"
    """Selection rule."""
    options: Annotated[dict[str, Any], tyro.conf.arg(name="")] = field(default_factory=options_of(RULES))
    """Options that single rules have, by rule name."""
    min_per_class: int = 0
    """Keep at least so many examples of every class, or all that it has, by the same rule within it."""
    balanced: tyro.conf.FlagCreatePairsOff[bool] = False
    """Keep as many examples of every class, or all that a smaller one has, by the same rule within it."""
    features: Path | None = None
    """For rules that read features: the features.npz of a run, or a file (.npz) of your own with features
    [n d] and ids [n] of the same examples in any order."""
    seed: int = 0
    """Decides between equal scores."""

    def __post_init__(self) -> None:
        take_options(self, "method", RULES, Rule)

    @property
    def rule(self) -> Rule:
        """The rule with its options."""
        return chosen(RULES, self.method, self.options)


def select(command: Select) -> Answer:
    """Turns score files into a mask file, a list of kept ids and, if wanted, a table of all examples."""
    ids_path, csv_path = command.out.with_suffix(".kept_ids.txt"), command.csv
    for option, path, suffix in (("--out", command.out, ".npz"), ("--csv", csv_path, ".csv")):
        if path is not None and path.suffix != suffix:
            raise InputError(f"{option} must end in {suffix}, got {path}")
    for option, path in (("--out", command.out), ("--out", ids_path), ("--csv", csv_path)):
        if path is not None and path.exists():
            raise InputError(f"{path} exists already; choose another {option}")
    if not command.scores:
        raise InputError("select needs a score file, such as runs/digits-mlp/scores/el2n.npz")
    files = ScoreFile.join(ScoreFile.load(path) for path in command.scores)
    file, rule = files[0], command.rule
    # Of a rule without scores one file says which examples there are.
    if len(files) != max(1, rule.num_scores):
        raise InputError(
            f"the rule {rule.name} reads {counted(rule.num_scores, 'score file')}, got {len(files)}"
        )
    check_by_class([rule], command.min_per_class, command.balanced)
    beside = {} if command.features is None else read_beside(command.features, file)
    if missing := [name for name in rule.reads if name not in ("labels", *beside)]:
        raise InputError(
            f"the rule {rule.name} reads {' and '.join(missing)}: give a file that holds them, such as the "
            f"features.npz of a run, by --features"
        )
    if beside and not set(rule.reads) & set(beside):
        raise InputError(f"the rule {rule.name} reads no features; leave out --features")
    key = seed_keys(command.seed, "tie_break", 1)[0]
    check_count(command.min_per_class, "min_per_class", least=0)
    check_minimum(file.labels, num_kept(len(file.ids), command.fraction), command.min_per_class)
    options: Any = {"min_per_class": command.min_per_class, "balanced": command.balanced}
    options["beside"] = beside
    keep, facts = mask_of(files, rule, command.fraction, key=key, **options)
    if command.features is not None:
        facts["features_file"] = command.features.name
    facts |= {"score_files": [path.name for path in command.scores], "tie_break_seed": command.seed}
    mask = KeepFile(keep, file.ids, file.dataset, file.fingerprint, facts)
    contents = {command.out: mask.packed(), ids_path: "".join(f"{as_line(str(i))}\n" for i in mask.kept_ids)}
    if csv_path is not None:
        contents[csv_path] = csv_text(score_columns(files) | {"kept": keep.tolist()})
    write_together(contents)
    names = file.provenance.get("class_names") or [str(c) for c in range(int(file.labels.max()) + 1)]
    for note in missing_notes(files):
        say(note)
    guarded = bool(command.min_per_class or command.balanced)
    if risk := risk_note([rule], [command.fraction], guarded=guarded):
        say(f"warning: {risk}")
    for note in balance_notes(keep, file.labels, names):
        say(note + " (--min-per-class keeps some of each)" * (not guarded))
    written = ", ".join(map(str, contents))
    print(f"kept {int(keep.sum()):,} of {len(keep):,} examples of {file.dataset}: {written}")
    counts = {"dataset": file.dataset, "kept": int(keep.sum()), "examples": len(keep)}
    return Answer(
        {"mask": str(command.out), "files": [str(path) for path in contents], **counts}, (command.out,)
    )


COMMAND = Command(
    Select,
    select,
    {
        "select runs/digits-mlp/scores/el2n.npz --fraction 0.3 --out hardest.npz": "keep the highest 30 %",
        "select runs/digits-mlp/scores/el2n.npz --fraction 0.3 --method window --window.offset 0.1 "
        "--out window.npz --csv window.csv": "leave out the highest tenth, and write a table too",
    },
    takes_file=True,
)
