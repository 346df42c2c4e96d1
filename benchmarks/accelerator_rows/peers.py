"""PyTorch on the same card: training steps and ghost norm, in a process that takes turns with this one."""

import importlib.util
from collections.abc import Callable
from functools import cached_property, partial
from typing import Any

import jax
import numpy as np
from grand import FLOOR
from jax_ways import weights_by_path
from measure import interleaved, seconds
from remote import Remote, built_by

from accelerator_rows.setting import Bench, Case
from accelerator_rows.visit import Row, Skipped, Task

# Calls of milliseconds get so many times the rounds.
SHORT = 4
EAGER, COMPILED = "eager", "torch.compile"
# The names that torch_ways gives; it is imported in the child only.
THEIR_GRADIENT, THEIR_NORMS = "torch: ordinary gradient", "torch: ghost norm"


class Peers:
    """PyTorch's process and what is asked of it.

    Args:
        bench: network and programs.
    """

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self._children: list[Remote] = []
        small, large = bench.scale.batch_size, bench.scale.large_batch_size
        self.trainings = {
            f"{how}, {'bfloat16 autocast' if low else 'TF32'}, batch {size}": (size, low, how == COMPILED)
            for how in (EAGER, COMPILED)
            for size, low in ((small, True), (small, False), (large, True))
        }

    def tasks(self) -> list[Task]:
        """Training in either precision, eagerly and compiled; then the norms."""
        found = [
            Task("PyTorch: training", name, partial(self.training, name), COMPILED if compiled else EAGER)
            for name, (_, _, compiled) in self.trainings.items()
        ]
        size = self.bench.scale.score_batch_size
        norms = Task("PyTorch: gradient norms", f"ghost norm, TF32, batch {size}", self.norms, EAGER)
        return [*found, norms]

    def close(self) -> None:
        """Ends the processes, which hold memory of the card."""
        for child in self._children:
            child.close()
        self._children.clear()

    def training(self, name: str) -> Row:
        """Times a way to train, and ours in the same precision with the same batch."""
        self._check()
        size, bfloat16, _ = self.trainings[name]
        program, args = self.bench.training(Case("bfloat16" if bfloat16 else "float32", size))
        timings = self._timed(partial(self._trainer.seconds, name), partial(program, *args))
        images = self.bench.scale.steps * size
        return {
            "images_per_s": images / timings["theirs"].median,
            "ours_per_s": images / timings["ours"].median,
            **_ratio(timings),
            "first_call_s": timings["theirs"].first,
        }

    def norms(self) -> list[Row]:
        """Times PyTorch's gradient and ghost norm, and ours; compares the norms of both."""
        self._check()
        variables, images, labels = args = self.bench.scored
        arrays = weights_by_path(variables), np.asarray(images), np.asarray(labels)
        child = self._child("torch_ways", *arrays, self._width, True, self._device)
        theirs = child.result(THEIR_NORMS)
        found = []
        for name, way in ((THEIR_GRADIENT, FLOOR), (THEIR_NORMS, "grand")):
            program = self.bench.scoring("float32", way)
            timings = self._timed(partial(child.seconds, name), partial(program, *args), SHORT)
            found.append(
                {
                    "what": name.removeprefix("torch: "),
                    "median_s": timings["theirs"].median,
                    "ours_s": timings["ours"].median,
                    **_ratio(timings),
                }
            )
        ours = np.asarray(program(*args))
        found[-1]["median"] = float(np.median(np.abs(theirs - ours) / ours))
        return found

    def _check(self) -> None:
        if importlib.util.find_spec("torch") is None:
            raise Skipped("PyTorch is not installed")
        if self.bench.scale.network != "resnet18":
            raise Skipped(f"PyTorch's network is ResNet18, not {self.bench.scale.network}")

    def _timed(self, theirs: Callable[[], float], ours: Callable[[], Any], times: int = 1) -> Any:
        # Timed in the child, so that the way to it and back does not count.
        variants = {"theirs": theirs, "ours": partial(seconds, ours)}
        return interleaved(variants, times * self.bench.scale.rounds, timer=lambda timed: timed())

    @cached_property
    def _trainer(self) -> Remote:
        scale = self.bench.scale
        return self._child(
            "torch_training", self.trainings, self._width, scale.side, scale.steps, self._device
        )

    def _child(self, module: str, *args: Any) -> Remote:
        self._children.append(Remote(built_by, module, *args))
        return self._children[-1]

    @property
    def _width(self) -> int:
        return self.bench.scale.options.get("width", 64)

    @property
    def _device(self) -> str:
        return "cuda" if jax.default_backend() == "gpu" else "cpu"


def _ratio(timings: Any) -> Row:
    ratio, low, high = timings["theirs"].ratio_to(timings["ours"])
    return {"ratio": ratio, "ratio_low": low, "ratio_high": high}
