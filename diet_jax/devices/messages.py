"""Values as bytes and back, for other processes: JSON for what they are, raw bytes for arrays, never code.

What comes from another process is data: nothing that is read here can run anything.
"""

import json
import struct
from typing import Any

import jax
import numpy as np

_LENGTH = struct.Struct("<Q")


def packed_message(value: Any) -> bytes:
    """Returns a value as bytes.

    Args:
        value: None, booleans, numbers, text, bytes, arrays of numbers or text, and lists, tuples and
            dictionaries of these.

    Raises:
        TypeError: it holds anything else.
    """
    parts: list[bytes] = []
    structure = json.dumps(_described(value, parts)).encode()
    return b"".join((_LENGTH.pack(len(structure)), structure, *parts))


def unpacked_message(message: bytes) -> Any:
    """Returns the value of which `packed_message` made bytes; JAX arrays come back as NumPy arrays."""
    (length,) = _LENGTH.unpack_from(message)
    begin = _LENGTH.size + length
    return _built(json.loads(message[_LENGTH.size : begin]), memoryview(message)[begin:])


def _described(value: Any, parts: list[bytes]) -> Any:
    """The value as JSON: plain ones as they are, others as a list of a word for the kind and its contents."""
    if value is None or type(value) in (bool, int, float, str):
        return value
    kind = type(value)
    if kind in (list, tuple):
        return [kind.__name__, [_described(each, parts) for each in value]]
    if kind is dict:
        return ["dict", [[_described(k, parts), _described(v, parts)] for k, v in value.items()]]
    if kind is bytes:
        return ["bytes", *_placed(value, parts)]
    if isinstance(value, (np.ndarray, np.generic, jax.Array)):
        array = np.asarray(value)
        if not array.dtype.hasobject and array.dtype.names is None:
            # NumPy has no code for bfloat16 and its like.
            name = array.dtype.name if array.dtype.kind == "V" else array.dtype.str
            return ["array", name, array.shape, *_placed(array.tobytes(), parts)]
    raise TypeError(f"{kind.__name__} is nothing that goes from process to process")


def _placed(content: bytes, parts: list[bytes]) -> tuple[int, int]:
    begin = sum(map(len, parts))
    parts.append(content)
    return begin, begin + len(content)


def _built(described: Any, content: memoryview) -> Any:
    if not isinstance(described, list):
        return described
    kind, *of = described
    if kind == "array":
        name, shape, begin, end = of
        return np.ndarray(shape, np.dtype(name), bytearray(content[begin:end]))
    if kind == "bytes":
        return bytes(content[slice(*of)])
    if kind == "dict":
        return {_built(k, content): _built(v, content) for k, v in of[0]}
    values = [_built(each, content) for each in of[0]]
    return tuple(values) if kind == "tuple" else values
