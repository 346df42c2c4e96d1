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
# # Deep learning on a data diet, in one minute
#
# Which training examples does a network need? [Paul, Ganguli and Dziugaite](https://arxiv.org/abs/2107.07075)
# score every example *early in training*, average the score over a few initialisations, and retrain fresh
# networks on the highest-scored part alone. With the right half of CIFAR-10 a ResNet18 ends as accurate as
# with all of it; with a random half it does not.
#
# The same experiment on scikit-learn's 8×8 digits takes about a minute on two CPU cores, and every step of it
# is one function call.

# %%
import functools
import json

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from scipy.stats import spearmanr

import diet_jax as dj
from diet_jax.plotting import draw_examples

plt.rcParams.update({"figure.dpi": 150, "axes.spines.top": False, "axes.spines.right": False})

# %%
train, test = dj.load_dataset("digits")
model = dj.create_model("mlp", num_classes=train.num_classes)
config = dj.TrainConfig(epochs=40, batch_size=32, learning_rate=0.05, schedule="cosine", augment="none")

NUM_SEEDS = 10
STEP = 165  # updates before scoring: 5 of the 40 epochs
FRACTION = 0.5  # share of the examples to keep
print(f"{len(train):,} images to train on, {len(test):,} to test on, {train.num_classes} classes")

# %% [markdown]
# ## Score
#
# With the network's class probabilities $p$ for an image $x$ with label $y$,
#
# - **EL2N** is the length of the error vector, $\|p - \mathrm{onehot}(y)\|_2$, and
# - **GraNd** is the length of the gradient of that example's loss in all parameters.
#
# `score_ensemble` initialises and trains one network for each key, and scores all examples with each. On a
# network without convolutions the seeds, their training and both scores are one compiled program.

# %%
ensemble = dj.score_ensemble(
    dj.seed_keys(0, "score", NUM_SEEDS), model, train, config=config, step=STEP, names=("el2n", "grand")
)
el2n, grand = (ensemble.scores[name].mean(axis=0) for name in ("el2n", "grand"))
print("seeds, examples:", ensemble.scores["el2n"].shape)


# %% [markdown]
# ## How much do the seeds agree?
#
# A single network's ranking holds some luck of its initialisation; the mean over seeds holds less. Left: one
# seed against the mean of the others. Right: the rank correlation of two means over *k* seeds each, with no
# seed in common, over random ways to draw them.


# %%
def rank_correlation(a, b):
    return float(spearmanr(a, b).statistic)


with_mean = {
    name: [rank_correlation(one, scores.mean(axis=0)) for one in scores]
    for name, scores in ensemble.scores.items()
}
for name, each in with_mean.items():
    print(f"{name:5} one seed with the mean of all: {np.mean(each):.2f} ({min(each):.2f} to {max(each):.2f})")
print(f"EL2N with GraNd, both means: {rank_correlation(el2n, grand):.3f}")

