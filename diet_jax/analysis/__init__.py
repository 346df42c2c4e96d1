"""What scores explain: tangent kernels, connected basins, and results as statistics."""

from diet_jax.analysis import connectivity, ntk

__all__ = ["connectivity", "ntk"]
