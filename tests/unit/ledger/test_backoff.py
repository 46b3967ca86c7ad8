"""How long a failed claim waits: longer each time, bounded, and not all at once."""

from __future__ import annotations

import pytest

from archiver.ledger.backoff import Backoff


def seconds(
    attempts_count: int, retry_after: float | None = None, *, luck: float = 0.5
) -> float:
    return Backoff(2.0, 3600.0, lambda: luck).seconds(attempts_count, retry_after)


def test_the_wait_doubles_up_to_its_bound() -> None:
    assert [seconds(n) for n in (1, 2, 3, 11, 12, 5000)] == [2, 4, 8, 2048, 3600, 3600]


def test_the_jitter_is_a_fifth_each_way() -> None:
    assert seconds(1, luck=0.0) == pytest.approx(1.6)
    assert seconds(1, luck=1.0) == pytest.approx(2.4)
    assert seconds(99, luck=1.0) == pytest.approx(4320)


def test_the_pause_a_store_asks_for_is_the_least() -> None:
    assert seconds(1, 30.0) == 30
    assert seconds(10, 30.0) == 1024


@pytest.mark.parametrize("asked_seconds", [31_536_000.0, 1e14, float("inf")])
def test_no_store_keeps_an_object_waiting_for_longer_than_the_longest_retry(
    asked_seconds: float,
) -> None:
    assert seconds(1, asked_seconds) == 3600


def test_the_defaults_try_for_about_five_hours() -> None:
    assert 4 * 3600 < sum(seconds(n) for n in range(1, 16)) < 6 * 3600
