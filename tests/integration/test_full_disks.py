"""A disk without room: under the cold store, under Postgres, under the log.

Nothing is half there, nothing counts against an object, the operator is told in words, and
once there is room the next sweep goes on by itself.
"""

from __future__ import annotations

import io
import json
import os
import resource
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from archiver.engine.landing_file import LandingFile
from archiver.engine.transfer import stream_transfer
from archiver.errors import TargetFull
from archiver.formats.parts import custom_profile
from tests.harness.command import environment
from tests.harness.scene import COLD_BUCKET
from tests.harness.worker import WorkerProcess

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from archiver.engine.transfer import TransferResult
    from tests.harness.scene import Scene

TIMEOUT_SECONDS = 60
SMALL_FILE_BYTES = 64 * 1024
FULL = Path("/dev/full")  # of which every write says that the disk is full


def incompressible(size_bytes: int) -> bytes:
    return os.urandom(size_bytes)


# --- under the cold store -------------------------------------------------------------------


@pytest.fixture
def small_disk(scene: Scene) -> Iterator[Path]:
    """The cold directory is a file system of one megabyte."""
    with mounted(scene.cold_root, "1m"):
        (scene.cold_root / COLD_BUCKET).mkdir()
        yield scene.cold_root


def test_a_full_cold_disk_stops_the_sweep_and_costs_nothing(
    scene: Scene, small_disk: Path
) -> None:
    pages = [scene.due_page(incompressible(200_000)) for _ in range(8)]

    for _ in range(3):
        ran = scene.once(ARCHIVE_ONCE_WAIT="0s")

        assert (ran.exit_code, ran.summary["stopped"]) == (1, "failures")
        assert "A store has no room left" in ran.stderr
        assert "Make room there" in ran.stderr
        assert 0 < sum(map(scene.is_archived, pages)) < len(pages)
        assert all(scene.is_archived(page) or scene.is_untouched(page) for page in pages)
        assert [] == scene.lost()
        assert [] == half_there(scene)
        assert [] == held_or_counted(scene)

    root_runs("mount", "-o", "remount,size=4m", small_disk)
    ran = scene.once()

    assert ran.exit_code == 0
    assert all(map(scene.is_archived, pages))
    assert ([], []) == (scene.lost(), half_there(scene))


def test_a_write_that_is_cut_in_the_middle_leaves_no_object(scene: Scene) -> None:
    """A process that may write files of so many bytes: the kernel stops it in mid-write."""
    small = [scene.due_page() for _ in range(3)]
    large = scene.due_page(incompressible(3 * SMALL_FILE_BYTES))

    ran = once_as_a_process(scene, most_file_bytes=SMALL_FILE_BYTES)

    assert all(map(scene.is_archived, small))
    assert scene.is_untouched(large)
    assert "EFBIG" in ran.stderr
    assert ([], []) == (scene.lost(), half_there(scene))

    scene.make_due()
    assert scene.once().exit_code == 0
    assert scene.is_archived(large)


def half_there(scene: Scene) -> list[str]:
    """Cold objects that are no whole page, and what a killed write left behind."""
    bucket = scene.cold_root / COLD_BUCKET
    bodies = {body for _, body in scene.planted.values()}
    files = [path for path in bucket.rglob("*") if path.is_file()]
    objects = [path for path in files if ".archiver" not in path.parts]
    left = [path for path in files if "temporary" in path.parts]
    damaged = [path for path in objects if path.read_bytes() not in bodies]
    return [str(path) for path in (*left, *damaged)]


def held_or_counted(scene: Scene) -> list[tuple[object, ...]]:
    return scene.hover.connection.execute(
        "select id, state, attempts_count from archiver.claim"
    ).fetchall()


@contextmanager
def mounted(path: Path, size: str) -> Iterator[None]:
    try:
        root_runs("mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", path)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("only root may mount a small disk; the next test does without")
    try:
        yield
    finally:
        root_runs("umount", path)


def root_runs(*command: str | Path) -> None:
    subprocess.run(command, capture_output=True, check=True)


# --- under a file that is transferred ---------------------------------------------------------


