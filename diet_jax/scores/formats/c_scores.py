"""Consistency scores of Jiang, Zhang, Talwar and Mozer."""

from collections.abc import Iterable

from diet_jax.data.dataset import Dataset
from diet_jax.scores.formats.format import FORMATS, Asked, Format, Found, Peek, decoded, load_npz
from diet_jax.scores.formats.identity import rows_in_order


def recognises(looked: Peek) -> int:
    """By its two arrays, or three where images have names."""
    names = set(looked.names)
    return 2 * (names in ({"scores", "labels"}, {"scores", "labels", "filenames"}))


def read(looked: Peek, dataset: Dataset, asked: Asked) -> Iterable[Found]:
    """The C-scores: by the images' names where there are any, else in the order of the original files."""
    arrays = load_npz(looked.path, ("scores", "labels", *(n for n in looked.names if n == "filenames")))
    formula = "C-score: how often the label is predicted by networks that were trained without the example"
    if "filenames" in arrays:
        ids = decoded(arrays["filenames"], looked.path)
        yield Found("c_score", arrays["scores"], "easy", formula, "by filenames", ids=ids)
        return
    rows, matched = rows_in_order(dataset, asked.order or "original", str(looked.path))
    yield Found("c_score", arrays["scores"], "easy", formula, matched, rows=rows, labels=arrays["labels"])


C_SCORES = FORMATS.register(
    Format(
        name="c_scores",
        about=".npz with scores and labels, such as cifar10-cscores-orig-order.npz",
        reference="pluskid.github.io/structural-regularity",
        kind="npz",
        recognises=recognises,
        read=read,
        asks=("order",),
    )
)
