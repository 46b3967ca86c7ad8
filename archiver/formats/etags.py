"""ETags: that of an object whose store makes it of the bytes alone, and in words."""

from __future__ import annotations

import hashlib


def md5_etag(body: bytes) -> str:
    """The MD5 of the bytes, as an answer's `ETag` words it. It finds damage, not malice."""
    return f'"{hashlib.md5(body, usedforsecurity=False).hexdigest()}"'


def in_words(size_bytes: int, etag: str | None) -> str:
    """Which object it is, by what a store tells without a read; for an error."""
    return f"{size_bytes} bytes, ETag {etag}"
