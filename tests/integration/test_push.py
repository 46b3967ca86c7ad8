"""Pushing by the real command into a directory: what is kept, what is refused, what is told."""

from __future__ import annotations

import hashlib
import json
import os
import random
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from archiver.config import Settings
from archiver.engine.stop import Stop
from archiver.errors import FileChanged
from archiver.objects.local_file import LocalFile
from archiver.objects.pushing import Wanted
from archiver.objects.transfers import key_of, open_pusher
from archiver.ops.clock import SystemClock
from tests.harness.command import archiver, run_here

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from tests.harness.command import Ran

PART_BYTES = 5 << 20  # the least that S3 takes; a directory takes it as well
SIZE_BYTES = 2 * PART_BYTES + 1


@dataclass
class Place:
    """A cold directory, and no database."""

    root: Path
    settings: dict[str, str]

    def push(self, *arguments: str | Path, **settings: str) -> Ran:
        flags = [str(it) for it in arguments]
        return run_here(self.settings | settings, "push", *flags, "--part-size", "5MiB")

    def uploads(self) -> list[Mapping[str, object]]:
        ran = run_here(self.settings, "uploads", "--json")
        assert ran.exit_code == 0, ran.stderr
        found: list[Mapping[str, object]] = json.loads(ran.stdout)["uploads"]
        return found

    def file(self, size_bytes: int, name: str = "file.bin") -> Path:
        path = self.root / name
        path.write_bytes(random.Random(size_bytes).randbytes(size_bytes))  # noqa: S311
        return path

    def object(self, key: str) -> bytes:
        return (self.cold / "objects" / key).read_bytes()

    @property
    def cold(self) -> Path:
        return self.root / "cold" / "bucket"

    def assert_nothing_shows(self) -> None:
        assert not (self.cold / "objects").exists()
        uploads = self.cold / ".archiver" / "uploads"
        assert [] == (list(uploads.iterdir()) if uploads.exists() else [])
        assert [] == self.uploads()


@pytest.fixture
def place(tmp_path: Path) -> Place:
    (tmp_path / "cold" / "bucket").mkdir(parents=True)
    settings = {
        "ARCHIVE_PROVIDER": "file",
        "ARCHIVE_BUCKET": "bucket",
        "ARCHIVE_ENDPOINT": (tmp_path / "cold").as_uri(),
        "ARCHIVE_STATE_DIR": str(tmp_path / "state"),
    }
    return Place(tmp_path, settings)


