"""Training one network: recipe, step, loop, checkpoints."""
