"""When sweeps begin: days of fire times, asked of the schedule with our own clock."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archiver.ops.schedule import Schedule
from archiver.ops.timetable import Crontab, Timetable, Window
from tests.fakes.clock import ManualClock

if TYPE_CHECKING:
    from collections.abc import Iterator

BERLIN, NEW_YORK = "Europe/Berlin", "America/New_York"
SPRING = {BERLIN: datetime(2026, 3, 29), NEW_YORK: datetime(2026, 3, 8)}  # noqa: DTZ001
AUTUMN = {BERLIN: datetime(2026, 10, 25), NEW_YORK: datetime(2026, 11, 1)}  # noqa: DTZ001
NO_DAY = datetime(2026, 6, 16)  # noqa: DTZ001  # a Tuesday on which nothing changes


def timetable(
    crontab: str | None = None,
    *,
    window: str | None = None,
    zone: str = "UTC",
    interval: float = 60.0,
) -> Timetable:
    return Timetable(
        interval,
        None if crontab is None else Crontab.parse(crontab),
        None if window is None else Window.parse(window),
        ZoneInfo(zone),
    )


def day_of(asked: Timetable, day: datetime) -> list[str]:
    """The fire times of a day of the zone, as its wall clock shows them, with its offset."""
    begin = day.replace(tzinfo=asked.zone)
    end = (day + timedelta(days=1)).replace(tzinfo=asked.zone)
    clock = ManualClock(begin.astimezone(UTC) - timedelta(microseconds=1))
    found = itertools.takewhile(lambda at: at < end.astimezone(UTC), fire_times(asked, clock))
    return [f"{at.astimezone(asked.zone):%H:%M%z}"[:-2] for at in found]


def fire_times(asked: Timetable, clock: ManualClock) -> Iterator[datetime]:
    """As a scheduler asks: each time with the one before and the present."""
    schedule = Schedule(asked)
    at = schedule.next_after(clock.now())
    while at is not None:
        clock.advance((at - clock.now()).total_seconds())
        yield at
        later = schedule.get_next_fire_time(at, clock.now())
        assert later is None or later > at
        at = later


# --- crontab lines ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("0 3 * * *", ["03:00+00"]),
        ("@daily", ["00:00+00"]),
        ("15,45 6-8/2 * * *", ["06:15+00", "06:45+00", "08:15+00", "08:45+00"]),
        ("50/5 23 * * *", ["23:50+00", "23:55+00"]),
        ("0 */8 * * *", ["00:00+00", "08:00+00", "16:00+00"]),
        ("0 3 * * 2", ["03:00+00"]),  # a Tuesday
        ("0 3 * * tue", ["03:00+00"]),
        ("0 3 * * MON-WED", ["03:00+00"]),
        ("0 3 * * 1", []),  # Monday to cron, Tuesday to APScheduler
        ("0 3 * * 0,7", []),
        ("0 3 16 * 0", ["03:00+00"]),  # the day, though it is no Sunday
        ("0 3 1 * 2", ["03:00+00"]),  # the weekday, though it is not the first
        ("0 3 */2 * 2", []),  # a star, so both must fit: the 16th is not in it
        ("0 3 * jul *", []),
        ("0 3 * jun,jul *", ["03:00+00"]),
        ("0 3 31 2,6,7 *", []),
    ],
)
def test_a_line_means_what_cron_means_by_it(line: str, expected: list[str]) -> None:
    assert day_of(timetable(line), NO_DAY) == expected


@pytest.mark.parametrize("weekday", ["0", "7", "sun", "SUN"])
def test_a_sunday_is_a_sunday_however_it_is_written(weekday: str) -> None:
    clock = ManualClock(datetime(2026, 6, 16, tzinfo=UTC))
    found = list(itertools.islice(fire_times(timetable(f"0 3 * * {weekday}"), clock), 3))
    assert [at.strftime("%a %d") for at in found] == ["Sun 21", "Sun 28", "Sun 05"]


@pytest.mark.parametrize(
    "line",
    [
        *("", "0 3 * *", "0 3 * * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "* * 32 * *"),
        *(
            "* * * 13 *",
            "* * * * 8",
            "* * * * mun",
            "*/0 * * * *",
            "5-1 * * * *",
            "*-3 * * * *",
        ),
        *("1,,2 * * * *", "-1 * * * *", "@reboot", "0 0 31 2 *", "0 0 31 4,6 *", "a b c d e"),
    ],
)
def test_what_is_no_crontab_line_is_refused(line: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # its text is not shown
        Crontab.parse(line)


_NUMBERS = {"minute": (0, 59), "hour": (0, 23), "day": (1, 31), "month": (1, 12), "dow": (0, 7)}


def _fields(name: str) -> st.SearchStrategy[str]:
    least, most = _NUMBERS[name]
    number = st.integers(least, most)
    spans = st.tuples(number, number).map(sorted).map(lambda it: f"{it[0]}-{it[1]}")
    steps = st.integers(1, 7).map(lambda it: f"*/{it}")
    return st.one_of(
        st.just("*"),
        number.map(str),
        spans,
        steps,
        st.tuples(number.map(str), spans).map(",".join),
    )


def _names(text: str, number: int, least: int, most: int) -> bool:
    for part in text.split(","):
        span, _, step = part.partition("/")
        first, _, last = (f"{least}-{most}" if span == "*" else span).partition("-")
        if number in range(int(first), int(last or first) + 1, int(step or 1)):
            return True
    return False


def _fits(line: str, at: datetime) -> bool:
    """What crontab(5) says, for one minute."""
    minute, hour, day, month, weekday = line.split()
    fits_day = _names(day, at.day, 1, 31)
    cron_day = at.isoweekday() % 7
    fits_weekday = _names(weekday, cron_day, 0, 7) or (
        cron_day == 0 and _names(weekday, 7, 0, 7)
    )
    has_star = day.startswith("*") or weekday.startswith("*")
    return (
        _names(minute, at.minute, 0, 59)
        and _names(hour, at.hour, 0, 23)
        and _names(month, at.month, 1, 12)
        and ((fits_day and fits_weekday) if has_star else (fits_day or fits_weekday))
    )


@settings(deadline=None, max_examples=60)
@given(line=st.tuples(*map(_fields, _NUMBERS)).map(" ".join))
def test_any_line_fires_in_the_minutes_that_crontab_names_and_in_no_others(line: str) -> None:
    begin = datetime(2026, 1, 30, 22, 57, tzinfo=UTC)
    minutes = [begin + timedelta(minutes=n) for n in range(4 * 24 * 60)]
    expected = [at for at in minutes if _fits(line, at)][:100]
    try:
        asked = timetable(line)
    except ValueError:
        assert expected == []  # such as the 31st of February
        return
    found = fire_times(asked, ManualClock(begin - timedelta(seconds=1)))
    in_time = itertools.takewhile(lambda at: at <= minutes[-1], found)
    assert list(itertools.islice(in_time, 100)) == expected


# --- the change of the clocks -------------------------------------------------------------


@pytest.mark.parametrize(("zone", "before", "after"), [(BERLIN, 1, 2), (NEW_YORK, -5, -4)])
def test_a_day_of_23_hours_has_every_quarter_of_them(
    zone: str, before: int, after: int
) -> None:
    fired = day_of(timetable("*/15 * * * *", zone=zone), SPRING[zone])
    assert len(fired) == 4 * 23
    assert fired[7:9] == [f"01:45{before:+03d}", f"03:00{after:+03d}"]


@pytest.mark.parametrize(("zone", "hour"), [(BERLIN, 2), (NEW_YORK, 1)])
def test_a_day_of_25_hours_has_every_quarter_of_them(zone: str, hour: int) -> None:
    fired = day_of(timetable("*/15 * * * *", zone=zone), AUTUMN[zone])
    assert len(fired) == len(set(fired)) == 4 * 25
    assert len([it for it in fired if it.startswith(f"{hour:02d}:")]) == 8


@pytest.mark.parametrize(("zone", "at"), [(BERLIN, "02:30"), (NEW_YORK, "01:30")])
def test_a_time_that_comes_twice_fires_once(zone: str, at: str) -> None:
    hour, minute = at.split(":")
    fired = day_of(timetable(f"{minute} {hour} * * *", zone=zone), AUTUMN[zone])
    assert [it[:5] for it in fired] == [at]


@pytest.mark.parametrize("zone", [BERLIN, NEW_YORK])
def test_a_time_that_is_left_out_fires_an_hour_later(zone: str) -> None:
    fired = day_of(timetable("30 2 * * *", zone=zone), SPRING[zone])
    assert [it[:5] for it in fired] == ["03:30"]


@pytest.mark.parametrize("zone", [BERLIN, NEW_YORK])
def test_a_previous_time_in_the_repeated_hour_is_left_behind(zone: str) -> None:
    """APScheduler's own trigger, given that time in UTC, answers it again for ever."""
    schedule = Schedule(timetable("*/20 * * * *", zone=zone))
    at = AUTUMN[zone].replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)
    for _ in range(75):  # 25 hours
        later = schedule.get_next_fire_time(at, at)
        assert later == at + timedelta(minutes=20)
        at = later


