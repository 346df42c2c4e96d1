# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     notebook_metadata_filter: -jupytext.text_representation.jupytext_version
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Wrong labels
#
# High scores point at examples that the network cannot fit yet, and none is as hard to fit as one with a
# wrong label. That is useful twice: the scores find wrong labels, and a pruning rule must not keep them. Here
# a fifth of the digits gets another label, and we look for them, first with the answer at hand and then
# without.
#
# All of it took 29 to 87 seconds on two CPU cores, which were shared with other work.

# %%
# On Colab, with the repository there, run in a cell of its own first: %pip install ./diet_jax
import os

import jax
import matplotlib.pyplot as plt
import numpy as np

import diet_jax as dj
from diet_jax.plotting import draw_result

TINY = "DIET_JAX_TINY" in os.environ  # The tests run this notebook with fewer seeds and epochs.
NUM_SEEDS, EPOCHS = (2, 10) if TINY else (8, 40)
OFFSETS = (0.0, 0.3, 0.6) if TINY else (0.0, 0.1, 0.2, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6)
FRACTION = 0.4  # What a window keeps.
plt.rcParams.update({"figure.dpi": 150, "axes.spines.top": False, "axes.spines.right": False})

# %%
clean, test = dj.load_dataset("digits")
# Larger data, once prepared by `diet-jax prepare fashion_mnist`:
# clean, test = dj.load_dataset("tfds:fashion_mnist")
train, wrong = dj.flip_labels(jax.random.key(0), clean, 0.2, mode="different")
print(f"{wrong.sum()} of {len(train):,} labels are wrong; same ids: {(train.ids == clean.ids).all()}")

model = dj.create_model("mlp", num_classes=train.num_classes)
config = dj.TrainConfig(epochs=EPOCHS, batch_size=32, learning_rate=0.05, schedule="cosine", augment="none")

# %% [markdown]
# `mode="different"` always takes another class; `"permute"` permutes the labels of the chosen examples, as
# the paper's authors did, so that some keep their label by luck; `"matrix"` follows a matrix of confusions.
# Labels of your own, such as those of a second annotator, come from `dj.read_labels` or `dj.replace_labels`.
#
# ## Score with the labels there are
#
# Nobody has the clean labels, so training and scoring use the noisy ones. *When* to score matters more than
# with clean labels: late in training a network has learned wrong labels by heart, and they look easy.

# %%
epochs = tuple(round(EPOCHS * share) for share in (0.1, 0.25, 0.5, 1.0))
scored = dj.score_ensemble(
    dj.seed_keys(0, "score", NUM_SEEDS), model, train, config=config, epoch=epochs, names=("el2n", "aum")
)
by_epoch = dict(zip(epochs, scored.scores["el2n"].mean(axis=1), strict=True))
for epoch, scores in by_epoch.items():
    quality = dj.detection_quality(scores, wrong)
    print(
        f"EL2N after {epoch:2} epochs: ROC AUC {quality.roc_auc:.3f}, "
        f"{quality.precision_at_share:.0%} of the {wrong.sum()} highest are wrong labels"
    )

# %%
edges = np.linspace(0, 2**0.5, 29)
panels = [
    {
        "title": f"after {epoch} epochs",
        "x_label": "EL2N",
        "edges": edges,
        "groups": [
            {"name": "clean", "counts": np.histogram(by_epoch[epoch][~wrong], edges)[0]},
            {"name": "corrupted", "counts": np.histogram(by_epoch[epoch][wrong], edges)[0]},
        ],
    }
    for epoch in (epochs[0], epochs[-1])
]
draw_result({"title": "EL2N of right and wrong labels", "chart": {"kind": "distributions", "panels": panels}})

# %% [markdown]
# A score of training dynamics remembers the whole training, and need not be taken early. AUM is (minus) the
# mean margin of the label over all presentations; one run yields it beside EL2N, at no further pass.

# %%
el2n, aum = by_epoch[epochs[0]], scored.scores["aum"][-1].mean(axis=0)
late = by_epoch[epochs[-1]]
auc = {
    "EL2N, early": dj.detection_quality(el2n, wrong).roc_auc,
    "EL2N, at the end": dj.detection_quality(late, wrong).roc_auc,
    "AUM, at the end": dj.detection_quality(aum, wrong).roc_auc,
}
for name, value in auc.items():
    print(f"{name:17} ROC AUC {value:.3f}")

# %% [markdown]
# ## Look at the suspects
#
# Below each image stand its score, the label that it was given, its id, and in colour its clean label if that
# is another. The suspects that carry no second label are what the score has wrong, or what the dataset has.

