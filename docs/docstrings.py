"""A Griffe extension: headings of docstrings that mkdocstrings would take for text or for a remark."""

import re
from typing import Any

from griffe import Extension, Object


class Headings(Extension):
    """`Example:` is a section whose prompts are code; `Paper: ...` is a paragraph with a bold first word."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        if obj.docstring is None:
            return
        text = re.sub(r"^Example:$", "Examples:", obj.docstring.value, flags=re.MULTILINE)
        obj.docstring.value = re.sub(r"^Paper: ", "**Paper:** ", text, flags=re.MULTILINE)
