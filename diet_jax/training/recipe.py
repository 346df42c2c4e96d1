"""TrainConfig: how one network is trained, and the only place where epochs become steps."""

import math
from dataclasses import dataclass, field
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax

from diet_jax.checks.values import MOST, check_count, check_number
from diet_jax.data.augment import CropOffsets, normalize, random_crop, random_flip
from diet_jax.errors import InputError, counted
from diet_jax.options.typed import check_types
from diet_jax.training.dynamic_pruning.hardest import HardestOptions
from diet_jax.training.dynamic_pruning.infobatch import InfoBatchOptions
from diet_jax.training.dynamic_pruning.methods import DynamicName, check_method
from diet_jax.training.optimizers import (
    OPTIMIZERS,
    AdamWOptions,
    Optimizer,
    Rate,
    ScheduleName,
    call_optimizer,
    call_schedule,
    check_choices,
    check_unread,
    has_own_rate,
    with_standard_promotion,
)
from diet_jax.training.schedules import Schedule, piecewise_schedule, warmup_schedule
from diet_jax.types import Array, PRNGKey

Budget = Literal["equal_steps", "equal_epochs"]
# Steps are counted in 32 bits.
MOST_STEPS = 2**31 - 1


@dataclass(frozen=True)
class TrainConfig:
    """How one network is trained; TrainConfig() is the paper's recipe for CIFAR-10 and ResNet18.

    `optimizer` is a name, a function of the learning rate, or a transformation with a rate of its own:

    - `"sgd"` (the paper's, with `momentum`, `nesterov`, `weight_decay`) or `"adamw"` (with the options in
      `adamw`);
    - a function that is called with the rate, as an Optax schedule, and returns an Optax transformation:
      `optax.adam`, `functools.partial(optax.lion, weight_decay=0.1)`, `lambda rate: optax.chain(...)`.
      `learning_rate`, `schedule` and their kin apply, so that pruned and shortened trainings have the rate
      of their own length;
    - an `optax.GradientTransformation` as it is, such as `optax.adam(1e-3)`.

    `schedule` is a name or an Optax schedule of your own: a function, written with `jax.numpy`, from the
    number of updates done before, which counts from 0, to the rate. Transformations are told loss, gradient
    and loss function of the batch as `value`, `grad` and `value_fn`, as `optax.contrib.reduce_on_plateau`
    and line searches want them. What another optimiser reads is refused where it is set, and so are the
    options of a rate that nothing asks for.

    Configs are equal if their objects are: `optax.adam(1e-3)` made twice is two, which compile twice. An
    object is written to a run folder as a name and a digest of its source; it cannot be read back from there.

    Raises:
        InputError: a value is out of its range, of another type, not hashable, or read by another optimiser.

    Example:
        >>> import functools, optax, diet_jax as dj
        >>> adamw = dj.TrainConfig(optimizer="adamw", learning_rate=1e-3, adamw=dj.AdamWOptions(b2=0.99))
        >>> lion = functools.partial(optax.lion, weight_decay=0.1)
        >>> with_lion = dj.TrainConfig(optimizer=lion, learning_rate=1e-4, schedule="cosine", warmup=0.05)
        >>> with_own_rate = dj.TrainConfig(optimizer=optax.adam(optax.linear_schedule(1e-3, 0.0, 1000)))
        >>> adamw.adamw.b2, with_lion.schedule, with_own_rate.learning_rate
        (0.99, 'cosine', 0.1)
    """

    epochs: float = 200.0
    """Passes over the full dataset; `steps` takes its place if given."""
    steps: int | None = None
    """Optimiser updates."""
    budget: Budget = "equal_steps"
    """What a pruned training shares with the full one: its steps (the paper), or its epochs."""
    batch_size: int = 128
    """Examples per step; the incomplete last batch of every epoch is dropped."""
    optimizer: Optimizer = "sgd"
    """The paper's SGD, or AdamW; in Python also Optax's, as a function of the rate or with its own."""
    learning_rate: float = 0.1
    """Peak learning rate; the default is for SGD, AdamW wants about 0.001."""
    momentum: float = 0.9
    """SGD: decay of the sum of past gradients."""
    nesterov: bool = True
    """SGD: Nesterov's momentum."""
    weight_decay: float = 5e-4
    """SGD: L2 on every parameter, added to the gradient before the momentum."""
    adamw: AdamWOptions = field(default_factory=AdamWOptions)
    """AdamW: its options."""
    schedule: ScheduleName | Rate = "piecewise"
    """Piecewise constant, or warm-up and then linear or cosine decay to 0; in Python also Optax's."""
    decay_at: tuple[float, ...] = (0.3, 0.6, 0.8)
    """Piecewise: shares of the training after which the rate drops."""
    decay_factor: float = 0.2
    """Piecewise: what the rate is multiplied by at each drop."""
    warmup: float = 0.0
    """Linear and cosine: share of the training in which the rate rises."""
    augment: Literal["none", "crop", "crop_flip", "resized_crop"] = "crop_flip"
    """Random crop after reflecting 4 pixels, and horizontal flip; resized_crop (ImageNet, images read from
    disk): a random part of 8% of the area or more, resized, and the flip."""
    crop_offsets: CropOffsets = "example"
    """One crop per example, or one per batch as in the authors' code."""
    dynamic: DynamicName = "none"
    """Dynamic pruning, which chooses anew while the network trains: infobatch or hardest, with their options.
    The number of steps stays the same: what they are spent on changes."""
    infobatch: InfoBatchOptions = field(default_factory=InfoBatchOptions)
    """InfoBatch: its options."""
    hardest: HardestOptions = field(default_factory=HardestOptions)
    """Batch-hardest: its options."""
    steps_per_call: int | None = None
    """Steps per compiled call; by default chosen for the backend and the model."""
    compiler_options: tuple[str, ...] = ()
    """XLA's options for the compiled programs of this training alone, as name=value."""

    def __post_init__(self) -> None:
        check_choices(self)
        check_types(self)
        check_unread(self)
        check_method(self)
        if self.steps is not None and self.budget == "equal_epochs":
            raise InputError("budget equal_epochs needs the length in epochs; leave out steps")
        positive = {"batch_size": self.batch_size, "steps": self.steps, "steps_per_call": self.steps_per_call}
        for name, value in positive.items():
            if value is not None:
                check_count(value, name, most=MOST_STEPS)
        ranges = {
            "epochs": (self.epochs, 0, math.inf),
            "learning_rate": (self.learning_rate, 0, math.inf),
            "decay_factor": (self.decay_factor, 0, math.inf),
        }
        for name, (value, low, high) in ranges.items():
            if not low < value < high:
                raise InputError(f"{name} must be a finite number above {low}, got {value}")
        for name, value in {"momentum": self.momentum, "warmup": self.warmup}.items():
            if not 0 <= value < 1:
                raise InputError(f"{name} must be at least 0 and below 1, got {value}")
        if not 0 <= self.weight_decay < math.inf:
            raise InputError(f"weight_decay must be a finite number of at least 0, got {self.weight_decay}")
        names = [option.partition("=")[0] for option in self.compiler_options]
        if len(set(names)) < len(names):
            raise InputError(f"compiler_options must name each option once, got {self.compiler_options}")
        for option in self.compiler_options:
            name, equals, value = option.partition("=")
            if not (name.strip() == name != "" and equals and value):
                raise InputError(f"compiler_options must be of the form name=value, got {option!r}")
        if any(not 0 < share < 1 for share in self.decay_at) or list(self.decay_at) != sorted(self.decay_at):
            raise InputError(f"decay_at must hold ascending shares between 0 and 1, got {self.decay_at}")


