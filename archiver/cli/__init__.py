"""The command line: thin commands, careful words, and the exit codes."""
