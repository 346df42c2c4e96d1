"""Time and size of the report of a run, and how soon it answers in headless Chromium.

Usage: `python benchmarks/report.py RUN [--repeats 5]`, on a run folder whose data is here. It needs
playwright and a Chromium in the PATH.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import diet_jax as dj

# Milliseconds: what takes longer is felt.
SLOW = 100
ARGUMENTS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking")


def written(run: Path, out: Path, repeats: int) -> list[float]:
    """Seconds to write the report, in this process: the first with imports and what is decoded once."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        dj.write_report(run, out=out)
        seconds.append(time.perf_counter() - start)
    return seconds


def alone(run: Path, out: Path) -> float:
    """Seconds of the command in a process of its own."""
    start = time.perf_counter()
    command = [sys.executable, "-m", "diet_jax", "report", run, "--out", out]
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - start


def opened(browser: Any, page: Path) -> dict[str, list[float]]:
    """Milliseconds until everything can be used, and from each move of a brush until it is drawn."""
    tab = browser.new_page(viewport={"width": 1280, "height": 900})
    tab.goto(page.as_uri())
    tab.wait_for_selector("html[data-ready]", timeout=60_000)
    interactive = tab.evaluate("window.reportTimes.interactive")
    scatter = tab.locator(".scatter")
    scatter.scroll_into_view_if_needed()
    box = scatter.bounding_box()
    tab.mouse.move(box["x"] + 0.2 * box["width"], box["y"] + 0.1 * box["height"])
    tab.mouse.down()
    for step in range(1, 21):
        share = step / 20
        tab.mouse.move(
            box["x"] + (0.2 + 0.7 * share) * box["width"], box["y"] + (0.1 + 0.7 * share) * box["height"]
        )
        tab.wait_for_timeout(60)
    tab.mouse.up()
    tab.wait_for_timeout(300)
    brush = tab.evaluate("window.reportTimes.brush")
    selected = tab.locator("#selected").inner_text()
    tab.close()
    return {"interactive": [interactive], "brush": brush, "selected": [selected]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    from playwright.sync_api import sync_playwright

    program = shutil.which("chromium") or shutil.which("google-chrome")
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "report.html"
        seconds = written(options.run, page, options.repeats)
        own = [alone(options.run, page) for _ in range(min(3, options.repeats))]
        with sync_playwright() as player:
            browser = player.chromium.launch(executable_path=program, args=list(ARGUMENTS))
            version = browser.version
            found = [opened(browser, page) for _ in range(options.repeats)]
            browser.close()
        interactive = [each["interactive"][0] for each in found]
        brush = [value for each in found for value in each["brush"]]
        print(f"Chromium {version}, {os.cpu_count()} cores, {options.repeats} repeats")
        print(f"page: {page.stat().st_size / 1e6:.2f} MB")
        again = statistics.median(seconds[1:] or seconds)
        print(f"written: first {seconds[0]:.2f} s, then median {again:.2f} s")
        print(f"command in a process of its own: median {statistics.median(own):.2f} s")
        middle, most = statistics.median(interactive), max(interactive)
        print(f"load to interactive: median {middle:.0f} ms, most {most:.0f} ms")
        slow = sum(value > SLOW for value in brush)
        print(
            f"brush: {len(brush)} moves, median {statistics.median(brush):.0f} ms, most {max(brush):.0f} ms, "
            f"{slow} above {SLOW} ms; {found[-1]['selected'][0]} at the end"
        )


if __name__ == "__main__":
    main()
