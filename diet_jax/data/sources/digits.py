"""The embedded data set: 1,797 scanned handwritten digits that scikit-learn ships."""

from typing import Any

import numpy as np

from diet_jax.data.dataset import Dataset, Splits
from diet_jax.data.sources.source import SOURCES, Source

TEST_SHARE = 0.4
SPLIT_SEED = 0
"""The split never changes: 1,078 training and 719 test digits, each class in proportion."""


def load_digits(**_: Any) -> Splits:
    """Loads scikit-learn's 8x8 digits; ids are row numbers in scikit-learn's order.

    Returns:
        Train (1,078) and test (719), uint8 `[n 8 8 1]` with values 0..16, rows by ascending id.

    Example:
        >>> len(load_digits().train), len(load_digits().test)
        (1078, 719)
    """
    import sklearn.datasets
    from sklearn.model_selection import train_test_split

    digits: Any = sklearn.datasets.load_digits()
    images, labels = digits["images"].astype(np.uint8), digits["target"]
    train_rows, test_rows = train_test_split(
        np.arange(len(labels)), test_size=TEST_SHARE, stratify=labels, random_state=SPLIT_SEED
    )

    def split(rows: Any, split_name: str, train: Dataset | None) -> Dataset:
        rows = np.sort(rows)
        return Dataset.from_arrays(
            images[rows],
            labels[rows],
            rows,
            num_classes=10,
            name="digits",
            split=split_name,
            normalization=train.normalization if train else None,
            id_source="row number in scikit-learn's load_digits",
        )

    train = split(train_rows, "train", None)
    return Splits(train, split(test_rows, "test", train))


SOURCES.register(
    Source(
        name="digits",
        about="1,797 scanned digits of 8x8 pixels, small and embedded: ships with scikit-learn",
        load=load_digits,
    )
)
