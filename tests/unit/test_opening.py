"""What settings name, before anything is opened."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from archiver.config import HotFile, HotS3, HotSupabase
from archiver.errors import SettingsError
from archiver.model import Secret
from archiver.opening import is_one_store, state_ledger
from tests.fakes.clock import ManualClock
from tests.unit.config.environments import settings

AWS = HotS3(None, None, "eu-west-1", "key-id", Secret("secret"))
GATEWAY = replace(AWS, endpoint="https://s3.example.com")
PROJECT = HotSupabase("https://a.supabase.co", Secret("key"), None)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (AWS, replace(AWS, bucket="pages")),
        (GATEWAY, replace(GATEWAY, region="auto", access_key_id="another")),
        (PROJECT, replace(PROJECT, service_role_key=Secret("another"))),
        (HotFile(Path("/hot")), HotFile(Path("/hot"))),
    ],
)
def test_sources_share_a_hot_store_whatever_each_accesses_it_with(
    one: HotS3 | HotSupabase | HotFile, other: HotS3 | HotSupabase | HotFile
) -> None:
    assert is_one_store(one, other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (AWS, GATEWAY),
        (PROJECT, replace(PROJECT, url="https://b.supabase.co")),
        (HotFile(Path("/hot")), HotFile(Path("/warm"))),
        (AWS, PROJECT),
        (PROJECT, None),
    ],
)
def test_sources_of_other_stores_are_not_asked(
    one: HotS3 | HotSupabase | HotFile, other: HotS3 | HotSupabase | HotFile | None
) -> None:
    assert not is_one_store(one, other)


def test_the_ledger_of_this_machine_is_in_the_state_directory(tmp_path: Path) -> None:
    named = settings(ARCHIVE_STATE_DIR=str(tmp_path / "state"), ARCHIVE_LEASE="7s")
    with state_ledger(named, ManualClock()) as ledger:
        assert (tmp_path / "state" / "ledger.sqlite").is_file()
        assert ledger.fleet.join().lease_seconds == 7

    with pytest.raises(SettingsError, match="ARCHIVE_STATE_DIR is not set"):
        state_ledger(settings(), ManualClock())
