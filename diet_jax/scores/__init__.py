"""Scores of examples, a file for each family. In all of them high means hard."""
