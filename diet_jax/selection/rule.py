"""What a selection rule is: from scores to a keep mask. Every rule is registered where it is defined."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from diet_jax.checks.arrays import plain_array
from diet_jax.checks.calls import calling
from diet_jax.checks.values import check_key, check_number
from diet_jax.errors import InputError, counted
from diet_jax.options.registry import Registry
from diet_jax.options.typed import check_types
from diet_jax.selection.beside import BESIDE, checked_beside
from diet_jax.selection.masks import num_kept
from diet_jax.types import THREEFRY, PRNGKey

# Ties are broken by random bits from this key unless the caller brings one.
DEFAULT_TIE_SEED = 0


@dataclass(frozen=True)
class Rule:
    """A selection rule: which share of the examples is kept, given one score of each or several.

    Attributes:
        name: in configs, files and on the command line.
        words: what it does, after "keep", such as "the highest scores".
        reference: where it was proposed.
        select: `(scores, ..., fraction, *, key, **options) -> bool [n]`, a vector float `[n]` for each of the
            `num_scores`; `key` decides between equal scores. Exactly `num_kept(n, fraction)` are kept.
        num_scores: how many scores it reads.
        options: a frozen dataclass with the defaults of its own options, or None; its fields are keyword
            arguments of `select`, and options of config and command line.
        check: `(fraction, **options)`, raises InputError where they do not fit; called before anything runs.
        about: `(**options) -> str`, what a reader of the result must know; by default its name.
        across_classes: whether it must see several classes at once, and so cannot select within one.
        risky_up_to: the keep fraction up to which published comparisons see it below random subsets; see
            `selection/risk.py`.

    Example:
        >>> import numpy as np, diet_jax as dj
        >>> def middle(scores, fraction, *, key):
        ...     return dj.keep_window(scores, fraction, offset=(1 - fraction) / 2, key=key)
        >>> rule = dj.Rule(name="middle", words="the middle of the scores", reference="none", select=middle)
        >>> rule(np.arange(4.0), fraction=0.5).tolist()
        [False, True, True, False]
    """

    name: str
    words: str
    reference: str
    select: Callable[..., np.ndarray]
    num_scores: int = 1
    reads: tuple[str, ...] = ()
    options: Any = None
    check: Callable[..., Any] | None = None
    about: Callable[..., str] | None = None
    across_classes: bool = False
    risky_up_to: float = 0.0

    def __post_init__(self) -> None:
        check_types(self)
        if not self.name.isidentifier():
            raise InputError(f"the name of a rule must be letters, digits and _, got {self.name!r}")
        if self.options is not None and not (
            dataclasses.is_dataclass(self.options) and self.options.__dataclass_params__.frozen  # type: ignore[attr-defined]
        ):
            raise InputError(f"{self.name}: options must be a frozen dataclass, got {self.options!r}")
        if unknown := set(self.reads) - set(BESIDE):
            raise InputError(
                f"{self.name}: reads must be of {', '.join(BESIDE)}; got {', '.join(sorted(unknown))}"
            )
        least = 0 if {"labels", "features"} & set(self.reads) else 1
        if self.num_scores < least:
            raise InputError(f"{self.name}: num_scores must be at least {least}, got {self.num_scores}")

    @property
    def chosen(self) -> dict[str, Any]:
        """The values of its options by name."""
        return {} if self.options is None else dict(vars(self.options))

    def __call__(
        self,
        *scores: Any,
        fraction: float,
        key: PRNGKey | None = None,
        labels: Any = None,
        features: Any = None,
        class_errors: Any = None,
    ) -> np.ndarray:
        """Returns the keep mask bool `[n]`.

        Args:
            scores: float `[n]`, as many as the rule reads.
            fraction: share to keep, above 0 and at most 1.
            key: decides between equal scores, and whatever the rule draws; a fixed key by default.
            labels: int `[n]`, if the rule reads them; what it does not read is left alone.
            features: float `[n d]`, if the rule reads them.
            class_errors: float `[c]`, if the rule reads them.

        Raises:
            InputError: another number of scores, something that the rule reads is not given or does not fit,
                or what the rule's function refuses.
        """
        if len(scores) != self.num_scores:
            raise InputError(
                f"the rule {self.name} reads {counted(self.num_scores, 'score')}, got {len(scores)}"
            )
        self.check_fraction(fraction)
        key = jax.random.key(DEFAULT_TIE_SEED, impl=THREEFRY) if key is None else check_key(key)
        given = {"labels": labels, "features": features, "class_errors": class_errors}
        beside = checked_beside(self.name, self.reads, given, len(scores[0]) if scores else None)
        # Copies: a rule that writes into its scores changes neither those of the next fraction nor a figure.
        own = [np.array(one) for one in scores]
        shape = np.shape(scores[0]) if scores else next(iter(beside.values())).shape[:1]
        with calling(f"the rule {self.name}"):
            found = self.select(*own, fraction, key=key, **beside, **self.chosen)
            keep = plain_array(found, f"the mask of the rule {self.name}")
        if keep.shape != shape or keep.dtype != bool:
            raise InputError(
                f"the rule {self.name} must return a mask bool {shape}, got {keep.dtype} of shape "
                f"{keep.shape}"
            )
        count = num_kept(len(keep), fraction)
        if np.count_nonzero(keep) != count:
            raise InputError(
                f"the rule {self.name} must keep {count} of {len(keep)} examples for the keep fraction "
                f"{fraction:g}, it keeps {np.count_nonzero(keep)}: no selection shrinks or grows silently"
            )
        return keep

    def check_fraction(self, fraction: float) -> None:
        """Raises InputError unless the rule's options allow a keep fraction."""
        check_number(fraction, "keep fraction", above=0, most=1)
        if self.check is not None:
            self.check(fraction, **self.chosen)

    def with_options(self, options: Any) -> "Rule":
        """Returns the rule with other options, an object like `options`."""
        if type(options) is not type(self.options):
            raise InputError(
                f"options of {self.name} must be {type(self.options).__name__}, got {type(options).__name__}"
            )
        return dataclasses.replace(self, options=options)

    def describe(self) -> str:
        """Returns what a reader of the result must know; "" if there is nothing unusual."""
        return self.about(**self.chosen) if self.about is not None else f"kept by the rule {self.name}"


RULES: Registry[Rule] = Registry("selection rule", package="diet_jax.selection")
"""All selection rules by name."""
