"""What a score is: its name, its meaning, how its function is made. Each is registered where it stands."""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp

from diet_jax.checks.calls import calling, num_logits
from diet_jax.errors import InputError
from diet_jax.options.registry import Registry
from diet_jax.options.typed import check_types
from diet_jax.types import Array, Model, init_variables

# What else the files of scores hold, and what NumPy's function that writes them is given by name.
RESERVED = ("ids", "header", "file", "allow_pickle")

Reads = Literal["logits", "gradients", "features", "dataset", "dynamics", "inputs", "nothing"]


class Fold(NamedTuple):
    """What a training remembers of every example: pure functions, folded inside the training loop.

    `init(num_examples)` returns a pytree of arrays `[n ...]`; an `init` that takes `num_classes` is given the
    number of the network's logits by that name, and one that takes `spec` shape and dtype of one input, a
    `jax.ShapeDtypeStruct`. `update(state, rows, logits, labels)` takes in one batch:
    rows int `[b]` of the dataset, the logits float32 `[b c]` of the training's own forward pass before its
    update (augmented, train mode), and the labels int `[b]`.

    With `measure` it takes in all examples once, at the end of every epoch, and no batch of the training:
    `measure(model)` returns a function `(variables, inputs, labels) -> pytree` of arrays `[b ...]`, which is
    applied to all examples as they are stored (not augmented, eval mode), and `update(state, rows, values,
    labels)` gets its values. An `update` that takes `rate` is given the learning rate of the epoch's last
    step by that name.
    """

    name: str
    init: Callable[..., Any]
    update: Callable[..., Any]
    measure: Callable[[Model], Callable[..., Any]] | None = None
    of_logits: bool = False
    """Whether what is measured follows from the logits of a clean pass, as `DynamicsLog` is given them."""


def takes(fn: Callable[..., Any], argument: str) -> bool:
    """Returns whether a function has an argument of that name."""
    return argument in inspect.signature(fn).parameters


