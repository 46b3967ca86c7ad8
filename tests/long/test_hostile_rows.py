"""Rows as an attack: whatever a row says, it costs at most itself.

Real parts: a source file over a table of plain texts, Postgres, the engine, a hot directory;
cold is a directory, too, or S3. Each example plants rows that nobody would write, and one good
row behind them. However they are read, the good one is archived; each other one is archived
and can be verified, or is parked with a line that says why; and nothing outside the directories
is touched.
"""

from __future__ import annotations

import gzip
import hashlib
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.harness.things import BUCKET, Thing

if TYPE_CHECKING:
    from tests.harness.things import Sandbox

# Postgres keeps every text but one with a NUL, and lone surrogates are no Unicode.
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40)
NASTY = st.sampled_from(
    [
        "",
        " ",
        ".",
        "..",
        "/",
        "//",
        "../../escaped",
        "/etc/passwd",
        "a/../../../escaped",
        "%2e%2e/%2e%2e/escaped",
        "..\\..\\escaped",
        "a\\b",
        "%s%n%(x)s{}{0.__class__}$1",
        "%",
        "'; drop table things; --",
        '"; delete from archiver.receipt; --',
        "a\nlevel=error event=forged",
        "a\r\nx-amz-meta-evil: 1",
        "\x1b[2J\x1b]0;owned\x07",
        "\x9b31m",
        "\u2028\u2029\x85",
        "\u202egpj.exe",
        "e\u0301",
        "\u00e9",
        "A",
        "a",
        "a.",
        "a ",
        "a/",
        ".archiver/metadata/00/x.json",
        ".archiver/probe",
        ".archiver",
        "a" * 255,
        "a" * 256,
        "\u00fc" * 200,
        "a/" * 600 + "a",
        "\U0001f4a3" * 100,
        "=1+1",
        "-1",
        "None",
        "null",
    ]
)
# Ids that the index of a table could still hold, and some that it could not.
LONG = st.sampled_from(
    [
        hashlib.sha256(b"1").hexdigest() * 16,
        "".join(hashlib.sha256(bytes([n])).hexdigest() for n in range(50)),
        "".join(hashlib.sha256(bytes([n])).hexdigest() for n in range(200)),
    ]
)
STRANGE = NASTY | TEXT
HEX = hashlib.sha256(b"another page").hexdigest()
DIGEST = st.sampled_from(
    [None, "", HEX, HEX.upper(), HEX[:-1], HEX + "0", f"sha256:{HEX}", "\\x" + HEX, "g" * 64]
)


THINGS = st.builds(
    Thing,
    id=STRANGE | LONG,
    hot_bucket=st.just(BUCKET) | st.sampled_from([None, "", "..", "a/b", "pages/", "x" * 300]),
    hot_path=STRANGE | st.none(),
    digest=st.none() | DIGEST,
    content_digest=st.none() | DIGEST,
    size_bytes=st.none() | st.sampled_from([-1, 0, 6, 2**31, 2**62, 2**63 - 1, -(2**63)]),
    content_type=st.none() | STRANGE,
    content_encoding=st.none() | STRANGE | st.sampled_from(["gzip", "zstd", "br"]),
    group_id=st.none() | STRANGE,
    note=st.none() | STRANGE,
    body=st.sampled_from([b"a page", b"", gzip.compress(b"a page"), b"\x1f\x8b\x08\0broken"]),
)


@pytest.mark.parametrize("sandbox", ["directory", "s3"], indirect=True)
@settings(
    derandomize=True,
    max_examples=40,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(things=st.lists(THINGS, min_size=1, max_size=5, unique_by=lambda it: it.id))
def test_a_row_costs_at_most_itself(sandbox: Sandbox, things: list[Thing]) -> None:
    sandbox.empty()
    for number, thing in enumerate(things):
        sandbox.plant(thing, number)
    good = Thing("a good row", BUCKET, "good/page.html.gz", body=b"a good page")
    sandbox.plant(good, len(things))
    hot_before = dict(sandbox.planted)

    summary = sandbox.sweep()

    assert (summary.state, summary.error) == ("done", None)
    assert sandbox.is_archived(good.id, good.body)
    reasons = sandbox.reasons()
    for thing in things:
        body = hot_before.get(thing.id)
        if body is None or not sandbox.is_archived(thing.id, body):
            path = sandbox.hot_file(thing)
            assert body is None or (path is not None and path.read_bytes() == body)
            assert sandbox.row(thing.id)["hot_path"] == thing.hot_path
    not_archived = [it for it in things if sandbox.row(it.id)["cold_key"] is None]
    assert len(reasons) == len(not_archived)
    for reason in reasons:
        assert reason.splitlines() == [reason]
        assert reason.isprintable()
        assert len(reason) < 2000
    assert sandbox.beside() - {"cold"} == {"hot", "escaped"}
    assert (sandbox.root / "escaped").read_bytes() == b"not ours"