# --- intervals ----------------------------------------------------------------------------


def test_an_interval_is_counted_in_real_seconds_across_a_change_of_the_clocks() -> None:
    asked = timetable(interval=3600, zone=BERLIN)
    assert len(day_of(asked, SPRING[BERLIN])) == 23
    assert len(day_of(asked, AUTUMN[BERLIN])) == 25
    assert len(day_of(asked, NO_DAY)) == 24


def test_the_first_sweep_is_at_once() -> None:
    clock = ManualClock()
    for asked in (timetable(), timetable("0 3 * * *"), timetable(window="00:00-24:00")):
        assert Schedule(asked).get_next_fire_time(None, clock.now()) == clock.now()


# --- windows ------------------------------------------------------------------------------


def test_outside_the_window_the_first_sweep_is_when_it_opens() -> None:
    clock = ManualClock(datetime(2026, 6, 16, 12, 0, 30, tzinfo=UTC))
    schedule = Schedule(timetable(window="22:00-06:00", zone=BERLIN))
    opens_at = datetime(2026, 6, 16, 20, tzinfo=UTC)  # 22:00 in Berlin
    assert schedule.get_next_fire_time(None, clock.now()) == opens_at


def test_an_interval_stays_in_the_window_and_begins_with_it() -> None:
    asked = timetable(interval=2 * 3600, window="22:00-06:00", zone=BERLIN)
    night = itertools.islice(
        fire_times(asked, ManualClock(datetime(2026, 6, 16, 12, tzinfo=UTC))), 6
    )
    local = [f"{at.astimezone(asked.zone):%d %H:%M}" for at in night]
    assert local == ["16 22:00", "17 00:00", "17 02:00", "17 04:00", "17 22:00", "18 00:00"]


