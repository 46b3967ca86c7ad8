"""Directories as stores: the contracts, and what only a file system can do wrong."""

from __future__ import annotations

import errno
import json
import os
import secrets
import subprocess
import sys
import tracemalloc
from dataclasses import dataclass
from pathlib import Path

import pytest

from archiver.errors import (
    ArchiverError,
    BucketMissing,
    KeyTaken,
    ObjectChanged,
    ObjectDenied,
    ObjectMissing,
    StoreDenied,
    StoreUnavailable,
    UnusableName,
)
from archiver.model import ColdKey, Deleted, HotIdentity, HotLocation
from archiver.stores import hot_file
from archiver.stores.cold_file import FileColdStore
from archiver.stores.cold_file_errors import translated
from archiver.stores.hot_file import FileHotStore
from tests.contract.cold_store_contract import ColdStoreContract, create
from tests.contract.hot_store_contract import HotStoreContract, identity_of, read
from tests.contract.multipart_contract import MultipartContract
from tests.fakes.stores import anytime


@dataclass
class FileHotWorld:
    root: Path
    store: FileHotStore

    def plant(
        self,
        location: HotLocation,
        body: bytes,
        content_type: str = "text/html",  # noqa: ARG002  # a file has none
    ) -> None:
        path = self.root / location.bucket / location.path
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_name(f".{secrets.token_hex(8)}")
        fresh.write_bytes(body)
        fresh.rename(path)

    def peek(self, location: HotLocation) -> bytes | None:
        path = self.root / location.bucket / location.path
        return path.read_bytes() if path.is_file() else None


@dataclass
class FileColdWorld:
    root: Path
    store: FileColdStore

    def peek(self, key: ColdKey) -> bytes | None:
        path = self.root / "cold-bucket" / key
        return path.read_bytes() if path.is_file() else None

    def damage(self, key: ColdKey, body: bytes) -> None:
        (self.root / "cold-bucket" / key).write_bytes(body)


@pytest.fixture
def hot(tmp_path: Path) -> FileHotWorld:
    (tmp_path / "hot-pages").mkdir()
    return FileHotWorld(tmp_path, FileHotStore(tmp_path))


@pytest.fixture
def cold(tmp_path: Path) -> FileColdWorld:
    (tmp_path / "cold-bucket").mkdir()
    return FileColdWorld(tmp_path, FileColdStore(tmp_path, "cold-bucket", "app/"))


class TestFileHotStore(HotStoreContract):
    @pytest.fixture
    def world(self, hot: FileHotWorld) -> FileHotWorld:
        return hot


class TestFileColdStore(ColdStoreContract):
    @pytest.fixture(params=["", "some/prefix/"])
    def world(self, tmp_path: Path, request: pytest.FixtureRequest) -> FileColdWorld:
        (tmp_path / "cold-bucket").mkdir()
        return FileColdWorld(tmp_path, FileColdStore(tmp_path, "cold-bucket", request.param))


class TestFileMultipart(MultipartContract):
    @pytest.fixture(params=["", "some/prefix/"])
    def world(self, tmp_path: Path, request: pytest.FixtureRequest) -> FileColdWorld:
        (tmp_path / "cold-bucket").mkdir()
        return FileColdWorld(tmp_path, FileColdStore(tmp_path, "cold-bucket", request.param))


# --- hot --------------------------------------------------------------------------------

AT = HotLocation("hot-pages", "dir/page")


def test_a_link_out_of_the_root_is_refused(hot: FileHotWorld, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "page").write_bytes(b"not ours")
    (tmp_path / "hot-pages" / "dir").symlink_to(outside)
    (tmp_path / "hot-pages" / "page").symlink_to(outside / "page")

    for location in (AT, HotLocation("hot-pages", "page")):
        with pytest.raises(ObjectDenied):
            read(hot.store, location)
        answer = hot.store.delete([(location, HotIdentity(8, etag="any"))], anytime)[location]
        assert answer in {Deleted.DENIED, Deleted.ABSENT}

    assert (outside / "page").read_bytes() == b"not ours"


@pytest.mark.parametrize(
    ("bucket", "error"),
    [
        *(
            (it, UnusableName)
            for it in ("..", ".", "", "a/b", "nul\0", "x" * 256, "\udc80\ud800")
        ),
        ("no-such", BucketMissing),
    ],
)
def test_a_bucket_is_one_directory_of_the_root(
    hot: FileHotWorld, bucket: str, error: type[ArchiverError]
) -> None:
    with pytest.raises(BucketMissing):
        hot.store.probe(bucket)
    with pytest.raises(error):
        read(hot.store, HotLocation(bucket, "page"))


