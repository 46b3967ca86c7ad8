"""Objects of the user's own in one bucket: one API for every store.

Nothing is tried again by itself: what waiting may help is a `TransientError`, and whoever
knows how long to wait calls again. Knows no HTTP, no provider and no settings.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from archiver.errors import (
    BadLifetime,
    ObjectChanged,
    ObjectMissing,
    ObjectTooLarge,
    RangeOutside,
)
from archiver.formats.etags import in_words
from archiver.formats.parts import MIB, part_ranges
from archiver.objects.bodies import FileAtOnce, as_reader, pieces_of, pieces_of_file
from archiver.objects.crew import do_each
from archiver.objects.facts import facts_of
from archiver.objects.guard import KeyGuard
from archiver.objects.sending import PART_BYTES, Sending
from archiver.ops.clock import SystemClock
from archiver.stores.deadlines import Deadline, limited

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Self

    from archiver.model import (
        Disposition,
        ListedObject,
        ObjectFacts,
        ObjectHead,
        SignedUrl,
        StoredObject,
    )
    from archiver.objects.bodies import Body, RandomAccessWriter, Writer
    from archiver.protocols import Clock, ObjectStore

IN_MEMORY_BYTES = 256 * MIB  # of an object that is given out as bytes
CONCURRENCY = 4  # parts of one transfer under way
SHORTEST_LIFETIME = timedelta(seconds=1)
LONGEST_LIFETIME = timedelta(days=7)  # what a signature of S3 can last


@dataclass(frozen=True, slots=True)
class FoundDigest:
    """A digest of an object's bytes, and who made it."""

    raw: bytes
    told_by: Literal["store", "bytes"]  # `bytes`: they were read here, all of them

    def __str__(self) -> str:
        return self.raw.hex()


