"""`diet-jax compare`."""

import dataclasses
from dataclasses import dataclass
from typing import get_args

from diet_jax.cli.command import Command
from diet_jax.cli.commands.run import Run, run
from diet_jax.experiments.config import Baseline


@dataclass(frozen=True)
class Compare(Run):
    """Compare scores and rules with all baselines: run, with class-balanced random subsets and RS2 in.

    Scores (--score.names), rules (--select.method) and keep fractions make a grid. The run folder is that of
    `diet-jax run` with these baselines (--select.baselines). docs/comparison.md says what the columns mean.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        select = dataclasses.replace(self.config.select, baselines=get_args(Baseline))
        object.__setattr__(self, "config", dataclasses.replace(self.config, select=select))


COMMAND = Command(
    Compare,
    run,
    {
        "compare --score.names el2n grand --select.method highest coverage": "two scores and two rules",
        "compare --minutes 10 --quiet": "a slice of ten minutes; only the run folder is printed",
    },
    goes_on=True,
    takes_file=True,
    sources=lambda _: True,
)
