"""One object on its way into a store: in one request, or in parts at once.

A put that does not end well leaves nothing: what the store has of it is dropped.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING

from archiver.errors import ArchiverError, ObjectTooLarge
from archiver.formats.parts import TACTICAL, part_bytes_for
from archiver.model import ColdKey, Digest, Part, StoredObject
from archiver.objects.bodies import PIECE_BYTES, exactly
from archiver.objects.crew import do_each
from archiver.protocols import PutsInParts
from archiver.stores.deadlines import Deadline, limited

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from archiver.model import ObjectFacts, OpenUpload, PartRules
    from archiver.protocols import Clock, Multipart, ObjectStore

PART_BYTES = TACTICAL.read_bytes
_ABORT_SECONDS = 10.0  # to drop the parts of an upload whose own time is over


@dataclass(slots=True)
class Sending:
    """What is put, and within which limits."""

    store: ObjectStore
    key: str
    facts: ObjectFacts
    create_only: bool
    deadline: Deadline
    concurrency: int
    clock: Clock
    _sent_bytes: int = field(default=0, init=False)
    _seen: hashlib._Hash = field(default_factory=hashlib.sha256, init=False)

    def send(
        self, read: Callable[[int], Iterator[bytes]], size_bytes: int | None
    ) -> StoredObject:
        """Put what `read` gives in pieces of the size it is asked for.

        Raises:
            WrongLength: It is not as long as was said.
            KeyTaken, ObjectTooLarge; and as `ObjectStore.put`
        """
        if not isinstance(self.store, PutsInParts):
            return self._in_one(self._counted(read(PIECE_BYTES), size_bytes), size_bytes)
        if size_bytes is not None and size_bytes > PART_BYTES:
            part_bytes = self._part_bytes(size_bytes, self.store.part_rules)
            return self._in_parts(
                self.store, self._counted(read(part_bytes), size_bytes), part_bytes
            )
        pieces = self._counted(read(PART_BYTES), size_bytes)
        first, second = next(pieces, b""), next(pieces, None)
        if second is None:
            return self._in_one(iter([first]), len(first))
        return self._in_parts(self.store, chain([first, second], pieces), PART_BYTES)

    def _in_one(self, pieces: Iterator[bytes], size_bytes: int | None) -> StoredObject:
        etag = self.store.put(
            self.key, pieces, size_bytes, self.facts, create_only=self.create_only
        )
        return self._stored(etag)

    def _part_bytes(self, size_bytes: int, rules: PartRules) -> int:
        try:
            return part_bytes_for(size_bytes, PART_BYTES, rules)
        except ValueError as exc:
            raise self._too_large(size_bytes, rules.max_bytes * rules.max_count) from exc

    def _in_parts(
        self, store: PutsInParts, parts: Iterator[bytes], part_bytes: int
    ) -> StoredObject:
        multipart = store.multipart(self.key, create_only=self.create_only)
        upload = multipart.begin(
            ColdKey(self.key),
            part_bytes=part_bytes,
            metadata=self.facts.metadata,
            content_type=self.facts.content_type,
            content_encoding=self.facts.content_encoding,
        )
        try:
            works = self._works(multipart, upload, parts, part_bytes)
            sent = do_each(works, self.concurrency, self.deadline, self.clock)
            self.deadline.require()
            stat = multipart.complete(upload, sorted(sent, key=lambda part: part.number))
        except BaseException:
            self._drop(multipart, upload)
            raise
        return self._stored(stat.etag)

    def _works(
        self, multipart: Multipart, upload: OpenUpload, parts: Iterator[bytes], part_bytes: int
    ) -> Iterator[Callable[[], Part]]:
        def send(number: int, body: bytes) -> Part:
            etag = multipart.put_part(upload, number, body)
            return Part(number, len(body), Digest.of(body), etag)

        max_count = multipart.rules.max_count
        for number, body in enumerate(parts, start=1):
            if number > max_count:  # of a pipe, whose length nobody knew
                raise self._too_large(self._sent_bytes, part_bytes * max_count)
            yield partial(send, number, body)

    def _drop(self, multipart: Multipart, upload: OpenUpload) -> None:
        """Abort it in a time of its own; what cannot be dropped now, the store's rule drops."""
        own = Deadline("abort", self.store.where(self.key), _ABORT_SECONDS)
        with limited(own), suppress(ArchiverError):
            multipart.abort(upload)

    def _counted(self, pieces: Iterator[bytes], size_bytes: int | None) -> Iterator[bytes]:
        for piece in exactly(pieces, size_bytes, self.store.where(self.key)):
            self.deadline.require()
            self._sent_bytes += len(piece)
            self._seen.update(piece)
            yield piece

    def _stored(self, etag: str | None) -> StoredObject:
        return StoredObject(self.key, self._sent_bytes, etag, Digest(self._seen.digest()))

    def _too_large(self, size_bytes: int, limit_bytes: int) -> ObjectTooLarge:
        where = self.store.where(self.key)
        return ObjectTooLarge(where=where, size_bytes=size_bytes, limit_bytes=limit_bytes)
