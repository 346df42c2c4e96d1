"""Many seeds: one leading axis, five ways to run it, the same numbers."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int, Key

from diet_jax.backend import How, default_how, has_convolution, model_has_convolution
from diet_jax.batching import auto_batch_size
from diet_jax.data import Dataset
from diet_jax.errors import InputError
from diet_jax.loop import (
    BatchSize,
    batch_shapes,
    check_keep,
    check_updates,
    map_dataset,
    map_examples_of,
    train,
)
from diet_jax.recipe import TrainConfig, total_steps
from diet_jax.scores.dynamics import forgetting_scores
from diet_jax.scores.gradients import grand, grand_last_layer
from diet_jax.scores.logits import el2n
from diet_jax.training import StepMetrics, TrainState, advance_in_one_program, init_state, predictions
from diet_jax.types import AnyArray, Array, Examples, Model, PRNGKey, ScoreFn, Variables

ScoreName = Literal["el2n", "grand", "grand_last_layer", "forgetting"]
AnyHow = How | Literal["auto"]
SCORE_NAMES: tuple[ScoreName, ...] = ("el2n", "grand", "grand_last_layer", "forgetting")
HOWS: tuple[How, ...] = ("vmap", "unroll", "map", "loop")


class EnsembleScores(NamedTuple):
    """What `score_ensemble` returns: arrays with a leading seed axis."""

    scores: dict[str, np.ndarray]
    """float32 `[s n]` by score name; high means hard."""
    variables: Variables
    """Stacked variables at the scoring step."""
    history: StepMetrics
    """Loss and accuracy of every step's batch, float32 `[s t]`."""


class EnsembleTraining(NamedTuple):
    """What `train_ensemble` returns: arrays with a leading seed axis."""

    predicted: np.ndarray
    """int32 `[s m]`, the class that each final network gives each test example."""
    loss: np.ndarray
    """float32 `[s m]`, cross-entropy of each test example in nats."""
    variables: Variables
    """Stacked final variables."""
    history: StepMetrics
    """Loss and accuracy of every step's batch, float32 `[s t]`."""


def over_seeds(fn: Callable[..., Any], *, how: AnyHow = "auto") -> Callable[..., Any]:
    """Maps a function of one seed over a leading seed axis of its first argument.

    Like `vmap`, with a choice of how; the other arguments are shared by all seeds. The caller applies
    `jit`, to the result or, with "loop", to `fn`.

    | how | what it does |
    |---|---|
    | vmap | one batched program: best where the batch of seeds fills the device |
    | unroll | the seeds one after the other, written out in one program: compiles longest |
    | map | a loop over seeds on the device, in one program |
    | loop | a Python loop: `fn` is called once for each seed |
    | auto | on accelerators vmap; on CPUs loop for convolutions, else map (measured) |

    Args:
        fn: `fn(seeded, *shared)`; `seeded` is one seed's slice.
        how: see the table.

    Returns:
        A function of `(seeded, *shared)` where every leaf of `seeded` has a leading seed axis `[s ...]`, and
        so has every leaf of the result.

    Raises:
        InputError: an unknown `how`; when called, seeded leaves of different lengths.

    Example:
        >>> import jax, diet_jax as dj
        >>> keys = dj.seed_keys(0, "score", 3)
        >>> draw = dj.over_seeds(lambda key, n: jax.random.normal(key, ()) + n, how="vmap")
        >>> draw(keys, 1.0).shape
        (3,)
    """
    if how not in (*HOWS, "auto"):
        raise InputError(f"how must be one of {', '.join(HOWS)} or auto, got {how!r}")

    def mapped(seeded: Any, *shared: Any) -> Any:
        num_seeds = _num_seeds(seeded)
        chosen = how
        if chosen == "auto":
            chosen = default_how(has_convolution(fn, take_seed(seeded, 0), *shared))
        if chosen == "vmap":
            return jax.vmap(fn, in_axes=(0, *(None for _ in shared)))(seeded, *shared)
        if chosen == "map":
            return jax.lax.map(lambda one: fn(one, *shared), seeded)
        results = [fn(take_seed(seeded, seed), *shared) for seed in range(num_seeds)]
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *results)

    return mapped


