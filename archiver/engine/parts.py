"""One object sent in parts: recorded before it is begun, resumed by record, never leaked.

The order that makes it safe: the ledger knows of an upload before the store does, and of a
part only after the store has acknowledged it. So after a death at any line there is a record,
and what the record leaves out is sent again.
"""

from __future__ import annotations

import itertools
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from archiver.errors import (
    ArchiverError,
    ColdMismatch,
    KeyTaken,
    LeaseLost,
    LedgerFull,
    LedgerUnavailable,
    NotSent,
    ObjectChanged,
    StoreFull,
    StoreUnavailable,
    UploadBusy,
    UploadMissing,
)
from archiver.events import UploadAbandoned, UploadResumed
from archiver.formats import digest_notes
from archiver.formats.etags import etag_of_parts, md5_etag
from archiver.model import Digest, OpenUpload, Part

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from archiver.engine.lease import Heartbeat
    from archiver.model import Buffer, Capabilities, ColdKey, ColdStat, Upload, UploadPlan
    from archiver.protocols import Clock, Multipart, Observer, PartTarget, Uploads

T = TypeVar("T")

_ATTEMPTS = 5  # of one request; then the whole transfer waits, and is resumed by record
_WAIT_SECONDS = 0.5  # before the second attempt; doubled by each further one
_LOOK_SECONDS = 0.25  # at most between two looks at the wish to stop
_WAIT_MAX_SECONDS = 60.0  # a store that asks for more is not waited for with parts in hand
_PARTS_GONE = "InvalidPart"  # S3's word at the end for what it acknowledged before
_LOST_BEGIN_SECONDS = 300.0  # so close to its record lies a begin whose answer was lost


@dataclass(frozen=True, slots=True)
class Label:
    """What stands beside the bytes of an object."""

    metadata: Mapping[str, str]
    content_type: str | None = None
    content_encoding: str | None = None


@dataclass(frozen=True, slots=True)
class Completed:
    """One object that was made of its parts."""

    stat: ColdStat
    # Else something of that size is there, after an answer was lost; or ETags that should be
    # MD5s are not those of the bytes that were sent.
    is_certain: bool