@dataclass(frozen=True)
class Score:
    """A score of examples: high means hard, or what `high_means` says.

    `build` makes the function that computes it; what it is given and returns follows from `reads`:

    | reads | build | returns a function |
    |---|---|---|
    | logits, gradients, features | `build(model, **options)` | `(variables, inputs, labels) -> float [b]` |
    | inputs | `build(model, **options)` | the same, which leaves the variables alone: no training needed |
    | dataset | `build(**options)` | `(values [n ...], labels [n], number of classes) -> float [n]` |
    | dynamics | `build(**options)` | `(state of the fold, keep bool [n]) -> float [n]` |
    | nothing | `build(**options)` | `(key, number of examples) -> float [n]` |

    Attributes:
        name: in configs, files and on the command line.
        label: in figures and tables.
        formula: what it is, in words; every score file carries it.
        reference: where it was defined.
        reads: what it is computed from.
        build: see above; called once for each model.
        measure: for scores that read the dataset, such as distances to other examples: `measure(model)`
            returns `(variables, inputs, labels) -> float [b ...]`, whose values of all examples, whatever was
            trained on, are in memory at once.
        fold: for scores of training dynamics, what is folded.
        make_fold: for folds that depend on the score's options: is given them and returns the fold, the same
            one for the same options; in the place of `fold`.
        high_means: what examples with high scores are, in a word: "hard" wherever that can be said.
        elsewhere: who else uses it under which name, such as "CCS: AUM", and where theirs differs.
        options: a frozen dataclass with the defaults of its own options, or None; its fields are the keyword
            arguments of `build`, and options of config and command line.
        infinite_means: what an infinite score says, if there can be one.
        color: in figures; by default one that is free.
        marker: in figures, of matplotlib.

    Example:
        >>> import functools, jax.numpy as jnp, diet_jax as dj
        >>> def confidence(predict_fn, variables, inputs, labels):
        ...     return -jnp.max(predict_fn(variables, inputs), axis=-1)
        >>> score = dj.Score(
        ...     name="unsure",
        ...     label="unsure",
        ...     formula="minus the largest logit",
        ...     reference="none",
        ...     reads="logits",
        ...     build=lambda model: functools.partial(confidence, model.predict),
        ... )
        >>> score.needs_training
        True
    """

    name: str
    label: str
    formula: str
    reference: str
    reads: Reads
    build: Callable[..., Callable[..., Any]]
    fold: Fold | None = None
    options: Any = None
    infinite_means: str = "not finite"
    color: str | None = None
    marker: str | None = None
    high_means: str = "hard"
    elsewhere: tuple[str, ...] = ()
    make_fold: Callable[..., Fold] | None = None
    measure: Callable[[Any], Callable[..., Any]] | None = None

    def __post_init__(self) -> None:
        check_types(self)
        if not self.name.isidentifier():
            raise InputError(f"the name of a score must be letters, digits and _, got {self.name!r}")
        if self.name in RESERVED:
            raise InputError(f"a score cannot be called {self.name}, nor {', '.join(RESERVED)}")
        if self.options is not None and not (
            dataclasses.is_dataclass(self.options) and self.options.__dataclass_params__.frozen  # type: ignore[attr-defined]
        ):
            raise InputError(f"{self.name}: options must be a frozen dataclass, got {self.options!r}")
        if self.reads not in get_args(Reads):
            raise InputError(
                f"{self.name}: reads must be one of {', '.join(get_args(Reads))}; got {self.reads!r}"
            )
        if self.make_fold is not None:
            object.__setattr__(self, "fold", self.make_fold(**vars(self.options)))
        if (self.reads == "dynamics") != (self.fold is not None):
            raise InputError(
                f"{self.name}: a score that reads dynamics, and no other, has a fold; it reads {self.reads}"
            )
        if (self.reads == "dataset") != (self.measure is not None):
            raise InputError(
                f"{self.name}: a score that reads the dataset, and no other, has a measure; "
                f"it reads {self.reads}"
            )

    @property
    def needs_training(self) -> bool:
        """Whether it depends on a trained network."""
        return self.reads not in ("inputs", "nothing")

    @property
    def of_examples(self) -> bool:
        """Whether its function scores batches of inputs and labels."""
        return self.reads not in ("dataset", "dynamics", "nothing")

    @property
    def definition(self) -> str:
        """Label, formula and options for score files; what is left to the library, "auto", is left out."""
        chosen = {} if self.options is None else vars(self.options)
        chosen = {name: value for name, value in chosen.items() if value != "auto"}
        values = {name: f"{value:g}" if isinstance(value, float) else value for name, value in chosen.items()}
        options = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in values.items())
        return f"{self.label}: {self.formula}" + (f" ({options})" if options else "")

    def with_options(self, options: Any) -> "Score":
        """Returns the score with other options, an object like `options`."""
        if type(options) is not type(self.options):
            raise InputError(
                f"options of {self.name} must be {type(self.options).__name__}, got {type(options).__name__}"
            )
        return dataclasses.replace(self, options=options)

    def function(self, model: Any = None) -> Callable[..., Any]:
        """Returns its function: the same object for the same score and model, so programs are found again."""
        return _function(self, model if self.of_examples else None)

    def on_batches(self, model: Any) -> Callable[..., Any] | None:
        """Returns what a pass over the examples applies to each batch: its function, or its measure.

        The same object for the same score and model; None where no pass is made.
        """
        return self.function(model) if self.of_examples else _measuring(self, model)


@functools.lru_cache(maxsize=256)
def _function(score: Score, model: Any) -> Callable[..., Any]:
    options = {} if score.options is None else vars(score.options)
    if not score.of_examples:
        return score.build(**options)
    with calling(f"the build of the score {score.name}"):
        built = score.build(model, **options)
    if not callable(built):
        raise InputError(
            f"the build of the score {score.name} must return its function, got {type(built).__name__}"
        )
    return functools.partial(_of_examples, score.name, built)


