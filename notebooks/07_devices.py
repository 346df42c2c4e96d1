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
# # From a laptop to a GPU and a TPU slice
#
# Scoring is many trainings of the same network, so it spreads over devices nearly by itself. The same
# functions run on a laptop, on one GPU, on eight and on a TPU slice; what changes is *where* seeds and
# batches lie. This notebook shows each arrangement and what it does to the numbers: nothing beyond rounding.
#
# Without accelerators it simulates eight devices on the CPU, which share its cores: what it shows is where
# things go and what comes out, not speed. All of it took 28 to 85 seconds on two CPU cores, which were shared
# with other work.

# %%
# On Colab, with the repository there, run in a cell of its own first: %pip install ./diet_jax grain
import importlib.util
import os

TINY = "DIET_JAX_TINY" in os.environ  # The tests run this notebook with shorter trainings.
# Before JAX is imported: a CPU that counts as eight devices. GPUs and TPUs stay as many as they are.
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"

import functools
import tempfile
import time
from pathlib import Path

import jax
import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

import diet_jax as dj
from diet_jax.devices.memory import halving
from diet_jax.experiments.plan import plan_run

plt.rcParams.update({"figure.dpi": 150, "axes.spines.top": False, "axes.spines.right": False})
print(f"{jax.device_count()} x {jax.devices()[0].device_kind}, JAX {jax.__version__}")

# %%
train, test = dj.load_dataset("digits")
model = dj.create_model("mlp", num_classes=train.num_classes, widths=(64,))
config = dj.TrainConfig(epochs=4, batch_size=32, learning_rate=0.05, schedule="cosine", augment="none")
keys = dj.seed_keys(0, "score", 8)
score = functools.partial(
    dj.score_ensemble, keys, model, train, config=config, epoch=1 if TINY else 2, names=("el2n",)
)

# %% [markdown]
# ## One device, many seeds: `how=`
#
# On one device the seeds may run side by side or in turn. Which is faster depends on the device: `vmap` fills
# a GPU with one batched program; `map` is a loop over seeds inside the program, with the memory of one;
# `loop` calls a compiled training for one seed after the other, and can be stopped between two calls. The
# default chooses by what was measured, so `how=` is for those who measure themselves.

# %%
scores, seconds = {}, {}


def measure(name, **options):
    """Scores by one arrangement; the second call is timed, for the first one compiles."""
    score(**options)
    began = time.perf_counter()
    scores[name] = score(**options).scores["el2n"]
    seconds[name] = time.perf_counter() - began


for how in ("map", "vmap") if TINY else ("map", "vmap", "loop"):
    measure(how, how=how)
    apart = np.abs(scores[how] - scores["map"]).max()
    print(f"how={how!r:7} {seconds[how]:.2f} s, largest difference from 'map' {apart:.1e}")

# %% [markdown]
# ## Many devices: a mesh
#
# A mesh is a grid of devices with named axes. `dj.make_mesh` makes it, `jax.set_mesh` sets it, and every
# function that is called under it uses it. Along the axis `seed` each device trains networks of its own, and
# they need not talk to each other. Along `data` the devices share each batch of one network, whose gradients
# they sum. With `shard_params=True` they also share its parameters, for networks that fit on no single
# device.

