"""What a device does at best: what shares of a peak are taken of."""

from typing import Any

import jax
import jax.numpy as jnp
from measure import seconds_per_call

TIMES = 5


def matmul_flops_per_second(size: int, dtype: str, precision: Any = None) -> float:
    """Returns the operations per second of the fastest of five products of two square matrices.

    Args:
        size: of a side.
        dtype: of the factors and the product.
        precision: as in JAX; by default that of the backend, which on GPUs rounds float32 factors.
    """
    left, right = (jax.random.normal(jax.random.key(seed), (size, size)).astype(dtype) for seed in (0, 1))
    product = jax.jit(lambda a, b: jnp.matmul(a, b, precision=precision))
    return 2 * size**3 / _fastest(product, left, right)


def copied_bytes_per_second(mebibytes: int) -> float:
    """Returns the bytes read and written per second by the fastest of five copies of a large array."""
    array = jax.random.normal(jax.random.key(0), (mebibytes * 2**18,))
    return 2 * array.nbytes / _fastest(jax.jit(lambda x: x + 1), array)


def _fastest(program: Any, *args: Any) -> float:
    def call() -> None:
        jax.block_until_ready(program(*args))

    call()
    return min(seconds_per_call(call) for _ in range(TIMES))
