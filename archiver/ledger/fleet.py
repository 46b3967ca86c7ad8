"""Who works here: leases by the database's clock, deadlines by the worker's own."""

from __future__ import annotations

import os
import socket
from datetime import UTC
from typing import TYPE_CHECKING

from psycopg.types.json import Jsonb

import archiver
from archiver.errors import ForeignDatabase, LeaseLost
from archiver.ledger.database import fetch
from archiver.ledger.queries import load
from archiver.ledger.stamps import overrule
from archiver.model import (
    Capabilities,
    DatabaseHome,
    Lease,
    LedgerIdentity,
    Pause,
    SourceName,
    Summary,
    SweepId,
    SweepRecord,
    WorkerId,
    WorkerStatus,
    pause_of,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from archiver.ledger.database import Connection, Database, Row
    from archiver.model import FoundStamp
    from archiver.protocols import Clock

_SQL = load("fleet.sql")
_PROBE_DAYS = 7
_DEAD_WORKER_DAYS = 7
_IDLE_SWEEP_DAYS = 2  # how long sweeps that did nothing are kept: one a minute adds up
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
            self._ledger_id = self.identity().ledger_id
        return self._ledger_id

    def identity(self) -> LedgerIdentity:
        with self._database.transaction("identity") as tx:
            return _identity(tx)

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
            identity = _identity(tx)
            if not identity.is_at_home:
                told = {"found": str(identity.found_in), "expected": str(identity.home)}
                raise ForeignDatabase(**told)
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
        worker = WorkerId(row["worker_id"])
        self._joined = self._leased(worker, row["epoch"], asked_at, row["pauses"])
        return self._joined

    def beat(self, *, idle_seconds: float = 0.0) -> Lease:
        worker, asked_at = self.worker, self._clock.monotonic()
        patience = self._lease_seconds * _BEAT_PATIENCE
        with self._database.transaction("beat", timeout_seconds=patience) as tx:
            beaten = fetch(
                tx,
                _SQL["beat"],
                {
                    "worker_id": worker,
                    "lease_seconds": self._lease_seconds,
                    "idle_seconds": idle_seconds,
                },
            )
        if not beaten:
            raise LeaseLost(worker=worker)
        return self._leased(worker, self.epoch, asked_at, beaten[0]["pauses"])

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
                    "etag_is_md5": capabilities.etag_is_md5,
                    "enforces_signed_parts": capabilities.enforces_signed_parts,
                    "keeps_refused_parts": capabilities.keeps_refused_parts,
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
                progressed_at=row["progressed_at"].astimezone(UTC),
                is_alive=row["is_alive"],
                claims_count=row["claims_count"],
                moving=row["moving"] or {},
            )
            for row in rows
        ]

    # --- who is at home ----------------------------------------------------------------------

    def take_over(self, found: Sequence[FoundStamp]) -> int:
        highest = max((it.epoch for it in found), default=0)
        with self._database.transaction("take_over") as tx:
            (row,) = fetch(tx, _SQL["take_over"], {"epoch": highest})
            for it in found:
                overrule(tx, it, row["epoch"])
        return int(row["epoch"])

    def fenced_lease_seconds(self) -> float:
        with self._database.transaction("fenced_lease") as tx:
            (row,) = fetch(tx, _SQL["find_fenced_lease"], {})
        return float(row["seconds"])

    # --- what is asked of all ----------------------------------------------------------------

    def pause(self, what: Pause) -> None:
        with self._database.transaction("pause") as tx:
            tx.execute(_SQL["resume"])
            if what is not Pause.NOTHING:
                tx.execute(_SQL["pause"], {"what": what.value})

    def paused(self) -> Pause:
        with self._database.transaction("paused") as tx:
            (row,) = fetch(tx, _SQL["find_pauses"], {})
        return pause_of(row["pauses"])

    # --- sweeps ------------------------------------------------------------------------------

    def sweep_began(self, source: SourceName) -> SweepId:
        with self._database.transaction("sweep_began") as tx:
            asked = {"source": source, "worker_id": self.worker}
            (row,) = fetch(tx, _SQL["begin_sweep"], asked)
            tx.execute(_SQL["forget_sweeps"], {"idle_days": _IDLE_SWEEP_DAYS})
        return SweepId(row["sweep_id"])

    def sweep_ended(self, sweep: SweepId, summary: Summary) -> None:
        with self._database.transaction("sweep_ended") as tx:
            ended = {"sweep_id": sweep, "summary": Jsonb(summary.to_json())}
            tx.execute(_SQL["end_sweep"], ended)

    def sweeps(self, source: SourceName | None, limit: int) -> Sequence[SweepRecord]:
        with self._database.transaction("sweeps") as tx:
            rows = fetch(tx, _SQL["list_sweeps"], {"source": source, "limit": limit})
        return [_sweep_from(row) for row in rows]

    def sweep(self, sweep: SweepId) -> SweepRecord | None:
        with self._database.transaction("sweep") as tx:
            found = fetch(tx, _SQL["find_sweep"], {"sweep_id": sweep})
        return _sweep_from(found[0]) if found else None

    @property
    def _lease(self) -> Lease:
        if self._joined is None:
            message = "a worker joins the fleet before it claims"
            raise RuntimeError(message)
        return self._joined

    def _leased(
        self, worker: WorkerId, epoch: int, asked_at: float, pauses: Sequence[str] | None
    ) -> Lease:
        # From before the statement was sent: the row's lease began later than that.
        deadline = asked_at + self._lease_seconds
        return Lease(worker, epoch, deadline, self._lease_seconds, pause_of(pauses))


def _identity(tx: Connection) -> LedgerIdentity:
    (row,) = fetch(tx, _SQL["find_fleet"], {})
    return LedgerIdentity(
        ledger_id=row["ledger_id"],
        epoch=row["epoch"],
        home=DatabaseHome(row["home_name"], row["home_system"]),
        found_in=DatabaseHome(row["found_name"], row["found_system"]),
    )


def _sweep_from(row: Row) -> SweepRecord:
    return SweepRecord(
        sweep_id=SweepId(row["sweep_id"]),
        source=SourceName(row["source"]),
        worker=WorkerId(row["worker_id"]),
        started_at=row["started_at"].astimezone(UTC),
        ended_at=None if row["ended_at"] is None else row["ended_at"].astimezone(UTC),
        summary=None if row["summary"] is None else Summary.from_json(row["summary"]),
    )
