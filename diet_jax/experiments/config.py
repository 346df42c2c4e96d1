"""RunConfig: everything that decides the numbers of a run. Its sections are the command line's options."""

import math
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import tyro

from diet_jax.analysis.stability import LEAST_SEEDS
from diet_jax.checks.values import MOST, check_count, check_number, check_path
from diet_jax.data.sources.source import MOST_PIXELS, MOST_WORKERS
from diet_jax.ensemble.over_seeds import AnyHow
from diet_jax.errors import InputError
from diet_jax.experiments.choices import choices_of, chosen, take_options
from diet_jax.options.plain import to_json
from diet_jax.options.typed import check_types
from diet_jax.scores.score import SCORES, Score, resolve_scores
from diet_jax.selection.masks import num_kept
from diet_jax.selection.per_class import check_by_class
from diet_jax.selection.rule import RULES, Rule
from diet_jax.training.passes import BatchSize
from diet_jax.training.recipe import TrainConfig
from diet_jax.training.seeds import MOST_SEEDS, check_seed

Baseline = Literal["balanced_random", "rs2"]


@dataclass(frozen=True)
class DataConfig:
    """Which dataset."""

    name: str = "digits"
    """digits (embedded), or what another source of datasets answers to."""
    data_dir: str | None = None
    """Where prepared TFDS datasets are; by default TFDS's own folder."""
    num_train: int | None = None
    """Use only the first so many train examples, evenly by class; by default all."""
    label_noise: float = 0.0
    """Share of the train examples whose labels are drawn anew; the test labels stay clean."""
    noise_mode: Literal["permute", "uniform", "different", "matrix"] = "permute"
    """Permute the labels in that share (authors), redraw them, always another class, or by a matrix."""
    noise_matrix: str | None = None
    """Noise mode matrix: CSV file, row k the shares of the classes that label k turns into; with
    label-noise 1 it is the matrix of the whole train split."""
    labels: str | None = None
    """CSV file (id,label) with labels to train on and score by, instead of noise that is drawn."""
    streaming: bool = False
    """Read images from disk as they are needed, for data larger than memory; seeds then run one by one."""
    image_size: int | None = None
    """Streaming: cut images of any size to this height and width; by default all must have one size."""
    workers: int = 0
    """Streaming: processes that decode images; 0 decodes in threads."""

    def __post_init__(self) -> None:
        check_types(self)


@dataclass(frozen=True)
class ModelConfig:
    """Which network."""

    name: str = "mlp"
    """resnet18, resnet50, cnn, small_cnn, vgg16 or mlp."""
    widths: tuple[int, ...] | None = None
    """Layer widths, for mlp, cnn and small_cnn; by default the model's own."""
    width: int | None = None
    """Filters of the first stage, for resnet18, resnet50 and vgg16; by default 64."""
    stem: Literal["small", "imagenet"] | None = None
    """First layers, for resnet18 and resnet50: for small images (the default) or about 224 pixels."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Compute dtype; parameters are always float32."""
    convolution: Literal["lax", "matmul", "unrolled"] | None = None
    """How convolutions are computed, the same numbers but for rounding; by default as the backend is best."""

    def __post_init__(self) -> None:
        check_types(self)


@dataclass(frozen=True)
class ScoreConfig:
    """How examples are scored."""

    names: Annotated[tuple[Any, ...], tyro.conf.arg(constructor_factory=choices_of(SCORES, several=True))] = (
        "el2n",
        "grand",
    )
    """Which scores; in Python also Score objects of your own."""
    files: tuple[str, ...] = ()
    """Score files (.npz) that were made elsewhere: their scores take part as well."""
    epoch: float = 5.0
    """Score after this epoch of training (0 is at initialisation)."""
    num_seeds: int = 10
    """Networks to average over."""
    min_seeds: int | None = None
    """So many of them must be left where some diverge (loss NaN or infinite); by default half."""
    stop_when_stable: float | None = None
    """Score fewer seeds once all of them would be expected to change less than this share of what is kept,
    such as 0.02; at least min_seeds score, and seeds then run one by one."""
    how: AnyHow = "auto"
    """How seeds are batched: vmap, unroll, map, loop, or mesh (over devices); auto picks what is fastest."""
    batch_size: BatchSize = "auto"
    """Examples per scoring chunk; auto bounds the memory."""
    options: Annotated[dict[str, Any], tyro.conf.arg(name="")] = field(default_factory=dict)
    """Options that single scores have, by score name: an object like `Score.options`, or a dict."""

    def __post_init__(self) -> None:
        take_options(self, "names", SCORES, Score)
        check_types(self)
        if self.stop_when_stable is not None:
            check_number(self.stop_when_stable, "score.stop_when_stable", above=0, below=1)
            if self.how not in ("auto", "loop"):
                raise InputError(
                    f"score.stop_when_stable needs seeds one by one: score.how is {self.how}, leave it auto "
                    f"or loop"
                )
            if self.num_seeds <= LEAST_SEEDS:
                raise InputError(
                    f"score.stop_when_stable compares halves of at least {LEAST_SEEDS} seeds and spares "
                    f"those after: score.num_seeds is {self.num_seeds}, raise it or leave the option out"
                )
            object.__setattr__(self, "how", "loop")
        if self.names:
            resolve_scores(self.names)

    @property
    def scores(self) -> tuple[Score, ...]:
        """The scores with their options."""
        return tuple(chosen(SCORES, name, self.options) for name in self.names)


