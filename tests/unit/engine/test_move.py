from __future__ import annotations

import gzip
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from archiver.engine.copies import Stores
from archiver.engine.lease import Heartbeat
from archiver.engine.move import Mover
from archiver.engine.parts import PartSender
from archiver.engine.verify import verify
from archiver.errors import (
    ColdMismatch,
    ContentDigestMismatch,
    DigestMismatch,
    LeaseLost,
    NoFreeKey,
    ObjectMissing,
    OnePlace,
    SizeMismatch,
    StoreUnavailable,
    UnreadableContent,
)
from archiver.formats.etags import md5_etag
from archiver.formats.metadata import Origin
from archiver.model import (
    Candidate,
    CandidateId,
    Capabilities,
    Claim,
    ColdKey,
    Digest,
    Evidence,
    FencingToken,
    HotLocation,
    Lease,
    Sent,
    SourceName,
    WorkerId,
)
from tests.fakes.clock import ManualClock
from tests.fakes.faults import flipped, truncated, unavailable, zeroed
from tests.fakes.ledger import FakeLedger
from tests.fakes.stores import FakeColdStore, FakeHotStore

if TYPE_CHECKING:
    from collections.abc import Callable

PAGE = b"<html>page</html>"
BODY = gzip.compress(PAGE, mtime=0)
AT = HotLocation("hot-pages", "jobs/7/tasks/1/page-content.html.gz")
KEY = ColdKey("jobs/7/tasks/1/page-content.html.gz")
LEDGER = "ledger-1"
LEAVES_IT_TO_US = Capabilities(
    enforces_signed_digest=False, enforces_create=False, returns_digest=False
)


class LeaseOf60Seconds:
    """The part of a fleet that a heartbeat needs."""

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock

    def join(self) -> Lease:
        return Lease(WorkerId(1), 1, self._clock.monotonic() + 60, 60)

    beat = join


class Bench:
    """One mover between a fake hot and a fake cold store."""

    def __init__(
        self, evidence: Evidence = Evidence.SIGNED, capabilities: Capabilities | None = None
    ) -> None:
        self.clock = ManualClock()
        self.hot = FakeHotStore()
        self.cold = (
            FakeColdStore(capabilities=capabilities) if capabilities else FakeColdStore()
        )
        self.evidence = evidence
        heartbeat = Heartbeat(LeaseOf60Seconds(self.clock), self.clock)  # type: ignore[arg-type]  # join and beat are all it calls
        self.stores = Stores(self.hot, self.cold, evidence)
        uploads = FakeLedger(self.clock).uploads
        sender = PartSender(self.cold, uploads, heartbeat, self.clock, lambda _event: None)
        self.mover = Mover(self.stores, heartbeat, LEDGER, sender)
        self.hot.plant(AT, BODY)

    def prove(self, sent: Sent) -> Evidence:
        verified = verify([sent], self.stores)
        if verified.failed:
            raise verified.failed[0][1]
        return verified.proven[0][1].evidence


def claim(**promised: object) -> Claim:
    candidate = Candidate(
        id=CandidateId("1"),
        due_at=datetime(2026, 1, 1, tzinfo=UTC),
        location=AT,
        cold_key=KEY,
        content_type="text/html",
        content_encoding="gzip",
    )
    promising = replace(candidate, **promised)  # type: ignore[arg-type]  # a test's own words
    return Claim(SourceName("task_html"), promising, FencingToken(1, WorkerId(1), 1))


def test_a_moved_object_is_cold_with_all_that_brings_it_home() -> None:
    bench = Bench()

    sent = bench.mover.move(claim(content_digest=Digest.of(PAGE)))

    assert bench.cold.peek(KEY) == BODY
    assert sent.digest == Digest.of(BODY)
    found = bench.cold.look(KEY)
    assert found is not None
    assert (found.content_type, found.content_encoding) == ("text/html", "gzip")
    assert Origin.of(found.metadata) == Origin(
        digest=Digest.of(BODY),
        ledger_id=LEDGER,
        source=SourceName("task_html"),
        id=CandidateId("1"),
        location=AT,
        content_digest=Digest.of(PAGE),
        content_encoding="gzip",
    )


