"""The limits of a store, measured where they matter: at the servers, during a real sweep."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.harness.s3_front import S3Front
from tests.harness.sides import s3_side
from tests.harness.world import plant_world

if TYPE_CHECKING:
    from collections.abc import Iterator

    from archiver.demo.pages import Page
    from tests.harness.meter import Meter
    from tests.harness.versitygw import S3Server
    from tests.harness.world import World

REQUESTS_PER_SECOND = 60
BYTES_PER_SECOND = 300_000
# So few that what is in flight when a server falls behind for a moment fits into the 5 %
# that the pace keeps back.
CONCURRENCY = "4"


@dataclass
class Metered:
    """A world, and a front before each of its stores."""

    world: World
    hot: S3Front
    cold: S3Front
    settings: dict[str, str]

    @property
    def meters(self) -> tuple[Meter, Meter]:
        return self.hot.meter, self.cold.meter


@pytest.fixture
def supabase_to_s3(world: World) -> Iterator[Metered]:
    """Another front before the stand-in: both sides are metered alike."""
    with S3Front(world.hot.hot_settings["SUPABASE_URL"]) as hot, _front(world) as cold:
        settings = {"SUPABASE_URL": hot.url, "ARCHIVE_ENDPOINT": cold.url}
        yield Metered(world, hot, cold, settings)


@pytest.fixture
def s3_to_s3(hover_url: str, s3_server: S3Server, real_pages: list[Page]) -> Iterator[Metered]:
    with s3_side(s3_server) as hot_side, s3_side(s3_server) as cold_side:
        world = plant_world(hover_url, hot_side, cold_side, real_pages, domains=5, jobs=50)
        with S3Front(s3_server.endpoint) as hot, _front(world) as cold:
            settings = {"ARCHIVE_HOT_ENDPOINT": hot.url, "ARCHIVE_ENDPOINT": cold.url}
            yield Metered(world, hot, cold, settings)


def _front(world: World) -> S3Front:
    return S3Front(world.cold.cold_settings["ARCHIVE_ENDPOINT"])


@pytest.fixture(params=["supabase_to_s3", "s3_to_s3"])
def metered(request: pytest.FixtureRequest) -> Metered:
    found: Metered = request.getfixturevalue(request.param)
    if request.param == "s3_to_s3":
        found.settings["ARCHIVE_EVIDENCE"] = "readback"
    return found


def test_no_window_of_five_seconds_holds_more_requests_than_the_limit(metered: Metered) -> None:
    ran = metered.world.once(
        **metered.settings,
        ARCHIVE_REQUESTS_PER_SECOND=str(REQUESTS_PER_SECOND),
        ARCHIVE_CONCURRENCY=CONCURRENCY,
    )

    _tell(metered, ran.summary["seconds"])
    assert ran.exit_code == 0, ran.stderr
    metered.world.assert_done()
    for meter in metered.meters:
        assert meter.requests_count > 5 * REQUESTS_PER_SECOND  # or there was nothing to limit
        assert meter.most_requests(5) <= 5 * REQUESTS_PER_SECOND


def test_no_window_of_five_seconds_holds_more_bytes_than_the_limit(metered: Metered) -> None:
    ran = metered.world.once(
        **metered.settings,
        ARCHIVE_BANDWIDTH=f"{BYTES_PER_SECOND}B/s",
        ARCHIVE_CONCURRENCY=CONCURRENCY,
    )

    _tell(metered, ran.summary["seconds"])
    assert ran.exit_code == 0, ran.stderr
    metered.world.assert_done()
    for meter in metered.meters:
        assert meter.bytes_count > 5 * BYTES_PER_SECOND
        # One answer may be on the wire already; a listing is the largest here.
        assert meter.most_bytes(5) <= 5 * BYTES_PER_SECOND + meter.largest_bytes


def _tell(metered: Metered, seconds: float) -> None:
    for name, meter in zip(("hot", "cold"), metered.meters, strict=True):
        print(  # noqa: T201 - for people: `pytest -rP`
            f"{name}: {meter.requests_count} requests, {meter.bytes_count} bytes in "
            f"{seconds} s; in 5 s {meter.most_requests(5)} and {meter.most_bytes(5)} at most, "
            f"in 1 s {meter.most_requests(1)} and {meter.most_bytes(1)}"
        )
