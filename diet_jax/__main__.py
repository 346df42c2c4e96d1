"""`python -m diet_jax`, and the command `diet-jax`."""

import os
import sys


def command() -> None:
    """Runs the command line; Ctrl-C while its modules are imported is one message as well."""
    try:
        from diet_jax.cli.main import command as run

        run()
    except KeyboardInterrupt:
        print("diet-jax: stopped; the same command goes on from here", file=sys.stderr, flush=True)
        os._exit(130)


if __name__ == "__main__":
    command()
