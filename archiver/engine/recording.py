"""From sent to recorded: prove in groups, record in groups, answer for each."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from archiver.engine.verify import verify
from archiver.events import ObjectArchived, ObjectParked, ObjectRecovered, ObjectSuperseded
from archiver.model import Answer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from archiver.engine.copies import Stores
    from archiver.engine.failing import Failing
    from archiver.engine.run import Run
    from archiver.engine.verify import Verified
    from archiver.errors import ArchiverError
    from archiver.model import Claim, Receipt, Sent

_PROVEN_PER_MOVE = 4  # at most, in one proof, for each that may move at once
_BUSY_TRIES_TOGETHER = 3  # after which a row the application holds is asked for alone
_BUSY_TRIES = 8
_BUSY_WAIT_SECONDS = 0.25  # doubled by each try


@dataclass(frozen=True, slots=True)
class _Proven:
    sent: Sent
    receipt: Receipt
    busy_tries: int = 0
    not_before: float = 0.0  # on Clock.monotonic()


class Recording:
    """What was sent waits here until its receipt is durable."""

    def __init__(self, run: Run, failing: Failing) -> None:
        self._run = run
        self._failing = failing
        self._sent: list[Sent] = []
        self._sent_since = 0.0
        self._proven: list[_Proven] = []
        self._proven_since = 0.0
        self._busy: list[_Proven] = []
        self.recorded_count = 0

    @property
    def is_empty(self) -> bool:
        return not (self._sent or self._proven or self._busy)

    def unrecorded_claims(self) -> list[Claim]:
        """Whoever claims them next finds the cold copies and sends nothing."""
        proven = [item.sent for item in (*self._proven, *self._busy)]
        return [sent.claim for sent in (*self._sent, *proven)]

    def sent(self, sent: Sent) -> None:
        if not self._sent:
            self._sent_since = self._run.clock.monotonic()
        self._sent.append(sent)

    def step(self, stores: Stores | None, *, is_idle: bool) -> None:
        """Send out the groups that are full or old; all of them when nothing else moves."""
        plan, now = self._run.plan, self._run.clock.monotonic()
        if self._sent and stores is not None:
            is_old = now - self._sent_since >= plan.group_age_seconds
            # A proof asks for many at once: not for more than a narrow width allows for.
            size = min(plan.verify_group, _PROVEN_PER_MOVE * self._run.width.current)
            while len(self._sent) >= size or (self._sent and (is_old or is_idle)):
                group = self._sent[:size]
                del self._sent[:size]
                self._verify(stores, group)
        if self._proven:
            is_old = now - self._proven_since >= plan.group_age_seconds
            while len(self._proven) >= plan.record_group or (
                self._proven and (is_old or is_idle)
            ):
                group_proven = self._proven[: plan.record_group]
                del self._proven[: plan.record_group]
                self._record(group_proven)
        self._ask_again(now)

    def seconds_until_busy(self) -> float | None:
        """Until a row that the application holds is asked for again."""
        if not self._busy:
            return None
        return min(item.not_before for item in self._busy) - self._run.clock.monotonic()

    def _verify(self, stores: Stores, group: Sequence[Sent]) -> None:
        def failed(error: ArchiverError) -> None:
            self._failing.window_unproven([sent.claim for sent in group], error)

        self._run.pool.submit(
            partial(verify, group, stores),
            self._verified,
            failed,
            ahead=True,
        )

    def _verified(self, verified: Verified) -> None:
        if not self._proven:
            self._proven_since = self._run.clock.monotonic()
        self._proven.extend(_Proven(sent, receipt) for sent, receipt in verified.proven)
        for sent, error in verified.failed:
            self._failing.unproven(sent.claim, error)

    def _ask_again(self, now: float) -> None:
        """Rows the application held: with the next group at first, then each alone."""
        due = [item for item in self._busy if item.not_before <= now]
        if not due:
            return
        self._busy = [item for item in self._busy if item.not_before > now]
        together = [item for item in due if item.busy_tries < _BUSY_TRIES_TOGETHER]
        if together:
            self._record(together)
        alone = [item for item in due if item.busy_tries >= _BUSY_TRIES_TOGETHER]
        self._busy.extend(
            alone[1:]
        )  # each may wait a second: one a step, so that a stop is seen
        if alone:
            self._record(alone[:1])

    def _record(self, group: list[_Proven]) -> None:
        receipts = [item.receipt for item in group]
        answers = self._run.ledger("record", partial(self._run.claims.record, receipts))
        for item, answer in zip(group, answers, strict=True):
            self._take(item, answer)

    def _take(self, item: _Proven, answer: Answer) -> None:
        run, receipt = self._run, item.receipt
        match answer:
            case Answer.ACCEPTED:
                self._accepted(item)
            case Answer.BUSY:
                self._wait(item)
            case Answer.SUPERSEDED:
                run.tally.superseded += 1
                run.tally.waiting_ids.discard(receipt.id)
                run.observe(ObjectSuperseded(run.source, receipt.id, receipt.location))
            case Answer.REFUSED:
                run.tally.parked += 1
                run.tally.failed += 1
                run.tally.waiting_ids.discard(receipt.id)
                run.observe(ObjectParked(item.sent.claim, "the application's row refuses it"))
            case Answer.LOST:  # another worker owns it now, and counts it
                run.tally.waiting_ids.discard(receipt.id)

    def _accepted(self, item: _Proven) -> None:
        run, receipt = self._run, item.receipt
        self.recorded_count += 1
        run.tally.archived += 1
        run.tally.waiting_ids.discard(receipt.id)
        if not item.sent.was_there:
            run.tally.moved_bytes += receipt.size_bytes
        if receipt.is_recovered:
            run.tally.recovered += 1
            run.observe(ObjectRecovered(receipt))
        run.observe(ObjectArchived(receipt, item.sent.was_there))

    def _wait(self, item: _Proven) -> None:
        run = self._run
        tries = item.busy_tries + 1
        if tries >= _BUSY_TRIES:
            self._failing.busy(item.sent.claim)
            return
        wait_seconds = _BUSY_WAIT_SECONDS * 2**tries
        not_before = run.clock.monotonic() + wait_seconds
        self._busy.append(replace(item, busy_tries=tries, not_before=not_before))
