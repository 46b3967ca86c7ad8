"""Moves, proves, records, releases. Read `sweep.py` first, then `move.py`."""
