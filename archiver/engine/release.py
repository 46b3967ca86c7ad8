"""Letting go of hot copies, against recorded receipts only.

The ledger hands back what it recorded, past its grace, with no row pointing at it. Here the
cold copy is looked at again where the receipt is old, the hot object is asked again who it
is, and only the very object that was read is deleted.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from archiver.engine.verify import is_as_recorded
from archiver.errors import (
    CanaryFailed,
    NoEgressLeft,
    NotSent,
    ObjectFrozen,
    ObjectMissing,
    PermanentError,
)
from archiver.model import ColdStat, Deleted, Evidence, Outcome, ReleaseEnd, ReleaseFailure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from archiver.engine.copies import Stores
    from archiver.engine.lease import Heartbeat
    from archiver.model import Digest, Receipt, Release
    from archiver.protocols import Clock

_FRESH = timedelta(minutes=10)  # after which even the worker that proved a copy looks again


@dataclass(frozen=True, slots=True)
class Released:
    """What became of a batch of claimed releases."""

    ends: list[ReleaseEnd] = field(default_factory=list)
    failures: list[ReleaseFailure] = field(default_factory=list)
    refused: list[tuple[Release, NoEgressLeft]] = field(default_factory=list)  # not read again


@dataclass(frozen=True, slots=True)
class Releaser:
    """What a release needs beside its receipts."""

    stores: Stores
    heartbeat: Heartbeat
    clock: Clock
    delete_seconds: float  # how long one delete may take: it must fit in the lease

    def sing(self, releases: Sequence[Release]) -> ObjectFrozen | None:
        """The canary: read the smallest archived object back, whole, before any delete.

        A store that we can write but not read must not cost a byte. The one excuse is
        returned: a frozen object, for only who may read it is told that it is one.

        Raises:
            CanaryFailed: It may not be read, is gone, or is not what its receipt says.
            NoEgressLeft: There is no room in the budget to read it.
            TransientError: Nothing is known: ask again.
        """
        here = [
            receipt
            for receipt in (item.recorded.receipt for item in releases)
            if receipt.cold == self.stores.cold.location(receipt.cold.key)
        ]
        if not here:
            return None  # nothing of these is deleted: their copies are in another store
        receipt = min(here, key=lambda it: it.size_bytes)
        try:
            seen = self._readback(receipt)
        except ObjectFrozen as excuse:
            return excuse
        except PermanentError as error:
            raise CanaryFailed(where=str(receipt.cold), message=str(error)) from error
        if seen != receipt.digest:
            message = f"its SHA-256 is {seen}, the receipt says {receipt.digest}"
            raise CanaryFailed(where=str(receipt.cold), message=message)
        return None

    def release(self, releases: Sequence[Release]) -> Released:
        """Delete the hot copies of claimed releases, where they still are what was read.

        Safe to repeat after a crash at any line: an absent object counts as released.

        Raises:
            LeaseLost: Too little of the lease is left; no further delete was sent.
            TransientError, FatalError: A store could not be asked, or not in time; what
                was deleted is found absent the next time.
        """
        done = Released()
        proven = self._still_proven(releases, done)
        for item in proven:
            receipt = item.recorded.receipt
            self.stores.require_two_places(receipt.location, receipt.cold.key)
        unchanged, looked_at = self._still_the_same(proven, done)
        if not unchanged:
            return done
        targets = [
            (item.recorded.receipt.location, identity)
            for item in unchanged
            if (identity := item.recorded.receipt.identity) is not None
        ]
        answers = self.stores.hot.delete(targets, lambda: self._require_now(looked_at))
        may_delete = {at.bucket for at, answer in answers.items() if answer is Deleted.DELETED}
        for item in unchanged:
            location = item.recorded.receipt.location
            is_object = location.bucket in may_delete
            _settle(item, answers[location], done, denial_is_of_object=is_object)
        return done

    def _require_now(self, looked_at: float) -> None:
        """Prove, when its turn has come, that a delete may still be sent.

        Raises:
            LeaseLost: It does not fit into what is left of the lease.
            NotSent: The hot objects may have changed since they were looked at.
        """
        self.heartbeat.require(self.delete_seconds)
        if self.clock.monotonic() - looked_at > self.delete_seconds:
            raise NotSent(store="hot", operation="delete", code="looked at too long ago")

    def _still_proven(self, releases: Sequence[Release], done: Released) -> list[Release]:
        """The releases whose cold copies are as good as today's settings demand.

        All but those just proven are looked at again; weaker ones than are demanded now, read.
        """
        here = [item for item in releases if self._is_acceptable(item, done)]
        old = [it.recorded.receipt.cold.key for it in here if not self._was_just_seen(it)]
        seen = self.stores.cold.stat_many(old) if old else {}
        still: list[Release] = []
        for item in here:
            receipt = item.recorded.receipt
            is_there = receipt.cold.key not in seen or is_as_recorded(
                receipt, seen[receipt.cold.key]
            )
            try:
                is_proven = is_there and self._is_proven_enough(receipt)
            except NoEgressLeft as error:
                done.refused.append((item, error))
                continue
            if is_proven:
                still.append(item)
            else:
                reason = f"the cold copy is gone or changed: {receipt.cold}"
                done.failures.append(ReleaseFailure(item, reason, is_permanent=True))
        return still

    def _is_acceptable(self, release: Release, done: Released) -> bool:
        """Whether the receipt can release, and its copy is in the store at hand."""
        receipt = release.recorded.receipt
        if receipt.evidence is Evidence.UNPROVEN:
            reason = "the receipt is unproven: the cold copy must be proven first"
        elif receipt.cold != self.stores.cold.location(receipt.cold.key):
            reason = (
                f"the cold copy is in another store than the one set now: {receipt.cold}; "
                "set that one again and retry, or keep the hot copy"
            )
        else:
            return True
        done.failures.append(ReleaseFailure(release, reason, is_permanent=True))
        return False

    def _is_proven_enough(self, receipt: Receipt) -> bool:
        """A demand raised since then holds for what is still pending."""
        if receipt.evidence >= self.stores.evidence:
            return True
        try:
            return self._readback(receipt) == receipt.digest
        except ObjectMissing:
            return False

    def _readback(self, receipt: Receipt) -> Digest:
        size_bytes = receipt.size_bytes
        with self.stores.egress.taken(str(receipt.cold), cold_bytes=size_bytes) as taken:
            taken.reads_cold(size_bytes)
            stat = ColdStat(receipt.cold.key, size_bytes, receipt.etag)
            return self.stores.streams.read_back(self.stores.cold, stat)

    def _was_just_seen(self, release: Release) -> bool:
        """Whether this very worker proved the copy a moment ago.

        Its clock is not the database's: one that differs only makes us look.
        """
        is_mine = release.recorded.receipt.token.worker == self.heartbeat.lease.worker
        return is_mine and abs(self.clock.now() - release.recorded.archived_at) < _FRESH

    def _still_the_same(
        self, releases: Sequence[Release], done: Released
    ) -> tuple[list[Release], float]:
        """The releases whose hot object is the one that was read; the others end here.

        And when they were looked at, on `Clock.monotonic()`.
        """
        if not releases:
            return [], 0.0
        locations = [item.recorded.receipt.location for item in releases]
        began_at = self.clock.monotonic()
        seen = self.stores.hot.identify(locations)
        if self.clock.monotonic() - began_at > self.delete_seconds:
            # A pause in the middle: the first were seen long before the last. Once more, and
            # once only, or a store that is always slow would be asked for ever.
            seen = self.stores.hot.identify(locations)
        looked_at = self.clock.monotonic()
        for bucket in {location.bucket for location, found in seen.items() if found is None}:
            self.stores.hot.probe(bucket)  # many stores say "not found" of a missing bucket too
        unchanged: list[Release] = []
        for item in releases:
            identity = seen[item.recorded.receipt.location]
            if identity is None:
                done.ends.append(ReleaseEnd(item, Outcome.RELEASED, "was gone already"))
            elif identity == item.recorded.receipt.identity:
                unchanged.append(item)
            else:
                done.ends.append(
                    ReleaseEnd(item, Outcome.REPLACED, "another object is there now")
                )
        return unchanged, looked_at


def _settle(
    release: Release, deleted: Deleted, done: Released, *, denial_is_of_object: bool
) -> None:
    """End one release as its delete was answered.

    A denial is a verdict about the object only beside one of its bucket that was deleted.
    Else it may be the credentials', and waits: parked, all would have to be retried by hand.
    """
    match deleted:
        case Deleted.DELETED:
            done.ends.append(ReleaseEnd(release, Outcome.RELEASED))
        case Deleted.ABSENT:
            done.ends.append(ReleaseEnd(release, Outcome.RELEASED, "was gone already"))
        case Deleted.CHANGED:
            done.ends.append(
                ReleaseEnd(release, Outcome.REPLACED, "another object is there now")
            )
        case Deleted.DENIED:
            reason = "the hot store refused the delete"
            if not denial_is_of_object:
                bucket = release.recorded.receipt.location.bucket
                reason += f", and any other in {bucket}: may these credentials delete?"
            done.failures.append(
                ReleaseFailure(release, reason, is_permanent=denial_is_of_object)
            )
