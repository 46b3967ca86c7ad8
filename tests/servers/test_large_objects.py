"""Large objects through the sweep, on real S3 servers: whole, in bounded memory, resumed."""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import TYPE_CHECKING

import psycopg
import pytest

from tests.harness.hover import Hover
from tests.harness.large import MIB, LargeWorld
from tests.harness.sides import s3_side

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.harness.figures import TellFigure
    from tests.harness.versitygw import S3Server

# `make soak` has them at their full size, 2 GiB each.
LARGE_BYTES = int(os.environ.get("LARGE_MIB", "512")) * MIB
PART = 8 * MIB  # of the profile `tactical`
PARTS_AT_ONCE = 4  # of one object
PARTS_IN_FLIGHT = 16  # what the budget of 128 MiB holds
INTERPRETER_BYTES = 150 * 10**6


@pytest.fixture
def world(hover_url: str, s3_server: S3Server) -> Iterator[LargeWorld]:
    with ExitStack() as opened:
        connection = opened.enter_context(psycopg.connect(hover_url, autocommit=True))
        hot = opened.enter_context(s3_side(s3_server))
        cold = opened.enter_context(s3_side(s3_server))
        yield LargeWorld(hover_url, Hover(connection), hot, cold)


def test_g6_four_large_objects_at_once_in_bounded_memory(
    world: LargeWorld, tell_figure: TellFigure
) -> None:
    for _ in range(4):
        world.plant(LARGE_BYTES)

    ran, spent = world.once_measured(ARCHIVE_CONCURRENCY="4")

    assert ran.exit_code == 0, ran.stderr
    assert ran.summary["archived"] == ran.summary["released"] == 4
    seconds, peak = spent.wall_seconds, spent.peak_bytes / 10**6
    size = f"4 objects of {LARGE_BYTES // MIB} MiB"
    tell_figure(size, f"{seconds:.0f} s, {spent.cpu_seconds:.0f} s of CPU, peak {peak:.0f} MB")
    assert spent.peak_bytes < INTERPRETER_BYTES + PARTS_IN_FLIGHT * PART
    world.assert_done()


@pytest.mark.parametrize("is_promised", [True, False])
def test_objects_around_the_size_of_a_part(world: LargeWorld, *, is_promised: bool) -> None:
    for size_bytes in (0, 1, PART - 1, PART, PART + 1, 3 * PART):
        world.plant(size_bytes, is_promised=is_promised)

    ran = world.once()

    assert ran.exit_code == 0, ran.stderr
    assert ran.summary["archived"] == ran.summary["released"] == 6
    world.assert_done()


def test_g4_killed_in_the_middle_another_worker_sends_what_is_missing(
    world: LargeWorld,
) -> None:
    world.plant(32 * PART)
    settings = {"ARCHIVE_LEASE": "1s", "ARCHIVE_ONCE_WAIT": "30s"}
    dying = world.start_once(**settings)
    recorded_count = 0
    while recorded_count < 16:
        assert dying.poll() is None, dying.communicate()
        recorded_count = count_recorded(world)
    dying.kill()
    dying.communicate()

    ran = world.once(**settings)

    assert ran.exit_code == 0, ran.stderr
    assert ran.summary["archived"] == 1
    assert 32 <= world.parts_sent() <= 32 + PARTS_AT_ONCE
    world.assert_done()


def count_recorded(world: LargeWorld) -> int:
    found = world.hover.connection.execute("select count(*) from archiver.upload_part")
    (count,) = found.fetchone() or (0,)
    return int(count)
