"""The page: one HTML file with its style, its scripts, their checksums, and its data."""

import base64
import hashlib
import html
import json
import math
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import diet_jax
from diet_jax.report.columns import Columns
from diet_jax.report.contents import Contents
from diet_jax.report.examples import add_examples, add_pictures
from diet_jax.report.joined import join
from diet_jax.report.sections import SECTIONS

PAGE = Path(__file__).parent / "page"
# What all sections use, from the ground up; then a script of each section, and what puts them together.
SCRIPTS = ("dom", "columns", "colors", "charts", "examples", "pictures", "choice", "gallery", "scatter")
# Bytes of a page with everything in it.
BUDGET = 14_800_000


def make_page(runs: Sequence[Contents]) -> str:
    """Returns the report of one run, or of several of the same examples side by side.

    The page opens without a network, and asks for nothing: its content policy allows the scripts in it, by
    their checksums, and pictures that it holds itself.

    Raises:
        InputError: two runs are of different examples.
    """
    joined = join(runs)
    columns = Columns()
    names = [run.name for run in joined.runs]
    data: dict[str, Any] = {
        "title": ", ".join(names),
        "version": diet_jax.__version__,
        "runs": [_facts(run) for run in joined.runs],
        "examples": add_examples(joined, columns),
        "sections": [],
    }
    for section in SECTIONS:
        built = section.build(joined)
        if built is not None:
            data["sections"].append({"name": section.name, "title": section.title, "data": built})
    bokeh = [_bokeh("bokeh"), _bokeh("bokeh-api")]
    own = "\n".join(
        (PAGE / f"{name}.js").read_text(encoding="utf-8")
        for name in (*SCRIPTS, *(section.name for section in SECTIONS), "main")
    )
    style = (PAGE / "report.css").read_text(encoding="utf-8")
    spent = columns.size + sum(map(len, (*bokeh, own, style))) + len(_json(data))
    data["pictures"] = add_pictures(joined, columns, max(0, BUDGET - spent))
    policy = (
        "default-src 'none'; script-src "
        + " ".join(f"'sha256-{checksum(script)}'" for script in (*bokeh, own))
        + "; style-src 'unsafe-inline'; img-src data: blob:; base-uri 'none'; form-action 'none'"
    )
    parts = {
        "POLICY": policy,
        "TITLE": html.escape(f"{data['title']} · diet_jax report"),
        "STYLE": style,
        "BOKEH_VERSION": metadata.version("bokeh"),
        "BLOBS": "\n".join(
            f'<script type="text/plain" id="blob-{place}">{text}</script>'
            for place, text in enumerate(columns.texts)
        ),
        "DATA": _json(data),
        "BOKEH": "\n".join(f"<script>{script}</script>" for script in bokeh),
        "SCRIPT": f"<script>{own}</script>",
    }
    text = (PAGE / "report.html").read_text(encoding="utf-8")
    # One pass: what one part says can be no other part's place.
    pieces = text.split("%%")
    return "".join(parts[piece] if place % 2 else piece for place, piece in enumerate(pieces))


def checksum(script: str) -> str:
    """SHA-256 of a script as content policies write it."""
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _facts(run: Contents) -> dict[str, Any]:
    config = run.config
    return {
        "name": run.name,
        "dataset": str(run.resolved.get("dataset", "")),
        "kind": run.resolved.get("kind", ""),
        "model": str(config.get("model", {}).get("name", "")),
        "examples": run.resolved.get("train_examples"),
        "test_examples": run.resolved.get("test_examples"),
        "changed": 0 if run.changed is None else int(run.changed.sum()),
        "score_step": run.resolved.get("score_step"),
        "steps": run.resolved.get("steps"),
        "score_seeds": config.get("score", {}).get("num_seeds"),
        "retrain_seeds": config.get("retrain", {}).get("num_seeds"),
        "unfinished": run.unfinished,
        "notes": run.notes,
    }


def _bokeh(name: str) -> str:
    """A script of the installed Bokeh. What would end a script element cannot be in it."""
    import bokeh

    path = Path(bokeh.__file__).parent / "server" / "static" / "js" / f"{name}.min.js"
    text = path.read_text(encoding="utf-8")
    # Where its source map is, which no page here asks for.
    return text.partition("//# sourceMappingURL")[0].replace("</script", "<\\/script")


def _json(value: Any) -> str:
    """JSON that can stand in a script element: nothing in it is taken for HTML."""
    text = json.dumps(_finite(value), ensure_ascii=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _finite(value: Any) -> Any:
    """The value with None for numbers that JSON does not have."""
    if isinstance(value, dict):
        return {str(name): _finite(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
