"""The instants at which sweeps begin. APScheduler's cron beneath, the window around it.

All questions are about instants and answered in UTC; the clock is the asker's.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.cron import CronTrigger

if TYPE_CHECKING:
    from collections.abc import Iterator

    from archiver.ops.timetable import Crontab, Timetable

_SMALLEST = timedelta(microseconds=1)
_LOOKS_BACK_DAYS = (0.1, 1, 7, 40, 400, 4000)  # for two fire times of the past
_LONGEST_SEARCH = 10_000  # fire times outside the window, before it is said never to fire


class Schedule(BaseTrigger):  # type: ignore[misc]  # APScheduler has no types
    """A trigger for APScheduler, and for whoever asks what comes next."""

    def __init__(self, timetable: Timetable) -> None:
        self._timetable = timetable
        self._triggers = (
            [] if timetable.crontab is None else _cron_triggers(timetable.crontab, timetable)
        )

    def get_next_fire_time(
        self, previous_fire_time: datetime | None, now: datetime
    ) -> datetime | None:
        """APScheduler's own question. A schedule that has not fired yet fires now."""
        if previous_fire_time is None:
            return self._timetable.opens_at(now.astimezone(UTC))
        return self.next_after(previous_fire_time)

    def next_after(self, at: datetime) -> datetime | None:
        """The first fire time after `at`, taken as one; None where there is no other."""
        if self._timetable.crontab is None:
            return self._next_by_interval(at.astimezone(UTC))
        return next(self._by_crontab(at), None)

    def after_set_back(
        self, due_at: datetime, seconds: float, now: datetime
    ) -> datetime | None:
        """The next fire time in place of `due_at`, where the clock was set back by so much.

        An interval is one of time passed: begun anew at each correction of the clock, a
        long one might never end.
        """
        if self._timetable.crontab is None:
            earlier = due_at.astimezone(UTC) - timedelta(seconds=seconds)
            return self._timetable.opens_at(earlier)
        return self.next_after(now)

    def last_but_one(self, now: datetime) -> datetime | None:
        """When the fire time before the last one was; None where too few have come.

        By INTERVAL nobody knows the others' fire times: two intervals ago counts. With a
        window it is None until the window has been open for so long.
        """
        timetable = self._timetable
        if timetable.crontab is None:
            before = now - timedelta(seconds=2 * timetable.interval_seconds)
            was_open = timetable.opens_at(before) == before
            return before if was_open else None
        for days in _LOOKS_BACK_DAYS:
            fired: list[datetime] = []
            for at in self._by_crontab(now - timedelta(days=days)):
                if at > now:
                    break
                fired = [*fired[-1:], at]
            if len(fired) > 1:
                return fired[0]
        return None

    def _next_by_interval(self, at: datetime) -> datetime:
        """A window that opens is a fire time: else a long interval might never meet it."""
        return self._timetable.opens_at(
            at + timedelta(seconds=self._timetable.interval_seconds)
        )

    def _by_crontab(self, at: datetime) -> Iterator[datetime]:
        """The fire times after `at`, in order."""
        skipped_count = 0
        while skipped_count < _LONGEST_SEARCH:
            # Without a previous fire time: given one in UTC, in the hour that the clocks
            # repeat, the trigger would answer that very instant for ever.
            after = (at + _SMALLEST).astimezone(self._timetable.zone)
            found = [
                it for it in (t.get_next_fire_time(None, after) for t in self._triggers) if it
            ]
            if not found:
                return
            at = min(found, key=_instant).astimezone(UTC)
            if self._is_repeated(at):
                skipped_count += 1
            elif not self._timetable.is_open(at):
                skipped_count += 1
                at = self._timetable.opens_at(at) - _SMALLEST
            else:
                skipped_count = 0
                yield at

    def _is_repeated(self, at: datetime) -> bool:
        """The clocks were set back: what is to run at 02:30 has run at the first 02:30."""
        crontab, local = self._timetable.crontab, at.astimezone(self._timetable.zone)
        return crontab is not None and not crontab.has_any_hour and local.fold == 1


def _cron_triggers(crontab: Crontab, timetable: Timetable) -> list[CronTrigger]:
    """One for days and weekdays together, or one each where either is enough.

    The numbers are spelled out: APScheduler counts weekdays from Monday, crontab from
    Sunday, and it asks for day and weekday where crontab is content with one of them.
    """
    conditions = {"day": crontab.days, "day_of_week": crontab.weekdays}
    named = {name: _listed(numbers) for name, numbers in conditions.items() if numbers}
    both = [named] if crontab.needs_day_and_weekday else [{k: v} for k, v in named.items()]
    return [
        CronTrigger(
            minute=_listed(crontab.minutes),
            hour=_listed(crontab.hours),
            month=_listed(crontab.months),
            timezone=timetable.zone,
            **days,
        )
        for days in both
    ]


def _listed(numbers: tuple[int, ...]) -> str:
    return ",".join(map(str, numbers))


def _instant(at: datetime) -> datetime:
    return at.astimezone(UTC)
