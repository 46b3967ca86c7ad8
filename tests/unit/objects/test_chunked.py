"""Puts whose bytes come as they come: none is lost, none is leaked, nobody waits for ever."""

from __future__ import annotations

import io
import threading
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archiver.errors import (
    ArchiverError,
    KeyTaken,
    LedgerUnavailable,
    ObjectChanged,
    ObjectTooLarge,
    PartNotSent,
    PutNotBegun,
    PutNotFound,
    PutsClosed,
    ReservedKey,
    StoreDenied,
    StoreUnavailable,
    TransferBroken,
    TransferStopped,
    TransferTimedOut,
    UnexpectedDigest,
    UploadBusy,
    WrongLength,
)
from archiver.model import Capabilities, ColdKey, Digest, PartRules
from archiver.objects.chunked import ChunkedPuts
from archiver.objects.guard import KeyGuard, SourceKeys
from archiver.sources.template import KeyTemplate
from tests.fakes.faults import unavailable
from tests.fakes.multipart import PART_RULES
from tests.fakes.stores import FakeColdStore
from tests.unit.objects.handing import (
    BODY,
    EXPIRY_SECONDS,
    KEY,
    PART,
    WAIT_SECONDS,
    Bench,
    Gate,
    codes,
    cut,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

DOWN = unavailable("cold", "put_part")
ENFORCES_NOTHING = Capabilities(
    enforces_signed_digest=False, enforces_create=False, returns_digest=False
)


@pytest.fixture
def bench() -> Iterator[Bench]:
    with Bench() as bench:
        yield bench


def left_after(bench: Bench, size_bytes: int, key: str = KEY) -> None:
    """A put that was left after so many bytes, the last of them perhaps not acknowledged."""
    put = bench.puts.put_with_progress(key, len(BODY))
    put.write(BODY[:size_bytes])
    put.stop()
    with pytest.raises(TransferStopped):
        put.result(WAIT_SECONDS)


# --- their tests, in our words ------------------------------------------------------------


def test_theirs_1_mib_is_put_and_read_and_gone() -> None:
    body = bytes(range(256)) * 4096
    with Bench() as bench:
        stored = bench.puts.put_with_progress(KEY, len(body) // 1024, body=[body[:1024]])
        assert stored.result(WAIT_SECONDS).size_bytes == 1024

        assert bench.peek() == body[:1024]
        bench.cold.lose(ColdKey(KEY))  # the service deletes
        assert bench.puts.incomplete(KEY) is None
        bench.assert_nothing_left()


def test_theirs_160_mib_in_parts_of_50_mib_one_progress_each(bench: Bench) -> None:
    """Scaled: 160 bytes in parts of 50."""
    body = bytes(range(160))
    streams = type(bench.streams)(crew=bench.streams.crew, part_bytes=50)
    with ChunkedPuts(
        bench.cold, bench.ledger.another(), clock=bench.clock, streams=streams
    ) as puts:
        put = puts.put_with_progress(KEY, len(body), io.BytesIO(body))
        told = list(put.statuses())

    assert codes(told) == ["progress"] * 4 + ["ok"]
    assert [it.sent_bytes for it in told][-2:] == [160, 160]
    assert bench.peek() == body


def test_theirs_an_upload_in_two_streams(bench: Bench) -> None:
    with bench.puts.put_with_progress(KEY, len(BODY)) as put:
        put.send(io.BytesIO(BODY[:17]))
        put.send(io.BytesIO(BODY[17:]))

    assert put.result(WAIT_SECONDS).digest == Digest.of(BODY)
    assert bench.peek() == BODY
    bench.assert_nothing_left()


def test_theirs_a_client_in_five_parts_of_an_unknown_length(bench: Bench) -> None:
    body = bytes(range(5 * PART))

    put = bench.puts.put_with_progress(KEY, None, cut(body, 7))

    assert codes(list(put.statuses())) == ["progress"] * 5 + ["ok"]
    assert bench.parts_sent == 5
    assert bench.peek() == body


# --- M1 to M23 ----------------------------------------------------------------------------


def test_m01_what_expired_is_aborted_and_what_is_under_way_is_not(bench: Bench) -> None:
    left_after(bench, PART, "uploads/left.bin")
    live = bench.puts.put_with_progress(KEY, len(BODY))
    live.write(BODY[:PART])
    bench.clock.advance(EXPIRY_SECONDS + 1)

    bench.puts.tick()

    assert bench.puts.incomplete("uploads/left.bin") is None
    assert [it.key for it in bench.cold.multipart.uploads] == [KEY]
    live.write(BODY[PART:])
    live.end()
    assert live.result(WAIT_SECONDS).size_bytes == len(BODY)
    bench.assert_nothing_left()


def test_m01_what_has_not_expired_stays_and_resuming_puts_it_off(bench: Bench) -> None:
    left_after(bench, PART)
    bench.clock.advance(EXPIRY_SECONDS - 1)
    bench.puts.tick()
    found = bench.puts.incomplete(KEY)
    assert found is not None

    bench.puts.resume_put(KEY)

    resumed = bench.puts.incomplete(KEY)
    assert resumed is not None
    assert (resumed.expires_at - found.expires_at).total_seconds() >= EXPIRY_SECONDS - 1
    assert resumed.is_processing


@pytest.mark.parametrize("piece_bytes", [1, 3, PART - 1, PART, PART + 1, 1000])
def test_m02_pieces_of_any_size_make_the_same_parts(bench: Bench, piece_bytes: int) -> None:
    put = bench.puts.put_with_progress(KEY, len(BODY), cut(BODY, piece_bytes))

    assert put.result(WAIT_SECONDS).digest == Digest.of(BODY)
    assert bench.parts_sent == 4
    assert bench.peek() == BODY


def test_m03_bytes_that_come_with_the_end_count(bench: Bench) -> None:
    class Last:
        """Everything at once, and from then on only the end."""

        reads = 0

        def read(self, _size_bytes: int, /) -> bytes:
            self.reads += 1
            return BODY if self.reads == 1 else b""

    put = bench.puts.put_with_progress(KEY, len(BODY), Last())

    assert put.result(WAIT_SECONDS).size_bytes == len(BODY)
    assert bench.peek() == BODY


@pytest.mark.parametrize("body", [BODY[:-1], BODY + b"!", b"", BODY[:PART]], ids=len)
def test_m04_another_length_makes_no_object(bench: Bench, body: bytes) -> None:
    put = bench.puts.put_with_progress(KEY, len(BODY), [body])

    with pytest.raises(WrongLength):
        put.result(WAIT_SECONDS)
    assert bench.peek() is None
    bench.assert_nothing_left()


def test_m04_another_digest_makes_no_object(bench: Bench) -> None:
    digest = Digest.of(b"others")
    put = bench.puts.put_with_progress(KEY, len(BODY), [BODY], digest=digest)

    with pytest.raises(UnexpectedDigest):
        put.result(WAIT_SECONDS)
    assert bench.peek() is None
    bench.assert_nothing_left()


def test_m04_more_than_was_said_is_refused_when_it_comes(bench: Bench) -> None:
    put = bench.puts.put_with_progress(KEY, len(BODY))
    put.write(BODY)

    with pytest.raises(WrongLength):
        put.write(b"!")


@pytest.mark.parametrize("size_bytes", [0, None])
def test_m05_an_empty_object_is_written(bench: Bench, size_bytes: int | None) -> None:
    put = bench.puts.put_with_progress(
        KEY, size_bytes, [], content_type="text/plain", digest=Digest.of(b"")
    )

    told = list(put.statuses())

    assert codes(told) == ["ok"]
    assert bench.peek() == b""
    seen = bench.cold.look(ColdKey(KEY))
    assert seen is not None
    assert seen.content_type == "text/plain"
    bench.assert_nothing_left()


def test_m06_a_failed_part_is_sent_again(bench: Bench) -> None:
    bench.cold.faults.on("put_part", raise_=DOWN, times=2)

    put = bench.puts.put_with_progress(KEY, len(BODY), [BODY])

    assert put.result(WAIT_SECONDS).size_bytes == len(BODY)
    assert bench.parts_sent == 6


def test_m06_what_failed_goes_on_from_the_last_good_part(bench: Bench) -> None:
    put = bench.puts.put_with_progress(KEY, len(BODY))
    put.write(BODY[: 2 * PART])
    told = put.statuses()
    assert [next(told).sent_bytes, next(told).sent_bytes] == [PART, 2 * PART]
    bench.cold.faults.on("put_part", raise_=DOWN, times=5)
    put.write(BODY[2 * PART : 3 * PART])
    last = next(told)
    assert isinstance(last.error, PartNotSent)
    assert isinstance(last.error.__cause__, StoreUnavailable)

    resumed = bench.puts.resume_put(KEY)
    assert resumed.start_bytes == 2 * PART
    with resumed:
        resumed.send([BODY[resumed.start_bytes :]])

    assert resumed.result(WAIT_SECONDS).digest is None  # nobody saw all of it at once
    assert bench.peek() == BODY
    assert bench.parts_sent == 2 + 5 + 2
    bench.assert_nothing_left()


def test_m07_only_what_the_store_acknowledged_counts(bench: Bench) -> None:
    is_asked, may_answer = threading.Event(), threading.Event()

    def hold() -> None:
        is_asked.set()
        assert may_answer.wait(WAIT_SECONDS)

    bench.cold.faults.on("put_part", run=hold)
    put = bench.puts.put_with_progress(KEY, len(BODY))
    put.write(BODY[:PART])
    assert is_asked.wait(WAIT_SECONDS)

    found = bench.puts.incomplete(KEY)
    assert found is not None
    assert (found.received_bytes, found.sent_bytes, found.is_complete) == (PART, 0, False)
    assert put.sent_bytes == 0
    may_answer.set()
    assert next(put.statuses()).sent_bytes == PART


def test_m08_who_never_reads_a_status_changes_nothing(bench: Bench) -> None:
    body = bytes(100 * PART)
    put = bench.puts.put_with_progress(KEY, len(body), [body])
    listener = put.statuses()
    next(listener)  # and no more

    assert put.result(WAIT_SECONDS).size_bytes == len(body)
    assert codes(list(put.statuses())) == ["progress"] * 100 + ["ok"]


def test_m08_an_error_is_told_once_and_last(bench: Bench) -> None:
    bench.cold.faults.on("put_part", raise_=DOWN, times=None)

    put = bench.puts.put_with_progress(KEY, len(BODY), [BODY])

    assert codes(list(put.statuses())).count("error") == 1
    put.abort()
    put.stop()
    assert codes(list(put.statuses()))[-1] == "error"


def test_m09_what_resuming_cannot_mend_is_aborted(bench: Bench) -> None:
    def dropped() -> None:
        bench.cold.multipart.lose(bench.cold.multipart.uploads[0])

    bench.cold.faults.on("put_part", run=dropped)

    put = bench.puts.put_with_progress(KEY, len(BODY), [BODY])

    with pytest.raises(ArchiverError, match="no such upload"):
        put.result(WAIT_SECONDS)
    bench.assert_nothing_left()


def test_m09_what_is_aborted_while_the_store_is_down_is_aborted_by_the_clock(
    bench: Bench,
) -> None:
    bench.cold.faults.on("abort", raise_=unavailable("cold", "abort"))
    put = bench.puts.put_with_progress(KEY, len(BODY))
    put.write(BODY[:PART])
    put.abort()
    with pytest.raises(TransferStopped):
        put.result(WAIT_SECONDS)
    assert bench.cold.multipart.uploads

    bench.clock.advance(EXPIRY_SECONDS + 1)
    bench.puts.tick()

    bench.assert_nothing_left()


def test_m09_a_begin_that_failed_leaves_nothing_owned(bench: Bench) -> None:
    bench.cold.faults.on("begin", lose_reply=unavailable("cold", "begin"))
    with pytest.raises(PutNotBegun):
        bench.puts.put_with_progress(KEY, len(BODY))

    other = bench.process()
    other.put_with_progress(KEY, len(BODY), [BODY]).result(WAIT_SECONDS)

    assert bench.peek() == BODY


def test_m10_no_more_parts_are_held_than_may_be_in_flight(bench: Bench) -> None:
    """Each part waits a moment for one too many: it never comes."""
    lock, one_too_many, in_flight = threading.Lock(), threading.Event(), [0]

    def hold() -> None:
        with lock:
            in_flight[0] += 1
            if in_flight[0] > bench.streams.at_once:
                one_too_many.set()
        one_too_many.wait(0.1)
        with lock:
            in_flight[0] -= 1

    bench.cold.faults.on("put_part", run=hold, times=None)
    body = bytes(12 * PART)

    put = bench.puts.put_with_progress(KEY, len(body), [body])

    assert put.result(WAIT_SECONDS).size_bytes == len(body)
    assert not one_too_many.is_set()


def test_m10_puts_that_share_memory_do_not_wait_for_each_other(bench: Bench) -> None:
    narrow = type(bench.streams.budget)(total_bytes=2 * PART, object_limit_bytes=PART)
    streams = type(bench.streams)(narrow, bench.streams.crew, PART)
    with ChunkedPuts(
        bench.cold, bench.ledger.another(), clock=bench.clock, streams=streams
    ) as puts:
        under_way = [
            puts.put_with_progress(f"uploads/{number}", len(BODY), cut(BODY, 4))
            for number in range(8)
        ]
        for put in under_way:
            assert put.result(WAIT_SECONDS).size_bytes == len(BODY)


def test_m11_a_key_is_put_once_at_a_time(bench: Bench) -> None:
    put = bench.puts.put_with_progress(KEY, len(BODY))

    with pytest.raises(UploadBusy):
        bench.puts.put_with_progress(KEY, len(BODY))
    with pytest.raises(UploadBusy):
        bench.puts.resume_put(KEY)
    with pytest.raises(UploadBusy):  # of another process
        bench.process().resume_put(KEY)

    put.send([BODY])
    put.end()
    put.result(WAIT_SECONDS)
    with pytest.raises(KeyTaken):
        bench.puts.put_with_progress(KEY, len(BODY))
    bench.assert_nothing_left()


def test_m11_incomplete_puts_outlive_their_process(bench: Bench) -> None:
    put = bench.puts.put_with_progress(KEY, len(BODY), digest=Digest.of(BODY))
    put.write(BODY[: PART + 3])
    assert next(put.statuses()).sent_bytes == PART
    bench.puts.close()

    later = bench.process()
    found = later.incomplete(KEY)
    assert found is not None
    assert (found.received_bytes, found.sent_bytes, found.size_bytes) == (PART, PART, 35)
    assert not found.is_processing
    with later.resume_put(KEY) as resumed:
        resumed.send([BODY[resumed.start_bytes :]])

    # The digest that was demanded is in the record: it is proven by reading it all back.
    assert resumed.result(WAIT_SECONDS).digest == Digest.of(BODY)
    assert bench.cold.faults.calls["read_range"] == 4
    assert bench.peek() == BODY
    bench.assert_nothing_left()


def test_m13_going_on_with_an_unknown_key_is_an_error_of_its_own(bench: Bench) -> None:
    with pytest.raises(PutNotFound):
        bench.puts.resume_put(KEY)
    with pytest.raises(PutNotFound):
        bench.puts.abort(KEY)
    bench.puts.put_with_progress(KEY, 1, [b"1"]).result(WAIT_SECONDS)  # the key is free


def test_m13_a_stop_is_safe_before_during_and_after(bench: Bench) -> None:
    never = ChunkedPuts(bench.cold, bench.ledger.another(), clock=bench.clock)
    with pytest.raises(PutsClosed):
        never.put_with_progress(KEY, 1)
    never.close()
    with pytest.raises(PutsClosed):
        never.start()

    put = bench.puts.put_with_progress(KEY, len(BODY))
    bench.puts.close()
    bench.puts.close()
    put.stop()
    put.abort()
    with pytest.raises(TransferStopped):
        put.result(WAIT_SECONDS)


def test_m15_no_limit_is_none_and_none_is_no_limit(bench: Bench) -> None:
    for limit in (None, 0):
        puts = bench.process(inactivity_seconds=limit)
        put = puts.put_with_progress(f"uploads/{limit}", len(BODY))
        bench.clock.advance(EXPIRY_SECONDS / 4)
        puts.tick()
        put.send([BODY])
        put.end()
        assert put.result(0 if limit == 0 else None).size_bytes == len(BODY)


def test_m15_what_comes_in_time_goes_on_and_what_does_not_is_ended(bench: Bench) -> None:
    puts = bench.process(inactivity_seconds=10.0)
    put = puts.put_with_progress(KEY, len(BODY))
    for piece in cut(BODY[:30], 10):
        bench.clock.advance(9)
        puts.tick()
        put.write(piece)
    bench.clock.advance(11)
    puts.tick()

    with pytest.raises(TransferTimedOut):
        put.write(BODY[30:])
    with pytest.raises(TransferTimedOut):
        put.result(WAIT_SECONDS)
    assert puts.incomplete(KEY) is not None  # a stream that stood still can be gone on with


def test_m17_expiry_runs_however_busy_it_is(bench: Bench) -> None:
    left_after(bench, PART)
    bench.clock.advance(EXPIRY_SECONDS + 1)
    for number in range(5):
        bench.puts.put_with_progress(f"uploads/{number}", 1)
        bench.puts.tick()

    assert bench.puts.incomplete(KEY) is None


def test_m17_one_that_cannot_be_aborted_keeps_nobody_else(bench: Bench) -> None:
    left_after(bench, PART, "uploads/a")
    left_after(bench, PART, "uploads/b")
    bench.clock.advance(EXPIRY_SECONDS + 1)
    bench.cold.faults.on("abort", ColdKey("uploads/a"), raise_=unavailable("cold", "abort"))

    bench.puts.tick()
    assert [it.key for it in bench.puts.incompletes()] == ["uploads/a"]
    bench.puts.tick()
    bench.assert_nothing_left()


def test_m18_a_closed_one_takes_nothing_and_leaves_what_can_be_resumed(bench: Bench) -> None:
    gate = Gate(cut(BODY, PART), before=2)
    put = bench.puts.put_with_progress(KEY, len(BODY), gate)
    told = put.statuses()
    assert gate.reached.wait(WAIT_SECONDS)
    assert [next(told).code, next(told).code] == ["progress", "progress"]

    bench.puts.close()

    assert next(told).code == "error"
    with pytest.raises(PutsClosed):
        bench.puts.put_with_progress("uploads/late", 1)
    gate.opened.set()
    found = bench.process().incomplete(KEY)
    assert found is not None
    assert found.received_bytes == 2 * PART


def test_m18_closing_completes_what_was_handed_over(bench: Bench) -> None:
    may_answer = threading.Event()
    bench.cold.faults.on("put_part", run=lambda: may_answer.wait(WAIT_SECONDS))
    put = bench.puts.put_with_progress(KEY, PART)
    put.write(BODY[:PART])
    put.end()
    closing = threading.Thread(target=bench.puts.close)
    closing.start()
    may_answer.set()
    closing.join(WAIT_SECONDS)

    assert put.result(WAIT_SECONDS).size_bytes == PART


def test_m18_closing_ends_though_a_store_hangs(bench: Bench) -> None:
    may_answer = threading.Event()
    bench.cold.faults.on("put_part", run=lambda: may_answer.wait(WAIT_SECONDS))
    put = bench.puts.put_with_progress(KEY, PART)
    put.write(BODY[:PART])
    put.end()

    bench.puts.close(timeout_seconds=0.01)

    assert codes(list(put.statuses())) == ["error"]
    is_left = threading.Event()
    bench.ledger.uploads.faults.on("give_back", run=is_left.set)
    may_answer.set()
    assert is_left.wait(WAIT_SECONDS)  # by the thread that hung
    assert codes(list(put.statuses())) == ["error"]
    assert put.is_over
    assert bench.peek() is None


def test_m19_none_is_none(bench: Bench) -> None:
    assert bench.puts.incomplete(KEY) is None
    assert bench.puts.incompletes() == []


def test_m20_a_timeout_ends_the_transfer(bench: Bench) -> None:
    gate = Gate(cut(BODY, PART), before=1)
    put = bench.puts.put_with_progress(KEY, len(BODY), gate)
    assert gate.reached.wait(WAIT_SECONDS)

    with pytest.raises(TransferTimedOut):
        put.result(0.01)

    gate.opened.set()
    assert list(put.statuses())[-1].code == "error"
    assert bench.parts_sent <= 1
    assert bench.peek() is None


@given(
    streams=st.lists(st.lists(st.binary(max_size=13), max_size=6), min_size=1, max_size=4),
    is_known=st.booleans(),
)
@settings(deadline=None, max_examples=60)
def test_m21_streams_of_any_pieces_join_into_full_parts(
    streams: list[list[bytes]],
    is_known: bool,  # noqa: FBT001  # its size, before
) -> None:
    body = b"".join(piece for pieces in streams for piece in pieces)
    with Bench() as bench:
        with bench.puts.put_with_progress(KEY, len(body) if is_known else None) as put:
            for pieces in streams:
                put.send(pieces)

        assert put.result(WAIT_SECONDS).digest == Digest.of(body)
        assert bench.peek() == body
        assert bench.parts_sent == -(-len(body) // PART)
        bench.assert_nothing_left()


def test_m22_the_sender_gets_the_error_and_stops(bench: Bench) -> None:
    denied = StoreDenied(store="cold", operation="put_part", where=KEY)
    bench.cold.faults.on("put_part", raise_=denied, times=None)
    put = bench.puts.put_with_progress(KEY, None)

    with pytest.raises(StoreDenied):
        put.send(bytes(PART) for _ in range(1000))
    with pytest.raises(StoreDenied):
        put.end()


def test_m22_a_body_is_read_no_further_after_a_failure(bench: Bench) -> None:
    gate = Gate(cut(bytes(90 * PART), PART), before=1)
    bench.cold.faults.on(
        "put_part", raise_=StoreDenied(store="cold", operation="put_part", where=KEY)
    )
    put = bench.puts.put_with_progress(KEY, 90 * PART, gate)
    assert list(put.statuses())[-1].code == "error"  # though the body stands still

    gate.opened.set()
    bench.puts.close()
    assert gate.given_count <= 2


def test_m23_it_can_be_resumed_right_after_put_has_returned(bench: Bench) -> None:
    put = bench.puts.put_with_progress(KEY, len(BODY))

    found = bench.puts.incomplete(KEY)
    assert found is not None
    assert found.is_processing
    put.stop()
    assert list(put.statuses())[-1].code == "error"
    with bench.puts.resume_put(KEY) as resumed:
        resumed.write(BODY)
    assert resumed.result(WAIT_SECONDS).digest == Digest.of(BODY)


# --- and besides --------------------------------------------------------------------------


def test_an_error_of_the_stream_stays_resumable_and_tells_no_foreign_words(
    bench: Bench,
) -> None:
    def broken() -> Iterator[bytes]:
        yield BODY[:PART]
        raise ConnectionResetError(104, "token=geheim")

    put = bench.puts.put_with_progress(KEY, len(BODY), broken())

    with pytest.raises(TransferBroken, match="ECONNRESET") as caught:
        put.result(WAIT_SECONDS)
    assert caught.value.offset == PART
    assert bench.puts.incomplete(KEY) is not None


def test_a_stream_that_does_not_wait_is_refused(bench: Bench) -> None:
    class Impatient:
        def read(self, _size_bytes: int, /) -> None:
            return None

    put = bench.puts.put_with_progress(KEY, len(BODY), Impatient())

    with pytest.raises(TransferBroken, match="EAGAIN"):
        put.result(WAIT_SECONDS)


def test_a_new_put_drops_what_was_left_of_an_old_one(bench: Bench) -> None:
    left_after(bench, PART)

    bench.puts.put_with_progress(KEY, len(BODY), [BODY]).result(WAIT_SECONDS)

    assert bench.peek() == BODY
    bench.assert_nothing_left()


def test_an_abort_by_key_drops_it_whoever_sends_it(bench: Bench) -> None:
    left_after(bench, PART)
    bench.puts.abort(KEY)
    bench.assert_nothing_left()

    put = bench.puts.put_with_progress(KEY, len(BODY))
    put.write(BODY[:PART])
    bench.puts.abort(KEY)

    assert list(put.statuses())[-1].code == "error"
    bench.assert_nothing_left()


def test_a_key_that_is_nobodys_own_is_refused_before_anything(bench: Bench) -> None:
    films = SourceKeys("films", "", KeyTemplate.parse("films/{id}.bin"))
    puts = bench.process(guard=KeyGuard([films]))

    for key in ("films/7.bin", ".archiver/stamp"):
        for refused in (puts.put_with_progress, puts.resume_put, puts.abort):
            with pytest.raises(ReservedKey):
                refused(key)
    assert not bench.cold.faults.calls


def test_a_stream_that_never_ends_has_an_end(bench: Bench) -> None:
    with (
        Bench(cold=FakeColdStore(part_rules=PartRules(1, 1 << 20, 3))) as narrow,
        pytest.raises(ObjectTooLarge),
        narrow.puts.put_with_progress(KEY) as put,
    ):
        put.write(bytes(4 * PART))
    with pytest.raises(ObjectTooLarge):
        put.result(WAIT_SECONDS)
    narrow.assert_nothing_left()
    with pytest.raises(ObjectTooLarge):
        bench.puts.put_with_progress(KEY, PART_RULES.max_bytes * PART_RULES.max_count + 1)


def test_a_taken_key_is_seen_where_completing_does_not_look() -> None:
    with Bench(cold=FakeColdStore(capabilities=ENFORCES_NOTHING)) as bench:
        put = bench.puts.put_with_progress(KEY, len(BODY))
        bench.cold.create(
            ColdKey(KEY), b"first", metadata={}, content_type=None, content_encoding=None
        )
        put.send([BODY])
        put.end()

        with pytest.raises(KeyTaken):
            put.result(WAIT_SECONDS)
        assert bench.peek() == b"first"
        bench.assert_nothing_left()


def test_a_lost_answer_to_the_completion_is_settled_when_it_is_resumed(bench: Bench) -> None:
    bench.ledger.uploads.faults.on(
        "forget", raise_=LedgerUnavailable(operation="forget", message="gone"), times=5
    )
    put = bench.puts.put_with_progress(KEY, len(BODY), [BODY])
    assert list(put.statuses())[-1].code == "error"
    assert bench.peek() == BODY
    found = bench.puts.incomplete(KEY)
    assert found is not None
    assert found.is_complete

    resumed = bench.puts.resume_put(KEY)

    assert resumed.start_bytes == len(BODY)
    assert resumed.result(WAIT_SECONDS).size_bytes == len(BODY)
    bench.assert_nothing_left()


def test_a_completion_nobody_heard_of_is_read_back_and_forgotten(bench: Bench) -> None:
    bench.cold.faults.on("complete", lose_reply=unavailable("cold", "complete"))

    put = bench.puts.put_with_progress(KEY, len(BODY), [BODY])

    assert put.result(WAIT_SECONDS).digest == Digest.of(BODY)
    assert bench.cold.faults.calls["read_range"] == 4
    bench.assert_nothing_left()


def test_what_the_store_dropped_is_not_found(bench: Bench) -> None:
    left_after(bench, PART)
    bench.cold.multipart.lose(bench.cold.multipart.uploads[0])

    with pytest.raises(PutNotFound):
        bench.puts.resume_put(KEY)
    bench.assert_nothing_left()


def test_other_bytes_under_a_sent_part_are_another_object(bench: Bench) -> None:
    """Parts come home in any order: behind a gap lies what was sent already."""
    is_asked, has_sent = threading.Event(), threading.Event()

    def fail_late() -> None:
        is_asked.set()
        assert has_sent.wait(WAIT_SECONDS)
        raise StoreDenied(store="cold", operation="put_part", where=KEY)

    bench.cold.faults.on("put_part", run=fail_late)
    put = bench.puts.put_with_progress(KEY, None)
    put.write(BODY[:PART])
    assert is_asked.wait(WAIT_SECONDS)  # the first part is on its way, and not the second
    put.write(BODY[PART : 2 * PART])
    assert next(put.statuses()).sent_bytes == PART
    has_sent.set()
    assert list(put.statuses())[-1].code == "error"

    resumed = bench.puts.resume_put(KEY)
    assert (resumed.start_bytes, resumed.sent_bytes) == (0, PART)
    with resumed:
        resumed.send([BODY[:PART], bytes(PART)])

    with pytest.raises(ObjectChanged):
        resumed.result(WAIT_SECONDS)
    bench.assert_nothing_left()


@given(
    stops=st.lists(st.integers(0, len(BODY)), max_size=4),
    piece_bytes=st.integers(1, 40),
    part_bytes=st.integers(1, 40),
)
@settings(deadline=None, max_examples=80)
def test_whatever_is_stopped_where_it_ends_as_the_same_object(
    stops: list[int], piece_bytes: int, part_bytes: int
) -> None:
    with Bench() as bench:
        object.__setattr__(bench.streams, "part_bytes", part_bytes)
        put = bench.puts.put_with_progress(KEY, len(BODY), digest=Digest.of(BODY))
        for stop in sorted(stops):
            for piece in cut(BODY[put.start_bytes : max(stop, put.start_bytes)], piece_bytes):
                put.write(piece)
            put.stop()
            list(put.statuses())
            put = bench.puts.resume_put(KEY)
            assert put.start_bytes <= max(stop, put.start_bytes)
        with put:
            put.send(cut(BODY[put.start_bytes :], piece_bytes))

        assert put.result(WAIT_SECONDS).digest == Digest.of(BODY)
        assert bench.peek() == BODY
        bench.assert_nothing_left()
