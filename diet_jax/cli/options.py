"""The options of every command of the command line, as dataclasses."""

import dataclasses
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import tyro

from diet_jax.errors import InputError
from diet_jax.experiments.choices import choices_of, chosen, options_of, take_options
from diet_jax.experiments.config import Baseline, DataConfig, RunConfig
from diet_jax.experiments.own import NOTHING
from diet_jax.scores.score import SCORES
from diet_jax.selection.rule import RULES, Rule

Config = Annotated[RunConfig, tyro.conf.arg(name="")]

Scores = Annotated[tuple[str, ...], tyro.conf.arg(constructor_factory=choices_of(SCORES, several=True))]


@dataclass(frozen=True, kw_only=True)
class Compiling:
    """A command that compiles programs."""

    no_compilation_cache: tyro.conf.FlagCreatePairsOff[bool] = False
    """Compile everything anew and keep nothing. Without it compiled programs stay in the user's cache folder
    for the next start, 1 GiB at most; DIET_JAX_CACHE chooses another folder, and JAX_COMPILATION_CACHE_DIR
    JAX's own cache. Runs in several processes keep none."""


@dataclass(frozen=True, kw_only=True)
class Processes(Compiling):
    """One run in several processes, on one machine or many."""

    distributed: tyro.conf.FlagCreatePairsOff[bool] = False
    """Work together with the other processes that are started with this command. On Slurm, Open MPI,
    Kubernetes and TPU slices JAX finds them itself, else the next three options say where."""
    coordinator: str | None = None
    """With --distributed: HOST:PORT of process 0, the same for all."""
    num_processes: int | None = None
    """With --distributed: how many processes there are, the same for all."""
    process_id: int | None = None
    """With --distributed: which process this is, from 0."""


@dataclass(frozen=True, kw_only=True)
class Experiment(Processes):
    """A command with a config; what its file brings beside it has no option."""

    config: Config
    own: Annotated[Any, tyro.conf.Fixed, tyro.conf.Suppress] = NOTHING


@dataclass(frozen=True, kw_only=True)
class Slice:
    """A long command in slices of some minutes each."""

    minutes: float | None = None
    """Stop after so many minutes with all that is finished on disk; the same command goes on, also where the
    folder was copied to. What cannot be interrupted (one compiled call, one pass over data in memory) ends
    late."""

    def __post_init__(self) -> None:
        if self.minutes is not None and not 0 < self.minutes < math.inf:
            raise InputError(f"--minutes must be a finite number above 0, got {self.minutes:g}")


@dataclass(frozen=True)
class Run(Slice, Experiment):
    """Score an ensemble early in training, prune, retrain on what is kept, and compare.

    A config file (.py), if any, comes before the options; they change it. It may also bring examples of one's
    own as TRAIN and TEST, a network as MODEL, and SCORES and RULES.
    """

    plan: tyro.conf.FlagCreatePairsOff[bool] = False
    """Run nothing: show operations, cost and estimated time of each stage, programs, memory and disk."""
    plan_tflops: float | None = None
    """With --plan: reckon with so many TFLOP/s of each device, as they are reached, not as on the data sheet;
    nothing is compiled then. By default one short training step is timed here."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.plan and self.minutes is not None:
            raise InputError(f"--minutes {self.minutes:g} with --plan, which runs nothing; leave one out")
        if self.plan_tflops is None:
            return
        if not self.plan:
            raise InputError(f"--plan-tflops {self.plan_tflops:g} without --plan; add it, or leave this out")
        if not 0 < self.plan_tflops < math.inf:
            raise InputError(f"--plan-tflops must be a finite number above 0, got {self.plan_tflops:g}")


@dataclass(frozen=True)
class Compare(Run):
    """Compare scores and rules with all baselines: run, with class-balanced random subsets and RS2 in.

    Scores (--score.names), rules (--select.method) and keep fractions make a grid. The run folder is that of
    `diet-jax run` with these baselines (--select.baselines). docs/comparison.md says what the columns mean.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        select = dataclasses.replace(self.config.select, baselines=get_args(Baseline))
        object.__setattr__(self, "config", dataclasses.replace(self.config, select=select))


@dataclass(frozen=True)
class Score(Experiment):
    """Score every example with an ensemble, and write a score file for each score.

    Trains the ensemble of the config, or, with --from-run, scores the saved checkpoints of a run.
    """

    from_run: Path | None = None
    """Score the checkpoints that `diet-jax train --purpose score` (or run) saved in this run folder; data,
    model and seeds are those of that run."""
    step: int | None = None
    """With --from-run: the step of the checkpoints."""
    names: Scores = ()
    """With --from-run: which scores; by default those of the run's config."""


@dataclass(frozen=True)
class Train(Experiment):
    """Train networks with checkpoints; a stopped command goes on where it was when it is called again."""

    keep: Path | None = None
    """Mask file of `diet-jax select` or a run: train on what it keeps; by default on everything. Of a file
    with one mask per seed network R takes that of seed R."""
    num_seeds: int | None = None
    """How many networks; by default one, with --purpose score those of --score.num-seeds."""
    purpose: Literal["score", "retrain"] = "retrain"
    """Which stream of seeds: to score examples with, or to judge a selection."""


@dataclass(frozen=True)
class Select:
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


