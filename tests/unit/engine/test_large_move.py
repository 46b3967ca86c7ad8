"""A large object: in parts, resumed by record, never two byte strings under one key."""

from __future__ import annotations

import gzip
from contextlib import nullcontext, suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from archiver.engine.copies import Stores
from archiver.engine.egress import Allowance, Egress
from archiver.engine.large_move import origin_of
from archiver.engine.lease import Heartbeat
from archiver.engine.move import Mover
from archiver.engine.parts import PartSender
from archiver.engine.streams import Streams
from archiver.engine.verify import verify
from archiver.errors import (
    ColdMismatch,
    ContentDigestMismatch,
    DigestMismatch,
    LeaseLost,
    LedgerUnavailable,
    NotSent,
    ObjectChanged,
    ObjectMissing,
    ObjectTooLarge,
    SizeMismatch,
    StoreUnavailable,
    UnreadableContent,
    UploadBusy,
)
from archiver.events import UploadAbandoned, UploadResumed
from archiver.formats import digest_notes
from archiver.formats.keys import digest_keys
from archiver.formats.metadata import Origin
from archiver.model import (
    Candidate,
    CandidateId,
    Claim,
    ColdKey,
    Digest,
    Evidence,
    FencingToken,
    HotLocation,
    SourceName,
    WorkerId,
)
from tests.fakes.clock import ManualClock
from tests.fakes.ledger import FakeLedger
from tests.fakes.multipart import PART_RULES
from tests.fakes.pool import InlineCrew
from tests.fakes.stores import ENFORCES_ALL, FakeColdStore, FakeHotStore

if TYPE_CHECKING:
    from archiver.events import Event
    from archiver.model import Capabilities, Sent
    from archiver.protocols import Uploads

AT = HotLocation("hot-pages", "films/7.bin")
KEY = ColdKey("films/7.bin")
PART = 10
BODY = bytes(range(200))  # twenty parts
DOWN = StoreUnavailable(store="cold", operation="put_part", code="timeout")
LEDGER_DOWN = LedgerUnavailable(operation="save_part", message="gone")


