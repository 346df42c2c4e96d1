"""Networks: six ready-made ones by name, and an adapter for anyone's Flax module."""

import difflib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, get_args

import flax.linen as nn
import jax.numpy as jnp

from diet_jax.data.classes import MOST_CLASSES
from diet_jax.errors import InputError
from diet_jax.models.cnn import CNN, SmallCNN
from diet_jax.models.convolution import ConvolutionForm, matmul_convolution
from diet_jax.models.linearized import LinearizedModel, linearize
from diet_jax.models.linen import LinenModel, from_linen
from diet_jax.models.mlp import MLP
from diet_jax.models.resnet import ResNet, Stem, resnet18, resnet50
from diet_jax.models.vgg import VGG16

__all__ = [
    "CNN",
    "MLP",
    "MODEL_NAMES",
    "VGG16",
    "LinearizedModel",
    "LinenModel",
    "ResNet",
    "SmallCNN",
    "create_model",
    "from_linen",
    "linearize",
    "matmul_convolution",
    "resnet18",
    "resnet50",
]


class _Entry(NamedTuple):
    build: Callable[..., nn.Module]
    options: tuple[str, ...]


MOST_WIDTH = 2**20
_MODELS = {
    "resnet18": _Entry(resnet18, ("width", "zero_init", "stem", "convolution")),
    "resnet50": _Entry(resnet50, ("width", "zero_init", "stem", "convolution")),
    "cnn": _Entry(CNN, ("widths", "convolution")),
    "small_cnn": _Entry(SmallCNN, ("widths", "convolution")),
    "vgg16": _Entry(VGG16, ("width", "convolution")),
    "mlp": _Entry(MLP, ("widths",)),
}
_DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}

MODEL_NAMES: tuple[str, ...] = tuple(_MODELS)
"""The names that `create_model` knows."""


def create_model(name: str, *, num_classes: int, dtype: str = "float32", **options: Any) -> LinenModel:
    """Returns one of the library's networks by name.

    Two calls with the same arguments return equal models, so programs compiled for one serve the other.

    Args:
        name: "resnet18" or "resnet50" (the paper's networks), "cnn" (the authors' SimpleCNN), "small_cnn"
            (for a few CPU cores), "vgg16" or "mlp".
        num_classes: number of logits, at least 2.
        dtype: "float32" or "bfloat16", the dtype to compute in; parameters and logits are always float32.
        **options: `width` (int; resnet18, resnet50, vgg16: filters of the first stage, default 64),
            `zero_init` (bool; resnet18, default False, and resnet50, default True: start the last
            BatchNorm scale of each residual block at zero), `stem` ("small" or "imagenet"; resnet18,
            resnet50: for small images, or ImageNet's 7x7 convolution of stride 2 and max-pool), `widths`
            (list or tuple of int; cnn, small_cnn, mlp: size of each stage or hidden layer), `convolution`
            (all but mlp; how convolutions are computed: "lax", by JAX, "matmul", by `matmul_convolution`,
            "cpu" or "unrolled", in train mode by `cpu_convolution` or `unrolled_convolution`; by default
            "auto", which in train mode is "cpu" on CPUs and "unrolled" elsewhere, else "lax". The logits are
            the same but for rounding).

    Returns:
        A model with `init`, `apply`, `predict` and `features`.

    Raises:
        InputError: if the name, the dtype or an option is unknown, or a value is out of range.

    Example:
        >>> import jax
        >>> model = create_model("mlp", num_classes=10, widths=[32])
        >>> variables = model.init(jax.random.key(0), (8, 8, 3))
        >>> model.predict(variables, jax.numpy.zeros((2, 8, 8, 3))).shape
        (2, 10)
    """
    if not isinstance(name, str):
        raise InputError(f"model name: expected text, got {name!r}. Choose from: {', '.join(_MODELS)}.")
    if name not in _MODELS:
        raise InputError(f"model name: no model is called {name!r}.{_suggest(name, _MODELS)}")
    if not isinstance(dtype, str) or dtype not in _DTYPES:
        raise InputError(f"dtype: expected {' or '.join(map(repr, _DTYPES))}, got {dtype!r}.")
    entry = _MODELS[name]
    for option in options:
        if option not in entry.options:
            raise InputError(f"{option}: model {name!r} has no such option.{_suggest(option, entry.options)}")
    if not _is_positive_int(num_classes) or not 2 <= num_classes <= MOST_CLASSES:
        raise InputError(
            f"num_classes: expected an integer of at least 2 and at most {MOST_CLASSES}, got {num_classes!r}."
        )
    checked = {option: _check_option(option, value) for option, value in options.items()}
    return LinenModel(entry.build(num_classes=num_classes, dtype=_DTYPES[dtype], **checked))


def _suggest(word: str, known: Sequence[str] | Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    question = f" Did you mean {close[0]!r}?" if close else ""
    return f"{question} Choose from: {', '.join(known)}."


def _check_option(option: str, value: Any) -> Any:
    """Returns a checked value; lists become tuples because a model must be hashable."""
    if option == "width" and not _is_width(value):
        raise InputError(f"width: expected a positive integer of at most {MOST_WIDTH}, got {value!r}.")
    for choice, values in (("stem", get_args(Stem)), ("convolution", get_args(ConvolutionForm))):
        if option == choice and value not in values:
            raise InputError(f"{option}: expected {' or '.join(map(repr, values))}, got {value!r}.")
    if option == "zero_init" and not isinstance(value, bool):
        raise InputError(f"zero_init: expected True or False, got {value!r}.")
    if option == "widths":
        sizes = tuple(value) if isinstance(value, list | tuple) else ()
        if not sizes or not all(map(_is_width, sizes)):
            raise InputError(
                f"widths: expected a list of positive integers like [32, 64], of at most {MOST_WIDTH}, "
                f"got {value!r}."
            )
        return sizes
    return value


def _is_width(value: Any) -> bool:
    return _is_positive_int(value) and value <= MOST_WIDTH


def _is_positive_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