def test_a_transfer_to_a_full_disk_goes_on_once_there_is_room(tmp_path: Path) -> None:
    body, profile = incompressible(1 << 20), custom_profile(1 << 16, 1)
    with mounted(tmp_path, "512k"):

        def bring() -> TransferResult:
            with LandingFile(tmp_path / "object") as landing:
                result = stream_transfer(
                    io.BytesIO(body),
                    landing.target,
                    profile,
                    landing.checkpoint(),
                    landing.save,
                    total_size=len(body),
                )
                landing.land(result)
                return result

        for _ in range(2):
            with pytest.raises(TargetFull, match="Make room there"):
                bring()
            assert not (tmp_path / "object").exists()
        root_runs("mount", "-o", "remount,size=4m", tmp_path)

        result = bring()

        assert result.resumed
        assert (tmp_path / "object").read_bytes() == body
        assert [entry.name for entry in tmp_path.iterdir()] == ["object"]


# --- under Postgres -------------------------------------------------------------------------


def test_a_database_without_room_is_told_of_and_costs_nothing(scene: Scene) -> None:
    """Postgres says 53100 where it cannot extend a table."""
    page = scene.due_page()
    scene.hover.connection.execute(
        """
        create function refuse() returns trigger language plpgsql as $$
        begin
            raise exception 'could not extend file: No space left on device'
            using errcode = 'disk_full';
        end $$;
        create trigger refuse before insert on archiver.receipt
        for each row execute function refuse();
        """
    )

    ran = scene.once(ARCHIVE_DRAIN_TIMEOUT="1s", ARCHIVE_MAX_DURATION="3s")

    assert ran.exit_code == 1
    assert "The database has no room left" in ran.stderr
    assert "Make room on its disk" in ran.stderr
    assert scene.is_untouched(page)
    assert [] == scene.lost()

    scene.hover.connection.execute("drop trigger refuse on archiver.receipt")
    scene.make_due()
    assert scene.once().exit_code == 0
    assert scene.is_archived(page)


# --- under the log --------------------------------------------------------------------------


@pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("log_format", ["text", "json"])
def test_a_log_without_room_stops_no_sweep(scene: Scene, log_format: str) -> None:
    pages = [scene.due_page() for _ in range(3)]
    with FULL.open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "archiver", "--once", "--json"],
            env=environment(scene.settings | {"ARCHIVE_LOG_FORMAT": log_format}),
            stdout=subprocess.PIPE,
            stderr=full,
            timeout=TIMEOUT_SECONDS,
            check=False,
        )

    assert (done.returncode, json.loads(done.stdout)["archived"]) == (0, len(pages))
    assert all(map(scene.is_archived, pages))


@pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")
def test_a_refusal_that_cannot_be_written_keeps_its_exit_code(scene: Scene) -> None:
    with FULL.open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "archiver", "--once"],
            env=environment(scene.settings | {"ARCHIVE_LEASE": "soon"}),
            stderr=full,
            timeout=TIMEOUT_SECONDS,
            check=False,
        )

    assert done.returncode == 2


@pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("command", ["--once --json", "ledger export --since 1h"])
def test_an_answer_without_room_is_told_as_that(scene: Scene, command: str) -> None:
    """It is no bug, and what was done is done."""
    page = scene.due_page()
    scene.once()
    with FULL.open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "archiver", *command.split()],
            env=environment(scene.settings),
            stdout=full,
            stderr=subprocess.PIPE,
            timeout=TIMEOUT_SECONDS,
            check=False,
            text=True,
        )

    assert done.returncode == 3
    assert "could not be written whole: No space left on device" in done.stderr
    assert "bug" not in done.stderr
    assert scene.is_archived(page)


@pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")
def test_a_log_without_room_stops_no_worker(scene: Scene, tmp_path: Path) -> None:
    first = scene.due_page()
    with FULL.open("wb") as full:
        process = subprocess.Popen(
            [sys.executable, "-m", "archiver"],
            env=environment(scene.settings | {"ARCHIVE_INTERVAL": "1s"}),
            stdout=subprocess.DEVNULL,
            stderr=full,
        )
        (tmp_path / "log").touch()
        worker = WorkerProcess(process, tmp_path / "log")
        try:
            worker.until(lambda: scene.is_archived(first))
            second = scene.due_page()
            worker.until(lambda: scene.is_archived(second))
            assert worker.stop() == 0
        finally:
            process.kill()
            process.wait()


def once_as_a_process(
    scene: Scene, *, most_file_bytes: int
) -> subprocess.CompletedProcess[str]:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most_file_bytes, most_file_bytes))

    settings: Mapping[str, str] = scene.settings | {"ARCHIVE_ONCE_WAIT": "0s"}
    return subprocess.run(
        [sys.executable, "-m", "archiver", "--once", "--json"],
        env=environment(settings),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        preexec_fn=limit,  # no threads of this process hold a lock it needs
        check=False,
    )
