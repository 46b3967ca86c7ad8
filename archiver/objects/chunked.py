"""Puts of objects whose bytes come as they come: begun, told of, resumed by record, ended.

The record is the ledger's (`Uploads`): it survives this process, and whoever comes later
goes on where it stands. What nobody comes back for is aborted by the clock.
"""

from __future__ import annotations

import math
import secrets
import threading
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Protocol

from archiver.engine.lease import Heartbeat
from archiver.engine.parts import Label, PartSender
from archiver.engine.pool import aside, every
from archiver.engine.streams import Streams
from archiver.errors import (
    ArchiverError,
    ColdMismatch,
    KeyTaken,
    LedgerUnavailable,
    ObjectTooLarge,
    PutNotBegun,
    PutNotFound,
    PutsClosed,
    StoreUnavailable,
    UploadBusy,
    UploadMissing,
)
from archiver.events import UploadLeft
from archiver.formats.parts import part_bytes_for
from archiver.model import ColdKey, ColdPlace, Digest, UploadPlan
from archiver.objects.facts import facts_of
from archiver.objects.guard import KeyGuard
from archiver.objects.putting import Order, Put, StoredPut, prefix_bytes, read_back
from archiver.ops.clock import SystemClock

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime
    from types import TracebackType
    from typing import Self

    from archiver.events import Event
    from archiver.model import Upload
    from archiver.objects.putting import Stream
    from archiver.protocols import Clock, Leases, Observer, PartTarget, Uploads

_HANDED_OVER = "handed over"  # how the origin of such an upload begins; in records: it stays
_TICK_SECONDS = 5.0  # between two looks at what has expired, and who says nothing
_CLOSE_SECONDS = 10.0
_EXPIRED_AT_MOST = 100  # in one look; the next one goes on


class LedgerOfUploads(Protocol):
    """What a ledger must have: `PostgresLedger` and `SqliteLedger` do."""

    @property
    def fleet(self) -> Leases: ...

    @property
    def uploads(self) -> Uploads: ...


@dataclass(frozen=True, slots=True)
class IncompletePut:
    """An object that is not whole yet."""

    key: str
    size_bytes: int | None  # None: not known before its end
    received_bytes: int  # handed over; of one that nobody sends now: where to go on
    sent_bytes: int  # acknowledged by the store
    is_complete: bool  # all of it is there, and the object is yet to be made of it
    is_processing: bool  # by this process
    begun_at: datetime
    expires_at: datetime  # aborted after that; each part and each resumption put it off


