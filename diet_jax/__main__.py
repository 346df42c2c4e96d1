"""`python -m diet_jax` is `diet-jax`."""

from diet_jax.cli.main import command

if __name__ == "__main__":
    command()
