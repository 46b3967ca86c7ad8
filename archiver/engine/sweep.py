"""One sweep of one source: claim, move, prove, record, and let go beside it.

Read this first, then `move.py`. The loop below owns all state and is the only caller of the
ledger; threads of the pool read, put, look and delete, and their results come home in
`pool.turn`. Every step may be the last one before a crash: what was sent is found again,
what was recorded is released later, what was claimed is taken over.
"""

from __future__ import annotations

from collections import Counter, deque
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Protocol

from archiver.engine.egress import Purse
from archiver.engine.failing import Failing
from archiver.engine.leftovers import Leftovers
from archiver.engine.letting_go import LettingGo
from archiver.engine.recording import Recording
from archiver.errors import (
    ArchiverError,
    FatalError,
    LeaseLost,
    LedgerUnavailable,
    NoEgressLeft,
    PermanentError,
    StoreDenied,
    StoreUnavailable,
)
from archiver.events import (
    CandidatesClaimed,
    Draining,
    Housekept,
    IdleSweepEnded,
    NothingDue,
    SweepEnded,
    SweepFailed,
    SweepStarted,
)
from archiver.model import ColdKey, Pause

if TYPE_CHECKING:
    from collections.abc import Iterator

    from archiver.engine.copies import Stores
    from archiver.engine.move import Mover
    from archiver.engine.release import Releaser
    from archiver.engine.run import Run
    from archiver.model import Claim, Outlook, Sent, Summary

_TURN_SECONDS = 0.25  # at most between two looks at the wish to stop
# Moves submitted beyond the width, so that no thread idles while the ledger is asked: three a
# thread, and what a fast store moves in the third of a second that a claim or a record takes.
_QUEUED_PER_THREAD = 3
_QUEUED_AT_LEAST = 200


class Workshop(Protocol):
    """Opens the stores: only once there is something to do."""

    def stores(self) -> Stores: ...

    def mover(self) -> Mover: ...

    def releaser(self) -> Releaser: ...

    def hurry(self, seconds: float) -> None:
        """The sweep ends within so long: nobody need wait whose turn would come too late."""


class Again(Protocol):
    """Submits work on a claim once more."""

    def __call__(self, claim: Claim, /, *, ahead: bool) -> None: ...


