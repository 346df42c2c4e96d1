"""Writes docs/reproduction.md from the results of `diet-jax reproduce` in docs/results/paper.

Command: python docs/ledger.py
"""

import json
from pathlib import Path

DOCS = Path(__file__).parent
RESULTS = DOCS / "results" / "paper"
# In the paper's order; what is not named here comes last.
ORDER = ("fig1-", "fig2-", "fig3-", "fig4-", "grand-at-init", "examples", "number-", "fig11-", "fig12-")
HEAD = """\
# The paper's claims, one by one

Every row was measured: by the command in it, at the scale that it names, on the machine in the result's JSON
file. The paper's own scale needs an accelerator and was not run; `--scale paper` would run it. "published" is
the paper's figure (digitised) or that of the work it names, on CIFAR-10 with ResNet18 unless the figure says
otherwise; "here" is another dataset, another network and a far shorter training, so the sign can be compared,
not the size.

"holds" is yes or no where the difference is more than twice its standard error over paired seeds, and unclear
where it is not; "loses no accuracy" holds where no loss beyond that error was seen. With two or three seeds
that error is itself uncertain, and no correction was made for the number of rows. Rows without a standard
error compare with a number that we set, often in the row. The best of several windows is picked by test
accuracy, as in the paper, which favours it.

This page is written by `docs/ledger.py` from [the results](results/paper); a test keeps the two together.

"""


def ledger(results: list[dict]) -> str:
    """Returns the page as Markdown."""
    verdicts = [claim["holds"] for result in results for claim in result["claims"]]
    counts = ", ".join(f"{verdicts.count(v)} {v}" for v in ("yes", "no", "unclear"))
    lines = [HEAD, f"{len(verdicts)} claims in {len(results)} figures: {counts}.\n"]
    for result in results:
        name = f"{result['figure']}_{result['scale']}"
        lines.append(f"\n## {result['figure']}: {result['title']}\n\n")
        lines.append(f"`{result['command']}` · [numbers](results/paper/{name}.json)\n\n")
        lines.append(f"![{result['title']}](results/paper/{name}.png)\n")
        if result["claims"]:
            lines.append("\n| claim | published | here | scale | holds |\n|---|---|---|---|---|\n")
        for claim in result["claims"]:
            cells = (claim["claim"], claim["published"], claim["ours"], result["scale"], claim["holds"])
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n")
        if "story" in result["facts"]:
            lines.append(f"\n{result['facts']['story']}\n")
    return "".join(lines)


def read_results(folder: Path = RESULTS) -> list[dict]:
    """Returns the results in the order of the page."""
    results = [json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("*.json")]

    def place(result: dict) -> tuple[int, str]:
        first = [n for n, start in enumerate(ORDER) if result["figure"].startswith(start)]
        return (first[0] if first else len(ORDER), result["figure"])

    return sorted(results, key=place)


if __name__ == "__main__":
    (DOCS / "reproduction.md").write_text(ledger(read_results()), encoding="utf-8")
