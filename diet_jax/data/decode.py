"""One encoded image to pixels, and the images that are refused."""

import io
import zlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from diet_jax.data.image_files import printable
from diet_jax.data.reader import Background, Record
from diet_jax.errors import InputError

MODES = {1: "L", 3: "RGB", 4: "RGBA"}
"""Pillow's name of an 8-bit image by its number of channels."""

DEEP_GREY = ("I;16", "I;16L", "I;16B", "I;16N")
GREY = ("1", "L", "LA", "La", *DEEP_GREY)
COLOUR = ("P", "PA", "RGB", "RGBA", "RGBX", "RGBa", "CMYK", "YCbCr", "LAB", "HSV")
"""Pillow's names of all images with 8 bits per channel."""

ALPHA, FRAMES, DEEP = 1, 2, 4
"""What an image may have beside 8-bit pixels: transparency, several frames or pages, 16 bits per channel."""

_TURNS = (
    *("FLIP_LEFT_RIGHT", "ROTATE_180", "FLIP_TOP_BOTTOM"),
    *("TRANSPOSE", "ROTATE_270", "TRANSVERSE", "ROTATE_90"),
)
"""Pillow's names of what makes EXIF orientations 2..8 upright."""
_EXIF = {"exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp"}
_PNG_MARKS = (b"eXIf", b"type exif", b"tiff:Orientation")


class DamagedImageError(InputError):
    """Raised when an image cannot be decoded.

    Attributes:
        name: of the image.
        reason: what is wrong.
    """

    def __init__(self, name: str, reason: str) -> None:
        self.name, self.reason = name, reason
        super().__init__(f"image {printable(name)} is damaged or no image: {reason}; repair or remove it")

    def __reduce__(self) -> tuple[Any, ...]:
        return DamagedImageError, (self.name, self.reason)


class Header(NamedTuple):
    """What is known of an image without decoding it."""

    size: tuple[int, int]
    """Height and width."""
    mode: str
    """Pillow's name of the kind of pixel."""
    traits: int
    """Sum of `ALPHA`, `FRAMES` and `DEEP`."""


def decode(
    record: Record,
    channels: int,
    cut: Callable[[Any], Any] | None = None,
    *,
    background: Background | None = None,
) -> np.ndarray:
    """Returns the pixels of an image, uint8 `[h w channels]`; one of another kind is converted.

    `cut` makes the part that is wanted out of a Pillow image; by default all is. With a `background` the
    image is a picture as people have them: it is turned upright as its EXIF orientation says, of several
    frames the first is taken, of 16 bits the upper 8, and what is transparent is composed on that colour.
    Without one, the pixels are those that are stored.

    Raises:
        InputError: it is damaged or no image.
    """

    def pixels(image: Any) -> np.ndarray:
        if background is not None:
            image = _as_seen(image, background)
        image = image if image.mode == MODES[channels] else image.convert(MODES[channels])
        return np.asarray(image if cut is None else cut(image))

    image = _opened(record, pixels)
    return image.reshape(*image.shape[:2], channels)


def header(record: Record, *, upright: bool) -> Header:
    """Returns what is known of an image without decoding it; `upright` after its EXIF orientation."""

    def look(image: Any) -> Header:
        if image.format == "PNG":
            _check_png(record.content)
        deep, mode = _is_deep(image), image.mode
        turned = upright and _orientation(image, record.content) >= 5
        traits = ALPHA * bool(image.has_transparency_data) + DEEP * deep
        size = (image.width, image.height) if turned else (image.height, image.width)
        mode = DEEP_GREY[0] if deep and mode == "I" else mode
        return Header(size, mode, traits + FRAMES * bool(getattr(image, "is_animated", False)))

    return _opened(record, look)


def encoding(record: Record) -> str:
    """Returns Pillow's name of the format that an image is stored in, such as "PNG" or "JPEG"."""
    return _opened(record, lambda image: image.format or "")


