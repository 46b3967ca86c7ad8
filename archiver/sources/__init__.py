"""Sources: what may move, and how its own rows are flipped once it has moved."""