# %%
rng = np.random.default_rng(0)
sizes = range(1, NUM_SEEDS // 2 + 1)


def split_correlations(scores, k, draws=20):
    orders = [rng.permutation(NUM_SEEDS) for _ in range(draws)]
    return [
        rank_correlation(scores[order[:k]].mean(axis=0), scores[order[k : 2 * k]].mean(axis=0))
        for order in orders
    ]


figure, (left, right) = plt.subplots(1, 2, figsize=(7.2, 3.2), layout="constrained")
scores = ensemble.scores["el2n"]
left.plot(scores[1:].mean(axis=0), scores[0], ".", color="#0072B2", markersize=3, alpha=0.4, mew=0)
limits = (0.5 * scores.min(), 2.0)
left.plot(limits, limits, color="#999999", linewidth=0.8, zorder=0)
left.set(xlabel="EL2N, mean of the other seeds", ylabel="EL2N of one seed", aspect="equal")
left.set(xscale="log", yscale="log", xlim=limits, ylim=limits)

drawn = [split_correlations(scores, k) for k in sizes]
low, middle, high = np.percentile(drawn, [16, 50, 84], axis=1)
right.fill_between(sizes, low, high, color="#0072B2", alpha=0.18, linewidth=0)
right.plot(sizes, middle, "o-", color="#0072B2", markersize=4.5)
right.set(xlabel="seeds in each mean, k", ylabel="rank correlation", xticks=sizes)
right.grid(axis="y", color="#E5E5E5", linewidth=0.7)
plt.show()

# %% [markdown]
# ## Look at them
#
# High means hard. The easiest digits of each class look alike; the hardest are unusual strokes and digits
# that could be another one.

# %%
draw_examples(train, dj.ScoreFile.from_seeds("el2n", ensemble.scores["el2n"], train, step=STEP))

# %% [markdown]
# ## Functions compose
#
# A score is a function `(variables, images, labels) -> [b]`, so `functools.partial`, `jit` and `over_seeds`
# apply to it as to any other. Here EL2N of one network on the test split, and of all ten at once.

# %%
score_fn = functools.partial(dj.el2n, model.predict)
first = dj.take_seed(ensemble.variables, 0)
on_test = dj.score_dataset(score_fn, first, test)

examples = train.examples()  # the arrays, on the device
images = dj.normalize(examples.images, examples.mean, examples.std)
again = jax.jit(dj.over_seeds(score_fn))(ensemble.variables, images, examples.labels)
print(f"EL2N of seed 0: {scores[0].mean():.3f} on the train split, {on_test.mean():.3f} on the test split")
print(f"largest difference from score_ensemble: {np.abs(again - scores).max():.1e}")


# %% [markdown]
# And so your own score is a few lines. The margin: by how much the best wrong logit beats the right one.


# %%
def margin(variables, images, labels):
    logits, right = model.predict(variables, images), jax.nn.one_hot(labels, train.num_classes, dtype=bool)
    wrong, own = jnp.where(right, -jnp.inf, logits), jnp.where(right, logits, -jnp.inf)
    return wrong.max(axis=-1) - own.max(axis=-1)


margins = jax.jit(dj.over_seeds(margin))(ensemble.variables, images, examples.labels).mean(axis=0)
print(f"rank correlation of the margin with EL2N: {rank_correlation(margins, el2n):.3f}")

# %% [markdown]
# ## Prune and retrain
#
# Fresh networks, with keys that the scoring never used, train on the half with the highest scores, or on a
# random half, another one for every seed. All of them do as many steps as training on everything does.
# Seed *r* starts from the same initialisation whatever is kept, so selections are compared seed by seed.

# %%
random_keys = dj.seed_keys(0, "random_subset", NUM_SEEDS)
keep = {
    "everything": None,
    "EL2N": dj.keep_highest(el2n, FRACTION),
    "GraNd": dj.keep_highest(grand, FRACTION),
    "margin": dj.keep_highest(margins, FRACTION),
    "random": np.stack([dj.keep_random(key, len(train), FRACTION) for key in random_keys]),
}

retrain_keys = dj.seed_keys(0, "retrain", NUM_SEEDS)
accuracy = {}
for name, mask in keep.items():
    trained = dj.train_ensemble(retrain_keys, model, train, test, config=config, keep=mask)
    accuracy[name] = 100 * (trained.predicted == test.labels).mean(axis=1)

# %%
print("kept by      examples   test accuracy (%)   minus random half")
for name, values in accuracy.items():
    kept = len(train) if keep[name] is None else int(np.atleast_2d(keep[name])[0].sum())
    paired = values - accuracy["random"]
    error = paired.std(ddof=1) / np.sqrt(NUM_SEEDS)
    gain = "" if name == "random" else f"{paired.mean():+.2f} ± {error:.2f}"
    print(f"{name:12} {kept:8,}   {values.mean():8.2f} ± {values.std(ddof=1):.2f}   {gain:>19}")
print(f"\nMean ± standard deviation over {NUM_SEEDS} seeds; paired difference ± its standard error.")

# %%
COLORS = {
    "everything": "black",
    "EL2N": "#0072B2",
    "GraNd": "#D55E00",
    "margin": "#CC79A7",
    "random": "#7F7F7F",
}
figure, axes = plt.subplots(figsize=(6.4, 3.0), layout="constrained")
for row, (name, values) in enumerate(accuracy.items()):
    # Seeds below each other, for many are equal.
    places = row + np.linspace(-0.3, 0.3, NUM_SEEDS)
    axes.plot(values, places, "o", color=COLORS[name], markersize=4, alpha=0.5, mew=0)
    axes.plot(values.mean(), row, "|", color=COLORS[name], markersize=20, markeredgewidth=2.2)
axes.set_yticks(range(len(accuracy)), [n if keep[n] is None else f"{n}, {FRACTION:.0%}" for n in accuracy])
axes.set(xlabel="final test accuracy (%): each seed, and the mean", ylim=(len(accuracy) - 0.5, -0.5))
axes.grid(axis="x", color="#E5E5E5", linewidth=0.7)
plt.show()

# %% [markdown]
# The half that an ensemble found hard after a few epochs is enough; a random half is not. `diet-jax run` does
# all of this for several keep fractions, and writes the figures, the table and the scores to a folder.

# %%
summary = {
    name: {"mean": float(values.mean()), "spread": float(values.std(ddof=1))}
    for name, values in accuracy.items()
}
print(json.dumps(summary))
