"""A transformer in Flax NNX on sequences of tokens: what it finds hard is what was made hard.

The class of a sequence is the most frequent of its tokens 0 to 3; the smaller its lead, the harder it is.

Command: python examples/nnx_transformer.py        (20 s on two cores)
"""

import numpy as np
from flax import nnx

import diet_jax as dj

CLASSES, VOCABULARY, LENGTH = 4, 8, 16


class Transformer(nnx.Module):
    """Any NNX module that takes int32 [b t] and returns logits; its dropout follows the mode."""

    def __init__(self, rngs: nnx.Rngs, width: int = 16):
        self.embed, self.place = (nnx.Embed(size, width, rngs=rngs) for size in (VOCABULARY, LENGTH))
        self.norms = nnx.List([nnx.LayerNorm(width, rngs=rngs) for _ in range(3)])
        self.attention = nnx.MultiHeadAttention(2, width, decode=False, rngs=rngs)
        self.wide, self.narrow = nnx.Linear(width, 32, rngs=rngs), nnx.Linear(32, width, rngs=rngs)
        self.dropout = nnx.Dropout(0.1, rngs=rngs)
        self.head = nnx.Linear(width, CLASSES, rngs=rngs)

    def __call__(self, tokens):
        x = self.embed(tokens) + self.place(np.arange(LENGTH))
        x = x + self.attention(self.norms[0](x))
        x = x + self.dropout(self.narrow(nnx.gelu(self.wide(self.norms[1](x)))))
        return self.head(self.norms[2](x).mean(axis=1))


def make(seed: int, count: int, split: str):
    """Draws sequences and their classes, and how far the class leads."""
    tokens = np.random.default_rng(seed).integers(0, VOCABULARY, (count, LENGTH))
    counts = (tokens[:, :, None] == np.arange(CLASSES)).sum(axis=1)
    second, first = np.sort(counts, axis=1)[:, -2:].T
    return dj.Dataset.from_arrays(tokens, counts.argmax(axis=1), name="tokens", split=split), first - second


def main() -> None:
    (train, lead), (test, _) = make(0, 1000, "train"), make(1, 1000, "test")
    print(train)  # Integers are taken for tokens: they are not normalised.
    model = dj.from_nnx(Transformer)
    config = dj.TrainConfig(epochs=10, batch_size=50, learning_rate=0.1, schedule="cosine", augment="none")
    scored = dj.score_ensemble(dj.seed_keys(0, "score", 3), model, train, config=config, epoch=5)
    grand = scored.scores["grand"].mean(axis=0)
    for gap in range(4):
        print(f"lead {gap}: GraNd {grand[lead == gap].mean():.2f} of {(lead == gap).sum()} sequences")
    keys = dj.seed_keys(0, "retrain", 3)  # Never the seeds that scored.
    at_random = np.stack([dj.keep_random(key, len(train), 0.5) for key in keys])
    for name, keep in {"hardest half": dj.keep_highest(grand, 0.5), "random half": at_random}.items():
        trained = dj.train_ensemble(keys, model, train, test, config=config, keep=keep)
        print(f"{name}: test accuracy {(trained.predicted == test.labels).mean():.3f}")


if __name__ == "__main__":
    main()
