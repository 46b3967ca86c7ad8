"""What every ledger must do: the lines of `protocols.Claims` and its neighbours as claims.

A test module subclasses `LedgerContract` and gives the fixture `world`: workers of one
fleet, one source that both sides know, and a way to let time pass.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import chain
from threading import Barrier
from typing import TYPE_CHECKING, Protocol

import pytest

from archiver.errors import ForeignDatabase, LeaseLost, StoreUnavailable
from archiver.model import (
    Adoption,
    Answer,
    CandidateId,
    Capabilities,
    ClaimState,
    ColdKey,
    ColdLocation,
    ColdPlace,
    Digest,
    EgressBudget,
    Evidence,
    FailAnswer,
    Failure,
    FoundStamp,
    HotIdentity,
    Outcome,
    Pause,
    Receipt,
    ReleaseEnd,
    ReleaseFailure,
    SourceName,
    Summary,
    SweepId,
    UndoAnswer,
    Window,
)
from archiver.protocols import ArchiveSource
from tests.fakes.table_source import BUCKET, COLD_BUCKET, START, archived_page, page

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from archiver.model import Claim, Holding, ReceiptId, Recorded, Release, WorkerId
    from archiver.protocols import (
        Adoptions,
        Claims,
        Fleet,
        Look,
        Records,
        Releases,
        Spending,
        Stamps,
    )
    from tests.fakes.table_source import PageRow

LEASE_SECONDS = 60.0
GRACE_SECONDS = 900.0
RETRY_BASE_SECONDS = 2.0
RETRY_MAX_SECONDS = 100.0
MAX_ATTEMPTS = 4
BUDGET = EgressBudget(limit_bytes=100, window_seconds=3600.0)
SPENT_FOR_SECONDS = 3600.0 + 300.0  # what was spent leaves the window so late, at most

SOURCE = SourceName("pages")
PLACE = ColdPlace("s3", "cold", "app/")
A_DAY_SECONDS = 86_400.0
EVER = datetime(2000, 1, 1, tzinfo=UTC)


class Ledger(Protocol):
    """One worker's view of the ledger under test; its jitter is none."""

    @property
    def fleet(self) -> Fleet: ...

    @property
    def records(self) -> Records: ...

    @property
    def spending(self) -> Spending: ...

    def claims(
        self, source: ArchiveSource, *, release_grace_seconds: float | None = None
    ) -> Claims: ...

    def releases(self, source: ArchiveSource) -> Releases: ...

    def adoptions(self, source: ArchiveSource) -> Adoptions: ...

    def stamps(self, source: SourceName) -> Stamps: ...

    def check_source(self, source: ArchiveSource) -> Sequence[str]: ...


class Rows(ArchiveSource, Protocol):
    """The source, with the hands of the application on its rows."""

    flip_sizes: list[int]
    prepared_count: int

    @property
    def kept_house_count(self) -> int: ...

    def plant(self, *rows: PageRow) -> None: ...

    def remove(self, id_: str) -> None: ...

    def row(self, id_: str) -> PageRow: ...

    def hold(self, *ids: str) -> AbstractContextManager[None]: ...


class LedgerWorld(Protocol):
    """Workers, rows and time. The numbers above are the settings of every worker."""

    @property
    def rows(self) -> Rows: ...

    def worker(self) -> Ledger:
        """A new worker of the fleet; it has joined."""

    def pass_time(self, seconds: float) -> None:
        """For leases, retries, grace, spending and stamps; nobody beats meanwhile."""

    def set_home(self, *, name: str, system: int | None = None) -> None:
        """As if the ledger had been made in another database, or on another server."""


def ids(claimed: Window | Sequence[Claim]) -> list[str]:
    claims = claimed.claims if isinstance(claimed, Window) else claimed
    return [claim.candidate.id for claim in claims]


def proof(claim: Claim, **changes: object) -> Receipt:
    """What `verify` would mint for a claim whose object was moved."""
    candidate = claim.candidate
    receipt = Receipt(
        source=claim.source,
        id=candidate.id,
        token=claim.token,
        location=candidate.location,
        identity=HotIdentity(size_bytes=1000, etag="hot-etag", modified_at=START),
        cold=ColdLocation("r2", "cold", ColdKey(f"prefix/{candidate.cold_key}")),
        size_bytes=1000,
        digest=Digest.of(b"stored bytes of " + candidate.id.encode()),
        content_digest=candidate.content_digest,
        etag="cold-etag",
        evidence=Evidence.SIGNED,
        group_id=candidate.group_id,
    )
    return replace(receipt, **changes)  # type: ignore[arg-type]


def adopted(holding: Holding, **changes: object) -> Adoption:
    """What a readback of a holding's object makes of it."""
    adoption = Adoption(
        source=SOURCE,
        id=holding.id,
        cold=ColdLocation("r2", COLD_BUCKET, holding.cold_key or ColdKey("")),
        size_bytes=700,
        digest=Digest.of(b"stored bytes of " + holding.id.encode()),
        content_digest=holding.content_digest,
        etag="cold-etag",
        evidence=Evidence.READBACK,
        group_id=holding.group_id,
    )
    return replace(adoption, **changes)  # type: ignore[arg-type]


