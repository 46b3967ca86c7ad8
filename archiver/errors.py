"""Errors are reactions. Three bases, because a caller can do three things.

    ArchiverError
    |-- TransientError            wait: the claim waits, then the move is tried again
    |   |-- StoreUnavailable        timeout, 5xx, cut: says its code
    |   |   |-- StoreThrottled          nobody's fault: asked less, and never counted
    |   |   |-- StoreFull               nor is this: nothing more is sent
    |   |   `-- NotSent                 its turn did not come: nor is this ever counted
    |   |-- LedgerUnavailable       the database did not answer
    |   |   |-- LedgerFull              its disk is full
    |   |   `-- LedgerFileUnavailable   another process writes it, or its disk fails
    |   |-- NoEgressLeft            the budget has no room for a read
    |   |-- TransferTimeout         the caller's own limit: the transfer was ended
    |   |-- UploadBusy              another worker sends this very object
    |   |-- UploadMissing           the store knows no such upload (any more)
    |   |-- PutNotBegun             of an object that is handed over in pieces, as the next two
    |   |-- PartNotSent
    |   |-- PutsClosed
    |   |-- TransferBroken          a source or a target failed: says where
    |   |   |-- TransferTimedOut
    |   |   `-- TargetFull
    |   |-- TransferStopped         as it was asked to
    |   |-- TargetBusy              another process writes to that file
    |   `-- Mismatch                bytes or sizes disagree; tried three times, then parked
    |       |-- SizeMismatch
    |       |-- DigestMismatch
    |       |-- ContentDigestMismatch
    |       |-- UnreadableContent
    |       |-- ColdMismatch
    |       |-- ObjectChanged           another object lies there than the one that was begun
    |       |-- SourceSizeMismatch      of a transfer, as the next two
    |       |-- SourceDigestMismatch
    |       |-- SourceChanged
    |       |-- WrongLength             what was to be put is shorter or longer than was said
    |       |-- FileChanged             a file was written while it was pushed
    |       |-- UnexpectedDigest        of what was pushed or pulled
    |       `-- HoldingDamaged      what another worker archived is not what was promised
    |-- PermanentError            park: waiting will not help
    |   |-- ObjectMissing           proven, with a control
    |   |-- ObjectDenied            proven, with a control
    |   |-- ObjectFrozen            there, and read only after a restore
    |   |-- ObjectTooLarge
    |   |-- ContentBomb
    |   |-- MetadataTooLarge
    |   |-- OnePlace
    |   |-- UnusableName            the store cannot hold an object of that name
    |   |-- KeyTaken                a create found the key in use
    |   |-- CheckpointUnusable      of a transfer, as the next two
    |   |-- TargetMisplaced
    |   |-- TargetUnusable
    |   |-- PutNotFound             no upload of that key can be gone on with
    |   |-- RowMissing              the reader's own, from here on
    |   |-- BadPointer
    |   |-- WrongBytes
    |   |-- NothingToCompare
    |   |-- ElsewhereStored
    |   |-- NoUrl
    |   |-- ReservedKey             the object service's own, from here on
    |   |-- RangeOutside
    |   |-- BadLifetime
    |   |-- NotOffered
    |   |-- FileUnusable            a file that cannot be pushed: exit 2
    |   |-- KeyHeld                 by another object than the one that was pushed
    |   |-- PipeTooLong
    |   `-- NoFreeKey
    `-- FatalError                stop: going on would do harm
        |-- SettingsError           exit 2
        |-- BucketMissing
        |-- StoreDenied
        |-- CanaryFailed
        |-- EvidenceUnavailable
        |-- LedgerOutdated
        |-- LedgerDenied
        |-- LedgerFileUnusable    it is damaged, or another program's
        |-- LedgerFileNewer
        |-- StateDirUnusable
        |-- ForeignDatabase       the ledger is a copy, restored or moved
        |-- ForeignStamp          another ledger releases under this prefix
        |-- ForkedLedger          the cold store knows more of this ledger than it does itself
        |-- StampGone             the cold store knows less of it
        |-- SourceRefused
        `-- LeaseLost

`str()` gives what happened, the facts as ``name=value``, and the hint.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass, fields
from typing import ClassVar, Literal

NO_ROOM = {errno.ENOSPC, errno.EDQUOT}  # the file system, or what this user may have of it


@dataclass(kw_only=True, eq=False)  # eq=False: an exception must stay hashable
class ArchiverError(Exception):
    """Something of archiver's went wrong."""

    hint: ClassVar[str] = ""

    def __str__(self) -> str:
        summary = (type(self).__doc__ or "").partition("\n")[0].rstrip(".")
        facts = " ".join(
            f"{item.name}={_in_line(value)}"
            for item in fields(self)
            if (value := getattr(self, item.name)) not in (None, "")
        )
        told = f"{summary}: {facts}" if facts else summary
        stop = "" if told.endswith((".", "!", "?")) else "."
        return f"{told}{stop} {self.hint}".rstrip()


