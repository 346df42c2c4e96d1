"""The commands of the command line, a file each: its options, what it does, and examples."""
