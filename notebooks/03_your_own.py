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
# # Your own model, arrays, tables and tokens
#
# A score needs to know two things of a network: how to make one from a key, and what logits it gives. So a
# model may come from Flax Linen, Flax NNX, Equinox or be two plain functions, and the examples may be images,
# rows of a table or tokens. This notebook brings one of each, and asks every time whether the score found
# what we know to be hard.
#
# NNX comes with Flax, Equinox by `pip install equinox`; where one cannot be imported its cells say so and do
# nothing. All of it took 32 to 44 seconds on two CPU cores, which were shared with other work.

# %%
# On Colab, with the repository there, run in a cell of its own first: %pip install ./diet_jax equinox
import functools
import importlib
import os

import flax.linen as nn
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from scipy.stats import spearmanr
from sklearn.datasets import load_breast_cancer

import diet_jax as dj

TINY = "DIET_JAX_TINY" in os.environ  # The tests run this notebook with fewer seeds and epochs.
NUM_SEEDS, SHORTER = (2, 3) if TINY else (8, 1)
plt.rcParams.update({"figure.dpi": 150, "axes.spines.top": False, "axes.spines.right": False})


def imported(name):
    """A module, or None where it cannot be imported."""
    try:
        return importlib.import_module(name)
    except Exception as error:
        print(f"{name} cannot be imported, its cells do nothing: {error}")
        return None


nnx, eqx = imported("flax.nnx"), imported("equinox")


def training(epochs, batch_size, learning_rate):
    """The paper's recipe (SGD with Nesterov momentum) at another length."""
    return dj.TrainConfig(
        epochs=max(2, epochs // SHORTER),
        batch_size=batch_size,
        learning_rate=learning_rate,
        schedule="cosine",
        augment="none",
    )


# %% [markdown]
# ## Linen, and the same network as two functions
#
# A Linen module is one whose call takes inputs and `train`, and returns logits. Two functions are enough as
# well: `init(key, shape)` and `apply(params, inputs)`. Both networks below are one hidden layer of 64 units.


# %%
class Net(nn.Module):
    @nn.compact
    def __call__(self, x, train: bool):
        x = nn.relu(nn.Dense(64)(x.reshape(len(x), -1)))
        return nn.Dense(10)(x)


def init(key, shape):
    first, last = jax.random.split(key)
    size = int(np.prod(shape))
    return {
        "w1": jax.random.normal(first, (size, 64)) / size**0.5,
        "b1": jnp.zeros(64),
        "w2": jax.random.normal(last, (64, 10)) / 8,
        "b2": jnp.zeros(10),
    }


def apply(params, x):
    hidden = jax.nn.relu(x.reshape(len(x), -1) @ params["w1"] + params["b1"])
    return hidden @ params["w2"] + params["b2"]


digits, digits_test = dj.load_dataset("digits")
keys = dj.seed_keys(0, "score", NUM_SEEDS)
models = {"Linen": dj.from_linen(Net()), "functions": dj.from_functions(init, apply)}
of_digits = {
    name: dj.score_ensemble(keys, model, digits, config=training(20, 32, 0.05), epoch=2, names=("el2n",))
    for name, model in models.items()
}
linen, functions = (scored.scores["el2n"].mean(axis=0) for scored in of_digits.values())
print(f"rank correlation of their mean EL2N: {spearmanr(linen, functions).statistic:.3f}")

# %% [markdown]
# The two ensembles have nothing in common but the data and the recipe, not even the way they are initialised.
# What they agree on is a property of the digits.
#
# Exact gradient norms are taken from any such function as well: here every gradient of the plain network is
# formed one by one, and its length compared with `dj.grand`, which forms none.

# %%
params = dj.take_seed(of_digits["functions"].variables, 0).params
x, y = dj.normalized_inputs(digits, np.arange(100)), jnp.asarray(digits.labels[:100])


def length_of_gradient(x, y):
    gradient = jax.grad(lambda params: dj.cross_entropy(apply(params, x[None]), y[None])[0])(params)
    return jnp.sqrt(sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(gradient)))