def _in_line(value: object) -> str:
    """A fact as it can stand in a line: a row or a store may have put anything into it."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in str(value))


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
    hint: ClassVar[str] = "Nothing is lost: it is tried again."


class StoreThrottled(StoreUnavailable):
    """A store asks for fewer requests."""


class StoreFull(StoreUnavailable):
    """A store has no room left."""

    hint: ClassVar[str] = "Make room there: it is tried again, and nothing is lost."


class NotSent(StoreUnavailable):
    """A request was not sent to its store: its turn would have come too late."""

    hint: ClassVar[str] = "Nothing was asked, so nothing is counted: it is tried again."


@dataclass(kw_only=True, eq=False)
class LedgerUnavailable(TransientError):
    """The database did not answer."""

    operation: str
    message: str
    hint: ClassVar[str] = "Check that Postgres runs and ARCHIVE_DATABASE_URL points at it."


class LedgerFull(LedgerUnavailable):
    """The database has no room left."""

    hint: ClassVar[str] = "Make room on its disk: it is tried again, and nothing is lost."


class LedgerFileUnavailable(LedgerUnavailable):
    """The ledger's file could not be read or written."""

    hint: ClassVar[str] = (
        "Another process may be writing it for long, or its disk be full or failing: it is "
        "tried again, and nothing is lost."
    )


@dataclass(kw_only=True, eq=False)
class NoEgressLeft(TransientError):
    """The egress budget has no room for a read now; it was not begun."""

    where: str
    size_bytes: int  # of all that would have been read


@dataclass(kw_only=True, eq=False)
class TransferTimeout(TransientError):
    """The transfer took longer than it was allowed to, and was ended."""

    operation: str
    where: str
    timeout_seconds: float
    hint: ClassVar[str] = (
        "Nothing of it goes on. What was being written may or may not be there: look before "
        "it is tried again, with a longer limit, or with none (0)."
    )


@dataclass(kw_only=True, eq=False)
class UploadBusy(TransientError):
    """Another worker is sending this object."""

    where: str
    hint: ClassVar[str] = "Wait until it is done, or until its lease has run out."


@dataclass(kw_only=True, eq=False)
class UploadMissing(TransientError):
    """The store knows no such upload, or not its parts: it was completed or aborted."""

    where: str
    hint: ClassVar[str] = "Nothing is lost: it is begun anew."


@dataclass(kw_only=True, eq=False)
class PutNotBegun(TransientError):
    """The upload of an object could not be begun."""

    where: str
    cause: str
    hint: ClassVar[str] = "None of its bytes was taken: put it again."


@dataclass(kw_only=True, eq=False)
class PartNotSent(TransientError):
    """A part of an object could not be sent."""

    where: str
    number: int
    cause: str
    hint: ClassVar[str] = "Go on from where its upload stands: what was acknowledged is kept."


@dataclass(kw_only=True, eq=False)
class PutsClosed(TransientError):
    """No more objects are taken here: it was not started, or is closed."""

    where: str


@dataclass(kw_only=True, eq=False)
class TransferBroken(TransientError):
    """A transfer broke off."""

    doing: Literal["reading", "skipping", "writing", "syncing"]
    offset: int  # in the object, where it failed
    code: str  # an errno, or the name of another error
    message: str = ""
    hint: ClassVar[str] = "Go on from its last checkpoint: what lies before that is durable."


@dataclass(kw_only=True, eq=False)
class TransferTimedOut(TransferBroken):
    """The source or the target of a transfer took too long."""

    code: str = "timeout"
    timeout_seconds: float
    hint: ClassVar[str] = (
        "The thread that waits for it is left behind, so open both anew; then go on from the "
        "last checkpoint."
    )


class TargetFull(TransferBroken):
    """The target of a transfer has no room left."""

    hint: ClassVar[str] = "Make room there, then go on from the last checkpoint."


@dataclass(kw_only=True, eq=False)
class TransferStopped(TransientError):
    """A transfer was asked to stop."""

    offset: int
    reason: str
    hint: ClassVar[str] = "Go on from its last checkpoint."


