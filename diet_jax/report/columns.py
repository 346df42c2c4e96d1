"""Arrays as text within a page: little-endian, deflated, in base64."""

import base64
import zlib
from typing import Any

import numpy as np

# By the kind of a NumPy dtype, what the page holds it as. Scores were made as float32.
DTYPES = {"f": "<f4", "i": "<i4", "u": "<u4", "b": "|u1"}


class Columns:
    """Collects the arrays of a page; what refers to one holds what `add` returns."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def add(self, array: np.ndarray) -> dict[str, Any]:
        """Adds numbers of any shape, and returns where the page finds them: JSON values.

        Booleans are packed, eight in a byte, the first in the lowest bit. Names are their JSON.
        """
        if array.dtype == bool:
            data, kind = np.packbits(array.ravel(), bitorder="little"), "bits"
        elif array.dtype == np.uint8:
            data, kind = array, "u1"
        else:
            data = array.astype(DTYPES[array.dtype.kind])
            kind = data.dtype.str[1:]
        # First all first bytes, then all second ones: exponents beside exponents take half the room.
        planes = np.ascontiguousarray(data).reshape(-1).view(np.uint8).reshape(-1, data.itemsize).T
        content = zlib.compress(np.ascontiguousarray(planes).tobytes(), 6)
        return self.add_bytes(content) | {"kind": kind, "count": int(array.size)}

    def add_text(self, text: str) -> dict[str, Any]:
        """Adds a long text."""
        return self.add_bytes(zlib.compress(text.encode(), 6)) | {"kind": "text"}

    def add_bytes(self, content: bytes) -> dict[str, Any]:
        """Adds bytes as they are, such as a picture."""
        self.texts.append(base64.b64encode(content).decode("ascii"))
        return {"blob": len(self.texts) - 1, "kind": "bytes"}

    @property
    def size(self) -> int:
        """Bytes in the page, so far."""
        return sum(map(len, self.texts))
