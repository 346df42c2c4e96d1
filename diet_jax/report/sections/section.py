"""What a section of the report is."""

from collections.abc import Callable
from typing import Any, NamedTuple

from diet_jax.report.joined import Joined


class Section(NamedTuple):
    """One section: a file here that says what it is made of, and one in `page/` that draws it.

    Attributes:
        name: of its anchor, of its part of the page's data, and of its script `page/NAME.js`.
        title: its heading.
        build: returns what the script draws, JSON values; None where the runs have nothing of the kind.
    """

    name: str
    title: str
    build: Callable[[Joined], dict[str, Any] | None]
