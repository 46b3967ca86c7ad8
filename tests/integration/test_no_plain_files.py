"""What has an object's name and is no plain file: not read, not deleted, not waited for.

Through Postgres, the engine and two directories. The worst of them is a link in cold that leads
to a hot copy: taken for the archived one, it would be all that is left when the hot copy goes.
"""

from __future__ import annotations

import hashlib
import os
import socket
import threading
from typing import TYPE_CHECKING

import pytest

from archiver.stores.cold_directory import LOCKS_COUNT
from tests.harness.things import BUCKET, Thing

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from archiver.model import Summary
    from tests.harness.things import Sandbox

BOUND_SECONDS = 60.0  # for what hangs where a test fails
PAGE = b"a page"


def fifo(path: Path) -> None:
    os.mkfifo(path)


def device(path: Path) -> None:
    try:
        os.mknod(path, 0o600 | 0o020000, os.makedev(1, 5))  # endless zeroes
    except PermissionError:
        path.symlink_to("/dev/zero")


def directory(path: Path) -> None:
    path.mkdir()
    (path / "within").write_bytes(b"not ours")


def unix_socket(path: Path) -> None:
    here = os.getcwd()  # noqa: PTH109  # the name of a socket is short
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(path.name[:100])
    finally:
        os.chdir(here)
    (path.parent / path.name[:100]).rename(path)


def link_out(path: Path) -> None:
    path.symlink_to(_root(path) / "escaped")


def link_to_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def link_to_itself(path: Path) -> None:
    path.symlink_to(path.name)


KINDS = [fifo, device, directory, unix_socket, link_out, link_to_device, link_to_itself]


def _root(path: Path) -> Path:
    return next(it for it in path.parents if it.name == "sandbox")


def sweep(sandbox: Sandbox) -> Summary:
    """Bounded: to open a pipe waits for ever."""
    seen: list[Summary] = []
    thread = threading.Thread(target=lambda: seen.append(sandbox.sweep()), daemon=True)
    thread.start()
    thread.join(BOUND_SECONDS)
    assert seen, "the sweep hangs, or failed"
    return seen[0]


def kinds_below(directory: Path) -> dict[str, int]:
    """What lies where, by its type; links are not followed."""
    return {
        str(it.relative_to(directory)): it.lstat().st_mode >> 12
        for it in directory.rglob("*")
        if it.is_symlink() or not it.is_dir()
    }


def test_in_hot_they_are_no_objects(sandbox: Sandbox) -> None:
    hot = sandbox.root / "hot" / BUCKET
    for number, make in enumerate(KINDS):
        name = make.__name__
        sandbox.plant(Thing(name, BUCKET, None), number)
        sandbox.connection.execute("update things set hot_path = id where id = %s", [name])
        make(hot / name)
    before = kinds_below(hot)
    sandbox.plant(Thing("good", BUCKET, "good", body=PAGE), len(KINDS))

    summary = sweep(sandbox)

    assert (summary.state, summary.archived, summary.parked) == ("done", 1, len(KINDS))
    assert sandbox.is_archived("good", PAGE)
    assert kinds_below(hot) == before
    assert (sandbox.root / "escaped").read_bytes() == b"not ours"


def test_under_a_cold_key_they_are_nobodys_copy(sandbox: Sandbox) -> None:
    """And stay as they are: the object gets another key, or its row is parked."""
    things = sandbox.root / "cold" / BUCKET / "things"
    things.mkdir()
    for number, make in enumerate(KINDS):
        make(things / f"{make.__name__}.html.gz")
        sandbox.plant(Thing(make.__name__, BUCKET, make.__name__, body=PAGE), number)
    before = kinds_below(things)

    summary = sweep(sandbox)

    assert summary.state == "done"
    assert summary.archived + summary.parked == len(KINDS)
    assert list(sandbox.reasons()) == [it for it in sandbox.reasons() if "directory" in it]
    for make in KINDS:
        if make is not directory:
            assert sandbox.is_archived(make.__name__, PAGE)
    assert before.items() <= kinds_below(things).items()
    assert sandbox.hot_files() == ["directory"]