@dataclass(frozen=True)
class MovedData:
    """Where the data of a run is, if it has moved since."""

    name: str | None = None
    """Its name now, such as folder:PATH."""
    data_dir: str | None = None
    """Folder of prepared data sets."""
    labels: str | None = None
    """CSV file with the labels that it was trained with."""
    noise_matrix: str | None = None
    """CSV file with the matrix of its label noise."""


@dataclass(frozen=True)
class Verify(Compiling):
    """Verify all files of a run folder, and make masks, table and some scores again to compare them.

    Nothing is changed. A config file (.py) comes first where the run had data, a model, scores or rules of
    one's own. Of a store of `diet-jax reproduce`, or a folder of its figures, files are verified, and nothing
    is made again. Exit code 1 where anything does not match.
    """

    run: tyro.conf.Positional[Path]
    """Run folder, store or folder of figures."""
    data: MovedData = field(default_factory=MovedData)
    """Where its data is now."""
    examples: int = 32
    """How many examples are scored again by each scoring network whose checkpoint is kept."""
    seed: int = 0
    """Draws these examples."""
    own: Annotated[Any, tyro.conf.Fixed, tyro.conf.Suppress] = NOTHING


@dataclass(frozen=True)
class Convert:
    """Turn scores of another program into score files, and score and mask files into what others read.

    Scores made elsewhere are joined to the examples of the dataset that the data options name; the format is
    recognised, or said. What is written follows from the ending of OUT: .npz is a score file, .csv and
    .parquet are tables; of a mask file .txt and .json are the kept ids, and .npy the kept row numbers, as
    torch.utils.data.Subset takes them.
    """

    file: tyro.conf.Positional[Path]
    """Score file or mask file (.npz), or what another program wrote."""
    out: tyro.conf.Positional[Path]
    """What to write; of several scores a folder, without an ending."""
    data: DataConfig = field(default_factory=DataConfig)
    """What was scored."""
    source: Annotated[str | None, tyro.conf.arg(name="from")] = None
    """Format of a file of another program; by default it is recognised."""
    score: str | None = None
    """Of a file with several scores: the one to write."""
    name: str | None = None
    """What to call it; by default what the file does."""
    order: Literal["rows", "original"] | None = None
    """Without ids: values stand in the order of the dataset's rows, or of the files that it was published as.
    With ids: they are the numbers in that order."""
    high_means: Literal["hard", "easy"] | None = None
    """What a high score means, where the file does not say."""
    split: Literal["train", "test"] = "train"
    """Which examples were scored."""


@dataclass(frozen=True)
class Stability:
    """Say how much score files depend on their seeds, and what further seeds would change.

    Groups of seeds that have none in common are compared: rank correlation, and what both keep, with standard
    errors by the jackknife over seeds. Files of several steps are drawn against the step too.
    """

    scores: tyro.conf.Positional[tuple[Path, ...]]
    """Score files with at least four seeds each."""
    fractions: tuple[float, ...] = (0.1, 0.3, 0.5)
    """Keep fractions: the highest scores are kept."""
    more: int = 4
    """Say how many of the kept examples so many further seeds would leave."""
    pairs: int = 10
    """Pairs of groups of each size, drawn at random; more of them take longer and narrow the errors."""
    seed: int = 0
    """Draws them."""
    out: Path | None = None
    """Picture to draw (.png)."""


@dataclass(frozen=True)
class Report:
    """Write one HTML page of a run that opens offline: curves, examples kept and dropped, classes, cost.

    Several runs of the same examples stand side by side, joined by id. A run writes the page by itself at its
    end. A config file (.py) comes first where the run had data of one's own.
    """

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Run folders."""
    out: Path | None = None
    """Page to write (.html); by default report.html in the run folder. Several runs need it."""
    serve: tyro.conf.FlagCreatePairsOff[bool] = False
    """Show it to browsers on this machine, at a free port that no other machine reaches, until Ctrl-C."""
    own: Annotated[Any, tyro.conf.Fixed, tyro.conf.Suppress] = NOTHING


@dataclass(frozen=True)
class Prepare:
    """Do what a dataset needs once before it can be loaded: download it, write it as TFDS would."""

    name: tyro.conf.Positional[str]
    """Of the dataset, as above."""
    data_dir: str | None = None
    """Where; by default TFDS's own folder."""


@dataclass(frozen=True)
class Reproduce(Slice, Compiling):
    """Make a figure of the paper: train what is missing, reuse what is there, draw it.

    Trainings, checkpoints and scores are kept in a store that all figures share; a stopped command goes on
    when it is called again.
    """

    figures: tyro.conf.Positional[tuple[str, ...]] = ()
    """Names of figures, config files (.py), or all; without any, the names are listed."""
    scale: Literal["smoke", "small", "medium", "paper"] = "small"
    """smoke: the digits, seconds. small: other data and networks, minutes on two cores. medium: the paper's
    data and network for 40 epochs, fewer networks. paper: the paper's own; both on an accelerator."""
    store: Path = Path("runs/paper")
    """Folder that the figures share."""
    out: Path | None = None
    """Folder for the pictures and their numbers; by default STORE/figures."""
    data_dir: str | None = None
    """Where prepared TFDS datasets are; by default TFDS's own folder."""
    table: str | None = None
    """For the figure memorisation: a CSV file with the header id,memorisation."""


COMMANDS: dict[str, type] = {
    "run": Run,
    "compare": Compare,
    "score": Score,
    "select": Select,
    "train": Train,
    "convert": Convert,
    "stability": Stability,
    "report": Report,
    "verify": Verify,
    "prepare": Prepare,
    "reproduce": Reproduce,
}