# %%
count = jax.device_count()
meshes = {f"mesh: {count} x seed": dj.make_mesh(seed=count)}
if count % 2 == 0:
    meshes[f"mesh: {count // 2} x seed, 2 x data"] = dj.make_mesh(seed=count // 2, data=2)
if not TINY:
    meshes[f"mesh: {count} x data, parameters split"] = dj.make_mesh(seed=1, data=count, shard_params=True)
for name, mesh in meshes.items():
    with jax.set_mesh(mesh):
        measure(name)
    apart = np.abs(scores[name] - scores["map"]).max()
    print(f"{name:36} {dict(mesh.shape)}: largest difference from one device {apart:.1e}")

# %% [markdown]
# Sums over devices add in another order, and training carries the last bits on. How large is that? Against
# the difference between two seeds it is nothing; but where scores are nearly equal, it can decide who is kept
# at the edge. So an experiment is compared within one arrangement, or by the overlap of what is kept:

# %%
for name, values in scores.items():
    shared = dj.keep_highest(values.mean(axis=0), 0.5) & dj.keep_highest(scores["map"].mean(axis=0), 0.5)
    print(f"{name:36} keeps {shared.sum() / dj.num_kept(len(train), 0.5):.1%} of what 'map' keeps")

# %% [markdown]
# ## Before it runs: the plan
#
# What a run will cost is known before it starts. `diet-jax run CONFIG --plan` times a training step of your
# device and reckons operations, time, memory and checkpoints; with `--plan-tflops` nothing is even compiled,
# for a device that is not at hand.

# %%
plan = plan_run(dj.RunConfig(), tflops=30)
trainings = sum(stage.flops for stage in plan.stages) / plan.one_training
print(f"the default run: the operations of {trainings:.0f} trainings, {sum(plan.programs.values())} programs")
print(f"{sum(plan.memory.values()) / 2**20:.1f} MiB on each device, of {plan.free / 2**30:.1f} GiB free here")

# %% [markdown]
# ## When memory runs out
#
# Batch sizes of scoring are chosen by the memory of the compiled program. Where memory runs out all the same,
# the group of seeds, or the batch, is halved and what was finished is kept. The message looks like this, here
# for a device that is made to hold three networks at most:


# %%
def train_group(first, size):
    if size > 3:
        raise MemoryError
    return [f"network {seed}" for seed in range(first, first + size)]


done = halving(train_group, 8, 8, what="networks", remedy="choose a smaller model", warn=print)
print(f"all {sum(number for number, _ in done)} done, in groups of {[number for number, _ in done]}")

# %% [markdown]
# ## Larger than memory: streaming
#
# `dj.load_streamed` keeps encoded images on disk and decodes them when they are asked for (by Grain, `pip
# install grain`). Rows, ids and pixels are those of `dj.load_dataset`, so the numbers are too. Here the
# digits are written as a folder of PNG files, and EL2N of a network is taken from memory and from disk.

# %%
if importlib.util.find_spec("grain") is None:
    print("Grain is not installed: this cell does nothing")
else:
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as cache:
        for split, data in (("train", train.take(np.arange(200))), ("test", test.take(np.arange(50)))):
            for image, label, name in zip(data.images, data.labels, data.ids, strict=True):
                path = Path(folder, split, str(label), f"{name}.png")
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(image[..., 0]).save(path)
        in_memory = dj.load_dataset(f"folder:{folder}", cache_dir=cache).train
        streamed = dj.load_streamed(f"folder:{folder}", cache_dir=cache).train
        variables = model.init(jax.random.key(0), streamed.shape)
        el2n = functools.partial(dj.el2n, model.predict)
        both = [dj.score_dataset(el2n, variables, data) for data in (in_memory, streamed)]
    print(
        f"{len(streamed)} images from disk, largest difference of EL2N {np.abs(both[0] - both[1]).max():.1e}"
    )

# %% [markdown]
# ## Ten minutes at a time
#
# Where an accelerator is lent for minutes only, `--minutes` stops in time, says what is left and ends with
# exit code 0. The same command goes on, also from a copy of the folder on another machine; in Python it is
# `dj.run(..., minutes=10)`.
#
# ```sh
# diet-jax run configs/cifar10.py --minutes 10 --run-dir runs/cifar10    # again and again, until it is done
# ```
#
# ## One command on many hosts
#
# On a TPU slice or a cluster the same command runs on every host; process 0 alone writes. The mesh spans all
# devices of all hosts, and `--mesh.seed` and `--mesh.data` cut it as above.
#
# ```sh
# diet-jax run configs/cifar10.py --distributed                          # on every host of a TPU slice
# diet-jax run configs/cifar10.py --distributed --coordinator 10.0.0.1:8476 --num-processes 2 --process-id 0
# ```
#
# ```sh
# #!/bin/bash
# #SBATCH --nodes=1 --ntasks-per-node=4 --gpus-per-node=4 --time=01:00:00 --requeue
# srun diet-jax run configs/cifar10.py --distributed --run-dir "$SLURM_SUBMIT_DIR/run"
# ```
#
# ## What was measured, and what was not
#
# ResNet18 on 32×32 images in bfloat16, from [the page of results](../docs/results/gpu.md), which names
# versions and commits:
#
# | what | one H200 | one H100 (earlier code) |
# |---|---:|---:|
# | training, one seed, batches of 128 | 48,043 images/s | 44,510 images/s |
# | training, one seed, batches of 512 | 84,237 images/s | 74,300 images/s |
# | four seeds in one program, over one after the other | 1.10 | 0.59 (grouped convolutions, not used now) |
# | `dj.grand`, over one ordinary gradient of the batch | 1.01 | 1.42 |
#
# Several processes were tested on the CPUs of one machine, with two and four of them, and many devices by
# eight simulated ones. **No TPU, no second GPU and no cluster was at hand: their commands follow JAX's
# documentation.**
#
# ## The same numbers everywhere
#
# Left: which device trains which seeds where two of them share each batch. Right: how far EL2N is from that
# of one device by `map`, for each arrangement, beside the distance of one seed from another.

# %%
apart = {name: np.abs(values - scores["map"]).max() for name, values in scores.items() if name != "map"}
between_seeds = float(np.median(np.abs(scores["map"][1:] - scores["map"][:-1])))
along_seed = max(count // 2, 1)
figure, (left, right) = plt.subplots(1, 2, figsize=(8.4, 2.9), layout="constrained", width_ratios=(1, 1.5))
owners = np.array_split(np.arange(len(keys)), along_seed)
for row, seeds in enumerate(owners):
    for column in range(min(2, count)):
        color = plt.get_cmap("viridis")(0.25 + 0.6 * row / along_seed)
        left.add_patch(plt.Rectangle((column, row), 0.94, 0.9, color=color, alpha=0.5))
        text = f"device {2 * row + column}\nseeds {', '.join(map(str, seeds))}"
        left.text(column + 0.47, row + 0.45, text, ha="center", va="center", fontsize=7.5)
left.set(xlim=(0, min(2, count)), ylim=(along_seed, 0), xlabel="data: each batch is split", ylabel="seed")
left.set(xticks=[], yticks=[])
right.barh(range(len(apart)), list(apart.values()), color="#0072B2", height=0.55)
for row, value in enumerate(apart.values()):
    text = f" {value:.0e}" if value else " equal to the last bit"
    right.text(max(value, 1e-9), row, text, va="center", fontsize=8)
right.axvline(between_seeds, color="#D55E00", linewidth=1.2)
right.text(between_seeds, -0.75, "one seed from another (median) ", color="#D55E00", fontsize=8, ha="right")
right.set_yticks(range(len(apart)), list(apart), fontsize=8)
right.set(
    xscale="log",
    xlim=(1e-9, 1),
    ylim=(len(apart) - 0.5, -1.1),
    xlabel="largest difference of EL2N from one device",
)
plt.show()

# %%
found = {"devices": count, "largest_difference": float(max(apart.values())), "between_seeds": between_seeds}
print(
    f"On {count} devices EL2N of {len(train):,} digits by {len(keys)} networks differs by at most "
    f"{found['largest_difference']:.0e} from that of one device; two seeds differ by {between_seeds:.0e} in "
    f"the median."
)
