"""Counts of the three matrices as Markdown: python tests/matrix/counts.py, with how many of each if not all.

It needs the extra `test`: pip install -e '.[test]'.

Crashes take about 8 s each, damages a third of a second, hostile calls a few hundredths.
"""

import argparse
import collections
import os
import random
import sys
import tempfile
from pathlib import Path
from unittest import mock

os.environ.setdefault("JAX_PLATFORMS", "cpu")
sys.path.insert(0, str(Path(__file__).parents[1]))

try:
    import crashes
    import damages
    import hostile
except ModuleNotFoundError as error:
    sys.exit(f"{error}; these counts need the extra test: pip install -e '.[test]'")


def table(head: tuple[str, ...], rows: dict[str, list[str]]) -> str:
    """Markdown: how often each of the outcomes in the head came, by rows."""
    lines = [f"| | tried | {' | '.join(head)} |", "|---|" + "---:|" * (len(head) + 1)]
    for name, ends in rows.items():
        counts = collections.Counter(ends)
        assert set(counts) <= set(head), counts
        lines.append(f"| {name} | {len(ends)} | {' | '.join(str(counts[end]) for end in head)} |")
    return "\n".join(lines) + "\n"


def of_crashes(count: int, folder: Path) -> str:
    rows: dict[str, list[str]] = {}
    for point, end, said in crashes.run_all(count, folder):
        rows.setdefault("at random times" if point.seconds else f"{point.moment} {point.event}", []).append(
            end
        )
        if end == "wrong":
            print(point, said, file=sys.stderr)
    return table(("same", "wrong"), rows)


def of_damages(count: int, folder: Path) -> str:
    rows: dict[str, list[str]] = {}
    for kind, victim, how, end, said in damages.run_all(-(-count // len(damages.KINDS)), folder):
        rows.setdefault(kind, []).append(end)
        if end == "wrong":
            print(kind, victim, how, said, file=sys.stderr)
    return table(("detected", "made anew", "same", "wrong"), rows)


def of_calls(count: int) -> str:
    cases = list(hostile.all_cases())
    found = hostile.run_all(random.Random(0).sample(cases, min(count, len(cases))))
    kinds = ("answer", "refused", "named", "inside", "hang", "crash")
    return table(kinds, {"public functions": [kind for kind, _ in found.values()]})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=30)
    parser.add_argument("--damages", type=int, default=340)
    parser.add_argument("--calls", type=int, default=10**6, help="by default all")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        folders = [Path(made) / name for name in ("cache", "crashes", "damages")]
        for folder in folders:
            folder.mkdir()
        with mock.patch.dict(os.environ, DIET_JAX_CACHE=str(folders[0])):
            if args.points:
                print("## Crashes\n\n" + of_crashes(args.points, folders[1]), flush=True)
            if args.damages:
                print("## Damages\n\n" + of_damages(args.damages, folders[2]), flush=True)
            if args.calls:
                print("## Hostile calls\n\n" + of_calls(args.calls), flush=True)


if __name__ == "__main__":
    main()
