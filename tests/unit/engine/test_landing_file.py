"""A file is under its name when it is whole, and not before; what came so far is resumed."""

from __future__ import annotations

import fcntl
import io
import os
import shutil
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from archiver.engine import landing_file
from archiver.engine.landing_file import LandingFile
from archiver.engine.transfer import TransferResult, stream_transfer
from archiver.errors import (
    CheckpointUnusable,
    TargetBusy,
    TargetFull,
    TargetUnusable,
    TransferBroken,
)
from archiver.formats.parts import Profile, custom_profile
from archiver.model import Digest
from tests.fakes.streams import BrokenReader

if TYPE_CHECKING:
    from collections.abc import Callable

    from archiver.engine.bounded_streams import BinaryReader

BODY = bytes(range(200))
SMALL = custom_profile(50, 1, timeout_seconds=20.0)


class Remote:
    """Something that is read from any offset; which were asked for."""

    def __init__(self, body: bytes = BODY, breaks_at: int | None = None) -> None:
        self._body = body
        self._breaks_at = breaks_at
        self.offsets: list[int] = []

    def open_at(self, offset: int) -> BinaryReader:
        self.offsets.append(offset)
        if self._breaks_at is None:
            return io.BytesIO(self._body[offset:])
        return BrokenReader(self._body[offset:], self._breaks_at - offset, self._break)

    def _break(self) -> None:
        raise ConnectionResetError(104, "reset by peer")


def bring(path: Path, remote: Remote, profile: Profile = SMALL) -> TransferResult:
    with LandingFile(path) as landing:
        result = stream_transfer(
            landing.source(remote.open_at),
            landing.target,
            profile,
            landing.checkpoint(),
            landing.save,
            digest=Digest.of(BODY),
            total_size=len(BODY),
            session_id="etag",
        )
        landing.land(result)
        return result


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "object.bin"


def names(path: Path) -> set[str]:
    return {entry.name for entry in path.parent.iterdir()}


def broken_at(path: Path, offset: int) -> None:
    with pytest.raises(TransferBroken):
        bring(path, Remote(breaks_at=offset))


def test_it_lands_whole_private_and_alone(path: Path) -> None:
    path.write_bytes(b"an older one")

    bring(path, Remote())

    assert path.read_bytes() == BODY
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert names(path) == {"object.bin"}


def test_until_then_only_the_part_is_there_and_nobody_else_may_read_it(path: Path) -> None:
    broken_at(path, 130)

    assert names(path) == {"object.bin.part", "object.bin.part.json"}
    assert {stat.S_IMODE(entry.stat().st_mode) for entry in path.parent.iterdir()} == {0o600}


def test_what_came_is_not_fetched_again(path: Path) -> None:
    broken_at(path, 130)
    remote = Remote()

    result = bring(path, remote)

    assert remote.offsets == [130]
    assert (result.resumed, result.bytes_transferred) == (True, 70)
    assert path.read_bytes() == BODY


@pytest.mark.parametrize(
    "harm",
    [
        lambda part: part.write_bytes(b"?" + part.read_bytes()[1:]),
        lambda part: os.truncate(part, 30),
        lambda part: part.unlink(),
    ],
    ids=["damaged", "cut", "gone"],
)
def test_a_part_that_is_not_what_the_checkpoint_says_is_fetched_anew(
    path: Path, harm: Callable[[Path], object]
) -> None:
    broken_at(path, 130)
    harm(path.with_name("object.bin.part"))
    remote = Remote()

    result = bring(path, remote)

    assert remote.offsets == [0]
    assert (result.resumed, result.started_over is not None) == (False, True)
    assert path.read_bytes() == BODY


def test_a_part_of_another_object_is_fetched_anew(path: Path) -> None:
    broken_at(path, 130)
    other, remote = BODY[::-1], Remote(BODY[::-1])
    with LandingFile(path) as landing:
        result = stream_transfer(
            landing.source(remote.open_at),
            landing.target,
            SMALL,
            landing.checkpoint(),
            landing.save,
            session_id="another etag",
            total_size=200,
        )
        landing.land(result)

    assert (result.started_over, remote.offsets) == ("session", [0])
    assert path.read_bytes() == other


