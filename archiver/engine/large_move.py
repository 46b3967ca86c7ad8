"""The life of one large object: read in ranges, sent in parts, resumed by record.

Its key carries the SHA-256 of the hot object's identity from the start: whether a key is taken
shows only at the end, and two versions of an object must never share one upload.
"""

from __future__ import annotations

from contextlib import closing, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from archiver.engine.checking import MAGIC_BYTES, checking_parts
from archiver.engine.copies import Copies, metadata_of
from archiver.engine.parts import Label
from archiver.errors import (
    ArchiverError,
    ColdMismatch,
    FatalError,
    KeyTaken,
    Mismatch,
    NoFreeKey,
    ObjectMissing,
    ObjectTooLarge,
    PermanentError,
    SizeMismatch,
    UploadMissing,
)
from archiver.formats.content import label_of
from archiver.formats.keys import digest_keys
from archiver.formats.parts import part_bytes_for, part_ranges
from archiver.model import ColdKey, Digest, Sent, UploadPlan

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from archiver.engine.checking import Checked, RunningCheck
    from archiver.engine.copies import Stores
    from archiver.engine.egress import Taken
    from archiver.engine.parts import PartSender, Sending
    from archiver.formats.parts import PartRange
    from archiver.model import (
        Buffer,
        Candidate,
        Claim,
        ColdObject,
        HotIdentity,
        HotLocation,
        Part,
    )


