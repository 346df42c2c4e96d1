"""The page docs/definitions.md: what every score is, and who means something else by its name.

Command: python docs/lists.py
"""

from pathlib import Path

from lists import options_text, table

import diet_jax as dj

PAGE = Path(__file__).parent / "definitions.md"
HEAD = """\
# Definitions

What every registered score is, to the letter: from what it is computed, in which pass, which way it points,
what its options are, and what others call it. Every score file carries the formula of its score with all
options, and files are told apart by it. This page is written by `docs/lists.py` from the registry, and a test
keeps it with the code; `tests/scores/test_conformance.py` holds the formulas against others, written anew in
NumPy from the papers or the authors' code, on shared logits.

High means hard in all of them, or what it says below: where a paper has it the other way, the formula begins
with "minus". Scores are of one network; the paper's are means over about ten (`score.num_seeds`).

## One name, several scores

Published baselines rest on scores that differ from what their name stands for elsewhere. What was read in
repositories, unless it says otherwise:

"""
NAMES = (
    (
        "EL2N",
        "Paul et al. (data_diet)",
        "mean over networks at one checkpoint, eval mode, un-augmented",
        "`el2n`",
    ),
    (
        "EL2N",
        "CCS",
        "sum over epochs 0 to 9 of one run, of the training's own outputs: augmented, train mode",
        "`el2n_sum`",
    ),
    ("EL2N", "DUAL", "the training's own outputs in epoch 20 of one run", "`el2n_sum` of one epoch"),
    (
        "EL2N",
        "InfoBatch",
        "tables quote EL2N-2 and EL2N-20, by the number of runs (not checked in code)",
        "`el2n`",
    ),
    ("AUM", "Pleiss et al. (aum)", "mean margin of logits over the training", "`aum`"),
    ("AUM", "CCS, DataCull", "mean margin of probabilities", "`aum_softmax`"),
    (
        "AUM",
        "DUAL (CIFAR)",
        "the sum is set to zero inside the loop over epochs: the margin of the last epoch",
        "`max_margin`, nearly: eval mode",
    ),
    ("GraNd", "Paul et al. (data_diet)", "gradient in all parameters, mean over networks", "`grand`"),
    (
        "GraNd",
        "DeepCore",
        "gradient in the last layer alone, of the cross-entropy of the softmax of probabilities",
        "`grand_last_layer`, nearly: softmax once",
    ),
    (
        "forgetting",
        "Toneva et al.",
        "an example that is never learned counts as many events as there are epochs: hard",
        "`forgetting`, never learned = the epochs",
    ),
    (
        "forgetting",
        "Paul et al. (data_diet)",
        "never learned counts infinity; so does the mean over runs then",
        "`forgetting`",
    ),
    (
        "forgetting",
        "DeepCore, CCS, DUAL, dPrune",
        "never learned counts 0: the easiest of all",
        "`forgetting`, never learned = 0",
    ),
    (
        "TDDS",
        "DUAL, as a baseline",
        "the logarithm of raw logits, NaN taken for 0, and windows that do not move",
        "none",
    ),
    (
        "entropy, margin, least confidence",
        "DeepCore",
        "keeps the highest of minus the entropy and of the margin, which are the certain examples, and of "
        "minus the largest logit, which are not",
        "`entropy` keeps the uncertain",
    ),
    (
        "VoG",
        "Agarwal et al.",
        "standard deviation for each pixel in their ImageNet code; of the probability in their toy example",
        "`vog`, as for ImageNet",
    ),
    (
        "Moderate",
        "Moderate-DS",
        "distance from the median of each feature over the class",
        "`class_center_distance`, center median",
    ),
)
PASSES = {
    "logits": "logits of one pass after training, eval mode, inputs as they are stored",
    "gradients": "gradients of one pass after training, eval mode, inputs as they are stored",
    "features": "features of one pass after training, eval mode, inputs as they are stored",
    "dataset": "what one pass after training measures of all examples, whatever was trained on: eval mode, "
    "inputs as they are stored; all of it is in memory at once",
    "inputs": "the inputs as they are stored; no network",
    "nothing": "nothing",
}
TRAINING = "the training's own forward pass of every batch: augmented, train mode, before the update"
CLEAN = "a pass over all examples at the end of every epoch: eval mode, inputs as they are stored"
FUNCTIONS = ("reducible_loss", "label_free_score", "diagnose_el2n")
FUNCTIONS_HEAD = """
## Functions beside the registry

They want more than one network and the dataset, such as another network's losses or a mean gradient, or they
return more than a number for each example.

"""


def section(score: dj.Score) -> str:
    """Returns the part of one score."""
    reads = PASSES.get(score.reads, CLEAN if score.fold and score.fold.measure else TRAINING)
    rows = [
        ("formula", score.formula),
        ("reads", reads),
        ("high means", score.high_means),
        ("options", options_text("score", score) or "none"),
        ("reference", score.reference),
        *(("elsewhere", other) for other in score.elsewhere),
    ]
    return f"\n### `{score.name}`: {score.label}\n\n" + table(("", ""), rows)


def page() -> str:
    """Returns docs/definitions.md."""
    names = table(("name", "whose", "what it is there", "here"), [*NAMES])
    functions = [
        (f"`dj.{name}`", (getattr(dj, name).__doc__ or "").partition("\n")[0].removeprefix("Returns "))
        for name in FUNCTIONS
    ]
    sections = "".join(section(score) for score in dj.SCORES)
    others = table(("function", "what it returns"), functions)
    return HEAD + names + "\n## Scores\n" + sections + FUNCTIONS_HEAD + others
