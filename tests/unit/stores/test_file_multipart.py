"""Objects in parts on a directory: what only a file system or a death can do wrong."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from archiver.errors import KeyTaken, StoreFull, StoreUnavailable, UnusableName, UploadMissing
from archiver.model import ColdKey, Digest, OpenUpload, Part
from archiver.stores import file_multipart
from archiver.stores.cold_file import FileColdStore

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

KEY = ColdKey("app/large.bin")
PART_BYTES = 1_000
FIRST, LAST = bytes([1]) * PART_BYTES, bytes([2]) * 77
WHOLE = FIRST + LAST


@dataclass
class World:
    root: Path

    def __post_init__(self) -> None:
        (self.root / "cold-bucket").mkdir(exist_ok=True)
        self.store = FileColdStore(self.root, "cold-bucket", "app/")
        self.multipart = self.store.multipart
        self.uploads = self.root / "cold-bucket/app/.archiver/uploads"

    def begin(self) -> OpenUpload:
        return self.multipart.begin(
            KEY,
            part_bytes=PART_BYTES,
            metadata={"who": "parts"},
            content_type="text/html",
            content_encoding=None,
        )

    def put(self, upload: OpenUpload, number: int, body: bytes) -> Part:
        etag = self.multipart.put_part(upload, number, body)
        return Part(number, len(body), Digest.of(body), etag)

    def put_all(self, upload: OpenUpload) -> list[Part]:
        return [self.put(upload, number, body) for number, body in ((1, FIRST), (2, LAST))]

    def peek(self) -> bytes | None:
        path = self.root / "cold-bucket" / KEY
        return path.read_bytes() if path.is_file() else None

    def left(self) -> list[str]:
        return sorted(path.name for path in self.uploads.iterdir())

    def data(self, upload: OpenUpload) -> Path:
        return self.uploads / upload.upload_id / "data"


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


# --- killed -----------------------------------------------------------------------------

# One child for each call of the system that changes something: it dies right before it.
KILLED = """
import os, pathlib, sys
from archiver.model import ColdKey, Digest, Part
from archiver.stores.cold_file import FileColdStore

CHANGES = "fsync ftruncate link mkdir pwrite rename rmdir unlink write".split()
FIRST, LAST = bytes([1]) * 1000, bytes([2]) * 77

def work(root, end):
    multipart = FileColdStore(root, "cold-bucket", "app/").multipart
    upload = multipart.begin(ColdKey("app/large.bin"), part_bytes=1000,
        metadata={"who": "parts"}, content_type="text/html", content_encoding=None)
    def put(number, body):
        etag = multipart.put_part(upload, number, body)
        return Part(number, len(body), Digest.of(body), etag)
    put(2, LAST + b"longer than the one that counts")
    parts = [put(1, FIRST), put(2, LAST)]
    multipart.complete(upload, parts) if end == "complete" else multipart.abort(upload)

def dying_at(step):
    count = 0
    def counted(call):
        def instead(*args, **named):
            nonlocal count
            count += 1
            if count == step:
                os._exit(9)
            return call(*args, **named)
        return instead
    for name in CHANGES:
        setattr(os, name, counted(getattr(os, name)))

for step in range(1, 1000):
    root = pathlib.Path(sys.argv[1], str(step))
    (root / "cold-bucket").mkdir(parents=True)
    child = os.fork()
    if not child:
        dying_at(step)
        work(root, sys.argv[2])
        os._exit(0)
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0:
        break