def take_seed(stacked: Any, seed: int) -> Any:
    """Returns one seed's slice of a stacked pytree: every leaf `[s ...]` becomes `[...]`.

    Raises:
        InputError: there is no such seed.

    Example:
        >>> import jax.numpy as jnp
        >>> take_seed({"w": jnp.arange(6).reshape(3, 2)}, 2)["w"].tolist()
        [4, 5]
    """
    num_seeds = _num_seeds(stacked)
    if not 0 <= seed < num_seeds:
        raise InputError(f"seed must lie in 0..{num_seeds - 1}, got {seed}")
    return jax.tree.map(lambda leaf: leaf[seed], stacked)


@functools.lru_cache(maxsize=64)
def score_function(name: str, model: Model) -> ScoreFn:
    """Returns `(variables, images, labels) -> float32 [b]` for a score that a model's variables define.

    The same object for the same name and model, so that compiled programs are found again.
    """
    if name == "el2n":
        return functools.partial(el2n, model.predict)
    if name == "grand":
        return functools.partial(grand, model.predict)
    if name == "grand_last_layer":
        features = getattr(model, "features", None)
        if features is None:
            raise InputError("grand_last_layer needs a model with `features`; see from_linen")
        return functools.partial(grand_last_layer, features)
    raise InputError(f"score names are {', '.join(SCORE_NAMES)}; got {name!r}")


def score_one_seed(
    key: PRNGKey,
    examples: Examples,
    kept: Int[AnyArray, "k"],
    *,
    model: Model,
    config: TrainConfig,
    num_steps: int,
    step: int,
    batch_sizes: tuple[tuple[str, int], ...],
    never_learned: float,
) -> tuple[dict[str, Array], Variables, StepMetrics]:
    """Initialises, trains to `step` and scores all examples: the program that `score_ensemble` compiles.

    Args:
        key: of the run.
        examples: all rows of the dataset, on the device.
        kept: int `[k]`, the rows to train on; all rows are scored.
        model: what is trained.
        config: how.
        num_steps: length of the whole training, which the schedule needs.
        step: score after so many updates.
        batch_sizes: pairs (score name, examples per chunk).
        never_learned: forgetting score of rows that were never correct.

    Returns:
        Scores float32 `[n]` by name, the variables at `step`, the metrics of the steps.
    """
    static: Any = {"model": model, "config": config, "num_steps": num_steps}
    state = init_state(key, examples.image_shape, len(examples.labels), **static)
    state, history = advance_in_one_program(state, examples, kept, num_updates=step, **static)
    scores = {}
    for name, batch_size in batch_sizes:
        if name == "forgetting":
            keep = jnp.zeros(len(examples.labels), bool).at[kept].set(True)
            scores[name] = forgetting_scores(state.forgetting, never_learned=never_learned, keep=keep)
        else:
            score_fn = score_function(name, model)
            scores[name] = map_examples_of(score_fn, state.variables, examples, batch_size=batch_size)
    return scores, state.variables, history


def score_ensemble(
    keys: Key[Array, "s"],
    model: Model,
    dataset: Dataset,
    *,
    config: TrainConfig,
    step: int,
    names: tuple[ScoreName, ...] = ("el2n", "grand"),
    keep: Any = None,
    how: AnyHow = "auto",
    batch_size: BatchSize = "auto",
    never_learned: float = float("inf"),
) -> EnsembleScores:
    """Trains one network for each key up to `step` and scores every example with each.

    Initialisation, training, GraNd, EL2N and the forgetting fold of all seeds are one compiled program,
    except with `how="loop"`, where the seeds run one after the other through compiled steps. The result
    is that of one seed at a time. Average over the first axis for the paper's scores.

    Args:
        keys: typed keys `[s]`, one for each seed; see `seed_keys`.
        model: what is trained.
        dataset: the full train split, with the labels to score by.
        config: the whole training, of which the first `step` updates are done.
        step: score after so many updates; 0 scores at initialisation.
        names: of "el2n", "grand", "grand_last_layer" and "forgetting".
        keep: bool `[n]`, train on these only; all examples are scored, but forgetting is NaN elsewhere.
        how: see `over_seeds`.
        batch_size: examples per scoring chunk; "auto" bounds the memory of the intermediate arrays.
        never_learned: forgetting score of examples that were never correct.

    Returns:
        Scores float32 `[s n]` by name, stacked variables, history `[s t]`.

    Raises:
        InputError: an unknown score, a step beyond the training, a mask that does not fit.

    Paper: section 3; scores are means over 10 seeds.

    Example:
        >>> import diet_jax as dj
        >>> train = dj.load_dataset("digits").train
        >>> model = dj.create_model("mlp", num_classes=10)
        >>> config = dj.TrainConfig(epochs=10, batch_size=32, augment="none")
        >>> result = dj.score_ensemble(dj.seed_keys(0, "score", 2), model, train, config=config, step=33)
        >>> result.scores["el2n"].shape
        (2, 1078)
    """
    num_seeds = _num_seeds(keys)
    keep = None if keep is None else np.asarray(keep)
    kept = check_keep(dataset, keep, config)
    num_steps = total_steps(config, len(dataset), len(kept))
    step = check_updates(step, num_steps)
    chosen = _resolve(how, model, dataset)
    sizes = score_batch_sizes(names, model, dataset, batch_size)
    static: Any = {"model": model, "config": config, "num_steps": num_steps}
    if chosen == "loop":
        results = []
        for seed in range(num_seeds):
            state, history = train(keys[seed], model, dataset, keep=keep, config=config, num_updates=step)
            scores = score_state(
                state, model, dataset, batch_sizes=sizes, keep=keep, never_learned=never_learned
            )
            results.append((scores, jax.tree.map(np.asarray, state.variables), history))
        return EnsembleScores(*jax.tree.map(lambda *leaves: np.stack(leaves), *results))
    scores, variables, history = _score_program(
        keys,
        dataset.examples(),
        kept,
        **static,
        step=step,
        batch_sizes=sizes,
        never_learned=never_learned,
        how=chosen,
    )
    return EnsembleScores(jax.tree.map(np.asarray, scores), variables, jax.tree.map(np.asarray, history))


