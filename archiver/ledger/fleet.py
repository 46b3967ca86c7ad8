"""Who works here: leases by the database's clock, deadlines by the worker's own."""

from __future__ import annotations

import os
import socket
from datetime import UTC
from typing import TYPE_CHECKING

import archiver
from archiver.errors import LeaseLost
from archiver.ledger.database import fetch
from archiver.ledger.queries import load
from archiver.model import Capabilities, Lease, WorkerId, WorkerStatus

if TYPE_CHECKING:
    from collections.abc import Sequence

    from archiver.ledger.database import Connection, Database
    from archiver.protocols import Clock

_SQL = load("fleet.sql")
_PROBE_DAYS = 7
_DEAD_WORKER_DAYS = 7
_BEAT_PATIENCE = 0.25  # of a lease: a beat that takes longer is better sent anew


class PostgresFleet:
    """The rows `fleet`, `worker` and `probe`; and which worker this process is."""

    def __init__(self, database: Database, clock: Clock, *, lease_seconds: float) -> None:
        self._database = database
        self._clock = clock
        self._lease_seconds = lease_seconds
        self._ledger_id: str | None = None  # never changes, so it is read once
        self._joined: Lease | None = None  # set once by `join`, before any thread claims

    @property
    def ledger_id(self) -> str:
        if self._ledger_id is None:
            with self._database.transaction("ledger_id") as tx:
                (row,) = fetch(tx, _SQL["find_fleet"], {})
            self._ledger_id = str(row["ledger_id"])
        return self._ledger_id

    @property
    def worker(self) -> WorkerId:
        """This process, once it has joined."""
        return self._lease.worker

    @property
    def epoch(self) -> int:
        return self._lease.epoch

    def join(self) -> Lease:
        asked_at = self._clock.monotonic()
        with self._database.transaction("join") as tx:
            fetched = fetch(
                tx,
                _SQL["join"],
                {
                    "lease_seconds": self._lease_seconds,
                    "host": socket.gethostname(),
                    "pid": os.getpid(),
                    "version": archiver.__version__,
                },
            )
            tx.execute(_SQL["forget_workers"], {"days": _DEAD_WORKER_DAYS})
        (row,) = fetched
        self._joined = self._leased(WorkerId(row["worker_id"]), row["epoch"], asked_at)
        return self._joined

    def beat(self) -> Lease:
        worker, asked_at = self.worker, self._clock.monotonic()
        patience = self._lease_seconds * _BEAT_PATIENCE
        with self._database.transaction("beat", timeout_seconds=patience) as tx:
            beaten = fetch(
                tx, _SQL["beat"], {"worker_id": worker, "lease_seconds": self._lease_seconds}
            )
        if not beaten:
            raise LeaseLost(worker=worker)
        return self._leased(worker, self.epoch, asked_at)

    def leave(self) -> None:
        with self._database.transaction("leave") as tx:
            tx.execute(_SQL["leave"], {"worker_id": self.worker})

    def require_lease(self, tx: Connection) -> None:
        """Prove in this transaction that this worker's lease runs.

        Raises:
            LeaseLost: It ran out, or the epoch was raised.
        """
        if not fetch(tx, _SQL["find_lease"], {"worker_id": self.worker}):
            raise LeaseLost(worker=self.worker)

    def remember(self, probe: str, capabilities: Capabilities) -> None:
        with self._database.transaction("remember") as tx:
            tx.execute(
                _SQL["remember_probe"],
                {
                    "name": probe,
                    "enforces_signed_digest": capabilities.enforces_signed_digest,
                    "enforces_create": capabilities.enforces_create,
                    "returns_digest": capabilities.returns_digest,
                },
            )

    def recall(self, probe: str) -> Capabilities | None:
        with self._database.transaction("recall") as tx:
            found = fetch(tx, _SQL["recall_probe"], {"name": probe, "days": _PROBE_DAYS})
        return Capabilities(**found[0]) if found else None

    def workers(self) -> Sequence[WorkerStatus]:
        with self._database.transaction("workers") as tx:
            rows = fetch(tx, _SQL["list_workers"], {})
        return [
            WorkerStatus(
                worker=WorkerId(row["worker_id"]),
                host=row["host"],
                pid=row["pid"],
                version=row["version"],
                started_at=row["started_at"].astimezone(UTC),
                lease_until=row["lease_until"].astimezone(UTC),
                is_alive=row["is_alive"],
                claims_count=row["claims_count"],
            )
            for row in rows
        ]

    @property
    def _lease(self) -> Lease:
        if self._joined is None:
            message = "a worker joins the fleet before it claims"
            raise RuntimeError(message)
        return self._joined

    def _leased(self, worker: WorkerId, epoch: int, asked_at: float) -> Lease:
        # From before the statement was sent: the row's lease began later than that.
        return Lease(worker, epoch, asked_at + self._lease_seconds, self._lease_seconds)