class Bench:
    """Workers of one ledger between a fake hot and a fake cold store."""

    def __init__(
        self,
        body: bytes = BODY,
        *,
        capabilities: Capabilities = ENFORCES_ALL,
        evidence: Evidence = Evidence.SIGNED,
        egress: Egress | None = None,
    ) -> None:
        self.clock = ManualClock()
        self.hot = FakeHotStore()
        self.cold = FakeColdStore(capabilities=capabilities)
        self.ledger = FakeLedger(self.clock)
        self.events: list[Event] = []
        self.streams = Streams(crew=InlineCrew(), part_bytes=PART)
        self.stores = Stores(self.hot, self.cold, evidence, streams=self.streams)
        if egress is not None:
            self.stores = replace(self.stores, egress=egress)
        self.hot.plant(AT, body)
        self.worker = self.mover(self.ledger)

    def mover(self, ledger: FakeLedger) -> Mover:
        heartbeat = Heartbeat(ledger.fleet, self.clock)
        sender = PartSender(
            self.cold, ledger.uploads, heartbeat, self.clock, self.events.append
        )
        return Mover(self.stores, heartbeat, "ledger-1", sender)

    def dies(self) -> Mover:
        """Its lease runs out; another worker comes."""
        self.clock.advance(61)
        self.worker = self.mover(self.ledger.another())
        return self.worker

    def move(self, **promised: object) -> Sent:
        return self.worker.move(claim(**promised))

    def prove(self, sent: Sent) -> Evidence:
        verified = verify([sent], self.stores)
        if verified.failed:
            raise verified.failed[0][1]
        return verified.proven[0][1].evidence

    @property
    def key(self) -> ColdKey:
        """Where the object goes that lies in hot now."""
        identity = self.hot.identify([AT])[AT]
        assert identity is not None
        return next(digest_keys(KEY, Digest.of(origin_of(AT, identity).encode())))

    @property
    def uploads(self) -> Uploads:
        return self.ledger.uploads

    @property
    def parts_sent(self) -> int:
        """Part uploads the store was asked for."""
        return self.cold.faults.calls["put_part"]

    def told(self, kind: type[Event]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    def assert_nothing_left(self) -> None:
        assert self.cold.multipart.uploads == []
        assert list(self.uploads.uploads()) == []
        assert self.streams.budget.try_take(128 << 20)
        self.streams.budget.give_back(128 << 20)


def claim(**promised: object) -> Claim:
    candidate = Candidate(
        id=CandidateId("7"), due_at=datetime(2026, 1, 1, tzinfo=UTC), location=AT, cold_key=KEY
    )
    promising = replace(candidate, **promised)  # type: ignore[arg-type]  # a test's own words
    return Claim(SourceName("films"), promising, FencingToken(1, WorkerId(1), 1))


def test_a_large_object_arrives_whole_and_is_proven() -> None:
    bench = Bench()

    sent = bench.move()

    assert bench.cold.peek(sent.cold.key) == BODY
    assert sent.cold.key == bench.key != KEY
    assert (sent.digest, sent.size_bytes) == (Digest.of(BODY), len(BODY))
    assert bench.prove(sent) is Evidence.SIGNED
    assert bench.hot.peek(AT) == BODY
    bench.assert_nothing_left()


@pytest.mark.parametrize("size", [0, 1, PART - 1, PART, PART + 1, 3 * PART, 3 * PART + 1])
@pytest.mark.parametrize("is_promised", [True, False])
def test_objects_around_the_size_of_a_part(*, size: int, is_promised: bool) -> None:
    body = bytes(range(size))
    bench = Bench(body)

    sent = bench.move(**({"size_bytes": size} if is_promised else {}))

    assert bench.cold.peek(sent.cold.key) == body
    assert bench.prove(sent) is Evidence.SIGNED
    assert sent.is_in_parts is (size > PART)
    bench.assert_nothing_left()


def test_what_cannot_be_said_at_the_beginning_is_noted_beside_it() -> None:
    bench = Bench()

    sent = bench.move()

    found = bench.cold.look(sent.cold.key)
    assert found is not None
    origin = Origin.of(found.metadata)
    assert origin is not None
    assert (origin.digest, origin.id, origin.location) == (None, "7", AT)
    note = bench.cold.peek(digest_notes.note_key("", sent.cold.key))
    assert note is not None
    assert digest_notes.of_body(note, sent.cold.key, len(BODY)) == Digest.of(BODY)


# --- what the row promises ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("promised", "error"),
    [
        ({"size_bytes": 199}, SizeMismatch),
        ({"digest": Digest.of(b"other")}, DigestMismatch),
        ({"content_digest": Digest.of(b"other")}, ContentDigestMismatch),
    ],
)
def test_an_object_that_is_not_what_its_row_promises_never_appears(
    promised: dict[str, object], error: type[Exception]
) -> None:
    bench = Bench()

    for _ in range(2):  # and nothing is left that would fail for ever
        with pytest.raises(error):
            bench.move(**promised)

        assert bench.cold.objects == {}
        bench.assert_nothing_left()


@pytest.mark.parametrize("compress", [gzip.compress, zstandard.compress])
def test_content_is_checked_as_it_passes(compress: Any) -> None:
    page = bytes(range(256)) * 20
    body = compress(page)
    bench = Bench(body)

    sent = bench.move(content_digest=Digest.of(page), content_encoding="gzip")
    assert sent.content_digest == Digest.of(page)

    bench = Bench(body[:-3])
    with pytest.raises(UnreadableContent):
        bench.move(content_digest=Digest.of(page))
    bench.assert_nothing_left()


def test_an_object_larger_than_the_store_takes_is_refused_before_it_is_sent() -> None:
    bench = Bench(bytes(PART_RULES.max_count * 4))
    bench.cold.multipart._rules = replace(PART_RULES, max_bytes=3)  # a smaller store

    with pytest.raises(ObjectTooLarge):
        bench.move()


# --- resume ---------------------------------------------------------------------------------


