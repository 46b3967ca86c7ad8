"""Pauses that a store asks for, and a stop while everything waits for its turn."""

from __future__ import annotations

import random
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.harness.command import start
from tests.harness.s3_front import Asked, Refusal, S3Front

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.harness.scene import Scene

BOUND_SECONDS = 60.0  # for what never happens when the tests pass
THREADS = 4
PAUSE_SECONDS = 2
SLOW_DOWN = Refusal(503, "SlowDown", {"Retry-After": str(PAUSE_SECONDS)})


class RefusesOnce:
    """A rule that refuses the nth request, and knows when it did."""

    def __init__(self, number: int, refusal: Refusal = SLOW_DOWN) -> None:
        self._left = number
        self._refusal = refusal
        self._lock = threading.Lock()  # over what is left
        self.at = 0.0

    def __call__(self, _asked: Asked) -> Refusal | None:
        with self._lock:
            self._left -= 1
            if self._left:
                return None
            self.at = time.monotonic()
            return self._refusal


@pytest.fixture
def hot(scene: Scene) -> Iterator[S3Front]:
    """Before the stand-in."""
    with S3Front(scene.hot.url) as front:
        scene.settings |= {
            "SUPABASE_URL": front.url,
            "ARCHIVE_RETRY_MAX": "1h",
            "ARCHIVE_RELEASE": "off",  # so each thread asks one thing at a time
            "ARCHIVE_CONCURRENCY": str(THREADS),
        }
        yield front


def during(front: S3Front, since: float) -> int:
    """How many requests came while the store wanted none."""
    return sum(since < at < since + PAUSE_SECONDS * 0.95 for at in front.meter.request_times)


def test_a_hot_store_that_asks_for_a_pause_is_not_asked_before_it_is_over(
    s3_scene: Scene, hot: S3Front
) -> None:
    scene, rule = s3_scene, RefusesOnce(5)
    pages = [scene.due_page() for _ in range(40)]
    hot.rule = rule

    ran = scene.once()

    assert ran.summary["archived"] == len(pages)
    assert ran.stderr.count("object not archived") <= 1  # the one that was refused
    assert during(hot, rule.at) < THREADS  # what was on its way already
    assert [] == scene.lost()


def test_a_pause_of_one_store_is_none_for_the_other(s3_scene: Scene, hot: S3Front) -> None:
    """What was read before goes on to cold, and is proven there."""
    scene, rule = s3_scene, RefusesOnce(5)
    pages = [scene.due_page() for _ in range(10)]
    hot.rule = rule
    ran = scene.once()

    assert scene.front is not None
    assert ran.summary["archived"] == len(pages)
    assert during(scene.front, rule.at) > 0  # its proofs, at least
    assert [] == scene.lost()


def test_a_cold_store_that_asks_for_a_pause_is_not_asked_before_it_is_over(
    s3_scene: Scene, hot: S3Front
) -> None:
    """The first client does not show the header: one question brings it."""
    scene, hot.rule = s3_scene, lambda _: None
    assert scene.front is not None
    pages = [scene.due_page() for _ in range(40)]
    refused: list[float] = []

    def refuse(asked: Asked) -> Refusal | None:
        # A create is refused, and the question about it.
        is_create = asked.method == "PUT" and ".archiver/" not in asked.key
        is_question = asked.method == "GET" and "max-keys=1" in asked.query.split("&")
        if (is_create and not refused) or (is_question and len(refused) == 1):
            refused.append(time.monotonic())
            return SLOW_DOWN
        return None

    scene.front.rule = refuse
    ran = scene.once()

    assert len(refused) == 2
    assert ran.summary["archived"] == len(pages)
    assert ran.stderr.count("object not archived") <= 1
    assert during(scene.front, refused[-1]) < THREADS
    assert [] == scene.lost()


def test_a_pause_beyond_our_patience_ends_the_run_and_counts_for_one_object_at_most(
    s3_scene: Scene, hot: S3Front
) -> None:
    scene = s3_scene
    pages = [scene.due_page() for _ in range(40)]
    rule = RefusesOnce(5, Refusal(503, "SlowDown", {"Retry-After": "900"}))
    hot.rule = rule

    ran = scene.once(ARCHIVE_ONCE_WAIT="1s", ARCHIVE_RETRY_BASE="100ms")

    assert (ran.exit_code, ran.summary["stopped"]) == (1, "failures")
    assert "retry_after_seconds=" in ran.summary["error"]
    assert during(hot, rule.at) < THREADS
    assert sum(attempts(scene)) <= 1
    assert ran.summary["archived"] < len(pages)
    assert [] == scene.lost()


def test_a_stop_does_not_wait_for_turns_that_come_too_late(scene: Scene) -> None:
    """Everything waits for minutes; the process has two, and needs none of them."""
    noise = random.Random(1)  # noqa: S311 - so that it cannot be compressed
    pages = [scene.due_page(noise.randbytes(400_000)) for _ in range(12)]
    slow = {"ARCHIVE_BANDWIDTH": "1KB/s", "ARCHIVE_DRAIN_TIMEOUT": "2m"}

    process = start(scene.settings | slow, "--once", "--json")
    try:
        wait_for(lambda: scene.hot.requests["get"] >= 1)
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=BOUND_SECONDS)
    finally:
        process.kill()
        process.wait()

    assert process.returncode == 130, out
    assert sum(attempts(scene)) == 0
    assert scene.receipts_count() < len(pages)
    assert [] == scene.lost()
    ran = scene.once()
    assert (ran.exit_code, scene.receipts_count()) == (0, len(pages))
    assert [] == scene.lost()


def attempts(scene: Scene) -> list[int]:
    """What was counted against the claims that are there."""
    rows: list[Any] = scene.hover.connection.execute(
        "select attempts_count from archiver.claim"
    ).fetchall()
    return [row[0] for row in rows]


def wait_for(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + BOUND_SECONDS
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.02)
