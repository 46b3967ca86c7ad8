"""Cold keys: which key an object may have, in the order in which they are tried.

A plain key is the candidate's own (``jobs/7/page.html.gz``). Where that holds other bytes
the key carries the digest (``jobs/7/page.{64 hex}.html.gz``), and where even that holds
wrong bytes, a damaged copy of ours, a number after it. Damaged copies are never reused.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from archiver.model import ColdKey

if TYPE_CHECKING:
    from collections.abc import Iterator

    from archiver.model import Digest

_NUMBERED_KEYS = 8  # after so many damaged copies of one object the store is what is broken
_DIGEST_LENGTH = 64
_DIGEST = re.compile(rf"[0-9a-f]{{{_DIGEST_LENGTH}}}(?=\.|\Z)")
_NUMBER = re.compile(rf"\.[2-{_NUMBERED_KEYS + 1}](?=\.|\Z)")


def write_once_keys(key: ColdKey, digest: Digest) -> Iterator[ColdKey]:
    """For a store that refuses a second create: the plain key first."""
    yield key
    yield from digest_keys(key, digest)


def digest_keys(key: ColdKey, digest: Digest) -> Iterator[ColdKey]:
    """For a store that does not: only keys that can never be given two byte strings."""
    yield _with_suffix(key, str(digest))
    for number in range(2, _NUMBERED_KEYS + 2):
        yield _with_suffix(key, f"{digest}.{number}")


def plain_keys(key: str) -> Iterator[str]:
    """Every plain key that an object at this key may have: the mirror of the above."""
    yield key
    directory, slash, name = key.rpartition("/")
    stem, _, rest = name.partition(".")
    if _DIGEST.match(rest):
        rest = rest[_DIGEST_LENGTH:]
        yield f"{directory}{slash}{stem}{rest}"
        if number := _NUMBER.match(rest):  # or it is the extension of an object's own key
            yield f"{directory}{slash}{stem}{rest[number.end() :]}"


def common_prefix(key: ColdKey) -> str:
    """What all keys of one object but the plain one begin with."""
    directory, slash, name = key.rpartition("/")
    return f"{directory}{slash}{name.partition('.')[0]}."


def _with_suffix(key: ColdKey, suffix: str) -> ColdKey:
    directory, slash, name = key.rpartition("/")
    stem, dot, extension = name.partition(".")
    return ColdKey(f"{directory}{slash}{stem}.{suffix}{dot}{extension}")