def test_a_root_that_is_not_mounted_is_a_missing_bucket(tmp_path: Path) -> None:
    store = FileHotStore(tmp_path / "not-mounted")

    with pytest.raises(BucketMissing):
        store.identify([AT])
    with pytest.raises(BucketMissing):
        store.delete([(AT, HotIdentity(1, etag="any"))], anytime)


def test_a_delete_of_another_file_than_was_read_is_refused(hot: FileHotWorld) -> None:
    hot.plant(AT, b"old")
    old = identity_of(hot.store, AT)
    hot.plant(AT, b"new")

    assert hot.store.delete([(AT, old)], anytime) == {AT: Deleted.CHANGED}
    assert hot.peek(AT) == b"new"


def test_a_file_rewritten_in_place_has_another_identity(hot: FileHotWorld) -> None:
    hot.plant(AT, b"old")
    old = identity_of(hot.store, AT)
    path = hot.root / "hot-pages" / AT.path

    path.write_bytes(b"new")
    os.utime(path, ns=(1, 1))  # a later tick, whatever the file system counts in

    assert identity_of(hot.store, AT) != old


def test_a_file_that_grows_while_it_is_read_is_not_delivered(hot: FileHotWorld) -> None:
    hot.plant(AT, b"half")

    with hot.store.open(AT) as opened:
        with (hot.root / "hot-pages" / AT.path).open("ab") as file:
            file.write(b" and half")
        with pytest.raises(StoreUnavailable):
            opened.read()


def test_a_file_rewritten_while_it_is_read_is_not_delivered(hot: FileHotWorld) -> None:
    hot.plant(AT, b"old")
    path = hot.root / "hot-pages" / AT.path

    with hot.store.open(AT) as opened:
        path.write_bytes(b"new")
        os.utime(path, ns=(1, 1))  # a later tick, whatever the file system counts in
        with pytest.raises(StoreUnavailable):
            opened.read()


def test_a_file_that_grows_while_it_is_read_takes_no_more_memory_than_its_budget(
    hot: FileHotWorld,
) -> None:
    hot.plant(AT, b"small")

    with hot.store.open(AT) as opened:
        os.truncate(hot.root / "hot-pages" / AT.path, 256 << 20)
        tracemalloc.start()
        try:
            with pytest.raises(StoreUnavailable):
                opened.read()
            _, peak_bytes = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()

    assert peak_bytes < 4 << 20


@pytest.mark.parametrize("size_bytes", [0, 3, 4, 5])
def test_a_file_that_changes_while_a_range_of_it_is_read_is_not_delivered(
    hot: FileHotWorld, monkeypatch: pytest.MonkeyPatch, size_bytes: int
) -> None:
    hot.plant(AT, b"old!")
    identity = identity_of(hot.store, AT)
    change_at_the_first_read(hot.root / "hot-pages" / AT.path, size_bytes, monkeypatch)

    with pytest.raises(ObjectChanged):
        hot.store.read_range(AT, identity, 0, 4)


def test_a_range_takes_the_memory_of_two_of_it(hot: FileHotWorld) -> None:
    body = bytes(8 << 20)
    hot.plant(AT, body)
    identity = identity_of(hot.store, AT)

    tracemalloc.start()
    try:
        hot.store.read_range(AT, identity, 0, len(body))
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak_bytes < 2.25 * len(body)


