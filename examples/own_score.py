"""Your own score: registered in one file, it is a score like any other, in Python and on the command line.

Command: python examples/own_score.py
         diet-jax run examples/own_score.py --score.unsure.temperature 2
"""

import functools
from dataclasses import dataclass

import jax
import jax.numpy as jnp

import diet_jax as dj


@dataclass(frozen=True)
class UnsureOptions:
    """Options of the score; they become options of configs and of the command line."""

    temperature: float = 1.0
    """What the logits are divided by."""


def entropy(predict_fn, variables, inputs, labels, *, temperature):
    """Returns the entropy of the predicted distribution of each example, float32 [b]: high means unsure."""
    log_p = jax.nn.log_softmax(predict_fn(variables, inputs) / temperature, axis=-1)
    return -jnp.sum(jnp.exp(log_p) * log_p, axis=-1)


def build(model, temperature):
    """Returns the score's function for a model."""
    return functools.partial(entropy, model.predict, temperature=temperature)


dj.SCORES.register(
    dj.Score(
        name="unsure",
        label="unsure",
        formula="entropy of softmax(logits / temperature), eval mode, un-augmented",
        reference="Shannon 1948",
        reads="logits",
        build=build,
        options=UnsureOptions(),
    )
)

CONFIG = dj.RunConfig(
    train=dj.TrainConfig(epochs=10, batch_size=32, learning_rate=0.05, schedule="cosine", augment="none"),
    score=dj.ScoreConfig(names=("unsure", "el2n"), epoch=2, num_seeds=3),
    select=dj.SelectConfig(fractions=(0.5,)),
    retrain=dj.RetrainConfig(num_seeds=3),
    run_dir="runs/own-score",
)

if __name__ == "__main__":
    print(dj.run(CONFIG))