class ChunkedPuts:
    """Puts into one store. Safe to share between threads; started and closed by its owner.

    Args:
        target: Where the objects go.
        ledger: Open; its lease is taken by `start`, and left by `close`.
        clock: The machine's, mostly.
        observe: Told of what goes on, from any thread.
        streams: How long parts are, how many at once, and within which memory.
        inactivity_seconds: A put to which nothing comes for so long is ended, and can be
            resumed; None or 0: it is waited for.
        guard: Which keys nobody writes; without one archiver's own alone.
    """

    def __init__(
        self,
        target: PartTarget,
        ledger: LedgerOfUploads,
        *,
        clock: Clock | None = None,
        observe: Observer | None = None,
        streams: Streams | None = None,
        inactivity_seconds: float | None = None,
        guard: KeyGuard | None = None,
    ) -> None:
        if inactivity_seconds is not None and not 0 <= inactivity_seconds < math.inf:
            message = f"inactivity_seconds must be 0 or above, not {inactivity_seconds}"
            raise ValueError(message)
        self._target = target
        self._ledger = ledger
        self._clock = clock or SystemClock()
        self._observe = observe or _nobody
        self._owns_streams = streams is None
        self._streams = streams or Streams()
        self._inactivity_seconds = inactivity_seconds
        self._guard = guard or KeyGuard()
        self._lock = threading.RLock()  # guards the next four
        self._heartbeat: Heartbeat | None = None
        self._ending = ExitStack()
        self._is_closed = False
        self._under_way: dict[str, Put | None] = {}  # None: about to be
        at = target.location(ColdKey(""))
        self._place = ColdPlace(at.provider, at.bucket, target.path_prefix)

    # --- its life -----------------------------------------------------------------------

    def start(self) -> None:
        """Take a lease and begin to look at the clock. Repeatable.

        Raises:
            PutsClosed
            LedgerUnavailable, LedgerDenied, ForeignDatabase
        """
        with self._lock:
            if self._is_closed:
                raise PutsClosed(where=str(self._place))
            if self._heartbeat is not None:
                return
            heartbeat = Heartbeat(self._ledger.fleet, self._clock)
            self._ending.callback(self._leave)
            beats = every(heartbeat.interval_seconds, heartbeat.beat, name="archiver-heartbeat")
            self._ending.callback(beats)
            ticks = every(_TICK_SECONDS, self.tick, name="archiver-puts-clock")
            self._ending.callback(ticks)
            self._heartbeat = heartbeat

    def close(self, timeout_seconds: float = _CLOSE_SECONDS) -> None:
        """Refuse new puts at once, and end those under way; at any time, and repeatable.

        What was handed over wholly is completed, what was not can be resumed. After the
        bound nobody waits for what hangs in a store's call: its record tells of it.
        """
        with self._lock:
            self._is_closed = True
            puts = [put for put in self._under_way.values() if put is not None]
            ending = self._ending.pop_all()
        for put in puts:
            if not put.is_whole:
                put.stop()
        deadline = self._clock.monotonic() + timeout_seconds
        for put in puts:
            put.wait(max(0.0, deadline - self._clock.monotonic()))
        for put in puts:
            put.give_up()
        if self._owns_streams:
            self._streams.crew.close()
        ending.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def tick(self) -> None:
        """End puts to which nothing comes, and abort expired uploads. The clock calls it."""
        with self._lock:
            puts = [put for put in self._under_way.values() if put is not None]
        for put in puts:
            put.end_if_idle()
        with suppress(ArchiverError):  # the next look goes on
            self.abort_expired()

    # --- puts ---------------------------------------------------------------------------

    def put_with_progress(
        self,
        key: str,
        size_bytes: int | None = None,
        body: Stream | None = None,
        *,
        digest: Digest | None = None,
        content_type: str | None = None,
        content_encoding: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> Put:
        """Begin an object; its upload is recorded on return. Never written over another.

        With a body, all of it is taken by a thread of its own. Without, hand it over:
        `write`, `send`, then `end`. An upload of that key that nobody sends is dropped.

        Args:
            key: Whole, with its prefix.
            size_bytes: What is shorter or longer is aborted; None: it ends where it ends.
            body: A reader, or an iterable of pieces.
            digest: SHA-256 of all bytes, proven before the object is made; of a put that was
                resumed after it, by reading the object back.
            content_type: Of the object, as the next two.
            content_encoding: Likewise.
            metadata: Likewise.

        Raises:
            UploadBusy: The same key is being put.
            PutNotBegun, PutsClosed, KeyTaken, ObjectTooLarge
            ReservedKey: Nobody writes it by hand.
            ValueError: What is said of the object cannot stand in a header.
        """
        facts = facts_of(content_type, content_encoding, metadata)
        label = Label(facts.metadata, facts.content_type, facts.content_encoding)
        where = self._where(key)
        with self._reserved(key) as (sender, is_ending):
            with _beginning(where):
                if self._target.stat_many([ColdKey(key)])[ColdKey(key)] is not None:
                    raise KeyTaken(where=where)
                plan = self._plan(key, size_bytes, digest)
                sending = None if size_bytes == 0 else sender.open(plan, label)
            order = self._order(plan, label, digest)
            put = self._registered(Put(order, sending, (), is_ending, partial(self._free, key)))
        return _taking(put, body)

    def resume_put(
        self, key: str, body: Stream | None = None, *, digest: Digest | None = None
    ) -> Put:
        """Go on with an object, from `Put.start_bytes` on. Puts its expiry off.

        What lies before that cannot be read again: each part of it was sent under its own
        SHA-256. Where a digest of the whole is demanded, here or when it was begun, the object
        is read back once it is made. One that was made already, unheard, is over on return.

        Args:
            key: Whole, with its prefix.
            body: What follows `Put.start_bytes`; so mostly none is given here.
            digest: As by `put_with_progress`.

        Raises:
            PutNotFound: There is none to go on with.
            UploadBusy, PutNotBegun, PutsClosed
        """
        where = self._where(key)
        with self._reserved(key) as (sender, is_ending):
            with _beginning(where):
                found = self._find(key)
                if found is None:
                    raise PutNotFound(where=where)
                demanded = digest or _digest_in(found.plan.origin)
                try:
                    sending = sender.resume(found.plan)
                except UploadMissing:
                    stored = self._made(sender, found, demanded)
                    sender.drop(found.plan, "the store has it no more")
                    if stored is None:
                        raise PutNotFound(where=where) from None
                    sending = None
                else:
                    stored = None
            parts = found.parts if sending is None else tuple(sending.acknowledged.values())
            order = self._order(found.plan, Label({}), demanded)
            put = self._registered(
                Put(order, sending, parts, is_ending, partial(self._free, key))
            )
        if stored is not None:
            put.start_bytes = stored.size_bytes
            put.conclude(stored, None)
            return put
        return _taking(put, body)

    # --- what is recorded ---------------------------------------------------------------

    def incomplete(self, key: str) -> IncompletePut | None:
        """The put of that key that is not whole yet; None: there is none."""
        found = self._find(key)
        return None if found is None else self._described(found)

    def incompletes(self) -> list[IncompletePut]:
        """Every put of this store that is not whole yet, by key."""
        at = self._target.location(ColdKey(""))
        newest = {
            it.plan.location.key: it
            for it in self._ledger.uploads.uploads()  # oldest first
            if _is_handed_over(it)
            and (it.plan.location.provider, it.plan.location.bucket) == (at.provider, at.bucket)
        }
        return [self._described(newest[key]) for key in sorted(newest)]

    def abort(self, key: str) -> None:
        """End the put of a key, whoever sends it here, and drop what was sent.

        Raises:
            PutNotFound
            UploadBusy: Another process sends it, or it is just about to begin.
            StoreUnavailable, LedgerUnavailable, PutsClosed
        """
        with self._lock:
            put = self._under_way.get(key)
        if put is not None:
            put.abort()
            put.wait(_CLOSE_SECONDS)
            return
        with self._reserved(key) as (sender, _):
            try:
                found = self._find(key)
                if found is None:
                    raise PutNotFound(where=self._where(key))
                sender.drop(found.plan, "it was asked for")
            finally:
                self._free(key)

    def abort_expired(self) -> int:
        """Abort what nobody came back for; how many. Those under way are never touched.

        Raises:
            LeaseLost, LedgerUnavailable, PutsClosed
        """
        sender, uploads = self._sender(threading.Event()), self._ledger.uploads
        aborted_count = 0
        for upload in uploads.expired(self._place, _EXPIRED_AT_MOST):
            try:
                sender.abandon(upload, "nobody came back for it")
            except ArchiverError as exc:
                with suppress(ArchiverError):  # else it stays ours, and is not found again
                    uploads.give_back(upload)
                self._observe(UploadLeft(str(upload.plan.location), str(exc)))
            else:
                aborted_count += 1
        return aborted_count

    def _find(self, key: str) -> Upload | None:
        location, found = self._target.location(ColdKey(key)), None
        for upload in self._ledger.uploads.uploads():  # oldest first
            if upload.plan.location == location and _is_handed_over(upload):
                found = upload
        return found

    def _described(self, upload: Upload) -> IncompletePut:
        plan = upload.plan
        with self._lock:
            is_processing = plan.location.key in self._under_way
            put = self._under_way.get(plan.location.key)
        parts = {part.number: part for part in upload.parts}
        if put is None:
            received_bytes = prefix_bytes(parts, plan)
            sent_bytes = sum(part.size_bytes for part in upload.parts)
        else:
            received_bytes, sent_bytes = put.received_bytes, put.sent_bytes
        is_whole = plan.size_bytes == received_bytes or (put is not None and put.is_whole)
        return IncompletePut(
            key=plan.location.key,
            size_bytes=plan.size_bytes,
            received_bytes=received_bytes,
            sent_bytes=sent_bytes,
            is_complete=is_whole and sent_bytes == received_bytes,
            is_processing=is_processing,
            begun_at=upload.begun_at,
            expires_at=upload.expires_at,
        )

    def _made(
        self, sender: PartSender, found: Upload, digest: Digest | None
    ) -> StoredPut | None:
        """The object that was made of an upload, where its completion was not heard of."""
        key, parts = found.plan.location.key, list(found.parts)
        made = sender.made_of(key, parts) if parts else None
        if made is None:
            return None
        seen = None
        if digest is not None or not made.is_certain:
            try:
                seen = read_back(self._target, self._streams, made.stat, parts)
            except ColdMismatch:
                return None
            if digest not in {None, seen}:
                expected = str(digest)
                raise ColdMismatch(where=self._where(key), expected=expected, seen=str(seen))
        return StoredPut(key, made.stat.size_bytes, made.stat.etag, seen)

    # --- one put ------------------------------------------------------------------------

    @contextmanager
    def _reserved(self, key: str) -> Iterator[tuple[PartSender, threading.Event]]:
        """Keep everybody else from this key, until its put has ended or cannot begin.

        The ledger would give one worker the same upload twice.
        """
        self._guard.require_free(key, self._where(key))
        is_ending = threading.Event()
        with self._lock:
            sender = self._sender(is_ending)
            if key in self._under_way:
                raise UploadBusy(where=self._where(key))
            self._under_way[key] = None
        try:
            yield sender, is_ending
        except BaseException:
            self._free(key)
            raise

    def _free(self, key: str) -> None:
        with self._lock:
            self._under_way.pop(key, None)

    def _sender(self, is_ending: threading.Event) -> PartSender:
        with self._lock:
            if self._is_closed or self._heartbeat is None:
                raise PutsClosed(where=str(self._place))
            return PartSender(
                self._target,
                self._ledger.uploads,
                self._heartbeat,
                self._clock,
                self._observe,
                is_ending.is_set,
            )

    def _registered(self, put: Put) -> Put:
        with self._lock:
            self._under_way[put.key] = put
            is_closed = self._is_closed
        if is_closed:  # meanwhile
            put.stop()
        return put

    def _plan(self, key: str, size_bytes: int | None, digest: Digest | None) -> UploadPlan:
        rules = self._target.multipart.rules
        try:
            part_bytes = part_bytes_for(size_bytes, self._streams.part_bytes, rules)
        except ValueError as exc:
            raise ObjectTooLarge(
                where=self._where(key),
                size_bytes=size_bytes or 0,
                limit_bytes=rules.max_bytes * rules.max_count,
            ) from exc
        return UploadPlan(
            location=self._target.location(ColdKey(key)),
            # Whether two streams are the same nobody can tell: each put is an upload apart.
            origin="\n".join([_HANDED_OVER, secrets.token_hex(16), str(digest or "")]),
            size_bytes=size_bytes,
            part_bytes=part_bytes,
        )

    def _order(self, plan: UploadPlan, label: Label, digest: Digest | None) -> Order:
        return Order(
            plan=plan,
            label=label,
            digest=digest,
            target=self._target,
            streams=self._streams,
            clock=self._clock,
            inactivity_seconds=self._inactivity_seconds,
        )

    def _where(self, key: str) -> str:
        return str(self._target.location(ColdKey(key)))

    def _leave(self) -> None:
        """End the lease, unless a thread still hangs: then it runs out, as a dead worker's."""
        with self._lock:
            is_idle = not self._under_way
        if is_idle:
            with suppress(LedgerUnavailable):
                self._ledger.fleet.leave()


@contextmanager
def _beginning(where: str) -> Iterator[None]:
    try:
        yield
    except (StoreUnavailable, LedgerUnavailable) as exc:
        raise PutNotBegun(where=where, cause=str(exc)) from exc


def _taking(put: Put, body: Stream | None) -> Put:
    """Begin to take a body, where there is one."""
    if body is not None:
        aside(partial(_take_all, put, body), name="archiver-put")
    return put


def _take_all(put: Put, body: Stream) -> None:
    try:
        put.send(body)
        put.end()
    except Exception as exc:  # noqa: BLE001  # told to whoever waits for the put
        put.fail_reading(exc)


def _is_handed_over(upload: Upload) -> bool:
    return upload.plan.source is None and upload.plan.origin.startswith(f"{_HANDED_OVER}\n")


def _digest_in(origin: str) -> Digest | None:
    told = origin.rsplit("\n", 1)[-1]
    return Digest.parse(told) if told else None


def _nobody(_: Event) -> None:
    """Hears of nothing."""
