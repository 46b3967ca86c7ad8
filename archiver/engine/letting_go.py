"""Releases beside the moves: claimed in batches, cut in slices, ended in the ledger."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from archiver.engine.stamping import BELIEVED_SECONDS, Stamper, own_of
from archiver.errors import (
    ArchiverError,
    FatalError,
    NoEgressLeft,
    NotSent,
    PermanentError,
    StoreDenied,
    StoreThrottled,
    StoreUnavailable,
)
from archiver.events import CanaryLeftOut, ColdPlaceStamped, ObjectReleased, ReleaseFailed
from archiver.model import Outcome, ReleaseFailure

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from archiver.engine.egress import Purse
    from archiver.engine.release import Released, Releaser
    from archiver.engine.run import Run
    from archiver.engine.stamping import Found
    from archiver.errors import ObjectFrozen
    from archiver.model import Release, Stamp, Stamped

_LOOK_SECONDS = 1.0  # between two looks for due releases while nothing is recorded


class LettingGo:
    """Drives the releases of one sweep.

    No delete before the stamps in the cold store were seen to be this ledger's, and then the
    canary has sung.
    """

    def __init__(self, run: Run, releaser: Callable[[], Releaser], purse: Purse) -> None:
        self._run = run
        self._purse = purse
        self._releaser = releaser  # opens the stores: only once something is due
        self._has_sung = False
        self._sings = False
        self._looks_at_stamps = False
        self._look_at = 0.0
        self._slices_count = 0
        self._shut_since: float | None = None  # when the stores could first not be asked
        self.lacks_egress = False  # what is due must be read first, and may not be
        self.found_nothing = not run.may_release  # by the latest look

    @property
    def is_under_way(self) -> bool:
        return self._looks_at_stamps or self._sings or self._slices_count > 0

    @property
    def is_to_read_first(self) -> bool:
        """The canary is next, and reads what the moves would leave nothing of."""
        return self._looks_at_stamps and not self._has_sung and self._run.egress.cold_counts

    def look_now(self) -> None:
        """Something was recorded, or a grace ended: do not wait for the next look."""
        self._look_at = 0.0
        self.found_nothing = not self.may_look

    @property
    def may_look(self) -> bool:
        return self._run.may_release and not self.lacks_egress

    def step(self) -> None:
        """Claim what is due, unless enough of it is under way."""
        run, now = self._run, self._run.clock.monotonic()
        if self._purse.is_spent and run.egress.cold_counts and not self._has_sung:
            self.lacks_egress = True  # for the canary: nothing is claimed in vain
        if not self.may_look:
            self.found_nothing = True  # the operator may ask for a pause in mid-sweep
            return
        if self.is_under_way or run.is_ending or now < self._look_at:
            return
        due = run.ledger(
            "claim_release", partial(run.releases.claim_release, run.plan.release_group)
        )
        self.found_nothing = not due
        if not due:
            self._look_at = now + _LOOK_SECONDS
            return
        try:
            releaser = self._releaser()
        except NotSent as error:
            self._not_sent(due, error)
            return
        except StoreUnavailable as error:
            self._give_back(due)
            self._wait_for_stores(error, now)
            return
        except ArchiverError:
            self._give_back(due)
            raise
        if now < run.vouched.until:
            self._let_go(due, releaser)
        else:
            stamper = Stamper(releaser.stores.cold, run.source)
            self._look_at_stamps(due, releaser, stamper, None)

    def _let_go(self, due: Sequence[Release], releaser: Releaser) -> None:
        if self._run.is_ending:
            self._give_back(due)
        elif self._has_sung:
            self._send_out(due)
        else:
            self._sing(due, releaser)

    # --- before the first delete -------------------------------------------------------------

    def _look_at_stamps(
        self,
        due: Sequence[Release],
        releaser: Releaser,
        stamper: Stamper,
        intended: Stamp | None,
    ) -> None:
        """See that the cold place is this ledger's; put the stamp that is intended, if any."""
        run = self._run
        try:
            before = run.ledger("known", partial(run.stamps.known, stamper.place))
        except FatalError:
            self._give_back(due)
            raise
        self._looks_at_stamps = True

        def look() -> Found:
            if intended is None:
                return stamper.look(before.last)
            releaser.heartbeat.require()
            return stamper.put(intended)

        def looked(found: Found) -> None:
            self._looks_at_stamps = False
            try:
                following = self._judge(stamper, before, found)
            except FatalError as error:
                self._give_back(due)
                run.fail_fatally(error)
                return
            if following is None:
                self._shut_since = None
                run.vouched.until = run.clock.monotonic() + BELIEVED_SECONDS
                self._let_go(due, releaser)
            elif run.is_ending:
                self._give_back(due)
            else:
                self._look_at_stamps(due, releaser, stamper, following)

        def failed(error: ArchiverError) -> None:
            self._looks_at_stamps = False
            if isinstance(error, StoreThrottled):
                run.throttled()
            if isinstance(error, NotSent):
                self._not_sent(due, error)
            elif isinstance(error, StoreUnavailable):
                self._give_back(due)
                self._wait_for_stores(error, run.clock.monotonic())
            else:
                self._give_back(due)
                run.fail_fatally(_refused(error, stamper.where))

        run.pool.submit(look, looked, failed, ahead=True)

    def _judge(self, stamper: Stamper, before: Stamped, found: Found) -> Stamp | None:
        """The stamp that must be put before anything is let go of; None: it may be.

        Raises:
            ForeignStamp, ForkedLedger, StampGone: Nothing may be.
            LeaseLost
        """
        run, place = self._run, stamper.place
        after = run.ledger("known", partial(run.stamps.known, place))
        own = own_of(found, before, after, stamper.where)
        if own is not None and own != after.last:
            run.ledger("confirm", partial(run.stamps.confirm, place, own))
            run.observe(ColdPlaceStamped(run.source, stamper.where, own.number, own.epoch))
        return run.ledger("intend", partial(run.stamps.intend, place))

    def _wait_for_stores(self, error: StoreUnavailable, now: float) -> None:
        """A store does not answer now: look again, until the patience for retries ends."""
        if self._shut_since is None:
            self._shut_since = now
        if now - self._shut_since >= self._run.plan.retry_wait_seconds:
            self._run.stop("failures", str(error))
        self._look_at = now + self._run.plan.retry_base_seconds

    def seconds_until_look(self) -> float:
        return max(0.0, self._look_at - self._run.clock.monotonic())

    def _sing(self, due: Sequence[Release], releaser: Releaser) -> None:
        self._sings = True

        def sang(excuse: ObjectFrozen | None) -> None:
            if excuse is not None:
                self._run.observe(CanaryLeftOut(self._run.source, excuse.where))
            self._sings = False
            self._has_sung = True
            self._shut_since = None
            self._let_go(due, releaser)

        def failed(error: ArchiverError) -> None:
            self._sings = False
            if isinstance(error, StoreThrottled):
                self._run.throttled()
            if isinstance(error, FatalError):
                self._give_back(due)
                self._run.fail_fatally(error)
            elif isinstance(error, NoEgressLeft):
                self._refuse(due, error)
            elif isinstance(error, NotSent):
                self._not_sent(due, error)
            else:
                self._fail(_failures(due, error))

        self._run.pool.submit(partial(releaser.sing, due), sang, failed, ahead=True)

    def _send_out(self, due: Sequence[Release]) -> None:
        size = self._run.plan.release_slice
        for start in range(0, len(due), size):
            self._submit(due[start : start + size])

    def _submit(self, piece: Sequence[Release]) -> None:
        self._slices_count += 1
        releaser = self._releaser()

        def release() -> Released | None:
            is_held = self._run.is_ending or not self._run.may_release
            return None if is_held else releaser.release(piece)

        def ended(released: Released | None) -> None:
            self._slices_count -= 1
            if released is None:
                self._give_back(piece)
            else:
                self._shut_since = None
                self._ended(released)

        self._run.pool.submit(release, ended, partial(self._failed, piece), ahead=True)

    def _ended(self, released: Released) -> None:
        run = self._run
        if released.ends:
            run.ledger("released", partial(run.releases.released, released.ends))
        for end in released.ends:
            run.tally.waiting_releases.discard(end.release.recorded.receipt_id)
            if end.outcome is Outcome.RELEASED:
                run.tally.released += 1
            else:
                run.tally.replaced += 1
            receipt = end.release.recorded.receipt
            run.observe(ObjectReleased(receipt, end.outcome, end.detail))
        self._fail(released.failures)
        if released.refused:
            _, error = released.refused[0]
            self._refuse([item for item, _ in released.refused], error)

    def _refuse(self, releases: Sequence[Release], error: NoEgressLeft) -> None:
        """They must be read first: again where there is room now, else by a later sweep."""
        self._give_back(releases)
        if self._run.is_ending or not self._purse.affords(error):
            self.lacks_egress = True
        self.look_now()

    def _failed(self, piece: Sequence[Release], error: ArchiverError) -> None:
        """A whole slice could not be ended: nothing was recorded of it."""
        self._slices_count -= 1
        if isinstance(error, StoreThrottled):
            self._run.throttled()
        if isinstance(error, FatalError):
            self._give_back(piece)
            self._run.fail_fatally(error)
        elif isinstance(error, NotSent):
            self._not_sent(piece, error)
        elif isinstance(error, PermanentError) and len(piece) > 1:
            # One refused object must not hold the others back: halve until it is alone.
            middle = len(piece) // 2
            self._submit(piece[:middle])
            self._submit(piece[middle:])
        else:
            self._fail(_failures(piece, error))

    def _not_sent(self, piece: Sequence[Release], error: NotSent) -> None:
        """Nothing was asked of these: they are as due as before."""
        now = self._run.clock.monotonic()
        self._give_back(piece)
        self._look_at = now + self._run.plan.retry_base_seconds
        if error.retry_after_seconds is not None:
            self._wait_for_stores(error, now)

    def _fail(self, failures: Sequence[ReleaseFailure]) -> None:
        run = self._run
        if not failures:
            return
        run.ledger("fail_release", partial(run.releases.fail_release, failures))
        for failure in failures:
            receipt = failure.release.recorded.receipt
            waiting, receipt_id = (
                run.tally.waiting_releases,
                failure.release.recorded.receipt_id,
            )
            if failure.is_permanent:
                run.tally.parked += 1
                waiting.discard(receipt_id)
            else:
                waiting.add(receipt_id)
            run.observe(ReleaseFailed(receipt, failure.reason))

    def _give_back(self, releases: Sequence[Release]) -> None:
        run = self._run
        run.ledger("give_back_releases", partial(run.releases.give_back_releases, releases))


def _refused(error: ArchiverError, where: str) -> FatalError:
    """What is refused of stamps is no verdict about the objects that are due."""
    if isinstance(error, FatalError):
        return error
    return StoreDenied(store="cold", operation="stamp", where=where, message=str(error))


def _failures(piece: Sequence[Release], error: ArchiverError) -> list[ReleaseFailure]:
    is_permanent = isinstance(error, PermanentError)
    pause = error.retry_after_seconds if isinstance(error, StoreUnavailable) else None
    return [ReleaseFailure(it, str(error), is_permanent, pause) for it in piece]