def test_an_interval_longer_than_the_window_meets_it_every_day() -> None:
    asked = timetable(interval=24 * 3600, window="03:00-03:05")
    clock = ManualClock(datetime(2026, 6, 16, 12, tzinfo=UTC))
    assert [f"{at:%d %H:%M}" for at in itertools.islice(fire_times(asked, clock), 3)] == [
        "18 03:00",
        "19 03:00",
        "20 03:00",
    ]


def test_a_crontab_line_fires_in_the_window_alone() -> None:
    asked = timetable("0 * * * *", window="22:00-02:00")
    assert day_of(asked, NO_DAY) == ["00:00+00", "01:00+00", "22:00+00", "23:00+00"]


@pytest.mark.parametrize(
    ("day", "window", "count"),
    [
        (NO_DAY, "01:00-04:00", 6),
        (SPRING[BERLIN], "01:00-04:00", 4),  # 02:00 to 03:00 is left out
        (AUTUMN[BERLIN], "01:00-04:00", 8),  # and comes twice
        (SPRING[BERLIN], "02:00-03:00", 0),  # nothing of it is left
        (SPRING[BERLIN], "02:30-04:00", 2),  # it opens at 03:00
        (AUTUMN[BERLIN], "02:15-02:45", 2),  # 02:15 for half an hour, twice
        (SPRING[BERLIN], "22:00-04:00", 2 * 3 + 2 * 2),
        (AUTUMN[BERLIN], "22:00-04:00", 2 * 5 + 2 * 2),
    ],
)
def test_a_window_goes_by_the_clock_on_the_wall(day: datetime, window: str, count: int) -> None:
    asked = timetable(interval=1800, window=window, zone=BERLIN)
    assert len(day_of(asked, day)) == count