@dataclass(frozen=True, slots=True)
class PartSender:
    """Sends objects in parts to one cold store, for one worker. Safe to share."""

    cold: PartTarget
    uploads: Uploads
    heartbeat: Heartbeat
    clock: Clock
    observe: Observer
    is_stopping: Callable[[], bool] = field(default=lambda: False)

    def open(self, plan: UploadPlan, label: Label) -> Sending:
        """Go on with the upload of this plan, or begin it. What it makes useless is aborted.

        Raises:
            UploadBusy: Another worker sends this object.
            StoreUnavailable, LedgerUnavailable, LeaseLost
        """
        upload = self._take(plan)
        if upload.upload_id is not None:
            try:
                return self._resumed(upload, upload.upload_id)
            except UploadMissing:  # dropped by the store; or completed, which a look shows
                self.uploads.forget(upload)
                upload = self.uploads.take(plan).upload
        with self._given_back(upload):
            self._abort_lost(upload)
            self.heartbeat.require()
            begun = self.cold.multipart.begin(
                plan.location.key,
                part_bytes=plan.part_bytes,
                metadata=label.metadata,
                content_type=label.content_type,
                content_encoding=label.content_encoding,
            )
            try:
                recorded = self.uploads.begun(upload, begun.upload_id)
            except (UploadBusy, LeaseLost):  # not recorded, and nobody else has seen this id
                with suppress(ArchiverError):
                    self.cold.multipart.abort(begun)
                raise
            return Sending(self, recorded, begun, {})

    def resume(self, plan: UploadPlan) -> Sending:
        """Go on with the recorded upload of this plan, and begin none.

        Raises:
            UploadMissing: The store does not have it: never begun, dropped or completed. Its
                record is ours.
            UploadBusy, StoreUnavailable, LedgerUnavailable, LeaseLost: As by `open`.
        """
        upload = self._take(plan)
        if upload.upload_id is None:
            raise UploadMissing(where=str(plan.location))
        return self._resumed(upload, upload.upload_id)

    def made_of(self, key: ColdKey, parts: Sequence[Part]) -> Completed | None:
        """What lies at a key, where it may be what was made of these parts."""
        found = self.cold.stat_many([key])[key]
        if found is None or found.size_bytes != sum(part.size_bytes for part in parts):
            return None
        etag = etag_of_parts([part.etag for part in parts])
        is_certain = _is_made_of(found, etag, self.cold.capabilities)
        return Completed(found, is_certain=is_certain)

    def drop(self, plan: UploadPlan, reason: str = "the object is there") -> None:
        """Nothing is to be sent: abort and forget what is recorded of it.

        Raises:
            UploadBusy: Another worker sends this object.
        """
        upload = self._take(plan)
        with self._given_back(upload):
            self.abandon(upload, reason)

    def abandon(self, upload: Upload, reason: str) -> None:
        """Abort an upload that is ours, and forget it. Safe to repeat."""
        self.heartbeat.require()
        self.uploads.require(upload)
        if upload.upload_id is None:
            self._abort_lost(upload)
        else:
            opened = OpenUpload(upload.plan.location.key, upload.upload_id)
            self.cold.multipart.abort(opened)
        self.uploads.forget(upload)
        self.observe(UploadAbandoned(str(upload.plan.location), reason))

    def note_digest(
        self,
        key: ColdKey,
        size_bytes: int,
        digest: Digest,
        reads_cold: Callable[[int], object] = lambda _: None,
    ) -> None:
        """Note the digest beside an object in parts, which could not say it when it was begun.

        `reads_cold` is told how many bytes are read, before they are.

        Raises:
            ColdMismatch: Another one is noted there.
        """
        note_key = digest_notes.note_key(self.cold.path_prefix, key)
        note = digest_notes.to_body(key, size_bytes, digest)
        try:
            self.patiently(
                partial(
                    self.cold.create,
                    note_key,
                    note,
                    metadata={},
                    content_type="application/json",
                    content_encoding=None,
                )
            )
        except KeyTaken as exc:
            reads_cold(len(note))
            noted = self.cold.read(note_key)
            if noted != note:
                where = str(self.cold.location(note_key))
                expected, seen = f"a note of {digest}", f"{len(noted)} other bytes"
                raise ColdMismatch(where=where, expected=expected, seen=seen) from exc

    def patiently(self, ask: Callable[[], T], *, whatever_ends: bool = False) -> T:
        """Ask a store or the ledger, again where it fails for a passing reason.

        `whatever_ends`: ask once at least, though the sweep ends. What a store has
        acknowledged is recorded.

        Raises:
            NotSent: The sweep ends.
            StoreUnavailable, LedgerUnavailable: It failed again and again.
            LeaseLost
        """
        for attempt in itertools.count(1):
            if not (whatever_ends and attempt == 1):
                self._require_going_on()
            self.heartbeat.require()
            try:
                return ask()
            except (NotSent, StoreFull, LedgerFull):
                raise
            except (StoreUnavailable, LedgerUnavailable) as error:
                asked_for = getattr(error, "retry_after_seconds", None)
                seconds = asked_for or _WAIT_SECONDS * 2 ** (attempt - 1)
                if attempt == _ATTEMPTS or seconds > _WAIT_MAX_SECONDS:
                    raise
                self._wait(seconds)
        raise AssertionError  # not reached: the count has no end

    def _wait(self, seconds: float) -> None:
        until = self.clock.monotonic() + seconds
        while (left := until - self.clock.monotonic()) > 0:
            self._require_going_on()
            self.heartbeat.progressed()  # it waits on purpose
            self.clock.sleep(min(left, _LOOK_SECONDS))

    def _require_going_on(self) -> None:
        if self.is_stopping():
            raise NotSent(store="cold", operation="put_part", code="the sweep ends")

    def _take(self, plan: UploadPlan) -> Upload:
        taken = self.uploads.take(plan)
        with self._given_back(taken.upload):
            for stale in taken.stale:
                self.abandon(stale, "the object is another one now")
        return taken.upload

    @contextmanager
    def _given_back(self, upload: Upload) -> Iterator[None]:
        """Let go of an upload that cannot be gone on with now: whoever comes may try."""
        try:
            yield
        except UploadMissing:
            raise
        except ArchiverError:
            with suppress(ArchiverError):  # the lease runs out by itself
                self.uploads.give_back(upload)
            raise

    def _resumed(self, upload: Upload, upload_id: str) -> Sending:
        """Go on with a recorded upload; what the store does not list is sent again."""
        opened = OpenUpload(upload.plan.location.key, upload_id)
        with self._given_back(upload):
            listed = self.patiently(partial(self.cold.multipart.parts, opened))
        held = {(it.number, it.size_bytes, it.etag) for it in listed}
        kept = {
            it.number: it for it in upload.parts if (it.number, it.size_bytes, it.etag) in held
        }
        kept_bytes = sum(it.size_bytes for it in kept.values())
        self.observe(
            UploadResumed(str(upload.plan.location), kept_bytes, upload.plan.size_bytes)
        )
        return Sending(self, upload, opened, kept)

    def _abort_lost(self, upload: Upload) -> None:
        """Abort what a begin has left whose answer, or whose record, was lost.

        A key that the engine made is this ledger's alone, and no other upload of it is ours:
        so all that lie there go. A key of a user's own may be somebody else's as well: there
        only those begun right after this record.
        """
        key = upload.plan.location.key
        for found in self.cold.multipart.open_uploads(key):
            if found.key == key and (upload.plan.source is not None or _is_of(upload, found)):
                self.heartbeat.require()
                self.cold.multipart.abort(found)


