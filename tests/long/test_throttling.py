"""A real sweep against a store that serves so many requests at a time and refuses the rest."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest

from tests.harness.s3_front import Refusal, S3Front

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import urllib3

    from tests.harness.s3_front import Asked
    from tests.harness.scene import Scene

PAGES_COUNT = 150
SERVED_AT_ONCE = 4
SERVED_SECONDS = 0.02  # for each request, so that they meet


class CrowdedFront(S3Front):
    """Throttles whatever comes while it is busy enough."""

    def __init__(self, behind: str) -> None:
        super().__init__(behind)
        self._lock = threading.Lock()  # guards these two
        self._serving_count = 0
        self.throttled_count = 0

    def judge(self, asked: Asked) -> Refusal | None:
        with self._lock:
            if self._serving_count >= SERVED_AT_ONCE:
                self.throttled_count += 1
                return Refusal(503, "SlowDown")
            self._serving_count += 1
        return super().judge(asked)

    def pass_on(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes
    ) -> urllib3.BaseHTTPResponse:
        try:
            time.sleep(SERVED_SECONDS)
            return super().pass_on(method, target, headers, body)
        finally:
            with self._lock:
                self._serving_count -= 1


@pytest.fixture
def crowded(s3_scene: Scene) -> Iterator[CrowdedFront]:
    """Between the sweep and the cold bucket."""
    assert s3_scene.front is not None
    with CrowdedFront(s3_scene.front.behind) as front:
        s3_scene.front = front
        s3_scene.settings |= {
            "ARCHIVE_ENDPOINT": front.url,
            "ARCHIVE_MAX_ATTEMPTS": "1",  # one that counted would park its object
            "ARCHIVE_RETRY_BASE": "50ms",
            "ARCHIVE_RETRY_MAX": "1s",
        }
        yield front


@pytest.mark.parametrize("concurrency", ["auto", "12"])
def test_a_store_that_throttles_gets_everything_and_nothing_is_parked(
    s3_scene: Scene, crowded: CrowdedFront, concurrency: str
) -> None:
    scene = s3_scene
    job = scene.hover.job(scene.domain)
    pages = [scene.page(job) for _ in range(PAGES_COUNT)]

    ran = scene.once(ARCHIVE_CONCURRENCY=concurrency, ARCHIVE_LOG_LEVEL="debug")

    assert crowded.throttled_count > 0
    assert (ran.exit_code, ran.summary["archived"]) == (0, PAGES_COUNT), ran.stderr[-2000:]
    assert {} == scene.parked()
    assert all(scene.is_archived(page) for page in pages)
    assert [] == scene.lost()
    assert ("why=throttled" in ran.stderr) == (concurrency == "auto")
