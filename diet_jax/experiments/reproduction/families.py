"""Figures that the paper shows for several networks, noises or windows: what each family has in common."""

from typing import Any

from diet_jax.experiments.reproduction.accuracy import AccuracyByEpoch, AccuracyByFraction
from diet_jax.experiments.reproduction.barriers import ErrorBarriers
from diet_jax.experiments.reproduction.figure import PaperFigure
from diet_jax.experiments.reproduction.kernels import KernelVelocity
from diet_jax.experiments.reproduction.outcome import Published
from diet_jax.experiments.reproduction.recipes import (
    CIFAR10_RESNET18,
    DIGITS,
    FASHION_MLP,
    MEDIUM_EPOCHS,
    shortened,
)
from diet_jax.experiments.reproduction.task import ScoreAt, Task
from diet_jax.experiments.reproduction.windows import Windows

SMOKE: Any = {"score_seeds": 2, "retrain_seeds": 2}
SMALL: Any = {"score_seeds": 4, "retrain_seeds": 3}
# Reckoned so that a panel of Figure 1 takes some 45 minutes of an H100, where ResNet18 trains on 44,000
# images a second (bfloat16, batches of 128). On CIFAR-10 a training takes 40 epochs of 390 x 128 images, 2.0
# million, whatever is kept. Row 2: everything, and six keep fractions by three scores and at random, are 25
# selections of two networks each, 100 million images; ten scoring networks to the last epoch, for forgetting,
# are 20 million; together 45 minutes. Row 1: 25 selections too, 100 million; scoring to epoch 10, 5 million;
# together 40 minutes, of which row 2 shares 6. Scoring and predicting themselves and compiling come on top.
# CINIC-10 has 3.6 times the images, ResNet50 2.3 times the multiplications of ResNet18: their panels have
# fewer points.
MEDIUM: Any = {"score_seeds": 10, "retrain_seeds": 2}


def three_scores(epoch: float, last: float) -> tuple[ScoreAt, ...]:
    """Returns forgetting of a whole training, and EL2N and GraNd of an early epoch."""
    return ScoreAt("forgetting", last), ScoreAt("el2n", epoch), ScoreAt("grand", epoch)


def accuracy_by_epoch(
    small: AccuracyByEpoch, medium: tuple[float, ...], paper: Task, published: Published | None = None
) -> PaperFigure:
    """Figure 1, row 1: a network of the paper, the keep fraction of `small`, and `medium`'s epochs."""
    return PaperFigure(
        smoke=AccuracyByEpoch(DIGITS, small.fraction, epochs=(0, 2, 8), **SMOKE),
        small=small,
        medium=AccuracyByEpoch(shortened(paper), small.fraction, epochs=medium, **MEDIUM),
        paper=AccuracyByEpoch(paper, small.fraction, epochs=(0, 2, 4, 5, 8, 10, 15, 20)),
        published=published,
    )


def accuracy_by_fraction(
    small: AccuracyByFraction,
    medium: tuple[float, ...],
    paper: Task,
    fractions: tuple[float, ...],
    published: Published | None = None,
) -> PaperFigure:
    """Figure 1, row 2: a network of the paper, its keep fractions and `medium`'s; the claim is `small`'s."""
    return PaperFigure(
        smoke=AccuracyByFraction(DIGITS, fractions=(0.5, 0.3), scores=three_scores(2, 8), **SMOKE),
        small=small,
        medium=AccuracyByFraction(
            shortened(paper), medium, three_scores(10, MEDIUM_EPOCHS), small.claim_fraction, **MEDIUM
        ),
        paper=AccuracyByFraction(paper, fractions, three_scores(20, 200), small.claim_fraction),
        published=published,
    )


def windows(
    score: str,
    fraction: float,
    *,
    noise: float = 0.0,
    smoke: tuple[float, ...],
    small: tuple[float, ...],
    paper: tuple[float, ...],
    published: Published | None = None,
    **settings: Any,
) -> PaperFigure:
    """Figure 2, E.1 and E.3: one size of the window on clean or noisy labels.

    Args:
        score: that the examples are sorted by.
        fraction: keep fraction, the size of the window.
        noise: share of the examples whose labels are permuted.
        smoke: offsets at this scale.
        small: and at this one.
        paper: and at medium and the paper's own.
        published: the paper's points.
        **settings: more settings of `Windows` at all scales.
    """

    def at(task: Task, offsets: tuple[float, ...], epoch: float, **seeds: Any) -> Windows:
        found_at = ScoreAt(score, epoch)
        return Windows(task.with_noise(noise), fraction, offsets, found_at, **seeds, **settings)

    return PaperFigure(
        smoke=at(DIGITS, smoke, 2, **SMOKE),
        small=at(FASHION_MLP, small, 2, **SMALL),
        medium=at(shortened(CIFAR10_RESNET18), paper, 10, **MEDIUM),
        paper=at(CIFAR10_RESNET18, paper, 10),
        published=published,
    )


def kernel_velocity(noise: float = 0.0) -> PaperFigure:
    """Figure 3: on clean or noisy labels; the paper's epochs, groups and number of networks are not known."""
    tasks = DIGITS, FASHION_MLP, shortened(CIFAR10_RESNET18), CIFAR10_RESNET18
    smoke, small, medium, paper = (task.with_noise(noise) for task in tasks)
    return PaperFigure(
        smoke=KernelVelocity(smoke, (1, 3), num_groups=4, group_size=50, score_seeds=2, velocity_seeds=1),
        small=KernelVelocity(small, (1, 2, 4), num_groups=10, score_seeds=4, velocity_seeds=4),
        medium=KernelVelocity(medium, (1, 5, 10, 20), num_groups=20),
        paper=KernelVelocity(paper, (1, 5, 10, 20, 50), num_groups=20),
    )


def barriers(small: Task, spawn_epochs: tuple[float, ...], score_epoch: float, paper: Task) -> PaperFigure:
    """Figure 4: a network of the paper, and a small one with its own epochs, by EL2N.

    The paper's spawn epochs, numbers of networks and treatment of BatchNorm are not known; these are ours.
    """
    early, score, middle, late = (ScoreAt("el2n", epoch) for epoch in (2, score_epoch, 10, 20))
    return PaperFigure(
        smoke=ErrorBarriers(DIGITS, (0, 1, 4), early, parents=1, num_points=5, score_seeds=2),
        small=ErrorBarriers(small, spawn_epochs, score, score_seeds=4),
        medium=ErrorBarriers(shortened(paper), (0, 0.5, 1, 2, 4, 8, 16), middle),
        paper=ErrorBarriers(paper, (0, 1, 2, 4, 8, 16, 32, 64), late, parents=1),
    )
