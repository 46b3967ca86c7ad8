"""What is known of each product behind the S3 API, as rows of data. No code, no names asked.

Whoever needs to know something asks the row for it, never for its name. What a store
really enforces is not here: it is probed (`probe.py`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from archiver.model import PartRules

if TYPE_CHECKING:
    from collections.abc import Mapping

# A LIST page that answers more keys than this is cheaper than a HEAD for each: a LIST is
# billed as a write, 4.50 to 5.00 USD a million, a HEAD as a read, 0.36 to 0.40.
_BILLED_AS_A_WRITE = 13
_NOT_BILLED = 2  # then only time counts, and one call for two is less of it

S3Client = Literal["obstore", "boto3"]  # what may move the objects of a cold store

# What lies in these is read only after a restore, which takes minutes to hours.
FROZEN_CLASSES = frozenset({"GLACIER", "DEEP_ARCHIVE"})

# Below the path prefix: left in the cold bucket to see whether the hot store finds it too.
PLACE_MARKER = ".archiver/place"

_THROTTLED = frozenset({"RequestLimitExceeded", "SlowDown", "Throttling", "TooManyRequests"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """One product. The parts are those of multipart uploads."""

    name: str
    endpoint: str | None  # with {region} or {account} to fill in; None: each has its own
    region: str | None  # to sign for, where neither the settings nor the endpoint say one
    list_pays_from: int  # so many keys of one LIST page make it cheaper than HEADs
    throttle_codes: frozenset[str] = _THROTTLED  # beside the statuses 429 and 503
    part_min_bytes: int = 5 << 20
    part_max_bytes: int = 5 << 30
    parts_max: int = 10_000
    has_equal_parts: bool = False  # every part but the last must have one size
    storage_classes: tuple[str, ...] = ()  # that it takes by these names; empty: unknown
    has_chain: bool = False  # credentials of the AWS chain are its own
    has_free_egress: bool = False  # reading is not billed by the byte, however much it is

    @property
    def part_rules(self) -> PartRules:
        return PartRules(self.part_min_bytes, self.part_max_bytes, self.parts_max)

    def region_for(self, endpoint: str | None) -> str | None:
        """The region to sign for: the one the endpoint names, else the product's own."""
        if endpoint is not None and self.endpoint is not None and "{region}" in self.endpoint:
            pattern = re.escape(self.endpoint).replace(r"\{region\}", "([a-z0-9-]+)")
            named = re.fullmatch(pattern, endpoint.rstrip("/"))
            if named is not None:
                return named[1]
        return self.region


_ROWS = (
    Provider(
        name="r2",
        endpoint="https://{account}.r2.cloudflarestorage.com",
        region="auto",
        list_pays_from=_BILLED_AS_A_WRITE,
        has_equal_parts=True,
        storage_classes=("STANDARD", "STANDARD_IA"),
        has_free_egress=True,
    ),
    Provider(
        name="b2",
        endpoint="https://s3.{region}.backblazeb2.com",
        region=None,
        list_pays_from=_NOT_BILLED,
        part_min_bytes=5_000_000,
        storage_classes=("STANDARD",),
    ),
    Provider(
        name="s3",
        endpoint="https://s3.{region}.amazonaws.com",
        region=None,
        list_pays_from=_BILLED_AS_A_WRITE,
        storage_classes=(
            "STANDARD",
            "STANDARD_IA",
            "ONEZONE_IA",
            "INTELLIGENT_TIERING",
            "GLACIER_IR",
            "GLACIER",
            "DEEP_ARCHIVE",
        ),
        has_chain=True,
    ),
    Provider(
        name="minio",
        endpoint=None,
        region="us-east-1",
        list_pays_from=_NOT_BILLED,
        storage_classes=("STANDARD", "REDUCED_REDUNDANCY"),
    ),
    Provider(
        name="gcs",
        endpoint="https://storage.googleapis.com",
        region="auto",
        list_pays_from=_BILLED_AS_A_WRITE,
        storage_classes=("STANDARD", "NEARLINE", "COLDLINE", "ARCHIVE"),
    ),
    Provider(
        name="wasabi",
        endpoint="https://s3.{region}.wasabisys.com",
        region="us-east-1",
        list_pays_from=_NOT_BILLED,
        throttle_codes=_THROTTLED | {"RequestRateLimitExceeded"},  # with status 400
        storage_classes=("STANDARD",),
    ),
    Provider(
        name="other",
        endpoint=None,
        region="us-east-1",
        list_pays_from=_BILLED_AS_A_WRITE,  # as the dearest known: the bill is not ours
    ),
    Provider(
        name="file",
        endpoint=None,
        region=None,
        list_pays_from=1,
        throttle_codes=frozenset(),
        part_min_bytes=1,
        has_free_egress=True,
    ),
)

PROVIDERS: Mapping[str, Provider] = MappingProxyType({row.name: row for row in _ROWS})

# An answer is read before it is known whose it is; no product means another thing by these.
THROTTLE_CODES = frozenset[str]().union(*(row.throttle_codes for row in _ROWS))
