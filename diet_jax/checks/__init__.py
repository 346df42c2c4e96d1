"""What functions ask of what they are given: one call for each argument, and one error, which names it."""