grand = jax.jit(functools.partial(dj.grand, apply))(params, x, y)
one_by_one = jax.jit(jax.vmap(length_of_gradient))(x, y)
print(f"largest relative difference of GraNd: {np.max(np.abs(grand - one_by_one) / one_by_one):.1e}")

# %% [markdown]
# ## A table, in Equinox
#
# `dj.Dataset.from_arrays` takes one array for each example and says what it took it for: floating `[n f]` are
# rows of a table, normalised for each feature. What could be meant in two ways is refused, with the line that
# converts it:

# %%
table = load_breast_cancer()
try:
    dj.Dataset.from_arrays(table.data, np.eye(2)[table.target])
except dj.InputError as error:
    print(f"refused: {error}\n")

shuffled = np.random.default_rng(0).permutation(len(table.target))
patients = {"name": "breast_cancer", "class_names": tuple(table.target_names)}
rows = dj.Dataset.from_arrays(table.data[shuffled[:400]], table.target[shuffled[:400]], **patients)
rows_test = dj.Dataset.from_arrays(
    table.data[shuffled[400:]],
    table.target[shuffled[400:]],
    split="test",
    normalization=rows.normalization,  # By mean and deviation of the training rows.
    **patients,
)
print(rows)


# %% [markdown]
# One function does the rest for whatever is brought: it scores an ensemble, and retrains fresh networks on
# everything, on the hardest half and on random halves.


# %%
def study(model, train, test, config, epoch):
    """Mean EL2N `[n]`, and test accuracies of fresh networks by what was kept."""
    scored = dj.score_ensemble(keys, model, train, config=config, epoch=epoch, names=("el2n",))
    el2n = scored.scores["el2n"].mean(axis=0)
    fresh = dj.seed_keys(0, "retrain", NUM_SEEDS)  # Never the seeds that scored.
    keep = {
        "everything": None,
        "hardest half": dj.keep_highest(el2n, 0.5),
        "random half": np.stack([dj.keep_random(key, len(train), 0.5) for key in fresh]),
    }
    for name, mask in keep.items():
        predicted = dj.train_ensemble(fresh, model, train, test, config=config, keep=mask).predicted
        each = 100 * (predicted == test.labels).mean(axis=1)
        print(f"{name:13} test accuracy {each.mean():.1f} ± {each.std(ddof=1):.1f} %")
    return el2n


if eqx is not None:

    class Mlp(eqx.Module):
        """As always in Equinox the call takes one example; dropout draws by the key it is given."""

        first: eqx.nn.Linear
        last: eqx.nn.Linear
        dropout: eqx.nn.Dropout

        def __init__(self, key):
            keys = jax.random.split(key)
            self.first, self.last = eqx.nn.Linear(30, 32, key=keys[0]), eqx.nn.Linear(32, 2, key=keys[1])
            self.dropout = eqx.nn.Dropout(0.2)

        def __call__(self, x, *, key=None):
            return self.last(self.dropout(jax.nn.relu(self.first(x)), key=key))

    of_rows = study(dj.from_equinox(Mlp), rows, rows_test, training(60, 25, 0.05), epoch=5)

# %% [markdown]
# Examples that are no pictures are drawn as rows of a table:

# %%
dj.draw_examples(rows, of_rows, hardest=5, easiest=3) if eqx is not None else None

# %% [markdown]
# ## Tokens, in NNX
#
# Integers `[n t]` are tokens: they are not normalised, and models get int32. Here the class of a sequence is
# the most frequent of its tokens 0 to 3, so we know what is hard: sequences in which the first is hardly
# ahead of the second.

# %%
CLASSES, VOCABULARY, LENGTH = 4, 8, 16


def sequences(seed, count, split):
    """Sequences with their classes, and by how many tokens the class leads."""
    tokens = np.random.default_rng(seed).integers(0, VOCABULARY, (count, LENGTH))
    counts = (tokens[:, :, None] == np.arange(CLASSES)).sum(axis=1)
    second, first = np.sort(counts, axis=1)[:, -2:].T
    about = {"name": "tokens", "split": split, "kind": "tokens"}
    return dj.Dataset.from_arrays(tokens, counts.argmax(axis=1), **about), first - second


