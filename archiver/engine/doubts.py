"""Whose fault is it? What one failure may mean for a bucket, or for a whole store.

A 403 or a not-found is a verdict about one object only where the bucket is known to be
there and to be ours (a control). A run of failures is the fault of the objects only where
the store itself still answers. Until that is known, the failures are held here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from archiver.errors import BucketMissing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from archiver.errors import FatalError, PermanentError
    from archiver.model import Claim, Failure, FencingToken


@dataclass(slots=True)
class Controls:
    """Buckets that were read in this sweep, or proven by a probe; and who waits for that."""

    _proven: set[str] = field(default_factory=set)
    _suspects: dict[str, list[tuple[Claim, PermanentError | BucketMissing]]] = field(
        default_factory=dict
    )
    _refusals: dict[str, FatalError] = field(default_factory=dict)

    def is_proven(self, bucket: str) -> bool:
        return bucket in self._proven

    def suspect(self, bucket: str, claim: Claim, error: PermanentError | BucketMissing) -> bool:
        """Hold a verdict back until its bucket has a control; True for the bucket's first."""
        waiting = self._suspects.setdefault(bucket, [])
        waiting.append((claim, error))
        return len(waiting) == 1

    def prove(self, bucket: str) -> list[tuple[Claim, PermanentError | BucketMissing]]:
        """The bucket is there and ours: the verdicts that waited for it count now."""
        self._proven.add(bucket)
        self._refusals.pop(bucket, None)
        return self._suspects.pop(bucket, [])

    def refuse(self, bucket: str, error: FatalError) -> None:
        """The probe was refused. Reading another object may still prove the bucket."""
        self._refusals[bucket] = error

    def convict_missing(self) -> list[tuple[Claim, BucketMissing]]:
        """Whose bucket is not there, where another one is: then it is the row that is wrong."""
        missing = {
            bucket: error
            for bucket, error in self._refusals.items()
            if self._proven and isinstance(error, BucketMissing)
        }
        return [
            (claim, error) for bucket, error in missing.items() for claim in self.acquit(bucket)
        ]

    def acquit(self, bucket: str) -> list[Claim]:
        """The probe found out nothing: nobody is judged, and the next suspect asks anew."""
        return [claim for claim, _ in self._suspects.pop(bucket, [])]

    @property
    def has_suspects(self) -> bool:
        return bool(self._suspects)

    @property
    def refusal(self) -> FatalError | None:
        """Why a bucket with verdicts in waiting could not be proven."""
        return next((self._refusals[b] for b in self._suspects if b in self._refusals), None)

    @property
    def suspects_count(self) -> int:
        return sum(map(len, self._suspects.values()))

    def acquit_all(self) -> list[Claim]:
        return [claim for bucket in list(self._suspects) for claim in self.acquit(bucket)]


@dataclass(slots=True)
class Streak:
    """Calls of one store that failed in a row, since anything last succeeded there."""

    failures: list[Failure] = field(default_factory=list)
    _calls_count: int = 0
    _limit: int = 0

    def add(self, failures: Sequence[Failure], *, limit: int) -> bool:
        """One call failed, for all of these; True when the row is long enough to doubt.

        `limit` is how long that is; a row keeps the one it began with.
        """
        if self._calls_count == 0:
            self._limit = limit
        self.failures.extend(failures)
        self._calls_count += 1
        return self._calls_count == self._limit

    def end(self) -> list[Failure]:
        """Something succeeded, or the store was found to answer: they count, each its own."""
        ended, self.failures, self._calls_count = self.failures, [], 0
        return ended


@dataclass(slots=True)
class Breaker:
    """Open: nothing is sent. Half open: one object is. Closed again by one success.

    All times are on `Clock.monotonic()`.
    """

    wait_seconds: float  # before the first trial; doubled by each that fails
    patience_seconds: float  # after which the sweep gives up
    store: str | None = None  # the one that failed
    _opened_at: float | None = None
    _closes_at: float = 0.0
    _trials_count: int = 0
    _trial: FencingToken | None = None  # the claim that is, or was last, tried

    @property
    def is_open(self) -> bool:
        return self._opened_at is not None

    def open(self, store: str, now: float) -> None:
        """Open it, or open it again because the trial failed."""
        if self._opened_at is None:
            self._opened_at = now
        self.store = store
        self._closes_at = now + self.wait_seconds * 2**self._trials_count
        self._trials_count += 1

    def close(self) -> None:
        self.store = self._opened_at = None
        self._trials_count = 0

    def lets_one_through(self, now: float) -> bool:
        return now >= self._closes_at

    def try_with(self, claim: Claim) -> None:
        """Whatever else fails meanwhile was sent before, and proves nothing new."""
        self._trial = claim.token

    def is_trial(self, claim: Claim) -> bool:
        return claim.token == self._trial

    @property
    def gives_up(self) -> bool:
        """The next trial would come after the patience ends."""
        opened_at = self._opened_at
        return opened_at is not None and self._closes_at > opened_at + self.patience_seconds

    def seconds_left(self, now: float) -> float:
        return max(0.0, self._closes_at - now)
