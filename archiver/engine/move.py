"""The life of one object. Knows the safe order; no SQL, HTTP, provider or clock."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, islice
from typing import TYPE_CHECKING

from archiver.engine.checking import MAGIC_BYTES, check, checking_parts
from archiver.engine.copies import Copies, metadata_of, told_digest
from archiver.engine.large_move import LargeMove
from archiver.errors import (
    ContentBomb,
    KeyTaken,
    Mismatch,
    NoFreeKey,
    ObjectMissing,
    SizeMismatch,
)
from archiver.formats.content import label_of
from archiver.formats.etags import md5_etag
from archiver.formats.keys import common_prefix, digest_keys, write_once_keys
from archiver.formats.metadata import Origin
from archiver.model import ColdKey, Digest, Sent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from archiver.engine.checking import Checked
    from archiver.engine.copies import Stores
    from archiver.engine.egress import Taken
    from archiver.engine.lease import Heartbeat
    from archiver.engine.parts import PartSender
    from archiver.model import Candidate, Claim, ColdObject, ColdStat

RECOVERY_LOOKS = 12  # keys one missing object is looked for under: plain, digest, numbered


@dataclass(frozen=True, slots=True)
class Mover:
    """What a move needs beside its claim."""

    stores: Stores
    heartbeat: Heartbeat
    ledger_id: str
    sender: PartSender

    def move(self, claim: Claim, is_stopping: Callable[[], bool] = lambda: False) -> Sent:
        """Copy one object to the cold store. The hot copy is only read.

        Safe to repeat after a crash at any line: nothing is overwritten, and finding the
        same bytes already there is success. A large object is left between two parts when
        `is_stopping` says so, and resumed by the next move.

        Raises:
            NoEgressLeft: Nothing was read: there is no room in the budget.
            NotSent: It was left so.
            TransientError: Waiting may help. The claim waits, then the move is tried again.
            PermanentError: Waiting will not help. The candidate is parked, with a reason.
            FatalError: Going on would do harm. The sweep stops.
        """
        promised_bytes = self._promised_bytes(claim.candidate)
        sent = None
        if promised_bytes is None or not self.stores.streams.is_large(promised_bytes):
            sent = self._move_whole(claim, promised_bytes)
        if sent is None:
            sender = replace(self.sender, is_stopping=is_stopping)
            sent = LargeMove(claim, self.stores, sender, self.ledger_id)()
        return sent

    def _move_whole(self, claim: Claim, promised_bytes: int | None) -> Sent | None:
        """In one piece; None: it turns out to be too large for that."""
        candidate = claim.candidate
        where = str(candidate.location)
        with ExitStack() as held:
            taken = None
            if promised_bytes is not None:
                # Before the read is begun: a store's patience ends while we wait for room.
                taken = self._make_room(promised_bytes, where, held)
            found = held.enter_context(self.stores.hot.open(candidate.location))
            size_bytes = found.identity.size_bytes
            if taken is None:
                if self.stores.streams.is_large(size_bytes):
                    return None
                promised_bytes, taken = size_bytes, self._make_room(size_bytes, where, held)
            taken.reads_hot(size_bytes)  # an opened object is being sent, read or not
            if promised_bytes != size_bytes:
                raise SizeMismatch(
                    where=where, expected=str(promised_bytes), seen=str(size_bytes)
                )
            body = found.read()
            checked = check(candidate, body)
            stat, was_there = self._create_once(claim, body, checked, taken)
            if not was_there and self.stores.reads_back(size_bytes):
                taken.reads_cold(size_bytes)  # `verify` does
            etag = stat.etag
            if not was_there and self.stores.cold.capabilities.etag_is_md5:
                etag = md5_etag(body)  # what `verify` must see, whatever the put was told
        return Sent(
            claim=claim,
            identity=found.identity,
            cold=self.stores.cold.location(stat.key),
            size_bytes=len(body),
            digest=checked.digest,
            content_digest=checked.content_digest,
            etag=etag,
            was_there=was_there,
            was_read_back=was_there,
        )

    def recover(self, claim: Claim) -> Sent:
        """Prove that cold already holds an object that is missing from hot (design 3.7).

        Proven means read back whole: the bytes match the digest the row promises; where it
        promises none, the object's own metadata names this source, id and hot path, and
        its bytes match that metadata.

        Raises:
            ObjectMissing: Cold does not provably hold it: nobody can find this object.
            NoEgressLeft: There is no room in the budget to read it.
        """
        candidate = claim.candidate
        for key in self._keys_that_may_hold(candidate):
            found = self.stores.cold.look(key)
            if found is None:
                continue
            size_bytes = found.stat.size_bytes
            with self.stores.egress.taken(str(key), cold_bytes=size_bytes) as taken:
                taken.reads_cold(size_bytes)
                checked = self._proven_to_be(claim, found)
            if checked is not None:
                return Sent(
                    claim=claim,
                    identity=None,
                    cold=self.stores.cold.location(key),
                    size_bytes=size_bytes,
                    digest=checked.digest,
                    content_digest=checked.content_digest,
                    etag=found.stat.etag,
                    was_there=True,
                    was_read_back=True,
                )
        raise ObjectMissing(
            store="hot", where=str(candidate.location), code="not provably in cold either"
        )

    def _promised_bytes(self, candidate: Candidate) -> int | None:
        """The object's size as its row tells it, or the store where each byte costs.

        A store begins to send as soon as it is asked for an object, so what a read will cost
        must be known before.
        """
        if candidate.size_bytes is not None or not self.stores.egress.hot_counts:
            return candidate.size_bytes
        location = candidate.location
        identity = self.stores.hot.identify([location])[location]
        return None if identity is None else identity.size_bytes

    def _make_room(self, size_bytes: int, where: str, held: ExitStack) -> Taken:
        """Hold memory for an object; take what it costs to read it, and its copy if that is."""
        held.enter_context(self.stores.streams.budget.hold(size_bytes, where))
        cold_bytes = size_bytes if self.stores.reads_back(size_bytes) else 0
        return held.enter_context(
            self.stores.egress.taken(where, hot_bytes=size_bytes, cold_bytes=cold_bytes)
        )

    def _create_once(
        self, claim: Claim, body: bytes, checked: Checked, taken: Taken
    ) -> tuple[ColdStat, bool]:
        """Create the cold object under the first key that is free or holds a copy of it.

        Returns its stat, and whether it was there already (and was read back).
        """
        candidate, cold = claim.candidate, self.stores.cold
        encoding = label_of(body, candidate.content_encoding)
        metadata = metadata_of(
            claim, self.ledger_id, checked.digest, checked.content_digest, encoding
        )
        tried_count = 0
        for key in self._keys_for(candidate, checked.digest):
            self.stores.require_two_places(candidate.location, key)
            tried_count += 1
            self.heartbeat.require()  # a taken key was read back meanwhile: that may take long
            try:
                stat = cold.create(
                    key,
                    body,
                    metadata=metadata,
                    content_type=candidate.content_type,
                    content_encoding=encoding,
                )
            except KeyTaken:
                found = cold.look(key)
                if found is None:
                    continue
                copies = Copies(self.stores, self.ledger_id)
                copy = copies.copy_at(found, claim, len(body), checked.digest, taken)
                if copy is not None:
                    return copy, True
            else:
                return stat, False
        raise NoFreeKey(
            where=f"{cold.path_prefix}{candidate.cold_key}", tried_count=tried_count
        )

    def _keys_for(self, candidate: Candidate, digest: Digest) -> Iterator[ColdKey]:
        key = self.stores.plain_key(candidate)
        if self.stores.cold.capabilities.enforces_create:
            return write_once_keys(key, digest)
        # Without an enforced create a key is only ever given the bytes its digest names.
        return iter([next(digest_keys(key, digest))])

    def _keys_that_may_hold(self, candidate: Candidate) -> Iterator[ColdKey]:
        cold = self.stores.cold
        key = self.stores.plain_key(candidate)
        beside = (stat.key for stat in cold.list(common_prefix(key)) if stat.key != key)
        return islice(chain([key], beside), RECOVERY_LOOKS)

    def _proven_to_be(self, claim: Claim, found: ColdObject) -> Checked | None:
        """The digests of cold bytes, where they are provably the claim's missing object."""
        candidate, cold = claim.candidate, self.stores.cold
        try:
            checked = self._check_cold(candidate, found)
        except ObjectMissing:  # it is told of, and cannot be read: no copy
            return None
        except (Mismatch, ContentBomb):
            return None
        if candidate.digest is not None or candidate.content_digest is not None:
            return checked
        origin = Origin.of(found.metadata)
        is_named = (
            origin is not None
            and origin.source == claim.source
            and origin.id == candidate.id
            and origin.location == candidate.location
            and told_digest(cold, found, origin) == checked.digest
        )
        return checked if is_named else None

    def _check_cold(self, candidate: Candidate, found: ColdObject) -> Checked:
        """Read a cold object and compare it with what the row promises."""
        stat, cold, streams = found.stat, self.stores.cold, self.stores.streams
        if not streams.is_large(stat.size_bytes):
            with streams.budget.hold(stat.size_bytes, str(stat.key)):
                return check(candidate, cold.read(stat.key))
        head = partial(cold.read_range, stat, 0, min(MAGIC_BYTES, stat.size_bytes))
        with checking_parts(candidate, stat.size_bytes, head, streams.zstd_turn) as running:
            streams.digest(stat.size_bytes, partial(cold.read_range, stat), running.update)
            return running.finish()