def change_at_the_first_read(
    path: Path, size_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    pread = os.pread

    def late(number: int, count: int, offset: int) -> bytes:
        path.write_bytes(b"n" * size_bytes)
        os.utime(path, ns=(1, 1))  # another tick, whatever the file system counts in
        return pread(number, count, offset)

    monkeypatch.setattr(os, "pread", late)


def test_a_link_is_followed_by_no_range(hot: FileHotWorld, tmp_path: Path) -> None:
    hot.plant(AT, b"page")
    identity = identity_of(hot.store, AT)
    path = hot.root / "hot-pages" / AT.path
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")

    with pytest.raises(ObjectDenied):
        hot.store.read_range(AT, identity, 0, 4)


def test_a_delete_leaves_the_directories(hot: FileHotWorld) -> None:
    hot.plant(AT, b"x")

    hot.store.delete([(AT, identity_of(hot.store, AT))], anytime)

    assert (hot.root / "hot-pages" / "dir").is_dir()


def test_what_is_not_a_plain_file_is_no_hot_object(hot: FileHotWorld) -> None:
    fifo = HotLocation("hot-pages", "fifo")
    os.mkfifo(hot.root / "hot-pages" / "fifo")
    (hot.root / "hot-pages" / "dir").mkdir()

    for location in (fifo, HotLocation("hot-pages", "dir")):
        with pytest.raises(ObjectMissing):
            read(hot.store, location)
        assert hot.store.identify([location]) == {location: None}


def test_names_too_long_for_a_file_are_unusable(hot: FileHotWorld) -> None:
    for path in ("x" * 256, "y/" * 3000 + "z"):
        with pytest.raises((UnusableName, ObjectMissing)):
            read(hot.store, HotLocation("hot-pages", path))


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.EACCES, ObjectDenied),
        (errno.ENOENT, ObjectMissing),
        (errno.EIO, StoreUnavailable),
        (errno.ESTALE, StoreUnavailable),
    ],
)
def test_errors_of_the_system_are_ours_on_the_hot_side(
    number: int, kind: type[Exception]
) -> None:
    with pytest.raises(kind), hot_file._translated("open", AT):
        raise OSError(number, os.strerror(number))


# --- cold -------------------------------------------------------------------------------

KEY = ColdKey("app/jobs/1/page.html.gz")


def test_an_object_is_a_plain_file_and_nothing_else_is_left(cold: FileColdWorld) -> None:
    create(cold.store, KEY, b"some bytes")

    assert (cold.root / "cold-bucket" / KEY).read_bytes() == b"some bytes"
    assert temporary_files(cold) == []
    assert [stat.key for stat in cold.store.list("")] == [KEY]


@pytest.mark.parametrize("size_bytes", [0, 3, 4, 5])
def test_an_object_that_changes_while_a_range_of_it_is_read_is_not_delivered(
    cold: FileColdWorld, monkeypatch: pytest.MonkeyPatch, size_bytes: int
) -> None:
    stat = create(cold.store, KEY, b"old!")
    change_at_the_first_read(cold.root / "cold-bucket" / KEY, size_bytes, monkeypatch)

    with pytest.raises(ObjectChanged):
        cold.store.read_range(stat, 0, 4)


def test_a_failed_create_leaves_nothing(cold: FileColdWorld) -> None:
    create(cold.store, KEY, b"first")

    for key in (KEY, ColdKey(f"{KEY}/below")):
        with pytest.raises((KeyTaken, UnusableName)):
            create(cold.store, key, b"second")

    assert temporary_files(cold) == []
    assert [stat.key for stat in cold.store.list("")] == [KEY]


def test_a_key_above_other_objects_is_unusable(cold: FileColdWorld) -> None:
    create(cold.store, KEY, b"x")

    with pytest.raises(UnusableName):
        create(cold.store, ColdKey("app/jobs"), b"y")


def test_metadata_of_neighbouring_names_stays_apart(cold: FileColdWorld) -> None:
    plain, below = ColdKey("app/a"), ColdKey("app/a.json/b")
    for key in (plain, below):
        create(cold.store, key, b"x", metadata={"who": key})

    for key in (plain, below):
        seen = cold.store.look(key)
        assert seen is not None
        assert seen.metadata == {"who": key}


def test_a_sidecar_without_its_object_is_replaced(cold: FileColdWorld) -> None:
    """A crash between the two leaves the metadata alone; the next create is not its."""
    create(cold.store, KEY, b"first", metadata={"who": "first"})
    (cold.root / "cold-bucket" / KEY).unlink()

    assert cold.store.look(KEY) is None
    create(cold.store, KEY, b"second", metadata={"who": "second"})

    seen = cold.store.look(KEY)
    assert seen is not None
    assert seen.metadata == {"who": "second"}


def test_a_file_of_other_hands_is_an_object_without_metadata(cold: FileColdWorld) -> None:
    path = cold.root / "cold-bucket" / KEY
    path.parent.mkdir(parents=True)
    path.write_bytes(b"theirs")

    seen = cold.store.look(KEY)
    assert seen is not None
    assert (seen.metadata, seen.content_type) == ({}, None)
    with pytest.raises(KeyTaken):
        create(cold.store, KEY, b"ours")
    assert path.read_bytes() == b"theirs"


def test_a_damaged_sidecar_is_not_taken_for_none(cold: FileColdWorld) -> None:
    create(cold.store, KEY, b"x")
    for sidecar in (cold.root / "cold-bucket/app/.archiver/metadata").glob("*/*.json"):
        sidecar.write_text(json.dumps({"version": 99}))

    with pytest.raises(StoreUnavailable):
        cold.store.look(KEY)


