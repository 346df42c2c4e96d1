"""The report of runs: one HTML page that holds all it shows and opens without a network."""
