"""Writes docs/lists.md, the lists of scores, rules and sources, and docs/definitions.md.

Command: python docs/lists.py
"""

import dataclasses
from pathlib import Path

import diet_jax as dj

DOCS = Path(__file__).parent
HEAD = """\
# Scores, selection rules and sources

Everything that is registered, as the command line knows it. High means hard; where the notion does not apply,
files and figures say what it means. All scores are taken in eval mode on un-augmented images, except those of
training dynamics, which are folded into the training's own batches. What they cost beside training:
[measured](results/benchmarks-cpu.md#scores-of-training-dynamics-time-over-training-alone). What each score is
to the letter, and what others call it: [definitions.md](definitions.md). How to add to it:
[CONTRIBUTING.md](../CONTRIBUTING.md). This page is written by `docs/lists.py`; a test keeps it with the code.
"""


def options_text(prefix: str, item) -> str:
    """Returns the options of a score or rule as the command line has them, with their defaults."""
    if item.options is None:
        return ""
    name = item.name.replace("_", "-")
    fields = dataclasses.fields(item.options)
    values = ((field.name.replace("_", "-"), getattr(item.options, field.name)) for field in fields)
    defaults = ((option, "must be given" if value is None else value) for option, value in values)
    return ", ".join(f"`--{prefix}.{name}.{option}` ({value})" for option, value in defaults)


def reads_text(rule) -> str:
    """Returns what a rule reads: how many scores, and what else."""
    scores = [f"{rule.num_scores} score" + "s" * (rule.num_scores > 1)] if rule.num_scores else []
    return ", ".join([*scores, *(name.replace("_", " ") for name in rule.reads)])


def table(headings: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """Returns a Markdown table."""
    lines = [headings, ("---",) * len(headings), *rows]
    cells = [[cell.replace("|", "\\|") for cell in line] for line in lines]
    return "".join("| " + " | ".join(line) + " |\n" for line in cells)


def lists() -> dict[str, str]:
    """Returns the three tables by name."""
    scores = [
        (f"`{s.name}`", s.formula, s.reads, options_text("score", s), s.label, s.reference) for s in dj.SCORES
    ]
    rules = [
        (f"`{r.name}`", f"keeps {r.words}", options_text("select", r), reads_text(r), r.reference)
        for r in dj.RULES
    ]
    sources = [
        (f"`{s.usage}`", s.about, "yes" if s.stream else "", "yes" if s.prepare else "") for s in dj.SOURCES
    ]
    return {
        "scores": table(("score", "what it is", "reads", "options", "label", "reference"), scores),
        "rules": table(("rule", "what it does", "options", "reads", "reference"), rules),
        "sources": table(("name", "what it is", "streams", "prepares"), sources),
    }


# What scores read, in the order of the list: what it is, and what it takes.
READS = {
    "logits": "one forward pass",
    "gradients": "exact gradient norms of all parameters",
    "features": "the last layer's inputs",
    "dataset": "the last layer's inputs of all examples together",
    "dynamics": "the training itself",
    "inputs": "the inputs, no network",
    "nothing": "chance",
}


def by_what_they_read() -> str:
    """Returns a table of the scores: a row for each kind of what they read."""
    names = {kind: [f"`{score.name}`" for score in dj.SCORES if score.reads == kind] for kind in READS}
    rows = [(about, ", ".join(names[kind])) for kind, about in READS.items()]
    return table(("computed from", "scores"), rows)


def page() -> str:
    """Returns docs/lists.md."""
    sections = "".join(f"\n## {name.capitalize()}\n\n{text}" for name, text in lists().items())
    return HEAD + "\n" + by_what_they_read() + sections


if __name__ == "__main__":
    import definitions  # It imports this file.

    (DOCS / "lists.md").write_text(page(), encoding="utf-8")
    definitions.PAGE.write_text(definitions.page(), encoding="utf-8")