def steps_per_epoch(num_examples: int, batch_size: int) -> int:
    """Returns the full batches in one pass; the incomplete last batch is dropped.

    Raises:
        InputError: there are fewer examples than one batch holds.

    Example:
        >>> steps_per_epoch(50_000, 128)
        390
    """
    check_count(num_examples, "num_examples", least=0)
    check_count(batch_size, "batch_size")
    if num_examples == 0:
        raise InputError("there is no example to train on; keep at least one batch of them")
    if num_examples < batch_size:
        raise InputError(
            f"batch_size is {batch_size} but only {counted(num_examples, 'example')} "
            f"{'is' if num_examples == 1 else 'are'} trained on; "
            f"keep more of them or lower the batch size to {num_examples} or less"
        )
    return num_examples // batch_size


def total_steps(config: TrainConfig, num_examples: int, num_kept: int | None = None) -> int:
    """Returns the number of updates of one training.

    Args:
        config: `steps`, or `epochs` of the full dataset, and the `budget` of pruned trainings.
        num_examples: size `n` of the full dataset.
        num_kept: size `k` of the kept set; by default nothing is pruned.

    Returns:
        The same number for every `k` with the budget "equal_steps", else one that shrinks with `k`.

    Raises:
        InputError: the training would have no step, or a set is smaller than a batch.

    Example:
        >>> total_steps(TrainConfig(), 50_000), total_steps(TrainConfig(), 50_000, 25_000)
        (78000, 78000)
    """
    num_kept = num_examples if num_kept is None else num_kept
    kept_steps = steps_per_epoch(num_kept, config.batch_size)
    per_epoch = steps_per_epoch(num_examples, config.batch_size)
    steps = config.steps
    if steps is None:
        steps = epoch_to_step(config.epochs, kept_steps if config.budget == "equal_epochs" else per_epoch)
    if steps > MOST_STEPS:
        raise InputError(f"a training has at most {MOST_STEPS} steps, asked for {steps:.4g}; lower epochs")
    if steps == 0:
        raise InputError(f"epochs is {config.epochs}, which is less than half a step; raise it")
    return steps


