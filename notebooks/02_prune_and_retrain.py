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
# # Prune and retrain
#
# A score says which examples are hard. Whether the easy ones can be left out, only a training without them
# says. Here half of the digits, and less, are kept by score or at random, and fresh networks are trained on
# them; the honest baseline is not "everything" alone but a *random* subset of the same size.
#
# Every comparison is paired: network *r* starts from the same initialisation whatever is kept. All of it took
# 44 to 60 seconds on two CPU cores, which were shared with other work.

# %%
# On Colab, with the repository there, run in a cell of its own first: %pip install ./diet_jax
import os

import matplotlib.pyplot as plt
import numpy as np

import diet_jax as dj
from diet_jax.plotting import draw_result

TINY = "DIET_JAX_TINY" in os.environ  # The tests run this notebook with fewer seeds and epochs.
NUM_SEEDS, EPOCHS = (2, 8) if TINY else (10, 40)
FRACTIONS = (0.1, 0.5) if TINY else (0.05, 0.1, 0.2, 0.3, 0.5, 0.7)
plt.rcParams.update({"figure.dpi": 150, "axes.spines.top": False, "axes.spines.right": False})

# %%
train, test = dj.load_dataset("digits")
# Larger data, once prepared by `diet-jax prepare fashion_mnist`:
# train, test = dj.load_dataset("tfds:fashion_mnist")
model = dj.create_model("mlp", num_classes=train.num_classes)
config = dj.TrainConfig(epochs=EPOCHS, batch_size=32, learning_rate=0.05, schedule="cosine", augment="none")

scored = dj.score_ensemble(
    dj.seed_keys(0, "score", NUM_SEEDS), model, train, config=config, epoch=EPOCHS / 8, names=("el2n",)
)
el2n = scored.scores["el2n"].mean(axis=0)
print(f"{len(train):,} images to train on, {len(test):,} to test on, scored by {NUM_SEEDS} networks")

# %% [markdown]
# ## What is kept
#
# A selection is a mask, `bool [n]` in the order of the dataset. `dj.keep_highest` keeps the hard end of the
# ranking, `dj.keep_lowest` the easy one. `dj.keep_covering` drops the very hardest (the cutoff) and keeps as
# many of each stratum of the other scores, easy ones too; 0.3 is the cutoff that its authors took for a tenth
# of ImageNet. `dj.keep_random` is the baseline: every network gets a random subset of its own.
#
# The hardest half is no fair sample of the classes: some digits are harder than others.

# %%
half = dj.keep_highest(el2n, 0.5)
shares = [half[train.labels == digit].mean() for digit in range(train.num_classes)]
figure, axes = plt.subplots(figsize=(6.4, 2.2), layout="constrained")
axes.bar(train.class_names, shares, color="#0072B2", width=0.7)
axes.axhline(0.5, color="#999999", linewidth=1, linestyle="--")
axes.set(xlabel="digit", ylabel="share kept", title="Kept by the highest EL2N, half of all")
plt.show()

# %% [markdown]
# And this is what is dropped first: the digits that the networks are surest of after a few epochs, many of
# them nearly the same picture.

# %%
dj.draw_examples(train.take(~half), el2n[~half], easiest=20)

# %% [markdown]
# ## Retrain
#
# The keys are those of seeds that never scored, so no network is tested that helped to choose its data. All
# trainings do as many steps as one on everything (`TrainConfig(budget="equal_epochs")` shortens them in
# proportion instead). Seeds that keep equally many examples train in one compiled program, whatever they
# keep.

# %%
keys = dj.seed_keys(0, "retrain", NUM_SEEDS)


rules = {
    "el2n": lambda fraction: dj.keep_highest(el2n, fraction),
    "el2n coverage": lambda fraction: dj.keep_covering(el2n, fraction, cutoff=0.3),
    "lowest": lambda fraction: dj.keep_lowest(el2n, fraction),
    "random": lambda fraction: np.stack([dj.keep_random(key, len(train), fraction) for key in keys]),
}


