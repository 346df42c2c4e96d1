"""Where the records of metrics.jsonl go beside that file, a file for each."""
