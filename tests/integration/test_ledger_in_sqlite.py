"""What only the ledger in a file can get wrong: the file, its disk, processes that die."""

from __future__ import annotations

import itertools
import os
import signal
import sqlite3
import stat
import threading
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from archiver.errors import (
    LeaseLost,
    LedgerFileNewer,
    LedgerFileUnavailable,
    LedgerFileUnusable,
    LedgerFull,
    StateDirUnusable,
    UploadBusy,
)
from archiver.ledger.sqlite.file import migrations
from archiver.ledger.sqlite.ledger import FILE_NAME, SqliteLedger, SqliteSettings
from archiver.ops.clock import SystemClock
from tests.contract.uploads_contract import PLACE, part, plan
from tests.fakes.clock import ManualClock
from tests.harness.part_saver import PartSaver, numbered
from tests.integration.test_full_disks import mounted, root_runs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from archiver.errors import ArchiverError
    from archiver.model import Part, Upload
    from archiver.protocols import Clock

ROUNDS = 8  # of killing; tests/long has more


def new_ledger(state_dir: Path, clock: Clock | None = None) -> SqliteLedger:
    settings = SqliteSettings(state_dir=state_dir, busy_seconds=0.1)
    return SqliteLedger(settings, clock or SystemClock())


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    return tmp_path / "state" / "archiver"


@pytest.fixture
def ledger(state_dir: Path) -> Iterator[SqliteLedger]:
    with new_ledger(state_dir) as ledger:
        ledger.fleet.join()
        yield ledger


# --- the file --------------------------------------------------------------------------------


def test_only_its_owner_may_read_what_is_made(state_dir: Path) -> None:
    before = os.umask(0)
    try:
        with new_ledger(state_dir) as ledger:
            ledger.fleet.join()
            ledger.uploads.take(plan())
            modes = {path.name: _mode(path) for path in state_dir.rglob("*")}
    finally:
        os.umask(before)

    assert _mode(state_dir) == 0o700
    assert modes.pop("workers") == 0o700
    assert {FILE_NAME, f"{FILE_NAME}-wal", f"{FILE_NAME}-shm"} <= set(modes)
    assert set(modes.values()) == {0o600}


def test_a_directory_that_is_there_stays_as_it_is(state_dir: Path) -> None:
    state_dir.mkdir(parents=True)
    state_dir.chmod(0o750)

    with new_ledger(state_dir):
        assert _mode(state_dir) == 0o750


def test_a_commit_is_on_the_disk_and_references_hold(ledger: SqliteLedger) -> None:
    with ledger._file.snapshot("look") as tx:
        asked = ("journal_mode", "synchronous", "foreign_keys")
        found = [tx.execute(f"pragma {name}").fetchone()[0] for name in asked]

    assert found == ["wal", 2, 1]


def test_a_file_is_one_ledger_whoever_opens_it(state_dir: Path, ledger: SqliteLedger) -> None:
    upload = ledger.uploads.take(plan()).upload
    with new_ledger(state_dir) as again:
        assert again.fleet.ledger_id == ledger.fleet.ledger_id
        assert again.uploads.uploads() == [upload]
    with new_ledger(state_dir.parent / "other") as other:
        assert other.fleet.ledger_id != ledger.fleet.ledger_id


def test_the_versions_follow_each_other() -> None:
    assert sorted(migrations()) == list(range(1, len(migrations()) + 1))


def test_a_file_of_a_newer_archiver_is_left_alone(state_dir: Path) -> None:
    with new_ledger(state_dir):
        pass
    _write(state_dir, "pragma user_version = 99")

    told = _refused(state_dir, LedgerFileNewer)

    assert "found=99" in told
    assert "another ARCHIVE_STATE_DIR" in told


@pytest.mark.parametrize(
    "statement",
    ["create table t (x int)", "pragma application_id = 7"],
    ids=["tables", "application id"],
)
def test_another_programs_file_is_left_alone(state_dir: Path, statement: str) -> None:
    state_dir.mkdir(parents=True)
    _write(state_dir, statement)
    _write(state_dir, "pragma journal_mode = delete")
    before = (state_dir / FILE_NAME).read_bytes()

    told = _refused(state_dir, LedgerFileUnusable)

    assert "a database of another program" in told
    assert "Move it away" in told
    assert (state_dir / FILE_NAME).read_bytes() == before


def test_what_is_no_database_is_left_alone(state_dir: Path) -> None:
    state_dir.mkdir(parents=True)
    (state_dir / FILE_NAME).write_bytes(b"these are notes of mine\n" * 200)

    assert "SQLITE_NOTADB" in _refused(state_dir, LedgerFileUnusable)
    assert (state_dir / FILE_NAME).read_bytes().startswith(b"these are notes")


