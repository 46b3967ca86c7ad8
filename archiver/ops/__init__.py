"""What a running process needs around the engine: a clock, log lines, a progress bar."""
