"""InfoBatch: every epoch leaves out some of the examples with small losses, and the others count for more."""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int

from diet_jax.devices.vmap_rules import seldom
from diet_jax.errors import InputError
from diet_jax.options.typed import check_types
from diet_jax.training.dynamic_pruning.method import OrderingPruning, none_yet
from diet_jax.types import Array, PRNGKey, Rows


@dataclass(frozen=True)
class InfoBatchOptions:
    """Options of InfoBatch; the defaults are the published ones."""

    leave_out: float = 0.5
    """Share of the examples below the mean loss that an epoch leaves out (published: r)."""
    until: float = 0.875
    """Share of the steps after which every new epoch has all examples (published: delta, of the epochs)."""

    def __post_init__(self) -> None:
        check_types(self)
        if not 0 <= self.leave_out < 1:
            raise InputError(f"infobatch.leave_out must be at least 0 and below 1, got {self.leave_out}")
        if not 0 <= self.until <= 1:
            raise InputError(f"infobatch.until must be a share from 0 to 1, got {self.until}")


class InfoBatchState(NamedTuple):
    """What is remembered of all rows of the dataset, and the epoch under way."""

    loss: Float[Array, "n"]
    """When each was last presented; -1 before."""
    weight: Float[Array, "n"]
    """What its loss counts in this epoch."""
    kept: Bool[Array, "n"]
    """What the last epoch that was pruned keeps."""
    order: Int[Array, "n"]
    """The rows of this epoch's batches; nothing is meant by what stands behind them."""
    first: Int[Array, ""]
    """Step at which this epoch began."""
    steps: Int[Array, ""]
    """Batches of this epoch."""
    epochs: Int[Array, ""]
    """Epochs begun."""
    offered: Array
    """Examples of all epochs begun, before pruning."""
    left_out: Array
    """How many of those were left out."""


# A class attribute of a named tuple must not look like a field.
InfoBatchState.method = "infobatch"  # type: ignore[attr-defined]


class Choice(NamedTuple):
    """What an epoch does with each of the rows to train on."""

    stays: Bool[Array, "k"]
    weight: Float[Array, "k"]


def choose_epoch(key: PRNGKey, losses: Float[Array, "k"], leave_out: float) -> Choice:
    """Draws what an epoch keeps, and what each counts, so that the expected gradient is that of everything.

    Of the `m` examples whose loss is below the mean, `c = m - floor(leave_out * m)` stay, drawn without
    replacement, and count `m / c`; all others stay and count 1. An example below the mean stays with
    probability `c / m`: the expected sum of weighted gradients is the sum of all gradients.

    Args:
        key: of this epoch's draw.
        losses: float32 `[k]`, as last seen; -1 for examples never seen. They take no part in the mean and
            stay, and so does what is NaN.
        leave_out: share of the examples below the mean to leave out.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> choice = choose_epoch(jax.random.key(0), jnp.array([0.1, 0.2, 0.3, 0.4, 9.0]), 0.5)
        >>> int(choice.stays.sum()), choice.weight.tolist()
        (3, [2.0, 2.0, 2.0, 2.0, 1.0])
    """
    seen = losses >= 0
    mean = jnp.where(seen, losses, 0).sum() / jnp.maximum(seen.sum(), 1).astype(losses.dtype)
    below = seen & (losses < mean)
    count = below.sum(dtype=jnp.int32)
    stay = count - jnp.floor(jnp.float32(leave_out) * count.astype(jnp.float32)).astype(jnp.int32)
    drawn = jax.random.permutation(key, len(losses))
    among = below[drawn]
    among = ~among | (jnp.cumsum(among, dtype=jnp.int32) <= stay)
    weight = count.astype(jnp.float32) / jnp.maximum(stay, 1).astype(jnp.float32)
    return Choice(jnp.zeros_like(below).at[drawn].set(among), jnp.where(below, weight, 1))


@dataclass(frozen=True)
class InfoBatch(OrderingPruning):
    """The method for a training: options, batch size, and the step from which on nothing is left out."""

    leave_out: float
    batch_size: int
    stop: int

    def init(self, num_examples: int) -> InfoBatchState:
        """Nothing was seen, and the first step begins an epoch."""

        def rows(value: float, dtype: str) -> Array:
            # Arrays of their own: a training step may overwrite each in place.
            return jnp.full(num_examples, value, dtype)

        numbers = (jnp.int32(0), jnp.int32(0), jnp.int32(0), none_yet(), none_yet())
        return InfoBatchState(
            rows(-1, "float32"), rows(1, "float32"), rows(0, "bool"), rows(0, "int32"), *numbers
        )

    def next_rows(
        self, own: InfoBatchState, step: Array, order_key: PRNGKey, prune_key: PRNGKey, kept: Rows
    ) -> tuple[InfoBatchState, Array]:
        """Begins an epoch where the last one is over, and returns the next batch of this one."""
        # Drawing an epoch is sorting: it is done where one begins, also where seeds train side by side.
        own = seldom(self._begin)(
            step - own.first >= own.steps, own, step, order_key, prune_key, jnp.asarray(kept, jnp.int32)
        )
        start = (step - own.first) * self.batch_size
        return own, jax.lax.dynamic_slice_in_dim(own.order, start, self.batch_size)

    def weights(self, own: InfoBatchState, rows: Array) -> Array:
        """What each counts in this epoch."""
        return own.weight[rows]

    def observe(self, own: InfoBatchState, rows: Array, losses: Array) -> InfoBatchState:
        """Remembers the losses, as they are before they are weighted."""
        return own._replace(loss=own.loss.at[rows].set(losses.astype(jnp.float32)))

    def _begin(
        self, own: InfoBatchState, step: Array, order_key: PRNGKey, prune_key: PRNGKey, kept: Array
    ) -> InfoBatchState:
        choice = choose_epoch(jax.random.fold_in(prune_key, own.epochs), own.loss[kept], self.leave_out)
        # An epoch that is not even one batch could not be trained on.
        prunes = (step < self.stop) & (choice.stays.sum() >= self.batch_size)
        stays = jnp.zeros_like(own.kept).at[kept].set(choice.stays | ~prunes)
        # As `batch_rows` has the epoch, without those that are left out.
        order = jax.random.permutation(jax.random.fold_in(order_key, own.epochs), kept)
        staying = stays[order]
        places = jnp.where(staying, jnp.cumsum(staying, dtype=jnp.int32) - 1, len(own.order))
        number = staying.sum(dtype=jnp.int32)
        return InfoBatchState(
            loss=own.loss,
            weight=own.weight.at[kept].set(jnp.where(prunes, choice.weight, 1)),
            kept=jnp.where(prunes, stays, own.kept),
            order=own.order.at[places].set(order, mode="drop"),
            first=step,
            steps=number // self.batch_size,
            epochs=own.epochs + 1,
            offered=own.offered + jnp.uint32(len(kept)),
            left_out=own.left_out + (len(kept) - number).astype(jnp.uint32),
        )
