"""Score files of other programs: one module per format, found by its name."""