@dataclass(frozen=True)
class SelectConfig:
    """What is kept."""

    method: Annotated[Any, tyro.conf.arg(constructor_factory=choices_of(RULES, several=True))] = ("highest",)
    """Selection rules, one or several to compare; in Python also Rule objects of your own."""
    fractions: tuple[float, ...] = (0.1, 0.2, 0.3, 0.5, 0.7)
    """Keep fractions."""
    min_per_class: int = 0
    """Keep at least so many examples of every class, or all that it has, by the same rule within it."""
    baselines: tuple[Baseline, ...] = ()
    """Baselines beside everything and random: class-balanced random subsets, and RS2, which draws a fresh
    random subset in each epoch; `diet-jax compare` has them all."""
    balanced: bool = False
    """Keep as many examples of every class, or all that a smaller one has, by the same rule within it;
    the random baseline does so too."""
    max_loss: float | None = None
    """Retrain on growing fractions, and stop once every score has one that loses at most so much accuracy
    (0.01 is one point) on half of the test examples; the other half judges that choice."""
    options: Annotated[dict[str, Any], tyro.conf.arg(name="")] = field(default_factory=dict)
    """Options that single rules have, by rule name: an object like `Rule.options`, or a dict."""

    def __post_init__(self) -> None:
        given = self.method if isinstance(self.method, tuple | list) else (self.method,)
        object.__setattr__(self, "method", tuple(given))
        take_options(self, "method", RULES, Rule)
        check_types(self)
        if not self.method or len(set(self.method)) < len(self.method):
            raise InputError(f"select.method must name at least one rule, each once; got {self.method}")
        if len(set(self.baselines)) < len(self.baselines):
            raise InputError(f"select.baselines must name each once; got {self.baselines}")

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The rules with their options."""
        return tuple(chosen(RULES, name, self.options) for name in self.method)


@dataclass(frozen=True)
class RetrainConfig:
    """How the selections are judged."""

    num_seeds: int = 20
    """Fresh networks per selection; their seeds are never those of the scoring."""
    how: AnyHow = "auto"
    """How seeds are batched; see score.how."""

    def __post_init__(self) -> None:
        check_types(self)


@dataclass(frozen=True)
class MeshConfig:
    """How the devices share the work; by default each trains seeds of its own. The numbers stay the same."""

    seed: int | None = None
    """Groups of devices, each with seeds of its own; by default all devices divided by mesh.data."""
    data: int | None = None
    """Devices that share every batch; by default 1, or all devices where checkpoints are saved."""
    shard_params: bool = False
    """Split parameters and optimiser state over the devices that share a batch, for large networks."""

    def __post_init__(self) -> None:
        check_types(self)


@dataclass(frozen=True)
class RunConfig:
    """One experiment: score an ensemble, prune, retrain, compare. The defaults are the embedded digits."""

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    train: TrainConfig = field(
        default_factory=lambda: TrainConfig(
            epochs=40, batch_size=32, learning_rate=0.05, schedule="cosine", augment="none"
        )
    )
    score: ScoreConfig = field(default_factory=ScoreConfig)
    select: SelectConfig = field(default_factory=SelectConfig)
    retrain: RetrainConfig = field(default_factory=RetrainConfig)
    mesh: MeshConfig = field(default_factory=MeshConfig)
    checkpoint_epochs: tuple[float, ...] = ()
    """Save every training's state after these epochs (0 is the initialisation); seeds then run one by one."""
    seed: int = 0
    """Decides every random number of the run."""
    run_dir: str | None = None
    """Run folder; by default runs/DATA-MODEL. The same config continues in it, another is refused."""

    def __post_init__(self) -> None:
        check_types(self)
        check_count(self.select.min_per_class, "select.min_per_class", least=0)
        if (max_loss := self.select.max_loss) is not None:
            check_number(max_loss, "select.max_loss", least=0, below=1)
            if self.retrain.num_seeds < 2:
                raise InputError(
                    "select.max_loss compares seeds: retrain.num_seeds must be at least 2, got 1"
                )
        check_by_class(self.select.rules, self.select.min_per_class, self.select.balanced)
        for name, value, most in (
            ("score.num_seeds", self.score.num_seeds, MOST_SEEDS),
            ("retrain.num_seeds", self.retrain.num_seeds, MOST_SEEDS),
            ("score.batch_size", 1 if self.score.batch_size == "auto" else self.score.batch_size, MOST),
            ("mesh.seed", 1 if self.mesh.seed is None else self.mesh.seed, MOST),
            ("mesh.data", 1 if self.mesh.data is None else self.mesh.data, MOST),
        ):
            check_count(value, name, most=most)
        if self.run_dir is not None:
            check_path(self.run_dir, "run_dir")
        for path in self.score.files:
            check_path(path, "score.files")
        least, most = self.score.min_seeds, self.score.num_seeds
        if least is not None and not 1 <= least <= most:
            raise InputError(f"score.min_seeds must lie in 1 .. score.num_seeds = {most}, got {least}")
        check_seed(self.seed)
        self._check_data()
        if not 0 <= self.score.epoch < math.inf:
            raise InputError(f"score.epoch must be a finite number of at least 0, got {self.score.epoch}")
        fractions = self.select.fractions
        if not fractions or len(set(fractions)) != len(fractions):
            raise InputError(f"select.fractions must hold at least one fraction, each once; got {fractions}")
        for fraction in fractions:
            try:
                num_kept(10**9, fraction)
                for rule in self.select.rules:
                    rule.check_fraction(fraction)
            except InputError as error:
                raise InputError(f"select.fractions {fraction:g}: {error}") from error
        if any(not 0 <= epoch < math.inf for epoch in self.checkpoint_epochs):
            raise InputError(f"checkpoint_epochs must be finite and at least 0, got {self.checkpoint_epochs}")
        for name, how in {"score.how": self.score.how, "retrain.how": self.retrain.how}.items():
            if self.data.streaming and how not in ("auto", "loop"):
                raise InputError(
                    f"data.streaming needs seeds one by one: {name} is {how}, leave it auto or loop"
                )
            if self.checkpoint_epochs and how not in ("auto", "loop"):
                raise InputError(f"checkpoints need seeds one by one: {name} is {how}, leave it auto or loop")

    def _check_data(self) -> None:
        data = self.data
        for name in ("data_dir", "labels", "noise_matrix"):
            if (path := getattr(data, name)) is not None:
                check_path(path, f"data.{name}")
        if data.num_train is not None:
            check_count(data.num_train, "data.num_train")
        if not 0 <= data.label_noise <= 1:
            raise InputError(f"data.label_noise must be a share from 0 to 1, got {data.label_noise}")
        if data.noise_mode != "permute" and not data.label_noise:
            raise InputError(
                f"data.noise_mode {data.noise_mode} without noise: set data.label_noise or leave it out"
            )
        if (data.noise_matrix is not None) != (data.noise_mode == "matrix"):
            remedy = "give its file" if data.noise_matrix is None else "set data.noise_mode to matrix"
            raise InputError(
                f"data.noise_matrix goes with data.noise_mode matrix; the mode is {data.noise_mode} and the "
                f"matrix {data.noise_matrix}: {remedy}"
            )
        if data.labels is not None and (data.label_noise or data.noise_matrix is not None):
            raise InputError("data.labels and data.label_noise are two sources of labels; choose one")
        if data.image_size is not None:
            check_count(data.image_size, "data.image_size", most=MOST_PIXELS)
        check_count(data.workers, "data.workers", least=0, most=MOST_WORKERS)
        needing = {
            "data.image_size": data.image_size is not None,
            "data.workers": data.workers > 0,
            "train.augment resized_crop": self.train.augment == "resized_crop",
        }
        for name in (name for name, given in needing.items() if given and not data.streaming):
            raise InputError(f"{name} is for images read from disk: set data.streaming or leave it out")

    def folder(self) -> str:
        """Returns the run folder: `run_dir`, or one named after data and model."""
        name = self.data.name.replace(":", "-").replace("/", "-").strip("-")
        return self.run_dir or f"runs/{name}-{self.model.name}"

    def facts(self) -> dict[str, Any]:
        """Returns the config as JSON values; options of scores and rules that take no part are left out."""
        values = to_json(self)
        for section, used in (("score", self.score.names), ("select", self.select.method)):
            options = values[section]["options"]
            values[section]["options"] = {name: options[name] for name in used if name in options}
        return values


# Where things are kept or how they are computed, and not what: two runs that differ only here are the same
# run, with the same numbers to rounding.
LOCATIONS = {
    *(("run_dir",), ("data", "data_dir"), ("data", "workers"), ("mesh",)),
    *(("score", "how"), ("score", "batch_size"), ("score", "files"), ("retrain", "how")),
    ("score", "min_seeds"),
    *(("train", "steps_per_call"),),
}
# Where data comes from: of no matter where its contents are the same.
SOURCES_OF_DATA = {("data", "name"), ("data", "labels"), ("data", "noise_matrix")}