def epoch_to_step(epoch: float, per_epoch: int) -> int:
    """Returns the step that a (possibly broken) epoch number names: rounded to nearest, halves up.

    Example:
        >>> epoch_to_step(20, 390), epoch_to_step(0.5, 33)
        (7800, 17)
    """
    check_number(epoch, "an epoch", least=0)
    check_count(per_epoch, "per_epoch", least=0)
    if not 0 <= epoch * per_epoch <= MOST:
        raise InputError(
            f"an epoch must be a finite number of at least 0, and no step beyond {MOST}; got epoch {epoch} "
            f"of {per_epoch} steps"
        )
    return math.floor(epoch * per_epoch + 0.5)


def decay_boundaries(config: TrainConfig, num_steps: int) -> tuple[int, ...] | None:
    """Returns the steps after which the piecewise schedule drops the rate; None where the rate is another.

    Example:
        >>> decay_boundaries(TrainConfig(), 78_000)
        (23400, 46800, 62400)
    """
    if config.schedule != "piecewise" or has_own_rate(config.optimizer):
        return None
    return tuple(math.floor(share * num_steps + 0.5) for share in config.decay_at)


def make_schedule(config: TrainConfig, num_steps: int) -> Schedule:
    """Returns the learning rate as a function of the update number `t`, from 1 to `num_steps`."""
    if not isinstance(config.schedule, str):
        return call_schedule(config.schedule)
    boundaries = decay_boundaries(config, num_steps)
    if boundaries is not None:
        return piecewise_schedule(config.learning_rate, boundaries, config.decay_factor)
    warmup = math.floor(config.warmup * num_steps + 0.5)
    return warmup_schedule(config.learning_rate, warmup, num_steps, decay=config.schedule)


def make_optimizer(config: TrainConfig, num_steps: int) -> optax.GradientTransformationExtraArgs:
    """Returns the config's optimiser for a training of `num_steps` updates.

    Its `update` may be given `value`, `grad` and `value_fn` whether it takes them or not.

    Raises:
        InputError: a function of one's own fails, or returns something else.

    Example:
        >>> import jax.numpy as jnp
        >>> optimizer = make_optimizer(TrainConfig(optimizer="adamw", learning_rate=0.5), num_steps=10)
        >>> w = jnp.ones(1)
        >>> updates, _ = optimizer.update(jnp.full(1, 7.0), optimizer.init(w), w, value=jnp.float32(3))
        >>> round(float(updates[0]), 4)  # The rate, as the first update of Adam, and the decay beside it.
        -0.5
    """
    chosen: Any = config.optimizer
    if not has_own_rate(chosen):
        schedule = make_schedule(config, num_steps)

        def rate(count: Array) -> Array:
            # Optax counts updates from 0 when it asks for a rate; schedules here count them from 1.
            return schedule(jnp.asarray(count) + 1)

        named = isinstance(chosen, str)
        chosen = OPTIMIZERS[chosen].build(config, rate) if named else call_optimizer(chosen, rate)
    return with_standard_promotion(optax.with_extra_args_support(chosen))


def rate_remark(config: TrainConfig) -> str | None:
    """Returns what is to be said of a learning rate that SGD wants, as the defaults have it, with AdamW."""
    if config.optimizer != "adamw" or not isinstance(config.schedule, str) or config.learning_rate < 0.02:
        return None
    return f"train.learning_rate is {config.learning_rate:g}, which is for SGD; AdamW wants about 0.001"


def check_augment(config: TrainConfig, kind: str) -> None:
    """Raises InputError where images are to be augmented and the examples are something else."""
    if config.augment != "none" and kind != "images":
        raise InputError(
            f"augment {config.augment} crops and flips images, but the examples are {kind}; set augment to "
            "none"
        )


def prepare_batch(config: TrainConfig, key: PRNGKey, inputs: Array, mean: Array, std: Array) -> Array:
    """Augments a batch of stored inputs as the config says and normalises it."""
    crop_key, flip_key = jax.random.split(key)
    if config.augment in ("crop", "crop_flip"):
        inputs = random_crop(crop_key, inputs, offsets=config.crop_offsets)
    if config.augment == "crop_flip":
        inputs = random_flip(flip_key, inputs)
    return normalize(inputs, mean, std)
