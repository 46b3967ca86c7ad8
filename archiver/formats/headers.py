"""What may stand in a header of an object."""

from __future__ import annotations

_LIMIT_BYTES = 256  # stores take 2 KB of all headers together, metadata included


def problem_of_header(text: str) -> str:
    """Why a text cannot be sent as a header's value; empty where it can.

    A control character would end the header and begin another one; what is not ASCII is
    refused by some stores and read as other letters by others.
    """
    if not text.isascii() or not text.isprintable() or text != text.strip():
        return f"not plain printable ASCII: {text[:80]!a}"
    if len(text) > _LIMIT_BYTES:
        return f"{len(text)} bytes, {_LIMIT_BYTES} are allowed"
    return ""