def test_a_move_never_touches_the_hot_copy() -> None:
    bench = Bench()
    bench.mover.move(claim())
    assert bench.hot.peek(AT) == BODY
    assert bench.hot.faults.calls["delete"] == 0


@pytest.mark.parametrize(
    ("promised", "error"),
    [
        ({"size_bytes": len(BODY) + 1}, SizeMismatch),
        ({"digest": Digest.of(b"other")}, DigestMismatch),
        ({"content_digest": Digest.of(b"other")}, ContentDigestMismatch),
    ],
)
def test_h01_an_object_that_is_not_what_its_row_promises_is_not_sent(
    promised: dict[str, object], error: type[Exception]
) -> None:
    bench = Bench()

    with pytest.raises(error):
        bench.mover.move(claim(**promised))

    assert bench.cold.objects == {}
    assert bench.hot.peek(AT) == BODY


def test_gzip_that_is_not_gzip_is_said_to_be_so() -> None:
    bench = Bench()
    bench.hot.plant(AT, b"plain bytes")
    with pytest.raises(UnreadableContent, match="bytes that are not gzip"):
        bench.mover.move(claim(content_digest=Digest.of(PAGE)))


def test_h18_bytes_are_stored_as_they_are_and_labelled_by_what_they_are() -> None:
    bench = Bench()
    bench.hot.plant(AT, PAGE)  # somebody gunzipped it on its way into hot

    bench.mover.move(claim(content_digest=Digest.of(PAGE)))

    found = bench.cold.look(KEY)
    assert found is not None
    assert bench.cold.peek(KEY) == PAGE
    assert found.content_encoding is None


def test_h11_the_same_bytes_are_never_sent_twice() -> None:
    bench = Bench()
    bench.mover.move(claim())

    again = bench.mover.move(claim())

    assert again.was_there
    assert list(bench.cold.objects) == [KEY]
    assert bench.prove(again) is Evidence.READBACK


def test_a_put_whose_reply_was_lost_is_found_by_the_next_try() -> None:
    bench = Bench()
    bench.cold.faults.on("create", KEY, lose_reply=unavailable("cold", "create"))
    with pytest.raises(StoreUnavailable):
        bench.mover.move(claim())

    assert bench.mover.move(claim()).was_there
    bench.cold.faults.verify_all_fired()


def test_g9_other_bytes_under_the_key_send_us_to_a_key_with_the_digest() -> None:
    bench = Bench()
    bench.cold.create(KEY, b"older", metadata={}, content_type=None, content_encoding=None)

    sent = bench.mover.move(claim())

    assert bench.cold.peek(KEY) == b"older"
    assert sent.cold.key == f"jobs/7/tasks/1/page-content.{Digest.of(BODY)}.html.gz"
    assert bench.cold.peek(sent.cold.key) == BODY


def test_somebody_elses_object_with_the_same_bytes_is_taken_only_by_readback() -> None:
    bench = Bench()
    elsewhere = HotLocation("hot-pages", "captured/1.html.gz")
    bench.hot.plant(elsewhere, BODY)
    bench.cold.create(KEY, BODY, metadata={}, content_type=None, content_encoding=None)

    sent = bench.mover.move(claim(location=elsewhere))

    assert (sent.was_there, sent.was_read_back) == (True, True)
    assert bench.prove(sent) is Evidence.READBACK


@pytest.mark.parametrize("path", [AT.path, f"mirror/{AT.path}", "page-content.html.gz"])
def test_an_object_that_may_be_the_hot_one_under_another_name_is_nobodys_copy(
    path: str,
) -> None:
    """One directory or bucket, seen as hot and as cold: its release would delete both."""
    bench = Bench()
    location = HotLocation("hot-pages", path)
    bench.hot.plant(location, BODY)
    bench.cold.create(KEY, BODY, metadata={}, content_type=None, content_encoding=None)

    sent = bench.mover.move(claim(location=location))

    assert sent.cold.key != KEY
    assert not sent.was_there


