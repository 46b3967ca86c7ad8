"""Errors are reactions. Three bases, because a caller can do three things.

    ArchiverError
    |-- TransientError            wait: the claim waits, then the move is tried again
    |   |-- StoreUnavailable        timeout, 5xx, throttled, cut: says its code
    |   |-- LedgerUnavailable       the database did not answer
    |   `-- Mismatch                bytes or sizes disagree; tried three times, then parked
    |       |-- SizeMismatch
    |       |-- DigestMismatch
    |       |-- ContentDigestMismatch
    |       |-- UnreadableContent
    |       `-- ColdMismatch
    |-- PermanentError            park: waiting will not help
    |   |-- ObjectMissing           proven, with a control
    |   |-- ObjectDenied            proven, with a control
    |   |-- ObjectTooLarge
    |   |-- ContentBomb
    |   |-- MetadataTooLarge
    |   |-- UnusableName            the store cannot hold an object of that name
    |   |-- KeyTaken                a create found the key in use
    |   `-- NoFreeKey
    `-- FatalError                stop: going on would do harm
        |-- SettingsError           exit 2
        |-- BucketMissing
        |-- StoreDenied
        |-- CanaryFailed
        |-- EvidenceUnavailable
        |-- LedgerOutdated
        |-- LedgerDenied
        |-- SourceRefused
        `-- LeaseLost

`str()` gives what happened, the facts as ``name=value``, and the hint.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import ClassVar


@dataclass(kw_only=True, eq=False)  # eq=False: an exception must stay hashable
class ArchiverError(Exception):
    """Something of archiver's went wrong."""

    hint: ClassVar[str] = ""

    def __str__(self) -> str:
        summary = (type(self).__doc__ or "").partition("\n")[0].rstrip(".")
        facts = " ".join(
            f"{item.name}={value}"
            for item in fields(self)
            if (value := getattr(self, item.name)) not in (None, "")
        )
        told = f"{summary}: {facts}" if facts else summary
        return f"{told}. {self.hint}" if self.hint else f"{told}."


class TransientError(ArchiverError):
    """Waiting may help."""

    max_attempts: ClassVar[int | None] = None  # None: the ledger's own limit


class PermanentError(ArchiverError):
    """Waiting will not help."""


class FatalError(ArchiverError):
    """Going on would do harm."""


# --- wait -------------------------------------------------------------------------------


@dataclass(kw_only=True, eq=False)
class StoreUnavailable(TransientError):
    """A store did not do what it was asked."""

    store: str  # "hot" or "cold"
    operation: str
    code: str  # the store's own word, or ours: timeout, connection, unknown
    where: str = ""
    message: str = ""
    retry_after_seconds: float | None = None


@dataclass(kw_only=True, eq=False)
class LedgerUnavailable(TransientError):
    """The database did not answer."""

    operation: str
    message: str
    hint: ClassVar[str] = "Check that Postgres runs and ARCHIVE_DATABASE_URL points at it."


@dataclass(kw_only=True, eq=False)
class Mismatch(TransientError):
    """Two things that must be equal are not."""

    where: str
    expected: str
    seen: str
    max_attempts: ClassVar[int | None] = 3  # a row just rewritten may explain it; not for ever
    hint: ClassVar[str] = "The hot copy is untouched."


class SizeMismatch(Mismatch):
    """The hot object does not have the size its row promises."""


class DigestMismatch(Mismatch):
    """The hot object does not have the digest its row promises."""


class ContentDigestMismatch(Mismatch):
    """The decompressed hot object does not have the content digest its row promises."""


class UnreadableContent(Mismatch):
    """The hot object cannot be decompressed, so its content digest cannot be checked."""


class ColdMismatch(Mismatch):
    """The cold store does not hold the bytes that were sent."""


# --- park -------------------------------------------------------------------------------


@dataclass(kw_only=True, eq=False)
class ObjectMissing(PermanentError):
    """There is no such object."""

    store: str
    where: str
    code: str = ""


@dataclass(kw_only=True, eq=False)
class ObjectDenied(PermanentError):
    """The store refuses this object to this key."""

    store: str
    operation: str
    where: str
    code: str = ""
    hint: ClassVar[str] = (
        "S3 answers a missing key with 403 too when the key pair may not list the bucket: "
        "grant s3:ListBucket to tell the two apart."
    )


@dataclass(kw_only=True, eq=False)
class UnusableName(PermanentError):
    """The store cannot hold an object of this name."""

    store: str
    where: str
    reason: str


@dataclass(kw_only=True, eq=False)
class ObjectTooLarge(PermanentError):
    """The object is too large for this version."""

    where: str
    size_bytes: int
    limit_bytes: int


@dataclass(kw_only=True, eq=False)
class ContentBomb(PermanentError):
    """The object decompresses to more than the limit."""

    where: str
    limit_bytes: int


@dataclass(kw_only=True, eq=False)
class MetadataTooLarge(PermanentError):
    """What must be said beside the object is more than a store accepts."""

    where: str
    problem: str
    hint: ClassVar[str] = "Shorten the id, the hot path or the source's metadata."


@dataclass(kw_only=True, eq=False)
class KeyTaken(PermanentError):
    """The cold key is in use."""

    where: str


@dataclass(kw_only=True, eq=False)
class NoFreeKey(PermanentError):
    """Every cold key this object may have holds other bytes."""

    where: str
    tried_count: int


# --- stop -------------------------------------------------------------------------------


@dataclass(kw_only=True, eq=False)
class SettingsError(FatalError):
    """The settings cannot be used."""

    problems: tuple[str, ...]  # one line each, secrets masked

    def __str__(self) -> str:
        lines = "\n".join(f"  - {problem}" for problem in self.problems)
        return f"{len(self.problems)} problem(s) with the settings:\n{lines}"


@dataclass(kw_only=True, eq=False)
class BucketMissing(FatalError):
    """There is no such bucket."""

    store: str
    bucket: str
    hint: ClassVar[str] = "Create it, or correct its name; nothing was changed."


@dataclass(kw_only=True, eq=False)
class StoreDenied(FatalError):
    """A store refuses these credentials."""

    store: str
    operation: str
    where: str
    code: str = ""
    message: str = ""
    hint: ClassVar[str] = "Check the keys and what they may do; nothing was changed."


@dataclass(kw_only=True, eq=False)
class CanaryFailed(FatalError):
    """An archived object could not be read back, so no hot copy is deleted."""

    where: str
    message: str
    hint: ClassVar[str] = "Give the key read access to the cold bucket, then run again."


@dataclass(kw_only=True, eq=False)
class EvidenceUnavailable(FatalError):
    """The cold store does not give the evidence that is demanded."""

    demanded: str
    provider: str
    hint: ClassVar[str] = "Set ARCHIVE_EVIDENCE=auto or readback."


@dataclass(kw_only=True, eq=False)
class LedgerOutdated(FatalError):
    """The ledger's tables are not what this version needs."""

    found: str
    needed: str
    hint: ClassVar[str] = "Run `archiver migrate`."


@dataclass(kw_only=True, eq=False)
class LedgerDenied(FatalError):
    """The database refuses this role."""

    operation: str
    message: str
    hint: ClassVar[str] = "Check the user, the password and its grants on schema archiver."


@dataclass(kw_only=True, eq=False)
class SourceRefused(FatalError):
    """A source cannot be trusted with this database."""

    source: str
    problem: str
    fix: str = ""


@dataclass(kw_only=True, eq=False)
class LeaseLost(FatalError):
    """This worker's lease ran out: its claims may be another worker's now."""

    worker: int
    hint: ClassVar[str] = "Run again; whatever was under way is taken over after one lease."