"""


@pytest.mark.parametrize("end", ["complete", "abort"])
def test_a_killed_process_leaves_an_upload_that_is_told_of_or_nothing(
    tmp_path: Path, end: str
) -> None:
    subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path), end],
        cwd=Path(__file__).parents[3],
        check=True,
        timeout=120,
    )
    worlds = [World(path) for path in tmp_path.iterdir()]
    assert len(worlds) > 40

    found = [outcome_of(world) for world in worlds]

    assert {"nothing", "under way"} <= set(found)
    assert ("whole" in found, "whole, and under way" in found) == (end == "complete",) * 2


def outcome_of(world: World) -> str:
    """What a death left, after whoever comes next has gone on from it."""
    uploads = list(world.multipart.open_uploads(""))
    seen = world.peek()
    assert seen in {None, WHOLE}
    assert [upload.key for upload in uploads] in ([], [KEY])
    if not uploads:
        assert not world.uploads.exists() or world.left() == []
        return "nothing" if seen is None else "whole"
    [upload] = uploads
    if seen is not None:
        with suppress(UploadMissing):  # where its data was removed already, there is new data
            world.put(upload, 1, bytes(PART_BYTES))
        world.multipart.abort(upload)
        assert (world.left(), world.peek()) == ([], WHOLE)
        return "whole, and under way"
    for part in world.multipart.parts(upload):
        start = (part.number - 1) * PART_BYTES
        lies_there = world.data(upload).read_bytes()[start : start + part.size_bytes]
        assert len(lies_there) == part.size_bytes
        assert lies_there.startswith(FIRST if part.number == 1 else LAST)
    stat = world.multipart.complete(upload, world.put_all(upload))
    assert (stat.size_bytes, world.peek(), world.left()) == (len(WHOLE), WHOLE, [])
    found = world.store.look(KEY)
    assert found is not None
    assert found.metadata == {"who": "parts"}
    return "under way"


def test_who_died_over_removing_a_completed_upload_is_told_the_object(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = world.begin()
    parts = world.put_all(upload)

    def die(_: object) -> None:
        raise OSError(errno.EIO, "died")

    with monkeypatch.context() as patched:
        patched.setattr(file_multipart._Place, "remove", die)
        with pytest.raises(StoreUnavailable):
            world.multipart.complete(upload, parts)

    assert world.peek() == WHOLE
    stat = world.multipart.complete(upload, parts)
    assert world.store.stat_many([KEY]) == {KEY: stat}
    assert world.left() == []


def test_data_that_has_another_name_takes_no_more_bytes(world: World, tmp_path: Path) -> None:
    """It might be an object: of another key, or the snapshot of a backup."""
    upload = world.begin()
    parts = world.put_all(upload)
    os.link(world.data(upload), tmp_path / "another name")

    with pytest.raises(UploadMissing):
        world.put(upload, 1, bytes(PART_BYTES))
    with pytest.raises(UploadMissing):
        world.multipart.complete(upload, parts)
    world.multipart.abort(upload)

    assert (tmp_path / "another name").read_bytes() == WHOLE
    assert world.left() == []


def test_another_process_that_starts_leaves_uploads_alone(world: World) -> None:
    upload = world.begin()
    parts = world.put_all(upload)

    later = World(world.root)
    later.store.create(
        ColdKey("app/other"), b"x", metadata={}, content_type=None, content_encoding=None
    )

    assert list(later.multipart.open_uploads("app/")) == [upload]
    assert later.multipart.complete(upload, parts).size_bytes == len(WHOLE)


def test_who_only_goes_on_makes_the_directories_it_needs(world: World) -> None:
    upload = world.begin()
    (world.uploads.parent / "temporary").rmdir()
    later = World(world.root)

    assert later.multipart.complete(upload, later.put_all(upload)).size_bytes == len(WHOLE)


# --- at the same time -------------------------------------------------------------------


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[threading.Event, threading.Event]]:
    """A part that is being written: (it is now, it may go on)."""
    is_written, may_go_on = threading.Event(), threading.Event()
    pwrite = os.pwrite

    def slow(number: int, body: bytes, offset: int) -> int:
        is_written.set()
        assert may_go_on.wait(30)
        return pwrite(number, body, offset)

    monkeypatch.setattr(os, "pwrite", slow)
    yield is_written, may_go_on
    may_go_on.set()


@pytest.mark.parametrize("end", ["complete", "abort"])
def test_an_upload_does_not_end_while_a_part_is_written(
    world: World, held: tuple[threading.Event, threading.Event], end: str
) -> None:
    is_written, may_go_on = held
    upload = world.begin()
    may_go_on.set()
    parts = world.put_all(upload)
    is_written.clear()
    may_go_on.clear()
    told: list[object] = []

    def put_late() -> None:
        told.append(world.put(upload, 1, bytes(PART_BYTES)))

    def finish() -> None:
        try:
            if end == "abort":
                world.multipart.abort(upload)
            else:
                world.multipart.complete(upload, parts)
        except StoreUnavailable as exc:  # those parts are not what lies there any more
            told.append(exc.code)

    threads = [threading.Thread(target=work) for work in (put_late, finish)]
    threads[0].start()
    assert is_written.wait(30)
    threads[1].start()
    threads[1].join(0.2)
    assert threads[1].is_alive()  # it waits
    may_go_on.set()
    for thread in threads:
        thread.join(30)

    assert isinstance(told[0], Part)
    assert told[1:] == ([] if end == "abort" else ["InvalidPart"])
    assert world.peek() is None


def test_two_writers_of_one_part_leave_one_whole(world: World) -> None:
    upload = world.begin()
    bodies = [bytes([number]) * PART_BYTES for number in range(8)]
    etags: dict[str, bytes] = {}

    def put(body: bytes) -> None:
        etags[world.multipart.put_part(upload, 1, body)] = body

    threads = [threading.Thread(target=put, args=(body,)) for body in bodies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    [part] = world.multipart.parts(upload)
    body = etags[part.etag]
    world.multipart.complete(upload, [Part(1, len(body), Digest.of(body), part.etag)])
    assert world.peek() == body


# --- what else lies there -----------------------------------------------------------------


def test_links_among_our_own_are_not_followed(world: World, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    upload = world.begin()
    (world.uploads / upload.upload_id).symlink_to(outside)

    with pytest.raises(UploadMissing):
        world.put(upload, 1, FIRST)
    with pytest.raises(UploadMissing):
        world.multipart.parts(upload)
    world.multipart.abort(upload)

    assert list(outside.iterdir()) == []


def test_data_that_is_a_link_or_a_pipe_is_not_written(world: World, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"not ours")
    for make in (lambda path: path.symlink_to(victim), os.mkfifo):
        upload = world.begin()
        (world.uploads / upload.upload_id).mkdir()
        make(world.data(upload))

        with pytest.raises(StoreUnavailable):
            world.put(upload, 1, FIRST)
        world.multipart.abort(upload)

    assert victim.read_bytes() == b"not ours"
    assert world.left() == []


def test_uploads_that_lie_elsewhere_are_not_ours(world: World, tmp_path: Path) -> None:
    world.begin()
    (tmp_path / "elsewhere").mkdir()
    world.uploads.rename(tmp_path / "elsewhere" / "uploads")
    world.uploads.symlink_to(tmp_path / "elsewhere" / "uploads")

    assert list(world.multipart.open_uploads("")) == []
    with pytest.raises(StoreUnavailable, match="not a directory"):
        World(world.root).begin()


def test_what_else_lies_among_uploads_is_left_alone(world: World) -> None:
    upload = world.begin()
    for name in ("notes.txt", "x.json", f"{upload.upload_id}x.json"):
        (world.uploads / name).write_text("theirs")

    assert list(world.multipart.open_uploads("")) == [upload]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"version": 2, "key": "app/large.bin"}'])
def test_a_record_that_cannot_be_read_is_not_taken_for_none(world: World, text: str) -> None:
    upload = world.begin()
    (world.uploads / f"{upload.upload_id}.json").write_text(text)

    for ask in (
        lambda: list(world.multipart.open_uploads("")),
        lambda: world.multipart.parts(upload),
        lambda: world.put(upload, 1, FIRST),
    ):
        with pytest.raises(StoreUnavailable):
            ask()


def test_an_upload_of_another_key_is_missing(world: World) -> None:
    upload = world.begin()
    other = OpenUpload(ColdKey("app/other"), upload.upload_id)

    with pytest.raises(UploadMissing):
        world.put(other, 1, FIRST)
    world.multipart.abort(other)

    assert list(world.multipart.open_uploads("")) == [upload]


def test_the_record_of_an_upload_is_what_later_releases_read(world: World) -> None:
    upload = world.begin()
    world.put(upload, 1, FIRST)

    told = json.loads((world.uploads / f"{upload.upload_id}.json").read_text())
    part = json.loads((world.uploads / upload.upload_id / "1.json").read_text())

    assert told == {
        "version": 1,
        "key": KEY,
        "part_bytes": PART_BYTES,
        "metadata": {"who": "parts"},
        "content_type": "text/html",
        "content_encoding": None,
    }
    assert (part["version"], part["size_bytes"]) == (1, PART_BYTES)


# --- what is refused --------------------------------------------------------------------


def test_a_key_behind_a_link_becomes_no_object(world: World, tmp_path: Path) -> None:
    upload = world.begin()
    (tmp_path / "outside").mkdir()
    (tmp_path / "cold-bucket" / "app" / "dir").symlink_to(tmp_path / "outside")
    behind = world.multipart.begin(
        ColdKey("app/dir/object"),
        part_bytes=PART_BYTES,
        metadata={},
        content_type=None,
        content_encoding=None,
    )

    with pytest.raises(UnusableName):
        world.multipart.complete(behind, world.put_all(behind))

    assert list((tmp_path / "outside").iterdir()) == []
    assert world.multipart.complete(upload, world.put_all(upload)).key == KEY


def test_a_key_taken_by_a_directory_becomes_no_object(world: World) -> None:
    upload = world.begin()
    (world.root / "cold-bucket" / KEY).mkdir()

    with pytest.raises(UnusableName):
        world.multipart.complete(upload, world.put_all(upload))

    assert list(world.multipart.open_uploads("")) == [upload]


def test_a_writer_that_knows_no_locks_is_not_written_over(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = world.begin()
    parts = world.put_all(upload)
    link = os.link

    def late(source: Path, target: Path) -> None:
        Path(target).write_bytes(b"theirs")
        link(source, target)

    monkeypatch.setattr(os, "link", late)
    with pytest.raises(KeyTaken):
        world.multipart.complete(upload, parts)

    assert world.peek() == b"theirs"
    assert [part.number for part in world.multipart.parts(upload)] == [1, 2]


def test_a_part_that_would_reach_into_the_next_is_refused(world: World) -> None:
    upload = world.begin()

    with pytest.raises(ValueError, match="1001 bytes"):
        world.put(upload, 1, bytes(PART_BYTES + 1))


@pytest.mark.parametrize("numbers", [[2], [1, 1], [2, 1], []])
def test_parts_that_make_no_object_are_refused(world: World, numbers: Sequence[int]) -> None:
    upload = world.begin()
    parts = dict(enumerate(world.put_all(upload), 1))

    with pytest.raises(StoreUnavailable, match="InvalidPart"):
        world.multipart.complete(upload, [parts[number] for number in numbers])

    assert world.peek() is None


def test_a_short_part_in_the_middle_makes_no_object(world: World) -> None:
    upload = world.begin()
    parts = [world.put(upload, 1, b"short"), world.put(upload, 2, LAST)]

    with pytest.raises(StoreUnavailable, match="InvalidPart"):
        world.multipart.complete(upload, parts)


def test_a_part_for_which_there_is_no_room_does_not_count(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = world.begin()
    world.put_all(upload)

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", full)
        with pytest.raises(StoreFull):
            world.put(upload, 1, FIRST)

    assert [part.number for part in world.multipart.parts(upload)] == [2]


def test_a_large_object_takes_no_more_disk_than_its_bytes(world: World) -> None:
    """Completing copies nothing: the file that was written part by part is the object."""
    upload = world.begin()
    parts = world.put_all(upload)
    inode = world.data(upload).stat().st_ino

    world.multipart.complete(upload, parts)

    assert (world.root / "cold-bucket" / KEY).stat().st_ino == inode
    assert (world.root / "cold-bucket" / KEY).stat().st_nlink == 1
