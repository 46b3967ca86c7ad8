"""How many pieces of work run at once. Pure: no thread, no clock; the sweep feeds and obeys it.

Found by trying, where no number fixes it: the width is changed, and kept where what comes home
a second says so. Throughput decides and latency does not, for at a full width the one is the
width divided by the other: a store that has become slow wants fewer at once, a wire that has
become long wants more, and only a trial tells which it is.

A change is judged over an *epoch*: what was begun at another width has come home, and since
then a second has passed and each of the width has ended twice. So epochs are longer for large
objects by themselves. One in which there was not enough to do decides nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

FIRST_WIDTH = 16
# A move holds a connection to each store, and most systems give a process 1,024 files. It is
# also more than two cores of Python can use before a round trip takes a third of a second.
MAX_WIDTH = 256

_EPOCH_SECONDS = 1.0
_ENDS_PER_EPOCH = 2  # of each of the width
_DOUBLED_GAIN = 1.10  # doubling the width brings at least so much, or it is taken back
_TRIAL_STEP = 1.5  # a trial is so much wider, or narrower
_WIDER_GAIN = 1.05  # a wider trial brings at least so much, or it is taken back
_NARROWER_SHARE = 0.98  # a narrower one keeps at least so much: the gap between is hysteresis
_REST_EPOCHS_AT_FIRST = 2  # between two trials of one direction; doubled by each in vain
_REST_EPOCHS = 16  # at most
_NEWS = 2.0  # a rate that differs so much from the last one: all is tried again soon
_BELOW_THROTTLING = 0.9  # of the width that was throttled is the ceiling from then on
_RECOVERY_SHARE = 16  # a recovering width grows by a sixteenth an epoch, by one at least
_CALM_SECONDS = 60.0  # without throttling, and the ceiling is raised by half

Why = Literal["grows", "no gain", "trial", "taken back", "throttled", "recovers"]


@dataclass(frozen=True, slots=True)
class Change:
    """The width is another now."""

    before: int
    after: int
    why: Why


class Width(Protocol):
    """How many at once. Instants are on `Clock.monotonic()`; one thread calls all of it."""

    @property
    def setting(self) -> int | Literal["auto"]: ...

    @property
    def current(self) -> int:
        """At least 1."""

    def begin(self) -> None:
        """A sweep begins: nothing of the one before is under way any more."""

    def ended(self, at: float) -> None:
        """One move ended then, well or not. It may come home later, when its owner has time."""

    def look(self, now: float, *, is_full: bool) -> Change | None:
        """Decide, where there is something to decide. `is_full`: as many move as may."""

    def throttled(self, now: float) -> Change | None:
        """A store asked to be asked less; None: that was sent before it was narrowed."""

    @property
    def is_narrowest(self) -> bool:
        """It is not fixed, and one at a time is all there is."""


@dataclass(frozen=True, slots=True)
class FixedWidth:
    """The number the operator set, whatever happens."""

    current: int

    @property
    def setting(self) -> int:
        return self.current

    @property
    def is_narrowest(self) -> bool:
        return False

    def begin(self) -> None:
        """Nothing is measured."""

    def ended(self, at: float) -> None:
        """Nothing is measured."""

    def look(self, now: float, *, is_full: bool) -> None:  # noqa: ARG002  # as the Protocol says
        return None

    def throttled(self, now: float) -> None:  # noqa: ARG002  # as the Protocol says
        return None


class AutoWidth:
    """Doubles while that brings more, then tries half as much more or less, ever more rarely.

    Throttling halves it, once for what was under way together, and puts a ceiling below the
    width that was throttled; it grows back to there slowly, and past it after a calm minute.
    """

    setting: Literal["auto"] = "auto"

    def __init__(self, *, first: int = FIRST_WIDTH, highest: int = MAX_WIDTH) -> None:
        self.current = first
        self._highest = highest
        self._ceiling = highest
        self._epoch = _Epoch(skip_count=0)
        self._decide: Callable[[float], Change | None] = self._climb
        self._half: tuple[int, float] | None = None  # before it was doubled: width and rate
        self._doubted_rate: float | None = None  # of a doubling that seemed to bring nothing
        self._base: tuple[int, float] | None = None  # what trials are compared with
        self._tried: tuple[int, float] | None = None
        self._tried_from = first
        self._seemed_enough: int | None = None  # a narrower width, by its latest trial
        self._wider, self._narrower = _Trials(), _Trials()
        self._sent_before_count = 0  # under way when it was last halved
        self._calm_since: float | None = None  # None: never throttled, or long ago

    @property
    def is_narrowest(self) -> bool:
        return self.current == 1 and not self._sent_before_count

    def begin(self) -> None:
        self._sent_before_count = 0
        self._epoch = _Epoch(skip_count=0)

    def ended(self, at: float) -> None:
        self._sent_before_count = max(0, self._sent_before_count - 1)
        self._epoch.ended(at)

    def look(self, now: float, *, is_full: bool) -> Change | None:
        self._raise_ceiling(now)
        if not is_full:
            self._epoch = _Epoch(skip_count=self.current)
            return None
        rate = self._epoch.rate(ends_count=_ENDS_PER_EPOCH * self.current)
        if rate is None:
            return None
        self._epoch = _Epoch(skip_count=0, began_at=self._epoch.last_at)
        return self._decide(rate)

    def throttled(self, now: float) -> Change | None:
        self._calm_since = now
        if self._sent_before_count or self.is_narrowest:
            return None
        self._sent_before_count = self.current
        self._ceiling = max(1, int(self.current * _BELOW_THROTTLING))
        self._decide = self._recover
        self._half = self._doubted_rate = self._base = self._tried = None
        self._seemed_enough = None
        return self._go(self.current // 2, "throttled")

    # --- what an epoch decides ---------------------------------------------------------------

    def _climb(self, rate: float) -> Change | None:
        """Double it while that brings more."""
        half, known = self._half, self._doubted_rate
        self._doubted_rate = None
        if half is not None and max(rate, known or 0.0) < half[1] * _DOUBLED_GAIN:
            if known is None:  # the machine may have had something else to do: look again
                self._doubted_rate = rate
                return None
            self._half, self._base = None, half
            self._decide = self._settle
            return self._go(half[0], "no gain")
        wider = min(2 * self.current, self._ceiling)
        if wider <= self.current:
            self._half, self._decide = None, self._settle
            return self._settle(rate)
        self._half = (self.current, rate)
        return self._go(wider, "grows")

    def _recover(self, _rate: float) -> Change | None:
        """Grow slowly to below where it was throttled."""
        wider = self.current + max(1, self.current // _RECOVERY_SHARE)
        if wider >= self._ceiling:
            self._decide = self._settle
        if self.current >= self._ceiling:
            return None
        return self._go(min(wider, self._ceiling), "recovers")

    def _settle(self, rate: float) -> Change | None:
        """An epoch at the width that is kept: weigh the trial before it, or begin one."""
        known, tried = self._base, self._tried
        self._base, self._tried = (self.current, rate), None
        if known is None or max(rate, known[1]) > _NEWS * min(rate, known[1]):
            self._wider, self._narrower = _Trials(), _Trials()
            self._seemed_enough = None
        elif tried is not None:  # against before and after: what drifts meanwhile cancels out
            return self._weigh(tried, (known[1] + rate) / 2)
        return self._try()

    def _weigh(self, tried: tuple[int, float], rate: float) -> Change | None:
        width, tried_rate = tried
        seemed_enough, self._seemed_enough = self._seemed_enough, None
        if width > self.current and tried_rate >= rate * _WIDER_GAIN:
            self._half, self._decide = (self.current, rate), self._climb
            return self._go(width, "grows")
        if width < self.current and tried_rate >= rate * _NARROWER_SHARE:
            if (
                width != seemed_enough
            ):  # once may be chance, and chance would lead down and down
                self._seemed_enough = width
                return self._go_and_come_back(width)
            self._base = tried
            self._wider = self._wider.in_vain()  # wider brought nothing: it came from there
            self._narrower = _Trials()
            return self._go(width, "no gain")
        if width > self.current:
            self._wider = self._wider.in_vain()
        else:
            self._narrower = self._narrower.in_vain()
        return self._try()

    def _try(self) -> Change | None:
        wider = min(max(self.current + 1, int(self.current * _TRIAL_STEP)), self._ceiling)
        narrower = max(1, int(self.current / _TRIAL_STEP))
        is_wider_due, is_narrower_due = self._wider.is_due(), self._narrower.is_due()
        if is_wider_due and wider > self.current:
            return self._go_and_come_back(wider)
        if is_narrower_due and narrower < self.current:
            return self._go_and_come_back(narrower)
        return None

    def _go_and_come_back(self, width: int) -> Change:
        self._tried_from = self.current
        self._decide = self._end_trial
        return self._go(width, "trial")

    def _end_trial(self, rate: float) -> Change | None:
        self._tried = (self.current, rate)
        self._decide = self._settle
        return self._go(self._tried_from, "taken back")

    # --- helpers -----------------------------------------------------------------------------

    def _go(self, width: int, why: Why) -> Change:
        change = Change(self.current, width, why)
        self._epoch = _Epoch(skip_count=self.current)
        self.current = width
        return change

    def _raise_ceiling(self, now: float) -> None:
        """What throttled once need not throttle for ever."""
        if self._calm_since is None or now - self._calm_since < _CALM_SECONDS:
            return
        self._ceiling = min(self._highest, 1 + self._ceiling * 3 // 2)
        self._calm_since = None if self._ceiling == self._highest else now
        self._wider = _Trials()


@dataclass(slots=True)
class _Epoch:
    """One measurement."""

    skip_count: int  # begun at another width, or while there was not enough to do
    began_at: float | None = None  # None: with the first that ends after those
    last_at: float = 0.0
    _ends_count: int = 0

    def ended(self, at: float) -> None:
        self.last_at = at
        if self.began_at is not None:
            self._ends_count += 1
        elif self.skip_count > 1:
            self.skip_count -= 1
        else:
            self.began_at = at

    def rate(self, *, ends_count: int) -> float | None:
        """How many ended a second; None: it is too early to say."""
        if self.began_at is None or self._ends_count < ends_count:
            return None
        seconds = self.last_at - self.began_at
        return self._ends_count / seconds if seconds >= _EPOCH_SECONDS else None


@dataclass(slots=True)
class _Trials:
    """When one direction is tried again: after two epochs, four, eight ..."""

    _rest_epochs: int = 0
    _left_epochs: int = 0

    def is_due(self) -> bool:
        self._left_epochs -= 1
        return self._left_epochs < 0

    def in_vain(self) -> _Trials:
        rest = min(max(_REST_EPOCHS_AT_FIRST, 2 * self._rest_epochs), _REST_EPOCHS)
        return _Trials(rest, rest)
