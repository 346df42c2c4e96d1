"""A run's plan as tables for reading."""

from rich.console import Group
from rich.table import Table
from rich.text import Text

from diet_jax.experiments.config import RunConfig
from diet_jax.experiments.plan import RunPlan

DECIMAL = ("", "k", "M", "G", "T", "P", "E")


def plan_tables(plan: RunPlan, config: RunConfig) -> Group:
    """Returns what a terminal shows of a plan."""
    rate = f"{scaled(plan.rate.flops_per_second, 1000, DECIMAL, 'FLOP/s')} of each device, {plan.rate.source}"
    table = Table(
        title=f"plan of {config.data.name}, {config.model.name}: nothing of it has been run or written",
        caption=f"times are estimates without compiling, loading, logging and drawing: operations at {rate}; "
        f"bytes are of intermediate arrays at once, as traced: XLA may take a few times more or less",
    )
    headings = "stage", "networks", "each", "operations", "full trainings", "time", "bytes"
    for column, heading in enumerate(headings):
        table.add_column(heading, justify="right" if column else "left", no_wrap=True)

    def costs(flops: float, seconds: float) -> tuple[str, str, str]:
        return scaled(flops, 1000, DECIMAL, "FLOP"), f"{flops / plan.one_training:.3g}", duration(seconds)

    for stage in plan.stages:
        what = stage.name, f"{stage.networks:,}", stage.each
        table.add_row(*what, *costs(stage.flops, stage.seconds), bytes_text(stage.temporaries))
    table.add_section()
    table.add_row("total", "", "", *costs(sum(stage.flops for stage in plan.stages), plan.seconds))
    room, needed = Table(title="memory of each device"), sum(plan.memory.values())
    room.add_column("what")
    room.add_column("bytes", justify="right", no_wrap=True)
    for name, size in plan.memory.items():
        room.add_row(name, bytes_text(size))
    room.add_section()
    room.add_row("total", bytes_text(needed))
    room.add_row("free here now", bytes_text(plan.free))
    programs = ", ".join(f"{name} ({n})" if n > 1 else name for name, n in plan.programs.items())
    disk = "none"
    if plan.checkpoints:
        total = bytes_text(plan.checkpoints * plan.checkpoint_bytes)
        disk = f"{plan.checkpoints:,} of {bytes_text(plan.checkpoint_bytes)} before compression, {total}"
    lines = [f"{sum(plan.programs.values())} programs: {programs}", f"checkpoints: {disk}"]
    lines += [f"note: {note}" for note in plan.notes]
    if needed > plan.free:
        lines.append(
            "note: this does not fit here: groups of seeds and batches of scores become smaller where memory "
            "runs out; lower train.batch_size if one network alone does not fit"
        )
    return Group(table, room, *(Text(line) for line in lines))


def scaled(value: float, base: int, prefixes: tuple[str, ...], unit: str) -> str:
    """Writes a number with a prefix for its power of `base`, three digits or so."""
    power = 0
    while value >= base and power < len(prefixes) - 1:
        value, power = value / base, power + 1
    return f"{value:.4g} {prefixes[power]}{unit}" if value < 1000 else f"{value:.0f} {prefixes[power]}{unit}"


def bytes_text(size: int) -> str:
    """Writes a number of bytes.

    Example:
        >>> bytes_text(3_403_176)
        '3.246 MiB'
    """
    return scaled(size, 1024, ("", "Ki", "Mi", "Gi", "Ti", "Pi"), "B")


def duration(seconds: float) -> str:
    """Writes a time in the two units that matter.

    Example:
        >>> duration(0.31), duration(75), duration(3 * 3600 + 120), duration(60 * 3600)
        ('0.3 s', '1 min 15 s', '3 h 2 min', '2 d 12 h')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    seconds = round(seconds)
    for large, small, names in ((86400, 3600, "d h"), (3600, 60, "h min"), (60, 1, "min s")):
        if seconds >= large:
            first, second = names.split()
            return f"{seconds // large} {first} {seconds % large // small} {second}"
    raise AssertionError(seconds)
