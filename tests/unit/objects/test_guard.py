"""What the service refuses before a store is asked: keys of archiver's and of sources."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archiver.config import ColdFile, Settings
from archiver.errors import ReservedKey, SettingsError
from archiver.formats.keys import write_once_keys
from archiver.model import Digest
from archiver.objects.guard import KeyGuard, SourceKeys
from archiver.objects.opening import open_object_service
from archiver.objects.service import ObjectService
from archiver.sources.template import KeyTemplate
from archiver.stores.objects_file import FileObjectStore

if TYPE_CHECKING:
    from pathlib import Path

PAGES = KeyTemplate.parse("jobs/{job_id}/tasks/{id}/page-content.html.gz")
PAGE = "app/jobs/7/tasks/9/page-content.html.gz"
GUARD = KeyGuard((SourceKeys("task_html", "app/", PAGES),))


@given(
    job=st.from_regex(r"[0-9a-f-]{1,8}", fullmatch=True), task=st.text(min_size=1, max_size=9)
)
def test_whatever_a_source_makes_is_refused(job: str, task: str) -> None:
    for key in write_once_keys(PAGES.key({"job_id": job, "id": task}), Digest.of(b"x")):
        with pytest.raises(ReservedKey, match="task_html"):
            GUARD.require_free(f"app/{key}", "bucket")


@pytest.mark.parametrize(
    "key",
    [
        "app/objects/page.html",
        "jobs/7/tasks/9/page-content.html.gz",  # another prefix
        "app/jobs/7/tasks/9/other.html.gz",
        "app/archiver/x",
        "app/.archiver2/x",
    ],
)
def test_other_keys_are_the_users_own(key: str) -> None:
    GUARD.require_free(key, "bucket")


def test_keys_that_code_makes_could_be_any() -> None:
    guard = KeyGuard((SourceKeys("invoices", "app/", None),))
    guard.require_free("app/objects/mine.html", "bucket")
    guard.require_free("elsewhere/mine.html", "bucket")
    with pytest.raises(ReservedKey, match="invoices"):
        guard.require_free("app/mine.html", "bucket")


def test_nothing_that_writes_gets_past_and_reading_does(tmp_path: Path) -> None:
    (tmp_path / "bucket").mkdir()
    with ObjectService(FileObjectStore(tmp_path, "bucket", "app/")) as unguarded:
        unguarded.put(PAGE, b"archived")  # what a sweep does
    (tmp_path / "file").write_bytes(b"x")
    with ObjectService(FileObjectStore(tmp_path, "bucket", "app/"), GUARD) as objects:
        for refused in (
            lambda: objects.put(PAGE, b"x"),
            lambda: objects.put(PAGE, b"x", create_only=True),
            lambda: objects.upload(PAGE, tmp_path / "file"),
            lambda: objects.delete(PAGE),
            lambda: objects.set_content_type(PAGE, "text/css"),
            lambda: objects.signed_put(PAGE, timedelta(hours=1)),
        ):
            with pytest.raises(ReservedKey):
                refused()
        assert objects.limited(timeout_seconds=5).get(PAGE) == b"archived"
        with pytest.raises(ReservedKey):  # other limits, the same guard
            objects.limited(timeout_seconds=5).delete(PAGE)


# --- from settings ------------------------------------------------------------------------


def settings_of(tmp_path: Path, **more: str) -> Settings:
    for name in ("hot/pages", "cold/bucket", "cold/other"):
        (tmp_path / name).mkdir(parents=True, exist_ok=True)
    return Settings.read(
        {
            "ARCHIVE_DATABASE_URL": "postgresql://localhost/nothing",
            "ARCHIVE_HOT": (tmp_path / "hot").as_uri(),
            "ARCHIVE_PROVIDER": "file",
            "ARCHIVE_ENDPOINT": (tmp_path / "cold").as_uri(),
            "ARCHIVE_BUCKET": "bucket",
            "ARCHIVE_PATH_PREFIX": "app/",
            **more,
        }
    )


def test_the_sources_of_settings_are_guarded(tmp_path: Path) -> None:
    with open_object_service(settings_of(tmp_path)) as objects:
        with pytest.raises(ReservedKey, match="task_html"):
            objects.put(PAGE, b"x")
        objects.put("app/objects/page.html", b"x")
    path = tmp_path / "cold" / "bucket" / "app" / "objects" / "page.html"
    assert path.read_bytes() == b"x"


def test_a_source_of_another_bucket_guards_nothing_here(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    (source,) = settings.of_sources
    assert isinstance(settings.cold, ColdFile)
    elsewhere = replace(source.settings, cold=replace(settings.cold, bucket="other"))
    moved = replace(settings, of_sources=(replace(source, settings=elsewhere),))
    with open_object_service(moved) as objects:
        objects.put(PAGE, b"x")
    with (
        open_object_service(replace(moved, cold=elsewhere.cold)) as objects,
        pytest.raises(ReservedKey),
    ):
        objects.put(PAGE, b"x")


def test_the_hot_store_needs_the_name_of_a_bucket(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    with pytest.raises(SettingsError, match="bucket"):
        open_object_service(settings, store="hot")
    with open_object_service(settings, store="hot", bucket="pages") as objects:
        objects.put("a.html", b"x", content_type="text/html")
        assert (tmp_path / "hot" / "pages" / "a.html").read_bytes() == b"x"


def test_settings_without_a_store_say_so() -> None:
    with pytest.raises(SettingsError, match="ARCHIVE_PROVIDER"):
        open_object_service(Settings.read({}))
