"""What goes between processes: values come back as they were, and nothing that could run goes through."""

import ast
from pathlib import Path

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

import diet_jax
from diet_jax.devices.messages import packed_message, unpacked_message

VALUES = [
    None,
    True,
    3,
    -(2**70),
    0.1,
    float("inf"),
    "line\nÄ",
    b"\x00\xff",
    [1, [2, (3, "x")], []],
    {"a": None, 3: {"b": [b"", ()]}, "list": ["dict", "array"]},
]
ARRAYS = [
    np.arange(6, dtype=np.float32).reshape(2, 3)[:, ::-1],
    np.arange(3, dtype=">i4"),
    np.zeros((0, 3), np.uint8),
    np.array(True),
    np.float64(0.1),
    np.array(["a", "Äb"]),
    np.array([1.5, np.nan], ml_dtypes.bfloat16),
    jnp.arange(3),
]


@pytest.mark.parametrize("value", VALUES, ids=str)
def test_plain_values_come_back(value):
    found = unpacked_message(packed_message(value))
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize("array", ARRAYS, ids=lambda a: f"{a.dtype}{a.shape}")
def test_arrays_come_back(array):
    first, (found, last) = unpacked_message(packed_message([b"before", ({"a": array}, "after")]))
    assert (first, last) == (b"before", "after")
    assert (found["a"].dtype, found["a"].shape) == (array.dtype, array.shape)
    assert found["a"].tobytes() == np.asarray(array).tobytes()
    assert found["a"].flags.writeable


@pytest.mark.parametrize(
    "value", [object(), {1, 2}, np.array([None]), print, Path("x")], ids=lambda value: type(value).__name__
)
def test_anything_else_is_refused(value):
    with pytest.raises(TypeError, match="from process to process"):
        packed_message({"a": [value]})


def test_nothing_in_the_package_unpickles():
    for path in Path(diet_jax.__file__).parent.rglob("*.py"):
        names = {
            alias.name
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, (ast.Import, ast.ImportFrom))
            for alias in [*node.names, ast.alias(getattr(node, "module", None) or "")]
        }
        assert not names & {"pickle", "dill", "cloudpickle", "shelve", "marshal"}, path
