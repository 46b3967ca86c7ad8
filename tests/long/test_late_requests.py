"""A request of a worker that was fenced off arrives when all is over.

A front holds it; its sender gives up, dies and loses its lease; the next worker archives,
records and lets go. Then the front lets the request through.
"""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from archiver.formats.keys import digest_keys
from archiver.model import ColdKey, Digest
from tests.harness.racing import RacingWorld, racing_world
from tests.harness.s3_front import Asked, S3Front
from tests.harness.sides import FileSide, S3Side
from tests.harness.versitygw import S3Server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.harness.hover import Hover, Page
    from tests.harness.racing import Racer

BOUND_SECONDS = 60.0
PATIENCE_SECONDS = 2.0  # so long the late sender waits for its answer
NEWER = b"<html>captured again meanwhile</html>"


class Held:
    """Holds the first request of one kind until it is let through."""

    def __init__(self, front: S3Front, method: str, key: str) -> None:
        self._front = front
        self._is_meant = (method, key)
        self._lock = threading.Lock()
        self._held: Asked | None = None
        self._may_go = threading.Event()
        front.rule = self._hold

    def _hold(self, asked: Asked) -> None:
        with self._lock:
            is_first = self._held is None and (asked.method, asked.key) == self._is_meant
            if is_first:
                self._held = asked
        if is_first:
            assert self._may_go.wait(BOUND_SECONDS)

    def let_through(self) -> int:
        """The status that the server answers it with, when nobody listens any more."""
        assert self._held is not None, "nothing was held"
        self._may_go.set()
        deadline = time.monotonic() + BOUND_SECONDS
        while time.monotonic() < deadline:
            for asked, status in list(self._front.answered):
                if asked is self._held:
                    return status
            time.sleep(0.02)
        raise AssertionError("it never arrived")


class FrontedSide(S3Side):
    """A bucket that the program reaches through a front only."""

    def __init__(self, server: S3Server, front: S3Front) -> None:
        super().__init__(server)
        self.front = front

    @property
    def hot_settings(self) -> dict[str, str]:
        return {**super().hot_settings, "ARCHIVE_HOT_ENDPOINT": self.front.url}

    @property
    def cold_settings(self) -> dict[str, str]:
        return {**super().cold_settings, "ARCHIVE_ENDPOINT": self.front.url}


@contextmanager
def fronted(server: S3Server) -> Iterator[FrontedSide]:
    with S3Front(server.endpoint) as front:
        side = FrontedSide(server, front)
        try:
            yield side
        finally:
            side.client.close()


@pytest.fixture(params=["enforced", "not enforced"])
def cold(request: pytest.FixtureRequest, moto_url: str) -> Iterator[FrontedSide]:
    """A conditional create that the store obeys, or that it does not even see."""
    if request.param == "enforced":
        with fronted(request.getfixturevalue("s3_server")) as side:
            yield side
        return
    with fronted(
        S3Server(moto_url, bucket_names=f"late-{uuid4()}")
    ) as side:  # which would not notice that a header is gone
        side.front.strips = frozenset({"if-none-match"})
        yield side


@pytest.mark.parametrize("is_captured_again", [False, True], ids=["the same", "another"])
def test_g9_a_put_that_arrives_after_all_changes_no_archived_byte(
    cold: FrontedSide, hover: Hover, hover_url: str, tmp_path: Path, *, is_captured_again: bool
) -> None:
    hot = FileSide(tmp_path / "hot")
    with racing_world(hover, hover_url, hot, cold) as world:
        page = world.page()
        world.racer().leave()  # the store is probed before anything is held
        key = page.cold_key
        if cold.front.strips:
            key = digest_key(page.cold_key, page.body)
        held = Held(cold.front, "PUT", key)
        late = impatient(world)
        late.sweep(release=False)
        assert [] == world.ask("select from archiver.receipt")
        world.pass_time()
        if is_captured_again:
            world.put_object(page, NEWER)
            world.write_row(page, NEWER)

        world.finish()
        assert ["released"] == world.outcomes(page)
        status = held.let_through()
        late.die()

        is_new = is_captured_again and bool(cold.front.strips)
        assert status == (200 if cold.front.strips else 412)
        assert [] == world.troubles()
        copies = [name for name in cold.names() if name.startswith(f"jobs/{page.job_id}/")]
        assert len(copies) == 1 + is_new  # the older page was put, and is nobody's
        assert 1 == len(world.ask("select from archiver.receipt"))


def test_g5_a_delete_that_arrives_after_all_finds_nothing(
    s3_server: S3Server, hover: Hover, hover_url: str, tmp_path: Path
) -> None:
    with (
        fronted(s3_server) as hot,
        racing_world(hover, hover_url, hot, FileSide(tmp_path / "cold")) as world,
    ):
        page, held = delete_held(world, hot)

        assert held.let_through() == 200

        assert ["released"] == world.outcomes(page)
        assert [] == world.troubles()


def test_not_promised_a_delete_that_arrives_after_all_takes_what_lies_there_then(
    s3_server: S3Server, hover: Hover, hover_url: str, tmp_path: Path
) -> None:
    """S3 knows no condition for it: captured again under the same path, the page is gone."""
    with (
        fronted(s3_server) as hot,
        racing_world(hover, hover_url, hot, FileSide(tmp_path / "cold")) as world,
    ):
        page, held = delete_held(world, hot)
        world.put_object(page, NEWER)
        world.write_row(page, NEWER)

        held.let_through()

        assert not world.is_hot(page)
        world.finish()
        assert [page.task_id] == list(world.parked())  # said, and its row keeps its pointer


def impatient(world: RacingWorld) -> Racer:
    """A worker that soon gives up; whoever comes after it does not."""
    patient = world.settings
    world.settings = replace(patient, timeout_seconds=PATIENCE_SECONDS)
    try:
        return world.racer()
    finally:
        world.settings = patient


def delete_held(world: RacingWorld, hot: FrontedSide) -> tuple[Page, Held]:
    """One worker's delete is under way; another one has let go of the same object."""
    page = world.page()
    held = Held(hot.front, "POST", "")
    late = impatient(world)
    late.sweep()
    assert world.is_hot(page)
    assert [] == world.outcomes(page)
    world.pass_time()
    world.finish()
    assert ["released"] == world.outcomes(page)
    late.die()
    return page, held


def digest_key(key: str, body: bytes) -> str:
    """The key of these bytes where a store enforces no conditional create."""
    return next(digest_keys(ColdKey(key), Digest.of(body)))
