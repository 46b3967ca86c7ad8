"""Durations, sizes and the other kinds of value."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archiver.config import values
from archiver.config.values import (
    EGRESS_BUDGET,
    format_duration,
    parse_duration,
    parse_size,
)
from archiver.model import EgressBudget

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("0s", 0),
        ("90s", 90),
        ("1m", 60),
        ("2h30m", 9_000),
        ("1h30m10s", 5_410),
        ("1.5h", 5_400),
        (".5s", 0.5),
        ("1.s", 1),
        ("500ms", 0.5),
        ("250us", 0.00025),
        ("250µs", 0.00025),
        ("100ns", 0.0000001),
        ("7d", 604_800),
        ("1d12h", 129_600),
    ],
)
def test_durations_are_gos_and_days(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "5",
        "1.5",
        "00",
        "s",
        "-1s",
        "+1s",
        "1 h",
        "1h ",
        " 1h",
        "1H",
        "1min",
        "1e3s",
        "1w",
        "1h30",
        "1,5h",
        "٣s",
        "1..5s",
        ".s",
        "inf",
        "nan",
        "99999999d",
        "1s\n",
    ],
)
def test_other_durations_are_refused(text: str) -> None:
    assert _is_refused(parse_duration, text)


@given(st.integers(min_value=0, max_value=10 * 365 * 86_400 * 10**6))
def test_a_formatted_duration_reads_back_as_the_same_number(microseconds: int) -> None:
    seconds = microseconds / 10**6
    assert parse_duration(format_duration(seconds)) == seconds


@given(st.text(max_size=12))
def test_no_text_makes_the_duration_parser_raise_anything_else(text: str) -> None:
    assert _is_refused(parse_duration, text) or parse_duration(text) >= 0


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("64MiB", 64 * 1024**2),
        ("200GB", 200 * 1000**3),
        ("1.5KiB", 1536),
        ("10 TB", 10 * 1000**4),
        ("0B", 0),
        ("7b", 7),
    ],
)
def test_sizes_have_a_unit(text: str, count: int) -> None:
    assert parse_size(text) == count


@pytest.mark.parametrize(
    ("text", "limit_bytes", "window_seconds"),
    [
        ("200GiB/month", 200 * 1024**3, 30 * 86400),
        ("5GB/day", 5 * 1000**3, 86400),
        ("1 TB/week", 1000**4, 7 * 86400),
        ("1B/1h", 1, 3600),
        ("1.5MiB/2h30m", 1536 * 1024, 9000),
        ("1000000TB/366d", 10**18, 366 * 86400),
    ],
)
def test_an_egress_budget_is_a_size_and_a_window(
    text: str, limit_bytes: int, window_seconds: float
) -> None:
    assert EGRESS_BUDGET.parse(text) == EgressBudget(limit_bytes, window_seconds)


def test_an_egress_budget_may_be_off() -> None:
    assert EGRESS_BUDGET.parse("off") is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "on",
        "200GiB",
        "200GiB/",
        "/month",
        "200/month",
        "0B/day",
        "5GB/year",
        "5GB/Month",
        "5GB/30",
        "5GB/59m59s",
        "5GB/366d1s",
        "5GB/day/2",
        "-5GB/day",
        "1000001TB/day",
    ],
)
def test_other_egress_budgets_are_refused(text: str) -> None:
    assert _is_refused(EGRESS_BUDGET.parse, text)


@pytest.mark.parametrize("text", ["", "0", "500", "64M", "64Mi", "-1MB", "1 PB", "B", "1e3MB"])
def test_sizes_without_a_plain_unit_are_refused(text: str) -> None:
    assert _is_refused(parse_size, text)


@pytest.mark.parametrize(
    ("text", "prefix"),
    [("", ""), ("  ", ""), ("/", ""), ("42", "42/"), (" /a/b/ ", "a/b/"), ("ä b", "ä b/")],
)
def test_a_prefix_is_trimmed_and_ends_in_one_slash(text: str, prefix: str) -> None:
    assert values.PREFIX.parse(text) == prefix


@pytest.mark.parametrize("text", ["../x", "a/../b", "a//b", "./a", "a\nb", "x" * 513])
def test_a_prefix_that_would_leave_its_place_is_refused(text: str) -> None:
    assert _is_refused(values.PREFIX.parse, text)


@pytest.mark.parametrize(
    ("text", "root"),
    [
        ("file:///srv/cold", Path("/srv/cold")),
        ("file:///a%20b/", Path("/a b")),
        ("file://localhost/srv", Path("/srv")),
    ],
)
def test_a_directory_is_a_file_url(text: str, root: Path) -> None:
    assert values.ENDPOINT.parse(text) == root


@pytest.mark.parametrize("text", ["file://srv/cold", "file:cold", "file:///a/../b", "file://"])
def test_a_directory_must_be_absolute(text: str) -> None:
    assert _is_refused(values.ENDPOINT.parse, text)


@pytest.mark.parametrize(
    "text",
    [
        "host",
        "ftp://host",
        "https://",
        "https://u:p@host",
        "https://h/?x=1",
        "https://h/#x",
        "https://host:99999",
        "https://[::1",
        "https://a b",
    ],
)
def test_a_url_with_more_or_less_than_a_host_is_refused(text: str) -> None:
    assert _is_refused(values.HTTP_URL.parse, text)


@pytest.mark.parametrize("host", ["localhost", "a.localhost", "127.0.0.1", "127.9.9.9", "::1"])
def test_loopback_hosts_are_known(host: str) -> None:
    assert values.is_loopback(host)


@pytest.mark.parametrize(
    "host", ["10.0.0.1", "127.0.0.1.example.com", "localhost.example.com", ""]
)
def test_other_hosts_are_not_loopback(host: str) -> None:
    assert not values.is_loopback(host)


def _is_refused(parse: Callable[[str], object], text: str) -> bool:
    try:
        parse(text)
    except ValueError:
        return True
    return False
