"""Markdown of what was measured."""

import textwrap
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from calibration import calibration

Row = Mapping[str, Any]

HEAD = """# On accelerators

`python benchmarks/accelerator.py --minutes 8 --out DIR` measures what fits into so many minutes, the most
telling rows first, and writes this page and the numbers behind it ([gpu.json](gpu.json)). A later visit with
the same folder goes on: it keeps what has a result, and begins a new section for another card or other code.

Times are medians of rounds in which variants take turns, each waited for; ratios are medians of the ratios
within a round, with the lowest and highest in brackets. Programs are compiled without a cache; but
within a visit XLA may remember which convolution algorithms were fastest, and compile later programs faster.
"""
ABOUT = {
    "ceilings": "What the device does at best: the fastest of five.",
    "one seed": "Training ResNet18 on 32×32 images by the paper's recipe, with crops and flips, 50 steps in "
    "a compiled call. The share of the peak is that of the matrix product in the same dtype; operations are "
    "counted as usual, three times those of the forward pass's products.",
    "several seeds": "Several networks in one compiled program, and how many times as fast that is as one "
    "after the other through the program of one. Images per second are those of all networks together. "
    "Convolutions are counted in the program as written: plain, in groups of the batch (weight gradients "
    "that XLA's GPU backend knows as such), and grouped by features (slow there).",
    "scores": "Every example of a batch, in eval mode, random weights. Ratios are to the ordinary gradient "
    "of the batch in the same dtype, of vmap(grad) also to `grand`.",
    "exactness of the norms": "Relative difference of each norm from that of vmap(grad) in full float32, "
    "random weights: the median, the largest, and the largest in the tenth with the smallest norms.",
    "XLA's flags": "Each alone, as an option of the one program: how many times as fast as without it. `…` "
    "stands for FUSION,CUBLAS,CUBLASLT,CUSTOM_CALL,CUDNN,DYNAMIC_SLICE_FUSION.",
    "PyTorch: training": "ResNet18, channels last, the same optimiser, the same images in every step; "
    "ours draws, crops and flips its batches. The ratio is its time over ours.",
    "PyTorch: gradient norms": "PyTorch's ordinary gradient and its norms from hooks (torch_ghost.py), "
    "and ours; the ratio is its time over ours.",
    "layers": "The ordinary weight gradient of a convolution, in ms, and the time of each form of its norms "
    "over that, in float32; the form that the library chooses is bold. Layers: kernel, channels, input size "
    "/ stride.",
    "CIFAR-10": "Real trainings, in slices that go on from visit to visit.",
}


def _number(form: str, factor: float = 1) -> Callable[[Any], str]:
    return lambda value: format(factor * value, form)


def _ratio(row: Row) -> str:
    low = f" ({row['ratio_low']:.2f} to {row['ratio_high']:.2f})" if "ratio_low" in row else ""
    return f"{row['ratio']:.2f}{low}"


def _convolutions(row: Row) -> str:
    return " / ".join(str(row["convolutions"][kind]) for kind in ("plain", "batch_grouped", "grouped"))


def _filter_calls(row: Row) -> str:
    return str(sum(count for name, count in row["calls"].items() if "BackwardFilter" in name))


def _loops(row: Row) -> str:
    return f"{row['loops']['known']} of {row['loops']['all']}"


def _forms(row: Row) -> str:
    cells = [f"{name} {form['ratio']:.2f}" for name, form in row["forms"].items() if not form["chosen"]]
    chosen = [f"**{name} {form['ratio']:.2f}**" for name, form in row["forms"].items() if form["chosen"]]
    return ", ".join(chosen + cells)


