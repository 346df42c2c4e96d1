"""The report at the end of a run."""

from pathlib import Path

from diet_jax.devices.processes import is_writer
from diet_jax.devices.progress import say
from diet_jax.errors import InputError
from diet_jax.experiments.own import NOTHING, Own
from diet_jax.experiments.run_result import shown


def report_after(folder: Path, own: Own = NOTHING) -> None:
    """Writes the report of a folder that a command has just worked in, by the first process.

    The results are on disk by then: what goes wrong with the report is said, and ends nothing.
    """
    if not is_writer():
        return
    from diet_jax.report.writing import report as write

    try:
        print(f"report: {shown(write(folder, own).absolute())}")
    except (InputError, OSError) as error:
        say(f"no report: {error}")
    except (
        Exception
    ) as error:  # Of the charting library, or for want of memory: the run is finished all the same.
        say(f"no report: {type(error).__name__}: {error}")