@dataclass(kw_only=True, eq=False)
class TargetBusy(TransientError):
    """Another process writes to this file."""

    where: str
    hint: ClassVar[str] = "Wait until it is done."


@dataclass(kw_only=True, eq=False)
class Mismatch(TransientError):
    """Two things that must be equal are not."""

    where: str
    expected: str
    seen: str
    max_attempts: ClassVar[int | None] = 3  # a row just rewritten may explain it; not for ever
    hint: ClassVar[str] = "The hot copy is untouched."


_MEND = (
    "The hot copy is untouched. Mend the row or the object; a changed row is tried by itself, "
    "else run `archiver retry`."
)


class SizeMismatch(Mismatch):
    """The hot object does not have the size its row promises."""

    hint: ClassVar[str] = _MEND


class DigestMismatch(Mismatch):
    """The hot object does not have the digest its row promises."""

    hint: ClassVar[str] = _MEND


class ContentDigestMismatch(Mismatch):
    """The decompressed hot object does not have the content digest its row promises."""

    hint: ClassVar[str] = _MEND


class UnreadableContent(Mismatch):
    """The hot object cannot be decompressed, so its content digest cannot be checked."""

    hint: ClassVar[str] = _MEND


class ColdMismatch(Mismatch):
    """The cold store does not hold the bytes that were sent."""


class ObjectChanged(Mismatch):
    """The object changed while it was read."""

    hint: ClassVar[str] = "Nothing was kept of it: it must be begun anew."


class WrongLength(Mismatch):
    """What was to be put is not as long as was said."""

    hint: ClassVar[str] = "Nothing was put. A file that is being written is not whole yet."


class SourceSizeMismatch(Mismatch):
    """The source of a transfer does not have the size that was promised."""

    hint: ClassVar[str] = (
        "One that was cut goes on from the last checkpoint. One that is too long is another "
        "object: the target was cut, and the next try starts at the beginning."
    )


class SourceDigestMismatch(Mismatch):
    """What was transferred does not have the digest that was promised."""

    hint: ClassVar[str] = (
        "The target was cut and the checkpoint reset: the next try starts at the beginning."
    )


class SourceChanged(Mismatch):
    """The source is not the one that was begun, and it cannot be read from its beginning."""

    hint: ClassVar[str] = (
        "Open it anew: the checkpoint was reset, so the next try starts at the beginning."
    )


class FileChanged(Mismatch):
    """The file changed while it was pushed."""

    hint: ClassVar[str] = (
        "Nothing of it shows in the store, and nothing is left there. Push it again once "
        "nobody writes to it."
    )


class UnexpectedDigest(Mismatch):
    """The bytes do not have the digest that they must have."""

    hint: ClassVar[str] = "Nothing was kept of them."


@dataclass(kw_only=True, eq=False)
class HoldingDamaged(Mismatch):
    """An archived object is not what its row, or its own metadata, promises."""

    hint: ClassVar[str] = "Nothing was changed; no other copy is known here."


# --- park -------------------------------------------------------------------------------


@dataclass(kw_only=True, eq=False)
class ObjectMissing(PermanentError):
    """There is no such object."""

    store: str
    where: str
    code: str = ""
    hint: ClassVar[str] = "A row of it keeps its pointer; run `archiver retry` when it is back."


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
class ObjectFrozen(PermanentError):
    """The object lies in a class that is read only after a restore."""

    store: str
    operation: str
    where: str
    hint: ClassVar[str] = "Restore it in the store first: that takes minutes to hours."


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
class OnePlace(PermanentError):
    """The hot object and its cold copy would be one and the same object."""

    where: str
    hint: ClassVar[str] = (
        "Hot and cold are one bucket here: letting go of the hot copy would delete the "
        "archived one. Archive into another bucket, or set ARCHIVE_PATH_PREFIX."
    )


@dataclass(kw_only=True, eq=False)
class KeyTaken(PermanentError):
    """The cold key is in use."""

    where: str


@dataclass(kw_only=True, eq=False)
class CheckpointUnusable(PermanentError):
    """What was kept of a transfer is no checkpoint."""

    problem: str
    where: str = ""
    hint: ClassVar[str] = "Begin without it: the object is transferred from its beginning."


@dataclass(kw_only=True, eq=False)
class TargetMisplaced(PermanentError):
    """The target does not stand where the transfer goes on, and cannot be put there."""

    expected: int
    found: int | str
    hint: ClassVar[str] = (
        "Nothing was written. A target holds one object, from its first byte on: give one that "
        "is empty, or begin without the checkpoint."
    )


