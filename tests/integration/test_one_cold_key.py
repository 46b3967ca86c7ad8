"""Rows that want one cold key: each version stays reachable, whoever lets go of what.

Real parts: Postgres, a source file, a hot directory; cold is a directory, S3 that checks all,
and moto, which checks nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.harness.things import BUCKET, FILE, Thing, things_source

if TYPE_CHECKING:
    from tests.harness.things import Sandbox

SHARED = FILE.replace("-- cold_key: things/{id}.html.gz", "-- cold_key: things/{note}.html.gz")
FIRST = Thing("first", BUCKET, "first.html.gz", note="shared", body=b"a page")

# What a person, a file system or a URL may take for one.
ALIKE = [
    ("a", "A"),
    ("\u00e9", "e\u0301"),
    ("stra\u00dfe", "strasse"),
    ("b", "b "),
    ("c", "\u0441"),
    ("i", "\u0131"),
    ("d+e", "d e"),
    ("f%20g", "f g"),
    ("h", "h\u200b"),
]

pytestmark = pytest.mark.parametrize("sandbox", ["directory", "s3", "moto"], indirect=True)


def test_two_rows_of_one_cold_key_are_both_reachable(sandbox: Sandbox) -> None:
    """Same bytes share the object; others get a key of their own."""
    sandbox.source = things_source(SHARED)
    others = [b"a page", b"a pagE", b"", b"another page, and longer"]
    for number, other in enumerate(others):
        for name, body in (("first", b"a page"), ("second", other)):
            id_ = f"{name} {number}"
            sandbox.plant(Thing(id_, BUCKET, id_, note=str(number), body=body), number)

    summary = sandbox.sweep()

    assert (summary.state, summary.archived, summary.released) == ("done", 8, 8)
    for number, other in enumerate(others):
        assert sandbox.is_archived(f"first {number}", b"a page")
        assert sandbox.is_archived(f"second {number}", other)
        ids = (f"first {number}", f"second {number}")
        keys = {sandbox.row(id_)["cold_key"] for id_ in ids}
        assert len(keys) == (1 if other == b"a page" else 2)
    assert sandbox.hot_files() == []


def test_a_release_waits_for_its_own_copy_and_harms_no_other(sandbox: Sandbox) -> None:
    """The first row's copy is damaged in its grace; then a second row wants that key."""
    sandbox.source = things_source(SHARED)
    sandbox.plant(FIRST)
    sandbox.plant(Thing("smallest", BUCKET, "canary", note="canary", body=b"x"))
    assert sandbox.sweep(grace_seconds=3600.0).archived == 2
    first_key = sandbox.row("first")["cold_key"]
    sandbox.cold.damage(first_key, b"not a page at all")
    second = Thing("second", BUCKET, "second.html.gz", note="shared", body=FIRST.body)
    sandbox.plant(second, minutes=1)

    summary = sandbox.sweep(grace_seconds=3600.0)

    assert (summary.state, summary.archived) == ("done", 1)
    assert sandbox.is_archived("second", FIRST.body)
    assert sandbox.row("second")["cold_key"] != first_key
    sandbox.connection.execute("update archiver.release set due_at = now()")
    assert sandbox.sweep().released == 2
    assert sandbox.hot_files() == ["first.html.gz"]
    assert sandbox.receipted()["second"] == [FIRST.body]


def test_versions_of_one_row_are_all_reachable(sandbox: Sandbox) -> None:
    """Captured again after it was archived, at the same path, and once as it had been."""
    versions = [b"a page", b"a newer page", b"a page", b""]
    for body in versions:
        sandbox.connection.execute("delete from things")
        sandbox.plant(Thing("one", BUCKET, "one.html.gz", body=body))
        summary = sandbox.sweep()
        assert (summary.state, summary.archived, summary.released) == ("done", 1, 1)
        assert sandbox.cold.peek(sandbox.row("one")["cold_key"]) == body

    assert sandbox.receipted() == {"one": versions}
    assert sandbox.hot_files() == []


def test_ids_that_look_alike_are_two(sandbox: Sandbox) -> None:
    ids = [id_ for pair in ALIKE for id_ in pair]
    for number, id_ in enumerate(ids):
        sandbox.plant(Thing(id_, BUCKET, id_, body=id_.encode()), number)

    summary = sandbox.sweep()

    assert (summary.state, summary.archived) == ("done", len(ids))
    assert all(sandbox.is_archived(id_, id_.encode()) for id_ in ids)


def test_a_hot_object_of_two_rows_goes_with_the_last_of_them(sandbox: Sandbox) -> None:
    """They share everything but their ids; the second becomes due when the first is cold."""
    sandbox.source = things_source(SHARED)
    twin = Thing("twin", BUCKET, FIRST.hot_path, note="shared", body=FIRST.body)
    sandbox.plant(FIRST)
    sandbox.plant(twin, minutes=1)
    sandbox.connection.execute("update things set due_at = 'infinity' where id = 'twin'")
    sandbox.source = things_source(
        SHARED.replace("where cold", "where due_at < now() and cold")
    )

    assert sandbox.sweep().archived == 1
    assert sandbox.hot_files() == ["first.html.gz"]
    sandbox.connection.execute("update things set due_at = now() - interval '1 day'")
    assert sandbox.sweep().archived == 1

    assert sandbox.is_archived("first", FIRST.body)
    assert sandbox.is_archived("twin", FIRST.body)
    assert sandbox.hot_files() == []
