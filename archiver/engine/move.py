"""The life of one small object. Knows the safe order; no SQL, HTTP, provider or clock."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain, islice
from typing import TYPE_CHECKING

from archiver.engine.egress import FREE
from archiver.errors import (
    ContentBomb,
    ContentDigestMismatch,
    DigestMismatch,
    KeyTaken,
    MetadataTooLarge,
    NoFreeKey,
    ObjectMissing,
    OnePlace,
    SizeMismatch,
    UnreadableContent,
)
from archiver.formats.content import (
    CannotDecompress,
    TooMuchContent,
    content_digest,
    encoding_of,
    label_of,
)
from archiver.formats.etags import md5_etag
from archiver.formats.keys import common_prefix, digest_keys, write_once_keys
from archiver.formats.metadata import Origin
from archiver.model import ColdKey, Digest, Evidence, Sent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from archiver.engine.budget import BytesInFlight
    from archiver.engine.egress import Egress, Taken
    from archiver.engine.lease import Heartbeat
    from archiver.model import Candidate, Claim, ColdObject, ColdStat, HotLocation
    from archiver.protocols import ColdStore, HotStore

RECOVERY_LOOKS = 12  # keys one missing object is looked for under: plain, digest, numbered
CONTENT_LIMIT_BYTES = (
    1024 * 1024 * 1024
)  # what one object may decompress to while it is checked


@dataclass(frozen=True, slots=True)
class Stores:
    """Both sides of a move, and what the cold one has to show."""

    hot: HotStore
    cold: ColdStore
    evidence: Evidence  # the minimum; resolved, never `unproven`
    shared_bucket: str | None = None  # the cold bucket, where the hot store sees it too
    egress: Egress = FREE

    @property
    def reads_back(self) -> bool:
        """Whether every copy is read back before it counts."""
        return self.evidence is Evidence.READBACK

    def require_two_places(self, location: HotLocation, key: ColdKey) -> None:
        """Refuse a hot object that lies where archived objects lie: `key`, or near it.

        Raises:
            OnePlace: Deleting the hot object would delete an archived one.
        """
        is_archived = location.path == key or location.path.startswith(self.cold.path_prefix)
        if location.bucket == self.shared_bucket and is_archived:
            raise OnePlace(where=str(location))


@dataclass(frozen=True, slots=True)
class Mover:
    """What a move needs beside its claim."""

    stores: Stores
    budget: BytesInFlight
    heartbeat: Heartbeat
    ledger_id: str

    def move(self, claim: Claim) -> Sent:
        """Copy one object to the cold store. The hot copy is only read.

        Safe to repeat after a crash at any line: nothing is overwritten, and finding the
        same bytes already there is success.

        Raises:
            NoEgressLeft: Nothing was read: there is no room in the budget.
            TransientError: Waiting may help. The claim waits, then the move is tried again.
            PermanentError: Waiting will not help. The candidate is parked, with a reason.
            FatalError: Going on would do harm. The sweep stops.
        """
        candidate = claim.candidate
        where = str(candidate.location)
        with ExitStack() as held:
            promised_bytes, taken = self._promised_bytes(candidate), None
            if promised_bytes is not None:
                # Before the read is begun: a store's patience ends while we wait for room.
                taken = self._make_room(promised_bytes, where, held)
            found = held.enter_context(self.stores.hot.open(candidate.location))
            size_bytes = found.identity.size_bytes
            if taken is None:
                promised_bytes, taken = size_bytes, self._make_room(size_bytes, where, held)
            taken.reads_hot(size_bytes)  # an opened object is being sent, read or not
            if promised_bytes != size_bytes:
                raise SizeMismatch(
                    where=where, expected=str(promised_bytes), seen=str(size_bytes)
                )
            body = found.read()
            checked = check(candidate, body)
            stat, was_there = self._create_once(claim, body, checked, taken)
            if self.stores.reads_back and not was_there:
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
            with (
                self.budget.hold(size_bytes, str(key)),
                self.stores.egress.taken(str(key), cold_bytes=size_bytes) as taken,
            ):
                taken.reads_cold(size_bytes)
                try:
                    body = self.stores.cold.read(key)
                except ObjectMissing:  # it is told of, and cannot be read: no copy
                    continue
                if (checked := _proven_to_be(claim, found, body)) is not None:
                    return Sent(
                        claim=claim,
                        identity=None,
                        cold=self.stores.cold.location(key),
                        size_bytes=len(body),
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
        held.enter_context(self.budget.hold(size_bytes, where))
        cold_bytes = size_bytes if self.stores.reads_back else 0
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
        metadata = self._metadata(claim, checked, encoding)
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
                copy = self._copy_at(key, claim, body, checked.digest, taken)
                if copy is not None:
                    return copy, True
            else:
                return stat, False
        raise NoFreeKey(
            where=f"{cold.path_prefix}{candidate.cold_key}", tried_count=tried_count
        )

    def _copy_at(
        self, key: ColdKey, claim: Claim, body: bytes, digest: Digest, taken: Taken
    ) -> ColdStat | None:
        """The stat of a taken key that holds a copy of these bytes, read back to the end.

        Metadata is a claim and decides nothing about bytes: a copy may have been damaged
        since, and was perhaps found to be. It does decide whose object this is. Where hot
        and cold are one place under two names, the hot object itself lies at the key: it is
        nobody's copy, and its name gives it away. Such a key is passed over, so that at
        worst one copy too many is made.
        """
        cold = self.stores.cold
        found = cold.look(key)
        if found is None or found.stat.size_bytes != len(body):
            return None
        origin = Origin.of(found.metadata)
        is_ours = (
            origin is not None
            and origin.ledger_id == self.ledger_id
            and origin.digest == digest
        )
        if not is_ours and _may_be_one_object(key, claim.candidate.location):
            return None
        taken.reads_cold(len(body))
        try:
            return found.stat if cold.readback(key) == digest else None
        except ObjectMissing:  # it is told of, and cannot be read: no copy
            return None

    def _keys_for(self, candidate: Candidate, digest: Digest) -> Iterator[ColdKey]:
        key = self._plain_key(candidate)
        if self.stores.cold.capabilities.enforces_create:
            return write_once_keys(key, digest)
        # Without an enforced create a key is only ever given the bytes its digest names.
        return iter([next(digest_keys(key, digest))])

    def _plain_key(self, candidate: Candidate) -> ColdKey:
        return ColdKey(self.stores.cold.path_prefix + candidate.cold_key)

    def _keys_that_may_hold(self, candidate: Candidate) -> Iterator[ColdKey]:
        cold = self.stores.cold
        key = self._plain_key(candidate)
        beside = (stat.key for stat in cold.list(common_prefix(key)) if stat.key != key)
        return islice(chain([key], beside), RECOVERY_LOOKS)

    def _metadata(self, claim: Claim, checked: Checked, encoding: str | None) -> dict[str, str]:
        candidate = claim.candidate
        origin = Origin(
            digest=checked.digest,
            ledger_id=self.ledger_id,
            source=claim.source,
            id=candidate.id,
            location=candidate.location,
            content_digest=checked.content_digest,
            content_encoding=encoding,
        )
        try:
            return origin.to_metadata(candidate.metadata)
        except ValueError as exc:
            raise MetadataTooLarge(where=str(candidate.location), problem=str(exc)) from exc


def _may_be_one_object(key: ColdKey, location: HotLocation) -> bool:
    """Whether two names may be one object's: one ends like the other, from a slash on."""
    hot, cold = f"/{location.bucket}/{location.path}", f"/{key}"
    return hot.endswith(cold) or cold.endswith(f"/{location.path}")


