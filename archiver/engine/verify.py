"""Prove a window of copies: a receipt for each one proven, a failure for each other."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from archiver.engine.copies import evidence_of_parts
from archiver.errors import ArchiverError, ColdMismatch, FatalError, ObjectMissing
from archiver.model import Evidence, Receipt

if TYPE_CHECKING:
    from collections.abc import Sequence

    from archiver.engine.copies import Stores
    from archiver.model import ColdStat, Sent
    from archiver.protocols import ColdStore


@dataclass(frozen=True, slots=True)
class Verified:
    """What became of a window."""

    proven: list[tuple[Sent, Receipt]] = field(default_factory=list)
    failed: list[tuple[Sent, ArchiverError]] = field(default_factory=list)


def verify(window: Sequence[Sent], stores: Stores) -> Verified:
    """Look at what was sent, again and from outside, and demand the evidence for it.

    Existence, size and ETag of the whole window in as few calls as the store needs; the
    evidence object by object. Fails closed: what is not seen to be right is not proven.

    Raises:
        TransientError, FatalError: The store could not be asked about the window.
    """
    seen = stores.cold.stat_many([sent.cold.key for sent in window])
    verified = Verified()
    for sent in window:
        try:
            proven_by = _prove(sent, seen[sent.cold.key], stores)
        except FatalError:
            raise
        except ArchiverError as error:
            verified.failed.append((sent, error))
        else:
            verified.proven.append((sent, _receipt(sent, proven_by)))
    return verified


def is_as_recorded(receipt: Receipt, stat: ColdStat | None) -> bool:
    """Whether a later look at a cold object agrees with its receipt."""
    return (
        stat is not None
        and stat.size_bytes == receipt.size_bytes
        and (stat.etag is None or receipt.etag is None or stat.etag == receipt.etag)
    )


def _prove(sent: Sent, stat: ColdStat | None, stores: Stores) -> Evidence:
    where = str(sent.cold)
    if stat is None:
        raise ColdMismatch(where=where, expected=f"{sent.size_bytes} bytes", seen="no object")
    if stat.size_bytes != sent.size_bytes:
        raise ColdMismatch(
            where=where, expected=f"{sent.size_bytes} bytes", seen=f"{stat.size_bytes} bytes"
        )
    if sent.etag is not None and stat.etag != sent.etag:
        raise ColdMismatch(where=where, expected=f"etag {sent.etag}", seen=f"etag {stat.etag}")
    if sent.was_read_back:
        return Evidence.READBACK
    demanded = stores.evidence
    if sent.is_in_parts:
        demanded = evidence_of_parts(demanded, stores.cold)
    if demanded is Evidence.READBACK:
        return _read_back(sent, stat, stores)
    if demanded is Evidence.CHECKSUM:
        return _compare_held_digest(sent, stores.cold)
    return Evidence.SIGNED


def _read_back(sent: Sent, stat: ColdStat, stores: Stores) -> Evidence:
    try:
        seen = stores.streams.read_back(stores.cold, stat)
    except ObjectMissing as exc:  # it was listed a moment ago
        raise ColdMismatch(
            where=str(sent.cold), expected=str(sent.digest), seen="no object"
        ) from exc
    if seen != sent.digest:
        raise ColdMismatch(where=str(sent.cold), expected=str(sent.digest), seen=str(seen))
    return Evidence.READBACK


def _compare_held_digest(sent: Sent, cold: ColdStore) -> Evidence:
    seen = cold.held_digest(sent.cold.key)
    if seen != sent.digest:
        raise ColdMismatch(
            where=str(sent.cold),
            expected=str(sent.digest),
            seen=str(seen) if seen else "no digest",
        )
    return Evidence.CHECKSUM


def _receipt(sent: Sent, evidence: Evidence) -> Receipt:
    candidate = sent.claim.candidate
    return Receipt(
        source=sent.claim.source,
        id=candidate.id,
        token=sent.claim.token,
        location=candidate.location,
        identity=sent.identity,
        cold=sent.cold,
        size_bytes=sent.size_bytes,
        digest=sent.digest,
        content_digest=sent.content_digest,
        etag=sent.etag,
        evidence=evidence,
        group_id=candidate.group_id,
    )