@pytest.mark.parametrize(
    "key",
    [
        "app/../../escape",
        "app//page",
        "/etc/page",
        "app/",
        "app/nul\0",
        "app/" + "x" * 256,
        "app/.archiver/metadata/00/x.json",
        "app/.archiver/temporary/x",
        "app/.archiver/locks/00",
        "app/.archiver/uploads/x/data",
        "app/\ud800",
    ],
)
def test_a_key_that_is_no_file_name_is_unusable(cold: FileColdWorld, key: str) -> None:
    with pytest.raises(UnusableName):
        create(cold.store, ColdKey(key), b"x")
    with pytest.raises(UnusableName):
        cold.store.read(ColdKey(key))
    assert [path for path in cold.root.rglob("*") if path.is_file()] == []


def test_other_keys_below_our_directory_are_objects(cold: FileColdWorld) -> None:
    stamp = ColdKey("app/.archiver/task_html/1")

    create(cold.store, stamp, b"{}")

    assert [stat.key for stat in cold.store.list("app/.archiver/")] == [stamp]


def test_a_listing_never_leaves_the_bucket(cold: FileColdWorld) -> None:
    (cold.root / "outside").write_bytes(b"x")

    for prefix in ("../", "app/../../", "/", "app/.archiver/metadata/"):
        assert list(cold.store.list(prefix)) == []


def test_a_bucket_that_is_not_mounted_is_missing(tmp_path: Path) -> None:
    store = FileColdStore(tmp_path, "not-mounted", "")

    with pytest.raises(BucketMissing):
        create(store, KEY, b"x")
    with pytest.raises(BucketMissing):
        store.stat_many([KEY])
    with pytest.raises(BucketMissing):
        store.read(KEY)
    with pytest.raises(BucketMissing):
        list(store.list(""))
    assert list(tmp_path.iterdir()) == []


KILLED = """
import os, pathlib, signal, sys
from archiver.stores import cold_directory, cold_file
def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)
where, name = sys.argv[2].split(".")
setattr({"os": os, "directory": cold_directory}[where], name, die)
store = cold_file.FileColdStore(pathlib.Path(sys.argv[1]), "cold-bucket", "app/")
store.create("app/jobs/1/page.html.gz", b"killed", metadata={"who": "killed"},
             content_type=None, content_encoding=None)
"""


@pytest.mark.parametrize(
    "step", ["os.fsync", "os.link", "directory.sync_directory", "directory.stat_of"]
)
def test_a_killed_create_leaves_all_or_nothing(cold: FileColdWorld, step: str) -> None:
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(cold.root), step],
        cwd=Path(__file__).parents[3],
        check=False,
    )
    assert killed.returncode == -9

    assert cold.peek(KEY) in {None, b"killed"}
    try:
        create(cold.store, KEY, b"later", metadata={"who": "later"})
    except KeyTaken:
        create(cold.store, ColdKey("app/another"), b"x")

    seen = cold.store.look(KEY)
    assert seen is not None
    assert (cold.peek(KEY), seen.metadata) in [
        (b"killed", {"who": "killed"}),
        (b"later", {"who": "later"}),
    ]
    assert temporary_files(cold) == []


@pytest.mark.parametrize(
    ("number", "operation", "kind"),
    [
        (errno.ENOSPC, "create", StoreUnavailable),
        (errno.EDQUOT, "create", StoreUnavailable),
        (errno.EROFS, "create", StoreUnavailable),
        (errno.EIO, "stat", StoreUnavailable),
        (errno.EACCES, "create", StoreDenied),
        (errno.EPERM, "stat", StoreDenied),
        (errno.EACCES, "read", ObjectDenied),
        (errno.ENAMETOOLONG, "create", UnusableName),
    ],
)
def test_errors_of_the_system_are_ours_on_the_cold_side(
    number: int, operation: str, kind: type[Exception]
) -> None:
    with pytest.raises(kind) as caught, translated(operation, "key"):
        raise OSError(number, os.strerror(number))

    assert caught.value.__cause__ is not None


def test_a_full_disk_is_unavailable_and_leaves_nothing(
    cold: FileColdWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        with pytest.raises(StoreUnavailable) as caught:
            create(cold.store, KEY, b"x")

    assert caught.value.code == "ENOSPC"
    assert (temporary_files(cold), cold.peek(KEY)) == ([], None)


def temporary_files(world: FileColdWorld) -> list[Path]:
    return [p for d in world.root.rglob(".archiver/temporary") for p in d.iterdir()]