@functools.lru_cache(maxsize=256)
def _measuring(score: Score, model: Any) -> Callable[..., Any] | None:
    if score.measure is None:
        return None
    with calling(f"the measure of the score {score.name}"):
        measured = score.measure(model)
    return functools.partial(_measured, score.name, measured)


def _measured(name: str, fn: Callable[..., Any], variables: Any, inputs: Any, labels: Any) -> Array:
    with calling(f"the measure of the score {name}"):
        values = fn(variables, inputs, labels)
    if getattr(values, "shape", ())[:1] != (len(inputs),) or not jnp.issubdtype(values.dtype, jnp.floating):
        got = f"{getattr(values, 'dtype', type(values).__name__)} {getattr(values, 'shape', '')}"
        raise InputError(f"the measure of the score {name} must return float [{len(inputs)} ...]; got {got}")
    return values


def _of_examples(name: str, fn: Callable[..., Any], variables: Any, inputs: Any, labels: Any) -> Array:
    with calling(f"the score {name}"):
        values = fn(variables, inputs, labels)
    return checked_values(values, len(inputs), name)


def checked_values(values: Any, num_examples: int, name: str) -> Array:
    """Returns what a score's function returned, float `[n]` of any precision, as float32.

    Raises:
        InputError: it is not one float for each example.
    """
    if getattr(values, "shape", None) != (num_examples,) or not jnp.issubdtype(values.dtype, jnp.floating):
        got = f"{getattr(values, 'dtype', type(values).__name__)} {getattr(values, 'shape', '')}"
        raise InputError(f"the score {name} must return float [{num_examples}], one per example; got {got}")
    return jnp.asarray(values).astype(jnp.float32)


def check_function(score: Score, model: Any, spec: jax.ShapeDtypeStruct) -> None:
    """Raises InputError where a score's function does not return a float for each example; nothing is run.

    What the function itself raises, it raises here.
    """
    variables = jax.eval_shape(lambda: init_variables(model, jax.random.key(0), spec))
    inputs = jax.ShapeDtypeStruct((2, *spec.shape), spec.dtype)
    labels = jax.ShapeDtypeStruct((2,), "int32")
    fn = score.on_batches(model)
    if fn is None:
        return
    values = jax.eval_shape(fn, variables, inputs, labels)
    if score.measure is not None:
        num_classes = num_logits(model.predict, variables, inputs)
        of_all = functools.partial(values_of_all, score, num_classes=num_classes)
        jax.eval_shape(of_all, values, labels)


def values_of_all(score: Score, values: Any, labels: Any, *, num_classes: int) -> Array:
    """Returns a score float32 `[n]` that reads the dataset, from its measure's values.

    Args:
        score: which.
        values: float `[n ...]` of all examples.
        labels: int `[n]`.
        num_classes: of the network.
    """
    with calling(f"the score {score.name}"):
        found = score.function()(values, labels, num_classes)
    return checked_values(found, len(labels), score.name)


SCORES: Registry[Score] = Registry("score", package="diet_jax.scores")
"""All scores by name."""


def resolve_scores(names: Iterable[Score | str]) -> tuple[Score, ...]:
    """Returns the scores of names; scores themselves stay as they are.

    Raises:
        InputError: an unknown name, none at all, or one twice.
    """
    if isinstance(names, str | Score) or not isinstance(names, Iterable):
        raise InputError(f"names must be a tuple of scores, got {names!r}; write ({names!r},)")
    scores = tuple(SCORES.resolve(name) for name in names)
    if not scores or len({score.name for score in scores}) != len(scores):
        raise InputError(f"names must hold at least one score, each once; got {[s.name for s in scores]}")
    return scores


def folds_of(scores: Iterable[Score]) -> tuple[Fold, ...]:
    """Returns what a training must fold for some scores, each once.

    Raises:
        InputError: two different folds have one name: each would overwrite what the other remembers.
    """
    folds = tuple(dict.fromkeys(score.fold for score in scores if score.fold is not None))
    names = [fold.name for fold in folds]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"different folds are called {', '.join(twice)}; give each a name of its own")
    return folds
