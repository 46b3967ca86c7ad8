"""Rows to nouns and back. Digests travel as hex and whole groups as one JSON parameter."""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING, Any

from archiver.model import (
    Adoption,
    BadRow,
    Candidate,
    CandidateId,
    Claim,
    ColdKey,
    ColdLocation,
    Digest,
    Evidence,
    FencingToken,
    HotIdentity,
    HotLocation,
    Part,
    Receipt,
    ReceiptId,
    Recorded,
    RecordedAdoption,
    SourceName,
    Upload,
    UploadNumber,
    UploadPlan,
    WorkerId,
)

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from archiver.ledger.database import Row
    from archiver.model import Offer

Json = dict[str, Any]  # one record of a `jsonb_to_recordset`

_REASON_LENGTH = 1500  # characters; a path may have any number
_NOBODY = FencingToken(0, WorkerId(0), 0)  # nobody's: no write is let through by it


def offer_to_json(offer: Offer) -> Json:
    if isinstance(offer, BadRow):
        return {
            "id": offer.id,
            "due_at": offer.due_at.isoformat(),
            "hot_bucket": offer.hot_bucket,
            "hot_path": offer.hot_path,
            "metadata": {},
            "reason": storable(offer.reason),
        }
    return {
        "id": offer.id,
        "due_at": offer.due_at.isoformat(),
        "hot_bucket": offer.location.bucket,
        "hot_path": offer.location.path,
        "cold_key": offer.cold_key,
        "digest": _hex(offer.digest),
        "content_digest": _hex(offer.content_digest),
        "size_bytes": offer.size_bytes,
        "content_type": offer.content_type,
        "content_encoding": offer.content_encoding,
        "group_id": offer.group_id,
        "metadata": dict(offer.metadata),
    }


def claim_from(source: SourceName, row: Row) -> Claim:
    return Claim(
        source=source,
        candidate=_candidate_from(row),
        token=token_from(row),
        attempts_count=row["attempts_count"],
        crashes_count=row["crashes_count"],
    )


def token_from(row: Row) -> FencingToken:
    return FencingToken(row["epoch"], WorkerId(row["worker_id"]), row["number"])


def token_to_json(token: FencingToken) -> Json:
    return {"epoch": token.epoch, "worker_id": token.worker, "number": token.number}


def receipt_to_json(receipt: Receipt, template_key: str) -> Json:
    """`template_key` is the candidate's own cold key: it tells where the prefix ends."""
    prefix, cold_key = _split_key(receipt.cold.key, template_key)
    identity = receipt.identity
    return {
        "id": receipt.id,
        **token_to_json(receipt.token),
        "provider": receipt.cold.provider,
        "cold_bucket": receipt.cold.bucket,
        "prefix": prefix,
        "cold_key": cold_key,
        "hot_bucket": receipt.location.bucket,
        "hot_path": receipt.location.path,
        "size_bytes": receipt.size_bytes,
        "digest": _hex(receipt.digest),
        "content_digest": _hex(receipt.content_digest),
        "etag": receipt.etag,
        "hot_size_bytes": identity.size_bytes if identity else None,
        "hot_etag": identity.etag if identity else None,
        "hot_version": identity.version if identity else None,
        "hot_modified_at": _text(identity.modified_at) if identity else None,
        "evidence": int(receipt.evidence),
        "group_id": receipt.group_id,
    }


def adoption_to_json(adoption: Adoption) -> Json:
    return {
        "id": adoption.id,
        "provider": adoption.cold.provider,
        "cold_bucket": adoption.cold.bucket,
        "cold_key": adoption.cold.key,
        "size_bytes": adoption.size_bytes,
        "digest": _hex(adoption.digest),
        "content_digest": _hex(adoption.content_digest),
        "etag": adoption.etag,
        "evidence": int(adoption.evidence),
        "group_id": adoption.group_id,
    }


def is_adopted(row: Row) -> bool:
    """Of a row of the view `archived`: whether it knows of no hot object."""
    return row["hot_bucket"] is None


def adoption_from(row: Row) -> RecordedAdoption:
    """From a row of the view `archived` that `is_adopted`."""
    adoption = Adoption(
        source=SourceName(row["source"]),
        id=CandidateId(row["id"]),
        cold=ColdLocation(row["provider"], row["cold_bucket"], ColdKey(row["cold_key"])),
        size_bytes=row["size_bytes"],
        digest=_digest(row["digest"]),
        content_digest=_digest(row["content_digest"]),
        etag=row["etag"],
        evidence=Evidence(row["evidence"]),
        group_id=row["group_id"],
    )
    adopted_at = row["archived_at"].astimezone(UTC)
    return RecordedAdoption(ReceiptId(row["receipt_id"]), adoption, adopted_at)