(tokens, lead), (tokens_test, _) = sequences(0, 1000, "train"), sequences(1, 1000, "test")
print(tokens)

if nnx is not None:

    class Attention(nnx.Module):
        """Any NNX module that is made from `rngs` and takes a batch."""

        def __init__(self, rngs, width=16):
            self.embed = nnx.Embed(VOCABULARY, width, rngs=rngs)
            self.attention = nnx.MultiHeadAttention(2, width, decode=False, rngs=rngs)
            self.hidden = nnx.Linear(width, 32, rngs=rngs)
            self.head = nnx.Linear(32, CLASSES, rngs=rngs)

        def __call__(self, tokens):
            x = self.embed(tokens)
            x = (x + self.attention(x)).mean(axis=1)
            return self.head(nnx.relu(self.hidden(x)))

    model = dj.from_nnx(lambda rngs: Attention(rngs))
    of_tokens = study(model, tokens, tokens_test, training(30, 50, 0.05), epoch=5)

# %% [markdown]
# ## What the scores found
#
# Left: two frameworks, one ranking. Middle: the table along its first principal component; the hard patients
# lie where the two classes meet. Right: sequences by the lead of their class, which no network was told; the
# line is the mean.
#
# More kinds of data stand in [data of your own](../docs/own-data.md), whole training loops in NumPy, PyTorch
# and JAX in [a loop of your own](../docs/own-loop.md).

# %%
figure, (left, middle, right) = plt.subplots(1, 3, figsize=(9.6, 3.1), layout="constrained")
left.plot(linen, functions, ".", color="#0072B2", markersize=3, alpha=0.4, mew=0)
left.set(xscale="log", yscale="log", xlabel="EL2N, Linen", ylabel="EL2N, two functions", title="digits")

found = {"linen_with_functions": float(spearmanr(linen, functions).statistic)}
sentence = f"Linen and plain functions rank the digits alike at {found['linen_with_functions']:.2f}"
if eqx is not None:
    features = np.asarray(dj.normalized_inputs(rows))
    along = features @ np.linalg.svd(features - features.mean(axis=0), full_matrices=False)[2][0]
    ends = [along[rows.labels == label].mean() for label in (0, 1)]
    along = (along - ends[0]) / (ends[1] - ends[0])  # 0 and 1 are the means of the two classes.
    for label, color in ((0, "#D55E00"), (1, "#009E73")):
        its = rows.labels == label
        middle.plot(along[its], of_rows[its], ".", color=color, alpha=0.6, label=rows.class_names[label])
    middle.set(xlabel="first principal component", ylabel="EL2N", title="breast cancer")
    middle.legend(frameon=False, fontsize=8)
    hardest = dj.keep_highest(of_rows, 0.1)
    wrong_side = (along > 0.5) != (rows.labels == 1)
    found["wrong_side_of_hardest"] = float(wrong_side[hardest].mean())
    found["wrong_side_of_all"] = float(wrong_side.mean())
    sentence += (
        f"; of the hardest tenth of the patients {found['wrong_side_of_hardest']:.0%} lie nearer to the "
        f"other class's mean along the first component, of all {found['wrong_side_of_all']:.0%}"
    )
if nnx is not None:
    leads = np.arange(6)
    jitter = np.random.default_rng(0).uniform(-0.25, 0.25, len(lead))
    right.plot(lead + jitter, of_tokens, ".", color="#999999", markersize=3, alpha=0.5, mew=0)
    by_lead = [of_tokens[lead == each].mean() for each in leads]
    right.plot(leads, by_lead, "o-", color="#0072B2", markersize=4)
    right.set(xlabel="lead of the class, in tokens", ylabel="EL2N", title="tokens", xlim=(-0.5, 6.5))
    found["lead_with_el2n"] = float(spearmanr(lead, of_tokens).statistic)
    sentence += f"; EL2N falls with the lead of a sequence (rank correlation {found['lead_with_el2n']:.2f})"
plt.show()

# %%
print(sentence + ".")
