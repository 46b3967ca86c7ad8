"""Where the cold copies of an object may lie, what they say, and whether something is one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from archiver.engine.egress import FREE
from archiver.engine.streams import Streams
from archiver.errors import MetadataTooLarge, ObjectMissing, OnePlace
from archiver.formats import digest_notes
from archiver.formats.metadata import Origin
from archiver.model import ColdKey, Evidence

if TYPE_CHECKING:
    from archiver.engine.egress import Egress, Taken
    from archiver.model import (
        Candidate,
        Claim,
        ColdObject,
        ColdStat,
        Digest,
        HotLocation,
    )
    from archiver.protocols import ColdStore, HotStore


@dataclass(frozen=True, slots=True)
class Stores:
    """Both sides of a move, and what the cold one has to show."""

    hot: HotStore
    cold: ColdStore
    evidence: Evidence  # the minimum; resolved, never `unproven`
    shared_bucket: str | None = None  # the cold bucket, where the hot store sees it too
    egress: Egress = FREE
    streams: Streams = field(default_factory=Streams)

    def reads_back(self, size_bytes: int) -> bool:
        """Whether every copy of that size is read back before it counts."""
        if self.streams.is_large(size_bytes):
            return evidence_of_parts(self.evidence, self.cold) is Evidence.READBACK
        return self.evidence is Evidence.READBACK

    def require_two_places(self, location: HotLocation, key: ColdKey) -> None:
        """Refuse a hot object that lies where archived objects lie: `key`, or near it.

        Raises:
            OnePlace: Deleting the hot object would delete an archived one.
        """
        is_archived = location.path == key or location.path.startswith(self.cold.path_prefix)
        if location.bucket == self.shared_bucket and is_archived:
            raise OnePlace(where=str(location))

    def plain_key(self, candidate: Candidate) -> ColdKey:
        return ColdKey(self.cold.path_prefix + candidate.cold_key)


def evidence_of_parts(demanded: Evidence, cold: ColdStore) -> Evidence:
    """What an object sent in parts has to show where that is demanded of whole ones.

    No store knows the SHA-256 of such an object. `signed` is each part's own, where the store
    was seen to enforce it; all else is a readback.
    """
    if demanded is Evidence.SIGNED and cold.capabilities.enforces_signed_parts:
        return Evidence.SIGNED
    return Evidence.READBACK


def metadata_of(
    claim: Claim,
    ledger_id: str,
    digest: Digest | None,
    content_digest: Digest | None,
    encoding: str | None,
) -> dict[str, str]:
    """What the cold object of a claim says of itself.

    Raises:
        MetadataTooLarge
    """
    candidate = claim.candidate
    origin = Origin(
        digest=digest,
        ledger_id=ledger_id,
        source=claim.source,
        id=candidate.id,
        location=candidate.location,
        content_digest=content_digest,
        content_encoding=encoding,
    )
    try:
        return origin.to_metadata(candidate.metadata)
    except ValueError as exc:
        raise MetadataTooLarge(where=str(candidate.location), problem=str(exc)) from exc


@dataclass(frozen=True, slots=True)
class Copies:
    """Tells whether what lies at a taken key is a copy of a claim's object."""

    stores: Stores
    ledger_id: str

    def copy_at(
        self, found: ColdObject, claim: Claim, size_bytes: int, digest: Digest, taken: Taken
    ) -> ColdStat | None:
        """The stat of an object that holds a copy of these bytes, read back to the end.

        Metadata is a claim and decides nothing about bytes: a copy may have been damaged
        since, and was perhaps found to be. It does decide whose object this is. Where hot
        and cold are one place under two names, the hot object itself lies at the key: it is
        nobody's copy, and its name gives it away. Such a key is passed over, so that at
        worst one copy too many is made.
        """
        stat = found.stat
        if stat.size_bytes != size_bytes:
            return None
        origin = Origin.of(found.metadata)
        is_ours = (
            origin is not None
            and origin.ledger_id == self.ledger_id
            and origin.digest in (digest, None)
        )
        if not is_ours and _may_be_one_object(stat.key, claim.candidate.location):
            return None
        taken.reads_cold(size_bytes)
        try:
            is_copy = self.stores.streams.read_back(self.stores.cold, stat) == digest
        except ObjectMissing:  # it is told of, and cannot be read: no copy
            return None
        return stat if is_copy else None


def told_digest(cold: ColdStore, found: ColdObject, origin: Origin) -> Digest | None:
    """The digest that an object of archiver's was put with, in its metadata or beside it."""
    if origin.digest is not None:
        return origin.digest
    try:
        note = cold.read(digest_notes.note_key(cold.path_prefix, found.stat.key))
    except ObjectMissing:
        return None
    return digest_notes.of_body(note, found.stat.key, found.stat.size_bytes)


def _may_be_one_object(key: ColdKey, location: HotLocation) -> bool:
    """Whether two names may be one object's: one ends like the other, from a slash on."""
    hot, cold = f"/{location.bucket}/{location.path}", f"/{key}"
    return hot.endswith(cold) or cold.endswith(f"/{location.path}")
