"""Numbers for people, and the clock of the machine."""

from __future__ import annotations

from datetime import UTC

import pytest

from archiver.ops.clock import SystemClock
from archiver.ops.human import bytes_text, count_text, seconds_text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (100 * 1024, "100 KiB"),
        (1024**2 - 1, "1.0 MiB"),
        (5 * 1024**4, "5.0 TiB"),
        (5000 * 1024**5, "5,000 PiB"),
    ],
)
def test_bytes_have_three_digits_or_so(count: int, text: str) -> None:
    assert bytes_text(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (3.21, "3.2 s"),
        (9.99, "10 s"),
        (59.6, "1 min"),
        (185, "3 min 5 s"),
        (7_260, "2 h 1 min"),
        (266_400, "3 d 2 h"),
    ],
)
def test_seconds_have_their_two_largest_units(seconds: float, text: str) -> None:
    assert seconds_text(seconds) == text


def test_counts_have_separators() -> None:
    assert count_text(1_234_567) == "1,234,567"


def test_the_wall_clock_is_aware_and_utc() -> None:
    assert SystemClock().now().tzinfo is UTC


def test_the_boot_clock_never_goes_back() -> None:
    clock = SystemClock()
    before = clock.monotonic()
    clock.sleep(-1.0)
    assert clock.monotonic() >= before
