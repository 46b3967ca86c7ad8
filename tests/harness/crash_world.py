"""A world whose rows and ledger are in Postgres: stopped anywhere, put back, and judged.

The engine runs one piece of work at a time under a manual clock, which the database follows:
what is slept passes for leases, grace and waits, too. Hot and cold are in memory.
"""

from __future__ import annotations

import itertools
import random
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import psycopg
import pytest

from archiver.engine.streams import Streams
from archiver.engine.sweep import Sweep
from archiver.ledger.postgres import LedgerSettings, PostgresLedger
from archiver.model import (
    Digest,
    EgressBudget,
    Evidence,
    HotLocation,
    Secret,
)
from tests.fakes.faults import unavailable
from tests.fakes.pool import InlineCrew
from tests.fakes.stores import FakeColdStore, FakeHotStore
from tests.harness.copies import Copies, Rows, rows_of
from tests.harness.tap import Tap
from tests.unit.engine.world import LEASE_SECONDS, BeatingClock, Script, Version, Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import TypeVar

    from archiver.model import ColdKey, Summary
    from tests.fakes.ledger import FakeLedger
    from tests.harness.crash_sources import Rowed
    from tests.harness.postgres import Databases
    from tests.unit.engine.world import World

    MakeCrashWorld = Callable[..., "CrashWorld"]
    T = TypeVar("T")

SMALL = {  # so that every loop of the engine turns more than once
    "batch_size": 4,
    "concurrency": 2,
    "verify_group": 2,
    "record_group": 3,
    "release_group": 4,
    "release_slice": 2,
}
PATIENCE_SECONDS = 60.0
BUDGET = EgressBudget(limit_bytes=20_000, window_seconds=86_400.0)
_STEP_SECONDS = 0.25
# Far longer than a sweep really takes: only time that is slept makes a retry due, so that every
# run of a sweep makes the same calls.
_RETRY_SECONDS = 10.0
_TOO_LARGE_BYTES = 30_000  # for the budget: its claim is given back in every sweep
_IN_FLIGHT_BYTES = 128  # one body: what was sent where no answer came is not known
_PASS_TIME = """
update archiver.worker set lease_until = lease_until - make_interval(secs => %(seconds)s);
update archiver.claim
set next_attempt_at = next_attempt_at - make_interval(secs => %(seconds)s)
where next_attempt_at is not null;
update archiver.release set due_at = due_at - make_interval(secs => %(seconds)s);
"""


class FollowedClock(BeatingClock):
    """A manual clock; `follow` is told of every second that passes."""

    def __init__(self, follow: Callable[[float], object]) -> None:
        super().__init__()
        self._follow = follow

    def sleep(self, seconds: float) -> None:
        """Whole steps: what little a test really takes decides nothing."""
        super().sleep(max(seconds, _STEP_SECONDS))

    def advance(self, seconds: float) -> None:
        super().advance(seconds)
        if seconds > 0:
            self._follow(seconds)


@dataclass(frozen=True)
class State:
    """All that outlives a process."""

    rows: Rows
    hot: Mapping[HotLocation, Any]
    cold: Mapping[ColdKey, Any]
    served_bytes: int = field(compare=False)