def test_windows_may_be_several_and_of_some_days() -> None:
    asked = timetable(interval=3600, window="mon-fri 22:00-06:00, sat-sun 00:00-24:00")
    friday, saturday, monday = (datetime(2026, 6, day) for day in (19, 20, 22))  # noqa: DTZ001
    assert len(day_of(asked, friday)) == 6 + 2
    assert len(day_of(asked, saturday)) == 24
    assert day_of(asked, monday)[0] == "22:00+00"  # Sunday's does not go over midnight


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "22-06",
            "22:00-22:00",
            "24:00-06:00",
            "22:00-24:01",
            "22:60-23:00",
            "25:00-26:00",
        ),
        *("22:00-06:00,", "someday 22:00-23:00", "mon-fri", "1:00-2:00", "22:00 - 06:00"),
    ],
)
def test_what_is_no_window_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # its text is not shown
        Window.parse(text)


@pytest.mark.parametrize(
    ("line", "window", "can"),
    [
        ("0 12 * * *", "22:00-06:00", False),
        ("0 5 * * *", "22:00-06:00", True),
        ("0 23 * * 6", "mon-fri 22:00-06:00", False),
        ("0 5 * * 6", "mon-fri 22:00-06:00", True),  # Friday's goes over midnight
        ("0 1 * * 1", "sun 22:00-06:00", True),  # over the end of the week
    ],
)
def test_a_line_that_never_meets_its_window_is_seen(
    line: str, window: str, *, can: bool
) -> None:
    assert timetable(line, window=window).can_fire is can


# --- what should have happened ------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("* * * * *", "2026-06-16 11:58"),
        ("0 3 * * *", "2026-06-15 03:00"),
        ("0 3 * * 0", "2026-06-07 03:00"),
        ("0 3 1 * *", "2026-05-01 03:00"),
        ("0 3 1 1 *", "2025-01-01 03:00"),
        ("59 11 * * *", "2026-06-15 11:59"),
    ],
)
def test_the_last_but_one_fire_time_is_found(line: str, expected: str) -> None:
    now = datetime(2026, 6, 16, 11, 59, 30, tzinfo=UTC)
    found = Schedule(timetable(line)).last_but_one(now)
    assert f"{found:%Y-%m-%d %H:%M}" == expected


def test_by_interval_two_intervals_ago_count_once_the_window_is_open_so_long() -> None:
    opened = datetime(2026, 6, 16, 22, tzinfo=UTC)
    schedule = Schedule(timetable(interval=600, window="22:00-06:00"))
    assert schedule.last_but_one(opened + timedelta(minutes=19)) is None
    assert schedule.last_but_one(opened + timedelta(minutes=21)) == opened + timedelta(
        minutes=1
    )