def test_a_pipe_in_its_place_keeps_nobody_waiting(state_dir: Path) -> None:
    state_dir.mkdir(parents=True)
    os.mkfifo(state_dir / FILE_NAME)

    assert "no plain file" in _refused(state_dir, LedgerFileUnusable)


def test_an_empty_file_is_a_new_one(state_dir: Path) -> None:
    state_dir.mkdir(parents=True)
    (state_dir / FILE_NAME).touch()

    with new_ledger(state_dir) as ledger:
        assert ledger.uploads.uploads() == []


def test_damaged_pages_are_told_as_that(state_dir: Path) -> None:
    with new_ledger(state_dir) as ledger:
        ledger.fleet.join()
        upload = ledger.uploads.begun(ledger.uploads.take(plan()).upload, "id-1")
        for number in range(1, 200):
            ledger.uploads.save_part(upload, part(number))
        ledger.fleet.leave()
    file = state_dir / FILE_NAME
    body = file.read_bytes()
    file.write_bytes(body[:4096] + os.urandom(len(body) - 4096))

    with (
        pytest.raises(LedgerFileUnusable, match=r"SQLITE_CORRUPT.*a new one is made"),
        new_ledger(state_dir) as ledger,
    ):
        ledger.uploads.uploads()


def test_a_file_that_lost_its_tables_is_told_as_damaged(state_dir: Path) -> None:
    with new_ledger(state_dir):
        pass
    _write(state_dir, "drop table upload_part")

    with new_ledger(state_dir) as ledger:
        ledger.fleet.join()
        with pytest.raises(LedgerFileUnusable, match="no such table"):
            ledger.uploads.take(plan())


def test_a_directory_that_cannot_be_made_is_told_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    for directory in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/none")):
        told = _refused(directory, StateDirUnusable)
        assert str(directory) in told
        assert "ARCHIVE_STATE_DIR" in told


def test_a_file_deleted_under_the_ledger_is_missed_at_once(
    state_dir: Path, ledger: SqliteLedger
) -> None:
    """SQLite would go on writing to it, and the next process find nothing."""
    upload = ledger.uploads.take(plan()).upload
    for path in state_dir.glob(f"{FILE_NAME}*"):
        path.unlink()

    with pytest.raises(LedgerFileUnusable, match="moved or deleted"):
        ledger.uploads.save_part(upload, part(1))


# --- other writers ---------------------------------------------------------------------------


def test_a_file_that_is_being_written_for_long_is_unavailable(
    state_dir: Path, ledger: SqliteLedger
) -> None:
    upload = ledger.uploads.begun(ledger.uploads.take(plan()).upload, "id-1")
    with closing(sqlite3.connect(state_dir / FILE_NAME, isolation_level=None)) as other:
        other.execute("begin immediate")
        with pytest.raises(LedgerFileUnavailable, match="SQLITE_BUSY"):
            ledger.uploads.save_part(upload, part(1))
        assert ledger.uploads.uploads()[0].upload_id == "id-1"  # who reads waits for nobody
        ledger.uploads.require(upload)

    ledger.uploads.save_part(upload, part(1))
    assert ledger.uploads.uploads()[0].parts == (part(1),)


