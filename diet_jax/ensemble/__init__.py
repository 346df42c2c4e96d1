"""Many seeds, and passes over whole datasets."""
