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
# What each score is, to the letter, is in [definitions](../docs/definitions.md); `dj.SCORES` holds the same.
# A tenth of the labels is wrong here, as it may be in data of yours. All of it took 21 to 43 seconds on two
# CPU cores, which were shared with other work.

# %%
# On Colab, with the repository there, run in a cell of its own first: %pip install ./diet_jax
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
# Two groups with half of the seeds each, and none in common, are compared: by the rank correlation of their
# means, and by the share of what one keeps that the other keeps too.

# %%
means = {file.name: file.scores for file in files}
agreements = {}
for file in files:
    finite = np.where(np.isfinite(file.per_seed), file.per_seed, 1e6)  # Only ranks count.
    agreements[file.name] = dj.stability(finite, fractions=(FRACTION,), groups=(NUM_SEEDS // 2,))[0]
print(f"{'score':24} {'rank correlation':>16} {'kept by both':>13}")
for name, each in sorted(agreements.items(), key=lambda item: -item[1].correlation.mean):
    print(f"{name:24} {each.correlation.mean:16.2f} {each.kept[FRACTION].mean:13.0%}")

# %% [markdown]
# A score that agrees perfectly need not be good: the norm of the input asks no network, so all seeds agree.
# And a score that counts, such as forgetting, gives many examples the same value: there the kept halves agree
# better than the ranks do, because ties are broken by one key for both.
#
# ## Does it find wrong labels, and does it prune?
#
# For the second question the half with the highest scores is kept, wrong labels and all, and fresh networks
# are trained on it. All of these trainings keep equally many examples, so they run through one compiled
# program.

# %%
keys = dj.seed_keys(0, "retrain", NUM_SEEDS)


def accuracy(keep=None):
    """Final accuracy on the test split, whose labels are right, in per cent: mean and standard error."""
    trained = dj.train_ensemble(keys, model, train, test, config=config, keep=keep)
    each = 100 * (trained.predicted == test.labels).mean(axis=1)
    return float(each.mean()), float(each.std(ddof=1) / len(each) ** 0.5)


everything, _ = accuracy()
at_random, _ = accuracy(np.stack([dj.keep_random(key, len(train), FRACTION) for key in keys]))
auc = {name: dj.detection_quality(values, wrong).roc_auc for name, values in means.items()}
measured = {name: accuracy(dj.keep_highest(values, FRACTION)) for name, values in means.items()}
kept = {name: mean for name, (mean, _) in measured.items()}
print(f"everything {everything:.2f} %, a random half {at_random:.2f} %\n")
print(f"{'score':24} {'ROC AUC':>8} {'wrong in the half':>18} {'accuracy':>9}")
for name in sorted(names, key=lambda name: -kept[name]):
    share = wrong[dj.keep_highest(means[name], FRACTION)].mean()
    print(f"{name:24} {auc[name]:8.3f} {share:18.0%} {kept[name]:9.2f}")

# %% [markdown]
# ## Which to trust
#
# Each row is a score, from the best to keep by to the worst; bars are standard errors over networks. Among
# these scores none is good at both: those that put wrong labels on top must not be kept by, and those that
# look for examples on which a network *wavers* (variability, Dyn-Unc) are blind to wrong labels and prune
# these noisy data best. Everything, wrong labels and all, is better still here: with such labels a window of
# ranks is the thing to try, see [wrong labels](04_label_noise.ipynb).

# %%
ranking = sorted(names, key=lambda name: kept[name])
places = range(len(ranking))
figure, (left, right) = plt.subplots(
    1, 2, figsize=(7.2, 1.2 + 0.155 * len(ranking)), sharey=True, layout="constrained"
)
left.axvline(everything, color="black", linewidth=1, linestyle="--", label="everything")
left.axvline(at_random, color="#777777", linewidth=1, linestyle=":", label="a random half")
errors = [measured[name][1] for name in ranking]
left.errorbar([kept[name] for name in ranking], places, xerr=errors, fmt="o", color="#0072B2", markersize=4.5)
left.set_yticks(places, ranking, fontsize=7.5)
left.set(xlabel="accuracy of its highest half (%)", ylim=(-0.7, len(ranking) - 0.3))
left.legend(frameon=False, fontsize=8, loc="upper left")
right.axvline(0.5, color="#777777", linewidth=1, linestyle=":", label="guessing")
right.plot([auc[name] for name in ranking], places, "o", color="#D55E00", markersize=4.5)
right.set(xlabel="ROC AUC for wrong labels", xlim=(0, 1.03))
right.legend(frameon=False, fontsize=8, loc="lower left")
for axes in (left, right):
    axes.grid(axis="y", color="#EEEEEE", linewidth=0.7)
    axes.set_axisbelow(True)
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
