"""What is measured on: network, images and their numbers, and programs that several rows need."""

import dataclasses
import functools
import inspect
import typing
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ceilings import matmul_flops_per_second
from grand import batches, ways_of
from programs import Program, compiled
from workloads import Workload, step_flops, synthetic

import diet_jax as dj
from diet_jax.ensemble.over_seeds import AnyHow, over_seeds
from diet_jax.models.convolution import ConvolutionForm
from diet_jax.training.loop import program_of, put_examples, start
from diet_jax.training.step import advance_in_one_program

# The newest first: it is there because it should be better.
FORMS: tuple[ConvolutionForm, ...] = tuple(
    form for form in reversed(typing.get_args(ConvolutionForm)) if form != "auto"
)
HOWS: tuple[AnyHow, ...] = ("vmap", "map", "unroll")
# Forms that differ from JAX's convolution only where seeds are batched.
BATCHED_ONLY = ("unrolled",)


HIGHEST = "grand, highest precision"


def ways_to_score(predict: Any) -> dict[str, Any]:
    """Returns the ways of grand.py by name, and `grand` with all products of the norms in full float32."""
    ways = ways_of(predict)
    if "precision" in inspect.signature(dj.grand).parameters:
        ways[HIGHEST] = functools.partial(dj.grand, predict, precision="highest")
    return ways


@dataclass(frozen=True)
class Scale:
    """How large everything is."""

    name: str
    network: str = "resnet18"
    options: dict[str, Any] = field(default_factory=dict, hash=False)
    """Of the network."""
    side: int = 32
    """Of the images."""
    images: int = 50_000
    batch_size: int = 128
    large_batch_size: int = 512
    score_batch_size: int = 256
    steps: int = 50
    """Training steps of a compiled call."""
    seeds: tuple[int, ...] = (4, 8)
    rounds: int = 5
    matmul_size: int = 8192
    copied_mib: int = 2048
    layers: int | None = None
    """Measure the first so many layers alone."""
    rtol: float = 2e-2
    """How far norms of a layer may differ from each other: products may round their factors."""
    caution: float = 1
    """How many times the guessed seconds a first task of its kind is taken to need."""


FULL = Scale("full")
ON_CPU = replace(
    FULL,
    name="for a CPU",
    options={"width": 16},
    images=2000,
    batch_size=32,
    large_batch_size=64,
    score_batch_size=32,
    steps=2,
    rounds=2,
    matmul_size=2048,
    copied_mib=256,
    rtol=1e-4,
)
TINY = replace(
    ON_CPU,
    name="tiny",
    network="small_cnn",
    options={"widths": (4,)},
    side=8,
    images=40,
    batch_size=4,
    large_batch_size=8,
    score_batch_size=6,
    seeds=(2,),
    rounds=1,
    matmul_size=32,
    copied_mib=1,
    layers=1,
    caution=0,
)


@dataclass(frozen=True)
class Case:
    """A training program: some steps of one seed, or of several in one program."""

    dtype: str = "bfloat16"
    batch_size: int = 128
    form: ConvolutionForm = "auto"
    seeds: int | None = None
    """None: one seed, without an axis of seeds."""
    how: AnyHow | None = None
    flags: tuple[tuple[str, Any], ...] = ()
    """Options of XLA for this program."""

    @property
    def trainings(self) -> int:
        """How many networks it trains."""
        return self.seeds or 1


class Bench:
    """Data, networks and compiled programs, made when they are first asked for and kept.

    Args:
        scale: how large everything is.
    """

    def __init__(self, scale: Scale) -> None:
        self.scale = scale
        self.image_shape = (scale.side, scale.side, 3)
        self._programs: dict[Any, Program] = {}

    @functools.cached_property
    def dataset(self) -> dj.Dataset:
        """Random images, as many as CIFAR-10 has to train on."""
        return synthetic(self.image_shape, self.scale.images, 10)[0]

    def model(self, dtype: str, form: ConvolutionForm = "auto") -> dj.Model:
        """Returns the network."""
        options = {**self.scale.options, "dtype": dtype, "convolution": form}
        return dj.create_model(self.scale.network, num_classes=10, **options)

    @functools.cache  # noqa: B019
    def peak(self, dtype: str, precision: str | None) -> float:
        """Returns the operations per second of a large matrix product."""
        return matmul_flops_per_second(self.scale.matmul_size, dtype, precision)

    @functools.cache  # noqa: B019
    def flops(self, dtype: str, batch_size: int) -> float:
        """Returns the operations of one training step's gradient."""
        config = dj.TrainConfig(batch_size=batch_size)
        return step_flops(Workload(self.model(dtype), self.dataset, self.dataset, config))

    @functools.cached_property
    def scored(self) -> tuple[dj.Variables, Any, Any]:
        """Random weights, and a batch of random images and labels to score."""
        init = jax.jit(self.model("float32").init, static_argnums=1)
        variables = init(jax.random.key(0), self.image_shape)
        return variables, *next(batches(1, self.scale.score_batch_size, self.image_shape))

    def scoring(self, dtype: str, way: str, precision: str = "") -> Program:
        """Returns the compiled program of a way to score `scored`."""
        fn = ways_to_score(self.model(dtype).predict)[way]
        return self.program((dtype, way, precision), fn, *self.scored)

    def program(self, key: Any, fn: Any, *args: Any, flags: Any = ()) -> Program:
        """Compiles a function, once for each key."""
        if key not in self._programs:
            self._programs[key] = compiled(fn, *args, compiler_options=dict(flags))
        return self._programs[key]

    def training(self, case: Case) -> tuple[Program, tuple[Any, ...]]:
        """Returns the compiled program of a case and its arguments: the paper's recipe with augmentation."""
        recipe = dj.TrainConfig(epochs=200, batch_size=case.batch_size, augment="crop_flip")
        program = program_of(self.model(case.dtype, case.form), self.dataset, recipe)
        program = dataclasses.replace(program, side_by_side=case.how == "vmap")
        fn = functools.partial(advance_in_one_program, num_updates=self.scale.steps, program=program)
        states = self._states[: case.trainings]
        if case.seeds is None:
            state = states[0]
        else:
            fn = over_seeds(fn, how=case.how or "auto")
            state = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
        args = (state, *self._shared)
        return self.program(case, fn, *args, flags=case.flags), args

    @functools.cached_property
    def _states(self) -> list[Any]:
        # Parameters are float32 whatever is computed in, and their shapes are those of every form.
        program = program_of(self.model("float32"), self.dataset, dj.TrainConfig(batch_size=1))
        keys = dj.seed_keys(0, "retrain", max(self.scale.seeds))
        return [start(key, self.dataset, program=program) for key in keys]

    @functools.cached_property
    def _shared(self) -> tuple[Any, Any]:
        return put_examples(self.dataset), jnp.asarray(np.arange(len(self.dataset), dtype=np.int32))