class Sending:
    """One upload under way, ours. Parts are put by many threads, the rest is one thread's."""

    def __init__(
        self,
        sender: PartSender,
        upload: Upload,
        opened: OpenUpload,
        acknowledged: Mapping[int, Part],
    ) -> None:
        self._sender = sender
        self._upload = upload
        self._opened = opened
        self.acknowledged = acknowledged  # when it was opened, by number
        self._is_in_doubt = False  # written by many threads, always the same

    @property
    def part_bytes(self) -> int:
        return self._upload.plan.part_bytes

    @property
    def _multipart(self) -> Multipart:
        return self._sender.cold.multipart

    @property
    def _where(self) -> str:
        return str(self._upload.plan.location)

    def put(self, number: int, body: Buffer) -> Part:
        """Send one part, unless the store has it; recorded durably on return.

        Raises:
            ObjectChanged: Other bytes were sent under that number before.
            NotSent, StoreUnavailable, LedgerUnavailable, UploadMissing, UploadBusy, LeaseLost
        """
        sender, digest = self._sender, Digest.of(body)
        known = self.acknowledged.get(number)
        if known is not None:
            if known.digest != digest:
                told = {"expected": str(known.digest), "seen": str(digest)}
                raise ObjectChanged(where=f"{self._where} part {number}", **told)
            sender.heartbeat.progressed()
            self._look_at(known.etag, body)
            return known
        etag = sender.patiently(partial(self._multipart.put_part, self._opened, number, body))
        part = Part(number, len(body), digest, etag)
        save = partial(sender.uploads.save_part, self._upload, part)
        sender.patiently(save, whatever_ends=True)
        sender.heartbeat.progressed()
        self._look_at(etag, body)
        return part

    def complete(self, parts: list[Part]) -> Completed:
        """Make the object, and forget the upload. All parts must be listed as they were sent.

        Where that is not certain the record stays: the upload may be open still.

        Raises:
            KeyTaken: The key is in use; the upload is still there.
            StoreUnavailable: Also where the store lists other parts than were sent.
            UploadMissing: Also where no further try could complete it: abandon it.
            UploadBusy, LeaseLost, LedgerUnavailable
        """
        sender = self._sender
        self._require_listed(parts)
        completed = sender.patiently(lambda: self._complete_once(parts))
        if self._is_in_doubt:
            completed = Completed(completed.stat, is_certain=False)
        if completed.is_certain:
            forget = partial(sender.uploads.forget, self._upload)
            sender.patiently(forget, whatever_ends=True)
        return completed

    def abandon(self, reason: str) -> None:
        """Abort it and forget it: its bytes are not wanted."""
        self._sender.abandon(self._upload, reason)

    def leave(self) -> None:
        """Let go of it, to be resumed by whoever comes."""
        self._sender.uploads.give_back(self._upload)

    def _look_at(self, etag: str, body: Buffer) -> None:
        """Bytes that were damaged before they were stored show in an ETag that is their MD5.

        No error: there are stores whose parts have other ETags than their whole objects.
        """
        if self._sender.cold.capabilities.etag_is_md5 and etag != md5_etag(body):
            self._is_in_doubt = True

    def _require_listed(self, parts: list[Part]) -> None:
        listed = self._sender.patiently(partial(self._multipart.parts, self._opened))
        seen = [(it.number, it.size_bytes, it.etag) for it in listed]
        if seen != [(it.number, it.size_bytes, it.etag) for it in parts]:
            if {it.number for it in listed} - {it.number for it in parts}:
                raise UploadMissing(where=self._where)  # they would be part of it
            raise StoreUnavailable(  # what is not as it was sent is sent again by the next try
                store="cold",
                operation="parts",
                code="the parts listed are not those sent",
                where=self._where,
            )

    def _complete_once(self, parts: list[Part]) -> Completed:
        sender = self._sender
        sender.uploads.require(self._upload)
        sender.heartbeat.require()
        try:
            stat = self._multipart.complete(self._opened, parts)
        except (StoreUnavailable, UploadMissing) as error:
            # The answer was lost, or one before it was: it may well have been made.
            made = sender.made_of(self._upload.plan.location.key, parts)
            if made is None:
                if getattr(error, "code", "") == _PARTS_GONE:
                    raise UploadMissing(where=self._where) from error
                raise error from None
            return made
        return Completed(stat, is_certain=True)


def _is_of(upload: Upload, found: OpenUpload) -> bool:
    """Whether an upload that the store lists was begun for a record of ours."""
    if found.begun_at is None:
        return False
    after = (found.begun_at - upload.begun_at).total_seconds()
    return -_LOST_BEGIN_SECONDS <= after <= _LOST_BEGIN_SECONDS


def _is_made_of(stat: ColdStat, etag: str | None, capabilities: Capabilities) -> bool:
    """Whether its ETag says that an object is made of just these parts."""
    return capabilities.etag_is_md5 and etag is not None and stat.etag == etag
