"""Which evidence is demanded of a store, and when none will do."""

from __future__ import annotations

import pytest

from archiver.engine.evidence import demanded_evidence
from archiver.errors import EvidenceUnavailable
from archiver.model import Capabilities, Evidence

ALL = Capabilities(enforces_signed_digest=True, enforces_create=True, returns_digest=True)
NOTHING = Capabilities(
    enforces_signed_digest=False, enforces_create=False, returns_digest=False
)


def test_by_itself_the_cheapest_evidence_that_the_store_gives() -> None:
    assert demanded_evidence(None, ALL, "s3") is Evidence.SIGNED
    assert demanded_evidence(None, NOTHING, "other") is Evidence.READBACK


@pytest.mark.parametrize("minimum", [None, Evidence.READBACK])
def test_what_cannot_be_read_back_is_not_proven_by_reading(minimum: Evidence | None) -> None:
    with pytest.raises(EvidenceUnavailable, match="readback"):
        demanded_evidence(minimum, NOTHING, "other", can_read_back=False)


def test_what_cannot_be_read_back_may_be_proven_otherwise() -> None:
    assert demanded_evidence(None, ALL, "s3", can_read_back=False) is Evidence.SIGNED
    assert (
        demanded_evidence(Evidence.CHECKSUM, ALL, "s3", can_read_back=False)
        is Evidence.CHECKSUM
    )
