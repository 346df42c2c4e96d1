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
# # Every score from one run, and which to trust
#
# Thirty-odd scores claim to say which examples matter. They need no thirty trainings: all of them come from
# one training of one ensemble, in one compiled program. Here they are taken side by side and asked three
# questions that can be answered without anyone's paper: does another seed agree? does it find wrong labels?
# does keeping its highest help? The last two turn out to want different scores.
#
# What each score is, to the letter, is in the page of definitions; `dj.SCORES` holds the same. A tenth of the
# labels is wrong here, as it may be in data of yours. All of it takes about TIME06 on two CPU cores.

# %%
# On Colab, run this in a cell of its own first: %pip install diet_jax
import os

import jax
import matplotlib.pyplot as plt
import numpy as np

import diet_jax as dj
from diet_jax.plotting import draw_correlations

TINY = "DIET_JAX_TINY" in os.environ  # The tests run this notebook with fewer seeds, epochs and scores.
NUM_SEEDS, EPOCHS = (4, 8) if TINY else (6, 15)
FRACTION = 0.5
SOME = ("el2n", "grand", "aum", "forgetting", "variability", "input_norm")
plt.rcParams.update({"figure.dpi": 150, "axes.spines.top": False, "axes.spines.right": False})

# %%
clean, test = dj.load_dataset("digits")
train, wrong = dj.flip_labels(jax.random.key(0), clean, 0.1, mode="different")
model = dj.create_model("mlp", num_classes=train.num_classes)
config = dj.TrainConfig(epochs=EPOCHS, batch_size=32, learning_rate=0.05, schedule="cosine", augment="none")
names = SOME if TINY else tuple(name for name in dj.SCORES.names() if name != "random")
for name in SOME:
    score = dj.SCORES.find(name)
    print(f"{name:12} reads {score.reads:9} high means {score.high_means}: {score.formula[:72]}")

# %% [markdown]
# ## One run
#
# Scores of one forward pass share the pass; scores of training dynamics ride along in the training's own
# batches; those called `_clean`, VoG and TracIn take a pass after every epoch.

# %%
scored = dj.score_ensemble(
    dj.seed_keys(0, "score", NUM_SEEDS), model, train, config=config, epoch=EPOCHS, names=names
)
files = [
    dj.ScoreFile.from_seeds(
        dj.SCORES.find(name), scored.scores[name], train, step=scored.history.loss.shape[1]
    )
    for name in names
]
print(f"{len(files)} scores of {len(train):,} examples by {NUM_SEEDS} networks")

# %% [markdown]
# `ScoreFile` keeps ids, labels, definition and origin with the numbers, and saves them; below, its mean over
# seeds is used. Forgetting counts an example that was never learned as infinitely forgotten, and ranks it
# highest.
#
# ## Which are the same thing?
#
# Rank correlation of every pair, those that rank alike side by side. A large block is one score under many
# names: choosing within it is a matter of cost.

# %%
draw_correlations(files, title="Scores of one run, digits with a tenth of the labels wrong")

# %% [markdown]
# ## Does another seed agree?
#
# Two groups with half of the seeds each, and none in common: what one keeps, the other should keep too.