def test_wherever_it_is_killed_it_is_whole_or_not_there_and_is_resumed(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The directory as it is before each call that makes something durable, or renames it."""
    moments: list[Path] = []
    calls = {name: getattr(os, name) for name in ("fsync", "rename", "unlink")}

    def watched(name: str) -> Callable[..., object]:
        def call(*arguments: object) -> object:
            with monkeypatch.context() as quiet:
                for other, real in calls.items():
                    quiet.setattr(os, other, real)
                left = tmp_path / "left" / f"{len(moments)} {name}"
                shutil.copytree(path.parent, left, ignore=lambda *_: ["left"])
                moments.append(left)
            return calls[name](*arguments)

        return call

    (tmp_path / "left").mkdir()
    with monkeypatch.context() as watching:
        for name in calls:
            watching.setattr(os, name, watched(name))
        bring(path, Remote())

    assert len(moments) >= 20
    for left in moments:
        final = left / path.name
        assert not final.exists() or final.read_bytes() == BODY
        bring(final, Remote())
        assert final.read_bytes() == BODY
        assert names(final) == {"object.bin"}


def test_a_corrupt_checkpoint_is_told_by_its_path_and_can_be_discarded(path: Path) -> None:
    broken_at(path, 130)
    state = path.with_name("object.bin.part.json")
    state.write_text("{")

    with pytest.raises(CheckpointUnusable, match="not JSON") as caught:
        bring(path, Remote())
    assert str(state) in str(caught.value)

    with LandingFile(path) as landing:
        landing.discard()
    assert bring(path, Remote()).bytes_transferred == 200


def test_one_process_at_a_time_brings_a_file(path: Path) -> None:
    with LandingFile(path), pytest.raises(TargetBusy, match=r"object\.bin"):
        bring(path, Remote())

    bring(path, Remote())


@pytest.mark.parametrize("begun_again", [False, True])
def test_who_opened_the_part_just_before_it_landed_leaves_it_alone(
    path: Path, monkeypatch: pytest.MonkeyPatch, *, begun_again: bool
) -> None:
    """Between its open and its lock another process lands the very file it has opened."""
    part, lock = path.with_name("object.bin.part"), fcntl.flock
    landed: list[Path] = []

    def land_first(number: int, how: int) -> None:
        if not landed:
            part.write_bytes(b"whole")
            landed.append(part.rename(path))
            if begun_again:
                part.touch()
        lock(number, how)

    monkeypatch.setattr(fcntl, "flock", land_first)
    with LandingFile(path) as landing:
        landing.target.write(b"another")
        assert path.read_bytes() == b"whole"
        assert part.read_bytes() == b"another"


def test_what_is_not_whole_does_not_land(path: Path) -> None:
    with LandingFile(path) as landing:
        result = stream_transfer(io.BytesIO(BODY), landing.target, SMALL)
        landing.target.truncate(199)
        with pytest.raises(TargetUnusable, match="199 bytes, not the 200"):
            landing.land(result)

    assert not path.exists()


def _pipe(path: Path) -> None:
    os.mkfifo(path.with_name("object.bin.part"))


def _link(path: Path) -> None:
    path.with_name("other").write_bytes(b"theirs")
    path.with_name("object.bin.part").symlink_to("other")


def _directory(path: Path) -> None:
    path.mkdir()


def _nothing_above(path: Path) -> None:
    path.parent.rmdir()


@pytest.mark.parametrize(
    ("prepare", "code"),
    [(_pipe, "EINVAL"), (_link, "ELOOP"), (_directory, "EISDIR"), (_nothing_above, "ENOENT")],
)
def test_a_place_where_no_file_can_be_is_told_before_anything_is_read(
    tmp_path: Path, prepare: Callable[[Path], None], code: str
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    prepare(folder / "object.bin")
    remote = Remote()

    with pytest.raises(TargetUnusable, match=f"code={code}"):
        bring(folder / "object.bin", remote)

    assert remote.offsets == []
    assert not (folder / "other").exists() or (folder / "other").read_bytes() == b"theirs"


@pytest.mark.parametrize("name", ["/", ".", "..", "a\0b", "\ud800", "n" * 256])
def test_a_name_that_no_file_can_have_is_told(name: str) -> None:
    with pytest.raises(TargetUnusable), LandingFile(Path(name)):
        pass


def test_a_link_of_that_name_is_replaced_and_not_followed(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(b"theirs")
    path.symlink_to(other)

    bring(path, Remote())

    assert (path.is_symlink(), path.read_bytes()) == (False, BODY)
    assert other.read_bytes() == b"theirs"


def test_a_full_disk_is_told_as_one_and_once_there_is_room_it_goes_on(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No room for the checkpoint: the one before it stays. For the bytes: integration tests."""
    write_all = landing_file._write_all
    written: list[bytes] = []

    def no_room(file: io.FileIO, body: bytes) -> None:
        if len(written) == 2:
            raise OSError(28, os.strerror(28))
        written.append(body)
        write_all(file, body)

    monkeypatch.setattr(landing_file, "_write_all", no_room)
    with pytest.raises(TargetFull, match="Make room there"):
        bring(path, Remote())
    monkeypatch.setattr(landing_file, "_write_all", write_all)
    remote = Remote()

    assert bring(path, remote).bytes_transferred == 100
    assert remote.offsets == [100]
