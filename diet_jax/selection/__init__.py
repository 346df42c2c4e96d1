"""From scores to the examples that are kept."""
