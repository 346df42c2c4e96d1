"""Your own Flax network: score an ensemble of it in one compiled step, and prune by what it finds hard.

Command: python examples/own_model.py        (15 s on two cores)
"""

import flax.linen as nn
import numpy as np

import diet_jax as dj


class SmallNet(nn.Module):
    """Any Linen module whose call takes images and `train`, and returns logits."""

    @nn.compact
    def __call__(self, x, train: bool):
        x = nn.Conv(8, (3, 3), strides=(2, 2))(x)
        x = nn.BatchNorm(use_running_average=not train, momentum=0.9)(x)
        x = nn.relu(x).reshape(len(x), -1)
        return nn.Dense(10)(x)


def main() -> None:
    train, test = dj.load_dataset("digits")
    model = dj.from_linen(SmallNet())
    config = dj.TrainConfig(epochs=10, batch_size=32, learning_rate=0.05, schedule="cosine", augment="none")

    # One network for each key; with BatchNorm's running statistics, as the paper scores them.
    scored = dj.score_ensemble(dj.seed_keys(0, "score", 4), model, train, config=config, step=66)
    el2n = scored.scores["el2n"].mean(axis=0)
    hardest = np.argsort(el2n)[-5:]
    print("hardest examples:", [f"{train.ids[row]} (a {train.labels[row]})" for row in hardest])

    keys = dj.seed_keys(0, "retrain", 3)  # Never the seeds that scored.
    for name, keep in {
        "everything": None,
        "hardest half": dj.keep_highest(el2n, 0.5),
        "random half": np.stack([dj.keep_random(key, len(train), 0.5) for key in keys]),
    }.items():
        trained = dj.train_ensemble(keys, model, train, test, config=config, keep=keep)
        accuracy = (trained.predicted == test.labels).mean(axis=1)
        print(f"{name}: test accuracy {accuracy.mean():.4f} ± {accuracy.std(ddof=1):.4f}")


if __name__ == "__main__":
    main()
