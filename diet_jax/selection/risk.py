"""A warning where a selection is expected to do worse than a random one of its size."""

from collections.abc import Iterable

from diet_jax.selection.rule import Rule

# Zheng et al. 2023 (CCS): with the highest forgetting scores CIFAR-10 falls from 95.36 % at keep fraction 0.7
# to 34.03 % at 0.1, "significantly worse than random". That it begins at 0.3 (Rule.risky_up_to) is read off
# their figure 5, to about 0.4 points: on CIFAR-100 at 0.3 forgetting has 38.2 %, EL2N 34.7 %, AUM 30.3 %,
# and their own stratified sampling 68.9 %.
EVIDENCE = (
    "at 0.1 of CIFAR-10 the highest forgetting scores gave 34 %, far below random subsets (Zheng et al. 2023)"
)


def risk_note(rules: Iterable[Rule], fractions: Iterable[float], *, guarded: bool) -> str:
    """Says which of some selections are expected to do worse than random subsets; "" if none is.

    Args:
        rules: that select.
        fractions: that are kept.
        guarded: whether classes are balanced or have a minimum, which these comparisons had not.

    Returns:
        A sentence without a full stop: the fractions, the evidence and the remedy.

    Example:
        >>> from diet_jax.selection.ranks import HIGHEST
        >>> risk_note([HIGHEST], [0.5], guarded=False), risk_note([HIGHEST], [0.1], guarded=True)
        ('', '')
        >>> risk_note([HIGHEST], [0.1, 0.5], guarded=False)[:60]
        'the highest scores alone at keep fraction 0.1 may well do wo'
    """
    fractions = sorted(fractions)
    for rule in rules if not guarded else ():
        risky = ", ".join(f"{fraction:g}" for fraction in fractions if fraction <= rule.risky_up_to)
        if risky:
            return (
                f"{rule.words} alone at keep fraction {risky} may well do worse than random: {EVIDENCE}"
                f"; compare with random, or try the rule coverage"
            )
    return ""