@pytest.mark.parametrize(
    "size_bytes",
    [0, 1, PART_BYTES - 1, PART_BYTES, PART_BYTES + 1, 2 * PART_BYTES],
)
def test_a_file_of_any_size_is_pushed_and_pushed_again_for_nothing(
    place: Place, size_bytes: int
) -> None:
    file = place.file(size_bytes)

    first, again = place.push(file, "--json"), place.push(file, "--json")

    assert (first.exit_code, again.exit_code) == (0, 0), first.stderr + again.stderr
    assert place.object("file.bin") == file.read_bytes()
    assert first.summary["digest"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert (first.summary["was_there"], first.summary["sent_bytes"]) == (False, size_bytes)
    assert (again.summary["was_there"], again.summary["sent_bytes"]) == (True, 0)
    assert [] == place.uploads()


def test_a_key_that_holds_other_bytes_stays_as_it_is(place: Place) -> None:
    place.push(place.file(100), "k")

    for other in (place.file(100, "o"), place.file(99), place.file(SIZE_BYTES)):
        other.write_bytes(other.read_bytes()[::-1])
        ran = place.push(other, "k")

        assert ran.exit_code == 1
        assert "Another object has this key" in ran.stderr
        assert "under another key" in ran.stderr
    assert place.object("k") == random.Random(100).randbytes(100)  # noqa: S311


@pytest.mark.parametrize("size_bytes", [17, SIZE_BYTES])
def test_bytes_of_another_digest_are_not_put(place: Place, size_bytes: int) -> None:
    ran = place.push(place.file(size_bytes), "--digest", "0" * 64)

    assert ran.exit_code == 1
    assert "do not have the digest" in ran.stderr
    place.assert_nothing_shows()


@pytest.mark.parametrize("size_bytes", [17, SIZE_BYTES])
def test_bytes_of_the_demanded_digest_are_put(place: Place, size_bytes: int) -> None:
    file = place.file(size_bytes)

    ran = place.push(file, "--digest", hashlib.sha256(file.read_bytes()).hexdigest())

    assert ran.exit_code == 0, ran.stderr


def shrink(file: Path) -> None:
    os.truncate(file, SIZE_BYTES - 10)


def grow(file: Path) -> None:
    with file.open("ab") as opened:
        opened.write(b"more")


def rewrite(file: Path) -> None:
    with file.open("r+b") as opened:
        opened.write(b"other")
    os.utime(file, ns=(1, 1))


def replace(file: Path) -> None:
    other = file.with_name("other")
    other.write_bytes(file.read_bytes())
    other.rename(file)


def remove(file: Path) -> None:
    file.unlink()


@pytest.mark.parametrize("change", [shrink, grow, rewrite, replace, remove])
@pytest.mark.parametrize("size_bytes", [SIZE_BYTES])
def test_a_file_that_changes_while_it_is_pushed_is_noticed(
    place: Place, change: Callable[[Path], None], size_bytes: int
) -> None:
    """It changes when its first part has come home."""
    file, changed = place.file(size_bytes), threading.Event()

    def tell(_: object) -> None:
        if not changed.is_set():
            changed.set()
            change(file)

    settings = Settings.read(place.settings | {"ARCHIVE_PART_SIZE": "5MiB"}, for_sweeps=False)
    with (
        LocalFile(file) as opened,
        open_pusher(settings, lambda _: None, SystemClock(), Stop(), tell) as pusher,
        pytest.raises(FileChanged) as caught,
    ):
        pusher.push_file(opened, Wanted(key_of(settings, "file.bin")))

    assert changed.is_set()
    assert "Push it again once nobody writes to it" in str(caught.value)
    place.assert_nothing_shows()


# --- what cannot be ---------------------------------------------------------------------------


def test_what_is_no_file_is_a_usage_error(place: Place, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")

    for name, said in (
        (tmp_path, "it is a directory"),
        (tmp_path / "none", "No such file"),
        (tmp_path / "pipe", "push it with -"),
    ):
        ran = place.push(name, "k")

        assert (ran.exit_code, ran.stdout) == (2, "")
        assert said in ran.stderr
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize("key", ["", "/a", "a/", "a//b", "../a", "a/./b", "a\nb"])
def test_a_key_that_is_none_is_a_usage_error(place: Place, key: str) -> None:
    ran = place.push(place.file(1), key)

    assert ran.exit_code == 2
    assert "a key is steps with / between them" in ran.stderr


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--digest", "abc"), "64 hex digits"),
        (("--part-size", "1"), "a size such as"),
        (("--part-size", "many"), "a size such as"),
        (("--profile", "fast"), "datacenter, tactical or edge"),
        (("--bandwidth", "0"), "a rate such as"),
    ],
)
def test_a_wrong_flag_says_what_is_accepted(
    place: Place, flags: tuple[str, ...], said: str
) -> None:
    ran = run_here(place.settings, "push", str(place.file(1)), *flags)

    assert ran.exit_code == 2
    assert said in ran.stderr


def test_a_key_of_archivers_own_is_refused(place: Place) -> None:
    ran = place.push(place.file(1), "a/.archiver/b")

    assert ran.exit_code == 1
    assert "Nobody writes or deletes under this key" in ran.stderr
    place.assert_nothing_shows()


def test_a_pipe_needs_a_key(place: Place) -> None:
    ran = place.push("-")

    assert ran.exit_code == 2
    assert "say its KEY" in ran.stderr


def test_no_store_is_a_clear_error(place: Place) -> None:
    ran = run_here({}, "push", str(place.file(1)))

    assert ran.exit_code == 2
    assert "no store is configured" in ran.stderr


def test_a_corrupt_ledger_file_is_a_clear_error(place: Place, tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "ledger.sqlite").write_bytes(b"garbage" * 1000)

    ran = place.push(place.file(SIZE_BYTES), "--json")

    assert (ran.exit_code, ran.summary["state"]) == (3, "failed")
    assert "Move it away" in ran.stderr
    assert not (place.cold / "objects").exists()


def test_a_state_dir_that_cannot_be_made_is_a_clear_error(place: Place, tmp_path: Path) -> None:
    (tmp_path / "plain").write_bytes(b"")

    ran = place.push(place.file(1), ARCHIVE_STATE_DIR=str(tmp_path / "plain" / "state"))

    assert ran.exit_code == 3
    assert "ARCHIVE_STATE_DIR" in ran.stderr


def test_a_bucket_that_is_not_there_is_a_clear_error(place: Place) -> None:
    place.cold.rmdir()

    ran = place.push(place.file(1))

    assert ran.exit_code == 3
    assert "There is no such bucket" in ran.stderr


def test_neither_database_nor_hot_store_is_needed(place: Place) -> None:
    """In a process of its own, whose environment has nothing else."""
    ran = archiver(place.settings, "push", str(place.file(10)), "--json")

    assert (ran.exit_code, ran.stderr) == (0, "")


def test_a_failed_push_is_one_json_object(place: Place, tmp_path: Path) -> None:
    ran = place.push(tmp_path / "none", "--json")

    assert (ran.exit_code, ran.summary["state"]) == (2, "failed")
    assert "No such file" in ran.summary["error"]


def test_uploads_tells_of_none(place: Place) -> None:
    ran = run_here(place.settings, "uploads")

    assert (ran.exit_code, "No upload is under way" in ran.stdout) == (0, True)
