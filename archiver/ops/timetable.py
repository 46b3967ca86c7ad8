"""When sweeps may begin, as an operator writes it: crontab lines and daily windows.

Text in, nouns out. Which instants these give is the business of `schedule.py`.
"""

from __future__ import annotations

import calendar
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import tzinfo

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")  # as crontab counts them
_NICKNAMES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_LEAP_YEAR = 2024
_DAY_MINUTES = 24 * 60
_WEEK_MINUTES = 7 * _DAY_MINUTES
_PART = re.compile(r"(?P<first>\*|\w+)(?:-(?P<last>\w+))?(?:/(?P<step>\d{1,4}))?", re.ASCII)
_OPENING = re.compile(
    r"(?:(?P<days>[a-z]{3}(?:-[a-z]{3})?) +)?"
    r"(?P<from_h>\d\d):(?P<from_m>\d\d)-(?P<to_h>\d\d):(?P<to_m>\d\d)",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class Crontab:
    """A crontab line, spelled out: the minutes, hours, days, months and weekdays it names."""

    text: str
    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: tuple[int, ...] | None  # None: a star; the weekdays alone decide
    months: tuple[int, ...]
    weekdays: tuple[int, ...] | None  # Monday is 0, as Python counts; None: a star
    has_any_hour: bool  # its hour is a star: it goes by time passed, not by the wall clock

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read five fields as cron does: names, ranges, steps, lists; or ``@daily`` and such.

        Raises:
            ValueError: It is something else, or names no day that ever comes.
        """
        minute, hour, day, month, weekday = _NICKNAMES.get(text, text).lower().split()
        read = cls(
            text=" ".join(text.split()),
            minutes=_field(minute, 0, 59),
            hours=_field(hour, 0, 23),
            # A field that begins with a star restricts nothing to cron, steps or not; but
            # `*/2` still names every second day: only a bare star is no condition.
            days=None if day == "*" else _field(day, 1, 31),
            months=_field(month, 1, 12, _MONTHS),
            weekdays=None if weekday == "*" else _weekdays(weekday),
            has_any_hour=hour.startswith("*"),
        )
        if read.weekdays is None and read.days is not None:
            longest = (calendar.monthrange(_LEAP_YEAR, month)[1] for month in read.months)
            if min(read.days) > max(longest):
                raise ValueError(text)
        return read

    def __str__(self) -> str:
        return self.text

    @property
    def needs_day_and_weekday(self) -> bool:
        """Both must fit: one of them begins with a star (``*/2``). Else either is enough."""
        day, weekday = _NICKNAMES.get(self.text, self.text).split()[2::2]
        return day.startswith("*") or weekday.startswith("*")


@dataclass(frozen=True, slots=True)
class Window:
    """The hours in which sweeps may run, by the clock on the wall."""

    text: str
    openings: tuple[tuple[int, int], ...]  # [minute of the week, minute after it) from Monday

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``22:00-06:00``, ``mon-fri 22:00-06:00,sat-sun 00:00-24:00``.

        The days are those on which it opens; one that ends before it begins goes over
        midnight.

        Raises:
            ValueError
        """
        openings = [span for part in text.split(",") for span in _openings(part.strip())]
        return cls(text=text, openings=tuple(sorted(openings)))

    def __str__(self) -> str:
        return self.text

    def is_open(self, local: datetime) -> bool:
        minute = local.weekday() * _DAY_MINUTES + local.hour * 60 + local.minute
        return any(
            begin <= at < end
            for begin, end in self.openings
            for at in (minute, minute + _WEEK_MINUTES)
        )


@dataclass(frozen=True, slots=True)
class Timetable:
    """When sweeps begin: every so often, or by a crontab line; inside a window, if any."""

    interval_seconds: float
    crontab: Crontab | None = None  # set: the interval says nothing
    window: Window | None = None
    zone: tzinfo = UTC  # of the crontab line and the window

    def __str__(self) -> str:
        """``every 60 s``, ``30 3 * * * in 22:00-06:00 Europe/Berlin``."""
        begins = (
            f"every {self.interval_seconds:g} s" if self.crontab is None else str(self.crontab)
        )
        within = "" if self.window is None else f" in {self.window}"
        zone = "" if self.crontab is None and self.window is None else f" {self.zone}"
        return f"{begins}{within}{zone}"

    def is_open(self, at: datetime) -> bool:
        return self.window is None or self.window.is_open(at.astimezone(self.zone))

    def opens_at(self, at: datetime) -> datetime:
        """The first instant from `at` on at which the window is open; `at` itself may be.

        Looked for minute by minute of real time: no arithmetic on wall clocks, so a change
        of the clocks is nothing special. A week has every opening there is, but one that
        falls into an hour that is left out comes a week later.
        """
        if self.is_open(at):
            return at
        at = at.replace(second=0, microsecond=0)
        for _ in range(2 * _WEEK_MINUTES):
            at += timedelta(minutes=1)
            if self.is_open(at):
                return at
        message = f"the window {self.window} never opens"
        raise AssertionError(message)

    @property
    def can_fire(self) -> bool:
        """Whether the window is open at any time of day that the crontab line names."""
        if self.crontab is None or self.window is None:
            return True
        days = self.crontab.weekdays if self.crontab.days is None else None
        return any(
            begin <= at < end
            for begin, end in self.window.openings
            for day in (days or range(7))
            for hour in self.crontab.hours
            for minute in self.crontab.minutes
            for week in (0, _WEEK_MINUTES)
            for at in (day * _DAY_MINUTES + hour * 60 + minute + week,)
        )


# --- reading crontab lines ----------------------------------------------------------------


def _field(text: str, least: int, most: int, names: Sequence[str] = ()) -> tuple[int, ...]:
    found: set[int] = set()
    for part in text.split(","):
        match = _PART.fullmatch(part)
        if match is None:
            raise ValueError(text)
        found.update(_values(match, least, most, names))
    return tuple(sorted(found))


def _values(match: re.Match[str], least: int, most: int, names: Sequence[str]) -> Iterable[int]:
    first_text, last_text, step_text = match["first"], match["last"], match["step"]
    if first_text == "*":
        if last_text is not None:
            raise ValueError(first_text)
        first, last = least, most
    else:
        first = _number(first_text, least, names)
        last = first if last_text is None else _number(last_text, least, names)
        if last_text is None and step_text is not None:
            last = most  # `5/15`: from the fifth on
    step = 1 if step_text is None else int(step_text)
    if not (least <= first <= last <= most and step >= 1):
        raise ValueError(match[0])
    return range(first, last + 1, step)


def _number(text: str, least: int, names: Sequence[str]) -> int:
    if text in names:
        return names.index(text) + least
    if not text.isdecimal():
        raise ValueError(text)
    return int(text)


def _weekdays(text: str) -> tuple[int, ...]:
    """From crontab's count (Sunday is 0 and 7) to Python's (Monday is 0)."""
    return tuple(sorted({(number - 1) % 7 for number in _field(text, 0, 7, _WEEKDAYS)}))


# --- reading windows ----------------------------------------------------------------------


def _openings(text: str) -> Iterable[tuple[int, int]]:
    match = _OPENING.fullmatch(text.lower())
    if match is None:
        raise ValueError(text)
    begin = _minute(match["from_h"], match["from_m"])
    end = _minute(match["to_h"], match["to_m"])
    if begin in (end, _DAY_MINUTES):
        raise ValueError(text)
    length = (end - begin) % _DAY_MINUTES or _DAY_MINUTES
    for day in _days(match["days"]):
        yield day * _DAY_MINUTES + begin, day * _DAY_MINUTES + begin + length


def _minute(hours: str, minutes: str) -> int:
    minute = int(hours) * 60 + int(minutes)
    if int(minutes) > 59 or minute > _DAY_MINUTES:  # noqa: PLR2004  # the last of an hour
        raise ValueError(hours)
    return minute


def _days(text: str | None) -> Iterable[int]:
    if text is None:
        return range(7)
    first, _, last = text.partition("-")
    begin = (_number(first, 0, _WEEKDAYS) - 1) % 7
    end = (_number(last or first, 0, _WEEKDAYS) - 1) % 7
    return ((begin + day) % 7 for day in range((end - begin) % 7 + 1))