def _as_seen(image: Any, background: Background) -> Any:
    from PIL import Image

    deep = _is_deep(image)
    # Pillow would look for a colour of 16 bits among its 8.
    clear = image.info.pop("transparency", None) if deep and image.format == "PNG" else None
    low = _low_bytes(image) if clear is not None and image.mode == "RGB" else None
    image.load()
    orientation = _orientation(image)
    values = np.asarray(image).astype(np.int32) if deep else np.empty(0, np.int32)
    if deep and image.mode.startswith("I"):
        image = Image.fromarray((values >> 8).astype(np.uint8))
    if clear is not None:
        same = values == clear if low is None else ((values << 8) + low == clear).all(axis=-1)
        image.putalpha(Image.fromarray(np.where(same, 0, 255).astype(np.uint8)))
    if orientation != 1:
        image = image.transpose(Image.Transpose[_TURNS[orientation - 2]])
    if image.has_transparency_data:
        ground = Image.new("RGBA", image.size, (*background, 255))
        image = Image.alpha_composite(ground, image.convert("RGBA")).convert("RGB")
    return image


def _low_bytes(image: Any) -> np.ndarray:
    """The lower 8 of the 16 bits of a PNG in colour: in the other order of bytes Pillow keeps these."""
    from PIL import Image

    with Image.open(io.BytesIO(image.fp.getvalue())) as again:
        again.tile = [tile._replace(args="RGB;16L") for tile in again.tile]
        return np.asarray(again).astype(np.int32)


def _is_deep(image: Any) -> bool:
    """Whether an image that is not decoded yet has 16 bits per channel, some of which Pillow reads as 8."""
    if image.mode.startswith("I"):
        return image.mode in DEEP_GREY or image.format in ("PNG", "PPM")
    return bool(image.tile) and ";16" in str(image.tile[0][3])


def _check_png(content: bytes) -> None:
    """Raises ValueError where a checksum is not that of the pixels, which Pillow does not compare."""
    start = 8
    while start + 12 <= len(content):
        end = start + 8 + int.from_bytes(content[start : start + 4])
        kind = content[start + 4 : start + 8]
        if kind in (b"IDAT", b"PLTE", b"tRNS"):
            found = zlib.crc32(content[start + 4 : end]).to_bytes(4)
            if found != content[end : end + 4]:
                raise ValueError(f"the checksum of its part {kind.decode()} is wrong")
        start = end + 4


def _orientation(image: Any, content: bytes = b"") -> int:
    """1..8; 1 is upright. TIFF files are turned by Pillow itself. `content` of what is not decoded yet."""
    # A PNG may have it behind its pixels, and asking Pillow decodes them: only where there is something.
    hidden = image.format == "PNG" and any(mark in content for mark in _PNG_MARKS)
    if image.format == "TIFF" or not (hidden or image.info.keys() & _EXIF):
        return 1
    try:
        found = image.getexif().get(0x0112, 1)
    except Exception:  # damaged EXIF leaves the pixels as they are
        return 1
    return found if found in range(1, 9) else 1


def _opened(record: Record, look: Callable[[Any], Any]) -> Any:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(record.content)) as image:
            return look(image)
    except Exception as error:  # Pillow raises OSError, SyntaxError, ValueError, struct.error and more
        reason = str(error)
        if not record.content:
            reason = "the file is empty"
        elif isinstance(error, UnidentifiedImageError):
            reason = "in no format that Pillow knows"
        raise DamagedImageError(record.name, reason) from error


def different_sizes(
    first: str, first_size: Sequence[int], second: str, second_size: Sequence[int]
) -> InputError:
    """The error for two images of different height and width, the first numbers of their sizes."""
    return InputError(
        f"images must all have one size: {printable(first)} is {first_size[0]}x{first_size[1]} (height x "
        f"width), {printable(second)} is {second_size[0]}x{second_size[1]}; resize them first, or let "
        f"--data.streaming --data.image-size SIZE do it"
    )
