"""A loop of your own in NumPy, backward pass by hand: it ends in scores, a score file and a mask file.

Command: python examples/numpy_loop.py        (5 s on two cores; writes six .npz files here)
"""

import numpy as np

import diet_jax as dj

TRAIN, TEST = dj.load_dataset("digits")
X, TEST_X = (np.asarray(dj.normalized_inputs(split)).reshape(-1, 64) for split in (TRAIN, TEST))
N, EPOCHS, BATCH = len(TRAIN), 12, 32
STEPS = dj.epoch_to_step(EPOCHS, dj.steps_per_epoch(N, BATCH))


def predict(params, x):
    """The network in operators that NumPy and JAX share: trained by the one, differentiated by the other."""
    return ((hidden := x @ params["in"]) * (hidden > 0)) @ params["out"]


def fit(seed, kept):
    """Trains on the kept rows for STEPS updates; returns parameters and who was right, bool [epochs, n]."""
    rng, correct = np.random.default_rng(seed), []
    params = {"in": rng.normal(0, 0.1, (64, 48)), "out": rng.normal(0, 0.1, (48, 10))}
    for step in range(STEPS):
        if (at := step % dj.steps_per_epoch(len(kept), BATCH)) == 0:
            order = rng.permutation(kept)
            correct.append(predict(params, X).argmax(axis=1) == TRAIN.labels)
        rows = order[at * BATCH : (at + 1) * BATCH]
        hidden = np.maximum(X[rows] @ params["in"], 0)
        error = (powers := np.exp(hidden @ params["out"])) / powers.sum(axis=1, keepdims=True)
        error[np.arange(BATCH), TRAIN.labels[rows]] -= 1  # softmax - onehot
        back = (error @ params["out"].T) * (hidden > 0)
        params["out"] -= 0.1 * hidden.T @ error / BATCH
        params["in"] -= 0.1 * X[rows].T @ back / BATCH
    return params, np.stack(correct)


if __name__ == "__main__":
    fits = [fit(seed, np.arange(N)) for seed in range(5)]
    scores = {
        "el2n": [dj.el2n(predict, params, X, TRAIN.labels) for params, _ in fits],
        "grand": [dj.grand(predict, params, X, TRAIN.labels) for params, _ in fits],
        "forgetting": [dj.forgetting_scores(correct, never_learned=EPOCHS) for _, correct in fits],
    }
    kept = {"random": np.random.default_rng(0).permutation(N)[: dj.num_kept(N, 0.4)]}
    for name, of_seeds in scores.items():
        file = dj.ScoreFile.from_seeds(name, np.stack(of_seeds), TRAIN, step=STEPS)
        file.save(f"{name}.npz")
        keep = dj.keep_highest(file.scores, 0.4)
        mask = dj.KeepFile.from_mask(keep, TRAIN, provenance={"method": "highest"})
        mask.save(f"{name}_keep.npz")
        kept[name] = mask.rows  # What indexes arrays; mask.kept_ids names the examples outside.
    for name, rows in kept.items():  # Never the seeds that scored.
        networks = [fit(seed, rows)[0] for seed in range(100, 103)]
        accuracy = np.mean([predict(params, TEST_X).argmax(axis=1) == TEST.labels for params in networks])
        print(f"two in five kept by {name}: test accuracy {accuracy:.3f}")
