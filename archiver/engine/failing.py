"""What becomes of moves that fail: held while in doubt, then counted, parked or given back."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Protocol

from archiver.engine.doubts import Breaker, Controls, Streak
from archiver.errors import (
    BucketMissing,
    FatalError,
    LedgerUnavailable,
    NotSent,
    ObjectDenied,
    ObjectMissing,
    PermanentError,
    StoreDenied,
    StoreFull,
    StoreThrottled,
    StoreUnavailable,
    TransientError,
    UploadBusy,
)
from archiver.events import BreakerOpened, MoveFailed, ObjectParked, ObjectSuperseded
from archiver.model import FailAnswer, Failure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from archiver.engine.run import Run
    from archiver.errors import ArchiverError
    from archiver.model import Claim

_FAILURES_GROUP = 200  # failures a transaction
_RATIO_FROM_COUNT = 50  # finished moves before a failure ratio means anything


class Prober(Protocol):
    """The second looks a failure may ask for; each ends in a call of the sweep."""

    def probe_bucket(self, bucket: str) -> None:
        """Ask the hot store whether the bucket is there and ours."""

    def probe_cold(self, claim: Claim) -> None:
        """Ask the cold store anything; `claim` says where."""

    def recover(self, claim: Claim) -> None:
        """Look for a missing object in the cold store."""


class Failing:
    """Every failed claim comes here, and leaves exactly once: failed, parked, given back."""

    def __init__(self, run: Run, prober: Prober) -> None:
        self._run = run
        self._prober = prober
        self._controls = Controls()
        self._streaks = {"hot": Streak(), "cold": Streak()}
        self.breaker = Breaker(
            wait_seconds=run.plan.retry_base_seconds,
            patience_seconds=run.plan.retry_wait_seconds,
        )
        self._counted: list[Failure] = []
        self._counted_since = 0.0
        self._given_back: list[Claim] = []
        self._cold_is_proven = False
        self._probed: set[str] = set()  # buckets whose probe has not come home
        self._is_asking_cold = False
        self.given_back_count = 0

    @property
    def suspects_count(self) -> int:
        """Claims whose verdict waits for a control."""
        return self._controls.suspects_count

    @property
    def is_probing(self) -> bool:
        """What is to become of a failure is not decided yet."""
        return bool(self._probed) or self._is_asking_cold

    # --- what the sweep tells --------------------------------------------------------------

    def moved(self, bucket: str, *, read_hot: bool) -> None:
        """An object was moved: both stores answer, and its bucket is a control."""
        self._cold_is_proven = True
        self._stores_answer("cold")
        if read_hot:
            self._stores_answer("hot")
            self.bucket_is_proven(bucket)

    def failed(self, claim: Claim, error: ArchiverError) -> None:
        """A move, or the proof of it, did not succeed."""
        match error:
            case BucketMissing(store="hot"):
                bucket = claim.candidate.location.bucket
                self._controls.suspect(bucket, claim, error)
                self._controls.refuse(bucket, error)
            case FatalError():
                self._run.fail_fatally(error)
                self._given_back.append(claim)
            case ObjectMissing(store="hot") | ObjectDenied(store="hot"):
                self._judge(claim, error)
            case ObjectDenied(store="cold") if not self._cold_is_proven:
                self._run.fail_fatally(_denied_everywhere(error))
                self._given_back.append(claim)
            case NotSent():
                self._nothing_was_asked([claim], error)
            case StoreUnavailable():
                self._doubt([claim], error)
            case _:
                self._count(_failure(claim, error))

    def unproven(self, claim: Claim, error: ArchiverError) -> None:
        """What was sent could not be proven; where reading is denied, for any of them."""
        if isinstance(error, ObjectDenied):
            self._run.fail_fatally(_denied_everywhere(error))
            self._given_back.append(claim)
        else:
            self.failed(claim, error)

    def window_unproven(self, claims: Sequence[Claim], error: ArchiverError) -> None:
        """One call for a whole window failed: that is one failure, of the store."""
        if isinstance(error, NotSent):
            self._nothing_was_asked(claims, error)
            return
        if isinstance(error, StoreUnavailable):
            self._doubt(claims, error)
            return
        for claim in claims:
            self.unproven(claim, error)

    def busy(self, claim: Claim) -> None:
        """The application held the row's lock for longer than a sweep waits for it."""
        self._count(Failure(claim, "the application holds the row's lock"))

    def not_recovered(self, claim: Claim, error: ArchiverError) -> None:
        """A missing hot object is not provably in cold either: nobody can find it."""
        if isinstance(error, ObjectMissing):
            self._count(_failure(claim, error))
        else:
            self.failed(claim, error)

    def bucket_is_proven(self, bucket: str) -> None:
        for claim, error in self._controls.prove(bucket):
            self._convict(claim, error)

    def bucket_is_refused(self, bucket: str, error: ArchiverError) -> None:
        """The probe of a bucket failed; what waits for it is no verdict about an object."""
        self._probed.discard(bucket)
        if isinstance(error, StoreDenied | BucketMissing):
            self._controls.refuse(bucket, error)  # reading another object may still prove it
            self._stores_answer("hot")
        elif isinstance(error, FatalError):
            self._run.fail_fatally(error)
        else:
            acquitted = self._controls.acquit(bucket)  # judged when it answers
            if isinstance(error, NotSent):
                self._nothing_was_asked(acquitted, error)
            else:
                self._given_back.extend(acquitted)
                self._open_breaker("hot", error)

    def store_is_down(self, error: StoreUnavailable) -> None:
        """A store could not even be opened: no object is at fault."""
        if isinstance(error, NotSent):
            self._nothing_was_asked((), error)
        else:
            self._open_breaker(error.store, error)

    def give_back(self, claim: Claim) -> None:
        self._given_back.append(claim)

    # --- what follows ----------------------------------------------------------------------

    @property
    def is_empty(self) -> bool:
        """The ledger was told of every claim that came here."""
        is_in_doubt = self._controls.has_suspects or any(
            streak.failures for streak in self._streaks.values()
        )
        return not (self._counted or self._given_back or is_in_doubt)

    def flush(self, *, is_last: bool) -> None:
        """Tell the ledger: groups that are full or old; all once nothing else is in flight."""
        for claim, error in self._controls.convict_missing():
            self._count(Failure(claim, str(error), is_permanent=True))
        if is_last:
            self._settle_streaks()
            if (refusal := self._controls.refusal) is not None:
                self._run.fail_fatally(refusal)
            if self._run.is_ending:
                self._given_back.extend(self._controls.acquit_all())
        if self._counted and (is_last or self._is_group_due):
            counted, self._counted = self._counted, []
            answers = self._run.ledger("fail", partial(self._run.claims.fail, counted))
            for failure, answer in zip(counted, answers, strict=True):
                self._tell(failure, answer)
            self._watch_ratio()
        if self._given_back:
            given_back, self._given_back = self._given_back, []
            self.given_back_count += len(given_back)
            self._run.ledger("give_back", partial(self._run.claims.give_back, given_back))

    def _settle_streaks(self) -> None:
        """Failures that nothing decided: too few for a doubt, and no success came after them.

        The store is asked before they count. Else an outage would park what little is due
        while it lasts, an attempt a sweep.
        """
        for store, streak in self._streaks.items():
            if not streak.failures:
                continue
            if self._run.is_ending:
                self._given_back.extend(failure.claim for failure in streak.end())
            elif store == "hot":
                self._probe(streak.failures[-1].claim.candidate.location.bucket)
            elif not self._is_asking_cold:
                self._is_asking_cold = True
                self._prober.probe_cold(streak.failures[-1].claim)

    @property
    def _is_group_due(self) -> bool:
        age_seconds = self._run.clock.monotonic() - self._counted_since
        is_old = age_seconds >= self._run.plan.group_age_seconds
        return is_old or len(self._counted) >= _FAILURES_GROUP

    def _judge(self, claim: Claim, error: ObjectMissing | ObjectDenied) -> None:
        """Believe a verdict about one object only where its bucket has a control."""
        bucket = claim.candidate.location.bucket
        if self._controls.is_proven(bucket):
            self._convict(claim, error)
        elif self._controls.suspect(bucket, claim, error):
            self._probe(bucket)

    def _convict(self, claim: Claim, error: PermanentError | BucketMissing) -> None:
        if isinstance(error, ObjectMissing):
            self._prober.recover(claim)
        else:
            self._count(_failure(claim, error))

    def _doubt(self, claims: Sequence[Claim], error: StoreUnavailable) -> None:
        """Hold failures of one store in a row: perhaps it is the store that failed."""
        is_trial = any(self.breaker.is_trial(claim) for claim in claims)
        if self.breaker.is_open and not is_trial:
            self._given_back.extend(claims)  # stragglers, sent before it opened
            return
        is_too_much = isinstance(error, StoreThrottled) and self._run.throttled()
        failures = [_failure(it, error) for it in claims]
        streak = self._streaks[error.store]
        is_doubted = streak.add(failures, limit=self._run.breaker_failures)
        if is_too_much or isinstance(error, StoreFull):
            self._open_breaker(error.store, error)
            return
        if not (is_doubted or self.breaker.is_open):
            return
        if error.store == "hot":
            # Objects that fail by themselves may stand in a row; a store that is down
            # does not answer for its bucket either.
            self._probe(claims[0].candidate.location.bucket)
        else:
            self._open_breaker("cold", error)

    def _nothing_was_asked(self, claims: Sequence[Claim], error: NotSent) -> None:
        """Nobody is at fault. Where the store asked for a pause, nothing more is begun."""
        self._given_back.extend(claims)
        is_pause = error.retry_after_seconds is not None
        is_trial = any(self.breaker.is_trial(claim) for claim in claims)
        if is_pause and (is_trial or not self.breaker.is_open):
            self._open_breaker(error.store, error)

    def _probe(self, bucket: str) -> None:
        if bucket not in self._probed:
            self._probed.add(bucket)
            self._prober.probe_bucket(bucket)

    def _stores_answer(self, store: str) -> None:
        self._count(*self._streaks[store].end())
        if self.breaker.store == store:
            self.breaker.close()

    def store_answers(self, bucket: str) -> None:
        """A probe of a bucket succeeded: failures in a row were the objects' own."""
        self._probed.discard(bucket)
        self._stores_answer("hot")
        self.bucket_is_proven(bucket)

    def cold_answers(self) -> None:
        """Failures in a row were the objects' own, whatever it answered."""
        self._is_asking_cold = False
        self._stores_answer("cold")

    def cold_is_down(self, error: StoreUnavailable) -> None:
        self._is_asking_cold = False
        self._open_breaker("cold", error)

    def _open_breaker(self, store: str, error: ArchiverError) -> None:
        failures = [f for streak in self._streaks.values() for f in streak.end()]
        self._given_back.extend(failure.claim for failure in failures)
        self.breaker.open(store, self._run.clock.monotonic())
        self._run.observe(BreakerOpened(self._run.source, store, len(failures), str(error)))
        if self.breaker.gives_up:
            self._run.stop("failures", str(error))

    def _count(self, *failures: Failure) -> None:
        if not self._counted:
            self._counted_since = self._run.clock.monotonic()
        self._counted.extend(failures)

    def _tell(self, failure: Failure, answer: FailAnswer) -> None:
        run, claim = self._run, failure.claim
        match answer:
            case FailAnswer.PARKED:
                run.tally.parked += 1
                run.tally.failed += 1
                run.tally.waiting_ids.discard(claim.candidate.id)
                run.observe(ObjectParked(claim, failure.reason))
            case FailAnswer.WAITING:
                run.tally.failed += failure.is_counted
                run.tally.waiting_ids.add(claim.candidate.id)
                run.observe(MoveFailed(claim, answer, failure.reason))
            case FailAnswer.SUPERSEDED:
                run.tally.superseded += 1
                run.tally.waiting_ids.discard(claim.candidate.id)
                run.observe(
                    ObjectSuperseded(run.source, claim.candidate.id, claim.candidate.location)
                )
            case FailAnswer.LOST:
                run.tally.waiting_ids.discard(claim.candidate.id)
                run.observe(MoveFailed(claim, answer, failure.reason))

    def _watch_ratio(self) -> None:
        limit = self._run.plan.max_failure_ratio
        tally = self._run.tally
        finished = tally.failed + tally.archived
        if limit is None or finished < _RATIO_FROM_COUNT:
            return
        if tally.failed / finished > limit:
            self._run.stop("failures")


def _failure(claim: Claim, error: ArchiverError) -> Failure:
    return Failure(
        claim=claim,
        reason=str(error),
        is_permanent=isinstance(error, PermanentError),
        is_counted=not isinstance(error, StoreThrottled | LedgerUnavailable | UploadBusy),
        max_attempts=error.max_attempts if isinstance(error, TransientError) else None,
        retry_after_seconds=(
            error.retry_after_seconds if isinstance(error, StoreUnavailable) else None
        ),
    )


def _denied_everywhere(error: ObjectDenied) -> StoreDenied:
    """No control stands against it: it is the credentials, not the object."""
    return StoreDenied(
        store=error.store, operation=error.operation, where=error.where, code=error.code
    )