# By key of a row: the heading, and how a cell is made of the value, or the row (OF_ROW).
COLUMNS: dict[str, tuple[str, Callable[[Any], str]]] = {
    "tflops": ("TFLOP/s", _number(".3g")),
    "gb_per_s": ("GB/s", _number(",.0f")),
    "images_per_s": ("images/s", _number(",.0f")),
    "ours_per_s": ("ours, images/s", _number(",.0f")),
    "step_ms": ("ms a step", _number(".2f")),
    "median_s": ("ms", _number(".3g", 1000)),
    "ours_s": ("ours, ms", _number(".3g", 1000)),
    "of_peak": ("of peak", _number(".0%")),
    "ratio": ("ratio", _ratio),
    "compile_s": ("compile s", _number(".2g")),
    "first_call_s": ("first call s", _number(".2g")),
    "over_grand": ("over grand", _number(".1f")),
    "temporary_mib": ("temporary MiB", _number(",.0f")),
    "convolutions": ("plain / by batch / grouped", _convolutions),
    "calls": ("backward-filter calls", _filter_calls),
    "loops": ("loops of known length", _loops),
    "layers": ("layers", _number("d")),
    "forms": ("norms by each form, over the gradient", _forms),
    "median": ("median", _number(".1e")),
    "most": ("largest", _number(".1e")),
    "lowest": ("of the lowest tenth", _number(".1e")),
}
OF_ROW = ("ratio", "convolutions", "calls", "loops", "forms")
NO_RESULT = ("failed", "skipped")


def markdown(visits: Iterable[Row]) -> str:
    """Returns the page of all visits, the newest first."""
    about = [_wrapped(f"- **{_heading(part)}.** {text}", "  ") for part, text in ABOUT.items()]
    lines = [line for visit in reversed(list(visits)) for line in _visit(visit)]
    return "\n".join([HEAD, *about, "", *lines]).rstrip() + "\n"


def _visit(visit: Row) -> list[str]:
    about = visit["environment"]
    versions = ", ".join(f"{name} {number}" for name, number in about["packages"].items())
    lines = [
        f"## {about['device']}, {about['date']}",
        "",
        _wrapped(
            f"Commit {about['commit']}{_sources(about)}; "
            f"{about['devices']} × {about['device']}, {about['platform']}, "
            + (f"{about['cores']} cores of {about['cpu']}, " if "cpu" in about else "")
            + f"Python {about['python']}, {versions}."
            + (f" Scale: {about['scale']}." if about["scale"] != "full" else "")
        ),
        "",
    ]
    if visit.get("note"):
        lines += [_wrapped(visit["note"]), ""]
    if visit.get("ended"):
        lines += [f"The last visit ended: {visit['ended']}.", ""]
    for part in dict.fromkeys(row["part"] for row in visit["rows"]):
        lines += _part(part, [row for row in visit["rows"] if row["part"] == part])
    counts = Counter(row["part"] for row in visit.get("not_begun", []))
    missing = ", ".join(f"{count} of {part}" for part, count in counts.items())
    return [*lines, *([_wrapped(f"Not begun, for want of time: {missing}."), ""] if missing else [])]


def _part(part: str, rows: list[Row]) -> list[str]:
    lines = [f"### {_heading(part)}", ""]
    measured = [row for row in rows if not any(key in row for key in (*NO_RESULT, "text"))]
    keys = [key for key in COLUMNS if any(key in row for row in measured)]
    if measured:
        lines.append(f"| {' | '.join(['what', *(COLUMNS[key][0] for key in keys)])} |")
        lines.append("|---|" + "---:|" * len(keys))
        lines += [f"| {' | '.join([row['what'], *(_cell(row, key) for key in keys)])} |" for row in measured]
        lines.append("")
    forms = [form for row in measured for form in row.get("forms", {}).values()]
    if any("counts" in form for form in forms):
        lines += [_wrapped(calibration(forms)), ""]
    for row in rows:
        for key in NO_RESULT:
            if key in row:
                lines += [f"- {row['what']}: {key}: {' '.join(row[key].split())}"]
    if lines[-1]:
        lines.append("")
    for row in rows:
        if "text" in row:
            lines += [row["what"] + ":", "", row["text"].strip(), ""]
    return lines


def _sources(about: Row) -> str:
    return f" (fingerprint of the code: {about['sources']})" if "sources" in about else ""


def _heading(part: str) -> str:
    return part[0].upper() + part[1:]


def _wrapped(text: str, indent: str = "") -> str:
    return textwrap.fill(text, 115, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def _cell(row: Row, key: str) -> str:
    if row.get(key) is None:
        return ""
    return COLUMNS[key][1](row if key in OF_ROW else row[key])
