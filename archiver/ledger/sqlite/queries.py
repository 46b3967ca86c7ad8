"""The queries of this room's `.sql` files, as texts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from archiver.ledger import queries

if TYPE_CHECKING:
    from collections.abc import Mapping


def load(file_name: str) -> Mapping[str, str]:
    """The queries of one file beside this module, by name."""
    named = queries.load(f"sqlite/{file_name}")
    return {name: text.decode() for name, text in named.items()}