class LedgerContract:
    @pytest.fixture
    def world(self) -> LedgerWorld:
        raise NotImplementedError

    @pytest.fixture
    def ledger(self, world: LedgerWorld) -> Ledger:
        return world.worker()

    @pytest.fixture
    def claims(self, world: LedgerWorld, ledger: Ledger) -> Claims:
        claims = ledger.claims(world.rows)
        claims.begin()
        return claims

    @pytest.fixture
    def releases(self, world: LedgerWorld, ledger: Ledger) -> Releases:
        return ledger.releases(world.rows)

    # --- claiming ----------------------------------------------------------------------------

    def test_the_oldest_rows_are_claimed_first_and_ties_go_by_id(
        self, world: LedgerWorld, claims: Claims
    ) -> None:
        world.rows.plant(page("new", minutes=9), page("b", minutes=1), page("a", minutes=1))

        assert ids(claims.claim(2)) == ["a", "b"]
        assert ids(claims.claim(2)) == ["new"]

    def test_a_claim_holds_the_candidate_as_its_row_promises_it(
        self, world: LedgerWorld, claims: Claims
    ) -> None:
        world.rows.plant(page("a", minutes=3))
        [offered] = claims.preview(None)

        [claim] = claims.claim(10).claims

        assert claim.candidate == offered
        assert claim.candidate.metadata == {"task_id": "a"}
        assert (claim.attempts_count, claim.crashes_count) == (0, 0)

    def test_two_workers_never_hold_the_same_candidate(self, world: LedgerWorld) -> None:
        world.rows.plant(*(page(str(number)) for number in range(6)))
        one, two = world.worker().claims(world.rows), world.worker().claims(world.rows)

        held = ids(one.claim(2)) + ids(two.claim(2)) + ids(one.claim(9)) + ids(two.claim(9))

        assert sorted(held) == [str(number) for number in range(6)]

    def test_threads_of_many_workers_share_out_every_row_once(self, world: LedgerWorld) -> None:
        world.rows.plant(*(page(f"{number:03}") for number in range(120)))

        def drain(claims: Claims) -> list[str]:
            held: list[str] = []
            while not (window := claims.claim(7)).is_drained:
                assert window.claims, "an empty window means drained"
                held += ids(window)
            return held

        workers = [world.worker().claims(world.rows) for _ in range(4)]
        with ThreadPoolExecutor(4) as threads:
            shares = list(threads.map(drain, workers))

        assert sorted(chain.from_iterable(shares)) == [f"{number:03}" for number in range(120)]

    def test_every_claim_has_a_token_of_its_own_and_later_ones_are_higher(
        self, world: LedgerWorld, claims: Claims
    ) -> None:
        world.rows.plant(page("a"), page("b"))
        first = claims.claim(9).claims
        claims.give_back(first)
        second = claims.claim(9).claims

        assert len({claim.token for claim in (*first, *second)}) == 4
        assert max(c.token.number for c in first) < min(c.token.number for c in second)

    def test_only_a_claim_that_gets_nothing_is_drained(
        self, world: LedgerWorld, claims: Claims
    ) -> None:
        assert claims.claim(2).is_drained
        world.rows.plant(page("a"), page("b"))

        windows = [claims.claim(2), claims.claim(2)]

        assert [window.is_drained for window in windows] == [False, True]

    def test_rows_before_the_cursor_are_found_again_before_it_is_drained(
        self, world: LedgerWorld, claims: Claims
    ) -> None:
        world.rows.plant(page("a", minutes=1), page("b", minutes=2))
        claims.give_back(claims.claim(2).claims)
        world.rows.plant(page("earlier", minutes=0))

        assert ids(claims.claim(9)) == ["earlier", "a", "b"]

    def test_a_claim_of_nothing_claims_nothing(
        self, world: LedgerWorld, claims: Claims
    ) -> None:
        world.rows.plant(page("a"))

        window = claims.claim(0)

        assert (window.claims, window.is_drained) == ((), False)

    def test_begin_lets_the_source_prepare(self, world: LedgerWorld, ledger: Ledger) -> None:
        ledger.claims(world.rows).begin()
        assert world.rows.prepared_count == 1

    def test_a_bad_pointer_is_parked_and_does_not_stand_in_the_way(
        self, world: LedgerWorld, ledger: Ledger, claims: Claims
    ) -> None:
        world.rows.plant(*(page(f"bad-{n}", path=None) for n in range(3)), page("good"))

        window = claims.claim(1)

        assert (ids(window), window.parked_count) == (["good"], 3)
        parked = ledger.records.parked(None, 10)
        assert sorted(row.id for row in parked) == ["bad-0", "bad-1", "bad-2"]
        assert {(row.location, "bad pointer" in row.reason) for row in parked} == {(None, True)}
        assert claims.claim(1).parked_count == 0

    def test_a_bad_pointer_that_was_mended_is_a_fresh_candidate(
        self, world: LedgerWorld, claims: Claims
    ) -> None:
        world.rows.plant(page("a", path=None))
        claims.claim(9)
        world.rows.plant(page("a"))
        claims.begin()

        assert ids(claims.claim(9)) == ["a"]

    def test_preview_offers_what_claim_would_and_writes_nothing(
        self, world: LedgerWorld, ledger: Ledger, claims: Claims
    ) -> None:
        world.rows.plant(*(page(f"{n}", minutes=n) for n in range(5)), page("bad", path=None))
        parked = claims.claim(1).claims
        claims.fail([Failure(parked[0], "no", is_permanent=True)])
        [failed] = claims.claim(1).claims
        claims.fail([Failure(failed, "later")])
        previewing = world.worker().claims(world.rows)

        assert [offer.id for offer in previewing.preview(None)] == ["2", "3", "4"]
        assert [offer.id for offer in previewing.preview(2)] == ["2", "3"]
        world.pass_time(10)
        assert [offer.id for offer in previewing.preview(None)] == ["1", "2", "3", "4"]
        assert ledger.records.counts()[0].claimed_count == 0

    # --- leases and crashes ------------------------------------------------------------------

    def test_a_dead_workers_claim_is_taken_over_under_a_new_token(
        self, world: LedgerWorld
    ) -> None:
        world.rows.plant(page("a"))
        dead, alive = world.worker(), world.worker()
        [lost] = dead.claims(world.rows).claim(9).claims
        assert alive.claims(world.rows).claim(9).is_drained
        world.pass_time(LEASE_SECONDS + 1)
        alive = world.worker()

        [taken] = alive.claims(world.rows).claim(9).claims

        assert taken.candidate == lost.candidate
        assert taken.token > lost.token
        assert taken.crashes_count == 1

    def test_a_late_owner_writes_nothing(self, world: LedgerWorld) -> None:
        world.rows.plant(page("a"))
        late = world.worker()
        claims = late.claims(world.rows)
        [lost] = claims.claim(9).claims
        world.pass_time(LEASE_SECONDS + 1)
        owner = world.worker()
        [taken] = owner.claims(world.rows).claim(9).claims

        assert claims.record([proof(lost)]) == [Answer.LOST]
        assert claims.fail([Failure(lost, "late", is_permanent=True)]) == [FailAnswer.LOST]
        claims.give_back([lost])

        assert world.rows.row("a").hot_path is not None
        assert owner.claims(world.rows).record([proof(taken)]) == [Answer.ACCEPTED]

    def test_nothing_is_recorded_after_the_lease_though_nobody_took_over(
        self, world: LedgerWorld, ledger: Ledger, claims: Claims
    ) -> None:
        world.rows.plant(page("a"))
        [claim] = claims.claim(9).claims
        world.pass_time(LEASE_SECONDS + 1)

        with pytest.raises(LeaseLost):
            claims.record([proof(claim)])
        assert world.rows.row("a").hot_path is not None
        assert ledger.records.counts()[0].archived_count == 0

    def test_a_lease_that_ran_out_is_not_extended(
        self, world: LedgerWorld, ledger: Ledger, claims: Claims, releases: Releases
    ) -> None:
        world.pass_time(LEASE_SECONDS - 5)
        ledger.fleet.beat()
        world.pass_time(LEASE_SECONDS - 5)
        claims.claim(1)
        world.pass_time(6)

        with pytest.raises(LeaseLost):
            ledger.fleet.beat()
        with pytest.raises(LeaseLost):
            claims.claim(1)
        with pytest.raises(LeaseLost):
            releases.claim_release(1)

    def test_what_a_worker_left_behind_is_taken_over_at_once_as_no_crash(
        self, world: LedgerWorld
    ) -> None:
        world.rows.plant(page("a"))
        leaving = world.worker()
        leaving.claims(world.rows).claim(9)
        leaving.fleet.leave()

        [taken] = world.worker().claims(world.rows).claim(9).claims

        assert taken.crashes_count == 0
        with pytest.raises(LeaseLost):
            leaving.fleet.beat()

    def test_what_kills_its_workers_is_tried_alone_at_last_and_then_parked(
        self, world: LedgerWorld
    ) -> None:
        world.rows.plant(page("killer"))
        for crashes_count in range(5):
            window = world.worker().claims(world.rows).claim(9)
            assert not window.must_run_alone
            assert [claim.crashes_count for claim in window.claims] == [crashes_count]
            world.pass_time(LEASE_SECONDS + 1)
        world.rows.plant(page("harmless", minutes=5))
        claims = world.worker().claims(world.rows)

        assert ids(claims.claim(9)) == ["harmless"]
        window = claims.claim(9)
        assert (ids(window), window.must_run_alone) == (["killer"], True)
        world.pass_time(LEASE_SECONDS + 1)
        ledger = world.worker()
        window = ledger.claims(world.rows).claim(9)

        assert (ids(window), window.parked_count) == (["harmless"], 1)
        [parked] = ledger.records.parked(SOURCE, 9)
        assert (parked.id, parked.reason) == ("killer", "crashes the worker")

    def test_what_is_being_tried_alone_is_left_to_its_living_worker(
        self, world: LedgerWorld
    ) -> None:
        world.rows.plant(page("killer"))
        for _ in range(5):
            world.worker().claims(world.rows).claim(9)
            world.pass_time(LEASE_SECONDS + 1)
        trying = world.worker().claims(world.rows)
        [claim] = trying.claim(9).claims

        window = world.worker().claims(world.rows).claim(9)

        assert (window.claims, window.parked_count) == ((), 0)
        assert trying.record([proof(claim)]) == [Answer.ACCEPTED]

    # --- give back ---------------------------------------------------------------------------

    def test_what_is_given_back_can_be_claimed_at_once_and_is_not_counted(
        self, world: LedgerWorld, ledger: Ledger, claims: Claims
    ) -> None:
        world.rows.plant(page("a"))
        [claim] = claims.claim(9).claims
        claims.give_back([claim])
        claims.give_back([claim])

        assert ledger.records.history(CandidateId("a"), None) == []
        [again] = world.worker().claims(world.rows).claim(9).claims
        assert again.attempts_count == 0

    def test_what_is_given_back_keeps_its_history(
        self, world: LedgerWorld, claims: Claims
    ) -> None:
        world.rows.plant(page("a"))
        claims.fail([Failure(claims.claim(9).claims[0], "once")])
        world.pass_time(10)
        claims.give_back(claims.claim(9).claims)

        [again] = claims.claim(9).claims

        assert again.attempts_count == 1

    # --- record ------------------------------------------------------------------------------

    def test_an_accepted_receipt_is_kept_and_its_row_flipped(
        self, world: LedgerWorld, ledger: Ledger, claims: Claims
    ) -> None:
        world.rows.plant(page("a"))
        [claim] = claims.claim(9).claims
        receipt = proof(claim)

        assert claims.record([receipt]) == [Answer.ACCEPTED]

        row = world.rows.row("a")
        assert (row.hot_path, row.cold_key) == (None, "prefix/jobs/a.html.gz")
        [history] = ledger.records.history(CandidateId("a"), SOURCE)
        [(recorded, outcome, ended_at)] = history.receipts
        assert recorded.receipt == receipt
        assert (history.claim_state, outcome, ended_at) == (None, None, None)
        assert claims.outlook().pending_release_count == 1

    @pytest.mark.parametrize(
        "changes",
        [
            {"identity": None},
            {"identity": HotIdentity(size_bytes=7, version="v")},
            {"cold": ColdLocation("s3", "b", ColdKey("jobs/a.html.gz"))},
            {"cold": ColdLocation("s3", "b", ColdKey("deep/er/jobs/a.0123.html.gz"))},
            {"cold": ColdLocation("s3", "b", ColdKey("elsewhere"))},
            {"evidence": Evidence.READBACK, "etag": None, "group_id": None},
        ],
        ids=["recovered", "by version", "no prefix", "digest key", "other key", "bare"],
    )
    def test_a_receipt_is_kept_to_the_letter(
        self, world: LedgerWorld, ledger: Ledger, claims: Claims, changes: dict[str, object]
    ) -> None:
        world.rows.plant(page("a"))
        receipt = proof(claims.claim(9).claims[0], **changes)
        claims.record([receipt])

        [history] = ledger.records.history(CandidateId("a"), None)

        assert [recorded.receipt for recorded, _, _ in history.receipts] == [receipt]

    def test_recording_again_after_a_lost_reply_is_accepted_and_changes_nothing(
        self, world: LedgerWorld, ledger: Ledger, claims: Claims
    ) -> None:
        world.rows.plant(page("a"), page("b"))
        one, two = (proof(claim) for claim in claims.claim(9).claims)
        claims.record([one])

        assert claims.record([one, two, two]) == [Answer.ACCEPTED] * 3
        assert ledger.records.counts()[0].archived_count == 2
        world.pass_time(LEASE_SECONDS + 1)
        assert claims.record([one, two]) == [Answer.ACCEPTED] * 2

    def test_a_row_that_was_captured_again_is_superseded_and_then_a_fresh_candidate(
        self, world: LedgerWorld, ledger: Ledger, claims: Claims
    ) -> None:
        world.rows.plant(page("a"), page("b"))
        receipts = [proof(claim) for claim in claims.claim(9).claims]
        newer = page("a", content=b"newer")
        world.rows.plant(newer)

        assert claims.record(receipts) == [Answer.SUPERSEDED, Answer.ACCEPTED]

        assert world.rows.row("a") == newer
        assert ledger.records.history(CandidateId("a"), None) == []
        [fresh] = claims.claim(9).claims
        assert fresh.candidate.content_digest == newer.content_digest

    def test_a_row_that_is_gone_is_superseded(self, world: LedgerWorld, claims: Claims) -> None:
        world.rows.plant(page("a"))
        [claim] = claims.claim(9).claims
        world.rows.remove("a")

        assert claims.record([proof(claim)]) == [Answer.SUPERSEDED]
        assert claims.claim(9).is_drained

    def test_a_row_that_the_application_holds_is_busy_and_the_others_are_accepted(
        self, world: LedgerWorld, claims: Claims
    ) -> None:
        world.rows.plant(*(page(f"{number}") for number in range(9)))
        receipts = [proof(claim) for claim in claims.claim(9).claims]

        with world.rows.hold("4"):
            answers = claims.record(receipts)

        busy = [
            it.id for it, told in zip(receipts, answers, strict=True) if told is Answer.BUSY
        ]
        assert busy == ["4"]
        assert answers.count(Answer.ACCEPTED) == 8
        assert claims.record([receipts[4]]) == [Answer.ACCEPTED]

    def test_a_row_that_raises_is_parked_and_the_others_are_accepted(
        self, world: LedgerWorld, ledger: Ledger, claims: Claims
    ) -> None:
        refusing = {"2", "6", "7"}
        rows = [page(f"{number}") for number in range(9)]
        world.rows.plant(
            *(replace(r, refusal="frozen by law") if r.id in refusing else r for r in rows)
        )
        receipts = [proof(claim) for claim in claims.claim(9).claims]

        answers = claims.record(receipts)

        refused = {
            it.id for it, told in zip(receipts, answers, strict=True) if told is Answer.REFUSED
        }
        assert refused == refusing
        assert answers.count(Answer.ACCEPTED) == 6
        parked = ledger.records.parked(SOURCE, 9)
        assert {(row.id, row.reason) for row in parked} == {
            (id_, "frozen by law") for id_ in refusing
        }
        assert claims.claim(9).is_drained
        assert claims.record(receipts) == answers

    def test_a_group_without_trouble_is_one_flip(
        self, world: LedgerWorld, claims: Claims
    ) -> None:
        world.rows.plant(*(page(f"{number}") for number in range(9)))
        claims.record([proof(claim) for claim in claims.claim(9).claims])

        assert world.rows.flip_sizes == [9]

    # --- fail --------------------------------------------------------------------------------

    def test_a_failed_claim_waits_longer_each_time(
        self, world: LedgerWorld, claims: Claims
    ) -> None:
        world.rows.plant(page("a"))
        for attempts_count in range(3):
            [claim] = claims.claim(9).claims
            assert claim.attempts_count == attempts_count
            assert claims.fail([Failure(claim, "cut")]) == [FailAnswer.WAITING]
            wait_seconds = RETRY_BASE_SECONDS * 2**attempts_count
            world.pass_time(wait_seconds - 1)
            claims.begin()
            assert claims.claim(9).is_drained
            world.pass_time(1.5)

        assert ids(claims.claim(9)) == ["a"]

    def test_the_pause_a_store_asks_for_is_kept(
        self, world: LedgerWorld, ledger: Ledger, claims: Claims
    ) -> None:
        world.rows.plant(page("a"))
        claims.fail([Failure(claims.claim(9).claims[0], "slow down", retry_after_seconds=50)])
        world.pass_time(40)
        assert claims.claim(9).is_drained
        world.pass_time(11)
        ledger.fleet.beat()

        assert ids(claims.claim(9)) == ["a"]

    def test_a_failure_that_is_not_counted_waits_however_often(
        self, world: LedgerWorld, ledger: Ledger, claims: Claims
    ) -> None:
        world.rows.plant(page("a"))
        for _ in range(MAX_ATTEMPTS + 1):
            [claim] = claims.claim(9).claims
            assert claim.attempts_count == 0
            failure = Failure(claim, "slow down", is_counted=False)
            assert claims.fail([failure]) == [FailAnswer.WAITING]
            assert claims.claim(9).is_drained
            world.pass_time(RETRY_BASE_SECONDS + 1)
            ledger.fleet.beat()

        assert ids(claims.claim(9)) == ["a"]

    def test_a_retry_has_a_token_of_its_own(self, world: LedgerWorld, claims: Claims) -> None:
        world.rows.plant(page("a"))
        [first] = claims.claim(9).claims
        claims.fail([Failure(first, "cut")])
        world.pass_time(10)
        [second] = claims.claim(9).claims

        assert second.token.number > first.token.number
        assert claims.record([proof(first)]) == [Answer.LOST]
        assert claims.fail([Failure(first, "cut")]) == [FailAnswer.LOST]

    def test_failing_again_after_a_lost_reply_counts_once(
        self, world: LedgerWorld, claims: Claims
    ) -> None:
        world.rows.plant(page("a"), page("b"))
        one, two = claims.claim(9).claims
        failures = [Failure(one, "cut"), Failure(two, "gone", is_permanent=True)]

        answers = [claims.fail(failures), claims.fail(failures)]

        assert answers == [[FailAnswer.WAITING, FailAnswer.PARKED]] * 2
        world.pass_time(10)
        assert claims.claim(9).claims[0].attempts_count == 1

    def test_the_last_attempt_parks(
        self, world: LedgerWorld, ledger: Ledger, claims: Claims
    ) -> None:
        world.rows.plant(page("a"), page("b"))
        for attempt in range(1, MAX_ATTEMPTS + 1):
            failures = [
                Failure(claim, f"cut {attempt}", max_attempts=2 if id_ == "b" else None)
                for claim in claims.claim(9).claims
                if (id_ := claim.candidate.id)
            ]
            claims.fail(failures)
            world.pass_time(RETRY_BASE_SECONDS * 2**attempt)
            ledger.fleet.beat()

        assert {
            (row.id, row.reason, row.attempts_count) for row in ledger.records.parked(SOURCE, 9)
        } == {("a", "cut 4", MAX_ATTEMPTS), ("b", "cut 2", 2)}

    def test_a_permanent_failure_parks_at_once_and_leaves_the_row_alone(
        self, world: LedgerWorld, ledger: Ledger, claims: Claims
    ) -> None:
        row = page("a")
        world.rows.plant(row)
        failure = Failure(claims.claim(9).claims[0], "missing", is_permanent=True)

        assert claims.fail([failure]) == [FailAnswer.PARKED]

        assert world.rows.row("a") == row
        [parked] = ledger.records.parked(None, 9)
        assert parked.location == failure.claim.candidate.location
        assert (parked.reason, parked.attempts_count) == ("missing", 1)
        claims.begin()
        assert claims.claim(9).is_drained

    def test_a_row_that_changed_is_not_parked_but_a_fresh_candidate(
        self, world: LedgerWorld, ledger: Ledger, claims: Claims
    ) -> None:
        world.rows.plant(page("same"), page("changed"), page("gone"))
        failures = [Failure(it, "no", is_permanent=True) for it in claims.claim(9).claims]
        world.rows.plant(page("changed", content=b"newer"))
        world.rows.remove("gone")

        answers = _by_id(failures, claims.fail(failures))

        assert answers == {
            "same": FailAnswer.PARKED,
            "changed": FailAnswer.SUPERSEDED,
            "gone": FailAnswer.SUPERSEDED,
        }
        assert ids(claims.claim(9)) == ["changed"]
        assert [row.id for row in ledger.records.parked(None, 9)] == ["same"]

    def test_a_park_needs_no_row_that_answers(self, world: LedgerWorld, claims: Claims) -> None:
        world.rows.plant(page("held"), replace(page("raises"), refusal="no"), page("a"))
        failures = [Failure(it, "no", is_permanent=True) for it in claims.claim(9).claims]
        world.rows.plant(page("a", content=b"newer"))

        with world.rows.hold("held"):
            answers = _by_id(failures, claims.fail(failures))

        assert answers == {
            "held": FailAnswer.PARKED,
            "raises": FailAnswer.PARKED,
            "a": FailAnswer.SUPERSEDED,
        }

    def test_a_park_binds_only_the_row_that_failed(
        self, world: LedgerWorld, ledger: Ledger, claims: Claims
    ) -> None:
        world.rows.plant(page("path"), page("content"), page("same"))
        claims.fail([Failure(it, "no", is_permanent=True) for it in claims.claim(9).claims])
        world.rows.plant(page("path", path="moved.html.gz"), page("content", content=b"new"))
        claims.begin()

        window = claims.claim(9)

        assert sorted(ids(window)) == ["content", "path"]
        assert [claim.attempts_count for claim in window.claims] == [0, 0]
        assert [row.id for row in ledger.records.parked(None, 9)] == ["same"]

    # --- releases ----------------------------------------------------------------------------

    def archive(self, claims: Claims, **changes: object) -> list[Receipt]:
        receipts = [proof(claim, **changes) for claim in claims.claim(99).claims]
        assert set(claims.record(receipts)) == {Answer.ACCEPTED}
        return receipts

    def pass_grace(self, world: LedgerWorld) -> Releases:
        """A worker that lives after it."""
        world.pass_time(GRACE_SECONDS + 1)
        return world.worker().releases(world.rows)

    def test_a_release_is_due_after_its_grace_with_the_receipt_as_recorded(
        self, world: LedgerWorld, claims: Claims, releases: Releases
    ) -> None:
        world.rows.plant(page("a"))
        receipts = self.archive(claims)
        assert releases.claim_release(9) == []

        released = self.pass_grace(world).claim_release(9)

        assert [it.recorded.receipt for it in released] == receipts
        assert released[0].token > receipts[0].token

    def test_a_source_may_have_a_grace_of_its_own(
        self, world: LedgerWorld, ledger: Ledger, claims: Claims
    ) -> None:
        world.rows.plant(page("a"))
        self.archive(claims)
        world.rows.plant(page("b"))
        self.archive(ledger.claims(world.rows, release_grace_seconds=2 * GRACE_SECONDS))

        assert _release_ids(self.pass_grace(world).claim_release(9)) == ["a"]
        assert _release_ids(self.pass_grace(world).claim_release(9)) == ["a", "b"]

    def test_releases_come_oldest_first_and_within_the_limit(
        self, world: LedgerWorld, claims: Claims
    ) -> None:
        for id_ in ("c", "a", "b"):
            world.rows.plant(page(id_))
            self.archive(claims)
            world.pass_time(1)
        releases = self.pass_grace(world)

        claimed = [_release_ids(releases.claim_release(2)) for _ in range(3)]

        assert claimed == [["c", "a"], ["b"], []]

    def test_an_unproven_receipt_never_releases(
        self, world: LedgerWorld, claims: Claims
    ) -> None:
        world.rows.plant(page("a"))
        self.archive(claims, evidence=Evidence.UNPROVEN)

        assert self.pass_grace(world).claim_release(9) == []

    def test_a_location_that_a_row_points_at_again_is_ended_as_replaced(
        self, world: LedgerWorld, ledger: Ledger, claims: Claims
    ) -> None:
        world.rows.plant(page("a"), page("b"), page("c"))
        self.archive(claims)
        world.rows.plant(page("a", content=b"newer"), page("other", path="jobs/b.html.gz"))

        released = self.pass_grace(world).claim_release(1)

        assert _release_ids(released) == ["c"]
        for id_ in ("a", "b"):
            [history] = ledger.records.history(CandidateId(id_), None)
            assert [outcome for _, outcome, _ in history.receipts] == [Outcome.REPLACED]

    def test_two_workers_never_hold_the_same_release(
        self, world: LedgerWorld, claims: Claims
    ) -> None:
        world.rows.plant(*(page(f"{number:02}") for number in range(20)))
        self.archive(claims)
        world.pass_time(GRACE_SECONDS + 1)
        workers = [world.worker().releases(world.rows) for _ in range(4)]

        def drain(releases: Releases) -> list[str]:
            held: list[str] = []
            while due := releases.claim_release(3):
                held += _release_ids(due)
            return held

        with ThreadPoolExecutor(4) as threads:
            shares = list(threads.map(drain, workers))

        assert sorted(chain.from_iterable(shares)) == [f"{number:02}" for number in range(20)]

    def test_a_dead_workers_release_is_taken_over_and_its_late_end_is_not_written(
        self, world: LedgerWorld, claims: Claims
    ) -> None:
        world.rows.plant(page("a"))
        self.archive(claims)
        late = self.pass_grace(world)
        [lost] = late.claim_release(9)
        world.pass_time(LEASE_SECONDS + 1)
        owner = world.worker()
        [taken] = owner.releases(world.rows).claim_release(9)

        late.released([ReleaseEnd(lost, Outcome.REPLACED)])
        late.fail_release([ReleaseFailure(lost, "late", is_permanent=True)])
        late.give_back_releases([lost])
        assert owner.records.counts()[0].pending_release_count == 1
        owner.releases(world.rows).released([ReleaseEnd(taken, Outcome.RELEASED)])

        counts = owner.records.counts()[0]
        assert (counts.released_count, counts.replaced_count) == (1, 0)

    def test_an_end_is_appended_once(self, world: LedgerWorld, claims: Claims) -> None:
        world.rows.plant(page("a"))
        self.archive(claims)
        world.pass_time(GRACE_SECONDS + 1)
        ledger = world.worker()
        releases = ledger.releases(world.rows)
        ends = [ReleaseEnd(it, Outcome.RELEASED, "x") for it in releases.claim_release(9)]
        releases.released(ends)
        releases.released(ends)

        [counts] = ledger.records.counts()
        assert (counts.released_count, counts.pending_release_count) == (1, 0)
        [history] = ledger.records.history(CandidateId("a"), None)
        [(_, outcome, ended_at)] = history.receipts
        assert outcome is Outcome.RELEASED
        assert ended_at is not None
        assert releases.claim_release(9) == []

    def test_a_failed_release_waits_however_often_it_fails(
        self, world: LedgerWorld, claims: Claims
    ) -> None:
        world.rows.plant(page("a"))
        self.archive(claims)
        world.pass_time(GRACE_SECONDS + 1)
        for attempt in range(MAX_ATTEMPTS + 1):
            releases = world.worker().releases(world.rows)  # the waits outlast a lease
            [release] = releases.claim_release(9)
            assert release.attempts_count == attempt
            releases.fail_release([ReleaseFailure(release, "slow down")])
            assert releases.claim_release(9) == []
            world.pass_time(RETRY_BASE_SECONDS * 2**attempt + 1)

        ledger = world.worker()
        assert ledger.records.parked(SOURCE, 9) == []
        assert len(ledger.releases(world.rows).claim_release(9)) == 1

    def test_a_parked_release_is_seen_and_can_be_tried_again(
        self, world: LedgerWorld, claims: Claims
    ) -> None:
        world.rows.plant(page("a"))
        self.archive(claims)
        world.pass_time(GRACE_SECONDS + 1)
        ledger = world.worker()
        releases = ledger.releases(world.rows)
        [release] = releases.claim_release(9)
        releases.fail_release([ReleaseFailure(release, "refused", is_permanent=True)])

        [parked] = ledger.records.parked(SOURCE, 9)
        assert (parked.id, parked.reason, parked.is_release) == ("a", "refused", True)
        assert ledger.records.retry(None, None) == 1
        assert [it.attempts_count for it in releases.claim_release(9)] == [0]

    def test_a_permanently_failed_release_is_parked_at_once(
        self, world: LedgerWorld, claims: Claims
    ) -> None:
        world.rows.plant(page("a"))
        self.archive(claims)
        world.pass_time(GRACE_SECONDS + 1)
        ledger = world.worker()
        releases = ledger.releases(world.rows)
        releases.fail_release(
            [
                ReleaseFailure(it, "denied", is_permanent=True)
                for it in releases.claim_release(9)
            ]
        )

        assert [row.reason for row in ledger.records.parked(None, 9)] == ["denied"]
        assert ledger.claims(world.rows).outlook().pending_release_count == 0

    def test_a_release_given_back_can_be_claimed_at_once(
        self, world: LedgerWorld, claims: Claims
    ) -> None:
        world.rows.plant(page("a"))
        self.archive(claims)
        releases = self.pass_grace(world)
        held = releases.claim_release(9)
        releases.give_back_releases(held)
        releases.give_back_releases(held)

        [again] = releases.claim_release(9)

        assert (again.attempts_count, again.recorded) == (0, held[0].recorded)

    def test_an_id_may_be_archived_again_while_its_release_is_pending(
        self, world: LedgerWorld, ledger: Ledger, claims: Claims
    ) -> None:
        world.rows.plant(page("a"))
        [first] = self.archive(claims)
        world.rows.plant(page("a", content=b"newer"))
        claims.begin()
        key = ColdKey("prefix/jobs/a.ff.html.gz")
        [second] = self.archive(claims, cold=replace(first.cold, key=key))

        [history] = ledger.records.history(CandidateId("a"), None)
        assert [recorded.receipt for recorded, _, _ in history.receipts] == [second, first]

    # --- undo --------------------------------------------------------------------------------

    def undo(
        self,
        ledger: Ledger,
        world: LedgerWorld,
        *chosen: str,
        hold_seconds: float = 100.0,
        look: Look = lambda _: {},
    ) -> dict[str, UndoAnswer]:
        found = ledger.records.newest_entries_of([CandidateId(id_) for id_ in chosen], SOURCE)
        recorded = [entry.recorded for entry in found]
        answers = ledger.releases(world.rows).undo(recorded, hold_seconds, look)
        assert [it.receipt_id for it in answers] == [it.receipt_id for it in recorded]
        return {it.id: it.answer for it in answers}

    def test_what_is_undone_points_hot_again_and_is_never_released(
        self, world: LedgerWorld, ledger: Ledger, claims: Claims
    ) -> None:
        before = page("a")
        world.rows.plant(before, page("b"))
        self.archive(claims)

        assert self.undo(ledger, world, "a") == {"a": UndoAnswer.UNDONE}

        assert world.rows.row("a") == before
        assert world.rows.row("b").hot_path is None
        [history] = ledger.records.history(CandidateId("a"), None)
        assert [outcome for _, outcome, _ in history.receipts] == [Outcome.UNDONE]
        assert _release_ids(self.pass_grace(world).claim_release(9)) == ["b"]

    def test_to_undo_needs_no_lease_and_again_changes_nothing(
        self, world: LedgerWorld, ledger: Ledger, claims: Claims
    ) -> None:
        world.rows.plant(page("a"))
        self.archive(claims)
        ledger.fleet.leave()

        assert self.undo(ledger, world, "a") == {"a": UndoAnswer.UNDONE}
        assert self.undo(ledger, world, "a") == {"a": UndoAnswer.UNDONE_BEFORE}

        assert ledger.records.counts()[0].undone_count == 1

    def test_a_hold_is_kept_and_then_the_row_is_a_fresh_candidate(
        self, world: LedgerWorld, ledger: Ledger, claims: Claims
    ) -> None:
        world.rows.plant(page("a"))
        [first] = self.archive(claims)
        self.undo(ledger, world, "a", hold_seconds=100)

        claims.begin()
        assert claims.claim(9).is_drained
        assert list(claims.preview(None)) == []
        assert (claims.outlook().waiting_count, claims.outlook().next_due_seconds) == (0, None)
        counts = ledger.records.counts()[0]
        assert (counts.held_count, counts.waiting_count) == (1, 0)
        [history] = ledger.records.history(CandidateId("a"), None)
        assert (history.claim_state, history.claim_reason) == (ClaimState.HELD, "undone")
        assert history.next_attempt_at is not None

        world.pass_time(101)
        later = world.worker()
        claims = later.claims(world.rows)
        assert [offer.id for offer in claims.preview(None)] == ["a"]
        assert later.records.counts()[0].held_count == 0
        claims.begin()
        [fresh] = claims.claim(9).claims
        assert (fresh.attempts_count, fresh.crashes_count) == (0, 0)
        assert fresh.token.number > first.token.number
        assert claims.record([proof(fresh)]) == [Answer.ACCEPTED]

    def test_a_row_that_changes_under_its_hold_stays_held_and_is_asked_anew_after_it(
        self, world: LedgerWorld, ledger: Ledger, claims: Claims
    ) -> None:
        world.rows.plant(page("a"))
        self.archive(claims)
        self.undo(ledger, world, "a", hold_seconds=100)
        newer = page("a", path="elsewhere.html.gz", content=b"newer")
        world.rows.plant(newer)
        claims.begin()
        assert claims.claim(9).is_drained

        world.pass_time(101)
        claims = world.worker().claims(world.rows)
        claims.begin()
        [fresh] = claims.claim(9).claims
        assert fresh.candidate.content_digest == newer.content_digest

    def test_many_holds_that_ended_are_forgotten_at_once(
        self, world: LedgerWorld, ledger: Ledger, claims: Claims
    ) -> None:
        chosen = [f"{number:02}" for number in range(30)]
        world.rows.plant(*map(page, chosen))
        self.archive(claims)
        self.undo(ledger, world, *chosen, hold_seconds=0)

        claims.begin()

        assert ids(claims.claim(99)) == chosen

    def test_a_hold_ends_early_for_an_id_that_is_named(
        self, world: LedgerWorld, ledger: Ledger, claims: Claims
    ) -> None:
        world.rows.plant(page("a"), page("b"))
        self.archive(claims)
        self.undo(ledger, world, "a", "b")

        assert ledger.records.retry(None, None) == 0
        assert ledger.records.retry(None, [CandidateId("a")]) == 1

        assert ids(claims.claim(9)) == ["a"]

    def test_what_a_living_worker_may_be_deleting_is_not_undone(
        self, world: LedgerWorld, claims: Claims
    ) -> None:
        world.rows.plant(page("a"))
        self.archive(claims)
        self.pass_grace(world).claim_release(9)

        assert self.undo(world.worker(), world, "a") == {"a": UndoAnswer.RELEASING}
        assert world.rows.row("a").hot_path is None

    def test_a_place_that_is_being_deleted_for_another_row_is_not_pointed_at(
        self, world: LedgerWorld, claims: Claims
    ) -> None:
        world.rows.plant(page("a"), page("twin", path="jobs/a.html.gz", minutes=1))
        self.archive(claims)
        self.pass_grace(world).claim_release(1)

        answers = self.undo(world.worker(), world, "a", "twin")

        assert answers == {"a": UndoAnswer.RELEASING, "twin": UndoAnswer.RELEASING}

    def test_what_the_dead_held_can_be_undone_and_their_late_end_is_not_written(
        self, world: LedgerWorld, claims: Claims
    ) -> None:
        world.rows.plant(page("a"))
        self.archive(claims)
        late = self.pass_grace(world)
        [lost] = late.claim_release(9)
        world.pass_time(LEASE_SECONDS + 1)
        ledger = world.worker()

        assert self.undo(ledger, world, "a") == {"a": UndoAnswer.UNDONE}
        late.released([ReleaseEnd(lost, Outcome.RELEASED)])
        late.fail_release([ReleaseFailure(lost, "late")])

        [counts] = ledger.records.counts()
        assert (counts.undone_count, counts.released_count) == (1, 0)
        assert ledger.releases(world.rows).claim_release(9) == []

    def test_what_is_released_cannot_be_undone(
        self, world: LedgerWorld, claims: Claims
    ) -> None:
        world.rows.plant(page("a"), page("b", minutes=1))
        self.archive(claims)
        releases = self.pass_grace(world)
        one, two = releases.claim_release(9)
        releases.released([ReleaseEnd(one, Outcome.RELEASED)])
        releases.released([ReleaseEnd(two, Outcome.REPLACED, "another object is there now")])

        answers = self.undo(world.worker(), world, "a", "b")

        assert answers == {"a": UndoAnswer.RELEASED, "b": UndoAnswer.KEPT}
        assert world.rows.row("a").hot_path is None

    def test_a_receipt_that_allows_no_release_has_nothing_to_undo(
        self, world: LedgerWorld, ledger: Ledger, claims: Claims
    ) -> None:
        world.rows.plant(page("a"))
        self.archive(claims, evidence=Evidence.UNPROVEN)

        assert self.undo(ledger, world, "a") == {"a": UndoAnswer.KEPT}

    def test_a_parked_release_can_be_undone(self, world: LedgerWorld, claims: Claims) -> None:
        world.rows.plant(page("a"))
        self.archive(claims)
        releases = self.pass_grace(world)
        [release] = releases.claim_release(9)
        releases.fail_release([ReleaseFailure(release, "refused", is_permanent=True)])
        ledger = world.worker()

        assert self.undo(ledger, world, "a") == {"a": UndoAnswer.UNDONE}
        assert ledger.records.parked(None, 9) == []

    def test_a_row_that_was_captured_again_is_left_as_it_is(
        self, world: LedgerWorld, ledger: Ledger, claims: Claims
    ) -> None:
        world.rows.plant(page("claimed"), page("captured"), page("gone"))
        self.archive(claims)
        world.rows.plant(page("claimed", content=b"newer"))
        claims.begin()
        assert ids(claims.claim(9)) == ["claimed"]
        world.rows.plant(page("captured", content=b"newer"))
        world.rows.remove("gone")

        found = ledger.records.newest_entries_of(
            [CandidateId(id_) for id_ in ("claimed", "captured", "gone")], SOURCE
        )
        told = ledger.releases(world.rows).undo(
            [entry.recorded for entry in found], 100, lambda _: {}
        )

        assert {it.answer for it in told} == {UndoAnswer.CHANGED}
        assert {it.id: it.detail for it in told if it.detail} == {
            "claimed": "a candidate again"
        }
        assert world.rows.row("captured") == page("captured", content=b"newer")
        assert claims.outlook().pending_release_count == 3
        assert ledger.records.counts()[0].held_count == 0

    def test_of_two_pending_receipts_the_one_the_row_points_at_is_undone(
        self, world: LedgerWorld, ledger: Ledger, claims: Claims
    ) -> None:
        world.rows.plant(page("a"))
        [first] = self.archive(claims)
        world.rows.plant(page("a", path="newer.html.gz", content=b"newer"))
        claims.begin()
        key = ColdKey("prefix/jobs/a.ff.html.gz")
        self.archive(claims, cold=replace(first.cold, key=key))

        assert self.undo(ledger, world, "a") == {"a": UndoAnswer.UNDONE}

        assert world.rows.row("a").hot_path == "newer.html.gz"
        [due] = self.pass_grace(world).claim_release(9)
        assert due.recorded.receipt == first

    def test_an_older_release_of_the_same_place_ends_with_it(
        self, world: LedgerWorld, ledger: Ledger, claims: Claims
    ) -> None:
        """Else it would delete the object that the row points at again."""
        for _ in range(2):
            world.rows.plant(page("a"))
            claims.begin()
            self.archive(claims)

        self.undo(ledger, world, "a")

        [history] = ledger.records.history(CandidateId("a"), None)
        outcomes = [outcome for _, outcome, _ in history.receipts]
        assert outcomes == [Outcome.UNDONE, Outcome.REPLACED]
        assert claims.outlook().pending_release_count == 0

    def test_what_is_amiss_in_hot_is_not_pointed_at(
        self, world: LedgerWorld, ledger: Ledger, claims: Claims
    ) -> None:
        world.rows.plant(page("a"), page("b"), page("c"))
        self.archive(claims)
        asked: list[str] = []

        def look(recorded: Sequence[Recorded]) -> dict[ReceiptId, UndoAnswer]:
            asked.extend(one.receipt.id for one in recorded)
            told = {"a": UndoAnswer.HOT_MISSING, "b": UndoAnswer.HOT_CHANGED}
            return {
                one.receipt_id: told[one.receipt.id]
                for one in recorded
                if one.receipt.id in told
            }

        answers = self.undo(ledger, world, "a", "b", "c", look=look)

        assert list(answers.values()) == [
            UndoAnswer.HOT_MISSING,
            UndoAnswer.HOT_CHANGED,
            UndoAnswer.UNDONE,
        ]
        assert sorted(asked) == ["a", "b", "c"]
        assert [world.rows.row(id_).hot_path is None for id_ in "abc"] == [True, True, False]
        assert ledger.records.counts()[0].pending_release_count == 2

    def test_a_row_that_is_held_or_raises_spoils_no_other(
        self, world: LedgerWorld, ledger: Ledger, claims: Claims
    ) -> None:
        chosen = [f"{number}" for number in range(9)]
        world.rows.plant(*map(page, chosen))
        self.archive(claims)
        world.rows.plant(replace(world.rows.row("7"), refusal="frozen by law"))
        found = ledger.records.newest_entries_of([CandidateId(it) for it in chosen], SOURCE)

        with world.rows.hold("4"):
            told = ledger.releases(world.rows).undo(
                [entry.recorded for entry in found], 100, lambda _: {}
            )

        assert {it.id: it.answer for it in told if it.answer is not UndoAnswer.UNDONE} == {
            "4": UndoAnswer.BUSY,
            "7": UndoAnswer.REFUSED,
        }
        assert [it.detail for it in told if it.answer is UndoAnswer.REFUSED] == [
            "frozen by law"
        ]
        assert ledger.records.counts()[0].undone_count == 7

    def test_nothing_is_undone_in_part(
        self, world: LedgerWorld, ledger: Ledger, claims: Claims
    ) -> None:
        world.rows.plant(page("a"), page("b"))
        self.archive(claims)

        def look(_: Sequence[Recorded]) -> dict[ReceiptId, UndoAnswer]:
            raise StoreUnavailable(store="hot", operation="identify", code="cut")

        with pytest.raises(StoreUnavailable):
            self.undo(ledger, world, "a", "b", look=look)

        assert [world.rows.row(id_).hot_path for id_ in "ab"] == [None, None]
        assert claims.outlook().pending_release_count == 2

    def test_of_an_undo_and_a_release_at_once_exactly_one_wins(
        self, world: LedgerWorld, claims: Claims
    ) -> None:
        chosen = [f"{number:02}" for number in range(40)]
        world.rows.plant(*map(page, chosen))
        self.archive(claims)
        world.pass_time(GRACE_SECONDS + 1)
        releasing = world.worker().releases(world.rows)
        ledger = world.worker()

        def release() -> list[str]:
            held: list[str] = []
            while due := releasing.claim_release(3):
                held += _release_ids(due)
            return held

        def undo() -> list[str]:
            undone: list[str] = []
            for id_ in reversed(chosen):
                answers = self.undo(ledger, world, id_)
                undone += [it for it, told in answers.items() if told is UndoAnswer.UNDONE]
            return undone

        with ThreadPoolExecutor(2) as threads:
            futures = [threads.submit(release), threads.submit(undo)]
            released, undone = (future.result(timeout=60) for future in futures)

        assert sorted(released + undone) == chosen
        assert [id_ for id_ in chosen if world.rows.row(id_).hot_path] == sorted(undone)

    # --- entries -----------------------------------------------------------------------------

    def test_entries_tell_every_receipt_and_how_it_ended(
        self, world: LedgerWorld, claims: Claims
    ) -> None:
        world.rows.plant(page("a"), page("b", minutes=1))
        receipts = self.archive(claims)
        releases = self.pass_grace(world)
        [release] = releases.claim_release(1)
        releases.released([ReleaseEnd(release, Outcome.RELEASED, "was gone already")])
        records = world.worker().records

        one, two = records.entries(SOURCE, EVER, None)

        assert [it.recorded.receipt for it in (one, two)] == receipts
        assert (one.is_pending, two.is_pending) == (False, True)
        assert (one.outcome, one.detail) == (Outcome.RELEASED, "was gone already")
        assert one.ended_at is not None
        assert (two.outcome, two.detail, two.ended_at) == (None, None, None)
        assert list(records.entries(None, EVER, None)) == [one, two]
        assert list(records.entries(SourceName("other"), EVER, None)) == []

    def test_entries_are_of_the_time_asked_for(
        self, world: LedgerWorld, ledger: Ledger, claims: Claims
    ) -> None:
        world.rows.plant(page("a"))
        self.archive(claims)
        [entry] = ledger.records.entries(None, EVER, None)
        at = entry.recorded.archived_at

        assert list(ledger.records.entries(None, at, None)) == [entry]
        assert list(ledger.records.entries(None, EVER, at)) == []
        assert list(ledger.records.entries(None, at + timedelta(microseconds=1), None)) == []

    def test_the_newest_entries_have_each_id_once(
        self, world: LedgerWorld, ledger: Ledger, claims: Claims
    ) -> None:
        world.rows.plant(page("a"), page("b", minutes=1))
        self.archive(claims)
        world.rows.plant(page("a", content=b"newer"))
        other = world.worker()
        again = other.claims(world.rows)
        again.begin()
        [second] = self.archive(again)
        records = ledger.records

        newest = [entry.recorded.receipt for entry in records.newest_entries(SOURCE, EVER)]

        assert [receipt.id for receipt in newest] == ["b", "a"]
        assert newest[1] == second
        mine = records.newest_entries(SOURCE, EVER, None, claims_worker(ledger))
        assert [entry.recorded.receipt.id for entry in mine] == ["a", "b"]
        both = [CandidateId("a"), CandidateId("b"), CandidateId("unknown")]
        found = records.newest_entries_of(both, None)
        assert [entry.recorded.receipt.id for entry in found] == ["a", "b"]
        assert found[0].recorded.receipt == second
        assert list(records.newest_entries_of(both, SourceName("other"))) == []

    # --- outlook and records -----------------------------------------------------------------

    def test_the_outlook_of_an_empty_ledger_is_empty(self, claims: Claims) -> None:
        outlook = claims.outlook()
        assert outlook == type(outlook)()

    def test_the_outlook_tells_what_is_left_and_when_to_look_again(
        self, world: LedgerWorld, claims: Claims
    ) -> None:
        world.rows.plant(*(page(id_) for id_ in ("a", "b", "c", "d")))
        one, two, three = claims.claim(3).claims
        claims.fail([Failure(one, "later", retry_after_seconds=30)])
        claims.fail([Failure(two, "never", is_permanent=True)])
        claims.record([proof(three)])
        claims.claim(1)  # held by this worker itself
        world.rows.plant(page("elsewhere", minutes=9))
        world.worker().claims(world.rows).claim(1)

        outlook = claims.outlook()

        assert (outlook.waiting_count, outlook.parked_count) == (1, 1)
        assert (outlook.elsewhere_count, outlook.pending_release_count) == (1, 1)
        assert outlook.next_due_seconds == pytest.approx(30, abs=5)
        assert outlook.next_release_seconds == pytest.approx(GRACE_SECONDS, abs=5)
        assert outlook.elsewhere_lease_seconds == pytest.approx(LEASE_SECONDS, abs=5)

    def test_what_the_dead_held_is_due_now(self, world: LedgerWorld, claims: Claims) -> None:
        world.rows.plant(page("a"), page("b"))
        self.archive(claims)
        world.rows.plant(page("c"))
        self.pass_grace(world).claim_release(1)
        world.worker().claims(world.rows).claim(1)
        world.pass_time(LEASE_SECONDS + 1)

        outlook = world.worker().claims(world.rows).outlook()

        assert (outlook.next_due_seconds, outlook.next_release_seconds) == (0.0, 0.0)
        assert (outlook.elsewhere_count, outlook.pending_release_count) == (0, 2)

    def test_counts_have_a_line_per_source(
        self, world: LedgerWorld, ledger: Ledger, claims: Claims
    ) -> None:
        assert ledger.records.counts() == []
        world.rows.plant(*(page(id_) for id_ in ("a", "b", "c", "d")))
        one, two, three, _ = claims.claim(9).claims
        claims.record([proof(one)])
        claims.fail([Failure(two, "x"), Failure(three, "y", is_permanent=True)])

        [counts] = ledger.records.counts()

        assert counts.source == SOURCE
        assert (counts.claimed_count, counts.waiting_count, counts.parked_count) == (1, 1, 1)
        assert (counts.archived_count, counts.archived_bytes) == (1, 1000)
        assert (counts.pending_release_count, counts.released_count) == (1, 0)
        assert counts.last_archived_at is not None

    def test_history_tells_of_the_claim_in_motion(
        self, world: LedgerWorld, ledger: Ledger, claims: Claims
    ) -> None:
        world.rows.plant(page("a"))
        claims.fail([Failure(claims.claim(9).claims[0], "cut")])

        [history] = ledger.records.history(CandidateId("a"), None)

        assert (history.claim_state, history.claim_reason) == (ClaimState.WAITING, "cut")
        assert history.claim_location is not None
        assert (history.claim_location.bucket, history.attempts_count) == (BUCKET, 1)
        assert history.next_attempt_at is not None
        assert ledger.records.history(CandidateId("a"), SourceName("other")) == []
        assert ledger.records.history(CandidateId("unknown"), None) == []

    def test_retry_lets_parked_rows_begin_from_zero(
        self, world: LedgerWorld, ledger: Ledger, claims: Claims
    ) -> None:
        world.rows.plant(page("a"), page("b"), page("c"), page("waits"))
        *to_park, waits = claims.claim(9).claims
        claims.fail([Failure(it, "no", is_permanent=True) for it in to_park])
        claims.fail([Failure(waits, "later", retry_after_seconds=50)])

        assert ledger.records.retry(SourceName("other"), None) == 0
        assert ledger.records.retry(SOURCE, [CandidateId("a"), CandidateId("waits")]) == 1
        assert ids(claims.claim(9)) == ["a"]
        assert ledger.records.retry(None, None) == 2
        window = claims.claim(9)
        assert sorted(ids(window)) == ["b", "c"]
        assert [claim.attempts_count for claim in window.claims] == [0, 0]

    def test_parked_rows_are_listed_within_the_limit(
        self, world: LedgerWorld, ledger: Ledger, claims: Claims
    ) -> None:
        world.rows.plant(*(page(f"{number}", path=None) for number in range(5)))
        claims.claim(9)

        assert len(ledger.records.parked(SOURCE, 3)) == 3
        assert ledger.records.parked(SourceName("other"), 3) == []

    def test_the_backlog_is_counted_and_nothing_is_written(
        self, world: LedgerWorld, claims: Claims
    ) -> None:
        world.rows.plant(page("a"), page("b"), page("c"))

        assert claims.count_backlog() == 3
        assert claims.count_backlog() == 3
        assert len(claims.claim(9).claims) == 3

    # --- what another worker archived --------------------------------------------------------

    @pytest.fixture
    def adoptions(self, world: LedgerWorld, ledger: Ledger) -> Adoptions:
        return ledger.adoptions(world.rows)

    def test_rows_without_a_receipt_are_read_in_pages_by_id(
        self, world: LedgerWorld, adoptions: Adoptions
    ) -> None:
        world.rows.plant(*(archived_page(id_) for id_ in "dbaec"), page("hot"))
        seen: list[str] = []
        after = None
        while (read := adoptions.holdings(2, after, unproven=False)).last is not None:
            assert len(read.to_adopt) <= 2
            seen += [it.id for it in read.to_adopt]
            after = read.last

        assert seen == ["a", "b", "c", "d", "e"]
        assert (read.to_adopt, read.known_count) == ((), 0)

    def test_an_adopted_row_is_known_and_its_receipt_is_kept_to_the_letter(
        self, world: LedgerWorld, ledger: Ledger, adoptions: Adoptions
    ) -> None:
        world.rows.plant(archived_page("a"), archived_page("b"))
        read = adoptions.holdings(9, None, unproven=False)
        one = adopted(read.to_adopt[0])

        assert set(adoptions.adopt([one], read.read_at)) == {"a"}

        [history] = ledger.records.history(CandidateId("a"), SOURCE)
        assert (history.receipts, history.claim_state) == ((), None)
        assert [it.adoption for it in history.adopted] == [one]
        again = adoptions.holdings(9, None, unproven=False)
        assert ([it.id for it in again.to_adopt], again.known_count) == (["b"], 1)

    def test_nothing_is_ever_released_against_an_adopted_row(
        self, world: LedgerWorld, adoptions: Adoptions
    ) -> None:
        world.rows.plant(archived_page("a"))
        read = adoptions.holdings(9, None, unproven=False)
        adoptions.adopt([adopted(it) for it in read.to_adopt], read.read_at)
        world.pass_time(10 * GRACE_SECONDS)
        worker = world.worker()

        assert worker.releases(world.rows).claim_release(9) == []
        assert worker.claims(world.rows).outlook().pending_release_count == 0

    def test_adopting_again_changes_nothing_and_answers_the_same(
        self, world: LedgerWorld, ledger: Ledger, adoptions: Adoptions
    ) -> None:
        """A lost COMMIT reply is settled by asking again."""
        world.rows.plant(archived_page("a"), archived_page("b"))
        read = adoptions.holdings(9, None, unproven=False)
        both = [adopted(it) for it in read.to_adopt]

        assert set(adoptions.adopt(both[:1], read.read_at)) == {"a"}
        assert set(adoptions.adopt(both, read.read_at)) == {"a", "b"}
        assert set(adoptions.adopt([], read.read_at)) == set()

        assert ledger.records.counts()[0].adopted_count == 2

    def test_two_processes_that_adopt_the_same_rows_make_one_receipt_each(
        self, world: LedgerWorld, ledger: Ledger
    ) -> None:
        world.rows.plant(*(archived_page(f"{number:03}") for number in range(60)))

        def adopt_all(worker: Ledger) -> set[CandidateId]:
            adoptions = worker.adoptions(world.rows)
            read = adoptions.holdings(99, None, unproven=False)
            found = [adopted(it) for it in read.to_adopt]
            groups = [found[start : start + 7] for start in range(0, len(found), 7)]
            return {id_ for it in groups for id_ in adoptions.adopt(it, read.read_at)}

        workers = [world.worker() for _ in range(3)]
        with ThreadPoolExecutor(3) as threads:
            mine = list(threads.map(adopt_all, workers))

        assert sum(map(len, mine)) == len(set().union(*mine)) == 60
        assert ledger.records.counts()[0].adopted_count == 60

    def test_an_unproven_receipt_is_known_until_it_is_to_be_proven(
        self, world: LedgerWorld, ledger: Ledger, adoptions: Adoptions
    ) -> None:
        world.rows.plant(archived_page("a"), archived_page("b"))
        read = adoptions.holdings(9, None, unproven=True)
        unread: dict[str, object] = {"digest": None, "evidence": Evidence.UNPROVEN}
        adoptions.adopt([adopted(it, **unread) for it in read.to_adopt], read.read_at)

        assert adoptions.holdings(9, None, unproven=True).known_count == 2
        [before] = ledger.records.counts()
        assert (before.archived_count, before.adopted_count, before.unproven_count) == (2, 2, 2)

        read = adoptions.holdings(1, None, unproven=False)
        assert [it.id for it in read.to_adopt] == ["a"]
        assert set(adoptions.adopt([adopted(read.to_adopt[0])], read.read_at)) == {"a"}

        [after] = ledger.records.counts()
        assert (after.archived_count, after.archived_bytes) == (2, 1400)
        assert (after.adopted_count, after.unproven_count) == (2, 1)
        [history] = ledger.records.history(CandidateId("a"), None)
        evidence = [it.adoption.evidence for it in history.adopted]
        assert evidence == [Evidence.READBACK, Evidence.UNPROVEN]

    def test_what_this_ledger_archived_needs_no_adoption(
        self, world: LedgerWorld, claims: Claims, adoptions: Adoptions
    ) -> None:
        world.rows.plant(page("a"))
        [claim] = claims.claim(9).claims
        own_key = ColdKey(f"prefix/{claim.candidate.cold_key}")
        claims.record([proof(claim, cold=ColdLocation("r2", COLD_BUCKET, own_key))])

        read = adoptions.holdings(9, None, unproven=False)

        assert (read.to_adopt, read.known_count) == ((), 1)

    def test_a_row_archived_anew_meanwhile_keeps_its_newest_receipt(
        self, world: LedgerWorld, ledger: Ledger, claims: Claims, adoptions: Adoptions
    ) -> None:
        world.rows.plant(archived_page("a"))
        read = adoptions.holdings(9, None, unproven=False)
        world.rows.plant(page("a", content=b"captured again"))
        [claim] = claims.claim(9).claims
        new_key = ColdKey("prefix/jobs/a.new.html.gz")
        claims.record([proof(claim, cold=ColdLocation("r2", COLD_BUCKET, new_key))])

        assert set(adoptions.adopt([adopted(read.to_adopt[0])], read.read_at)) == set()

        [history] = ledger.records.history(CandidateId("a"), None)
        assert (len(history.receipts), history.adopted) == (1, ())

    def test_an_adopted_row_that_is_captured_again_is_claimed_and_archived_as_any(
        self, world: LedgerWorld, ledger: Ledger, claims: Claims, adoptions: Adoptions
    ) -> None:
        world.rows.plant(archived_page("a"))
        read = adoptions.holdings(9, None, unproven=False)
        adoptions.adopt([adopted(read.to_adopt[0])], read.read_at)
        world.rows.plant(page("a", content=b"captured again"))

        [claim] = claims.claim(9).claims
        assert claims.record([proof(claim)]) == [Answer.ACCEPTED]

        [history] = ledger.records.history(CandidateId("a"), None)
        assert (len(history.receipts), len(history.adopted)) == (1, 1)
        [counts] = ledger.records.counts()
        assert (counts.archived_count, counts.adopted_count) == (2, 1)

    def test_adoptions_are_listed_by_time_apart_from_what_was_moved(
        self, world: LedgerWorld, ledger: Ledger, claims: Claims, adoptions: Adoptions
    ) -> None:
        world.rows.plant(page("moved"), archived_page("a"), archived_page("b"))
        claims.record([proof(it) for it in claims.claim(9).claims])
        read = adoptions.holdings(9, None, unproven=False)
        for it in read.to_adopt:
            if it.id != "moved":
                adoptions.adopt([adopted(it)], read.read_at)
        records = ledger.records

        one, two = records.adoptions(SOURCE, EVER, None)

        assert (one.adoption.id, two.adoption.id) == ("a", "b")
        assert one.adopted_at <= two.adopted_at
        assert list(records.adoptions(None, EVER, None)) == [one, two]
        assert list(records.adoptions(SourceName("other"), EVER, None)) == []
        assert list(records.adoptions(None, EVER, one.adopted_at)) == []
        assert [it.recorded.receipt.id for it in records.entries(None, EVER, None)] == ["moved"]
        assert list(records.newest_entries_of([CandidateId("a")], None)) == []
        newest = records.newest_entries(SOURCE, EVER)
        assert [it.recorded.receipt.id for it in newest] == ["moved"]

    def test_a_later_adoption_hides_no_move_from_an_undo(
        self, world: LedgerWorld, ledger: Ledger, claims: Claims, adoptions: Adoptions
    ) -> None:
        """Another archiver had the row meanwhile: the undo must come to say so."""
        world.rows.plant(page("a"))
        claims.record([proof(it) for it in claims.claim(9).claims])
        world.rows.plant(archived_page("a"))
        read = adoptions.holdings(9, None, unproven=False)
        found = [adopted(it) for it in read.to_adopt]
        assert set(adoptions.adopt(found, read.read_at + timedelta(hours=1))) == {"a"}

        [of_id] = ledger.records.newest_entries_of([CandidateId("a")], None)
        [since] = ledger.records.newest_entries(SOURCE, EVER)
        assert of_id.is_pending
        assert of_id.recorded == since.recorded
        [told] = ledger.releases(world.rows).undo([of_id.recorded], 60.0, lambda _: {})
        assert told.answer is UndoAnswer.CHANGED

    def test_a_worker_whose_lease_ran_out_adopts_nothing(
        self, world: LedgerWorld, ledger: Ledger, adoptions: Adoptions
    ) -> None:
        world.rows.plant(archived_page("a"))
        read = adoptions.holdings(9, None, unproven=False)
        world.pass_time(LEASE_SECONDS + 1)

        with pytest.raises(LeaseLost):
            adoptions.adopt([adopted(it) for it in read.to_adopt], read.read_at)

        assert ledger.records.counts() == []

    # --- the source's own --------------------------------------------------------------------

    def test_housekeeping_stays_and_a_check_of_the_source_does_not(
        self, world: LedgerWorld, ledger: Ledger, claims: Claims
    ) -> None:
        assert claims.housekeeping(everything=True) == {"houses_kept": 2}
        assert list(ledger.check_source(world.rows)) == ["a warning"]

        assert world.rows.kept_house_count == 1

    # --- the fleet ---------------------------------------------------------------------------

    def test_a_probe_is_remembered_by_all_for_seven_days(
        self, world: LedgerWorld, ledger: Ledger
    ) -> None:
        found = Capabilities(
            enforces_signed_digest=True,
            enforces_create=False,
            returns_digest=True,
            etag_is_md5=True,
            enforces_signed_parts=False,
            keeps_refused_parts=True,
        )
        assert ledger.fleet.recall("r2") is None
        ledger.fleet.remember("r2", Capabilities(False, False, False))  # noqa: FBT003
        ledger.fleet.remember("r2", found)

        assert world.worker().fleet.recall("r2") == found
        world.pass_time(7 * 86400 + 1)
        assert ledger.fleet.recall("r2") is None

    def test_workers_are_listed_with_what_they_hold(self, world: LedgerWorld) -> None:
        world.rows.plant(page("a"), page("b"))
        dead = world.worker()
        dead.claims(world.rows).claim(9)
        world.pass_time(LEASE_SECONDS + 1)
        alive = world.worker()

        listed = alive.fleet.workers()

        assert [(it.is_alive, it.claims_count) for it in listed] == [(True, 0), (False, 2)]
        assert listed[0].lease_until > listed[1].lease_until

    def test_a_worker_that_left_is_listed_only_while_it_left_something_behind(
        self, world: LedgerWorld
    ) -> None:
        world.rows.plant(page("a"))
        tidy, untidy = world.worker(), world.worker()
        untidy.claims(world.rows).claim(9)
        tidy.fleet.leave()
        untidy.fleet.leave()

        assert [it.claims_count for it in tidy.fleet.workers()] == [1]

    def test_a_worker_is_listed_with_what_it_moves(self, world: LedgerWorld) -> None:
        world.rows.plant(page("a"), page("b"))
        worker = world.worker()
        worker.claims(world.rows).claim(9)

        assert [it.moving for it in worker.fleet.workers()] == [{SOURCE: 2}]

    def test_a_beat_tells_how_long_ago_a_worker_got_on(self, world: LedgerWorld) -> None:
        worker = world.worker()
        (joined,) = worker.fleet.workers()
        world.pass_time(10)

        worker.fleet.beat(idle_seconds=7)

        (beaten,) = worker.fleet.workers()
        assert joined.progressed_at == joined.started_at
        between = (beaten.lease_until - beaten.progressed_at).total_seconds()
        assert round(between) == LEASE_SECONDS + 7

    @pytest.mark.parametrize("what", [Pause.ALL, Pause.RELEASES])
    def test_what_is_paused_is_told_with_the_next_lease(
        self, world: LedgerWorld, what: Pause
    ) -> None:
        works, asks = world.worker(), world.worker()
        assert works.fleet.beat().pause is Pause.NOTHING

        asks.fleet.pause(what)
        assert (works.fleet.beat().pause, works.fleet.paused()) == (what, what)
        assert works.fleet.join().pause is what

        asks.fleet.pause(Pause.NOTHING)
        assert works.fleet.beat().pause is works.fleet.paused() is Pause.NOTHING

    def test_a_pause_replaces_what_was_asked_before(self, ledger: Ledger) -> None:
        for what in (Pause.ALL, Pause.RELEASES, Pause.RELEASES, Pause.ALL, Pause.ALL):
            ledger.fleet.pause(what)
            assert ledger.fleet.paused() is what

    def test_sweeps_are_kept_newest_first_with_how_they_ended(
        self, world: LedgerWorld, ledger: Ledger
    ) -> None:
        fleet, other = ledger.fleet, SourceName("others")
        ended = fleet.sweep_began(SOURCE)
        summary = Summary(state="stopped", stopped="limit", archived=3, error="why")
        fleet.sweep_ended(ended, summary)
        fleet.sweep_ended(ended, Summary())  # a repeated call: the first end stays
        under_way = world.worker().fleet.sweep_began(other)

        assert [it.sweep_id for it in fleet.sweeps(None, 9)] == [under_way, ended]
        assert [it.sweep_id for it in fleet.sweeps(None, 1)] == [under_way]
        (told,) = fleet.sweeps(SOURCE, 9)
        assert (told.source, told.summary) == (SOURCE, summary)
        assert told.ended_at is not None
        assert told.started_at <= told.ended_at
        (told,) = fleet.sweeps(other, 9)
        assert (told.ended_at, told.summary) == (None, None)
        assert fleet.sweep(under_way) == told
        assert fleet.sweep(SweepId(under_way + 999)) is None

    def test_all_workers_know_the_same_ledger(self, world: LedgerWorld) -> None:
        assert world.worker().fleet.ledger_id == world.worker().fleet.ledger_id != ""

    # --- spending ----------------------------------------------------------------------------

    def test_g10_a_ledger_found_in_another_database_is_told_and_joined_by_nobody(
        self, world: LedgerWorld, ledger: Ledger
    ) -> None:
        found_in = ledger.fleet.identity().found_in
        other_system = (found_in.system_identifier or 0) + 1
        for name, system in (("production", None), (found_in.name, other_system)):
            world.set_home(name=name, system=system)
            assert not ledger.fleet.identity().is_at_home
            with pytest.raises(ForeignDatabase) as refused:
                ledger.fleet.join()
            assert refused.value.found == str(found_in)
            assert len(ledger.fleet.workers()) == 1
        world.set_home(name=found_in.name, system=found_in.system_identifier)
        ledger.fleet.join()

    def test_a_server_that_does_not_tell_its_system_is_compared_by_name_alone(
        self, world: LedgerWorld, ledger: Ledger
    ) -> None:
        world.set_home(name=ledger.fleet.identity().found_in.name, system=None)
        assert ledger.fleet.identity().is_at_home
        ledger.fleet.join()

    def test_a_stamp_is_known_before_it_is_put_and_the_same_to_all_until_it_is_seen(
        self, world: LedgerWorld, ledger: Ledger
    ) -> None:
        stamps, others = ledger.stamps(SOURCE), world.worker().stamps(SOURCE)
        nothing = stamps.known(PLACE)
        assert (nothing.last, nothing.intended) == (None, None)

        first = stamps.intend(PLACE)

        assert first is not None
        assert (first.number, first.source) == (1, SOURCE)
        assert first.ledger_id == nothing.ledger_id == ledger.fleet.ledger_id
        assert others.known(PLACE) == replace(nothing, intended=first)
        assert others.intend(PLACE) == first

        others.confirm(PLACE, first)
        stamps.confirm(PLACE, first)

        assert stamps.known(PLACE) == replace(nothing, last=first)
        assert stamps.intend(PLACE) is None

    def test_the_next_stamp_is_due_a_day_after_the_last_was_seen(
        self, world: LedgerWorld
    ) -> None:
        stamps = world.worker().stamps(SOURCE)
        first = stamps.intend(PLACE)
        assert first is not None
        stamps.confirm(PLACE, first)
        world.pass_time(A_DAY_SECONDS - 60)
        stamps = world.worker().stamps(SOURCE)
        assert stamps.intend(PLACE) is None
        world.pass_time(61)
        stamps = world.worker().stamps(SOURCE)

        second = stamps.intend(PLACE)

        assert second is not None
        assert (second.number, second.nonce != first.nonce) == (2, True)
        assert (stamps.known(PLACE).last, stamps.known(PLACE).intended) == (first, second)

    def test_each_source_and_each_cold_place_has_stamps_of_its_own(
        self, ledger: Ledger
    ) -> None:
        stamps = ledger.stamps(SOURCE)
        first = stamps.intend(PLACE)
        assert first is not None
        stamps.confirm(PLACE, first)
        for place in (
            replace(PLACE, prefix=""),
            replace(PLACE, bucket="other"),
            replace(PLACE, provider="r2"),
        ):
            assert stamps.known(place).last is None
        assert ledger.stamps(SourceName("avatars")).known(PLACE).last is None

    def test_workers_that_intend_a_stamp_at_once_get_the_same(self, world: LedgerWorld) -> None:
        workers = [world.worker() for _ in range(4)]
        together = Barrier(len(workers), timeout=60)

        def intend(worker: Ledger) -> object:
            together.wait()
            return worker.stamps(SOURCE).intend(PLACE)

        with ThreadPoolExecutor(len(workers)) as threads:
            intended = set(threads.map(intend, workers))

        assert len(intended) == 1
        assert None not in intended

    def test_a_worker_without_a_lease_stamps_nothing(self, world: LedgerWorld) -> None:
        late = world.worker().stamps(SOURCE)
        first = late.intend(PLACE)
        assert first is not None
        world.pass_time(LEASE_SECONDS + 1)
        with pytest.raises(LeaseLost):
            late.confirm(PLACE, first)
        with pytest.raises(LeaseLost):
            late.intend(PLACE)
        assert late.known(PLACE).last is None

    def test_g10_a_take_over_raises_the_epoch_and_fences_off_every_worker(
        self, world: LedgerWorld, claims: Claims, ledger: Ledger
    ) -> None:
        world.rows.plant(page("1"))
        window = claims.claim(10)
        assert ledger.fleet.fenced_lease_seconds() == 0
        before = ledger.fleet.identity()
        world.set_home(name="elsewhere")

        epoch = ledger.fleet.take_over([FoundStamp(SOURCE, PLACE, number=7, epoch=41)])

        assert epoch == 42
        after = ledger.fleet.identity()
        assert (after.epoch, after.is_at_home) == (42, True)
        assert (after.home, after.ledger_id) == (before.found_in, before.ledger_id)
        assert 0 < ledger.fleet.fenced_lease_seconds() <= LEASE_SECONDS
        with pytest.raises(LeaseLost):
            ledger.fleet.beat()
        with pytest.raises(LeaseLost):
            claims.record([proof(it) for it in window.claims])
        with pytest.raises(LeaseLost):
            ledger.stamps(SOURCE).intend(PLACE)
        fresh = world.worker()
        assert fresh.claims(world.rows).claim(10).claims == ()  # until that lease is over
        world.pass_time(LEASE_SECONDS + 1)
        assert ledger.fleet.fenced_lease_seconds() == 0
        assert ids(world.worker().claims(world.rows).claim(10)) == ["1"]

    def test_a_take_over_intends_a_stamp_above_what_was_found_and_what_is_known(
        self, world: LedgerWorld, ledger: Ledger
    ) -> None:
        stamps = ledger.stamps(SOURCE)
        first = stamps.intend(PLACE)
        assert first is not None
        stamps.confirm(PLACE, first)

        ledger.fleet.take_over([FoundStamp(SOURCE, PLACE, number=7, epoch=1)])

        known = stamps.known(PLACE)
        assert (known.last, known.overrules) == (first, True)
        assert known.intended is not None
        assert (known.intended.number, known.intended.epoch) == (8, 2)
        ledger.fleet.take_over([FoundStamp(SOURCE, PLACE, number=0, epoch=0)])
        again = stamps.known(PLACE).intended
        assert again is not None
        assert (again.number, again.epoch) == (9, 3)
        stamps = world.worker().stamps(SOURCE)
        assert stamps.intend(PLACE) == again
        stamps.confirm(PLACE, again)
        assert (stamps.known(PLACE).last, stamps.known(PLACE).intended) == (again, None)

    def test_a_budget_grants_what_it_has_room_for_and_then_nothing(
        self, ledger: Ledger
    ) -> None:
        granted = [ledger.spending.reserve(60, BUDGET) for _ in range(3)]
        assert granted == [60, 40, 0]
        assert ledger.spending.reserve(0, BUDGET) == 0

    def test_all_workers_spend_from_one_budget(self, world: LedgerWorld) -> None:
        one, other = world.worker(), world.worker()
        one.spending.reserve(70, BUDGET)
        assert other.spending.reserve(70, BUDGET) == 30
        assert one.spending.spent(BUDGET).left_bytes == 0

    def test_what_was_not_read_can_be_spent_again(self, world: LedgerWorld) -> None:
        one, other = world.worker(), world.worker()
        one.spending.reserve(100, BUDGET)
        one.spending.settle(45)
        assert other.spending.spent(BUDGET).spent_bytes == 55
        assert other.spending.reserve(100, BUDGET) == 45

    def test_what_a_worker_died_with_counts_as_spent(self, world: LedgerWorld) -> None:
        world.worker().spending.reserve(80, BUDGET)
        world.pass_time(LEASE_SECONDS + 1)
        assert world.worker().spending.reserve(80, BUDGET) == 20

    def test_a_debt_counts_room_or_not_and_is_worked_off_first(self, ledger: Ledger) -> None:
        ledger.spending.reserve(100, BUDGET)
        ledger.spending.settle(-30)
        assert ledger.spending.spent(BUDGET).spent_bytes == 130
        ledger.spending.settle(50)
        assert ledger.spending.reserve(100, BUDGET) == 20

    def test_no_more_is_given_back_than_was_spent(self, ledger: Ledger) -> None:
        ledger.spending.reserve(10, BUDGET)
        ledger.spending.settle(1000)
        assert ledger.spending.spent(BUDGET).spent_bytes == 0
        assert ledger.spending.reserve(1000, BUDGET) == 100

    def test_what_was_spent_leaves_with_its_window_and_not_before(
        self, world: LedgerWorld, ledger: Ledger
    ) -> None:
        ledger.spending.reserve(60, BUDGET)
        world.pass_time(1800)
        assert ledger.spending.reserve(60, BUDGET) == 40
        world.pass_time(1799)
        assert ledger.spending.reserve(60, BUDGET) == 0
        world.pass_time(SPENT_FOR_SECONDS - 3599 + 1)
        assert ledger.spending.spent(BUDGET).spent_bytes == 40
        assert ledger.spending.reserve(100, BUDGET) == 60
        world.pass_time(SPENT_FOR_SECONDS + 1)
        assert ledger.spending.reserve(100, BUDGET) == 100

    def test_what_is_given_back_is_the_latest_spending(
        self, world: LedgerWorld, ledger: Ledger
    ) -> None:
        """Else the oldest would leave the books before it leaves the window."""
        ledger.spending.reserve(50, BUDGET)
        world.pass_time(1800)
        ledger.spending.reserve(50, BUDGET)
        ledger.spending.settle(50)
        world.pass_time(SPENT_FOR_SECONDS - 1800 + 1)
        assert ledger.spending.spent(BUDGET).spent_bytes == 0

    def test_a_longer_window_remembers_more(self, world: LedgerWorld, ledger: Ledger) -> None:
        ledger.spending.reserve(60, BUDGET)
        world.pass_time(SPENT_FOR_SECONDS + 1)
        a_day = replace(BUDGET, window_seconds=86400.0)
        assert ledger.spending.reserve(100, a_day) == 40

    def test_the_next_room_is_told_while_anything_is_spent(self, ledger: Ledger) -> None:
        assert ledger.spending.spent(BUDGET).next_room_at is None
        ledger.spending.reserve(10, BUDGET)
        assert ledger.spending.spent(BUDGET).next_room_at is not None
        ledger.spending.settle(10)
        assert ledger.spending.spent(BUDGET).next_room_at is None

    def test_sizes_of_years_fit(self, ledger: Ledger) -> None:
        large = EgressBudget(10**18, 366 * 86400.0)
        assert ledger.spending.reserve(10**18, large) == 10**18
        assert ledger.spending.reserve(1, large) == 0

    def test_workers_that_reserve_at_once_never_get_more_than_there_is(
        self, world: LedgerWorld
    ) -> None:
        workers = [world.worker() for _ in range(4)]
        together = Barrier(len(workers), timeout=60)

        def reserve(worker: Ledger) -> int:
            together.wait()
            return worker.spending.reserve(60, BUDGET)

        with ThreadPoolExecutor(len(workers)) as threads:
            for _ in range(15):
                granted = list(threads.map(reserve, workers))
                assert sorted(granted) == [0, 0, 40, 60]
                workers[0].spending.settle(100)

        assert workers[0].spending.spent(BUDGET).spent_bytes == 0


def claims_worker(ledger: Ledger) -> WorkerId:
    return ledger.fleet.beat().worker


def _by_id(failures: Sequence[Failure], answers: Sequence[FailAnswer]) -> dict[str, FailAnswer]:
    return dict(zip(ids([failure.claim for failure in failures]), answers, strict=True))


def _release_ids(releases: Sequence[Release]) -> list[str]:
    return [release.recorded.receipt.id for release in releases]
