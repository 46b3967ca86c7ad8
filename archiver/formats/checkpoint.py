"""The checkpoint of a transfer, and how it is kept: one line of JSON. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Self

from archiver.errors import CheckpointUnusable
from archiver.model import Digest

_FORMAT_VERSION = 1
_NAMES = {
    "version",
    "session_id",
    "digest",
    "total_size",
    "offset",
    "chunks",
    "prefix_digest",
}


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """How far a transfer has come. What lies before `offset` is durable in its target.

    That an object is complete says that all its bytes are there; that they are the right
    ones, only the transfer's result says.
    """

    session_id: str  # whoever resumes compares it: an ETag, say
    digest: Digest | None  # promised, of the whole object
    total_size: int | None  # None: not known before the end
    offset: int
    chunks: int  # written, in all sessions
    prefix_digest: Digest  # of the bytes before `offset`: those of another source differ

    def __post_init__(self) -> None:
        """Refuse what no transfer comes to.

        Raises:
            ValueError
        """
        for name in ("total_size", "offset", "chunks"):
            if (getattr(self, name) or 0) < 0:
                message = f"{name} is negative: {getattr(self, name)}"
                raise ValueError(message)
        if self.total_size is not None and self.offset > self.total_size:
            message = f"offset {self.offset} is beyond the total_size of {self.total_size}"
            raise ValueError(message)

    @classmethod
    def new(
        cls, session_id: str, digest: Digest | None = None, total_size: int | None = None
    ) -> Self:
        """Of a transfer that is still to begin.

        Raises:
            ValueError: The size is negative.
        """
        return cls(session_id, digest, total_size, 0, 0, Digest.of(b""))

    @property
    def is_complete(self) -> bool:
        return self.offset == self.total_size

    @property
    def progress(self) -> float | None:
        """From 0 to 1; None while the size is not known."""
        if self.total_size is None:
            return None
        return self.offset / self.total_size if self.total_size else 1.0

    @property
    def remaining(self) -> int | None:
        """Bytes still to come; None while the size is not known."""
        return None if self.total_size is None else self.total_size - self.offset

    def to_json(self) -> str:
        return json.dumps(
            {
                "version": _FORMAT_VERSION,
                "session_id": self.session_id,
                "digest": None if self.digest is None else f"sha256:{self.digest}",
                "total_size": self.total_size,
                "offset": self.offset,
                "chunks": self.chunks,
                "prefix_digest": f"sha256:{self.prefix_digest}",
            }
        )

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read what `to_json` wrote.

        Raises:
            CheckpointUnusable: It is none, or one that cannot be: says what is wrong.
        """
        try:
            told = json.loads(text)
        except (ValueError, RecursionError) as exc:
            raise CheckpointUnusable(problem="not JSON") from exc
        if not isinstance(told, dict) or told.get("version") != _FORMAT_VERSION:
            raise CheckpointUnusable(problem=f"not of version {_FORMAT_VERSION}")
        if told.keys() != _NAMES:
            names = ", ".join(sorted(map(str, told.keys() ^ _NAMES)))
            raise CheckpointUnusable(problem=f"missing or unknown: {names}")
        try:
            return cls(
                session_id=_text(told, "session_id"),
                digest=None if told["digest"] is None else Digest.parse(_text(told, "digest")),
                total_size=None if told["total_size"] is None else _number(told, "total_size"),
                offset=_number(told, "offset"),
                chunks=_number(told, "chunks"),
                prefix_digest=Digest.parse(_text(told, "prefix_digest")),
            )
        except ValueError as exc:
            raise CheckpointUnusable(problem=str(exc)) from exc


def _text(told: dict[str, object], name: str) -> str:
    value = told[name]
    if not isinstance(value, str):
        raise _wrong_type(name, "a text", value)
    return value


def _number(told: dict[str, object], name: str) -> int:
    value = told[name]
    if type(value) is not int:  # True is one of them, else
        raise _wrong_type(name, "a whole number", value)
    return value


def _wrong_type(name: str, wanted: str, value: object) -> ValueError:
    return ValueError(f"{name} must be {wanted}, not {str(value)[:80]!r}")
