"""Puts between a program and a fake store, with a ledger that several processes share."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Self

from archiver.engine.pool import ThreadCrew
from archiver.engine.streams import Streams
from archiver.ledger.settings import LedgerSettings
from archiver.model import ColdKey, Secret
from archiver.objects.chunked import ChunkedPuts
from tests.fakes.clock import ManualClock
from tests.fakes.ledger import FakeLedger
from tests.fakes.stores import FakeColdStore

if TYPE_CHECKING:
    from collections.abc import Iterator

    from archiver.events import Event
    from archiver.objects.putting import PutStatus

KEY = "uploads/film.bin"
PART = 10
BODY = bytes(range(35))  # three parts and a half
EXPIRY_SECONDS = 100.0
WAIT_SECONDS = 30.0  # a bound for what comes at once, or never


class Bench:
    """Processes that put objects; the first is there. Leases last: time is for what expires."""

    def __init__(self, *, cold: FakeColdStore | None = None) -> None:
        self.clock = ManualClock()
        self.cold = FakeColdStore() if cold is None else cold
        self.events: list[Event] = []
        settings = LedgerSettings(
            url=Secret(""), lease_seconds=1e6, upload_expiry_seconds=EXPIRY_SECONDS
        )
        self.ledger = FakeLedger(self.clock, settings=settings)
        self.streams = Streams(crew=ThreadCrew(width=8), part_bytes=PART)
        self._open = ExitStack()
        self.puts = self.process(self.ledger)

    def process(self, ledger: FakeLedger | None = None, **settings: Any) -> ChunkedPuts:
        """One more, on the same machine or another: what they share is the ledger."""
        puts = ChunkedPuts(
            self.cold,
            ledger or self.ledger.another(),
            clock=self.clock,
            observe=self.events.append,
            streams=self.streams,
            **settings,
        )
        return self._open.enter_context(puts)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()
        self.streams.crew.close()
        self.cold.faults.verify_all_fired()

    def peek(self, key: str = KEY) -> bytes | None:
        return self.cold.peek(ColdKey(key))

    @property
    def parts_sent(self) -> int:
        return self.cold.faults.calls["put_part"]

    def assert_nothing_left(self) -> None:
        assert self.cold.multipart.uploads == []
        assert list(self.ledger.uploads.uploads()) == []
        assert self.streams.budget.try_take(128 << 20)
        self.streams.budget.give_back(128 << 20)


class Gate:
    """A body that stands still before its n-th piece, until it is opened."""

    def __init__(self, pieces: list[bytes], before: int) -> None:
        self._pieces = pieces
        self._before = before
        self.reached = threading.Event()
        self.opened = threading.Event()
        self.given_count = 0

    def __iter__(self) -> Iterator[bytes]:
        for number, piece in enumerate(self._pieces):
            if number == self._before:
                self.reached.set()
                assert self.opened.wait(WAIT_SECONDS)
            self.given_count += 1
            yield piece


def cut(body: bytes, piece_bytes: int) -> list[bytes]:
    return [body[at : at + piece_bytes] for at in range(0, len(body), piece_bytes)]


def codes(statuses: list[PutStatus]) -> list[str]:
    return [status.code for status in statuses]
