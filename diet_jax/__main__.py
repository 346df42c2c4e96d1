"""`python -m diet_jax`, and the command `diet-jax`."""

import os
import signal
import sys
from typing import Any

from diet_jax.cli.stopped import EXIT_CODE, stopped


def command() -> None:
    """Runs the command line; Ctrl-C while its modules are imported is one message as well."""
    raises = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    # Within a library that is being loaded an exception would be lost, or become another one.
    if raises:
        signal.signal(signal.SIGINT, _stop)
    try:
        from diet_jax.cli.main import command as run

        if raises:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        run()
    except KeyboardInterrupt:
        _stop()


def _stop(*_: Any) -> None:
    print(stopped(sys.argv[1:]), file=sys.stderr, flush=True)
    os._exit(EXIT_CODE)


if __name__ == "__main__":
    command()
