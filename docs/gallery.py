"""Writes docs/gallery.md: the figures of `diet-jax reproduce`, each with its command.

Command: python docs/gallery.py
"""

from pathlib import Path

import ledger

from diet_jax.experiments.reproduction.figure import figure_names

PAGE = Path(__file__).parent / "gallery.md"
HEAD = """\
# Gallery

Every figure that `diet-jax reproduce` knows, as the command below it drew it. What the figures were made of,
row by row, and what holds of the paper's claims: [the ledger](reproduction.md). This page is written by
`docs/gallery.py` from [the results](results/paper/); a test keeps the two together.

```sh
diet-jax reproduce                                       # the names
diet-jax reproduce fig12-correlations --scale smoke      # on the digits, seconds
```
"""


def page(results: list[dict], known: list[str]) -> str:
    """Returns the page.

    Args:
        results: as `ledger.read_results` returns them.
        known: names of all figures there are.
    """
    parts = [HEAD]
    for one in results:
        place = f"results/paper/{one['figure']}_{one['scale']}"
        parts += [
            f"\n## {one['figure']}, {one['scale']}\n",
            f"\n![{one['title']}]({place}.png)\n",
            f"\n{one['title']}. {one['note']}\n",
            f"\n`{one['command']}` · [numbers]({place}.json) · [claims](reproduction.md#{one['figure']})\n",
        ]
    if missing := sorted(set(known) - {one["figure"] for one in results}):
        names = ", ".join(f"`{name}`" for name in missing)
        parts.append(f"\n## Not drawn yet\n\n{names}: the command says what it needs.\n")
    return "".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page(ledger.read_results(), figure_names()), encoding="utf-8")
