"""Classes in a selection: how many of each are kept, which are lost, and what keeps some of each."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from diet_jax.checks.rows import checked_mask
from diet_jax.errors import InputError
from diet_jax.selection.groups import group_counts
from diet_jax.selection.rule import Rule
from diet_jax.types import Mask

# A class counts as far below its share where less than this part of what is due is kept, and so many are due.
PART_OF_SHARE = 0.25
DUE_AT_LEAST = 4.0
NAMED_AT_MOST = 5


def kept_per_class(keep: Any, labels: Any, num_classes: int) -> np.ndarray:
    """Returns how many examples of each class a mask keeps.

    Args:
        keep: bool `[n]`, or `[s n]` for one mask per seed; True = train on it.
        labels: int `[n]`.
        num_classes: how many classes there are, those without examples among them.

    Returns:
        int64 `[c]`, or `[s c]`.

    Raises:
        InputError: mask and labels differ in length.

    Example:
        >>> import numpy as np
        >>> kept_per_class(np.array([True, False, True]), [0, 1, 0], 3).tolist()
        [2, 0, 0]
    """
    labels = np.asarray(labels)
    masks = [checked_mask(mask, len(labels)) for mask in np.atleast_2d(np.asarray(keep))]
    counts = np.stack([np.bincount(labels[mask], minlength=num_classes) for mask in masks])
    return counts if np.ndim(keep) == 2 else counts[0]


def keep_some_of_each(
    choose: Callable[[np.ndarray, int], Mask], labels: Any, count: int, *, minimum: int
) -> np.ndarray:
    """Keeps `count` examples by a rule, and of every class at least `minimum`, or all that it has.

    A class of which the rule keeps fewer gets `minimum` examples, chosen by the same rule within the class;
    the rest is chosen by the rule among the other classes. With a minimum of 0 it is the rule.

    Args:
        choose: `(rows int [m], count) -> bool [m]`, the rule on some of the rows.
        labels: int `[n]`.
        count: how many are kept in all.
        minimum: of each class.

    Returns:
        bool `[n]`, exactly `count` are True.

    Raises:
        InputError: so many of each class are more than `count`.

    Example:
        >>> import numpy as np, diet_jax as dj
        >>> scores, labels = np.array([5.0, 4.0, 3.0, 2.0, 1.0, 0.0]), np.array([0, 0, 0, 0, 1, 1])
        >>> def highest(rows, count):
        ...     return dj.keep_highest(scores[rows], count / len(rows))
        >>> keep_some_of_each(highest, labels, 3, minimum=1).tolist()
        [True, True, False, False, True, False]
    """
    labels = np.asarray(labels)
    check_minimum(labels, count, minimum)
    there = np.bincount(labels)
    wanted = np.minimum(there, minimum)
    guarded = np.zeros(len(there), bool)
    chosen = np.zeros(len(labels), bool)
    while True:
        free = np.flatnonzero(~guarded[labels])
        keep = chosen.copy()
        left = count - int(np.count_nonzero(chosen))
        for rows in (free, np.flatnonzero(guarded[labels] & ~chosen)):
            taken = min(left, len(rows))
            if taken:
                keep[rows[choose(rows, taken)]] = True
            left -= taken
        short = np.flatnonzero(np.bincount(labels[keep], minlength=len(there)) < wanted)
        if not len(short):
            return keep
        for label in short:
            rows = np.flatnonzero(labels == label)
            chosen[rows[choose(rows, int(wanted[label]))]] = True
            guarded[label] = True


def keep_balanced(choose: Callable[[np.ndarray, int], Mask], labels: Any, count: int) -> np.ndarray:
    """Keeps `count` examples, of every class as many, or all that a smaller one has, by a rule within each.

    Args:
        choose: `(rows int [m], count) -> bool [m]`, the rule on the rows of one class.
        labels: int `[n]`.
        count: how many are kept in all; what does not divide comes from the largest classes.

    Returns:
        bool `[n]`, exactly `count` are True.

    Example:
        >>> import numpy as np, diet_jax as dj
        >>> scores, labels = np.array([5.0, 4.0, 3.0, 2.0, 1.0, 0.0]), np.array([0, 0, 0, 0, 1, 1])
        >>> def highest(rows, count):
        ...     return dj.keep_highest(scores[rows], count / len(rows))
        >>> keep_balanced(highest, labels, 4).tolist()
        [True, True, False, False, True, True]
    """
    labels = np.asarray(labels)
    there = np.bincount(labels)
    keep = np.zeros(len(labels), bool)
    by_class = np.split(np.argsort(labels, kind="stable"), np.cumsum(there)[:-1])
    for rows, taken in zip(by_class, group_counts(there, count).tolist(), strict=True):
        if taken:
            keep[rows[choose(rows, taken)]] = True
    return keep


def check_minimum(labels: Any, count: int, minimum: int) -> None:
    """Raises InputError where `minimum` examples of each class, or all that it has, are more than `count`."""
    there = np.bincount(labels)
    wanted = int(np.minimum(there, minimum).sum())
    most = count // max(np.count_nonzero(there), 1)
    if wanted > count:
        raise InputError(
            f"min_per_class {minimum} asks for {wanted} examples of {np.count_nonzero(there)} classes, the "
            f"keep fraction keeps {count}; " + (f"lower it to {most} or keep more" if most else "keep more")
        )


def check_by_class(rules: Sequence[Rule], min_per_class: int, balanced: bool) -> None:
    """Raises InputError where two things want to decide how many of each class are kept, or a rule cannot."""
    if balanced and min_per_class:
        raise InputError(f"balanced and min_per_class {min_per_class} both are of classes; choose one")
    for rule in rules if balanced or min_per_class else ():
        if rule.across_classes:
            asked = "balanced" if balanced else "min_per_class"
            raise InputError(
                f"the rule {rule.name} tells classes apart and cannot select within one; leave out {asked}"
            )
    for rule in rules if balanced else ():
        if "class_errors" in rule.reads:
            raise InputError(f"the rule {rule.name} has quotas of its own for classes; leave out balanced")


def check_balanced(rules: Sequence[Rule], labels: Any, count: int) -> None:
    """Raises InputError where a rule's options do not allow the share of a class that is kept balanced."""
    there = np.bincount(labels)
    for label, (size, taken) in enumerate(
        zip(there.tolist(), group_counts(there, count).tolist(), strict=True)
    ):
        for rule in rules if taken else ():
            try:
                rule.check_fraction(taken / size)
            except InputError as error:
                raise InputError(
                    f"balanced with the rule {rule.name} keeps {taken} of {size} examples of class {label}: "
                    f"{error}"
                ) from error


