"""Datasets larger than memory: images stay encoded on disk and are read ahead."""
