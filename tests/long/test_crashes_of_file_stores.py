"""A sweep between two directories dies before, within and after every change of a file.

What the stores do to the file system is enumerated where the functions of the operating system
are called. After its death a process changes nothing more, in no `finally` either; its locks
are gone, as the kernel lets go of them. Only the process dies: what was written is there,
synced or not. That an object is synced before it appears is a test of its own.
"""

from __future__ import annotations

import io
import os
import shutil
import sys
import tempfile
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from archiver.model import ColdKey, HotLocation
from archiver.stores.cold_file import FileColdStore
from archiver.stores.hot_file import FileHotStore
from tests.fakes.table_source import BUCKET
from tests.faults.test_crash_matrix import SMALL, Died, fill, finish, leftovers
from tests.unit.engine.world import World

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.harness.figures import TellFigure

COLD_BUCKET = "cold-pages"
_CHANGES = ("write", "fsync", "link", "rename", "replace", "unlink", "remove", "mkdir", "rmdir")
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_TOLD_OF = {"os.link", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "open"}  # by an audit


@dataclass(frozen=True)
class Point:
    """Before or after a change, or with half of the bytes written."""

    number: int
    when: str
    change: str

    def __str__(self) -> str:
        return f"{self.when} {self.change} #{self.number}"


class Disk:
    """Every change that this process makes to files below a root, until it dies."""

    def __init__(self, root: Path) -> None:
        self.root = str(root)
        self.changes: list[str] = []
        self.audited: Counter[str] = Counter()
        self.die_at: Point | None = None
        self.is_dead = False
        self.is_watched = False

    def tap(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in _CHANGES:
            monkeypatch.setattr(os, name, self._changing(name, getattr(os, name)))
        monkeypatch.setattr(os, "open", self._opening(os.open))
        monkeypatch.setattr(io, "open", self._opening(io.open))
        sys.addaudithook(self._audit)  # for the rest of the process, so it soon has no ears

    @contextmanager
    def watched(self, die_at: Point | None = None) -> Iterator[None]:
        self.changes, self.audited = [], Counter()
        self.die_at, self.is_dead, self.is_watched = die_at, False, True
        try:
            yield
        finally:
            self.is_watched = False

    def _changing(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def change(*args: Any, **named: Any) -> Any:
            if not self.is_watched:
                return call(*args, **named)
            if name == "write":
                return self._around("write", lambda: call(*args), lambda: call(*_half(*args)))
            if name == "fsync":  # no power is cut here
                return self._around("fsync", lambda: None)
            return self._around(name, lambda: call(*args, **named))

        return change

    def _opening(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def opened(path: Any, mode: Any = "r", *args: Any, **named: Any) -> Any:
            writes = mode & _WRITING if isinstance(mode, int) else set(mode) & set("wxa+")
            if not (self.is_watched and writes):
                return call(path, mode, *args, **named)
            return self._around("open", lambda: call(path, mode, *args, **named))

        return opened

    def _around(
        self, change: str, call: Callable[[], Any], torn: Callable[[], Any] | None = None
    ) -> Any:
        if self.is_dead:
            raise Died
        number = len(self.changes)
        self.changes.append(change)
        self._die_here(number, "before")
        if torn is not None and self._is_at(number, "within"):
            torn()
        self._die_here(number, "within")
        try:
            result = call()
        except OSError:  # it changed nothing: there was no such file
            self._die_here(number, "after")
            raise
        try:
            self._die_here(number, "after")
        except Died:
            if isinstance(result, io.IOBase):
                result.close()  # the kernel would
            raise
        return result

    def _is_at(self, number: int, when: str) -> bool:
        at = self.die_at
        return at is not None and (at.number, at.when) == (number, when)

    def _die_here(self, number: int, when: str) -> None:
        if self._is_at(number, when):
            self.is_dead = True
            raise Died

    def _audit(self, event: str, args: tuple[Any, ...]) -> None:
        if not self.is_watched or event not in _TOLD_OF:
            return
        if event == "open" and not args[2] & _WRITING:
            return
        if str(args[0]).startswith(self.root):
            self.audited[event] += 1


def _half(number: int, body: Any) -> tuple[int, bytes]:
    return number, bytes(body)[: len(body) // 2]


class HotFiles(FileHotStore):
    """With the hands of the application."""

    served_bytes = 0  # a directory sends nothing that is charged for

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self._files = root

    def plant(self, location: HotLocation, body: bytes) -> None:
        path = self._files / location.bucket / location.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)

    def peek(self, location: HotLocation) -> bytes | None:
        path = self._files / location.bucket / location.path
        return path.read_bytes() if path.is_file() else None

    def remove(self, location: HotLocation) -> None:
        (self._files / location.bucket / location.path).unlink()

    @property
    def objects(self) -> dict[HotLocation, bytes]:
        bucket = self._files / BUCKET
        return {
            HotLocation(BUCKET, str(path.relative_to(bucket))): path.read_bytes()
            for path in bucket.rglob("*")
            if path.is_file()
        }


class ColdFiles(FileColdStore):
    """With eyes that need none of its code, but for what counts as an object."""

    served_bytes = 0

    def __init__(self, root: Path) -> None:
        super().__init__(root, COLD_BUCKET, "")
        self._files = root / COLD_BUCKET

    def peek(self, key: ColdKey) -> bytes | None:
        path = self._files / key
        return path.read_bytes() if path.is_file() else None

    @property
    def objects(self) -> dict[ColdKey, bytes | None]:
        return {it.key: self.peek(it.key) for it in self.list("")}

    @property
    def temporaries(self) -> list[Path]:
        return sorted((self._files / ".archiver" / "temporary").iterdir())


class FileWorld(World):
    """Rows and a ledger in memory, both stores on disk."""

    def __init__(self, root: Path, seed: int) -> None:
        super().__init__(seed=seed, retry_base_seconds=0.25)
        (root / "hot" / BUCKET).mkdir(parents=True)
        (root / "cold" / COLD_BUCKET).mkdir(parents=True)
        self._root = root
        self.reopen()
        fill(self)

    def reopen(self) -> None:
        """As a new process does."""
        self.hot: Any = HotFiles(self._root / "hot")
        self.cold: Any = ColdFiles(self._root / "cold")


@pytest.fixture
def root() -> Iterator[Path]:
    """In memory where there is such a place: a thousand worlds are made here."""
    memory = Path("/dev/shm")  # noqa: S108  # a directory of our own in it
    root = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else None))
    yield root.resolve()
    shutil.rmtree(root)


@pytest.fixture
def disk(root: Path, monkeypatch: pytest.MonkeyPatch) -> Disk:
    disk = Disk(root)
    disk.tap(monkeypatch)
    return disk


def sweep(world: FileWorld) -> None:
    worker = world.worker()
    try:
        worker.sweep(retry_wait_seconds=60, **SMALL)
    finally:
        worker.stop_beating()


@pytest.mark.parametrize("seed", [0, 1])
def test_no_byte_is_lost_at_any_change_of_a_file(
    seed: int, root: Path, disk: Disk, tell_figure: TellFigure
) -> None:
    undisturbed = FileWorld(root / "undisturbed", seed)
    with disk.watched():
        sweep(undisturbed)
    points = [
        Point(number, when, change)
        for number, change in enumerate(disk.changes)
        for when in ("before", "within", "after")
        if when != "within" or change == "write"
    ]
    wrong = []
    for place, point in enumerate(points):
        world = FileWorld(root / str(place), seed)
        with disk.watched(point), pytest.raises(Died):
            sweep(world)
        assert disk.is_dead, point
        wrong += [f"{point}: {it}" for it in world.troubles()]
        world.reopen()
        world.plant("090")  # so that something is created, and rests are swept up
        finish(world)
        wrong += [f"{point}, then a sweep: {it}" for it in leftovers(world)]
        wrong += [f"{point}: {it} is left" for it in world.cold.temporaries]
        shutil.rmtree(root / str(place))
    tell_figure(f"crash matrix, file stores, seed {seed}", f"{len(points)} points")
    assert [] == wrong
    assert len(points) > 100


def test_no_change_of_a_file_escapes_the_matrix(root: Path, disk: Disk) -> None:
    """Python itself tells of what is opened, linked, renamed, removed and made."""
    world = FileWorld(root, 0)
    with disk.watched():
        sweep(world)

    seen = Counter(disk.changes)
    assert disk.audited["open"] == seen["open"] > 0
    assert disk.audited["os.link"] == seen["link"] > 0
    assert disk.audited["os.rename"] == seen["rename"] + seen["replace"] > 0
    assert disk.audited["os.remove"] == seen["unlink"] + seen["remove"] > 0
    assert disk.audited["os.mkdir"] == seen["mkdir"] > 0
    assert disk.audited["os.rmdir"] == seen["rmdir"] == 0


def test_an_object_appears_only_when_its_bytes_are_synced(root: Path, disk: Disk) -> None:
    """And its entry is, before `create` says that it is there."""
    world = FileWorld(root, 0)
    with disk.watched():
        world.cold.create(
            ColdKey("one"), b"bytes", metadata={}, content_type=None, content_encoding=None
        )
    at_link = disk.changes.index("link")
    written = len(disk.changes[:at_link]) - disk.changes[:at_link][::-1].index("write") - 1
    assert "fsync" in disk.changes[written:at_link]
    assert disk.changes[at_link + 1] == "fsync"
