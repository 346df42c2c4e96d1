"""The command `diet-jax`."""
