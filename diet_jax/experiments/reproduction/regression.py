"""A network frozen at epoch t: kernel regression with its kernel, linearised training (Fort et al.)."""

import dataclasses
import functools
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from diet_jax.analysis.ntk import kernel_regression, logit_gram
from diet_jax.analysis.statistics import Comparison
from diet_jax.data.augment import normalized_images
from diet_jax.data.dataset import Dataset, first_examples
from diet_jax.devices.defaults import default_steps_per_call, training_has_convolution
from diet_jax.devices.progress import Progress
from diet_jax.ensemble.retraining import predict_dataset
from diet_jax.errors import InputError
from diet_jax.experiments.reproduction.evidence import Evidence, Part
from diet_jax.experiments.reproduction.experiment import Experiment
from diet_jax.experiments.reproduction.outcome import Claim, Outcome, Published, level, lines_panel, series
from diet_jax.experiments.reproduction.store import Store, Training
from diet_jax.experiments.reproduction.task import Task
from diet_jax.models import linearize
from diet_jax.training.loop import program_of, train_between
from diet_jax.training.seeds import seed_keys
from diet_jax.training.step import init_state
from diet_jax.types import Variables


@dataclass(frozen=True)
class FrozenKernel(Experiment):
    """Test error of kernel regression and of linearised training, both at the network of epoch t."""

    task: Task
    epochs: tuple[float, ...]
    num_train: int = 300
    """Train examples of the kernel regression, the first of each class."""
    num_test: int = 500
    ridge: float = 1e-3
    """Relative to the mean diagonal of the kernel."""
    linear_epochs: float = 10.0
    linear_rate: float = 0.001
    """Learning rate of the linearised training; 0.001 in Fort et al."""
    seeds: int = 2
    claim_epoch: float = 4.0
    """One of the epochs: what the first is compared with."""

    def run(self, store: Store, published: Published | None) -> Outcome:
        """Freezes the network at every epoch and fits what is linear in its parameters."""
        if self.claim_epoch not in self.epochs[1:]:
            raise InputError(
                f"claim_epoch {self.claim_epoch:g} must be one of the epochs {self.epochs} after the first"
            )
        setup = store.setup(self.task)
        test = first_examples(setup.splits.test, min(self.num_test, len(setup.splits.test)))
        found: list[list[dict[str, np.ndarray]]] = [[] for _ in self.epochs]
        final = []
        total = self.seeds * len(self.epochs)
        with Progress(f"frozen kernels of {self.task.name}", total=total) as progress:
            for seed in range(self.seeds):
                training = Training(self.task, "score", seed)
                for place, epoch in zip(found, self.epochs, strict=True):
                    step = store.step(self.task, epoch)
                    fit = functools.partial(self._fit, store, training, step, test)
                    place.append(store.memo("frozen", self._facts(store, training, step), fit))
                    progress.update(1)
                facts = {**self._facts(store, training, setup.num_steps), "linear": None}
                judge = functools.partial(self._judge, store, training, setup.num_steps, test)
                final.append(float(store.memo("frozen", facts, judge)["network"]))
        labels = {
            "kernel": f"kernel regression, {self.num_train} examples",
            "linear": "linearised training, all examples",
            "network": "the network at t",
        }
        errors = {name: [[float(one[name]) for one in place] for place in found] for name in labels}
        panel = lines_panel(
            self.task.name,
            "epoch t at which the network is frozen",
            "test error",
            [series(name, self.epochs, errors[name], label=label) for name, label in labels.items()],
            percent=True,
            levels=[level("full training", final, label="the network at the end")],
        )

        def part(epoch: float) -> Part:
            fit = f"kernel of epoch {epoch:g}, {self.num_train} examples, ridge {self.ridge:g}"
            return Part(self.task, fit)

        first, later = (errors["kernel"][self.epochs.index(e)] for e in (self.epochs[0], self.claim_epoch))
        claim = Claim(
            "the kernel of a few epochs is better than that of initialisation",
            "3 times lower error at epochs 3-4 (Fort et al., CIFAR-10)",
            f"kernel regression error {100 * np.mean(first):.1f} % at epoch {self.epochs[0]:g}, "
            f"{100 * np.mean(later):.1f} % at epoch {self.claim_epoch:g}, "
            f"{np.mean(first) / np.mean(later):.2f} times lower",
            Comparison.of(first, later).is_above(),
            Evidence("kernel regression error", (part(self.epochs[0]), part(self.claim_epoch)), self.seeds),
        )
        return Outcome(
            title="What a frozen tangent kernel can do",
            note=f"{self.seeds} networks; test error on {len(test)} examples. Kernel regression starts from "
            f"zero, not from the network's logits, with ridge {self.ridge:g}; linearised training does "
            f"{self.linear_epochs:g} epochs at rate {self.linear_rate:g}.",
            chart={"kind": "lines", "panels": [panel]},
            claims=(claim,),
        )

    def _facts(self, store: Store, training: Training, step: int) -> dict[str, Any]:
        return {
            "of": store.facts(training),
            "test": store.setup(self.task).splits.test.fingerprint,
            "step": step,
            "num_train": self.num_train,
            "num_test": self.num_test,
            "ridge": self.ridge,
            "linear": [self.linear_epochs, self.linear_rate],
        }

    def _judge(self, store: Store, training: Training, step: int, test: Dataset) -> dict[str, Any]:
        variables = store.state(training, step).variables
        return {"network": _error(predict_dataset(store.setup(self.task).model, variables, test)[0], test)}

    def _fit(self, store: Store, training: Training, step: int, test: Dataset) -> dict[str, Any]:
        train, model = store.setup(self.task).splits.train, store.setup(self.task).model
        some = first_examples(train, min(self.num_train, len(train)))
        variables = store.state(training, step).variables
        images, other = (normalized_images(d, np.arange(len(d))) for d in (some, test))
        gram = logit_gram(model.predict, variables, images)
        across = logit_gram(model.predict, variables, other, images)
        targets = np.eye(train.num_classes, dtype=np.float32)[some.labels] - np.float32(1 / train.num_classes)
        logits = kernel_regression(gram, targets, across, ridge=self.ridge)
        classes = np.asarray(logits).reshape(len(test), train.num_classes).argmax(axis=1)
        return {
            "kernel": _error(classes, test),
            "linear": _error(self._linear(store, training.seed, variables, test), test),
            "network": _error(predict_dataset(model, variables, test)[0], test),
        }

    def _linear(self, store: Store, seed: int, variables: Variables, test: Dataset) -> np.ndarray:
        """Trains the network that is linear in its parameters around `variables`; predicts the test rows."""
        setup = store.setup(self.task)
        train = setup.splits.train
        model, origin = linearize(setup.model, variables)
        config = dataclasses.replace(
            self.task.train,
            epochs=self.linear_epochs,
            steps=None,
            learning_rate=self.linear_rate,
            schedule="piecewise",
            decay_at=(),
            weight_decay=0.0,
            steps_per_call=default_steps_per_call(training_has_convolution(setup.model, train.image_shape)),
        )
        program = program_of(model, train, config)
        key = seed_keys(self.task.seed, "child", seed + 1)[seed]
        initial = dataclasses.replace(program, model=setup.model)
        state = init_state(key, train.image_shape, len(train), program=initial)._replace(variables=origin)
        # The state is used up by training; the origin, which the store may still hold, is not.
        state = jax.tree.map(lambda leaf: leaf.copy(), state)
        examples, kept = train.examples(), np.arange(len(train))
        steps = train_between(state, examples, kept, [program.num_steps], program=program)
        return predict_dataset(model, next(steps)[0].variables, test)[0]


def _error(predicted: np.ndarray, test: Dataset) -> float:
    return float((predicted != test.labels).mean())