def test_a_copy_of_ours_that_was_damaged_since_is_not_believed_by_its_metadata() -> None:
    bench = Bench(Evidence.SIGNED)
    bench.mover.move(claim())
    bench.cold.rot(KEY, flipped(BODY))

    again = bench.mover.move(claim())

    assert again.cold.key != KEY
    assert bench.cold.peek(again.cold.key) == BODY


def test_a_row_that_points_into_the_archive_is_refused() -> None:
    """Somebody else's archived object, offered as a hot one: its release would delete it."""
    bench = Bench()
    stores = replace(bench.mover.stores, shared_bucket="hot-pages")
    stray = HotLocation("hot-pages", "jobs/8/tasks/2/page-content.html.gz")
    bench.hot.plant(stray, BODY)

    with pytest.raises(OnePlace):
        replace(bench.mover, stores=stores).move(claim(location=stray))


def test_another_ledgers_metadata_is_not_believed() -> None:
    bench = Bench()
    lie = Origin(Digest.of(BODY), "ledger-2", SourceName("task_html"), CandidateId("1"), AT)
    rotten = flipped(BODY)
    bench.cold.create(
        KEY, rotten, metadata=lie.to_metadata({}), content_type=None, content_encoding=None
    )

    sent = bench.mover.move(claim())

    assert sent.cold.key != KEY
    assert bench.cold.peek(sent.cold.key) == BODY


def test_a_damaged_copy_of_ours_is_left_and_never_reused_at_readback() -> None:
    bench = Bench(Evidence.READBACK)
    bench.cold.faults.on("create", KEY, keep=flipped)
    with pytest.raises(ColdMismatch):
        bench.prove(bench.mover.move(claim()))

    second = bench.mover.move(claim())

    assert second.cold.key != KEY
    assert bench.prove(second) is Evidence.READBACK
    assert bench.cold.peek(KEY) == flipped(BODY)


def test_a_store_that_damages_everything_ends_in_no_free_key() -> None:
    bench = Bench(Evidence.READBACK)
    bench.cold.faults.on("create", keep=flipped, times=None)
    for _ in range(12):
        try:
            bench.prove(bench.mover.move(claim()))
        except ColdMismatch:
            continue
        except NoFreeKey:
            break
    else:
        pytest.fail("a wrong copy was proven, or keys never ran out")


def test_a_store_without_conditional_create_gets_the_digest_in_every_key() -> None:
    bench = Bench(Evidence.READBACK, LEAVES_IT_TO_US)

    sent = bench.mover.move(claim())

    assert list(bench.cold.objects) == [
        ColdKey(f"jobs/7/tasks/1/page-content.{Digest.of(BODY)}.html.gz")
    ]
    assert bench.prove(sent) is Evidence.READBACK


def test_past_its_lease_a_worker_sends_nothing() -> None:
    bench = Bench()
    bench.hot.faults.on("open", AT, run=lambda: bench.clock.advance(61))
    with pytest.raises(LeaseLost):
        bench.mover.move(claim())
    assert bench.cold.objects == {}


# --- verify -------------------------------------------------------------------------------


@pytest.mark.parametrize("evidence", [Evidence.SIGNED, Evidence.READBACK])
def test_a_copy_that_vanished_or_shrank_is_not_proven(evidence: Evidence) -> None:
    bench = Bench(evidence)
    bench.cold.faults.on("create", KEY, forget=True)
    with pytest.raises(ColdMismatch, match="no object"):
        bench.prove(bench.mover.move(claim()))

    bench = Bench(evidence)
    bench.cold.faults.on("create", KEY, keep=truncated)
    with pytest.raises(ColdMismatch, match="bytes"):
        bench.prove(bench.mover.move(claim()))


def test_another_etag_than_the_puts_is_not_proven() -> None:
    bench = Bench()
    sent = bench.mover.move(claim())
    bench.cold.damage(KEY, flipped(BODY))
    with pytest.raises(ColdMismatch, match="etag"):
        bench.prove(sent)


