"""The worker's own view of its lease: past its deadline it starts and completes nothing."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from archiver.errors import FatalError, LeaseLost, LedgerUnavailable

if TYPE_CHECKING:
    from archiver.model import Lease
    from archiver.protocols import Clock, Leases

BEATS_PER_LEASE = 4  # three may be missed


class Heartbeat:
    """Keeps one worker's lease. `beat` is called by a thread of the pool, the rest by any."""

    def __init__(self, fleet: Leases, clock: Clock) -> None:
        self._fleet = fleet
        self._clock = clock
        self._lock = threading.Lock()  # guards the lease and whether it is lost
        self._lease = fleet.join()
        self._is_lost = False
        self._progressed_at = clock.monotonic()  # one reference: read and written as it is

    @property
    def interval_seconds(self) -> float:
        return self._lease.lease_seconds / BEATS_PER_LEASE

    @property
    def lease(self) -> Lease:
        return self._lease

    def progressed(self) -> None:
        """Something came home. Each beat tells the ledger how long ago that was."""
        self._progressed_at = self._clock.monotonic()

    @property
    def idle_seconds(self) -> float:
        """Since something last came home."""
        return self._clock.monotonic() - self._progressed_at

    @property
    def has_lease(self) -> bool:
        try:
            self.require()
        except LeaseLost:
            return False
        return True

    def beat(self) -> None:
        """Extend the lease; a database that does not answer only lets it run on.

        One that refuses us ends it: whatever is under way must not be completed.
        """
        try:
            lease = self._fleet.beat(idle_seconds=self.idle_seconds)
        except LedgerUnavailable:
            return
        except FatalError:
            with self._lock:
                self._is_lost = True
            return
        except BaseException:
            with self._lock:
                self._is_lost = True  # a bug ends this thread; it must not end unseen
            raise
        with self._lock:
            self._lease = lease

    def require(self, seconds: float = 0.0) -> None:
        """Prove that the lease lasts for so long from now.

        Raises:
            LeaseLost: It does not: whatever was to be done must not be begun.
        """
        with self._lock:
            left = self._lease.deadline_seconds - self._clock.monotonic()
            if self._is_lost or left <= seconds:
                raise LeaseLost(worker=self._lease.worker)
