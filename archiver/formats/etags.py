"""ETags: those of objects whose store makes them of the bytes alone, and in words."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from archiver.model import Buffer

_MD5 = re.compile(r"[0-9a-fA-F]{32}")


def md5_etag(body: Buffer) -> str:
    """The MD5 of the bytes, as an answer's `ETag` words it. It finds damage, not malice."""
    return f'"{hashlib.md5(body, usedforsecurity=False).hexdigest()}"'


def in_words(size_bytes: int, etag: str | None) -> str:
    """Which object it is, by what a store tells without a read; for an error."""
    return f"{size_bytes} bytes, ETag {etag}"


def etag_of_parts(etags: Sequence[str]) -> str | None:
    """The ETag of an object made of parts, where theirs are MD5s: it names each of them.

    None: some part's is none.
    """
    md5 = hashlib.md5(usedforsecurity=False)
    for etag in etags:
        digits = etag.strip('"')
        if _MD5.fullmatch(digits) is None:
            return None
        md5.update(bytes.fromhex(digits))
    return f'"{md5.hexdigest()}-{len(etags)}"'