@dataclass
class CrashWorld:
    """Rows of one source. `tap` is installed before its ledgers are opened."""

    url: str
    rowed: Rowed
    tap: Tap
    seed: int = 0
    evidence: Evidence = Evidence.SIGNED
    grace_seconds: float = 0.0
    budget: EgressBudget | None = BUDGET
    cold_counts: bool = True  # this and the next: a `Worker` asks
    shared_bucket: str | None = None
    parked_ids: set[str] = field(default_factory=set)
    never_moved_ids: set[str] = field(default_factory=set)
    taken_keys: set[ColdKey] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._closing = ExitStack()
        connect = psycopg.Connection.connect  # past the tap
        self.db = self._closing.enter_context(connect(self.url, autocommit=True))
        self.clock = FollowedClock(self._pass_time)
        self.rows = self.rowed.source(self.url)
        self.hot = FakeHotStore(self.rowed.bucket)
        self.cold = FakeColdStore()
        self.copies = Copies(self.db)
        self.streams = Streams(crew=InlineCrew())
        self._versions: dict[HotLocation, Version] = {}
        self._lost: set[HotLocation] = set()
        self._open: list[PostgresLedger] = []

    def close(self) -> None:
        self.bury()
        self._closing.close()

    # --- the application ---------------------------------------------------------------------

    def plant(self, group: str, *ids: str, content: bytes | None = None) -> None:
        for id_ in ids:
            location, body = self.rowed.plant(self.db, id_, content or id_.encode(), group)
            self._put(id_, location, body)

    def plant_parked(self, group: str, spoilt: str, unreadable: str) -> None:
        """Rows that no sweep can move: one whose object is wrong, one without a pointer."""
        location, body = self.rowed.plant_spoilt(self.db, spoilt, group)
        if body is None:
            self._lost.add(location)
        else:
            self._put(spoilt, location, body)
        self.rowed.plant_unreadable(self.db, unreadable, group)
        self.parked_ids |= {spoilt, unreadable}

    def plant_too_large(self, group: str, id_: str) -> None:
        content = random.Random(0).randbytes(_TOO_LARGE_BYTES)  # noqa: S311  # no secret
        self.plant(group, id_, content=content)
        self.never_moved_ids.add(id_)

    def take_key(self, id_: str, group: str) -> None:
        """Other bytes lie under its key already."""
        key = self.rowed.cold_key(id_, group)
        self.cold.create(key, b"older", metadata={}, content_type=None, content_encoding=None)
        self.taken_keys.add(key)

    def restore_row(self, id_: str) -> None:
        """The row is back from a backup, the hot object is not."""
        self.rowed.point_hot(self.db, id_)
        location = self._location(id_)
        self._lost.add(location)
        self.hot.remove(location)

    def _put(self, id_: str, location: HotLocation, body: bytes) -> None:
        self.hot.plant(location, body)
        self._versions[location] = Version(id_, location, body)

    def _location(self, id_: str) -> HotLocation:
        (location,) = (it.location for it in self._versions.values() if it.id == id_)
        return location

    # --- workers -----------------------------------------------------------------------------

    def ledger(self) -> PostgresLedger:
        """As a new process opens it."""
        settings = LedgerSettings(
            url=Secret(self.url),
            lease_seconds=LEASE_SECONDS,
            retry_base_seconds=_RETRY_SECONDS,
            release_grace_seconds=self.grace_seconds,
            max_connections=2,
        )
        jitter = itertools.cycle((0.0, 0.9))  # no two retries fall due together
        ledger = PostgresLedger(settings, self.clock, random=partial(next, jitter))
        ledger.open()
        self._open.append(ledger)
        return ledger

    @property
    def newest_ledger(self) -> PostgresLedger:
        """Of the worker that joined last."""
        return self._open[-1]

    def worker(self, script: Script | None = None) -> Worker:
        """A process that joins under that script, and keeps it."""
        self.tap.script = script
        worker = Worker(cast("World", self), cast("FakeLedger", self.ledger()), seed=self.seed)
        self.tap.script = None
        worker.script = script or Script()
        return worker

    def sweep(self, worker: Worker, *, release: bool = True) -> Summary:
        """One sweep that only looks at what was touched."""
        self.tap.script = _OfNow(worker)
        plan = {"retry_wait_seconds": PATIENCE_SECONDS, "release": release, **SMALL}
        try:
            return Sweep(worker.run(**plan), worker.workshop)(everything=False)
        finally:
            self.tap.script = None

    def bury(self) -> None:
        """No process of before has a connection any more."""
        self.tap.script = None
        while self._open:
            self._open.pop().close()

    def outlive_leases(self) -> None:
        self.clock.stepped()
        self.clock.advance(LEASE_SECONDS + 1)

    def finish(self) -> Summary:
        """Whoever comes next, after every lease has run out."""
        self.bury()
        self.outlive_leases()
        worker = self.worker()
        summary = self.sweep(worker)
        worker.leave()
        self.bury()
        return summary

    def _pass_time(self, seconds: float) -> None:
        with psycopg.ClientCursor(self.db) as cursor:
            cursor.execute(_PASS_TIME, {"seconds": seconds})

    # --- its states --------------------------------------------------------------------------

    def state(self) -> State:
        return State(
            self.copies.save(),
            dict(self.hot._objects),
            dict(self.cold._objects),
            self.hot.served_bytes + self.cold.served_bytes,
        )

    def put_back(self, state: State) -> None:
        """As it was then; nobody is connected, no fault is declared."""
        self.bury()
        self.copies.put_back(state.rows)
        self.hot, self.cold = FakeHotStore(self.rowed.bucket), FakeColdStore()
        self.hot._objects.update(state.hot)
        self.cold._objects.update(state.cold)
        self.hot.served_bytes = state.served_bytes

    def declare_trouble(self, unread: str, unseen: str) -> None:
        """One object is not read the first time, one that is to be let go of not looked at."""
        once = unavailable("hot", "open")
        self.hot.faults.on("open", self._location(unread), raise_=once)
        again = unavailable("hot", "identify")
        self.hot.faults.on("identify", self._location(unseen), raise_=again)

    # --- what is -----------------------------------------------------------------------------

    def troubles(self) -> list[str]:
        """What breaks the promises; empty in every world that is well."""
        return self._troubles(self.copies.save())

    def _troubles(self, saved: Rows) -> list[str]:
        receipts = self._receipts(saved)
        return [
            *(
                f"unreachable: {it}"
                for it in self._versions.values()
                if not self._is_safe(it, receipts)
            ),
            *self._dangling(saved, receipts),
            *self._doubled(saved, receipts),
            *self.rowed.amiss(saved),
        ]

    def leftovers(self) -> list[str]:
        """All that must not be there once everything is done."""
        saved = self.copies.save()
        receipts = self._receipts(saved)
        found = self._troubles(saved) + self.rowed.left_undone(saved)
        hot = {id_ for id_, (at, _) in self.rowed.pointers(saved).items() if at is not None}
        still = self.parked_ids | self.never_moved_ids
        found += [f"still pending: {id_}" for id_ in hot - still]
        kept = {self._location(id_) for id_ in still if self._has_object(id_)}
        found += [f"still hot: {at}" for at in set(self.hot.objects) - kept]
        waiting = {(id_, "waiting") for id_ in self.never_moved_ids}  # for a larger budget
        claims = {(row["id"], row["state"]) for row in rows_of(saved, "archiver.claim")}
        states = dict(claims - waiting)
        if states != dict.fromkeys(self.parked_ids, "parked"):
            found.append(f"claims {states}")
        known = {it["cold_key"] for it in receipts}
        orphans = set(self.cold.objects) - known - self.taken_keys
        found += [f"an orphan in cold: {key}" for key in orphans if not is_our_own(key)]
        found += [f"a release: {row}" for row in rows_of(saved, "archiver.release")]
        found += [
            f"a lease is held: {row}"
            for row in rows_of(saved, "archiver.worker")
            if row["left_at"] is None and row["worker_id"] == self._newest_worker(saved)
        ]
        return found + self._uncounted(saved)

    def _has_object(self, id_: str) -> bool:
        return any(it.id == id_ for it in self._versions.values())

    def _newest_worker(self, saved: Rows) -> int:
        return max(int(row["worker_id"]) for row in rows_of(saved, "archiver.worker"))

    def _uncounted(self, saved: Rows) -> list[str]:
        served = self.hot.served_bytes + self.cold.served_bytes
        spent = sum(row["bytes"] for row in rows_of(saved, "archiver.spend"))
        if self.budget is None or spent >= served - _IN_FLIGHT_BYTES:
            return []
        return [f"{served} bytes were read, {spent} counted"]

    def _receipts(self, saved: Rows) -> list[dict[str, Any]]:
        """As the view `archiver.archived` tells them."""
        places = {row["place_id"]: row for row in rows_of(saved, "archiver.place")}
        undone = {
            row["receipt_id"]
            for row in rows_of(saved, "archiver.outcome")
            if row["outcome"] == "undone"
        }
        return [
            {
                "id": row["id"],
                "cold_key": places[row["place_id"]]["prefix"] + row["cold_key"],
                "digest": row["digest"].removeprefix("\\x"),
                "is_proven": row["evidence"] > 0,
                "is_recovered": row["hot_etag"] is None and row["hot_version"] is None,
                "is_undone": row["receipt_id"] in undone,
            }
            for row in rows_of(saved, "archiver.receipt")
        ]

    def _is_safe(self, version: Version, receipts: list[dict[str, Any]]) -> bool:
        if self.hot.peek(version.location) == version.body:
            return True
        return any(
            it["id"] == version.id
            and it["is_proven"]
            and it["digest"] == str(Digest.of(version.body))
            and self.cold.peek(it["cold_key"]) == version.body
            for it in receipts
        )

    def _dangling(self, saved: Rows, receipts: list[dict[str, Any]]) -> Iterator[str]:
        bodies = {it.id: it.body for it in self._versions.values()}
        keys = {(it["id"], it["cold_key"]) for it in receipts}
        for id_, (hot, cold) in self.rowed.pointers(saved).items():
            if hot is not None:
                if self.hot.peek(hot) is None and hot not in self._lost:
                    yield f"{id_} points at nothing in hot"
            elif cold is not None:
                if self.cold.peek(cold) != bodies[id_]:
                    yield f"{id_} points at something else in cold"
                elif (id_, cold) not in keys:
                    yield f"{id_} was flipped without a receipt"
            elif id_ not in self.parked_ids:
                yield f"{id_} points nowhere"

    def _doubled(self, saved: Rows, receipts: list[dict[str, Any]]) -> Iterator[str]:
        seen = set()
        for it in receipts:
            what = (it["id"], it["digest"], it["is_recovered"])
            if what in seen and not it["is_undone"]:
                yield f"two receipts for {what}"
            if not it["is_undone"]:
                seen.add(what)
        ended = [row["receipt_id"] for row in rows_of(saved, "archiver.outcome")]
        if len(ended) != len(set(ended)):
            yield f"a receipt that ended twice: {ended}"


