"""Arrays with the facts that they belong to, in one file that is written whole or not at all."""

import hashlib
import io
import json
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from diet_jax.errors import InputError
from diet_jax.files.digests import arrays_digest
from diet_jax.files.writing import write_atomically

MADE_AGAIN = "delete it: the same command makes it again"
# What NumPy, zipfile, zlib and json raise on a file that is not what it was.
DAMAGE = (
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    EOFError,
    RuntimeError,  # zipfile: encrypted, an unknown compression; json: nested too deeply
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)


class DamagedFile(InputError):
    """Raised where a file is missing or not as it was written.

    Args:
        what: is wrong, with the path; kept for who knows a better remedy.
        remedy: what to do.
    """

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(f"{what}; {remedy}")
        self.what = what


def packed(kind: str, arrays: dict[str, np.ndarray], facts: dict[str, Any]) -> bytes:
    """Returns arrays and JSON facts as the contents of one .npz: the same bytes for the same values."""
    buffer = io.BytesIO()
    # Their names too: a damaged directory of a zip file may lack one.
    about = {"format": _format(kind), "arrays": sorted(arrays), **facts}
    header = json.dumps({**about, "checksum": _checksum(about, arrays)}, sort_keys=True)
    np.savez_compressed(buffer, header=np.array(header), **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


_MADE_FROM = {("scores", "keep"): "diet-jax select makes a mask of scores"}
"""What makes a file of the second kind out of one of the first, where anything does."""


def _format(kind: str) -> str:
    return f"diet_jax {kind} 2"


def _checksum(about: dict[str, Any], arrays: dict[str, np.ndarray]) -> str:
    """SHA-256 of facts and arrays together: an array of another file, sound by itself, does not fit."""
    text = json.dumps(json.loads(json.dumps(about)), sort_keys=True)
    return hashlib.sha256(f"{text} {arrays_digest(arrays)}".encode()).hexdigest()


def save_arrays(path: Any, kind: str, arrays: dict[str, np.ndarray], facts: dict[str, Any]) -> None:
    """Writes arrays and JSON facts as one .npz, whole or not at all."""
    write_atomically(path, packed(kind, arrays, facts))


def kind_of(path: Any) -> str | None:
    """Returns the kind of a file of `save_arrays`, such as "scores"; None of any other file or none."""
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
            words = json.loads(str(archive["header"]))["format"].split(" ")
    except (*DAMAGE, OSError):
        return None
    return " ".join(words[1:-1]) if words[0] == "diet_jax" else None


def load_arrays(
    path: Any,
    kind: str,
    names: tuple[str, ...] | None,
    known: tuple[str, ...] = (),
    made_by: str = "",
    remedy: str = "",
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Reads what `save_arrays` wrote, and verifies its checksum of all arrays and facts.

    Args:
        path: of the file.
        kind: what it must be.
        names: arrays to read; None reads all.
        known: facts that must be there; with any, no others are returned.
        made_by: code that makes such a file of bare arrays, for messages.
        remedy: what to do about a damaged file; by default to make it again.

    Raises:
        InputError: the file is missing, damaged or of another kind.
    """
    if not Path(path).is_file():
        raise InputError(f"no file {path}")
    again = remedy or f"make it again{made_by and ' by '}{made_by}"
    try:
        # np.load leaves a file that it opened itself open when the archive is damaged.
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
            if "header" not in archive:
                raise DamagedFile(
                    f"{path} is no diet_jax file: it has the arrays {', '.join(archive)} without what they "
                    f"belong to",
                    again,
                )
            facts = dict(json.loads(str(archive["header"])))
            # Also those that are not asked for: a damaged file is damaged whoever reads it.
            arrays = {name: archive[name] for name in archive if name != "header"}
            is_kind = facts["format"] == _format(kind)
            if is_kind and facts.pop("checksum") != _checksum(facts, arrays):
                raise ValueError("its checksum is another")
            if sorted(arrays) != facts.pop("arrays"):
                raise KeyError("an array is missing")
            if is_kind and names is not None:
                arrays = {name: arrays[name] for name in names}
    except InputError:
        raise
    except (*DAMAGE, OSError) as error:
        raise DamagedFile(f"{path} is damaged or no diet_jax file ({type(error).__name__})", again) from error
    if not is_kind:
        other = facts["format"].removeprefix("diet_jax ").rsplit(" ", 1)[0]
        if other != kind:
            again = _MADE_FROM.get((other, kind), f"give a file of {kind}")
        raise InputError(f"{path} is a '{facts['format']}' file, expected '{_format(kind)}'; {again}")
    missing = [name for name in known if name not in facts]
    if missing:
        raise DamagedFile(f"{path} is damaged: it does not say its {', '.join(missing)}", again)
    return arrays, {name: facts[name] for name in known or facts}


def load_checked(
    path: Any, kind: str, names: tuple[str, ...] | None, facts: dict[str, Any]
) -> dict[str, np.ndarray]:
    """Reads arrays that the same command makes again where they are gone, and whose facts must be these.

    Raises:
        InputError: as `load_arrays`, or a fact differs.
    """
    arrays, stored = load_arrays(path, kind, names, remedy=MADE_AGAIN)
    wrong = [
        f"{name} is {_brief(stored.get(name))}, not {_brief(value)}"
        for name, value in facts.items()
        if stored.get(name) != value
    ]
    if wrong:
        raise DamagedFile(f"{path} is not of this run ({'; '.join(wrong)})", MADE_AGAIN)
    return arrays


def _brief(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