def score_batch_sizes(
    names: Sequence[str], model: Model, dataset: Dataset, batch_size: BatchSize = "auto"
) -> tuple[tuple[str, int], ...]:
    """Returns pairs (score name, examples per chunk); "auto" bounds the memory of each score's own arrays."""
    if batch_size != "auto" and batch_size < 1:
        raise InputError(f"batch_size must be at least 1 or 'auto', got {batch_size}")

    def size(name: str) -> int:
        if name == "forgetting":
            return len(dataset)
        score_fn = score_function(name, model)
        return _auto_batch_size(score_fn, model, dataset) if batch_size == "auto" else batch_size

    return tuple((name, size(name)) for name in names)


def score_state(
    state: TrainState,
    model: Model,
    dataset: Dataset,
    *,
    batch_sizes: tuple[tuple[str, int], ...],
    keep: Any,
    never_learned: float,
) -> dict[str, np.ndarray]:
    """Scores every example with one trained state, chunk by chunk; forgetting is read off the state."""
    scores = {}
    for name, size in batch_sizes:
        if name == "forgetting":
            values = forgetting_scores(state.forgetting, never_learned=never_learned, keep=keep)
            scores[name] = np.asarray(values)
        else:
            score_fn = score_function(name, model)
            scores[name] = map_dataset(score_fn, state.variables, dataset, batch_size=size)
    return scores


def train_ensemble(
    keys: Key[Array, "s"],
    model: Model,
    dataset: Dataset,
    test: Dataset,
    *,
    config: TrainConfig,
    keep: Any = None,
    how: AnyHow = "auto",
) -> EnsembleTraining:
    """Trains one network for each key from scratch and judges each on the test split at its last step.

    Args:
        keys: typed keys `[s]`, disjoint from the scoring keys; see `seed_keys`.
        model: what is trained.
        dataset: the full train split.
        test: the split to judge on.
        config: the training; see `TrainConfig.budget` for the steps of pruned ones.
        keep: bool `[n]` for all seeds or `[s n]` for each its own, all keeping equally many; by default
            everything.
        how: see `over_seeds`.

    Returns:
        Predicted classes and losses `[s m]` on the test split, stacked variables, history `[s t]`.

    Raises:
        InputError: a mask that does not fit, or masks that keep different numbers.

    Paper: section 3; the final accuracy, not the best one.

    Example:
        >>> import diet_jax as dj
        >>> train, test = dj.load_dataset("digits")
        >>> model = dj.create_model("mlp", num_classes=10)
        >>> config = dj.TrainConfig(epochs=5, batch_size=32, augment="none")
        >>> result = dj.train_ensemble(dj.seed_keys(0, "retrain", 2), model, train, test, config=config)
        >>> bool((result.predicted == test.labels).mean() > 0.8)
        True
    """
    masks = _mask_per_seed(keep, _num_seeds(keys), len(dataset))
    kept = [check_keep(dataset, mask, config) for mask in masks]
    if len({len(rows) for rows in kept}) > 1:
        raise InputError(
            f"every seed's keep mask must keep equally many examples, got {[len(r) for r in kept]}"
        )
    num_steps = total_steps(config, len(dataset), len(kept[0]))
    chosen = _resolve(how, model, dataset)
    if chosen == "loop":
        results = []
        for seed, mask in enumerate(masks):
            state, history = train(keys[seed], model, dataset, keep=mask, config=config)
            predicted, loss = predict_dataset(model, state.variables, test)
            results.append((predicted, loss, jax.tree.map(np.asarray, state.variables), history))
        return EnsembleTraining(*jax.tree.map(lambda *leaves: np.stack(leaves), *results))
    size = _auto_batch_size(prediction_function(model), model, test)
    predicted, loss, variables, history = _train_program(
        (keys, np.stack(kept)),
        dataset.examples(),
        test.examples(),
        model=model,
        config=config,
        num_steps=num_steps,
        batch_size=size,
        how=chosen,
    )
    return EnsembleTraining(
        np.asarray(predicted), np.asarray(loss), variables, jax.tree.map(np.asarray, history)
    )


