"""`Content-Disposition` for a file of any name (RFC 6266, RFC 8187). Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from archiver.model import Disposition

# In a quoted text the others end it, escape the next one, or are read in two ways.
_NOT_PLAIN = re.compile(r"[^ !#$&-.0-\[\]-~]")
_ATTR_CHAR = "!#$&+-.^_`|~"  # that need no escape in an extended value, beside alphanumerics


def disposition_header(disposition: Disposition) -> str:
    """What an answer's header says: the plain name for old clients, the exact one beside it.

    Characters that a plain name cannot carry are `_` in it.
    """
    name = disposition.filename
    if not name:
        return disposition.kind
    plain = _NOT_PLAIN.sub("_", name)
    said = f'{disposition.kind}; filename="{plain}"'
    if plain == name:
        return said
    exact = quote(name.encode("utf-8", "replace"), safe=_ATTR_CHAR)
    return f"{said}; filename*=UTF-8''{exact}"