@pytest.mark.parametrize("where", ["key", "directory", "prefix"])
def test_a_link_to_the_hot_copy_is_no_archived_one(sandbox: Sandbox, where: str) -> None:
    """Else the release deletes the only bytes there are."""
    hot, cold = sandbox.root / "hot" / BUCKET, sandbox.root / "cold" / BUCKET
    sandbox.plant(Thing("a", BUCKET, "deep/down/a", body=PAGE))
    if where == "key":
        (cold / "things").mkdir()
        (cold / "things" / "a.html.gz").symlink_to(hot / "deep/down/a")
    else:
        os.link(hot / "deep/down/a", hot / "deep/down/a.html.gz")
        leads_to = hot / "deep/down" if where == "directory" else cold / "other"
        (cold / "things").symlink_to(leads_to)
        if where == "prefix":
            (cold / "other").symlink_to(hot / "deep/down")

    summary = sweep(sandbox)

    assert (summary.state, summary.archived + summary.parked) == ("done", 1)
    if summary.archived:
        assert sandbox.is_archived("a", PAGE)
        assert sandbox.row("a")["cold_key"] != "things/a.html.gz"
    else:
        assert (hot / "deep/down/a").read_bytes() == PAGE
        assert "symbolic link" in sandbox.reasons()[0]


@pytest.mark.parametrize("make", KINDS)
def test_in_the_stores_own_places_they_are_left_alone(
    sandbox: Sandbox, make: Callable[[Path], None]
) -> None:
    """As what a killed process left, and as a lock: one key at most is not to be had."""
    ours = sandbox.root / "cold" / BUCKET / ".archiver"
    for name in ("temporary", "locks", "metadata"):
        (ours / name).mkdir(parents=True)
    make(ours / "temporary" / ("0" * 32))
    number = hashlib.sha256(b"things/a.html.gz").digest()[0] % LOCKS_COUNT
    make(ours / "locks" / f"{number:02}")
    before = kinds_below(ours)
    sandbox.plant(Thing("a", BUCKET, "a", body=PAGE))
    sandbox.plant(Thing("b", BUCKET, "b", body=PAGE), 1)

    sweep(sandbox)

    assert sandbox.is_archived("b", PAGE)
    assert sandbox.is_archived("a", PAGE) or "a" in sandbox.hot_files()
    assert before.items() <= kinds_below(ours).items()
    assert (sandbox.root / "escaped").read_bytes() == b"not ours"


@pytest.mark.parametrize("name", ["temporary", "locks", "metadata", ""])
def test_what_a_link_leads_to_is_not_taken_for_the_stores_own(
    sandbox: Sandbox, name: str
) -> None:
    """Else all that lies there is deleted as what killed processes left."""
    sandbox.plant(Thing("a", BUCKET, "0" * 32, body=PAGE))
    ours = sandbox.root / "cold" / BUCKET / ".archiver"
    if name:
        ours.mkdir()
    (ours / name).symlink_to(sandbox.root / "hot" / BUCKET)
    before = kinds_below(sandbox.root / "hot")

    summary = sweep(sandbox)

    assert summary.archived == 0
    assert kinds_below(sandbox.root / "hot") == before


def test_hard_links_are_files(sandbox: Sandbox) -> None:
    """Three names of one hot file: to delete the first changes the others' identity."""
    hot = sandbox.root / "hot" / BUCKET
    sandbox.plant(Thing("one", BUCKET, "one", body=PAGE))
    sandbox.connection.execute(
        "insert into things (id, due_at, hot_bucket, hot_path) "
        "select 'two', due_at, hot_bucket, 'two' from things"
    )
    os.link(hot / "one", hot / "two")
    os.link(hot / "one", hot / "kept")

    assert sweep(sandbox).archived == 2

    assert sandbox.is_archived("one", PAGE)
    assert sandbox.is_archived("two", PAGE)
    assert (hot / "kept").read_bytes() == PAGE
    assert len(sandbox.hot_files()) == 2  # one stays, though its row lets go of it