@pytest.mark.parametrize("acknowledged", range(len(BODY) // PART + 1))
def test_g4_whoever_comes_next_sends_only_what_was_not_acknowledged(acknowledged: int) -> None:
    """From every part on: the worker dies, another one takes its upload over."""
    bench = Bench()
    if acknowledged < len(BODY) // PART:
        number = acknowledged + 1
        bench.uploads.faults.on("save_part", number, raise_=SystemError)  # type: ignore[attr-defined]  # the fake's
    else:
        bench.cold.faults.on("complete", None, raise_=SystemError)
    with pytest.raises(SystemError):
        bench.move()
    (recorded,) = bench.uploads.uploads()
    before = bench.parts_sent
    bench.dies()

    sent = bench.move()

    assert bench.cold.peek(sent.cold.key) == BODY
    assert len(recorded.parts) >= acknowledged
    assert bench.parts_sent - before == len(BODY) // PART - len(recorded.parts)
    assert bench.parts_sent <= len(BODY) // PART + bench.streams.at_once
    (resumed,) = bench.told(UploadResumed)
    assert resumed.kept_bytes == len(recorded.parts) * PART
    assert bench.prove(sent) is Evidence.SIGNED
    bench.assert_nothing_left()


def test_a_lost_answer_to_begin_leaks_nothing() -> None:
    bench = Bench()
    bench.cold.faults.on("begin", None, lose_reply=DOWN)
    with pytest.raises(StoreUnavailable):
        bench.move()
    assert len(bench.cold.multipart.uploads) == 1

    bench.move()

    bench.assert_nothing_left()


def test_what_was_begun_too_late_to_be_recorded_is_aborted_by_who_began_it() -> None:
    """Another worker has looked for it before it was there: nobody else would ever find it."""
    bench, others = Bench(), []

    def another_moves_it() -> None:
        bench.clock.advance(61)
        others.append(bench.mover(bench.ledger.another()).move(claim()))

    bench.cold.faults.on("begin", None, times=1, run=another_moves_it)
    with pytest.raises((LeaseLost, UploadBusy)):
        bench.move()

    assert bench.cold.peek(others[0].cold.key) == BODY
    bench.assert_nothing_left()


def test_a_store_that_asks_for_a_long_pause_is_not_waited_for_with_parts_in_hand() -> None:
    bench = Bench()
    pause = replace(DOWN, retry_after_seconds=3600.0)
    bench.cold.faults.on("put_part", None, times=1, raise_=pause)
    before = bench.clock.monotonic()

    with pytest.raises(StoreUnavailable):
        bench.move()

    assert bench.clock.monotonic() == before
    assert bench.cold.peek(bench.move().cold.key) == BODY
    bench.assert_nothing_left()


def test_parts_that_the_store_lost_are_sent_again() -> None:
    bench = Bench()
    bench.cold.faults.on("complete", None, raise_=SystemError)
    with pytest.raises(SystemError):
        bench.move()
    (upload,) = bench.cold.multipart.uploads
    bench.cold.multipart.lose_part(upload, 3)
    bench.cold.multipart.rot_part(upload, 5, b"0123456789")
    before = bench.parts_sent
    bench.dies()

    sent = bench.move()

    assert bench.parts_sent - before == 2
    assert bench.cold.peek(sent.cold.key) == BODY
    bench.assert_nothing_left()


def test_an_upload_that_the_store_forgot_is_begun_anew() -> None:
    bench = Bench()
    bench.cold.faults.on("complete", None, raise_=SystemError)
    with pytest.raises(SystemError):
        bench.move()
    bench.cold.multipart.lose(bench.cold.multipart.uploads[0])
    bench.dies()

    sent = bench.move()

    assert bench.cold.peek(sent.cold.key) == BODY
    bench.assert_nothing_left()


def test_a_part_rotten_between_its_answer_and_the_end_is_never_part_of_an_object() -> None:
    bench = Bench()

    def rot() -> None:
        bench.cold.multipart.rot_part(bench.cold.multipart.uploads[0], 4, b"0123456789")

    bench.uploads.faults.on("save_part", 20, run=rot)  # type: ignore[attr-defined]  # the fake's
    with pytest.raises(StoreUnavailable, match="parts listed"):
        bench.move()
    assert bench.cold.objects == {}

    assert bench.cold.peek(bench.move().cold.key) == BODY
    bench.assert_nothing_left()


# --- the object changes ---------------------------------------------------------------------


def test_g3_another_object_is_another_upload_and_the_old_one_is_aborted() -> None:
    bench = Bench()
    bench.cold.faults.on("complete", None, raise_=SystemError)
    with pytest.raises(SystemError):
        bench.move()
    old_key = bench.key
    other = bytes(reversed(BODY))
    bench.hot.plant(AT, other)
    bench.dies()

    sent = bench.move()

    assert bench.cold.peek(sent.cold.key) == other
    assert bench.cold.peek(old_key) is None
    (abandoned,) = bench.told(UploadAbandoned)
    assert str(old_key) in abandoned.where
    bench.assert_nothing_left()


def test_g3_an_object_that_changes_while_it_is_read_never_appears() -> None:
    bench = Bench()
    bench.hot.faults.on(
        "read_range", None, times=1, run=lambda: bench.hot.plant(AT, bytes(reversed(BODY)))
    )

    with pytest.raises(ObjectChanged):
        bench.move()

    assert bench.cold.objects == {}
    bench.assert_nothing_left()


def test_bytes_that_differ_under_one_identity_start_over() -> None:
    """A store whose ETag says nothing: what was sent before is not what is read now."""
    bench = Bench()
    bench.cold.faults.on("complete", None, raise_=SystemError)
    with pytest.raises(SystemError):
        bench.move()
    bench.dies()
    bench.hot.faults.on("read_range", None, times=1, keep=lambda body: bytes(len(body)))

    with pytest.raises(ObjectChanged):
        bench.move()
    bench.assert_nothing_left()

    assert bench.cold.peek(bench.move().cold.key) == BODY


def test_an_object_that_vanishes_is_missing_and_leaves_no_upload() -> None:
    bench = Bench()
    bench.hot.faults.on("read_range", None, times=1, run=lambda: bench.hot.remove(AT))
    with pytest.raises(ObjectMissing):
        bench.move()
    bench.assert_nothing_left()
    with pytest.raises(ObjectMissing):
        bench.move(size_bytes=len(BODY))


# --- the key is taken -----------------------------------------------------------------------


@pytest.mark.parametrize("keeps", [True, False])
def test_a_lost_answer_to_complete_is_settled_by_a_look(*, keeps: bool) -> None:
    bench = Bench(capabilities=replace(ENFORCES_ALL, keeps_refused_parts=keeps))
    bench.cold.faults.on("complete", None, lose_reply=DOWN)

    sent = bench.move()

    assert bench.cold.peek(sent.cold.key) == BODY
    assert bench.prove(sent) >= Evidence.SIGNED
    assert bench.parts_sent == len(BODY) // PART
    bench.assert_nothing_left()


def test_g9_what_lies_under_the_key_is_never_written_over() -> None:
    bench = Bench()
    bench.cold.create(
        bench.key, b"other bytes", metadata={}, content_type=None, content_encoding=None
    )

    sent = bench.move()

    assert bench.cold.peek(bench.key) == b"other bytes"
    assert bench.cold.peek(sent.cold.key) == BODY
    assert sent.cold.key == list(digest_keys(KEY, Digest.of(origin(bench).encode())))[1]
    bench.assert_nothing_left()


def test_g9_a_key_that_is_taken_while_parts_are_sent_is_not_written_over() -> None:
    bench = Bench()

    def take() -> None:
        bench.cold.create(
            bench.key, b"other bytes", metadata={}, content_type=None, content_encoding=None
        )

    bench.cold.faults.on("complete", None, times=1, run=take)

    sent = bench.move()

    assert bench.cold.peek(bench.key) == b"other bytes"
    assert bench.cold.peek(sent.cold.key) == BODY
    bench.assert_nothing_left()


@pytest.mark.parametrize("there", [bytes(len(BODY)), b"other bytes"])
def test_g9_an_answer_lost_at_a_key_that_was_taken_leaks_no_upload(there: bytes) -> None:
    """Other bytes appear under the key, and the answer to Complete that says so is lost."""
    bench = Bench()

    def take() -> None:
        bench.cold.create(
            bench.key, there, metadata={}, content_type=None, content_encoding=None
        )

    bench.cold.faults.on("complete", None, times=1, run=take, raise_=DOWN)
    is_as_long = len(there) == len(BODY)
    with pytest.raises(ColdMismatch) if is_as_long else nullcontext():
        bench.move()

    sent = bench.move()

    assert bench.cold.peek(bench.key) == there
    assert bench.cold.peek(sent.cold.key) == BODY
    bench.assert_nothing_left()


def test_nothing_is_sent_twice_where_the_same_bytes_lie_there() -> None:
    """It died between the last step of the store and its receipt."""
    bench = Bench()
    first = bench.move()
    before = bench.parts_sent
    bench.dies()

    sent = bench.move()

    assert (sent.was_there, sent.was_read_back, sent.cold) == (True, True, first.cold)
    assert sent.digest == Digest.of(BODY)
    assert bench.parts_sent == before
    assert bench.prove(sent) is Evidence.READBACK
    bench.assert_nothing_left()


def test_a_damaged_copy_under_the_key_is_never_believed() -> None:
    bench = Bench()
    first = bench.move()
    bench.cold.rot(first.cold.key, bytes(len(BODY)))

    sent = bench.move()

    assert sent.cold != first.cold
    assert bench.cold.peek(sent.cold.key) == BODY


# --- evidence -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("demanded", "signs_parts", "seen"),
    [
        (Evidence.SIGNED, True, Evidence.SIGNED),
        (Evidence.SIGNED, False, Evidence.READBACK),
        (Evidence.CHECKSUM, True, Evidence.READBACK),  # no store knows it of parts
        (Evidence.READBACK, True, Evidence.READBACK),
    ],
)
def test_evidence_of_parts(*, demanded: Evidence, signs_parts: bool, seen: Evidence) -> None:
    able = replace(ENFORCES_ALL, enforces_signed_parts=signs_parts, returns_digest=True)
    bench = Bench(capabilities=able, evidence=demanded)

    assert bench.prove(bench.move()) is seen


def test_g2_bytes_that_rot_in_the_store_are_seen_by_a_readback() -> None:
    bench = Bench(evidence=Evidence.READBACK)
    sent = bench.move()
    bench.cold.rot(sent.cold.key, bytes(len(BODY)))

    with pytest.raises(ColdMismatch):
        bench.prove(sent)


def test_all_that_is_read_is_taken_from_the_egress_budget() -> None:
    allowance = Allowance()
    allowance.fill(1000)
    egress = Egress(allowance, hot_counts=True, cold_counts=True)
    bench = Bench(evidence=Evidence.READBACK, egress=egress)

    bench.prove(bench.move())

    assert allowance.left_bytes == 1000 - 2 * len(BODY)
    assert bench.cold.served_bytes == len(BODY)


# --- patience, leases and stops -------------------------------------------------------------


@pytest.mark.parametrize("operation", ["put_part", "parts", "complete"])
def test_a_request_that_fails_for_a_moment_is_asked_again(operation: str) -> None:
    bench = Bench()
    bench.cold.faults.on(operation, None, times=2, raise_=DOWN)

    sent = bench.move()

    assert bench.cold.peek(sent.cold.key) == BODY
    bench.assert_nothing_left()


def test_a_part_that_fails_again_and_again_waits_and_is_resumed() -> None:
    bench = Bench()
    bench.cold.faults.on("put_part", None, times=5, raise_=DOWN)
    with pytest.raises(StoreUnavailable):
        bench.move()
    (upload,) = bench.uploads.uploads()
    assert upload.upload_id is not None

    assert bench.cold.peek(bench.move().cold.key) == BODY
    bench.assert_nothing_left()


def test_a_ledger_that_is_away_for_a_moment_is_asked_again() -> None:
    bench = Bench()
    bench.uploads.faults.on("save_part", 3, times=2, lose_reply=LEDGER_DOWN)  # type: ignore[attr-defined]  # the fake's

    assert bench.cold.peek(bench.move().cold.key) == BODY
    bench.assert_nothing_left()


def test_a_wish_to_stop_leaves_an_upload_that_another_worker_goes_on_with_at_once() -> None:
    bench = Bench()
    with pytest.raises(NotSent):
        bench.worker.move(claim(), lambda: bench.parts_sent == 7)
    other = bench.mover(bench.ledger.another())

    sent = other.move(claim())

    assert bench.cold.peek(sent.cold.key) == BODY
    assert bench.parts_sent == len(BODY) // PART
    bench.assert_nothing_left()


def test_while_its_worker_lives_an_upload_is_nobody_elses() -> None:
    bench = Bench()
    bench.cold.faults.on("complete", None, raise_=SystemError)
    with pytest.raises(SystemError):
        bench.move()
    bench.uploads.take(bench.uploads.uploads()[0].plan)  # it goes on with it
    other = bench.mover(bench.ledger.another())

    with pytest.raises(UploadBusy):
        other.move(claim())


@pytest.mark.parametrize("step", ["begin", "put_part", "parts", "complete"])
def test_past_its_lease_a_worker_neither_sends_nor_completes_nor_aborts(step: str) -> None:
    bench = Bench()
    bench.cold.faults.on(step, None, times=1, run=lambda: bench.clock.advance(61))

    with pytest.raises(LeaseLost):
        bench.move()

    calls = [name for name in ("complete", "abort") if bench.cold.faults.calls[name]]
    # Of what it has begun and not recorded nobody else can know.
    assert calls == {"begin": ["abort"], "complete": ["complete"]}.get(step, [])
    assert [it.upload_id for it in bench.cold.multipart.uploads] == (
        ["upload-1"] if step in ("put_part", "parts") else []
    )

    sent = bench.dies().move(claim())
    assert bench.cold.peek(sent.cold.key) == BODY
    bench.assert_nothing_left()


def test_an_upload_that_is_anothers_by_now_is_not_completed() -> None:
    """Found out between two of its steps, while the lease lasts."""
    bench = Bench()

    def take_it() -> None:
        (upload,) = bench.uploads.uploads()
        bench.uploads.take(upload.plan)

    bench.cold.faults.on("parts", None, times=1, run=take_it)
    with pytest.raises(UploadBusy):
        bench.move()

    assert bench.cold.faults.calls["complete"] == 0
    assert bench.cold.objects == {}


def test_past_its_lease_a_worker_abandons_nothing() -> None:
    bench = Bench()
    bench.cold.faults.on("complete", None, raise_=SystemError)
    with pytest.raises(SystemError):
        bench.move()
    sender, upload = bench.worker.sender, bench.uploads.take(bench.uploads.uploads()[0].plan)
    bench.clock.advance(61)

    with pytest.raises(LeaseLost):
        sender.abandon(upload.upload, "late")

    assert bench.cold.faults.calls["abort"] == 0
    assert len(bench.cold.multipart.uploads) == 1


# --- a missing hot object -------------------------------------------------------------------


@pytest.mark.parametrize("promised", [{}, {"digest": Digest.of(BODY)}])
def test_a_missing_large_object_is_recovered_where_cold_provably_holds_it(
    promised: dict[str, object],
) -> None:
    bench = Bench()
    first = bench.move()
    bench.hot.remove(AT)

    sent = bench.worker.recover(claim(**promised))

    assert (sent.cold, sent.digest, sent.is_recovered) == (first.cold, Digest.of(BODY), True)


def test_a_missing_large_object_without_a_note_and_a_promise_is_not_recovered() -> None:
    bench = Bench()
    first = bench.move()
    bench.hot.remove(AT)
    bench.cold.lose(digest_notes.note_key("", first.cold.key))

    with pytest.raises(ObjectMissing):
        bench.worker.recover(claim())


def test_a_note_of_other_bytes_is_damage() -> None:
    bench = Bench()
    key = digest_notes.note_key("", bench.key)
    bench.cold.create(key, b"{}", metadata={}, content_type=None, content_encoding=None)

    with pytest.raises(ColdMismatch, match="note"):
        bench.move()


def origin(bench: Bench) -> str:
    identity = bench.hot.identify([AT])[AT]
    assert identity is not None
    return origin_of(AT, identity)


@given(st.integers(11, 200), st.lists(st.integers(1, 20), max_size=4))
def test_g4_whatever_the_size_and_wherever_it_dies_again_and_again(
    size: int, deaths: list[int]
) -> None:
    bench = Bench(BODY[:size])
    for number in deaths:
        bench.uploads.faults.on("save_part", number, raise_=SystemError)  # type: ignore[attr-defined]  # the fake's
    sent = None
    while sent is None:
        with suppress(SystemError):
            sent = bench.worker.move(claim())
        bench.dies()

    assert bench.cold.peek(sent.cold.key) == BODY[:size]
    bench.assert_nothing_left()