def test_g2_only_a_readback_sees_bytes_that_rot_under_a_good_stat() -> None:
    bench = Bench(Evidence.READBACK)
    sent = bench.mover.move(claim())
    bench.cold.rot(KEY, flipped(BODY))
    with pytest.raises(ColdMismatch):
        bench.prove(sent)


def test_checksum_demands_the_digest_the_store_holds() -> None:
    keeps_digests = Capabilities(
        enforces_signed_digest=True, enforces_create=True, returns_digest=True
    )
    bench = Bench(Evidence.CHECKSUM, keeps_digests)
    assert bench.prove(bench.mover.move(claim())) is Evidence.CHECKSUM

    silent = Bench(Evidence.CHECKSUM)
    with pytest.raises(ColdMismatch, match="no digest"):
        silent.prove(silent.mover.move(claim()))


@pytest.mark.parametrize("damage", [flipped, zeroed])
def test_where_an_etag_is_an_md5_it_is_compared_with_that_of_the_bytes(
    damage: Callable[[bytes], bytes],
) -> None:
    tells = Capabilities(
        enforces_signed_digest=True,
        enforces_create=True,
        returns_digest=False,
        etag_is_md5=True,
    )
    honest = Bench(capabilities=tells)
    assert honest.prove(honest.mover.move(claim())) is Evidence.SIGNED

    # Damaged before it was stored, and told as it was stored: size and ETags agree.
    for capabilities, is_seen in ((tells, True), (None, False)):
        bench = Bench(capabilities=capabilities)
        bench.cold.faults.on("create", keep=damage, etag=md5_etag(damage(BODY)))
        sent = bench.mover.move(claim())
        if is_seen:
            with pytest.raises(ColdMismatch, match="etag"):
                bench.prove(sent)
        else:
            assert bench.prove(sent) is Evidence.SIGNED


def unreadable() -> ObjectMissing:
    return ObjectMissing(store="cold", where=str(KEY), code="NoSuchKey")


def test_a_copy_that_is_told_of_and_cannot_be_read_is_none() -> None:
    bench = Bench()
    bench.mover.move(claim())
    bench.cold.faults.on("readback", KEY, raise_=unreadable)

    sent = bench.mover.move(claim())

    bench.cold.faults.verify_all_fired()
    assert (sent.was_there, sent.cold.key == KEY) == (False, False)


# --- recover ------------------------------------------------------------------------------


def test_h02_a_missing_object_is_recovered_only_from_cold_bytes_the_row_promises() -> None:
    bench = Bench()
    bench.mover.move(claim())
    bench.hot.remove(AT)

    sent = bench.mover.recover(claim(content_digest=Digest.of(PAGE)))
    assert sent.is_recovered
    assert bench.prove(sent) is Evidence.READBACK

    with pytest.raises(ObjectMissing):
        bench.mover.recover(claim(content_digest=Digest.of(b"a newer page")))


def test_without_a_promise_the_objects_own_name_decides() -> None:
    bench = Bench()
    bench.mover.move(claim())
    assert bench.mover.recover(claim()).digest == Digest.of(BODY)

    with pytest.raises(ObjectMissing):
        bench.mover.recover(claim(id=CandidateId("2")))

    bench.cold.damage(KEY, flipped(BODY))
    with pytest.raises(ObjectMissing):
        bench.mover.recover(claim())


def test_a_recovery_finds_the_copy_under_its_digest_key() -> None:
    bench = Bench(Evidence.READBACK, LEAVES_IT_TO_US)
    sent = bench.mover.move(claim())
    assert bench.mover.recover(claim(content_digest=Digest.of(PAGE))).cold == sent.cold


def test_a_recovery_passes_over_a_copy_that_is_told_of_and_cannot_be_read() -> None:
    bench = Bench()
    bench.mover.move(claim())
    bench.cold.faults.on("read", KEY, raise_=unreadable)

    with pytest.raises(ObjectMissing, match="store=hot"):
        bench.mover.recover(claim())

    bench.cold.faults.verify_all_fired()