def is_our_own(key: ColdKey) -> bool:
    """Kept by archiver for itself, and no object of the application's."""
    return key.startswith(".archiver/")


class _OfNow:
    """The script a worker has at the moment, which a test may replace."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    def around(self, name: str, call: Callable[[], T]) -> T:
        return self._worker.script.around(name, call)


def eventful(world: CrashWorld) -> State:
    """Every kind of row there is, and hot copies that fell due before."""
    world.plant("early", "a0", "a1", "a2")
    world.plant("restored", "back")
    worker = world.worker()
    world.sweep(worker, release=False)
    worker.leave()
    world.restore_row("back")  # to be recovered from cold
    world.plant("late", "f0", "f1", "f2", "taken")
    world.take_key("taken", "late")
    world.plant_parked("mixed", "spoilt", "unreadable")
    world.plant_too_large("large", "large")
    assert [] == world.troubles()
    return world.state()


def by_socket(url: str) -> str:
    """The same database through the server's socket, where no password is hashed."""
    with psycopg.Connection.connect(url) as db:
        found = db.execute("show unix_socket_directories").fetchone()
        assert found is not None
        told = db.info
        where = f"host={found[0]}&port={told.port}&user={told.user}"
        return f"postgresql:///{told.dbname}?{where}"


@pytest.fixture
def make_crash_world(
    databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> Iterator[MakeCrashWorld]:
    made: list[CrashWorld] = []
    tap = Tap()
    tap.install(monkeypatch)

    def make(rowed: Rowed, seed: int, evidence: Evidence = Evidence.SIGNED) -> CrashWorld:
        url = by_socket(databases.like(f"crash_{rowed.name}", rowed.create))
        made.append(CrashWorld(url, rowed, tap, seed, evidence))
        return made[-1]

    yield make
    for world in made:
        world.close()
