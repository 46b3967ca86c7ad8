"""A whole little world for the engine: rows, two stores, a ledger, a clock, and workers.

Workers run the real engine, one piece of work a turn, in an order that a seed chooses. Every
call that crosses a contract passes a `Script`, which logs it and may do something around it.
"""

from __future__ import annotations

import gzip
import random
import zlib
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar, cast

from archiver.engine.copies import Stores
from archiver.engine.egress import Allowance, Egress
from archiver.engine.lease import Heartbeat
from archiver.engine.move import Mover
from archiver.engine.parts import PartSender
from archiver.engine.release import Releaser
from archiver.engine.run import Run, SweepPlan
from archiver.engine.stamping import Vouched
from archiver.engine.stop import Stop
from archiver.engine.streams import Streams
from archiver.engine.sweep import Sweep
from archiver.engine.undo import undo
from archiver.engine.width import FixedWidth
from archiver.formats import digest_notes
from archiver.ledger.settings import LedgerSettings
from archiver.model import (
    ClaimState,
    ColdKey,
    ColdPlace,
    Digest,
    Evidence,
    HotLocation,
    Outcome,
    Secret,
)
from archiver.protocols import (
    Claims,
    ColdStore,
    Fleet,
    HotStore,
    Multipart,
    OpenObject,
    Releases,
    Spending,
    Stamps,
    Uploads,
)
from tests.fakes.clock import ManualClock
from tests.fakes.ledger import FakeLedger
from tests.fakes.pool import InlineCrew, SteppingPool
from tests.fakes.stores import ENFORCES_ALL, FakeColdStore, FakeHotStore
from tests.fakes.table_source import BUCKET, START, MemorySource, PageRow, page

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from archiver.engine.pool import Pool
    from archiver.errors import ArchiverError
    from archiver.events import Event
    from archiver.model import Capabilities, EgressBudget, Pause, Summary, UndoAnswer
    from tests.fakes.table_source import MemoryTransaction

T = TypeVar("T")
E = TypeVar("E", bound="Event")

LEASE_SECONDS = 60.0
PLACE = ColdPlace("fake", "cold-pages", "")
_READS_WITHOUT_A_STEP = 200_000  # of the clock; an engine that turns on the spot reads it
CONTRACTS: dict[str, type] = {  # what a sweep drives, by the name of its calls in a script
    "hot": HotStore,
    "open": OpenObject,
    "cold": ColdStore,
    "multipart": Multipart,
    "claims": Claims,
    "spending": Spending,
    "stamps": Stamps,
    "uploads": Uploads,
    "releases": Releases,
    "fleet": Fleet,
}
_ASKS_NOBODY = {"location", "close"}


def _calls_across(contract: type) -> frozenset[str]:
    """Every method of a contract: one that is added is watched the day it is written."""
    found = {
        name for kind in contract.__mro__ for name, it in vars(kind).items() if callable(it)
    }
    return frozenset(name for name in found - _ASKS_NOBODY if not name.startswith("_"))


WATCHED = {room: _calls_across(contract) for room, contract in CONTRACTS.items()}


def body_of(content: bytes) -> bytes:
    return gzip.compress(content, mtime=0)


class Hangs(BaseException):
    """Raised in a store's call: it never returns, and its thread with it."""