@dataclass(kw_only=True, eq=False)
class TargetUnusable(PermanentError):
    """A file cannot be written there."""

    where: str
    code: str
    message: str = ""


@dataclass(kw_only=True, eq=False)
class PutNotFound(PermanentError):
    """There is no upload of this object to go on with."""

    where: str
    hint: ClassVar[str] = "It was completed or aborted, or never begun: look, then put it anew."


@dataclass(kw_only=True, eq=False)
class NoFreeKey(PermanentError):
    """Every cold key this object may have holds other bytes."""

    where: str
    tried_count: int


# --- what only a reader meets -----------------------------------------------------------


@dataclass(kw_only=True, eq=False)
class RowMissing(PermanentError):
    """The source has no such row."""

    source: str
    id: str


@dataclass(kw_only=True, eq=False)
class BadPointer(PermanentError):
    """The row does not say where its object is."""

    source: str
    id: str
    problem: str


@dataclass(kw_only=True, eq=False)
class WrongBytes(PermanentError):
    """What lies there is not what was promised, so none of it is given out."""

    where: str
    promised_by: str
    expected: str
    seen: str


@dataclass(kw_only=True, eq=False)
class NothingToCompare(PermanentError):
    """Nothing says what the archived bytes must be, so they are not given out."""

    source: str
    id: str
    where: str
    hint: ClassVar[str] = "`archiver adopt` gives a receipt to what another worker archived."


@dataclass(kw_only=True, eq=False)
class ElsewhereStored(PermanentError):
    """The row's copy lies with another provider than the settings name."""

    where: str
    found: str
    configured: str
    hint: ClassVar[str] = "Open it with the settings it was archived under."


@dataclass(kw_only=True, eq=False)
class NoUrl(PermanentError):
    """This store has no URLs that end by themselves."""

    where: str
    hint: ClassVar[str] = "A directory has none: read the object itself, by `archive.open`."


# --- what only the object service meets ---------------------------------------------------


@dataclass(kw_only=True, eq=False)
class ReservedKey(PermanentError):
    """Nobody writes or deletes under this key by hand."""

    where: str
    whose: str
    hint: ClassVar[str] = (
        "An archived object is never written over or deleted. Choose a key that no source "
        "makes, below `objects/` for one."
    )


@dataclass(kw_only=True, eq=False)
class RangeOutside(PermanentError):
    """The object does not have all the bytes of this range."""

    where: str
    start: int
    stop: int | None
    size_bytes: int
    hint: ClassVar[str] = "A range is [start, stop), with 0 <= start <= stop <= size."


@dataclass(kw_only=True, eq=False)
class BadLifetime(PermanentError):
    """A signed URL cannot last so long."""

    lifetime_seconds: float
    shortest_seconds: float
    longest_seconds: float
    reason: str = ""


@dataclass(kw_only=True, eq=False)
class NotOffered(PermanentError):
    """This store cannot do that."""

    store: str
    operation: str
    where: str
    reason: str


# --- what only a person who pushes or pulls meets ----------------------------------------


@dataclass(kw_only=True, eq=False)
class FileUnusable(PermanentError):
    """This file cannot be pushed."""

    where: str
    problem: str


@dataclass(kw_only=True, eq=False)
class KeyHeld(PermanentError):
    """Another object has this key."""

    where: str
    size_bytes: int
    hint: ClassVar[str] = (
        "Nothing was written: no object is ever replaced. Push it under another key."
    )


@dataclass(kw_only=True, eq=False)
class PipeTooLong(PermanentError):
    """The pipe gives more than fits into the parts of one object."""

    where: str
    limit_bytes: int
    hint: ClassVar[str] = "Nothing was kept of it. Choose a larger --part-size."


# --- stop -------------------------------------------------------------------------------


@dataclass(kw_only=True, eq=False)
class SettingsError(FatalError):
    """The settings cannot be used."""

    problems: tuple[str, ...]  # one line each, secrets masked

    def __str__(self) -> str:
        lines = "\n".join(f"  - {problem}" for problem in self.problems)
        problems = "1 problem" if len(self.problems) == 1 else f"{len(self.problems)} problems"
        return f"{problems} with the settings:\n{lines}"


@dataclass(kw_only=True, eq=False)
class BucketMissing(FatalError):
    """There is no such bucket."""

    store: str
    bucket: str
    hint: ClassVar[str] = "Create it, or correct its name, then run again: nothing is lost."


