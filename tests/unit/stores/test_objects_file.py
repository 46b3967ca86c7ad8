"""The user's own objects in a directory: the contract, and what only a file system does."""

from __future__ import annotations

import os
import secrets
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import pytest

from archiver.errors import BucketMissing, ObjectMissing, UnusableName
from archiver.model import ColdKey
from archiver.objects.service import ObjectService
from archiver.stores.cold_file import FileColdStore
from archiver.stores.objects_file import FileObjectStore
from tests.contract.object_store_contract import ObjectStoreContract

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass
class FileObjectWorld:
    objects: ObjectService
    root: Path

    def peek(self, key: str) -> bytes | None:
        path = self.root / "bucket" / key
        return path.read_bytes() if path.is_file() else None

    def plant(self, key: str, body: bytes) -> None:
        path = self.root / "bucket" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_name(f".fresh-{path.name}")  # many are planted at once
        fresh.write_bytes(body)
        fresh.rename(path)

    def left_behind(self) -> list[str]:
        ours = self.root / "bucket" / "app" / ".archiver"
        return [it.name for name in ("temporary", "uploads") for it in (ours / name).glob("*")]


@pytest.fixture
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FileObjectWorld]:
    root = tmp_path_factory.mktemp("root")
    (root / "bucket").mkdir()
    with ObjectService(FileObjectStore(root, "bucket", "app/")) as objects:
        yield FileObjectWorld(objects, root)


class TestOnFiles(ObjectStoreContract):
    signs: ClassVar = False
    tells_type_in_listings: ClassVar = True

    @pytest.fixture
    def world(self, world: FileObjectWorld) -> FileObjectWorld:
        return world


def test_what_is_replaced_keeps_its_own_metadata_until_it_is(
    world: FileObjectWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between the metadata and the rename: the old bytes have the old metadata."""
    world.objects.put("k", b"first", content_type="text/plain", metadata={"a": "1"})
    before = world.objects.head("k")

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", die)
        with pytest.raises(KeyboardInterrupt):
            world.objects.put("k", b"second", content_type="text/css")

    assert world.objects.head("k") == before
    assert world.objects.get("k") == b"first"
    world.objects.set_content_type("k", "text/html")
    head = world.objects.head("k")
    assert head is not None
    assert (head.content_type, head.metadata) == ("text/html", {"a": "1"})
    world.objects.put("k", b"third", content_type="text/css")
    head = world.objects.head("k")
    assert head is not None
    assert (head.content_type, head.metadata) == ("text/css", {})
    assert [] == world.left_behind()


def test_two_objects_of_one_key_never_share_an_etag(
    world: FileObjectWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also within one tick of the file system's clock: each has a moment of its own in it."""
    path, moments = world.root / "bucket" / "k", iter((1, 2))
    monkeypatch.setattr(secrets, "randbelow", lambda _: next(moments))
    for moment in (1, 2):
        world.objects.put("k", b"x")
        assert path.stat().st_mtime_ns % 1_000_000 == moment


def test_the_cold_store_reads_what_was_put_and_it_reads_what_was_archived(
    world: FileObjectWorld,
) -> None:
    cold = FileColdStore(world.root, "bucket", "app/")
    world.objects.put("mine", b"x", content_type="text/css", metadata={"a": "1"})
    cold.create(
        ColdKey("app/archived"),
        b"y",
        metadata={"archiver-id": "1"},
        content_type="text/html",
        content_encoding="gzip",
    )

    look, head = cold.look(ColdKey("mine")), world.objects.head("app/archived")

    assert look is not None
    assert (look.content_type, look.metadata) == ("text/css", {"a": "1"})
    assert head is not None
    assert (head.content_type, head.content_encoding) == ("text/html", "gzip")
    assert head.metadata == {"archiver-id": "1"}


def test_what_is_no_plain_file_is_no_object(world: FileObjectWorld) -> None:
    bucket = world.root / "bucket"
    world.objects.put("real", b"x")
    (bucket / "link").symlink_to(bucket / "real")
    (bucket / "directory").symlink_to(world.root)
    os.mkfifo(bucket / "pipe")

    for key in ("link", "pipe", "directory/bucket/real"):
        assert world.objects.head(key) is None
        with pytest.raises(ObjectMissing):
            world.objects.get(key)
        with pytest.raises(UnusableName):
            world.objects.put(key, b"y")
        world.objects.delete(key)  # it is none, so it is deleted; nothing is touched
    with pytest.raises(UnusableName):
        world.objects.put("app", b"a directory of that name")
    assert [it.key for it in world.objects.list()] == ["real"]
    assert (bucket / "link").is_symlink()
    assert (bucket / "pipe").exists()


def test_a_disk_that_is_not_mounted_proves_no_absence(tmp_path: Path) -> None:
    with ObjectService(FileObjectStore(tmp_path, "bucket")) as objects:
        for ask in (objects.exists, objects.get, objects.delete):
            with pytest.raises(BucketMissing):
                ask("k")
        with pytest.raises(BucketMissing):
            objects.put("k", b"x")
        with pytest.raises(BucketMissing):
            list(objects.list())


def test_many_writers_of_one_key_leave_one_whole_object(world: FileObjectWorld) -> None:
    bodies = [bytes([number]) * 30_000 for number in range(8)]

    def put(body: bytes) -> None:
        world.objects.put("k", body, metadata={"who": str(body[0])})

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(put, bodies * 3))

    head = world.objects.head("k")
    assert head is not None
    assert world.objects.get("k") == bytes([int(head.metadata["who"])]) * 30_000
