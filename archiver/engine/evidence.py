"""Which evidence a sweep demands: the setting is a minimum, the probe says what there is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from archiver.errors import EvidenceUnavailable
from archiver.model import Evidence

if TYPE_CHECKING:
    from archiver.model import Capabilities


def demanded_evidence(
    minimum: Evidence | None,
    capabilities: Capabilities,
    provider: str,
    *,
    can_read_back: bool = True,  # not from a class that must be restored first
) -> Evidence:
    """The cheapest evidence this store can give that satisfies the minimum.

    None is ``auto``: `signed` where the store was seen to refuse a body that does not match
    its signed SHA-256, else `readback`.

    Raises:
        EvidenceUnavailable: The store cannot give what is demanded.
    """
    by_itself = Evidence.SIGNED if capabilities.enforces_signed_digest else Evidence.READBACK
    demanded = by_itself if minimum is None else minimum
    is_given = {
        Evidence.SIGNED: capabilities.enforces_signed_digest,
        Evidence.CHECKSUM: capabilities.returns_digest,
        Evidence.READBACK: can_read_back,
    }
    if not is_given.get(demanded, False):
        raise EvidenceUnavailable(demanded=str(demanded), provider=provider)
    return demanded
