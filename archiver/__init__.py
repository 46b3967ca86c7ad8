"""Moves objects from a hot store to a cold store; deletes only against a receipt."""

from __future__ import annotations

__version__ = "0.1.0"