@dataclass(frozen=True, slots=True)
class Checked:
    """Digests of bytes that are what their row promises."""

    digest: Digest
    content_digest: Digest | None


def check(candidate: Candidate, body: bytes) -> Checked:
    """Compare an object with what its row promises. None promises nothing.

    Raises:
        SizeMismatch, DigestMismatch, ContentDigestMismatch, UnreadableContent
        ContentBomb: It decompresses to more than `CONTENT_LIMIT_BYTES`.
    """
    where = str(candidate.location)
    if candidate.size_bytes is not None and candidate.size_bytes != len(body):
        raise SizeMismatch(where=where, expected=str(candidate.size_bytes), seen=str(len(body)))
    digest = Digest.of(body)
    if candidate.digest is not None and candidate.digest != digest:
        raise DigestMismatch(where=where, expected=str(candidate.digest), seen=str(digest))
    if candidate.content_digest is None:
        return Checked(digest, None)
    return Checked(digest, _checked_content(candidate, candidate.content_digest, body))


def _checked_content(candidate: Candidate, promised: Digest, body: bytes) -> Digest:
    where = str(candidate.location)
    try:
        seen = content_digest(body, CONTENT_LIMIT_BYTES)
    except CannotDecompress as exc:
        raise UnreadableContent(
            where=where, expected=str(encoding_of(body)), seen=str(exc)
        ) from exc
    except TooMuchContent as exc:
        raise ContentBomb(where=where, limit_bytes=CONTENT_LIMIT_BYTES) from exc
    if seen == promised:
        return seen
    if candidate.content_encoding in ("gzip", "zstd") and encoding_of(body) is None:
        raise UnreadableContent(
            where=where,
            expected=str(candidate.content_encoding),
            seen=f"bytes that are not {candidate.content_encoding}",
        )
    raise ContentDigestMismatch(where=where, expected=str(promised), seen=str(seen))


def _proven_to_be(claim: Claim, found: ColdObject, body: bytes) -> Checked | None:
    """The digests of cold bytes, where they are provably the claim's missing object."""
    candidate = claim.candidate
    try:
        checked = check(candidate, body)
    except (
        SizeMismatch,
        DigestMismatch,
        ContentDigestMismatch,
        UnreadableContent,
        ContentBomb,
    ):
        return None
    if candidate.digest is not None or candidate.content_digest is not None:
        return checked
    origin = Origin.of(found.metadata)
    is_named = (
        origin is not None
        and origin.source == claim.source
        and origin.id == candidate.id
        and origin.location == candidate.location
        and origin.digest == checked.digest
    )
    return checked if is_named else None
