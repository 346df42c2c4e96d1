"""The types that flow through the library: read this file first.

Shapes in signatures use these letters: `n` examples in a dataset, `b` examples in a batch, `c` classes,
`k` kept examples, `s` seeds, `t` steps, `h w ch` image height, width and channels.
"""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jax import Array
from jaxtyping import Bool, Float, Int, Key, Shaped

AnyArray = Array | np.ndarray
PRNGKey = Key[Array, ""]
Images = Shaped[AnyArray, "b h w ch"]
Labels = Int[AnyArray, "b"]
Mask = Bool[AnyArray, "n"]
Rows = Int[AnyArray, "k"]
Logits = Float[Array, "b c"]
ScoreArray = Float[Array, "b"]


class Variables(NamedTuple):
    """What a model is made of.

    `params` is what the optimiser moves and GraNd differentiates; `model_state` is what the forward pass
    moves (BatchNorm's running statistics), an empty dict for models without it. With a leading seed axis
    on every leaf the same tuple holds an ensemble ("stacked" variables).
    """

    params: Any
    model_state: Any


class Examples(NamedTuple):
    """The arrays of a dataset that device code sees, in dataset order: row i is example i.

    Images keep the dtype they were stored in (uint8 stays uint8); `mean` and `std` are per channel, in
    the unit of the stored pixels.
    """

    images: Shaped[Array, "n h w ch"]
    labels: Int[Array, "n"]
    mean: Float[Array, "ch"]
    std: Float[Array, "ch"]

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of one image."""
        _, height, width, channels = self.images.shape
        return height, width, channels


@runtime_checkable
class Model(Protocol):
    """A model is three pure functions. `images` are normalised floats; logits are float32.

    Implementations should be hashable and compare equal when they compute the same function: compiled
    programs are cached by model.
    """

    def init(self, key: PRNGKey, image_shape: tuple[int, int, int]) -> Variables:
        """Returns fresh variables for images of `image_shape` (height, width, channels)."""
        ...

    def apply(self, variables: Variables, images: Images, *, train: bool) -> tuple[Logits, Any]:
        """Returns logits and the new `model_state`; BatchNorm uses batch statistics if `train`.

        A model with dropout, or anything random, also takes `key`: a fresh one for every step of a training.
        """
        ...

    def predict(self, variables: Variables, images: Images) -> Logits:
        """Returns logits in eval mode: BatchNorm uses its running statistics, nothing is updated."""
        ...


def apply_in_training(model: Model, variables: Variables, images: Images, key: PRNGKey) -> tuple[Logits, Any]:
    """Returns `model.apply` in train mode, with the key if the model takes one."""
    options = {"key": key} if "key" in inspect.signature(model.apply).parameters else {}
    return model.apply(variables, images, train=True, **options)


PredictFn = Callable[[Variables, Images], Logits]
ScoreFn = Callable[[Variables, Images, Labels], ScoreArray]