def test_threads_and_ledgers_that_open_a_new_file_at_once_all_may(state_dir: Path) -> None:
    clock, gate, ids = SystemClock(), threading.Barrier(8), []

    def one() -> None:
        gate.wait(30)
        with SqliteLedger(SqliteSettings(state_dir=state_dir), clock) as ledger:
            ledger.fleet.join()
            ids.append(ledger.fleet.ledger_id)

    threads = [threading.Thread(target=one) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert (len(ids), len(set(ids))) == (8, 1)


def test_processes_share_one_file(state_dir: Path) -> None:
    savers = [PartSaver(state_dir, f"jobs/{number}.bin") for number in range(3)]
    rival = PartSaver(state_dir, "jobs/rival.bin")
    heard: list[list[str]] = []
    try:
        assert [it.line() for it in (*savers, rival)] == ["took 0"] * 4
        late = PartSaver(state_dir, "jobs/rival.bin")
        assert late.line() == "busy"
        late.kill()
        for saver in savers:
            while int(saver.line()) < 50:
                pass
    finally:
        heard = [it.kill() for it in (*savers, rival)]

    with new_ledger(state_dir) as ledger:
        found = {it.plan.location.key: it.parts for it in ledger.uploads.uploads()}
    for number, lines in enumerate(heard[:3]):
        said = {numbered(int(line)) for line in lines}
        assert said <= set(found[plan(f"jobs/{number}.bin").location.key])


# --- processes that die ----------------------------------------------------------------------


def test_what_was_acknowledged_is_there_after_kill_9(state_dir: Path) -> None:
    """And the next process goes on at once: no lease has to run out."""
    kill_savers(state_dir, ROUNDS)


def kill_savers(state_dir: Path, rounds: int) -> None:
    acknowledged: set[int] = set()
    for turn in range(rounds):
        saver = PartSaver(state_dir)
        try:
            took = saver.line()
            for _ in range(1 + 7 * turn % 60):
                acknowledged.add(int(saver.line()))
        finally:
            acknowledged.update(map(int, saver.kill()))
        assert took.startswith("took "), took
        with new_ledger(state_dir) as ledger:
            ledger.fleet.join()
            upload = ledger.uploads.take(plan()).upload
            ledger.fleet.leave()
        assert upload.upload_id == "id-1"
        assert list(upload.parts) == [numbered(it.number) for it in upload.parts]
        found = {it.number for it in upload.parts}
        assert acknowledged <= found
        assert len(found - acknowledged) <= 4 * (turn + 1)  # committed, and nobody was told


def test_a_process_that_is_frozen_keeps_its_upload_for_a_lease_and_no_longer(
    state_dir: Path,
) -> None:
    clock = ManualClock()
    saver = PartSaver(state_dir, threads=0)  # in no transaction, whose lock it would keep
    try:
        assert saver.line() == "took 0"
        os.kill(saver.pid, signal.SIGSTOP)
        clock.advance(SystemClock().monotonic())  # the boot clock, from now on by hand
        with _joined(state_dir, clock, patiently=True) as heir:
            with pytest.raises(UploadBusy):
                heir.uploads.take(plan())
            clock.advance(61)
            heir.fleet.join()
            taken = heir.uploads.take(plan()).upload
            assert taken.upload_id == "id-1"
    finally:
        saver.kill()


def test_a_worker_whose_life_sign_was_removed_has_no_lease(
    state_dir: Path, ledger: SqliteLedger
) -> None:
    """Nobody can tell any more that it lives, so others go on in its place."""
    upload = ledger.uploads.take(plan()).upload
    for sign in (state_dir / "workers").iterdir():
        sign.unlink()

    with _joined(state_dir, SystemClock()) as heir:
        assert heir.uploads.take(plan()).upload.number == upload.number
    with pytest.raises(LeaseLost):
        ledger.uploads.save_part(upload, part(1))


def test_nothing_is_left_of_workers_that_ended(state_dir: Path, ledger: SqliteLedger) -> None:
    for _ in range(3):
        saver = PartSaver(state_dir, "jobs/b.bin", threads=0)
        saver.line()
        saver.kill()
    with _joined(state_dir, SystemClock()) as other:
        other.fleet.leave()
        other.fleet.leave()
    (state_dir / "workers" / "died-while-it-joined").touch()
    with _joined(state_dir, SystemClock()):
        signs = len(list((state_dir / "workers").iterdir()))
        with ledger._file.snapshot("look") as tx:
            (workers_count,) = tx.execute("select count(*) from worker").fetchone()

    assert (signs, workers_count) == (2, 2)


def test_setting_the_time_ends_no_lease(state_dir: Path) -> None:
    clock = WallClock()
    with _joined(state_dir, clock) as ledger, _joined(state_dir, clock) as other:
        upload = ledger.uploads.take(plan()).upload
        for years in (-50, 50):
            clock.wall = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=365 * years)
            ledger.fleet.beat()
            ledger.uploads.save_part(upload, part(1))
            with pytest.raises(UploadBusy):
                other.uploads.take(plan())
            assert other.uploads.expired(PLACE, 9) == []


class WallClock(ManualClock):
    """A clock whose time of day is set, while its seconds go on."""

    wall = datetime(2026, 1, 1, tzinfo=UTC)

    def now(self) -> datetime:
        return self.wall


# --- replies that got lost -------------------------------------------------------------------


