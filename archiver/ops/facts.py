"""An event's facts as flat fields: what a log line says beside its message."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from enum import Enum
from typing import TYPE_CHECKING, Any

from archiver.model import Adoption, Claim, Holding, Receipt, Summary, Takeover

if TYPE_CHECKING:
    from archiver.events import Event

Fact = str | int | float | bool


def facts(event: Event) -> dict[str, Fact]:
    """The fields of an event, claims and receipts spread out; None is left out."""
    found: dict[str, Any] = {}
    for item in fields(event):
        value = getattr(event, item.name)
        found |= _spread(value) or {item.name: value}
    return {name: _plain(value) for name, value in found.items() if value is not None}


def _spread(value: object) -> Mapping[str, object]:
    match value:
        case Claim():
            return _of_claim(value)
        case Receipt():
            return _of_receipt(value)
        case Adoption():
            return _of_adoption(value)
        case Holding():
            return _of_holding(value)
        case Summary():
            return value.to_json()
        case Takeover():
            return value.to_json()
        case Mapping():
            return value
        case _:
            return {}


def _of_claim(claim: Claim) -> dict[str, object]:
    candidate = claim.candidate
    return {
        "source": claim.source,
        "id": candidate.id,
        "group": candidate.group_id,
        "hot": candidate.location,
        "key": candidate.cold_key,
        "token": claim.token,
        "attempts_count": claim.attempts_count,
    }


def _of_receipt(receipt: Receipt) -> dict[str, object]:
    return {
        "source": receipt.source,
        "id": receipt.id,
        "group": receipt.group_id,
        "hot": receipt.location,
        "provider": receipt.cold.provider,
        "bucket": receipt.cold.bucket,
        "key": receipt.cold.key,
        "size_bytes": receipt.size_bytes,
        "digest": receipt.digest,
        "evidence": receipt.evidence,
        "token": receipt.token,
    }


def _of_adoption(adoption: Adoption) -> dict[str, object]:
    return {
        "source": adoption.source,
        "id": adoption.id,
        "group": adoption.group_id,
        "provider": adoption.cold.provider,
        "bucket": adoption.cold.bucket,
        "key": adoption.cold.key,
        "size_bytes": adoption.size_bytes,
        "digest": adoption.digest,
        "evidence": adoption.evidence,
    }


def _of_holding(holding: Holding) -> dict[str, object]:
    return {
        "id": holding.id,
        "group": holding.group_id,
        "bucket": holding.cold_bucket,
        "key": holding.cold_key,
    }


def _plain(value: object) -> Fact:
    if isinstance(value, Enum):
        return str(value.value) if isinstance(value.value, str) else str(value)
    return value if isinstance(value, (str, int, float)) else str(value)
