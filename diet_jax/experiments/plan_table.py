"""A run's plan as tables for reading."""

from rich.console import Group
from rich.table import Table
from rich.text import Text

from diet_jax.experiments.config import RunConfig
from diet_jax.experiments.plan import RunPlan


def plan_tables(plan: RunPlan, config: RunConfig) -> Group:
    """Returns what a terminal shows of a plan."""
    title = f"plan of {config.data.name}, {config.model.name}: nothing of it has been run or written"
    table = Table(title=title, caption="times are estimates, without loading data and drawing figures")
    for column, heading in enumerate(("stage", "networks", "each", "operations", "full trainings", "time")):
        table.add_column(heading, justify="right" if column else "left", no_wrap=True)
    for stage in plan.stages:
        table.add_row(
            stage.name,
            f"{stage.networks:,}",
            stage.each,
            scaled(stage.flops, 1000, ("", "k", "M", "G", "T", "P", "E"), "FLOP"),
            f"{stage.flops / plan.one_training:.3g}",
            duration(stage.seconds),
        )
    count = sum(plan.programs.values())
    table.add_row("compiling", "", f"{count} programs", "", "", duration(plan.compile_seconds))
    table.add_section()
    flops = sum(stage.flops for stage in plan.stages)
    table.add_row(
        "total",
        "",
        "",
        scaled(flops, 1000, ("", "k", "M", "G", "T", "P", "E"), "FLOP"),
        f"{flops / plan.one_training:.3g}",
        duration(plan.seconds),
    )
    memory = plan.memory
    room = Table(title="memory of each device")
    room.add_column("what")
    room.add_column("bytes", justify="right", no_wrap=True)
    at_once = f" of {memory.networks} networks at once" if memory.networks > 1 else ""
    for name, size in (
        (f"parameters{at_once}", memory.networks * memory.parameters),
        (f"optimiser state{at_once}", memory.networks * memory.optimizer),
        ("dataset", memory.dataset),
        ("intermediate arrays of the largest program", memory.temporaries),
    ):
        room.add_row(name, bytes_text(size))
    room.add_section()
    room.add_row("total", bytes_text(memory.total))
    room.add_row("free now", bytes_text(memory.limit))
    programs = ", ".join(f"{name} ({n})" if n > 1 else name for name, n in plan.programs.items())
    disk = "none"
    if plan.checkpoints:
        total = bytes_text(plan.checkpoints * plan.checkpoint_bytes)
        disk = f"{plan.checkpoints:,} of {bytes_text(plan.checkpoint_bytes)} before compression, {total}"
    lines = [f"programs: {programs}", f"checkpoints: {disk}", *(f"note: {note}" for note in plan.notes)]
    if memory.total > memory.limit:
        lines.append(
            "note: this does not fit: groups of seeds and batches of scores become smaller where memory runs "
            "out; lower train.batch_size if one network alone does not fit"
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