class Sweep:
    """Run once."""

    def __init__(self, run: Run, workshop: Workshop) -> None:
        self._run = run
        self._workshop = workshop
        self._stop = run.asked
        self._failing = Failing(run, self)
        self._recording = Recording(run, self._failing)
        self._purse = Purse(run)
        self._letting_go = LettingGo(run, self._open_releaser, self._purse)
        self._leftovers = Leftovers(run, workshop.mover)
        self._stores: Stores | None = None
        self._ready: deque[Claim] = deque()
        self._moving: dict[int, Claim] = {}  # by token number
        self._alone: Claim | None = None  # its workers kept dying: nothing else moves beside
        self._passed_over: list[Claim] = []  # larger than the egress budget; kept to the end
        self._claimed_count = 0
        self._has_found = False  # anything to claim or to park
        self._ended_at: dict[int, float] = {}  # written by the thread that moved it
        self._moving_bytes = 0
        self._sent_bytes = 0
        self._is_drained = False
        self._is_limited = False  # MAX_OBJECTS or MAX_BYTES: what is claimed is finished
        self._patient_until: float | None = None
        self._takeover_until: float | None = None
        self._last_progress = 0
        self._last_given_back = 0

    def __call__(self, *, everything: bool) -> Summary:
        """Drain what is due. Every failure that stops the sweep is in the summary."""
        run, began_at = self._run, self._run.clock.monotonic()
        run.observe(SweepStarted(run.source, run.width.setting, run.plan.release))
        run.width.begin()
        run.widen(None)
        failure: ArchiverError | None = None
        try:
            self._housekeep(everything=everything)
            run.ledger("begin", run.claims.begin)
            self._leftovers.step()
            self._purse.open()
            self._letting_go.step()  # its canary first: moves would take all there is
            while not self._is_over():
                self._step()
            if run.is_ending:
                self._drain()
            elif not self._has_found:
                run.observe(NothingDue(run.source))
            if run.tally.archived and run.fatal is None:
                self._housekeep(everything=False)
        except ArchiverError as error:  # no failure of one sweep is another one's
            failure = error
            self._abandon(error)
        self._purse.settle()
        if run.fatal is not None and failure is None:
            run.observe(SweepFailed(run.source, str(run.fatal)))
        return self._ended(run.clock.monotonic() - began_at, failure)

    # --- one step ----------------------------------------------------------------------------

    def _step(self) -> None:
        self._fill()
        self._dispatch()
        self._adjust()
        is_idle = not self._moving and not self._ready
        self._recording.step(self._stores, is_idle=is_idle)
        self._failing.flush(is_last=self._nothing_moves)
        given_back = self._failing.given_back_count
        if given_back != self._last_given_back:
            self._claimed_count -= given_back - self._last_given_back
            self._last_given_back = given_back
            self._is_drained = self._is_limited = False  # what went back can be claimed again
        recorded = self._recording.recorded_count
        if recorded != self._last_progress:
            self._last_progress = recorded
            self._patient_until = self._takeover_until = None
            self._letting_go.look_now()
        self._letting_go.step()
        if self._run.pool.under_way_count and self._run.pool.turn(_TURN_SECONDS):
            self._run.heartbeat.progressed()

    def _fill(self) -> None:
        """Claim the next window while this one is in flight."""
        plan = self._run.plan
        if (
            self._is_drained
            or self._is_limited
            or self._is_out_of_egress
            or self._alone is not None
            or self._failing.breaker.is_open
            or len(self._ready) >= self._run.width.current
            or self._failing.suspects_count >= plan.batch_size
        ):
            return
        limit = plan.batch_size
        if plan.max_objects is not None:
            limit = min(limit, plan.max_objects - self._claimed_count)
        if limit <= 0 or self._has_moved_enough_bytes:
            self._is_limited = True
            return
        self._claim(limit)

    def _claim(self, limit: int) -> None:
        run = self._run
        window = run.ledger("claim", partial(run.claims.claim, limit))
        run.tally.parked += window.parked_count
        self._is_drained = window.is_drained
        if window.claims or window.parked_count:
            self._has_found = True
            claimed = CandidatesClaimed(run.source, len(window.claims), window.parked_count)
            run.observe(claimed)
        self._claimed_count += len(window.claims)
        if window.must_run_alone:
            (self._alone,) = window.claims
        else:
            self._ready.extend(window.claims)

    def _dispatch(self) -> None:
        """Hand claims to the pool: as many as it can chew, one while a store is on trial."""
        breaker, now = self._failing.breaker, self._run.clock.monotonic()
        if self._is_out_of_egress:
            self._give_back_ready(keep=0)
            self._give_back_alone()
            return
        if breaker.is_open:
            self._give_back_ready(keep=1)
            is_deciding = self._moving or self._failing.is_probing
            if not is_deciding and breaker.lets_one_through(now):
                self._try_one()
            return
        if self._letting_go.is_to_read_first:
            return
        if (self._ready or self._alone) and not self._has_opened():
            self._give_back_ready(keep=0)
            return
        if self._ready:
            self._purse.refill()
        while self._ready and len(self._moving) < self._most_moving_count:
            if self._has_moved_enough_bytes:
                self._is_limited = True
                self._give_back_ready(keep=0)
                return
            self._start(self._ready.popleft())
        if self._alone is not None and not self._moving and not self._ready:
            self._start(self._alone)

    def _adjust(self) -> None:
        """Let the width follow what comes home, where it is not fixed."""
        run, now = self._run, self._run.clock.monotonic()
        is_full = len(self._moving) >= run.width.current and not self._failing.breaker.is_open
        if (change := run.width.look(now, is_full=is_full)) is not None:
            run.widen(change)

    def _try_one(self) -> None:
        if not self._ready and self._alone is None:
            self._claim(1)
        claim = self._ready.popleft() if self._ready else self._alone
        if claim is None:
            self._failing.breaker.close()  # nothing to try it with: nothing is due
        elif not self._has_opened():
            self._failing.give_back(claim)
            self._alone = None
        else:
            self._failing.breaker.try_with(claim)
            self._start(claim)

    def _has_opened(self) -> bool:
        """Open the stores, unless they are; False where one does not answer now."""
        if self._stores is None:
            try:
                with _opening():
                    self._stores = self._workshop.stores()
            except StoreUnavailable as error:
                self._failing.store_is_down(error)
                return False
        return True

    def _open_releaser(self) -> Releaser:
        with _opening():
            return self._workshop.releaser()

    def _start(self, claim: Claim) -> None:
        self._moving[claim.token.number] = claim
        self._moving_bytes += claim.candidate.size_bytes or 0
        self._move(claim)

    def _is_stopping(self) -> bool:
        """Whether a large object is to be left where it is; read by the threads."""
        return self._run.is_ending or self._stop.reason is not None

    def _move(self, claim: Claim, *, ahead: bool = False) -> None:
        mover, breaker = self._workshop.mover(), self._failing.breaker

        def move() -> Sent | None:
            is_held = breaker.is_open and not breaker.is_trial(claim)  # queued before that
            if is_held or self._run.is_ending:
                return None
            try:
                return mover.move(claim, self._is_stopping)
            finally:
                self._ended_at[claim.token.number] = self._run.clock.monotonic()

        def moved(sent: Sent | None) -> None:
            if sent is None:
                self._home(claim)
                self._failing.give_back(claim)
            else:
                self._moved(sent)

        self._run.pool.submit(move, moved, partial(self._not_moved, claim), ahead=ahead)

    # --- what comes home ---------------------------------------------------------------------

    def _moved(self, sent: Sent) -> None:
        self._home(sent.claim)
        bucket = sent.claim.candidate.location.bucket
        self._failing.moved(bucket, read_hot=not sent.is_recovered)
        self._sent_bytes += 0 if sent.was_there else sent.size_bytes
        self._recording.sent(sent)

    def _not_moved(self, claim: Claim, error: ArchiverError) -> None:
        if isinstance(error, NoEgressLeft):
            self._refused(claim, error, self._move)
        else:
            self._home(claim)
            self._failing.failed(claim, error)

    def _refused(self, claim: Claim, error: NoEgressLeft, again: Again) -> None:
        """It was not read: at once where the budget has room now, else by a later sweep."""
        if not self._run.is_ending and self._purse.affords(error):
            again(claim, ahead=True)  # of those behind it, which would take its room
            return
        self._home(claim)
        if self._run.is_ending or self._purse.is_spent:
            self._failing.give_back(claim)
        else:
            self._passed_over.append(claim)

    def _home(self, claim: Claim) -> None:
        del self._moving[claim.token.number]
        self._moving_bytes -= claim.candidate.size_bytes or 0
        if (ended_at := self._ended_at.pop(claim.token.number, None)) is not None:
            self._run.width.ended(ended_at)
        if claim is self._alone:
            self._alone = None

    def probe_bucket(self, bucket: str) -> None:
        """For `Failing`: is the bucket there, and ours?"""
        self._run.pool.submit(
            partial(self._workshop.stores().hot.probe, bucket),
            lambda _: self._failing.store_answers(bucket),
            partial(self._failing.bucket_is_refused, bucket),
            ahead=True,
        )

    def probe_cold(self, claim: Claim) -> None:
        """For `Failing`: does the cold store answer?"""
        cold = self._workshop.stores().cold
        key = ColdKey(cold.path_prefix + claim.candidate.cold_key)

        def refused(error: ArchiverError) -> None:
            if isinstance(error, StoreUnavailable):
                self._failing.cold_is_down(error)
            else:
                self._failing.cold_answers()

        self._run.pool.submit(
            partial(cold.stat_many, [key]),
            lambda _: self._failing.cold_answers(),
            refused,
            ahead=True,
        )

    def recover(self, claim: Claim) -> None:
        """For `Failing`: the hot object is missing; does cold provably hold it?"""
        self._moving[claim.token.number] = claim
        self._moving_bytes += claim.candidate.size_bytes or 0
        self._recover(claim)

    def _recover(self, claim: Claim, *, ahead: bool = False) -> None:
        def not_recovered(error: ArchiverError) -> None:
            if isinstance(error, NoEgressLeft):
                self._refused(claim, error, self._recover)
            else:
                self._home(claim)
                self._failing.not_recovered(claim, error)

        recover = partial(self._workshop.mover().recover, claim)
        self._run.pool.submit(recover, self._moved, not_recovered, ahead=ahead)

    # --- the end -----------------------------------------------------------------------------

    def _is_over(self) -> bool:
        run = self._run
        if self._stop.reason is not None:
            run.stop(self._stop.reason)
        if run.pause is Pause.ALL:
            run.stop("paused")
        if run.is_ending:
            return True
        if run.pool.under_way_count:
            return False
        if not self._recording.is_empty:
            self._rest(self._recording.seconds_until_busy() or 0.0)
            return False
        if self._failing.breaker.is_open and not self._is_out_of_egress:
            self._rest(self._failing.breaker.seconds_left(run.clock.monotonic()))
            return False
        if not self._nothing_moves:
            return False
        if not self._letting_go.found_nothing:
            if (seconds := self._letting_go.seconds_until_look()) > 0:
                self._rest(seconds)
            return False
        if not self._failing.is_empty:  # the last to come home failed: the next step tells
            return False
        if self._is_limited or self._is_out_of_egress:
            self._look_out()
            run.stop("budget" if self._is_out_of_egress else "limit")
            return True
        if not self._is_drained or self._is_worth_waiting():
            return False
        if self._passed_over or self._letting_go.lacks_egress:
            run.stop("budget")
        return True

    @property
    def _is_out_of_egress(self) -> bool:
        """The budget is spent, or as many as may be claimed are larger than all of it."""
        is_spent = self._purse.is_spent or self._purse.is_short
        return is_spent or len(self._passed_over) >= self._run.plan.batch_size

    @property
    def _nothing_moves(self) -> bool:
        return not (
            self._moving or self._ready or self._alone or self._run.pool.under_way_count
        )

    @property
    def _most_moving_count(self) -> int:
        """How many moves may be begun or queued."""
        width = self._run.width.current
        queued_count = width * _QUEUED_PER_THREAD
        if self._run.plan.max_bytes is None:  # an object without a size counts once it is sent
            queued_count = max(queued_count, _QUEUED_AT_LEAST)
        return width + queued_count

    @property
    def _has_moved_enough_bytes(self) -> bool:
        limit = self._run.plan.max_bytes
        return limit is not None and self._sent_bytes + self._moving_bytes >= limit

    def _is_worth_waiting(self) -> bool:
        """Wait for retries that fall due, releases whose grace ends, claims of the dead."""
        plan, now = self._run.plan, self._run.clock.monotonic()
        outlook = self._look_out()
        if self._patient_until is None:
            self._patient_until = now + plan.retry_wait_seconds
        if self._takeover_until is None:
            self._takeover_until = now + plan.takeover_wait_seconds
        waits = []
        due = [outlook.next_due_seconds]
        if self._letting_go.may_look:
            due.append(outlook.next_release_seconds)
        waits += [s for s in due if s is not None and now + s <= self._patient_until]
        if outlook.elsewhere_count and now < self._takeover_until:
            waits.append(min(1.0, self._takeover_until - now))
        if not waits:
            return False
        self._wait(min(waits))
        self._is_drained = False
        self._letting_go.look_now()
        return True

    def _look_out(self) -> Outlook:
        outlook = self._run.ledger("outlook", self._run.claims.outlook)
        self._run.tally.elsewhere = outlook.elsewhere_count
        self._run.tally.pending_release = outlook.pending_release_count
        return outlook

    def _wait(self, seconds: float) -> None:
        """Nothing is in flight: ask nobody anything until then, but for the wish to stop."""
        until = self._run.clock.monotonic() + seconds
        while (left := until - self._run.clock.monotonic()) > 0 and not self._stop.reason:
            self._rest(left)

    def _rest(self, seconds: float) -> None:
        """Wait on purpose, while nothing is in flight."""
        self._run.heartbeat.progressed()
        self._run.clock.sleep(min(_TURN_SECONDS, max(0.01, seconds)))

    def _drain(self) -> None:
        """Begin nothing; bring home what is in flight, within the bound; give the rest back."""
        run = self._run
        if isinstance(run.fatal, LeaseLost):
            self._workshop.hurry(0.0)
            return  # the claims may be others' already: nothing is completed or given back
        self._workshop.hurry(run.plan.drain_seconds)
        self._give_back_ready(keep=0)
        if run.stopped in ("signal", "paused", "duration", "window"):
            run.observe(Draining(run.stopped, run.plan.drain_seconds))
        deadline = run.begin_to_drain()
        while self._has_more_to_drain and run.clock.monotonic() < deadline:
            self._recording.step(self._stores, is_idle=not self._moving)
            if run.pool.under_way_count:
                run.pool.turn(_TURN_SECONDS)
            else:
                self._rest(self._recording.seconds_until_busy() or 0.0)
        self._give_back_the_rest()

    @property
    def _has_more_to_drain(self) -> bool:
        return bool(self._run.pool.under_way_count) or not self._recording.is_empty

    def _give_back_the_rest(self) -> None:
        """Claims that are still in our hands; a put that hangs can no longer be recorded."""
        in_motion = (*self._moving.values(), *self._recording.unrecorded_claims())
        for claim in (*in_motion, *self._passed_over):
            self._failing.give_back(claim)
        self._give_back_alone()
        self._failing.flush(is_last=True)

    def _give_back_alone(self) -> None:
        if self._alone is not None and self._alone.token.number not in self._moving:
            self._failing.give_back(self._alone)
            self._alone = None

    def _abandon(self, error: ArchiverError) -> None:
        """The ledger cannot be used, or must not be: let go of what may be let go."""
        run = self._run
        if isinstance(error, FatalError):
            run.fail_fatally(error)
        else:
            run.stop("failures")
        run.observe(SweepFailed(run.source, str(error)))
        if isinstance(error, LedgerUnavailable):
            self._workshop.hurry(0.0)
            return  # the claims cannot be given back: they run out
        try:
            self._drain()
        except ArchiverError:  # the first error is the one to report
            return

    def _ended(self, seconds: float, error: ArchiverError | None) -> Summary:
        run = self._run
        why = run.fatal or error
        told = str(why) if why else run.reason
        summary = run.tally.summary(run.state, run.stopped, seconds, told)
        ended = IdleSweepEnded if summary.is_idle else SweepEnded
        run.observe(ended(run.source, summary))
        return summary

    def _housekeep(self, *, everything: bool) -> None:
        """Let the source keep house, again while it finds something to do: it is bounded."""
        run, total = self._run, Counter[str]()
        while True:
            keep = partial(run.claims.housekeeping, everything=everything)
            counts = run.ledger("housekeeping", keep)
            total.update(counts)
            everything = False  # that has noted all rows; the rest is what it noted
            if not any(counts.values()) or self._stop.reason is not None:
                break
        if any(total.values()):
            run.observe(Housekept(run.source, dict(total)))

    def _give_back_ready(self, *, keep: int) -> None:
        while len(self._ready) > keep:
            self._failing.give_back(self._ready.pop())
        self._failing.flush(is_last=False)


@contextmanager
def _opening() -> Iterator[None]:
    """What a store refuses while it is opened is no verdict about one object."""
    try:
        yield
    except PermanentError as error:
        told = {"store": "cold", "operation": "open", "where": "", "message": str(error)}
        raise StoreDenied(**told) from error