@dataclass(kw_only=True, eq=False)
class StoreDenied(FatalError):
    """A store refuses these credentials."""

    store: str
    operation: str
    where: str
    code: str = ""
    message: str = ""
    hint: ClassVar[str] = (
        "Check the keys and what they may do, then run again: nothing is lost. Cold: "
        "ARCHIVE_ACCESS_KEY_ID, ARCHIVE_SECRET_ACCESS_KEY; hot: SUPABASE_SERVICE_ROLE_KEY, or "
        "ARCHIVE_HOT_ACCESS_KEY_ID, ARCHIVE_HOT_SECRET_ACCESS_KEY."
    )


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
    hint: ClassVar[str] = (
        "Check the user, the password and the database in ARCHIVE_DATABASE_URL, and the user's "
        "grants on schema archiver."
    )


@dataclass(kw_only=True, eq=False)
class LedgerFileUnusable(FatalError):
    """The ledger's file is damaged, or another program's."""

    path: str
    problem: str
    hint: ClassVar[str] = (
        "Move it away, and the files beside it whose names begin like its own: a new one is "
        "made, and what only the old one knew is sent from the beginning."
    )


@dataclass(kw_only=True, eq=False)
class LedgerFileNewer(FatalError):
    """The ledger's file is of a newer archiver."""

    path: str
    found: int
    known: int
    hint: ClassVar[str] = "Use that archiver again, or another ARCHIVE_STATE_DIR."


@dataclass(kw_only=True, eq=False)
class StateDirUnusable(FatalError):
    """The state directory cannot be used."""

    path: str
    problem: str
    hint: ClassVar[str] = (
        "Name a directory in ARCHIVE_STATE_DIR that this user may write, on a disk of this "
        "machine."
    )


_TAKE_OVER = (
    "Nothing was deleted. See that only one database's workers release against these hot and "
    "cold stores; then `archiver ledger take-over`, run for that database, decides for it."
)


@dataclass(kw_only=True, eq=False)
class ForeignDatabase(FatalError):
    """This ledger is at home in another database, so it is a copy, or was restored or moved."""

    found: str
    expected: str
    hint: ClassVar[str] = (
        "Nothing was touched. Where the other database is gone or retired (restored, moved, "
        "renamed, upgraded by pg_upgrade): `archiver ledger take-over`. Where it lives on (a "
        "copy for staging): first set a hot store and a bucket or ARCHIVE_PATH_PREFIX of the "
        "copy's own, or ARCHIVE_RELEASE=off; then take over."
    )


@dataclass(kw_only=True, eq=False)
class ForeignStamp(FatalError):
    """Another ledger releases hot copies under this prefix."""

    where: str
    found: str
    hint: ClassVar[str] = (
        f"{_TAKE_OVER} Two databases that stay in use, each with a hot store of its own, need "
        "a bucket or an ARCHIVE_PATH_PREFIX each."
    )


@dataclass(kw_only=True, eq=False)
class ForkedLedger(FatalError):
    """The ledger does not know its own stamp in the cold store: it was restored or copied."""

    where: str
    found: str
    expected: str
    hint: ClassVar[str] = (
        "So it is after a failover to a replica that lagged, too, and where the archive was "
        f"copied to another bucket. {_TAKE_OVER}"
    )


@dataclass(kw_only=True, eq=False)
class StampGone(FatalError):
    """The stamp that this ledger left is not there: an exchanged or emptied cold store."""

    where: str
    expected: str
    hint: ClassVar[str] = (
        "Nothing was deleted. Set the bucket that holds the archive again; where it is lost or "
        "was replaced on purpose: `archiver ledger take-over`. No lifecycle rule may remove "
        "what lies below `.archiver/`."
    )


@dataclass(kw_only=True, eq=False)
class SourceRefused(FatalError):
    """A source cannot be trusted with this database."""

    source: str
    problem: str
    fix: str = ""  # words, or statements on lines of their own

    def __str__(self) -> str:
        told = f"Source {self.source} cannot be trusted with this database: {self.problem}."
        if not self.fix:
            return told
        between = "\n" if "\n" in self.fix else " "
        return f"{told} To mend it:{between}{self.fix}"


@dataclass(kw_only=True, eq=False)
class LeaseLost(FatalError):
    """This worker's lease ran out: its claims may be another worker's now."""

    worker: int
    hint: ClassVar[str] = "Run again; whatever was under way is taken over after one lease."