def balance_notes(keep: Any, labels: Any, class_names: Sequence[str]) -> list[str]:
    """Says which classes a selection lost, and of which it keeps far less than their share.

    Args:
        keep: bool `[n]`, or `[s n]` for one mask per seed.
        labels: int `[n]`.
        class_names: of all classes; those without examples in `labels` cannot be lost.

    Returns:
        At most two sentences without a full stop; none where every class has its share, or nearly.

    Example:
        >>> import numpy as np
        >>> labels = np.repeat([0, 1], 40)
        >>> balance_notes(labels == 1, labels, ("cat", "dog"))
        ['no example of 1 of 2 classes is kept: cat']
    """
    masks = np.atleast_2d(np.asarray(keep))
    there = np.bincount(labels, minlength=len(class_names))
    counts = kept_per_class(masks, labels, len(class_names))
    due = there * masks.mean(axis=1, keepdims=True)
    lost = (counts == 0) & (there > 0)
    few = ~lost & (due >= DUE_AT_LEAST) & (counts < PART_OF_SHARE * due)
    seeds = f" in {int(lost.any(axis=1).sum())} of {len(masks)} selections" if len(masks) > 1 else ""
    notes = []
    if lost.any():
        names = [class_names[c] for c in np.flatnonzero(lost.any(axis=0)).tolist()]
        number = int((there > 0).sum())
        classes = f"{number} classes" if number == len(class_names) else f"the {number} classes that have any"
        notes.append(f"no example of {len(names)} of {classes} is kept{seeds}: {_list(names)}")
    if few.any():
        classes = np.flatnonzero(few.any(axis=0)).tolist()
        seed = int(few.any(axis=1).argmax())
        names = [f"{class_names[c]} ({counts[seed, c]} instead of {due[seed, c]:.0f})" for c in classes]
        notes.append(f"kept far below their share: {_list(names)}")
    return notes


def _list(names: Sequence[str]) -> str:
    return ", ".join(names[:NAMED_AT_MOST]) + (", ..." if len(names) > NAMED_AT_MOST else "")