def train_one_seed(
    seeded: tuple[PRNGKey, Int[AnyArray, "k"]],
    examples: Examples,
    test: Examples,
    *,
    model: Model,
    config: TrainConfig,
    num_steps: int,
    batch_size: int,
) -> tuple[Array, Array, Variables, StepMetrics]:
    """Trains one network on its kept rows and predicts the test split: what `train_ensemble` compiles."""
    key, kept = seeded
    static: Any = {"model": model, "config": config, "num_steps": num_steps}
    state = init_state(key, examples.image_shape, len(examples.labels), **static)
    state, history = advance_in_one_program(state, examples, kept, num_updates=num_steps, **static)
    predicted, loss = map_examples_of(
        prediction_function(model), state.variables, test, batch_size=batch_size
    )
    return predicted, loss, state.variables, history


def predict_dataset(model: Model, variables: Variables, dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Returns the predicted class int32 `[n]` and the loss float32 `[n]` of every example, in eval mode."""
    return map_dataset(prediction_function(model), variables, dataset)


@functools.lru_cache(maxsize=64)
def prediction_function(model: Model) -> Callable[..., Any]:
    """Returns `(variables, images, labels) -> (predicted, loss)`; the same object for the same model."""
    return functools.partial(predictions, model.predict)


@functools.partial(
    jax.jit,
    static_argnames=("model", "config", "num_steps", "step", "batch_sizes", "never_learned", "how"),
)
def _score_program(keys: Any, examples: Examples, kept: Any, *, how: How, **static: Any) -> Any:
    return over_seeds(functools.partial(score_one_seed, **static), how=how)(keys, examples, kept)


@functools.partial(jax.jit, static_argnames=("model", "config", "num_steps", "batch_size", "how"))
def _train_program(seeded: Any, examples: Examples, test: Examples, *, how: How, **static: Any) -> Any:
    return over_seeds(functools.partial(train_one_seed, **static), how=how)(seeded, examples, test)


def _resolve(how: AnyHow, model: Model, dataset: Dataset) -> How:
    if how == "auto":
        return default_how(model_has_convolution(model, dataset.image_shape))
    if how not in HOWS:
        raise InputError(f"how must be one of {', '.join(HOWS)} or auto, got {how!r}")
    return how


def _auto_batch_size(fn: Callable[..., Any], model: Model, dataset: Dataset) -> int:
    variables = jax.eval_shape(lambda: model.init(jax.random.key(0), dataset.image_shape))
    return auto_batch_size(fn, *batch_shapes(dataset), shared=(variables,))


def _num_seeds(stacked: Any) -> int:
    lengths = {leaf.shape[0] if leaf.ndim else 0 for leaf in jax.tree.leaves(stacked)}
    if len(lengths) != 1 or 0 in lengths:
        raise InputError(
            f"every leaf must have the same leading seed axis of at least 1, found {sorted(lengths)}"
        )
    return lengths.pop()


def _mask_per_seed(keep: Any, num_seeds: int, num_examples: int) -> np.ndarray:
    masks = np.ones(num_examples, bool) if keep is None else np.asarray(keep)
    if masks.ndim == 1:
        masks = np.broadcast_to(masks, (num_seeds, *masks.shape))
    if masks.shape != (num_seeds, num_examples):
        raise InputError(
            f"keep must have shape ({num_examples},) or ({num_seeds}, {num_examples}), one entry per example "
            f"(and seed), got {masks.shape}"
        )
    return masks
