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
# # Score an ensemble, and look at the examples
#
# Which training examples does a network need? [Paul, Ganguli and Dziugaite](https://arxiv.org/abs/2107.07075)
# score every example *early in training* and average the score over a few initialisations. This notebook
# takes two of their scores from ten networks in one compiled program, asks how far such a score can be
# trusted, adds a score of its own, and looks at what the networks found hard.
#
# The data are scikit-learn's 8×8 handwritten digits, which need no download. All of it took 13 to 20 seconds
# on two CPU cores, which were shared with other work.

# %%
# On Colab, with the repository there, run in a cell of its own first: %pip install ./diet_jax
import functools
import os
import time

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from scipy.stats import spearmanr

import diet_jax as dj
from diet_jax.plotting import draw_histogram

TINY = "DIET_JAX_TINY" in os.environ  # The tests run this notebook with fewer seeds and epochs.
NUM_SEEDS, EPOCHS = (4, 4) if TINY else (10, 40)
SCORED_AT = EPOCHS / 8  # Epochs of training before scoring: early.
BLUE, GREY = "#0072B2", "#999999"
plt.rcParams.update({"figure.dpi": 150, "axes.spines.top": False, "axes.spines.right": False})

# %%
train, test = dj.load_dataset("digits")
# Larger data, once prepared by `diet-jax prepare fashion_mnist`:
# train, test = dj.load_dataset("tfds:fashion_mnist")
model = dj.create_model("mlp", num_classes=train.num_classes)
config = dj.TrainConfig(epochs=EPOCHS, batch_size=32, learning_rate=0.05, schedule="cosine", augment="none")
print(train)

# %% [markdown]
# ## One call scores ten networks
#
# With the network's class probabilities $p$ for an image $x$ with label $y$,
#
# - **EL2N** is the length of the error vector, $\|p - \mathrm{onehot}(y)\|_2$, and
# - **GraNd** is the length of the gradient of that example's loss in all parameters.
#
# High means hard, for both. `score_ensemble` initialises and trains one network for each key and scores all
# examples with each: initialisation, training and both scores of all seeds are one compiled program. Most of
# the first call is compiling, which a second call with other keys does not pay.

# %%
seconds = []
for seed in (1, 0):
    began = time.perf_counter()
    keys = dj.seed_keys(seed, "score", NUM_SEEDS)
    ensemble = dj.score_ensemble(keys, model, train, config=config, epoch=SCORED_AT, names=("el2n", "grand"))
    seconds.append(time.perf_counter() - began)
print(f"{NUM_SEEDS} networks trained and scored: first call {seconds[0]:.1f} s, second {seconds[1]:.1f} s")
print("seeds, examples:", ensemble.scores["el2n"].shape)

# %% [markdown]
# ## How far can one network be trusted?
#
# A single network's score holds some luck of its initialisation; the mean over seeds holds less. How much
# less can be measured without knowing the truth: split the seeds into two groups with none in common, and see
# how well the means of the two agree. `dj.stability` does that for growing groups.

# %%
step = dj.epoch_to_step(SCORED_AT, dj.steps_per_epoch(len(train), config.batch_size))
file = dj.ScoreFile.from_seeds("el2n", ensemble.scores["el2n"], train, step=step)
agreements = dj.stability(file.per_seed, fractions=(0.3, 0.5))
for each in agreements:
    kept = ", ".join(f"{share.mean:.0%} of the hardest {of:.0%}" for of, share in each.kept.items())
    print(f"groups of {each.seeds}: rank correlation {each.correlation.text()}; they share {kept}")

# %% [markdown]
# Left: one seed against the mean of the others; examples far from the line are those where one network would
# have misled us. Right: agreement of two groups against their size.

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(7.2, 3.2), layout="constrained")
scores = file.per_seed
limits = (0.5 * scores.min(), 2.0)
left.plot(limits, limits, color=GREY, linewidth=0.8, zorder=0)
left.plot(scores[1:].mean(axis=0), scores[0], ".", color=BLUE, markersize=3, alpha=0.4, mew=0)
left.set(xlabel="EL2N, mean of the other seeds", ylabel="EL2N of one seed", aspect="equal")
left.set(xscale="log", yscale="log", xlim=limits, ylim=limits)

