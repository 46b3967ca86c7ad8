"""Named queries, read from the `.sql` files beside this module.

A query begins with ``-- name --``; the comment after that says what it does.
"""

from __future__ import annotations

import re
from importlib import resources
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_NAME = re.compile(r"^-- ([a-z0-9_]+) --$", re.MULTILINE)


def load(file_name: str) -> Mapping[str, bytes]:
    """The queries of one file by name; as bytes, which psycopg takes for a trusted text."""
    text = resources.files(__package__).joinpath(file_name).read_text(encoding="utf-8")
    _, *named = _NAME.split(text)
    return {
        name: body.strip().encode() for name, body in zip(named[::2], named[1::2], strict=True)
    }
