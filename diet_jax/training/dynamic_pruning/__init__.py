"""Dynamic pruning: what a training leaves out is chosen anew while it runs."""
