"""Datasets whose rows keep their identity, their augmentation, their noise, and where they come from."""

from diet_jax.data import noise

__all__ = ["noise"]
