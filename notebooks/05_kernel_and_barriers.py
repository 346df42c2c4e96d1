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
# # The moving kernel and connected basins
#
# Why do hard examples matter early? The paper looks at training in two ways that need no test split. The
# **tangent kernel** of a network moves fast at first and then settles; which examples does it move for? And
# two networks that share their first steps end up in one **basin**, or do not; for which examples are they
# apart?
#
# The digits are so easy that a small network fits them whole. So a fifth of the labels is wrong here, which
# gives the network examples that it fights with until the end. All of it took 29 to 61 seconds on two CPU
# cores, which were shared with other work.

# %%
# On Colab, with the repository there, run in a cell of its own first: %pip install ./diet_jax
import os

import jax
import matplotlib.pyplot as plt
import numpy as np

import diet_jax as dj

TINY = "DIET_JAX_TINY" in os.environ  # The tests run this notebook with fewer seeds and epochs.
NUM_SEEDS, EPOCHS = (1, 6) if TINY else (3, 30)
VELOCITY_AT = (1, 3) if TINY else (1, 4, 10)  # Epochs.
SPAWNED_AT = (0, 2) if TINY else (0, 0.25, 0.5, 1, 2, 4, 8, 16)  # Epochs.
GROUPS, GROUP_SIZE = (3, 40) if TINY else (7, 100)
plt.rcParams.update({"figure.dpi": 150, "axes.spines.top": False, "axes.spines.right": False})

# %%
clean, test = dj.load_dataset("digits")
train, wrong = dj.flip_labels(jax.random.key(0), clean, 0.2, mode="different")
model = dj.create_model("mlp", num_classes=train.num_classes, widths=(64,))
config = dj.TrainConfig(epochs=EPOCHS, batch_size=32, learning_rate=0.05, schedule="cosine", augment="none")
steps_per_epoch = dj.steps_per_epoch(len(train), config.batch_size)

keys = dj.seed_keys(0, "score", max(4, NUM_SEEDS))
scored = dj.score_ensemble(keys, model, train, config=config, epoch=EPOCHS / 10, names=("el2n",))
el2n = scored.scores["el2n"].mean(axis=0)
order = np.argsort(el2n)

# %% [markdown]
# ## Groups from easy to hard
#
# Examples are sorted by an early EL2N, and groups are taken at even distances along the ranking. With a fifth
# of the labels wrong, the top group is nothing but wrong labels.

# %%
starts = np.linspace(0, len(order) - GROUP_SIZE, GROUPS).round().astype(int)
groups = [np.sort(order[first : first + GROUP_SIZE]) for first in starts]
middles = (starts + GROUP_SIZE / 2) / len(order)
for middle, rows in zip(middles, groups, strict=True):
    print(f"around rank {middle:4.0%}: EL2N {el2n[rows].mean():.3f}, wrong labels {wrong[rows].mean():4.0%}")

# %% [markdown]
# ## Kernel velocity
#
# The tangent kernel's entry for two examples is the inner product of the gradients of their logits.
# `dj.logit_gram` computes it exactly, for all logits, in blocks that fit into memory. `dj.kernel_velocity` is
# one minus the cosine between the kernels of two moments, per unit of time, here an epoch: 0 for a kernel
# that stands still, as that of an infinitely wide network does.
#
# `dj.train(..., num_updates=...)` stops a training early without changing it, so states of one training are
# simply asked for.


# %%
def state_at(key, epoch):
    """The training state of one seed after some epochs."""
    return dj.train(key, model, train, config=config, num_updates=round(epoch * steps_per_epoch))[0]


velocity = np.zeros((NUM_SEEDS, len(VELOCITY_AT), GROUPS))
for seed in range(NUM_SEEDS):
    for row, epoch in enumerate(VELOCITY_AT):
        before, after = (state_at(keys[seed], at).variables for at in (epoch, epoch + 1))
        for column, rows in enumerate(groups):
            images = dj.normalized_images(train, rows)
            grams = [dj.logit_gram(model.predict, variables, images) for variables in (before, after)]
            velocity[seed, row, column] = dj.kernel_velocity(*grams, duration=1.0)
for epoch, values in zip(VELOCITY_AT, velocity.mean(axis=0), strict=True):
    print(f"from epoch {epoch:2} to {epoch + 1:2}: " + "  ".join(f"{value:.3f}" for value in values))

# %% [markdown]
# ## Error along a line
#
# `dj.spawn` copies the whole state of a training, momentum and schedule too, and changes one key: the order
# of the data. Parent and child go on from there; `dj.path_correct` walks the straight line between their ends
# and says for each example and each point of the line whether it is classified rightly. A network with
# another initialisation is drawn for comparison.

# %%
easy, hard = np.sort(order[:300]), np.sort(order[-300:])
parent = state_at(keys[0], EPOCHS).variables


def child(key, epoch, child_key):
    """The final variables of a training that takes another order of the data from an epoch on."""
    state = dj.spawn(state_at(key, epoch), child_key)
    return dj.train_from(state, model, train, config=config)[0].variables