# %%
means = {file.name: file.scores for file in files}
rows = []
for file in files:
    finite = np.where(np.isfinite(file.per_seed), file.per_seed, 1e6)  # Only ranks count.
    agreement = dj.stability(finite, fractions=(FRACTION,), groups=(NUM_SEEDS // 2,))[0]
    rows.append((file.name, agreement.kept[FRACTION].mean))
for name, share in sorted(rows, key=lambda row: -row[1]):
    print(f"{name:24} {share:.0%} of what one half of the seeds keeps, the other keeps too")

# %% [markdown]
# A score that agrees perfectly need not be good: the norm of the input asks no network, so all seeds agree.
#
# ## Does it find wrong labels, and does it prune?
#
# For the second question the half with the highest scores is kept, wrong labels and all, and fresh networks
# are trained on it. All of these trainings keep equally many examples, so they run through one compiled
# program.

# %%
keys = dj.seed_keys(0, "retrain", NUM_SEEDS)


def accuracy(keep=None):
    """Final accuracy on the test split, whose labels are right: the mean over networks, in per cent."""
    trained = dj.train_ensemble(keys, model, train, test, config=config, keep=keep)
    return 100 * float((trained.predicted == test.labels).mean())


everything = accuracy()
at_random = accuracy(np.stack([dj.keep_random(key, len(train), FRACTION) for key in keys]))
auc = {name: dj.detection_quality(values, wrong).roc_auc for name, values in means.items()}
kept = {name: accuracy(dj.keep_highest(values, FRACTION)) for name, values in means.items()}
print(f"everything {everything:.2f} %, a random half {at_random:.2f} %\n")
print(f"{'score':24} {'ROC AUC':>8} {'wrong in the half':>18} {'accuracy':>9}")
for name in sorted(names, key=lambda name: -kept[name]):
    share = wrong[dj.keep_highest(means[name], FRACTION)].mean()
    print(f"{name:24} {auc[name]:8.3f} {share:18.0%} {kept[name]:9.2f}")

# %% [markdown]
# ## Which to trust
#
# Each point is a score. To the right are those that put wrong labels on top, upwards those whose highest half
# trains good networks. Nothing is in the upper right corner: what finds wrong labels must not be kept by, and
# what looks for examples that the network *wavers* on (variability, Dyn-Unc) is blind to wrong labels, and
# prunes noisy data best.

# %%
figure, axes = plt.subplots(figsize=(7.2, 4.2), layout="constrained")
axes.axhline(everything, color="black", linewidth=1, linestyle="--")
axes.axhline(at_random, color="#777777", linewidth=1, linestyle=":")
place = {"transform": axes.get_yaxis_transform(), "fontsize": 8, "va": "bottom"}
axes.text(0.01, everything, "everything", **place)
axes.text(0.01, at_random, "a random half", color="#777777", **place)
axes.plot([auc[name] for name in names], [kept[name] for name in names], "o", color="#0072B2", alpha=0.6)
look = {
    "textcoords": "data",
    "fontsize": 7.5,
    "va": "center",
    "arrowprops": {"arrowstyle": "-", "color": "#AAAAAA"},
}
height = everything + 1
for name in sorted(names, key=lambda name: -kept[name]):
    if auc[name] < 0.9:
        axes.annotate(
            name, (auc[name], kept[name]), (0, 7), textcoords="offset points", fontsize=7.5, ha="center"
        )
    else:  # Many: their names stand in a column, from above, none nearer to the next than a line.
        height = min(kept[name], height - 0.7)
        axes.annotate(name, (auc[name], kept[name]), (1.06, height), **look)
axes.set(xlabel="ROC AUC for wrong labels", ylabel="accuracy of the highest half (%)")
axes.set_xticks(np.arange(0, 1.01, 0.1))
axes.set_xlim(min(auc.values()) - 0.08, 1.3)
plt.show()

# %%
best, finder = max(kept, key=lambda name: kept[name]), max(auc, key=lambda name: auc[name])
found = {
    "num_scores": len(names),
    "everything": everything,
    "random": at_random,
    "best_kept": kept[best],
    "best_kept_auc": auc[best],
    "best_auc": auc[finder],
    "best_auc_kept": kept[finder],
}
print(
    f"Of {len(names)} scores {finder} finds wrong labels best (ROC AUC {auc[finder]:.3f}), and its highest "
    f"half trains to {kept[finder]:.1f} %; {best} is best to keep by ({kept[best]:.1f} %, ROC AUC "
    f"{auc[best]:.3f}). A random half gives {at_random:.1f} %, everything {everything:.1f} %."
)
