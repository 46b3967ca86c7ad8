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
from archiver.errors import CanaryFailed, PermanentError
from archiver.model import Deleted, Evidence, Outcome, ReleaseEnd, ReleaseFailure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from archiver.engine.lease import Heartbeat
    from archiver.engine.move import Stores
    from archiver.model import Release
    from archiver.protocols import Clock

_OLD_AT_LEAST = timedelta(hours=1)
_OLD_BEYOND_GRACE = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Released:
    """What became of a batch of claimed releases."""

    ends: list[ReleaseEnd] = field(default_factory=list)
    failures: list[ReleaseFailure] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Releaser:
    """What a release needs beside its receipts."""

    stores: Stores
    heartbeat: Heartbeat
    clock: Clock
    grace_seconds: float
    delete_seconds: float  # how long one delete call may take: it must fit in the lease

    def sing(self, releases: Sequence[Release]) -> None:
        """The canary: read the smallest archived object back, whole, before any delete.

        A store that we can write but not read must not cost a byte.

        Raises:
            CanaryFailed: It may not be read, is gone, or is not what its receipt says.
            TransientError: Nothing is known: ask again.
        """
        receipt = min((item.recorded.receipt for item in releases), key=lambda r: r.size_bytes)
        try:
            seen = self.stores.cold.readback(receipt.cold.key)
        except PermanentError as error:
            raise CanaryFailed(where=str(receipt.cold), message=str(error)) from error
        if seen != receipt.digest:
            message = f"its SHA-256 is {seen}, the receipt says {receipt.digest}"
            raise CanaryFailed(where=str(receipt.cold), message=message)

    def release(self, releases: Sequence[Release]) -> Released:
        """Delete the hot copies of claimed releases, where they still are what was read.

        Safe to repeat after a crash at any line: an absent object counts as released.

        Raises:
            LeaseLost: Too little of the lease is left; nothing was deleted.
            TransientError, FatalError: A store could not be asked; what was deleted is
                found absent the next time.
        """
        done = Released()
        proven = self._still_proven(releases, done)
        for item in proven:
            receipt = item.recorded.receipt
            self.stores.require_two_places(receipt.location, receipt.cold.key)
        unchanged = self._still_the_same(proven, done)
        if not unchanged:
            return done
        self.heartbeat.require(self.delete_seconds)
        answers = self.stores.hot.delete(
            [
                (item.recorded.receipt.location, identity)
                for item in unchanged
                if (identity := item.recorded.receipt.identity) is not None
            ]
        )
        for item in unchanged:
            _settle(item, answers[item.recorded.receipt.location], done)
        return done

    def _still_proven(self, releases: Sequence[Release], done: Released) -> list[Release]:
        """Look again at the cold copies of old receipts; the fresh ones were just seen."""
        proven: list[Release] = []
        for item in releases:
            if item.recorded.receipt.evidence is Evidence.UNPROVEN:
                reason = "the receipt is unproven: the cold copy must be proven first"
                done.failures.append(ReleaseFailure(item, reason, is_permanent=True))
            else:
                proven.append(item)
        old = [item.recorded.receipt.cold.key for item in proven if self._is_old(item)]
        if not old:
            return proven
        seen = self.stores.cold.stat_many(old)
        still: list[Release] = []
        for item in proven:
            receipt = item.recorded.receipt
            if receipt.cold.key in seen and not is_as_recorded(receipt, seen[receipt.cold.key]):
                reason = f"the cold copy is gone or changed: {receipt.cold}"
                done.failures.append(ReleaseFailure(item, reason, is_permanent=True))
            else:
                still.append(item)
        return still

    def _is_old(self, release: Release) -> bool:
        grace = timedelta(seconds=self.grace_seconds)
        age = self.clock.now() - release.recorded.archived_at
        return age > max(_OLD_AT_LEAST, grace + _OLD_BEYOND_GRACE)

    def _still_the_same(self, releases: Sequence[Release], done: Released) -> list[Release]:
        """The releases whose hot object is the one that was read; the others end here."""
        if not releases:
            return []
        seen = self.stores.hot.identify([item.recorded.receipt.location for item in releases])
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
        return unchanged


def _settle(release: Release, deleted: Deleted, done: Released) -> None:
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
            done.failures.append(
                ReleaseFailure(release, "the hot store refused the delete", is_permanent=True)
            )
