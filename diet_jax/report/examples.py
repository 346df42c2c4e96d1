"""What the page holds of every example: id, labels, scores, what kept it, a picture or its first values."""

import json
from typing import Any

import numpy as np

from diet_jax.plotting.rows import ends_of
from diet_jax.plotting.style import styles_of
from diet_jax.report.columns import Columns
from diet_jax.report.joined import Joined
from diet_jax.report.thumbnails import make_thumbnails

# Values of an example that is no picture.
VALUES = 8


def add_examples(joined: Joined, columns: Columns) -> dict[str, Any]:
    """Adds the columns of all examples to a page, and returns what they are."""
    first, rows = joined.first, joined.shown
    if not len(rows):
        return {"count": 0, "of": 0, "scores": [], "selections": [], "class_names": list(first.class_names)}
    ids, said = first.ids[rows], []
    if len(rows) < len(first.ids):
        said.append(f"{len(rows):,} of {len(first.ids):,} examples, chosen evenly, are in this page")
    names = list(dict.fromkeys(file.name for run in joined.runs for file in run.files.values()))
    looks = styles_of(names)
    scores = [
        {
            "run": place,
            "name": file.name,
            "label": looks[file.name].label,
            "color": looks[file.name].color,
            "high_means": file.high_means,
            "ends": ends_of(file.high_means),
            "definition": str(file.provenance.get("definition", "")),
            "when": file.when,
            "values": columns.add(np.asarray(file.scores[rows], np.float32)),
        }
        for place, run in enumerate(joined.runs)
        for file in run.files.values()
    ]
    selections = [
        {
            "run": place,
            "kept_by": kept.kept_by,
            "fraction": kept.fraction,
            "by_seed": kept.file.keep.ndim == 2,
            "keep": columns.add(np.atleast_2d(kept.file.keep)[0][rows]),
        }
        for place, run in enumerate(joined.runs)
        for kept in run.kept
    ]
    return {
        "count": len(rows),
        "of": len(first.ids),
        "dataset": str(first.resolved.get("dataset", "")),
        "class_names": list(first.class_names),
        "labels": columns.add(first.labels[rows]),
        "clean": None
        if first.clean_labels is None
        else columns.add(first.clean_labels[rows].astype(np.int32)),
        "ids": columns.add_text(json.dumps(_exact(ids).tolist())),
        "scores": scores,
        "selections": selections,
        "said": said,
    }


def _exact(ids: np.ndarray) -> np.ndarray:
    """Ids as JavaScript keeps them: integers from 2^53 on, which it would round, as text."""
    if ids.dtype.kind in "iu" and ids.size and max(-int(ids.min()), int(ids.max())) >= 2**53:
        return ids.astype(str)
    return ids


def add_pictures(joined: Joined, columns: Columns, budget: int) -> dict[str, Any]:
    """Adds pictures of the examples to a page, or their first values, and returns what they are.

    Args:
        joined: the runs.
        columns: of the page.
        budget: bytes of the page that are left.
    """
    dataset, rows = joined.dataset, joined.shown
    if dataset is None or not len(rows):
        return {"kind": "none", "said": joined.first.without}
    if dataset.kind == "images":
        # Base64 has four letters for three bytes.
        made = make_thumbnails(dataset, rows, budget * 3 // 4)
        where = np.searchsorted(rows, made.rows)
        return {
            "kind": "images",
            "pieces": [columns.add_bytes(piece) for piece in made.pieces],
            "rows": columns.add(where.astype(np.int32)),
            "width": made.width,
            "height": made.height,
            "said": made.said,
        }
    size = int(np.prod(dataset.shape))
    shown = min(VALUES, size)
    values = np.stack([np.ravel(dataset.inputs[row])[:shown] for row in rows.tolist()])
    # Tokens as what they are: as float32 there would be no odd ones from 2^24 on.
    small = values.dtype.kind in "iub" and (not values.size or np.abs(values.astype(float)).max() < 2**31)
    said = f"all {size} values" if shown == size else f"the first {shown} of {size:,} values, as stored"
    said += "" if small else ", rounded to three digits"
    return {
        "kind": dataset.kind,
        "values": columns.add(values.astype(np.int32 if small else np.float32)),
        "shown": shown,
        "said": said,
    }