# %%
dj.draw_examples(train, el2n, hardest=20, clean_labels=clean.labels)

# %% [markdown]
# ## Keep a window
#
# Keeping the highest scores keeps the wrong labels. The paper keeps a *window* of ranks: skip the share
# `offset` of the easiest, keep the next 40 %, and leave what is above. All windows keep equally many
# examples, so all trainings run through one compiled program. Judged on the clean test split:

# %%
keys = dj.seed_keys(0, "retrain", NUM_SEEDS)


def retrain(data, keep=None):
    return dj.train_ensemble(keys, model, data, test, config=config, keep=keep)


def test_accuracy(trained):
    return (trained.predicted == test.labels).mean(axis=1)


everything = test_accuracy(retrain(train))
at_random = test_accuracy(
    retrain(train, np.stack([dj.keep_random(key, len(train), FRACTION) for key in keys]))
)
windows = [test_accuracy(retrain(train, dj.keep_window(el2n, FRACTION, offset=offset))) for offset in OFFSETS]
best = int(np.argmax([values.mean() for values in windows]))
for offset, values in zip(OFFSETS, windows, strict=True):
    inside = wrong[dj.keep_window(el2n, FRACTION, offset=offset)].mean()
    print(
        f"offset {offset:.2f}: {inside:4.0%} of what is kept is wrong, accuracy {100 * values.mean():.1f} %"
    )
print(f"everything: {100 * everything.mean():.1f} %, a random 40 %: {100 * at_random.mean():.1f} %")

# %% [markdown]
# ## Choose the window without clean labels
#
# That choice looked at test labels. Without any clean label: hold a part of the noisy train split out, train
# on windows of the rest, and judge on the held-out *noisy* labels. Noise that is spread evenly lowers all
# accuracies alike and keeps their order.

# %%
out = dj.held_out(jax.random.key(0), train.labels, 0.2)
rest, judge = np.flatnonzero(~out), np.flatnonzero(out)
judged = []
for offset in OFFSETS:
    keep = np.zeros(len(train), bool)
    keep[rest[dj.keep_window(el2n[rest], FRACTION, offset=offset)]] = True
    networks = retrain(train, keep).variables
    logits = jax.jit(dj.over_seeds(model.predict))(networks, dj.normalized_inputs(train, judge))
    judged.append((np.argmax(logits, axis=-1) == train.labels[judge]).mean(axis=1))
choice = dj.best_window(np.array(judged))
print(f"best offset by held-out noisy labels: {OFFSETS[choice.best]}, by the test split: {OFFSETS[best]}")

# %% [markdown]
# The curve of the noisy held-out labels lies lower, for nobody can predict noise, and has its maximum where
# the test accuracy is high as well.

# %%
series = [
    {
        "name": name,
        "label": label,
        "x": OFFSETS,
        "mean": [v.mean() for v in values],
        "low": [np.percentile(v, 16) for v in values],
        "high": [np.percentile(v, 84) for v in values],
    }
    for name, label, values in (
        ("clean", "clean test labels", windows),
        ("corrupted", "held-out noisy labels", judged),
    )
]
panel = {
    "title": "Accuracy against the window's offset",
    "x_label": f"share of the easiest that is skipped; {FRACTION:.0%} kept",
    "y_label": "final accuracy",
    "percent": True,
    "series": series,
    "levels": [
        {"name": "everything", "label": "everything, clean test labels", "mean": everything.mean()},
        {"name": "random", "label": "random 40 %, clean test labels", "mean": at_random.mean()},
    ],
}
draw_result(
    {"title": "Digits with a fifth of the labels wrong", "chart": {"kind": "lines", "panels": [panel]}}
)

# %%
found = {
    "auc_early": auc["EL2N, early"],
    "auc_late": auc["EL2N, at the end"],
    "everything": float(100 * everything.mean()),
    "random": float(100 * at_random.mean()),
    "top_window": float(100 * windows[-1].mean()),
    "chosen_window": float(100 * windows[choice.best].mean()),
}
print(
    f"Early EL2N finds the wrong labels with a ROC AUC of {found['auc_early']:.3f} (at the end of training "
    f"{found['auc_late']:.3f}). The hardest 40 % give {found['top_window']:.1f} % test accuracy, the window "
    f"chosen without clean labels {found['chosen_window']:.1f} %, everything {found['everything']:.1f} %, "
    f"random examples {found['random']:.1f} %."
)