def test_a_commit_that_is_told_as_failed_is_settled_by_asking_again(
    ledger: SqliteLedger,
) -> None:
    uploads = ledger.uploads
    with _lost_replies(ledger), pytest.raises(LedgerFileUnavailable):
        uploads.take(plan())
    upload = uploads.take(plan()).upload
    with _lost_replies(ledger), pytest.raises(LedgerFileUnavailable):
        uploads.begun(upload, "id-1")
    upload = uploads.begun(upload, "id-1")
    with _lost_replies(ledger), pytest.raises(LedgerFileUnavailable):
        uploads.save_part(upload, part(1))
    uploads.save_part(upload, part(1))
    assert uploads.take(plan()).upload.parts == (part(1),)
    [stale] = uploads.take(plan(origin="newer")).stale
    uploads.give_back(stale)
    with _lost_replies(ledger), pytest.raises(LedgerFileUnavailable):
        uploads.expired(PLACE, 9)
    assert [it.number for it in uploads.expired(PLACE, 9)] == [stale.number]
    assert uploads.expired(PLACE, 9) == []


# --- a disk without room ---------------------------------------------------------------------


def test_a_full_disk_is_told_as_that_and_costs_nothing(tmp_path: Path) -> None:
    with mounted(tmp_path, "1m"), _joined(tmp_path, SystemClock()) as ledger:
        upload = ledger.uploads.begun(ledger.uploads.take(plan()).upload, "id-1")
        (tmp_path / "ballast").write_bytes(bytes(500_000))
        saved: list[Part] = []
        with pytest.raises(LedgerFull, match=rf"no room left.*{FILE_NAME}"):
            _save_until_refused(ledger, upload, saved)
        assert saved
        assert ledger.uploads.uploads()[0].parts == tuple(saved)

        root_runs("mount", "-o", "remount,size=8m", tmp_path)
        ledger.uploads.save_part(upload, part(10_000))
        ledger.fleet.beat()
        ledger.close()

        with new_ledger(tmp_path) as again:
            assert again.uploads.uploads()[0].parts == (*saved, part(10_000))


def test_a_disk_that_was_full_from_the_beginning_serves_once_there_is_room(
    tmp_path: Path,
) -> None:
    with mounted(tmp_path, "64k"):
        ballast = tmp_path / "ballast"
        with pytest.raises(OSError, match="No space"):
            ballast.write_bytes(bytes(1_000_000))
        with (
            pytest.raises((LedgerFull, LedgerFileUnavailable)),
            new_ledger(tmp_path) as ledger,
        ):
            ledger.fleet.join()
        ballast.unlink()
        root_runs("mount", "-o", "remount,size=8m", tmp_path)

        with _joined(tmp_path, SystemClock()) as ledger:
            ledger.uploads.take(plan())


def test_a_write_that_is_cut_in_the_middle_leaves_what_was_acknowledged(
    state_dir: Path,
) -> None:
    """A process that may write files of so many bytes: the kernel stops it in mid-write."""
    saver = PartSaver(state_dir, threads=1, most_file_bytes=200_000)
    acknowledged = []
    try:
        assert saver.line() == "took 0"
        while (line := saver.line()).isdigit():
            acknowledged.append(numbered(int(line)))
    finally:
        saver.kill()

    assert line in ("full", "unavailable")
    with new_ledger(state_dir) as ledger:
        assert ledger.uploads.uploads()[0].parts == tuple(acknowledged)


# --- helpers ---------------------------------------------------------------------------------


@contextmanager
def _joined(
    state_dir: Path, clock: Clock, *, patiently: bool = False
) -> Iterator[SqliteLedger]:
    """Another process, to those who ask."""
    settings = SqliteSettings(state_dir=state_dir, busy_seconds=10.0 if patiently else 0.5)
    with SqliteLedger(settings, clock) as ledger:
        ledger.fleet.join()
        yield ledger


@contextmanager
def _lost_replies(ledger: SqliteLedger) -> Iterator[None]:
    transaction = ledger._file.transaction

    @contextmanager
    def deaf(operation: str) -> Iterator[sqlite3.Connection]:
        with transaction(operation) as tx:
            yield tx
        raise LedgerFileUnavailable(operation=operation, message="told as failed")

    ledger._file.transaction = deaf  # type: ignore[method-assign]
    try:
        yield
    finally:
        ledger._file.transaction = transaction  # type: ignore[method-assign]


def _save_until_refused(ledger: SqliteLedger, upload: Upload, saved: list[Part]) -> None:
    for number in itertools.count(1):
        ledger.uploads.save_part(upload, part(number))
        saved.append(part(number))


def _refused(state_dir: Path, kind: type[ArchiverError]) -> str:
    with pytest.raises(kind) as told:
        new_ledger(state_dir).open()
    return str(told.value)


def _write(state_dir: Path, statement: str) -> None:
    with closing(sqlite3.connect(state_dir / FILE_NAME)) as hands, hands:
        hands.execute(statement)


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)
