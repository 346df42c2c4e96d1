"""Your own arrays and your own Flax network, with dropout and BatchNorm, through the whole comparison.

Command: python examples/own_run.py            (10 s on two cores)
         diet-jax run examples/own_run.py --retrain.num-seeds 10
"""

import flax.linen as nn
import numpy as np

import diet_jax as dj


class Net(nn.Module):
    """Any Linen module whose call takes inputs and `train`, and returns logits."""

    @nn.compact
    def __call__(self, x, train: bool):
        x = nn.Conv(8, (3, 3))(x)
        x = nn.relu(nn.BatchNorm(use_running_average=not train)(x))
        x = nn.max_pool(x, (2, 2), (2, 2)).reshape(len(x), -1)
        x = nn.Dropout(0.2, deterministic=not train)(x)
        return nn.Dense(3)(x)


def bars(count, seed):
    """Draws noisy pictures of a bar that leans, stands or lies: uint8 [n 12 12], and which, int [n]."""
    rng = np.random.default_rng(seed)
    lies = np.zeros((12, 12))
    lies[5] = 1
    labels, shifts = rng.integers(3, size=count), rng.integers(-4, 5, size=count)
    clean = np.stack([(np.eye(12), lies.T, lies)[label] for label in labels])
    moved = np.stack([np.roll(one, shift, (0, 1)) for one, shift in zip(clean, shifts, strict=True)])
    noisy = np.clip(moved + rng.normal(0, 0.6, moved.shape), 0, 1)
    return (255 * noisy).astype(np.uint8), labels


NAMES = ("leans", "stands", "lies")
TRAIN = dj.Dataset.from_arrays(*bars(1000, 0), name="bars", split="train", class_names=NAMES)
TEST = dj.Dataset.from_arrays(
    *bars(500, 1), name="bars", split="test", class_names=NAMES, normalization=TRAIN.normalization
)
MODEL = dj.from_linen(Net())
CONFIG = dj.RunConfig(
    train=dj.TrainConfig(epochs=6, batch_size=50, learning_rate=0.02, schedule="cosine", augment="none"),
    score=dj.ScoreConfig(epoch=2, num_seeds=3),
    select=dj.SelectConfig(fractions=(0.5,)),
    retrain=dj.RetrainConfig(num_seeds=3),
    run_dir="runs/own-run",
)

if __name__ == "__main__":
    result = dj.run(CONFIG, train=TRAIN, test=TEST, model=MODEL)
    print(result)
