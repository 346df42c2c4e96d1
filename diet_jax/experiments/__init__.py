"""Experiments: from a config to a run folder. Each file is one."""