@dataclass
class LargeMove:
    """Run once, by one thread; the crew of the streams reads and sends the parts."""

    claim: Claim
    stores: Stores
    sender: PartSender
    ledger_id: str
    # Not `cached_property`: in Python 3.11 its lock is one for all objects, held while a store
    # is asked, so that large objects would move one at a time.
    _identity: HotIdentity = field(init=False)
    _head_read: bytes | None = field(init=False, default=None)
    _checked_read: Checked | None = field(init=False, default=None)

    def __call__(self) -> Sent:
        """Copy the object to the cold store. Raises as `Mover.move` does."""
        self._identity = self._identify()
        candidate, size_bytes = self._candidate, self._identity.size_bytes
        where = str(candidate.location)
        if candidate.size_bytes not in (None, size_bytes):
            expected, seen = str(candidate.size_bytes), str(size_bytes)
            raise SizeMismatch(where=where, expected=expected, seen=seen)
        cold_bytes = size_bytes if self.stores.reads_back(size_bytes) else 0
        with self.stores.egress.taken(
            where, hot_bytes=size_bytes, cold_bytes=cold_bytes
        ) as taken:
            taken.reads_hot(size_bytes)
            return self._archive(taken)

    def _archive(self, taken: Taken) -> Sent:
        """Make the object at the first key that is free or holds a copy of it."""
        cold, plain = self.stores.cold, self.stores.plain_key(self._candidate)
        tried_count = 0
        for key in digest_keys(plain, Digest.of(self._origin.encode())):
            self.stores.require_two_places(self._candidate.location, key)
            tried_count += 1
            found, is_sent = cold.look(key), False
            if found is None:
                try:
                    sent = self._send(key, taken)
                except KeyTaken:
                    found = cold.look(key)
                else:
                    if sent is not None:
                        if self.stores.reads_back(sent.size_bytes):
                            taken.reads_cold(sent.size_bytes)  # `verify` does
                        return sent
                    found, is_sent = cold.look(key), True
            if found is not None and (sent := self._copied(found, taken)) is not None:
                return sent
            if is_sent:  # the next try takes the next key, and does not take them all
                expected, seen = str(self._checked().digest), "other bytes, or none"
                raise ColdMismatch(where=str(cold.location(key)), expected=expected, seen=seen)
        raise NoFreeKey(where=str(plain), tried_count=tried_count)

    def _send(self, key: ColdKey, taken: Taken) -> Sent | None:
        """Send it in parts; None: something lies there that may be it, and has to be read."""
        sending = self.sender.open(self._plan(key), self._label())
        try:
            checked, parts = self._send_parts(sending)
            completed = sending.complete(parts)
        except (Mismatch, PermanentError, UploadMissing) as error:
            sending.abandon(str(error))
            raise
        except FatalError:
            raise  # perhaps the lease is lost: nothing is given back by whoever has none
        except Exception:
            with suppress(ArchiverError):  # it is found by its record all the same
                sending.leave()
            raise
        if not completed.is_certain:
            self._checked_read = checked  # what lies there is compared with that
            return None
        size_bytes, digest = self._identity.size_bytes, checked.digest
        self.sender.note_digest(key, size_bytes, digest, taken.reads_cold)
        return Sent(
            claim=self.claim,
            identity=self._identity,
            cold=self.stores.cold.location(key),
            size_bytes=self._identity.size_bytes,
            digest=checked.digest,
            content_digest=checked.content_digest,
            etag=completed.stat.etag,
            is_in_parts=True,
        )

    def _send_parts(self, sending: Sending) -> tuple[Checked, list[Part]]:
        """Read every part, those that were sent before too; send what is missing."""

        def work(part: PartRange) -> tuple[Buffer, Part]:
            body = self._read(part.start, part.stop)
            return body, sending.put(part.number, body)

        streams, size_bytes = self.stores.streams, self._identity.size_bytes
        ranges = part_ranges(size_bytes, sending.part_bytes)
        parts: list[Part] = []
        with self._checking() as check, closing(streams.in_order(ranges, work)) as sent:
            for body, part in sent:
                check.update(body)
                parts.append(part)
                del body  # its memory counts as free once the next one is asked for
            return check.finish(), parts

    def _copied(self, found: ColdObject, taken: Taken) -> Sent | None:
        """The object at a taken key, where it is proven to be a copy."""
        size_bytes = self._identity.size_bytes
        if found.stat.size_bytes != size_bytes:
            return None
        checked = self._checked()
        copies = Copies(self.stores, self.ledger_id)
        stat = copies.copy_at(found, self.claim, size_bytes, checked.digest, taken)
        if stat is None:
            return None
        self.sender.drop(self._plan(stat.key))  # whoever made it may have died right after
        self.sender.note_digest(stat.key, size_bytes, checked.digest, taken.reads_cold)
        return Sent(
            claim=self.claim,
            identity=self._identity,
            cold=self.stores.cold.location(stat.key),
            size_bytes=size_bytes,
            digest=checked.digest,
            content_digest=checked.content_digest,
            etag=stat.etag,
            was_there=True,
            was_read_back=True,
            is_in_parts=True,
        )

    def _checked(self) -> Checked:
        """The hot object's digests, where nothing is sent."""
        if self._checked_read is None:
            with self._checking() as check:
                size_bytes = self._identity.size_bytes
                self.stores.streams.digest(size_bytes, self._read, check.update)
                self._checked_read = check.finish()
        return self._checked_read

    def _checking(self) -> AbstractContextManager[RunningCheck]:
        turn, size_bytes = self.stores.streams.zstd_turn, self._identity.size_bytes
        return checking_parts(self._candidate, size_bytes, self._head, turn)

    # --- what it is --------------------------------------------------------------------------

    @property
    def _candidate(self) -> Candidate:
        return self.claim.candidate

    def _identify(self) -> HotIdentity:
        location = self._candidate.location
        identity = self.stores.hot.identify([location])[location]
        if identity is None:
            raise ObjectMissing(store="hot", where=str(location), code="absent")
        return identity

    @property
    def _origin(self) -> str:
        return origin_of(self._candidate.location, self._identity)

    def _head(self) -> bytes:
        if self._head_read is None:
            self._head_read = bytes(self._read(0, MAGIC_BYTES))
        return self._head_read

    def _label(self) -> Label:
        candidate, encoding = self._candidate, self._candidate.content_encoding
        if encoding is not None:
            encoding = label_of(self._head(), encoding)
        metadata = metadata_of(
            self.claim, self.ledger_id, candidate.digest, candidate.content_digest, encoding
        )
        return Label(metadata, candidate.content_type, encoding)

    def _plan(self, key: ColdKey) -> UploadPlan:
        cold, size_bytes = self.stores.cold, self._identity.size_bytes
        rules = cold.multipart.rules
        try:
            part_bytes = part_bytes_for(size_bytes, self.stores.streams.part_bytes, rules)
        except ValueError as exc:
            raise ObjectTooLarge(
                where=str(self._candidate.location),
                size_bytes=size_bytes,
                limit_bytes=rules.max_bytes * rules.max_count,
            ) from exc
        return UploadPlan(
            location=cold.location(key),
            origin=self._origin,
            size_bytes=size_bytes,
            part_bytes=part_bytes,
            source=self.claim.source,
            id=self._candidate.id,
        )

    def _read(self, start: int, stop: int) -> Buffer:
        location = self._candidate.location
        read = partial(self.stores.hot.read_range, location, self._identity, start, stop)
        return self.sender.patiently(read)


def origin_of(location: HotLocation, identity: HotIdentity) -> str:
    """Which bytes lie there: equal texts, equal bytes. Part of keys and records: it stays."""
    at = identity.modified_at
    facts = [
        location.bucket,
        location.path,
        str(identity.size_bytes),
        identity.etag or "",
        identity.version or "",
        "" if at is None else at.isoformat(),
    ]
    return "\n".join(facts)
