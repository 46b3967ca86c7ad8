"""Adopting, step by step: what is read, what is believed, and how it stops."""

from __future__ import annotations

import gzip
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from archiver.engine.adopting import Adopting, AdoptPlan, Prover, Reading, survey
from archiver.engine.budget import BytesInFlight
from archiver.engine.lease import Heartbeat
from archiver.engine.stop import Stop
from archiver.errors import BucketMissing, LedgerUnavailable, NotSent
from archiver.events import HoldingRefused, ObjectAdopted
from archiver.formats.metadata import Origin
from archiver.model import (
    CandidateId,
    ColdKey,
    Digest,
    Evidence,
    HotLocation,
    NotAdopted,
    Pause,
    SourceName,
    Takeover,
)
from tests.fakes.clock import ManualClock
from tests.fakes.faults import denied, flipped, truncated, unavailable
from tests.fakes.ledger import FakeLedger
from tests.fakes.pool import SteppingPool
from tests.fakes.stores import FakeColdStore
from tests.fakes.table_source import COLD_BUCKET, MemorySource, archived_page

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from archiver.events import Event
    from archiver.model import Adoption

NEVER: Mapping[str, str] = {}


class World:
    """Rows that another worker archived, the cold store it did that to, and a ledger."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.ledger = FakeLedger(self.clock)
        self.rows = MemorySource()
        self.cold = FakeColdStore(bucket=COLD_BUCKET)
        self.events: list[Event] = []
        self.stop = Stop()
        self.budget = BytesInFlight()
        self.heartbeat = Heartbeat(self.ledger.fleet, self.clock)

    def archived(
        self, id_: str, body: bytes | None = None, metadata: Mapping[str, str] = NEVER
    ) -> bytes:
        """A row and its object: gzip of its id, or `body` in place of that."""
        row = archived_page(id_)
        self.rows.plant(row)
        stored = gzip.compress(id_.encode(), mtime=0) if body is None else body
        self.cold.create(
            ColdKey(row.cold_key or ""),
            stored,
            metadata=metadata,
            content_type=None,
            content_encoding=None,
        )
        return stored

    def reading(self, **plan: Any) -> Reading:
        return Reading(
            self.rows.name,
            self.ledger.adoptions(self.rows),
            self.clock,
            self.events.append,
            AdoptPlan(**{"bucket": COLD_BUCKET, "concurrency": 2, **plan}),
        )

    def adopt(self, **plan: Any) -> Takeover:
        prover = Prover(self.rows.name, self.cold, self.budget)
        pool = SteppingPool(self.clock)
        return Adopting(self.reading(**plan), prover, pool, self.heartbeat, self.stop)()

    @property
    def adopted(self) -> dict[str, Adoption]:
        return {it.adoption.id: it.adoption for it, _ in self.ledger.tables.adopted}

    @property
    def refused(self) -> dict[str, NotAdopted]:
        told = (event for event in self.events if isinstance(event, HoldingRefused))
        return {event.holding.id: event.why for event in told}


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    world.cold.faults.verify_all_fired()


def test_an_object_is_read_once_and_its_receipt_says_what_was_read(world: World) -> None:
    body = world.archived("a")
    world.cold.faults.calls.clear()

    takeover = world.adopt()

    assert (takeover.state, takeover.adopted) == ("done", 1)
    assert takeover.adopted_bytes == len(body)
    assert world.cold.faults.calls == Counter(look=1, read=1)
    (adoption,) = world.adopted.values()
    assert (adoption.digest, adoption.content_digest) == (Digest.of(body), Digest.of(b"a"))
    assert (adoption.size_bytes, adoption.evidence) == (len(body), Evidence.READBACK)
    assert adoption.cold == world.cold.location(ColdKey("jobs/a.html.gz"))
    assert adoption.etag is not None
    assert [it.adoption for it in world.events if isinstance(it, ObjectAdopted)] == [adoption]


def other_page(size_bytes: int) -> bytes:
    """Another page, whole and of the same size."""
    body = gzip.compress(b"b", mtime=0)
    assert len(body) == size_bytes
    return body


@pytest.mark.parametrize("keep", [truncated, flipped, lambda body: other_page(len(body))])
def test_bytes_that_are_not_what_was_promised_get_no_receipt(world: World, keep: Any) -> None:
    world.archived("a")
    world.archived("b")
    world.cold.faults.on("read", ColdKey("jobs/a.html.gz"), keep=keep)

    takeover = world.adopt()

    assert world.refused == {"a": NotAdopted.DAMAGED}
    assert (set(world.adopted), takeover.damaged) == ({"b"}, 1)
    assert not takeover.is_complete


def test_a_row_that_promises_nothing_is_believed_unless_the_object_says_otherwise(
    world: World,
) -> None:
    for id_ in ("fine", "rotten"):
        origin = Origin(
            Digest.of(b"as it was put"),
            "a ledger that is gone",
            SourceName("pages"),
            CandidateId(id_),
            HotLocation("pages", id_),
        )
        is_fine = id_ == "fine"
        world.archived(
            id_, b"as it was put" if is_fine else b"as it is", metadata=origin.to_metadata({})
        )
    world.archived("foreign", b"whatever", metadata={"sha256": ""})
    for id_ in ("fine", "rotten", "foreign"):
        world.rows.plant(replace(world.rows.row(id_), content_digest=None))

    takeover = world.adopt()

    assert world.refused == {"rotten": NotAdopted.DAMAGED}
    assert (set(world.adopted), takeover.unpromised) == ({"fine", "foreign"}, 2)


def test_h10_a_large_object_is_hashed_as_it_streams(world: World) -> None:
    world.budget = BytesInFlight(total_bytes=100, object_limit_bytes=10)
    world.archived("plain", b"plain")  # what the row promises are the stored bytes
    world.archived("a long name, and plain", b"a long name, and plain")
    world.archived("packed, and too large to be compared")
    world.archived("a rotten one, and plain", b"something else altogether")

    takeover = world.adopt()

    assert set(world.adopted) == {"plain", "a long name, and plain"}
    assert takeover.unreadable == 2
    assert world.cold.faults.calls["read"] == 1


def test_a_missing_object_is_told_from_one_that_is_not_reached(world: World) -> None:
    world.rows.plant(archived_page("missing"))
    for id_ in ("denied", "down", "fine", "went away"):
        world.archived(id_)
    world.cold.faults.on("read", ColdKey("jobs/denied.html.gz"), raise_=denied("read"))
    world.cold.faults.on(
        "look", ColdKey("jobs/down.html.gz"), raise_=unavailable("cold", "look")
    )
    gone = ColdKey("jobs/went away.html.gz")
    world.cold.faults.on("read", gone, run=lambda: world.cold.lose(gone))

    takeover = world.adopt()

    assert set(world.adopted) == {"fine"}
    assert world.refused == {
        "missing": NotAdopted.MISSING,
        "denied": NotAdopted.UNREADABLE,
        "down": NotAdopted.UNREACHABLE,
        "went away": NotAdopted.MISSING,
    }
    assert (takeover.missing, takeover.unreadable, takeover.unreachable) == (2, 1, 1)
    assert world.adopt().adopted == 2  # what failed is tried again by the next run


@pytest.mark.parametrize("failure", [unavailable("cold", "look"), denied("look")])
def test_a_store_that_keeps_failing_is_left_alone(world: World, failure: Exception) -> None:
    for number in range(100):
        world.archived(f"{number:03}")
    world.cold.faults.on("look", raise_=failure, times=None)

    takeover = world.adopt()

    assert (takeover.state, takeover.stopped) == ("stopped", "failures")
    assert takeover.error == str(failure)
    assert world.cold.faults.calls["look"] == 8
    assert world.adopted == {}


def test_a_store_that_answers_in_between_is_not_given_up(world: World) -> None:
    for number in range(40):
        world.archived(f"{number:03}")
        if number % 4:
            key = ColdKey(f"jobs/{number:03}.html.gz")
            world.cold.faults.on("look", key, raise_=unavailable("cold", "look"))

    takeover = world.adopt()

    assert (takeover.state, takeover.adopted, takeover.unreachable) == ("done", 10, 30)


def test_a_fatal_error_ends_the_run_and_what_was_recorded_stays(world: World) -> None:
    for number in range(9):
        world.archived(f"{number}")
    missing = BucketMissing(store="cold", bucket="cold")
    world.cold.faults.on("look", ColdKey("jobs/5.html.gz"), raise_=missing)

    takeover = world.adopt(record_group=2)

    assert (takeover.state, takeover.error) == ("fatal", str(missing))
    assert takeover.adopted == len(world.adopted) == 4


def test_unproven_asks_in_groups_and_reads_nothing(world: World) -> None:
    for number in range(10):
        world.archived(f"{number}", b"not looked at")
    world.rows.plant(archived_page("missing"))
    world.cold.faults.calls.clear()

    takeover = world.adopt(unproven=True, stat_group=4)

    assert world.cold.faults.calls == Counter(stat=11)
    assert (takeover.adopted, world.refused) == (10, {"missing": NotAdopted.MISSING})
    adoption = world.adopted["0"]
    assert (adoption.digest, adoption.evidence) == (None, Evidence.UNPROVEN)
    assert adoption.content_digest == Digest.of(b"0")  # as promised


def test_one_bad_name_does_not_hide_the_rest_of_its_group(world: World) -> None:
    for id_ in ("a", "b", "c"):
        world.archived(id_)
    key = ColdKey("jobs/b.html.gz")
    world.cold.faults.on("stat", key, raise_=denied("stat"), times=None)

    world.adopt(unproven=True)

    assert (set(world.adopted), world.refused) == ({"a", "c"}, {"b": NotAdopted.UNREADABLE})


def test_no_more_objects_are_looked_at_than_the_limit_may_need(world: World) -> None:
    for number in range(50):
        world.archived(f"{number:03}")
    world.cold.faults.calls.clear()

    takeover = world.adopt(limit=5)

    assert (takeover.stopped, takeover.adopted, len(world.adopted)) == ("limit", 5, 5)
    assert world.cold.faults.calls["look"] == 5


def test_a_wish_to_stop_is_heard_between_two_objects(world: World) -> None:
    for number in range(50):
        world.archived(f"{number:03}")
    key = ColdKey("jobs/007.html.gz")
    world.cold.faults.on("look", key, run=lambda: world.stop.request("signal"))

    takeover = world.adopt()

    assert (takeover.state, takeover.stopped) == ("stopped", "signal")
    assert takeover.adopted == len(world.adopted) == 8


def test_a_pause_ends_it(world: World) -> None:
    world.archived("a")
    world.ledger.fleet.pause(Pause.ALL)
    world.heartbeat.beat()

    assert world.adopt().stopped == "paused"
    assert world.adopted == {}


def test_a_lost_lease_ends_it(world: World) -> None:
    world.archived("a")
    world.clock.advance(10_000)

    takeover = world.adopt()

    assert takeover.state == "fatal"
    assert world.adopted == {}


def test_a_database_that_is_away_for_a_moment_is_asked_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.archived("a")
    away = [LedgerUnavailable(operation="adopt", message="away") for _ in range(2)]
    reading = world.reading()
    adopt = reading.adoptions.adopt

    def adopt_at_last(*arguments: Any) -> Any:
        if away:
            raise away.pop()
        return adopt(*arguments)

    monkeypatch.setattr(reading.adoptions, "adopt", adopt_at_last)
    prover = Prover(world.rows.name, world.cold, world.budget)
    pool = SteppingPool(world.clock)

    assert Adopting(reading, prover, pool, world.heartbeat, world.stop)().adopted == 1


def test_rows_in_other_buckets_are_counted_and_not_looked_for(world: World) -> None:
    world.archived("a")
    world.cold.faults.calls.clear()

    takeover = world.adopt(bucket="another")

    assert takeover.elsewhere == {COLD_BUCKET: 1}
    assert not takeover.is_complete
    assert world.cold.faults.calls == Counter()


def test_a_survey_counts_the_same_and_writes_nothing(world: World) -> None:
    for number in range(7):
        world.archived(f"{number}")
    world.adopt(limit=2)

    counted = survey(world.reading(page_rows=3), world.stop)

    assert (counted.state, counted.adopted, counted.known) == ("done", 5, 2)
    assert len(world.adopted) == 2
    assert survey(world.reading(limit=5), world.stop).state == "done"
    limited = survey(world.reading(limit=4), world.stop)
    assert (limited.adopted, limited.stopped) == (4, "limit")


def test_what_was_not_asked_before_the_end_is_no_holding_out_of_reach(world: World) -> None:
    for number in range(6):
        world.archived(str(number))

    def end_before_its_turn() -> None:
        world.stop.request("signal")
        raise NotSent(store="cold", operation="wait", code="the sweep ends")

    world.cold.faults.on("look", run=end_before_its_turn)
    takeover = world.adopt()

    assert (takeover.state, takeover.stopped) == ("stopped", "signal")
    assert (takeover.unreachable, takeover.error, world.refused) == (0, None, {})


def test_a_pause_longer_than_our_patience_ends_it_and_blames_no_holding(world: World) -> None:
    for number in range(6):
        world.archived(str(number))
    paused = NotSent(store="cold", operation="wait", code="a pause", retry_after_seconds=3600)
    world.cold.faults.on("look", raise_=paused)

    takeover = world.adopt()

    assert (takeover.state, takeover.stopped) == ("stopped", "failures")
    assert "a pause" in str(takeover.error)
    assert (takeover.unreachable, world.refused) == (0, {})
    assert world.adopt().adopted == 6 - takeover.adopted
