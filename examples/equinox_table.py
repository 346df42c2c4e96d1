"""An MLP in Equinox on a table, scikit-learn's breast cancer data, finds the labels that are wrong.

Command: python examples/equinox_table.py        (10 s on two cores; `pip install equinox` first)
"""

import equinox as eqx
import jax
import numpy as np
from sklearn.datasets import load_breast_cancer

import diet_jax as dj


class Mlp(eqx.Module):
    """As always in Equinox the call takes one example, here a row of the table, and returns its logits."""

    layers: list[eqx.nn.Linear]
    dropout: eqx.nn.Dropout

    def __init__(self, key):
        sizes, keys = ((30, 32), (32, 32), (32, 2)), jax.random.split(key, 3)
        self.layers = [eqx.nn.Linear(*size, key=one) for size, one in zip(sizes, keys, strict=True)]
        self.dropout = eqx.nn.Dropout(0.2)

    def __call__(self, x, *, key=None):
        for layer in self.layers[:-1]:
            x = jax.nn.relu(layer(x))
        return self.layers[-1](self.dropout(x, key=key))


def main() -> None:
    table = load_breast_cancer()
    rows = np.random.default_rng(0).permutation(len(table.target))

    def split(name, rows, normalization=None):
        ids = [f"patient-{row}" for row in rows]
        about = {"name": "breast_cancer", "split": name, "normalization": normalization}
        return dj.Dataset.from_arrays(table.data[rows], table.target[rows], ids, **about)

    clean = split("train", rows[:400])
    test = split("test", rows[400:], clean.normalization)  # By the training rows' mean and deviation.
    train, wrong = dj.flip_labels(jax.random.key(0), clean, 0.2, mode="different")
    print(train)

    model = dj.from_equinox(Mlp)
    config = dj.TrainConfig(epochs=60, batch_size=25, learning_rate=0.05, schedule="cosine", augment="none")
    scored = dj.score_ensemble(dj.seed_keys(0, "score", 5), model, train, config=config, epoch=5)
    el2n = scored.scores["el2n"].mean(axis=0)
    print(f"ROC AUC of EL2N for wrong labels: {dj.detection_quality(el2n, wrong).roc_auc:.3f}")

    keys = dj.seed_keys(0, "retrain", 5)  # Never the seeds that scored.
    for name, keep in {"everything": None, "without the hardest fifth": dj.keep_lowest(el2n, 0.8)}.items():
        trained = dj.train_ensemble(keys, model, train, test, config=config, keep=keep)
        print(f"{name}: test accuracy {(trained.predicted == test.labels).mean():.3f}")


if __name__ == "__main__":
    main()
