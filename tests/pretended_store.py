"""A store that trains nothing: it counts what a figure would train, and answers with made-up numbers."""

import dataclasses
from pathlib import Path

import numpy as np

from diet_jax.experiments.plan import setup_to_plan
from diet_jax.experiments.reproduction.store import Store, Training
from diet_jax.experiments.reproduction.task import digest


class Numbers(dict):
    """Whatever is asked for by name, a number between 0 and 1."""

    def __init__(self, rng):
        self.rng = rng

    def __missing__(self, name):
        return self.rng.random()


class PretendedStore(Store):
    """Data that is not on disk is zeros of the published size; set TFDS_DATA_DIR to a folder without any."""

    def __init__(self):
        super().__init__(Path("nowhere"), None)
        self.rng = np.random.default_rng(0)
        self.steps = {}
        """Of each training, by (digest of its facts, batch size)."""

    @property
    def images(self):
        """How many images all trainings together see."""
        return sum(steps * batch for (_, batch), steps in self.steps.items())

    def setup(self, task):
        name = digest(task.facts())
        if name not in self._setups:
            setup = setup_to_plan(task.config(None))[0]
            # Zeros come without noise: some labels are taken to be wrong.
            clean = setup.splits.train.labels.copy()
            wrong = clean[: int(task.data.label_noise * len(clean))]
            wrong[:] = (wrong + 1) % setup.splits.train.num_classes
            self._setups[name] = dataclasses.replace(setup, clean_labels=clean)
        return self._setups[name]

    def count(self, training, steps):
        key = digest(self.facts(training)), training.task.train.batch_size
        self.steps[key] = max(steps, self.steps.get(key, 0))

    def scores(self, task, wanted, num_seeds):
        for at in wanted:
            for seed in range(num_seeds if at.score.needs_training else 0):
                self.count(Training(task, "score", seed), self.step(task, at.epoch))
        shape = num_seeds, len(self.setup(task).splits.train)
        return {at: self.rng.random(shape).astype(np.float32) for at in wanted}

    def predictions(self, task, keep, num_seeds, *, split="test"):
        dataset, found = getattr(self.setup(task).splits, split), {}
        for key, mask in self.trainable(task, keep).items():
            for seed in range(num_seeds):
                one = mask if mask is None or mask.ndim == 1 else mask[seed]
                training = Training(task, "retrain", seed, one)
                self.count(training, self._num_steps(training))
            found[key] = self.rng.integers(0, dataset.num_classes, (num_seeds, len(dataset)))
        return found

    def memo(self, kind, facts, compute):
        if kind == "path_errors":
            return {name: self.rng.random(facts["points"]) for name in facts["rows"]}
        return Numbers(self.rng)

    def state(self, training, step, progress=None, *, save=True):
        raise AssertionError("nothing is trained here")
