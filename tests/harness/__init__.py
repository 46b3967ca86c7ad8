"""Real servers for tests: on loopback, each in a folder of its own, ended by its own pid."""
