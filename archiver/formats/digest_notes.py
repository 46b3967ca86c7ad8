"""Notes in a cold place that say which bytes an object sent in parts has.

Its digest is known only when all its parts have passed, and metadata is said before the first.
So it is noted beside it, at `{prefix}.archiver/digests/{SHA-256 of the key}.json`, with
`version` (1), `key`, `size_bytes` and `digest`: equal bytes at one key make equal notes.
"""

from __future__ import annotations

import hashlib
import json

from archiver.model import ColdKey, Digest

_VERSION = 1


def note_key(prefix: str, key: ColdKey) -> ColdKey:
    name = hashlib.sha256(key.encode()).hexdigest()
    return ColdKey(f"{prefix}.archiver/digests/{name}.json")


def to_body(key: ColdKey, size_bytes: int, digest: Digest) -> bytes:
    """The same for the same bytes at the same key."""
    told = {"version": _VERSION, "key": key, "size_bytes": size_bytes, "digest": str(digest)}
    return json.dumps(told, indent=1).encode()


def of_body(body: bytes, key: ColdKey, size_bytes: int) -> Digest | None:
    """The digest it notes of that key; None: it does not tell of an object of that size."""
    try:
        told = json.loads(body)
        if (told["version"], told["key"], told["size_bytes"]) == (_VERSION, key, size_bytes):
            return Digest.parse(told["digest"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass
    return None
