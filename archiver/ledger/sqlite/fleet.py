"""Who works on this machine: leases by its boot clock, of processes that live.

The boot clock is one for all processes, and no setting of the time moves it. A lease also
ends with its process: each holds a lock on a file of its own, which the kernel drops. So who
comes after a `kill -9`, or after the machine was started anew, waits for no lease to run out.
"""

from __future__ import annotations

import os
import socket
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from uuid import uuid4

import archiver
from archiver.errors import LeaseLost
from archiver.ledger.sqlite.file import fetch
from archiver.ledger.sqlite.locks import LifeSign, is_alive
from archiver.ledger.sqlite.queries import load
from archiver.model import FencingToken, Lease, WorkerId

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection

    from archiver.ledger.sqlite.file import LedgerFile
    from archiver.protocols import Clock

_SQL = load("fleet.sql")
_LIFE_SIGNS = "workers"  # the directory they lie in, beside the file


class SqliteFleet:
    """The rows `fleet` and `worker`, and which worker this process is.

    Implements `protocols.Leases`. Nothing in here raises the epoch: a file has one home.
    """

    def __init__(self, file: LedgerFile, clock: Clock, *, lease_seconds: float) -> None:
        self._file = file
        self._clock = clock
        self._lease_seconds = lease_seconds
        self._signs = file.path.parent / _LIFE_SIGNS
        self._joined: tuple[Lease, LifeSign] | None = None  # set before any thread works

    @property
    def ledger_id(self) -> str:
        with self._file.snapshot("ledger_id") as tx:
            (row,) = fetch(tx, _SQL["find_fleet"], {})
        return str(row["ledger_id"])

    @property
    def worker(self) -> WorkerId:
        """This process, once it has joined."""
        return self._lease.worker

    def join(self) -> Lease:
        asked_at, sign, name = self._clock.monotonic(), None, uuid4().hex
        try:
            with self._file.transaction("join") as tx:
                self._signs.mkdir(mode=0o700, exist_ok=True)
                self._bury_the_dead(tx)
                self._drop_nobodys_signs()
                sign = LifeSign(self._signs / name)
                registered = tx.execute(_SQL["join"], self._registration(name))
                (row,) = fetch(tx, _SQL["find_fleet"], {})
        except BaseException:
            if sign is not None:
                sign.end()
            raise
        self.end_life_sign()  # of an earlier worker that this process was
        worker = WorkerId(registered.lastrowid or 0)
        deadline = asked_at + self._lease_seconds
        lease = Lease(worker, row["epoch"], deadline, self._lease_seconds)
        self._joined = lease, sign
        return lease

    def beat(self, *, idle_seconds: float = 0.0) -> Lease:
        lease, asked_at = self._lease, self._clock.monotonic()
        with self._file.transaction("beat") as tx:
            now = self._clock.monotonic()
            progressed_at = self._clock.now() - timedelta(seconds=idle_seconds)
            told = {
                "worker_id": lease.worker,
                "now": now,
                "lease_until": now + self._lease_seconds,
                "progressed_at": text_of(progressed_at),
            }
            if not tx.execute(_SQL["beat"], told).rowcount:
                raise LeaseLost(worker=lease.worker)
        deadline = asked_at + self._lease_seconds
        return Lease(lease.worker, lease.epoch, deadline, self._lease_seconds)

    def leave(self) -> None:
        with self._file.transaction("leave") as tx:
            tx.execute(_SQL["forget_worker"], {"worker_id": self.worker})
        self.end_life_sign()

    def live(self) -> Collection[WorkerId]:
        """Whose leases run, for a person who asks."""
        with self._file.transaction("live") as tx:
            return {WorkerId(number) for number in self.live_workers(tx)}

    def end_life_sign(self) -> None:
        """As if this process had ended, for those who ask whether it lives."""
        if self._joined is not None:
            self._joined[1].end()

    # --- for what is written under a lease ---------------------------------------------------

    def has_lease(self, tx: sqlite3.Connection) -> bool:
        asked = {"worker_id": self.worker, "now": self._clock.monotonic()}
        return bool(fetch(tx, _SQL["find_lease"], asked))

    def require_lease(self, tx: sqlite3.Connection) -> None:
        """Prove in this transaction that this worker's lease runs.

        Raises:
            LeaseLost: It ran out, or the epoch was raised.
        """
        if not self.has_lease(tx):
            raise LeaseLost(worker=self.worker)

    def live_workers(self, tx: sqlite3.Connection) -> Collection[int]:
        """Whose leases run; the dead are found and forgotten on the way."""
        self._bury_the_dead(tx)
        rows = fetch(tx, _SQL["find_live"], {"now": self._clock.monotonic()})
        return {row["worker_id"] for row in rows}

    def new_token(self, tx: sqlite3.Connection) -> FencingToken:
        tx.execute(_SQL["raise_number"])
        (row,) = fetch(tx, _SQL["find_number"], {})
        return FencingToken(self._lease.epoch, self.worker, row["fencing_number"])

    @property
    def _lease(self) -> Lease:
        if self._joined is None:
            message = "a worker joins the fleet before it claims"
            raise RuntimeError(message)
        return self._joined[0]

    def _registration(self, lock_name: str) -> dict[str, object]:
        return {
            "lease_until": self._clock.monotonic() + self._lease_seconds,
            "at": text_of(self._clock.now()),
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "version": archiver.__version__,
            "lock_name": lock_name,
        }

    def _bury_the_dead(self, tx: sqlite3.Connection) -> None:
        """Within the transaction, so that no two ask at once: who asks holds the lock."""
        own = None if self._joined is None else self.worker
        for row in fetch(tx, _SQL["find_others"], {"worker_id": own}):
            sign = self._signs / row["lock_name"]
            if not is_alive(sign):
                tx.execute(_SQL["forget_worker"], {"worker_id": row["worker_id"]})
                sign.unlink(missing_ok=True)

    def _drop_nobodys_signs(self) -> None:
        """Of processes that died while they joined. Within a transaction, as above."""
        for sign in self._signs.iterdir():
            if not is_alive(sign):
                sign.unlink(missing_ok=True)


def text_of(moment: datetime) -> str:
    """As the file keeps it: the order of texts is that of times."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")