def accuracies(keep=None):
    """Final test accuracy of one network for each key."""
    trained = dj.train_ensemble(keys, model, train, test, config=config, keep=keep)
    return (trained.predicted == test.labels).mean(axis=1)


everything = accuracies()
accuracy = {name: [accuracies(rule(fraction)) for fraction in FRACTIONS] for name, rule in rules.items()}

# %% [markdown]
# A difference means something beside its error: the standard error of the mean of the paired differences.


# %%
def difference(values, other):
    """Mean paired difference in points, and its standard error."""
    paired = 100 * (values - other)
    return paired.mean(), paired.std(ddof=1) / np.sqrt(len(paired))


print(f"everything: {100 * everything.mean():.2f} %\n")
print("keep   by              accuracy   minus everything    minus random")
for place, fraction in enumerate(FRACTIONS):
    for name in rules:
        values, at_random = accuracy[name][place], accuracy["random"][place]
        lost = "{:+6.2f} ± {:.2f}".format(*difference(values, everything))
        gained = "" if name == "random" else "{:+6.2f} ± {:.2f}".format(*difference(values, at_random))
        print(f"{fraction:<6} {name:14} {100 * values.mean():8.2f}   {lost:>16}   {gained:>13}")

# %% [markdown]
# ## What it costs
#
# Scoring is training too: a pruned training that needs the same steps saves nothing by itself, and the scores
# cost some epochs of every network that scores. Pruning pays where many trainings follow, where data cost
# money to store or label, or with the shorter trainings of `budget="equal_epochs"`.

# %%
epochs_to_score = NUM_SEEDS * EPOCHS / 8
print(f"scoring: {epochs_to_score / EPOCHS:.2f} trainings on everything, and one pass for each network")

# %% [markdown]
# ## The curve
#
# Lines are means over networks, bands the 16th to 84th percentile. Where little is kept, the hardest examples
# are a training set of exceptions, without the rule; there it helps to drop the very hardest and to cover the
# rest. Where much is kept the same cutoff drops just what the network needs.
#
# Which rule when, with more data and rules: [selection](../docs/selection.md); by one command, with all
# baselines and costs: [comparison](../docs/comparison.md).

# %%
series = [
    {
        "name": name,
        "x": FRACTIONS,
        "mean": [values.mean() for values in each],
        "low": [np.percentile(values, 16) for values in each],
        "high": [np.percentile(values, 84) for values in each],
    }
    for name, each in accuracy.items()
    if name != "lowest"  # Far below the others: it would flatten them.
]
panel = {
    "title": f"Accuracy against keep fraction, {NUM_SEEDS} networks each",
    "x_label": f"keep fraction of the {len(train):,} training examples",
    "y_label": "final test accuracy",
    "percent": True,
    "x_scale": "log",
    "levels": [{"name": "everything", "mean": everything.mean()}],
    "series": series,
}
draw_result({"title": "Digits, MLP", "chart": {"kind": "lines", "panels": [panel]}})

# %%
smallest, at_half = FRACTIONS[0], FRACTIONS.index(0.5)
found = {
    "everything": float(100 * everything.mean()),
    "half_minus_everything": difference(accuracy["el2n"][at_half], everything),
    "half_minus_random": difference(accuracy["el2n"][at_half], accuracy["random"][at_half]),
    "lowest_minus_random": difference(accuracy["lowest"][at_half], accuracy["random"][at_half]),
    "smallest_minus_random": difference(accuracy["el2n"][0], accuracy["random"][0]),
    "smallest_covering_minus_random": difference(accuracy["el2n coverage"][0], accuracy["random"][0]),
}
words = {name: "{:+.1f} ± {:.1f}".format(*value) for name, value in found.items() if name != "everything"}
print(
    f"The hardest half of the digits gives {words['half_minus_everything']} points against everything and "
    f"{words['half_minus_random']} against a random half. Of {smallest:.0%} of them the hardest give "
    f"{words['smallest_minus_random']} against random ones, and those that cover the scores "
    f"{words['smallest_covering_minus_random']}."
)
