"""What is read of stores that charge for it is counted before its first byte is read.

Threads take from an allowance. The sweep's own thread fills it from the ledger's budget,
block by block, and gives back what is left at the end. What a worker reserved and died with
counts as spent: a bill is never higher than the ledger says.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from archiver.errors import ArchiverError, NoEgressLeft
from archiver.events import EgressBudgetSpent, ObjectOverBudget

if TYPE_CHECKING:
    from collections.abc import Iterator

    from archiver.engine.run import Run
    from archiver.model import EgressBudget

_BLOCK_BYTES = 64 * 1024 * 1024  # reserved at once: a thousand small objects a transaction
_BLOCKS_OF_BUDGET = 64  # or such a share: no worker keeps more from the others, or dies with it


class Allowance:
    """Bytes that the ledger granted and nobody has taken yet. Thread-safe.

    First come, first served: who finds too little shuts it for all until it is filled
    again, so that small objects do not pass a large one for ever.
    """

    def __init__(self) -> None:
        self.refused_bytes = 0  # what the budget had no room for at last; the sweeps' thread's
        self._lock = threading.Lock()  # guards both
        self._left_bytes = 0
        self._is_shut = False

    @property
    def left_bytes(self) -> int:
        """Below zero where more was read than had been taken."""
        return self._left_bytes

    def fill(self, size_bytes: int) -> None:
        with self._lock:
            self._left_bytes += size_bytes
            self._is_shut = False

    def shut(self) -> None:
        """Let nobody take anything before it is filled again."""
        with self._lock:
            self._is_shut = True

    def empty(self) -> int:
        """Take what is left, debts too."""
        with self._lock:
            left_bytes, self._left_bytes = self._left_bytes, 0
            return left_bytes

    def take(self, size_bytes: int) -> bool:
        """Take all of it, or nothing and be told so."""
        if size_bytes == 0:
            return True
        with self._lock:
            if self._is_shut or size_bytes > self._left_bytes:
                self._is_shut = True
                return False
            self._left_bytes -= size_bytes
            return True

    def put_back(self, size_bytes: int) -> None:
        """Return what was not read; less than nothing is a debt."""
        with self._lock:
            self._left_bytes += size_bytes


@dataclass(frozen=True, slots=True)
class Egress:
    """Whose reads count, and the bytes there are for them."""

    allowance: Allowance
    hot_counts: bool
    cold_counts: bool

    @contextmanager
    def taken(self, where: str, *, hot_bytes: int = 0, cold_bytes: int = 0) -> Iterator[Taken]:
        """Take what a piece of work will read; what it did not read goes back on exit.

        Raises:
            NoEgressLeft: There is less now. Nothing was taken, nothing may be read.
        """
        cost_bytes = self.cost_bytes(hot_bytes=hot_bytes, cold_bytes=cold_bytes)
        if not self.allowance.take(cost_bytes):
            raise NoEgressLeft(where=where, size_bytes=cost_bytes)
        taken = Taken(self, cost_bytes)
        try:
            yield taken
        finally:
            self.allowance.put_back(taken.left_bytes)

    @property
    def counts(self) -> bool:
        """Whether any read does."""
        return self.hot_counts or self.cold_counts

    def cost_bytes(self, *, hot_bytes: int = 0, cold_bytes: int = 0) -> int:
        """What counts of these reads."""
        return hot_bytes * self.hot_counts + cold_bytes * self.cold_counts


FREE = Egress(Allowance(), hot_counts=False, cold_counts=False)


@dataclass(slots=True)
class Taken:
    """What one piece of work took and has not read yet. Belongs to its thread.

    Each read is told before it is begun, so one that is cut counts whole. One that was not
    foreseen is not refused, but a debt: what was begun is finished, or its bytes would have
    been read for nothing, and be read for nothing again.
    """

    egress: Egress
    left_bytes: int

    def reads_hot(self, size_bytes: int) -> None:
        self.left_bytes -= self.egress.cost_bytes(hot_bytes=size_bytes)

    def reads_cold(self, size_bytes: int) -> None:
        self.left_bytes -= self.egress.cost_bytes(cold_bytes=size_bytes)


class Purse:
    """Fills the allowance of one sweep. Used by the sweep's own thread alone."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._allowance = run.egress.allowance
        self._budget = run.plan.egress_budget if run.egress.counts else None
        self._is_scarce = False  # the ledger granted less than it was asked for
        self.is_short = False  # still no room for what a sweep before was refused
        self.is_spent = False  # no read that counts is begun any more

    def open(self) -> None:
        """Ask for the first block, so that nothing is claimed where there is no room.

        What the last sweep was refused decides that: each would claim and give back anew.
        The canary of the releases may need less.
        """
        refused_bytes = self._allowance.refused_bytes
        if self._budget is None or not (self._run.egress.hot_counts or refused_bytes):
            return
        granted_bytes = self._ask(self._budget, refused_bytes)
        self._allowance.fill(granted_bytes)
        if granted_bytes >= max(1, refused_bytes):
            self._allowance.refused_bytes = 0
        elif refused_bytes:
            self.is_short = True
        else:
            self._end(self._budget, 1)

    def refill(self) -> None:
        """Ask for the next block before the last one is used up."""
        if self._budget is None or self._is_scarce or self.is_spent:
            return
        if self._allowance.left_bytes < _block_bytes(self._budget) // 2:
            self._allowance.fill(self._ask(self._budget, 0))

    def affords(self, refused: NoEgressLeft) -> bool:
        """Whether there is room now for a read that was refused.

        If not, the budget is spent; unless the read alone is larger than all of it.
        """
        budget = self._budget
        if budget is None or self.is_spent:
            return False
        if refused.size_bytes > budget.limit_bytes:
            self._allowance.fill(0)  # for the others, who may fit
            self._run.observe(
                ObjectOverBudget(
                    self._run.source, refused.where, refused.size_bytes, budget.limit_bytes
                )
            )
            return False
        missing_bytes = refused.size_bytes - self._allowance.left_bytes
        granted_bytes = self._ask(budget, missing_bytes) if missing_bytes > 0 else 0
        if granted_bytes < missing_bytes:
            self._allowance.put_back(granted_bytes)
            self._end(budget, refused.size_bytes)
            return False
        self._allowance.fill(granted_bytes)
        return True  # others may be faster: then it is refused again, and asks again

    def settle(self) -> None:
        """Give back what was not read; where the ledger does not answer it counts as spent."""
        if unused_bytes := self._allowance.empty():
            with suppress(ArchiverError):
                self._run.spending.settle(unused_bytes)

    def _ask(self, budget: EgressBudget, at_least_bytes: int) -> int:
        wanted_bytes = max(_block_bytes(budget), at_least_bytes)
        ask = partial(self._run.spending.reserve, wanted_bytes, budget)
        granted_bytes = self._run.ledger("reserve", ask)
        self._is_scarce = granted_bytes < wanted_bytes
        return granted_bytes

    def _end(self, budget: EgressBudget, refused_bytes: int) -> None:
        self.is_spent = True
        self._allowance.shut()
        if self.is_short:
            return  # the sweep before has said so
        self._allowance.refused_bytes = refused_bytes
        self._run.observe(
            EgressBudgetSpent(self._run.source, budget.limit_bytes, budget.window_seconds)
        )


def _block_bytes(budget: EgressBudget) -> int:
    return max(1, min(_BLOCK_BYTES, budget.limit_bytes // _BLOCKS_OF_BUDGET))