sizes = [each.seeds for each in agreements]
right.plot(sizes, [each.correlation.mean for each in agreements], "o-", color=BLUE, label="rank correlation")
for fraction, dash in ((0.5, "s--"), (0.3, "^:")):
    shares = [each.kept[fraction].mean for each in agreements]
    right.plot(sizes, shares, dash, color=GREY, label=f"hardest {fraction:.0%} in common")
right.set(xlabel="seeds in each group", ylabel="agreement of two groups", xticks=sizes)
right.legend(frameon=False, fontsize=8)
right.grid(axis="y", color="#E5E5E5", linewidth=0.7)
plt.show()

# %% [markdown]
# ## A score is a function
#
# `dj.el2n` takes a `predict` function, the variables of one network, inputs and labels, and returns one
# number for each example. So `functools.partial`, `jit` and `over_seeds` apply to it as to any other
# function. Here EL2N of one network on the test split, and of all networks at once.

# %%
score_fn = functools.partial(dj.el2n, model.predict)
on_test = dj.score_dataset(score_fn, dj.take_seed(ensemble.variables, 0), test)

images, labels = dj.normalized_inputs(train), jnp.asarray(train.labels)
again = jax.jit(dj.over_seeds(score_fn))(ensemble.variables, images, labels)
print(f"EL2N of seed 0: {scores[0].mean():.3f} on the train split, {on_test.mean():.3f} on the test split")
print(f"largest difference from score_ensemble: {np.abs(again - scores).max():.1e}")


# %% [markdown]
# Your own score is a function of the same form. The margin: by how much the best wrong logit beats the right
# one.


# %%
def margin(variables, inputs, labels):
    logits = model.predict(variables, inputs)
    is_label = jax.nn.one_hot(labels, train.num_classes, dtype=bool)
    wrong, own = jnp.where(is_label, -jnp.inf, logits), jnp.where(is_label, logits, -jnp.inf)
    return wrong.max(axis=-1) - own.max(axis=-1)


means = {name: values.mean(axis=0) for name, values in ensemble.scores.items()}
means["margin"] = np.asarray(jax.jit(dj.over_seeds(margin))(ensemble.variables, images, labels).mean(axis=0))
for name in ("grand", "margin"):
    print(f"EL2N with {name}: rank correlation {spearmanr(means['el2n'], means[name]).statistic:.3f}")

# %% [markdown]
# ## Which digits are hard?
#
# The scores spread over five powers of ten: after a few epochs most digits are fitted, and few hold nearly
# all of the error. Classes differ as well, so keeping the hardest keeps more of some digits than of others.

# %%
draw_histogram(file, train.class_names)

# %% [markdown]
# ## Look at them
#
# A score is best judged by looking. `dj.draw_examples` draws the ends of the ranking, here the twenty hardest
# and the ten easiest of all; without numbers it draws some of each class.
#
# What these scores are good for is the next notebook's question:
# [prune and retrain](02_prune_and_retrain.ipynb).

# %%
dj.draw_examples(train, file, hardest=20, easiest=10)

# %%
top = np.argsort(means["el2n"])[::-1]
tenth = len(train) // 10
found = {
    "share_of_top_tenth": float(means["el2n"][top[:tenth]].sum() / means["el2n"].sum()),
    "one_seed": agreements[0].correlation.mean,
    "groups": agreements[-1].correlation.mean,
    "el2n_with_grand": float(spearmanr(means["el2n"], means["grand"]).statistic),
}
print(
    f"A tenth of the digits holds {found['share_of_top_tenth']:.0%} of all EL2N. Two single networks rank "
    f"the digits alike at {found['one_seed']:.2f}, two means of {agreements[-1].seeds} at "
    f"{found['groups']:.2f}, and EL2N ranks them as GraNd does at {found['el2n_with_grand']:.3f}."
)
