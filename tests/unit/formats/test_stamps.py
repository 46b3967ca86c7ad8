from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archiver.formats import stamps
from archiver.model import ColdKey, SourceName, Stamp

GOLDEN = Path(__file__).parents[2] / "golden" / "stamp.json"
STAMP = Stamp(
    ledger_id="9b2f9a53-4e5c-4f0c-9a33-3f3f3d7d2a11",
    source=SourceName("task_html"),
    number=7,
    epoch=2,
    nonce="55cef8dc-f98d-467e-89c8-95f68f474d31",
    stamped_at=datetime(2026, 11, 21, 3, 4, 5, 678901, tzinfo=UTC),
    database_name="Datenbank für alles",
)
DIRECTORY = "app/.archiver/stamps/task_html/"

_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
_zones = st.integers(-14, 14).map(lambda hours: timezone(timedelta(hours=hours)))
_stamps = st.builds(
    Stamp,
    ledger_id=st.uuids().map(str),
    source=_text.map(SourceName),
    number=st.integers(1, 2**63 - 1),
    epoch=st.integers(1, 2**31 - 1),
    nonce=st.uuids().map(str),
    stamped_at=st.datetimes(timezones=_zones, min_value=datetime(1990, 1, 1)),  # noqa: DTZ001
    database_name=_text,
)


@given(_stamps)
def test_what_a_stamp_says_is_read_back_from_its_metadata_and_from_its_body(it: Stamp) -> None:
    assert stamps.of_metadata(stamps.to_metadata(it)) == it
    assert stamps.of_body(stamps.to_body(it)) == it
    for value in stamps.to_metadata(it).values():
        assert all(" " <= letter <= "~" for letter in value)


def test_every_stamp_that_was_ever_put_can_be_read() -> None:
    assert stamps.of_body(GOLDEN.read_bytes()) == STAMP
    assert stamps.to_body(STAMP) == GOLDEN.read_bytes()


@pytest.mark.parametrize(
    "body", [b"", b"?", b"[" * 10_000, b"[]", b"{}", b'{"number": "x"}', b"\xff"]
)
def test_what_is_no_stamp_is_not_read_as_one(body: bytes) -> None:
    assert stamps.of_body(body) is None
    assert stamps.of_metadata({}) is None


def test_keys_sort_by_number_and_tell_it() -> None:
    keys = (stamps.shared_key("app/", STAMP), stamps.own_key("app/", STAMP))
    assert keys[0] == f"{DIRECTORY}0000000007"
    assert keys[1] == f"{DIRECTORY}0000000007.{STAMP.ledger_id}.2.{STAMP.nonce}"
    assert [stamps.number_of(key, DIRECTORY) for key in keys] == [7, 7]
    last = replace(STAMP, number=9_999_999_999), replace(STAMP, number=10_000_000_000)
    for stamp in last:  # somebody put the last one of ten digits: a take-over goes on
        for key in (stamps.shared_key("app/", stamp), stamps.own_key("app/", stamp)):
            assert stamps.number_of(key, DIRECTORY) == stamp.number
    for name in ("", "7", "x", "0000000007x", "0000000007/x", "00000000070", "1" * 19):
        assert stamps.number_of(ColdKey(DIRECTORY + name), DIRECTORY) is None