class ObjectService:
    """The objects of one bucket, by their whole keys. Safe to share between threads.

    Args:
        store: Where they are; closed with the service.
        guard: Which keys nobody writes or deletes; without one archiver's own alone.
        timeout_seconds: How long each call may take as a whole, its transfer included; None
            or 0: as long as it needs. What takes longer is ended, and nothing of it goes on.
        concurrency: Parts of one transfer under way at once; None or 0: 4.
        clock: When signed URLs end.
    """

    def __init__(
        self,
        store: ObjectStore,
        guard: KeyGuard | None = None,
        *,
        timeout_seconds: float | None = None,
        concurrency: int | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._store = store
        self._guard = guard or KeyGuard()
        self._timeout_seconds = timeout_seconds or None
        self._concurrency = concurrency or CONCURRENCY
        self._clock = clock or SystemClock()
        if (self._timeout_seconds or 0) < 0 or self._concurrency < 0:
            message = "a limit below 0 is none"
            raise ValueError(message)

    def limited(
        self, *, timeout_seconds: float | None = None, concurrency: int | None = None
    ) -> ObjectService:
        """The same service with other limits, for one call or for many; as by the class."""
        return ObjectService(
            self._store,
            self._guard,
            timeout_seconds=timeout_seconds,
            concurrency=concurrency,
            clock=self._clock,
        )

    def close(self) -> None:
        """Close the store, and with it every service that shares it."""
        self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- what is there ----------------------------------------------------------------------

    def exists(self, key: str) -> bool:
        """Whether the object is there; what is neither seen nor proven absent is raised."""
        return self.head(key) is not None

    def head(self, key: str) -> ObjectHead | None:
        """What the store says of an object without its bytes; None is proven absence.

        Raises:
            ObjectDenied, UnusableName, BucketMissing, StoreDenied, StoreUnavailable
            TransferTimeout
        """
        with self._limit("head", key):
            return self._store.head(key)

    def list(self, prefix: str = "") -> Iterator[ListedObject]:
        """Every object whose key starts so, lazily, in key order; archiver's own included.

        The limit is that of each page, as the time between them is the caller's.
        """
        found = self._store.list(prefix)
        while True:
            with self._limit("list", prefix):
                item = next(found, None)
            if item is None:
                return
            yield item

    def md5(self, key: str) -> FoundDigest:
        """By the store where it is known to tell it, else all bytes are read.

        Raises:
            ObjectMissing; and as `head`
        """
        return self._digest(key, "md5", self._store.held_md5)

    def sha256(self, key: str) -> FoundDigest:
        """As `md5`."""

        def held(key: str) -> bytes | None:
            digest = self._store.held_sha256(key)
            return None if digest is None else digest.raw

        return self._digest(key, "sha256", held)

    def _digest(
        self, key: str, name: Literal["md5", "sha256"], held: Callable[[str], bytes | None]
    ) -> FoundDigest:
        with self._limit(name, key):
            if (raw := held(key)) is not None:
                return FoundDigest(raw, "store")
            seen = hashlib.new(name, usedforsecurity=False)
            with self._store.open(key) as body:
                for piece in body:
                    seen.update(piece)
            return FoundDigest(seen.digest(), "bytes")

    # --- reading ----------------------------------------------------------------------------

    def get(self, key: str, *, limit_bytes: int = IN_MEMORY_BYTES) -> bytes:
        """The whole object in memory, as it is stored: no encoding is taken off.

        Raises:
            ObjectMissing
            ObjectTooLarge: Use `stream` or `download`.
            And as `head`
        """
        with self._limit("get", key), self._store.open(key) as body:
            _require_small(body.head.size_bytes, limit_bytes, self._store.where(key))
            return b"".join(body)

    def get_range(self, key: str, start: int, stop: int) -> bytes:
        """The bytes [start, stop) of an object: `stop` itself is not among them.

        Raises:
            RangeOutside: The object does not have them all.
            And as `get`
        """
        with self._limit("get", key):
            if not 0 <= start < stop:  # no request could ask for it
                self._require_inside(key, start, stop)
                return b""
            _require_small(stop - start, IN_MEMORY_BYTES, self._store.where(key))
            with self._store.open(key, start, stop) as body:
                return b"".join(body)

    def _require_inside(self, key: str, start: int, stop: int) -> None:
        size_bytes = self._required(key).size_bytes
        if not 0 <= start <= stop <= size_bytes:
            where = self._store.where(key)
            raise RangeOutside(where=where, start=start, stop=stop, size_bytes=size_bytes)

    def _required(self, key: str) -> ObjectHead:
        head = self._store.head(key)
        if head is None:
            raise ObjectMissing(store=self._store.name, where=self._store.where(key))
        return head

    def stream(self, key: str, writer: Writer) -> ObjectHead:
        """Write the whole object from front to back, a buffer at a time.

        On an error what was written is no object.

        Raises:
            As `get`
        """
        with self._limit("get", key) as deadline, self._store.open(key) as body:
            for piece in body:
                writer.write(piece)
                deadline.require()
            return body.head

    def download(self, key: str, target: Path | str | RandomAccessWriter) -> ObjectHead:
        """Fetch ranges of one and the same object at once.

        A path gets the file whole or not at all; what another target was given before an
        error is no object.

        Raises:
            ObjectMissing
            ObjectChanged: It was replaced meanwhile.
            OSError: The file cannot be written.
            And as `head`
        """
        with self._limit("download", key) as deadline:
            if isinstance(target, (str, Path)):
                with FileAtOnce.at(Path(target)) as file:
                    return self._download(key, file, deadline)
            return self._download(key, target, deadline)

    def _download(self, key: str, target: RandomAccessWriter, deadline: Deadline) -> ObjectHead:
        head = self._required(key)

        def fetch(start: int, stop: int) -> None:
            with self._store.open(key, start, stop, etag=head.etag) as body:
                _require_same(head, body.head, self._store.where(key))
                for piece in body:
                    target.write_at(start, piece)
                    start += len(piece)

        ranges = part_ranges(head.size_bytes, PART_BYTES) if head.size_bytes else ()
        works = (partial(fetch, it.start, it.stop) for it in ranges)
        do_each(works, self._concurrency, deadline, self._clock)
        return head

    # --- writing ----------------------------------------------------------------------------

    def put(
        self,
        key: str,
        body: Body,
        *,
        size_bytes: int | None = None,
        content_type: str | None = None,
        content_encoding: str | None = None,
        metadata: Mapping[str, str] | None = None,
        create_only: bool = False,
    ) -> StoredObject:
        """Put bytes, or what a reader gives from where it stands to its end.

        In parts where it is large and the store wants that; it appears at once or not at
        all, and the store has confirmed it on return. A limit ends it while it is sent, not
        a reader that waits for its own bytes.

        Args:
            key: Of the object.
            body: Each read may be short; no bytes are its end.
            size_bytes: How long it must be; None: as long as it is.
            content_type: Of the object.
            content_encoding: Of the bytes as they are given: nothing is encoded here.
            metadata: Of the user's own, ASCII; names are kept in lower case.
            create_only: Never over an object that is there. A store that has no such
                condition is asked before: two writers at once are not told apart there.

        Raises:
            ReservedKey: Archiver's own key, or one that a source makes.
            KeyTaken: With `create_only`, the key is in use.
            WrongLength: The body is not as long as was said. Nothing was put.
            ValueError: What is said of the object cannot stand in a header.
            And as `head`
        """
        facts = facts_of(content_type, content_encoding, metadata)
        reader, own_bytes = as_reader(body)
        with self._writing("put", key) as deadline:
            sending = self._sending(key, facts, deadline, create_only=create_only)
            read = partial(pieces_of, reader)
            return sending.send(read, own_bytes if size_bytes is None else size_bytes)

    def upload(
        self,
        key: str,
        source: Path | str,
        *,
        content_type: str | None = None,
        content_encoding: str | None = None,
        metadata: Mapping[str, str] | None = None,
        create_only: bool = False,
    ) -> StoredObject:
        """Put a file, parts of it at once where the store takes parts; else as `put`.

        Raises:
            ObjectChanged, WrongLength: The file was written meanwhile. Nothing was put.
            OSError: It cannot be read.
            And as `put`
        """
        facts = facts_of(content_type, content_encoding, metadata)
        with self._writing("upload", key) as deadline, Path(source).open("rb") as file:
            sending = self._sending(key, facts, deadline, create_only=create_only)
            size_bytes = os.fstat(file.fileno()).st_size
            return sending.send(partial(pieces_of_file, file), size_bytes)

    def _sending(
        self, key: str, facts: ObjectFacts, deadline: Deadline, *, create_only: bool
    ) -> Sending:
        return Sending(
            self._store, key, facts, create_only, deadline, self._concurrency, self._clock
        )

    def delete(self, key: str) -> None:
        """Delete an object; one that is not there counts as deleted, on every store.

        Raises:
            ReservedKey
            And as `head`
        """
        with self._writing("delete", key):
            self._store.delete(key)

    def set_content_type(self, key: str, content_type: str) -> None:
        """Change the type of a stored object, and nothing else of it.

        Raises:
            ReservedKey, ObjectMissing
            ObjectChanged: It was replaced meanwhile; the new one is as it was.
            NotOffered: The store cannot; S3: above 5 GiB.
            And as `head`
        """
        facts_of(content_type, None, None)
        with self._writing("set_content_type", key):
            self._store.set_content_type(key, content_type)

    # --- URLs -------------------------------------------------------------------------------

    def signed_get(
        self,
        key: str,
        lifetime: timedelta,
        *,
        disposition: Disposition | None = None,
        content_type: str | None = None,
    ) -> SignedUrl:
        """A URL that anybody may GET the object with, until its lifetime is over.

        Whether the object is there is another question.

        Args:
            key: Of the object.
            lifetime: From a second to 7 days.
            disposition: Shown or saved, and under which name; None: as the store does.
            content_type: Said instead of the object's own.

        Raises:
            BadLifetime, ValueError
            NoUrl: The store is a directory.
            NotOffered: It cannot say that with a URL.
            And as `head`
        """
        facts_of(content_type, None, None)
        seconds = _seconds(lifetime)
        with self._limit("sign", key):
            return self._store.signed_get(
                key, seconds, disposition=disposition, content_type=content_type
            )

    def signed_put(
        self,
        key: str,
        lifetime: timedelta,
        *,
        content_type: str | None = None,
        create_only: bool = False,
    ) -> SignedUrl:
        """A URL that anybody may PUT the object with, with the headers that it names.

        Raises:
            ReservedKey
            And as `signed_get`
        """
        facts_of(content_type, None, None)
        seconds = _seconds(lifetime)
        with self._writing("sign", key):
            return self._store.signed_put(
                key, seconds, content_type=content_type, create_only=create_only
            )

    # --- limits -----------------------------------------------------------------------------

    @contextmanager
    def _limit(self, operation: str, key: str) -> Iterator[Deadline]:
        where = self._store.where(key)
        with limited(Deadline(operation, where, self._timeout_seconds)) as deadline:
            yield deadline

    @contextmanager
    def _writing(self, operation: str, key: str) -> Iterator[Deadline]:
        """As `_limit`, of a key that is the user's own.

        Raises:
            ReservedKey
        """
        self._guard.require_free(key, self._store.where(key))
        with self._limit(operation, key) as deadline:
            yield deadline


def _seconds(lifetime: timedelta) -> int:
    """A lifetime in whole seconds.

    Raises:
        BadLifetime
    """
    if not SHORTEST_LIFETIME <= lifetime <= LONGEST_LIFETIME:
        raise BadLifetime(
            lifetime_seconds=lifetime.total_seconds(),
            shortest_seconds=SHORTEST_LIFETIME.total_seconds(),
            longest_seconds=LONGEST_LIFETIME.total_seconds(),
        )
    return int(lifetime.total_seconds())


def _require_small(size_bytes: int, limit_bytes: int, where: str) -> None:
    if size_bytes > limit_bytes:
        raise ObjectTooLarge(where=where, size_bytes=size_bytes, limit_bytes=limit_bytes)


def _require_same(expected: ObjectHead, seen: ObjectHead, where: str) -> None:
    """Return when both are the same object; a store may not have looked at the condition."""
    if (expected.etag, expected.size_bytes) != (seen.etag, seen.size_bytes):
        raise ObjectChanged(
            where=where,
            expected=in_words(expected.size_bytes, expected.etag),
            seen=in_words(seen.size_bytes, seen.etag),
        )