class KeptSource(MemorySource):
    """A source whose house has something to do only where a test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.houses_due: list[int] = []  # what the next calls find to do
        self.asked: list[bool] = []  # for everything?

    def housekeeping(self, tx: MemoryTransaction, *, everything: bool) -> Mapping[str, int]:  # noqa: ARG002  # nothing to undo
        self.asked.append(everything)
        return {"houses_kept": self.houses_due.pop(0) if self.houses_due else 0}


class BeatingClock(ManualClock):
    """A manual clock that calls the heartbeats which fall due while it is slept on."""

    def __init__(self) -> None:
        super().__init__()
        self._beats: list[list[Any]] = []  # [next at, seconds, work]
        self._reads_count = 0

    def monotonic(self) -> float:
        self._reads_count += 1
        assert self._reads_count < _READS_WITHOUT_A_STEP, "the engine turns on the spot"
        return super().monotonic()

    def stepped(self) -> None:
        """Something happened: the engine does not turn on the spot."""
        self._reads_count = 0

    def sleep(self, seconds: float) -> None:
        self.stepped()
        until = self.monotonic() + max(0.0, seconds)
        while due := [beat for beat in self._beats if beat[0] <= until]:
            beat = min(due, key=lambda it: it[0])
            self.advance(max(0.0, beat[0] - self.monotonic()))
            beat[0] += beat[1]
            beat[2]()
        super().sleep(max(0.0, until - self.monotonic()))

    def every(self, seconds: float, work: Callable[[], None]) -> Callable[[], None]:
        beat = [self.monotonic() + seconds, seconds, work]
        self._beats.append(beat)

        def end() -> None:
            self._beats = [it for it in self._beats if it is not beat]

        return end


class LimpingPool(SteppingPool):
    """A stepping pool in which work may hang: it stays under way for ever."""

    def __init__(self, clock: BeatingClock, choose: Callable[[int], int]) -> None:
        super().__init__(clock, choose)
        self._beating = clock
        self._hung_count = 0

    @property
    def under_way_count(self) -> int:
        return super().under_way_count + self._hung_count

    def turn(self, timeout_seconds: float) -> bool:
        self._beating.stepped()
        try:
            return super().turn(timeout_seconds)
        except Hangs:
            self._hung_count += 1
            return False


@dataclass
class _Rule:
    name: str
    before: Callable[[], object] | None
    after: Callable[[], object] | None
    times: int | None
    skip: int

    def is_for(self, name: str) -> bool:
        if self.name not in ("*", name) or self.times == 0:
            return False
        if self.skip:
            self.skip -= 1
            return False
        if self.times is not None:
            self.times -= 1
        return True


class Script:
    """What happens around calls across a contract, by name (`claims.record`); a log of all."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self._rules: list[_Rule] = []

    def on(
        self,
        name: str,
        *,
        before: Callable[[], object] | None = None,
        after: Callable[[], object] | None = None,
        times: int | None = 1,
        skip: int = 0,
    ) -> None:
        self._rules.append(_Rule(name, before, after, times, skip))

    def around(self, name: str, call: Callable[[], T]) -> T:
        self.calls.append(name)
        rules = [rule for rule in self._rules if rule.is_for(name)]
        for rule in rules:
            if rule.before is not None:
                rule.before()
        result = call()
        for rule in rules:
            if rule.after is not None:
                rule.after()
        return result


def raising(make: Callable[[], BaseException]) -> Callable[[], object]:
    def raise_it() -> object:
        raise make()

    return raise_it


class _Between:
    """Stands before one side of a contract; its calls pass the script of its worker."""

    def __init__(self, inner: object, room: str, worker: Worker) -> None:
        self._inner: Any = inner
        self._room = room
        self._worker = worker

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._inner, name)
        if name not in WATCHED[self._room]:
            return value

        def call(*args: Any, **named: Any) -> Any:
            return self._worker.script.around(
                f"{self._room}.{name}", lambda: value(*args, **named)
            )

        return call


class _BetweenHot(_Between):
    @contextmanager
    def open(self, location: HotLocation) -> Iterator[OpenObject]:
        with ExitStack() as stack:
            found = self._worker.script.around(
                "hot.open", lambda: stack.enter_context(self._inner.open(location))
            )
            yield cast("OpenObject", _Between(found, "open", self._worker))


class _BetweenCold(_Between):
    @property
    def multipart(self) -> Multipart:
        return cast("Multipart", _Between(self._inner.multipart, "multipart", self._worker))


class Workshop:
    """Opens the fakes, and counts how often it was asked to."""

    def __init__(self, world: World, worker: Worker) -> None:
        self._world = world
        self._worker = worker
        self.asked_count = 0
        self.refusal: ArchiverError | None = None
        self.hurried: list[float] = []

    def stores(self) -> Stores:
        self.asked_count += 1
        if self.refusal is not None:
            raise self.refusal
        world, worker = self._world, self._worker
        return Stores(
            cast("HotStore", _BetweenHot(world.hot, "hot", worker)),
            cast("ColdStore", _BetweenCold(world.cold, "cold", worker)),
            world.evidence,
            world.shared_bucket,
            worker.egress,
            world.streams,
        )

    def mover(self) -> Mover:
        stores, worker = self.stores(), self._worker
        sender = PartSender(
            stores.cold,
            worker.uploads,
            worker.heartbeat,
            self._world.clock,
            worker.events.append,
        )
        return Mover(stores, worker.heartbeat, FakeLedgerId.ledger_id, sender)

    def releaser(self) -> Releaser:
        return Releaser(
            self.stores(),
            self._worker.heartbeat,
            self._world.clock,
            delete_seconds=LEASE_SECONDS / 2,
        )

    def hurry(self, seconds: float) -> None:
        self.hurried.append(seconds)


class FakeLedgerId:
    ledger_id = "fake-ledger"


