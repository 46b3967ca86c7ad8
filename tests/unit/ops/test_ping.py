"""A monitor is told how sweeps end, and its URL stays a secret."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from archiver.events import PingFailed
from archiver.model import Secret
from archiver.ops.ping import Ping, failed
from tests.harness.monitor import running_monitor

if TYPE_CHECKING:
    from collections.abc import Iterator

    from archiver.events import Event
    from tests.harness.monitor import Monitor


@pytest.fixture
def monitor() -> Iterator[Monitor]:
    with running_monitor() as monitor:
        yield monitor


def _ping(url: str, *rounds: int) -> list[Event]:
    events: list[Event] = []
    ping = Ping(Secret(url), events.append, ca_bundle=None, proxy_url=None)
    for is_good in rounds:
        ping(bool(is_good))
    return events


def test_a_good_round_asks_for_the_url_and_a_bad_one_for_its_fail(monitor: Monitor) -> None:
    assert _ping(f"{monitor.url}/uuid?rid=7", 1, 0) == []
    assert monitor.asked == ["/uuid?rid=7", "/uuid/fail?rid=7"]


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://hc.example/uuid", "https://hc.example/uuid/fail"),
        ("https://hc.example/uuid/", "https://hc.example/uuid/fail"),
        ("https://hc.example", "https://hc.example/fail"),
        ("https://hc.example/a?x=/y&z", "https://hc.example/a/fail?x=/y&z"),
    ],
)
def test_fail_goes_to_the_end_of_the_path(url: str, expected: str) -> None:
    assert failed(url) == expected


@pytest.mark.parametrize("status", [404, 500])
def test_a_monitor_that_refuses_is_told_without_its_url(monitor: Monitor, status: int) -> None:
    monitor.status = status
    assert _ping(f"{monitor.url}/uuid", 1) == [PingFailed(f"HTTP {status}")]


def test_an_answer_without_an_end_keeps_no_later_ping(monitor: Monitor) -> None:
    monitor.body_ends.clear()
    try:
        assert _ping(f"{monitor.url}/uuid", 1, 0) == []
    finally:
        monitor.body_ends.set()
    assert monitor.asked == ["/uuid", "/uuid/fail"]


def test_a_monitor_that_is_gone_is_told_without_its_url() -> None:
    (event,) = _ping("http://127.0.0.1:1/secret-uuid", 1)
    assert isinstance(event, PingFailed)
    assert event.reason == "NewConnectionError"