def recorded_from(row: Row) -> Recorded:
    """From any other row of the view `archived`; what else it holds does not matter."""
    receipt = Receipt(
        source=SourceName(row["source"]),
        id=CandidateId(row["id"]),
        token=token_from(row),
        location=HotLocation(row["hot_bucket"], row["hot_path"]),
        identity=_identity_from(row),
        cold=ColdLocation(row["provider"], row["cold_bucket"], ColdKey(row["cold_key"])),
        size_bytes=row["size_bytes"],
        digest=Digest(bytes(row["digest"])),
        content_digest=_digest(row["content_digest"]),
        etag=row["etag"],
        evidence=Evidence(row["evidence"]),
        group_id=row["group_id"],
    )
    return Recorded(ReceiptId(row["receipt_id"]), receipt, row["archived_at"].astimezone(UTC))


def plan_to_json(plan: UploadPlan) -> Json:
    return {
        "provider": plan.location.provider,
        "cold_bucket": plan.location.bucket,
        "cold_key": plan.location.key,
        "origin": plan.origin,
        "size_bytes": plan.size_bytes,
        "part_bytes": plan.part_bytes,
        "source": plan.source,
        "id": plan.id,
    }


def upload_from(row: Row, parts: Iterable[Part]) -> Upload:
    plan = UploadPlan(
        location=ColdLocation(row["provider"], row["cold_bucket"], ColdKey(row["cold_key"])),
        origin=row["origin"],
        size_bytes=row["size_bytes"],
        part_bytes=row["part_bytes"],
        source=None if row["source"] is None else SourceName(row["source"]),
        id=None if row["id"] is None else CandidateId(row["id"]),
    )
    return Upload(
        number=UploadNumber(row["upload_no"]),
        plan=plan,
        token=_NOBODY if row["worker_id"] is None else token_from(row),
        upload_id=row["upload_id"],
        parts=tuple(parts),
        begun_at=row["begun_at"].astimezone(UTC),
        expires_at=row["expires_at"].astimezone(UTC),
    )


def part_from(row: Row) -> Part:
    return Part(row["number"], row["size_bytes"], Digest(bytes(row["digest"])), row["etag"])


def location_from(row: Row) -> HotLocation | None:
    """None: a bad pointer."""
    if row["hot_bucket"] is None or row["hot_path"] is None:
        return None
    return HotLocation(row["hot_bucket"], row["hot_path"])


def storable(reason: str) -> str:
    """One line that Postgres keeps and a person reads, whatever a row or a store says."""
    told = reason if len(reason) <= _REASON_LENGTH else f"{reason[:_REASON_LENGTH]}..."
    return "".join(
        char if char.isprintable() else ascii(char)[1:-1] for char in told.replace("\0", "")
    )


def _candidate_from(row: Row) -> Candidate:
    return Candidate(
        id=CandidateId(row["id"]),
        due_at=row["due_at"].astimezone(UTC),
        location=HotLocation(row["hot_bucket"], row["hot_path"]),
        cold_key=ColdKey(row["cold_key"]),
        digest=_digest(row["digest"]),
        content_digest=_digest(row["content_digest"]),
        size_bytes=row["size_bytes"],
        content_type=row["content_type"],
        content_encoding=row["content_encoding"],
        group_id=row["group_id"],
        metadata=row["metadata"],
    )


def _identity_from(row: Row) -> HotIdentity | None:
    if row["hot_etag"] is None and row["hot_version"] is None:
        return None  # an identity has one of them
    modified_at: datetime | None = row["hot_modified_at"]
    return HotIdentity(
        size_bytes=row["hot_size_bytes"],
        etag=row["hot_etag"],
        version=row["hot_version"],
        modified_at=modified_at.astimezone(UTC) if modified_at else None,
    )


def _split_key(key: str, template_key: str) -> tuple[str, str]:
    """The prefix and the rest; the file name of the rest may carry a digest by now."""
    folder, template_folder = _folder(key), _folder(template_key)
    if not folder.endswith(template_folder):
        return "", key
    prefix = folder.removesuffix(template_folder)
    return prefix, key.removeprefix(prefix)


def _folder(key: str) -> str:
    return key[: key.rfind("/") + 1]


def _digest(raw: bytes | None) -> Digest | None:
    return None if raw is None else Digest(bytes(raw))


def _hex(digest: Digest | None) -> str | None:
    return None if digest is None else str(digest)


def _text(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()
