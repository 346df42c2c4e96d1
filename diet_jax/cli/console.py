"""Where tables are printed."""

from rich.console import Console

# Tables go to a file or a pipe in full.
WIDTH_WITHOUT_TERMINAL = 120


def console() -> Console:
    """Returns the terminal, or what takes its place with room for a table."""
    terminal = Console()
    return terminal if terminal.is_terminal else Console(width=WIDTH_WITHOUT_TERMINAL)
