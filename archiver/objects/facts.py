"""What is said of an object when it is put, checked before anything is sent."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from archiver.formats.headers import problem_of_header
from archiver.model import ObjectFacts

if TYPE_CHECKING:
    from collections.abc import Mapping

_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]*")
_METADATA_BYTES = 2_048  # names and values: what every S3 store takes


def facts_of(
    content_type: str | None,
    content_encoding: str | None,
    metadata: Mapping[str, str] | None,
) -> ObjectFacts:
    """The facts, metadata names in lower case.

    Raises:
        ValueError: Something of it cannot stand in a header, whatever the store.
    """
    for what, text in (("content type", content_type), ("content encoding", content_encoding)):
        if text is not None and (problem := problem_of_header(text) or _if_empty(text)):
            message = f"the {what} cannot be sent: {problem}"
            raise ValueError(message)
    told: dict[str, str] = {}
    for name, value in (metadata or {}).items():
        lower = name.lower()
        if not _NAME.fullmatch(lower) or lower in told:
            message = f"no name of metadata, or one that is there already: {name!a}"
            raise ValueError(message)
        if not value.isascii() or not value.isprintable() or value != value.strip():
            message = f"the metadata {name} is not plain printable ASCII: {value[:80]!a}"
            raise ValueError(message)
        told[lower] = value
    size_bytes = sum(len(name) + len(value) for name, value in told.items())
    if size_bytes > _METADATA_BYTES:
        message = f"{size_bytes} bytes of metadata; {_METADATA_BYTES} are taken everywhere"
        raise ValueError(message)
    return ObjectFacts(content_type, content_encoding, told)


def _if_empty(text: str) -> str:
    return "" if text else "it is empty"