class Worker:
    """One process: it dies with `die`, or leaves with `leave`."""

    def __init__(self, world: World, ledger: FakeLedger, seed: int) -> None:
        self._world = world
        self._ledger = ledger
        self.script = Script()
        self.stop = Stop()
        self.events: list[Event] = []
        fleet = cast("Fleet", _Between(ledger.fleet, "fleet", self))
        self.heartbeat = Heartbeat(fleet, world.clock)
        self.pool: Pool = LimpingPool(world.clock, _order(seed))
        self.workshop = Workshop(world, self)
        self._claims = _Between(ledger.claims(world.rows), "claims", self)
        self._releases = _Between(ledger.releases(world.rows), "releases", self)
        self._spending = _Between(ledger.spending, "spending", self)
        self._stamps = _Between(ledger.stamps(world.rows.name), "stamps", self)
        self.uploads = cast("Uploads", _Between(ledger.uploads, "uploads", self))
        self.vouched = Vouched()
        self.egress = Egress(
            Allowance(),
            hot_counts=world.budget is not None,
            cold_counts=world.budget is not None and world.cold_counts,
        )
        self.stop_beating = world.clock.every(
            self.heartbeat.interval_seconds, self.heartbeat.beat
        )

    def sweep(self, **plan: Any) -> Summary:
        """One sweep, small groups unless the test says otherwise, with no patience."""
        return Sweep(self.run(**plan), self.workshop)(everything=True)

    def run(self, **plan: Any) -> Run:
        return Run(
            source=self._world.rows.name,
            claims=cast("Claims", self._claims),
            releases=cast("Releases", self._releases),
            spending=cast("Spending", self._spending),
            stamps=cast("Stamps", self._stamps),
            uploads=self.uploads,
            place=PLACE,
            pool=self.pool,
            heartbeat=self.heartbeat,
            clock=self._world.clock,
            observe=self.events.append,
            width=plan.pop("width", None) or FixedWidth(plan.pop("concurrency", 4)),
            plan=SweepPlan(**{"batch_size": 10, "egress_budget": self._world.budget, **plan}),
            asked=self.stop,
            egress=self.egress,
            vouched=self.vouched,
        )

    def undo(self, hold_seconds: float = 30.0) -> dict[str, UndoAnswer]:
        """Undo all that is in the ledger, in small groups."""
        entries = self._ledger.records.newest_entries(self._world.rows.name, START)
        undone = undo(
            entries,
            cast("HotStore", _BetweenHot(self._world.hot, "hot", self)),
            cast("Releases", self._releases),
            hold_seconds=hold_seconds,
            group_size=2,
        )
        return {it.id: it.answer for it in undone}

    def told(self, kind: type[E]) -> list[E]:
        return [event for event in self.events if isinstance(event, kind)]

    def pause(self, what: Pause) -> None:
        """The operator asks for it, and the next heartbeat tells."""
        self._ledger.fleet.pause(what)
        self.heartbeat.beat()

    def leave(self) -> None:
        self.stop_beating()
        self._ledger.fleet.leave()


@dataclass(frozen=True)
class Version:
    """Bytes that the application put at a place, and has not thrown away itself."""

    id: str
    location: HotLocation
    body: bytes


