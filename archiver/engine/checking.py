"""Whether bytes are what their row promises, told of whole bodies and of streams."""

from __future__ import annotations

import hashlib
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

from archiver.errors import (
    ContentBomb,
    ContentDigestMismatch,
    DigestMismatch,
    SizeMismatch,
    UnreadableContent,
)
from archiver.formats.content import (
    CannotDecompress,
    ContentHasher,
    TooMuchContent,
    encoding_of,
)
from archiver.model import Digest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from archiver.model import Buffer, Candidate

CONTENT_LIMIT_BYTES = 1 << 30  # what one object may decompress to while it is checked
_CONTENT_PER_BYTE = 20  # or so much for each of its bytes, where that is more
MAGIC_BYTES = 4  # what tells compressed bytes


@dataclass(frozen=True, slots=True)
class Checked:
    """Digests of bytes that are what their row promises."""

    digest: Digest
    content_digest: Digest | None


def check(candidate: Candidate, body: bytes) -> Checked:
    """Compare an object with what its row promises. None promises nothing.

    Raises:
        SizeMismatch, DigestMismatch, ContentDigestMismatch, UnreadableContent
        ContentBomb: It decompresses to more than it may.
    """
    with closing(RunningCheck(candidate, len(body))) as running:
        running.update(body)
        return running.finish()


@contextmanager
def checking_parts(
    candidate: Candidate,
    size_bytes: int,
    head: Callable[[], Buffer],
    zstd_turn: AbstractContextManager[object],
) -> Iterator[RunningCheck]:
    """Look at an object whose parts pass; `head` reads its first bytes, where that is needed.

    zstd content goes one object at a time, for a frame may want much memory. Its turn is taken
    before the first part is in hand: with parts in hand all could wait for each other.

    Raises:
        SizeMismatch
    """
    is_looked_into = candidate.content_digest is not None
    is_zstd = is_looked_into and encoding_of(bytes(head())) == "zstd"
    running = RunningCheck(candidate, size_bytes, takes_turns=False)
    with zstd_turn if is_zstd else nullcontext(), closing(running):
        yield running


class RunningCheck:
    """The same for an object whose bytes come in pieces. One thread's; close it."""

    def __init__(
        self, candidate: Candidate, size_bytes: int, *, takes_turns: bool = True
    ) -> None:
        """Begin to look at an object of that size.

        Raises:
            SizeMismatch
        """
        self._candidate = candidate
        self._where = str(candidate.location)
        promised = candidate.size_bytes
        if promised is not None and promised != size_bytes:
            expected, seen = str(promised), str(size_bytes)
            raise SizeMismatch(where=self._where, expected=expected, seen=seen)
        self._limit_bytes = max(CONTENT_LIMIT_BYTES, _CONTENT_PER_BYTE * size_bytes)
        self._sha256 = hashlib.sha256()
        self._head = b""
        self._content: ContentHasher | None = None
        if candidate.content_digest is not None:
            self._content = ContentHasher(self._limit_bytes, takes_turns=takes_turns)
        self._why_unreadable: CannotDecompress | TooMuchContent | None = None

    def update(self, body: Buffer) -> None:
        """Take the next bytes. What is wrong with their content is told at the end."""
        self._sha256.update(body)
        if len(self._head) < MAGIC_BYTES:
            self._head += body[:MAGIC_BYTES]
        if self._content is None or self._why_unreadable is not None:
            return
        try:
            self._content.update(body)
        except (CannotDecompress, TooMuchContent) as exc:
            self._why_unreadable = exc

    def finish(self) -> Checked:
        """Compare all that came.

        Raises:
            DigestMismatch, ContentDigestMismatch, UnreadableContent, ContentBomb
        """
        promised, seen = self._candidate.digest, Digest(self._sha256.digest())
        if promised is not None and promised != seen:
            raise DigestMismatch(where=self._where, expected=str(promised), seen=str(seen))
        if self._content is None or self._candidate.content_digest is None:
            return Checked(seen, None)
        content_digest = self._content_digest(self._content)
        self._compare_content(self._candidate.content_digest, content_digest)
        return Checked(seen, content_digest)

    def close(self) -> None:
        if self._content is not None:
            self._content.close()

    def _content_digest(self, content: ContentHasher) -> Digest:
        try:
            if self._why_unreadable is not None:
                raise self._why_unreadable
            return content.digest()
        except CannotDecompress as exc:
            expected = str(encoding_of(self._head))
            raise UnreadableContent(
                where=self._where, expected=expected, seen=str(exc)
            ) from exc
        except TooMuchContent as exc:
            raise ContentBomb(where=self._where, limit_bytes=self._limit_bytes) from exc

    def _compare_content(self, promised: Digest, seen: Digest) -> None:
        if seen == promised:
            return
        encoding = self._candidate.content_encoding
        if encoding in ("gzip", "zstd") and encoding_of(self._head) is None:
            raise UnreadableContent(
                where=self._where, expected=encoding, seen=f"bytes that are not {encoding}"
            )
        raise ContentDigestMismatch(where=self._where, expected=str(promised), seen=str(seen))
