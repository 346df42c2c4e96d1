"""What is odd about a data set of pictures, in words: said when it is loaded."""

from collections.abc import Sequence

import numpy as np

from diet_jax.data.dataset import Splits
from diet_jax.data.decode import ALPHA, DEEP, FRAMES
from diet_jax.data.image_files import named
from diet_jax.data.reader import Background
from diet_jax.data.streaming.index import Part


def remarks(parts: Sequence[Part], splits: Splits, background: Background) -> list[str]:
    """Returns what was converted, and what no one should train on unknowingly; often nothing.

    Args:
        parts: what is known of the encoded images of the train and the test split.
        splits: the same as a data set, of which a few images are decoded.
        background: what transparent images were composed on.
    """
    traits = np.concatenate([part.traits for part in parts])
    found = [
        (
            ALPHA,
            f"with transparency: composed on {_colour(background)} (or folder:PATH,background=COLOUR)",
        ),
        (FRAMES, "with several frames or pages: the first one is read"),
        (DEEP, "with 16 bits per channel: the upper 8 are read"),
    ]
    said = [f"{_images(count)} {text}" for flag, text in found if (count := int(((traits & flag) > 0).sum()))]
    class_names = splits.train.class_names
    equal = _all_equal(splits)
    warnings = [equal] if equal else _duplicates(parts, class_names)
    warnings.append(_told_by_size(parts, class_names))
    return said + [f"warning: {text}" for text in warnings if text]


def empty_classes(splits: Splits) -> list[str]:
    """Returns what to say of classes without examples in a split; nothing where there are none."""
    if splits.train.class_names != splits.test.class_names:
        return []
    train, test = (np.bincount(split.labels, minlength=split.num_classes) > 0 for split in splits)
    found = (
        (train & ~test, "no test example (the test accuracy of a class without is not defined)"),
        (test & ~train, "no train example"),
        (~train & ~test, "no example at all"),
    )
    said = []
    for classes, what in found:
        names = [splits.train.class_names[c] for c in np.flatnonzero(classes).tolist()]
        have = "1 class has" if len(names) == 1 else f"{len(names):,} classes have"
        said += [f"{splits.train.name}: {have} {what}: {named(names)}"] if names else []
    return said


def _all_equal(splits: Splits) -> str:
    """Asks the normalisation, which was measured on all pixels: 1 stands in for a deviation of 0."""
    train = splits.train
    if set(train.normalization.std) != {1.0}:
        return ""
    some = train.images[: min(len(train), 64)]
    if (some != some[:1, :1, :1]).any():
        return ""
    values = ", ".join(str(value) for value in some[0, 0, 0].tolist())
    return f"all pixels of the train split are equal ({values}); nothing can be learned from them"


def _duplicates(parts: Sequence[Part], class_names: Sequence[str]) -> list[str]:
    """What to say of images that are the same byte for byte."""
    # 8 of the 16 bytes of a hash are enough to compare by.
    keys = [part.digests[:, :8].copy().view(np.uint64)[:, 0] for part in parts]
    distinct, first, place = np.unique(keys[0], return_index=True, return_inverse=True)
    total, different = len(keys[0]), len(distinct)
    shared = np.isin(keys[1], keys[0])
    if 2 * different < total:
        return [
            f"of {total:,} train images {different:,} are different, the rest are copies of them; "
            f"{int(shared.sum()):,} of {len(keys[1]):,} test images are in the train split too"
        ]
    labels, ids = parts[0].labels, parts[0].ids
    pairs = np.unique(np.stack([place.ravel(), labels], axis=1), axis=0)
    torn = (np.bincount(pairs[:, 0], minlength=different) > 1)[place]
    if torn.all() and shared.all():  # nothing can be learned or judged here: made to try a program out
        return []
    said = []
    if torn.any():
        # Copies side by side, in the order of the first of each.
        rows = sorted(np.flatnonzero(torn).tolist(), key=lambda row: (first[place[row]], row))
        said.append(
            f"{_images(int(torn.sum()))} of the train split are also under another class, byte for "
            f"byte: {named(f'{ids[row]} ({class_names[labels[row]]})' for row in rows)}"
        )
    if shared.any():
        rows = np.flatnonzero(shared).tolist()
        known = set(map(tuple, pairs.tolist()))
        where = np.searchsorted(distinct, keys[1][rows]).tolist()
        other = sum((key, parts[1].labels[row]) not in known for key, row in zip(where, rows, strict=True))
        said.append(
            f"{len(rows):,} of {len(shared):,} test images {'is' if len(rows) == 1 else 'are'} in the train "
            f"split too, byte for byte{f', {other:,} under another class' if other else ''}: "
            f"{named(str(parts[1].ids[row]) for row in rows)}"
        )
    return said


def _told_by_size(parts: Sequence[Part], class_names: Sequence[str]) -> str:
    sizes = np.concatenate([part.sizes for part in parts]).astype(np.int64)
    labels = np.concatenate([part.labels for part in parts])
    different, place, counts = np.unique(sizes, axis=0, return_inverse=True, return_counts=True)
    classes = np.unique(labels)
    # Where most sizes occur once each, every size belongs to one class and that means nothing.
    if len(different) < 2 or len(classes) < 2 or 2 * len(different) > len(labels):
        return ""
    pairs = np.unique(np.stack([place.ravel(), labels], axis=1), axis=0)
    if len(pairs) > len(different):
        return ""
    (h, w), first = different[np.argmax(counts)].tolist(), int(pairs[np.argmax(counts), 1])
    return (
        f"the size of an image tells its class: no size occurs in two classes, such as {h}x{w} (height x "
        f"width) in {class_names[first]!r} alone; a network can learn how images were resized instead of "
        "what they show"
    )


def _images(count: int) -> str:
    return f"{count:,} image{'s' * (count != 1)}"


def _colour(background: Background) -> str:
    return "white" if background == (255, 255, 255) else "#{:02x}{:02x}{:02x}".format(*background)