class World:
    """Planted by a test, swept by workers, and judged by `troubles`."""

    def __init__(
        self,
        *,
        seed: int = 0,
        evidence: Evidence = Evidence.SIGNED,
        capabilities: Capabilities = ENFORCES_ALL,
        grace_seconds: float = 0.0,
        max_attempts: int = 16,
        retry_base_seconds: float = 2.0,
    ) -> None:
        self.seed = seed
        self.evidence = evidence
        self.grace_seconds = grace_seconds
        self.shared_bucket: str | None = None
        self.budget: EgressBudget | None = None
        self.cold_counts = True  # where there is a budget
        self.clock = BeatingClock()
        self.hot = FakeHotStore(BUCKET)
        self.cold = FakeColdStore(capabilities=capabilities)
        self.streams = Streams(crew=InlineCrew())
        self.rows = KeptSource()
        self._ledger = FakeLedger(
            self.clock,
            settings=LedgerSettings(
                url=Secret(""),
                lease_seconds=LEASE_SECONDS,
                retry_base_seconds=retry_base_seconds,
                max_attempts=max_attempts,
                release_grace_seconds=grace_seconds,
            ),
        )
        self._versions: dict[HotLocation, Version] = {}
        self._lost: set[HotLocation] = set()
        self._superseded_ids: set[str] = set()
        self.last: Worker | None = None

    # --- the application ---------------------------------------------------------------------

    def plant(self, *ids: str, content: bytes | None = None, **row: Any) -> None:
        """Rows in this order, each with its object in hot."""
        for id_ in ids:
            minutes = row.get("minutes", int(id_) if id_.isdigit() else 0)
            bytes_of_it = id_.encode() if content is None else content
            planted = page(id_, minutes=minutes, content=bytes_of_it)
            planted = replace(planted, **{k: v for k, v in row.items() if k != "minutes"})
            self.put(planted, bytes_of_it)

    def put(self, row: PageRow, content: bytes) -> None:
        """The application stores an object, then points its row at it."""
        assert row.hot_bucket is not None
        assert row.hot_path is not None
        location = HotLocation(row.hot_bucket, row.hot_path)
        self.hot.plant(location, body_of(content))
        self._versions[location] = Version(row.id, location, body_of(content))
        self.rows.plant(row)

    def capture_again(self, id_: str, content: bytes) -> None:
        """A new version of a page, over the old one's path."""
        old = page(id_)
        self._superseded_ids.add(id_)
        again = replace(
            self.rows.row(id_),
            hot_bucket=old.hot_bucket,
            hot_path=old.hot_path,
            cold_key=None,
            content_digest=Digest.of(content),
        )
        self.put(again, content)

    def lose_hot(self, id_: str) -> None:
        """The object is gone from hot, though its row points at it."""
        self._lost.add(at(id_))
        self.hot.remove(at(id_))

    def forget(self, id_: str) -> None:
        """The bytes of this row are nobody's concern any more: the test lost them itself."""
        self._versions.pop(at(id_), None)

    # --- workers -----------------------------------------------------------------------------

    def worker(self, seed: int | None = None) -> Worker:
        self.last = Worker(self, self._ledger.another(), self.seed if seed is None else seed)
        return self.last

    def sweep(self, **plan: Any) -> Summary:
        """One process that sweeps once and leaves; no claim may be left in its hands."""
        worker = self.worker()
        summary = worker.sweep(**plan)
        held = self.held()
        worker.leave()
        assert [] == held
        return summary

    def outlive_leases(self) -> None:
        self.clock.stepped()
        self.clock.advance(LEASE_SECONDS + 1)

    def outlive_uploads(self) -> None:
        self.clock.stepped()
        self.clock.advance(self._ledger.settings.upload_expiry_seconds + 1)

    def expire_uploads_of(self, id_: str) -> None:
        """Nobody has gone on with them for long."""
        for row in self.tables.uploads.values():
            if row.plan.id == id_:
                row.expires_at = self.clock.now()

    # --- what is ------------------------------------------------------------------------------

    @property
    def tables(self) -> Any:
        return self._ledger.tables

    @property
    def served_bytes(self) -> int:
        """What the stores that count have sent of bodies, in all."""
        return self.hot.served_bytes + self.cold.served_bytes * self.cold_counts

    def spent_bytes(self) -> int:
        """What the budget's window holds now."""
        assert self.budget is not None
        return self._ledger.spending.spent(self.budget).spent_bytes

    @property
    def hot_ids(self) -> list[str]:
        """Whose objects are in hot."""
        return sorted(it.path.removeprefix("jobs/").split(".")[0] for it in self.hot.objects)

    @property
    def pointing_ids(self) -> list[str]:
        """Whose rows point at hot."""
        return sorted(row.id for row in self.rows._rows.values() if row.hot_path is not None)

    def claim_states(self) -> dict[str, ClaimState]:
        return {key[1]: row.state for key, row in self.tables.claims.items()}

    def attempts(self, id_: str) -> int:
        row = self.tables.claims.get((self.rows.name, id_))
        return 0 if row is None else row.attempts_count

    def reasons(self) -> dict[str, str | None]:
        return {key[1]: row.reason for key, row in self.tables.claims.items()}

    def parked_releases(self) -> dict[str, str]:
        return {
            row.recorded.receipt.id: row.reason
            for row in self.tables.releases.values()
            if row.parked_at is not None
        }

    @property
    def archived(self) -> dict[ColdKey, bytes]:
        """What lies in cold of the application's objects."""
        stamps = self.stamp_keys()
        return {key: body for key, body in self.cold.objects.items() if key not in stamps}

    @property
    def superseded_keys(self) -> set[ColdKey]:
        """Where versions lie that were captured again since."""
        return {
            key
            for key in self.archived
            if any(key.startswith(f"jobs/{id_}.") for id_ in self._superseded_ids)
        }

    def stamp_keys(self) -> list[ColdKey]:
        """What lies in cold and is none of them."""
        return [key for key in self.cold.objects if key.startswith(".archiver/")]

    def receipted_keys(self, id_: str) -> list[ColdKey]:
        return [it.receipt.cold.key for it in self.tables.receipts if it.receipt.id == id_]

    def held(self) -> list[str]:
        """Claims and releases in somebody's hands."""
        return [
            f"claim of {key[1]} by {row.token}"
            for key, row in self.tables.claims.items()
            if row.state is ClaimState.CLAIMED
        ] + [
            f"release of {row.recorded.receipt.id} by {row.token}"
            for row in self.tables.releases.values()
            if row.token is not None
        ]

    def open_uploads(self) -> list[str]:
        """What is under way in parts, at the store or by the ledger."""
        uploads = self.cold.multipart.open_uploads("")
        begun = [f"{it.upload_id} is open at {it.key}" for it in uploads]
        recorded = [
            f"an upload is recorded for {row.plan.location}"
            for row in self.tables.uploads.values()
        ]
        return [*begun, *recorded]

    def held_memory(self) -> list[str]:
        """Of a process, which gives it back in whatever way it ends but by a death."""
        held_bytes = self.streams.budget.held_bytes
        return [f"{held_bytes} bytes are held"] if held_bytes else []

    def wrong_notes(self) -> list[str]:
        """Objects sent in parts whose digest is not noted beside them, or another one."""
        found = []
        for it in self.tables.receipts:
            body = self.cold.peek(it.receipt.cold.key)
            if body is None or not self.streams.is_large(it.receipt.size_bytes):
                continue
            note = self.cold.peek(digest_notes.note_key("", it.receipt.cold.key))
            noted = note and digest_notes.of_body(note, it.receipt.cold.key, len(body))
            if noted != Digest.of(body):
                found.append(f"the note beside {it.receipt.cold.key} says {noted}")
        return found

    def troubles(self) -> list[str]:
        """What breaks the promises; empty in every world that is well."""
        return [
            *(f"unreachable: {it}" for it in self._versions.values() if not self._is_safe(it)),
            *self._dangling(),
            *self._doubled(),
        ]

    def _is_safe(self, version: Version) -> bool:
        if self.hot.peek(version.location) == version.body:
            return True
        return any(
            it.receipt.id == version.id
            and it.receipt.evidence > Evidence.UNPROVEN
            and it.receipt.digest == Digest.of(version.body)
            and self.cold.peek(it.receipt.cold.key) == version.body
            for it in self.tables.receipts
        )

    def _dangling(self) -> Iterator[str]:
        for row in self.rows._rows.values():
            if row.hot_bucket is not None and row.hot_path is not None:
                location = HotLocation(row.hot_bucket, row.hot_path)
                if self.hot.peek(location) is None and location not in self._lost:
                    yield f"{row.id} points at nothing in hot"
            elif row.cold_key is not None:
                body = self.cold.peek(ColdKey(row.cold_key))
                if not _is_content(body, row.content_digest):
                    yield f"{row.id} points at something else in cold"
                elif row.cold_key not in self.receipted_keys(row.id):
                    yield f"{row.id} was flipped without a receipt"

    def _doubled(self) -> Iterator[str]:
        seen: set[tuple[str, Digest, bool]] = set()
        undone = {it[0].receipt_id for it in self.tables.outcomes if it[1] is Outcome.UNDONE}
        for it in self.tables.receipts:
            if it.receipt_id in undone:
                continue  # archived once more, when its hold was over
            what = (it.receipt.id, it.receipt.digest, it.receipt.is_recovered)
            if what in seen:
                yield f"two receipts for {what}"
            seen.add(what)
        ended = [it[0].receipt_id for it in self.tables.outcomes]
        if len(ended) != len(set(ended)):
            yield f"a receipt that ended twice: {ended}"


def _is_content(body: bytes | None, promised: Digest | None) -> bool:
    """Whether stored bytes are what a row promises of their content; None promises nothing."""
    if body is None or promised is None:
        return body is not None
    try:
        return Digest.of(gzip.decompress(body)) == promised
    except (EOFError, OSError, zlib.error):  # damaged
        return False


def at(id_: str) -> HotLocation:
    """Where the object of a page lies in hot."""
    return HotLocation(BUCKET, f"jobs/{id_}.html.gz")


def ids(count: int, start: int = 0) -> list[str]:
    return [f"{number:03}" for number in range(start, start + count)]


def _order(seed: int) -> Callable[[int], int]:
    """Zero: first in, first out."""
    return random.Random(seed).randrange if seed else lambda _count: 0  # noqa: S311  # an order of work, no secret
