"""`python -m diet_jax` is `diet-jax`."""

from diet_jax.cli import main

if __name__ == "__main__":
    main()
