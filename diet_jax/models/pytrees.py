"""Modules that are pytrees, as plain dictionaries of arrays by path: what optimisers and checkpoints take."""

from typing import Any

import jax


def by_path(tree: Any) -> dict[str, Any]:
    """Returns the leaves of a pytree by their paths, such as `{"layers/0/weight": array}`.

    Example:
        >>> by_path({"layers": [1, 2]})
        {'layers/0': 1, 'layers/1': 2}
    """
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def like(tree: Any, leaves: dict[str, Any]) -> Any:
    """Returns a pytree of the structure of `tree` with the leaves of `by_path`.

    Example:
        >>> like({"layers": [1, 2]}, {"layers/1": "b", "layers/0": "a"})
        {'layers': ['a', 'b']}
    """
    return jax.tree.unflatten(jax.tree.structure(tree), [leaves[path] for path in by_path(tree)])