others = {
    "another initialisation": state_at(keys[1], EPOCHS).variables,
    "same start, other order": child(keys[0], SPAWNED_AT[0], jax.random.key(7)),
    f"shared until epoch {SPAWNED_AT[-1]}": child(keys[0], SPAWNED_AT[-1], jax.random.key(7)),
}
figure, panels = plt.subplots(1, 2, figsize=(7.2, 2.9), sharey=True, layout="constrained")
colors = ("#999999", "#D55E00", "#0072B2")
for (name, other), color in zip(others.items(), colors, strict=True):
    correct = dj.path_correct(model, parent, other, train, num_points=11)
    for axes, rows in zip(panels, (easy, hard), strict=True):
        axes.plot(np.linspace(0, 1, 11), 100 * (1 - correct[:, rows].mean(axis=1)), color=color, label=name)
for axes, name in zip(panels, ("300 easiest", "300 hardest"), strict=True):
    axes.set(title=name, xlabel="way from one network to the other")
panels[0].set_ylabel("training error (%)")
panels[0].legend(frameon=False, fontsize=8)
plt.show()

# %% [markdown]
# ## Error barriers
#
# The height of that hill above the chord between its ends is the error barrier, `dj.error_barrier`. Two
# children are spawned at each epoch, and the barrier between them is measured on the easiest and on the
# hardest examples.

# %%
barriers = {
    "easiest": np.zeros((NUM_SEEDS, len(SPAWNED_AT))),
    "hardest": np.zeros((NUM_SEEDS, len(SPAWNED_AT))),
}
for seed in range(NUM_SEEDS):
    for column, epoch in enumerate(SPAWNED_AT):
        ends = [child(keys[seed], epoch, jax.random.key(k)) for k in (7, 8)]
        for name, rows in (("easiest", easy), ("hardest", hard)):
            barriers[name][seed, column] = dj.error_barrier(model, *ends, train, rows=rows)
for name, values in barriers.items():
    print(f"{name}: " + "  ".join(f"{100 * value:.1f} %" for value in values.mean(axis=0)))
steps = [round(epoch * steps_per_epoch) for epoch in SPAWNED_AT]
onset = dj.connectivity_onset(steps, barriers["hardest"].mean(axis=0), threshold=0.02)

# %% [markdown]
# ## Both at once
#
# Left: the kernel's velocity against the rank of the examples. Right: the barrier between two children
# against the epoch at which they parted. Thin lines are single networks, thick ones their means.
#
# The paper's own figures, and what came out of them: [reproduction](../docs/reproduction.md).

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(7.2, 3.2), layout="constrained")
shades = plt.get_cmap("viridis")(np.linspace(0, 0.8, len(VELOCITY_AT)))
for row, (epoch, color) in enumerate(zip(VELOCITY_AT, shades, strict=True)):
    left.plot(100 * middles, velocity[:, row].T, color=color, alpha=0.3, linewidth=0.8)
    left.plot(
        100 * middles, velocity[:, row].mean(axis=0), "o-", color=color, markersize=4, label=f"epoch {epoch}"
    )
share_right = 100 * (1 - wrong.mean())
left.axvspan(share_right, 100, color="#EE7733", alpha=0.12, linewidth=0, label="as many as wrong labels")
left.set(xlabel="rank by EL2N (%), hardest right", ylabel="kernel velocity (per epoch)", ylim=(0, None))
left.legend(frameon=False, fontsize=8)

places = np.arange(len(SPAWNED_AT))
for (name, values), color in zip(barriers.items(), ("#0072B2", "#D55E00"), strict=True):
    right.plot(places, 100 * values.T, color=color, alpha=0.3, linewidth=0.8)
    right.plot(places, 100 * values.mean(axis=0), "o-", color=color, markersize=4, label=f"300 {name}")
right.set_xticks(places, [f"{epoch:g}" for epoch in SPAWNED_AT])
right.set(xlabel="epoch at which two networks part", ylabel="error barrier (points)")
right.legend(frameon=False, fontsize=8)
plt.show()

# %%
mean = velocity.mean(axis=(0, 1))
found = {
    "velocity_easiest": float(mean[0]),
    "velocity_fastest": float(mean.max()),
    "velocity_hardest": float(mean[-1]),
    "barrier_easiest": float(100 * barriers["easiest"].mean(axis=0)[0]),
    "barrier_hardest": float(100 * barriers["hardest"].mean(axis=0)[0]),
    "barrier_hardest_last": float(100 * barriers["hardest"].mean(axis=0)[-1]),
}
print(
    f"The kernel moves {mean.max() / mean[0]:.1f} times as fast on the group around rank "
    f"{middles[mean.argmax()]:.0%} as on the easiest, and {mean[-1] / mean[0]:.1f} times as fast on the "
    f"hardest, which are wrong labels. Networks that part at the start have a barrier of "
    f"{found['barrier_hardest']:.1f} points on the hardest examples and {found['barrier_easiest']:.1f} on "
    f"the easiest; those that part at epoch {SPAWNED_AT[-1]} have {found['barrier_hardest_last']:.1f} "
    + ("on the hardest." if onset is None else f"(below 2 from epoch {onset / steps_per_epoch:.2g} on).")
)
