"""What a source sets for itself: its file over the process, the environment over both."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from archiver.config import ColdS3, HotFile, HotS3, HotSupabase, Settings
from archiver.errors import SettingsError
from archiver.model import Evidence
from tests.unit.config.environments import HOT_S3, RIGHT

if TYPE_CHECKING:
    from pathlib import Path

FILE = """\
-- name: {name}
-- cold_key: {name}/{{id}}
-- shares_objects: no
{keys}
-- candidates --
select :limit, :after_due_at, :after_id;
-- archived --
select id from receipt;
"""
AWS = {"ARCHIVE_PROVIDER": "s3", "ARCHIVE_ENDPOINT": "", "ARCHIVE_REGION": "eu-central-1"}
S3_KEYS = {name: text for name, text in HOT_S3.items() if name != "ARCHIVE_HOT"}


class Files:
    """Source files in a directory; `environ` names them all."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.names: list[str] = []

    def write(self, name: str, *keys: str, file_name: str = "") -> str:
        path = self.root / (file_name or f"{name}.sql")
        lines = "\n".join(f"-- {key}" for key in keys)
        path.write_text(FILE.format(name=name, keys=lines))
        self.names.append(str(path))
        return str(path)

    def read(self, *others: str, **changes: str) -> dict[str, Settings]:
        environ = RIGHT | {"ARCHIVE_SOURCES": ",".join([*self.names, *others])} | changes
        return {it.name: it.settings for it in Settings.read(environ).of_sources}

    def problems(self, *others: str, **changes: str) -> list[str]:
        with pytest.raises(SettingsError) as caught:
            self.read(*others, **changes)
        return list(caught.value.problems)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def test_a_source_without_settings_of_its_own_has_those_of_the_process(files: Files) -> None:
    files.write("plain")
    read = files.read("task_html")
    assert ["plain", "task_html"] == list(read)
    assert (
        read["plain"]
        == read["task_html"]
        == Settings.read(RIGHT | _sources(files, "task_html"))
    )


def test_the_file_overrides_the_process_for_its_source_alone(files: Files) -> None:
    files.write(
        "avatars",
        *(
            "hot: file:///srv/hot",
            "bucket: avatars-cold",
            "prefix: people/",
            "evidence: readback",
        ),
        *("release_grace: 7d", "retention_age: 30d"),
    )
    read = files.read("task_html")
    own, other = read["avatars"], read["task_html"]
    assert isinstance(own.hot, HotFile)
    assert "avatars-cold" == own.bucket_name
    assert ("people/", Evidence.READBACK) == (own.path_prefix, own.evidence)
    assert (7 * 86_400, 30 * 86_400) == (
        own.release_grace_seconds,
        own.retention_age_seconds,
    )
    assert other == Settings.read(
        RIGHT | {"ARCHIVE_SOURCES": ",".join([*files.names, "task_html"])}
    )


def test_the_environment_overrides_the_file(files: Files) -> None:
    path = files.write("avatars", "release_grace: 7d", "bucket: one")
    name = "ARCHIVE_SOURCE__AVATARS__RELEASE_GRACE"
    environ = RIGHT | {"ARCHIVE_SOURCES": path, name: "1h"}
    settings = Settings.read(environ)
    (avatars,) = settings.of_sources
    assert (3600, "one") == (
        avatars.settings.release_grace_seconds,
        avatars.settings.bucket_name,
    )
    assert ("1h", f"environment {name}") == (
        settings.seen[name].shown,
        settings.seen[name].origin,
    )
    seen = settings.seen["ARCHIVE_SOURCE__AVATARS__BUCKET"]
    assert ("one", f"file {path}:5") == (seen.shown, seen.origin)


def test_an_empty_override_counts_as_unset(files: Files) -> None:
    files.write("avatars", "release_grace: 7d")
    read = files.read(ARCHIVE_SOURCE__AVATARS__RELEASE_GRACE="")
    assert 7 * 86_400 == read["avatars"].release_grace_seconds


def test_a_shipped_source_is_overridden_too(files: Files) -> None:
    read = files.read("task_html", ARCHIVE_SOURCE__TASK_HTML__BUCKET="pages")
    assert "pages" == read["task_html"].bucket_name


def test_sources_may_read_from_different_kinds_of_store(files: Files) -> None:
    files.write("avatars", "hot: s3://avatars")
    read = files.read("task_html", **S3_KEYS)
    assert isinstance(read["avatars"].hot, HotS3)
    assert isinstance(read["task_html"].hot, HotSupabase)


def test_what_every_source_sets_for_itself_the_process_need_not_say(files: Files) -> None:
    files.write("one", "hot: s3://one-hot", "bucket: one-cold")
    files.write("two", "hot: s3://two-hot", "bucket: two-cold")
    unset = {name: "" for name in RIGHT if name.startswith("SUPABASE")}
    read = files.read(**S3_KEYS, **unset, ARCHIVE_HOT="", ARCHIVE_BUCKET="")
    for name, settings in read.items():
        assert isinstance(settings.cold, ColdS3)
        assert isinstance(settings.hot, HotS3)
        assert (f"{name}-hot", f"{name}-cold") == (settings.hot.bucket, settings.cold.bucket)


def test_a_disabled_archiver_stays_disabled(files: Files) -> None:
    path = files.write("avatars", "bucket: avatars-cold", "hot: s3://avatars")
    assert Settings.read({"ARCHIVE_SOURCES": path}).is_disabled


def test_all_that_is_wrong_is_told_at_once_and_where(files: Files) -> None:
    path = files.write("avatars", "evidence: hope", "retention_age: 30 days", "bucket: a/b")
    told = files.problems(
        "task_html",
        ARCHIVE_SOURCE__AVATARS__HOT="nfs://x",
        ARCHIVE_SOURCE__AVATARS__BUKET="x",
        ARCHIVE_SOURCE__AVATAR__BUCKET="x",
        ARCHIVE_CONCURRENCY="many",
    )
    assert 7 == len(told), told
    for part in (
        f"{path}:4: evidence is 'hope'; it must be one of auto",
        f"{path}:5: retention_age is '30 days'; it must be a duration",
        f"{path}:6: bucket is 'a/b'; it must be the bucket's name alone",
        "ARCHIVE_SOURCE__AVATARS__HOT is 'nfs://x'; it must be supabase",
        "ARCHIVE_SOURCE__AVATARS__BUKET is not a setting; did you mean …__BUCKET?",
        "ARCHIVE_SOURCE__AVATAR__BUCKET is for no source of ARCHIVE_SOURCES, which are: ",
        "ARCHIVE_CONCURRENCY is 'many'",
    ):
        assert any(part in problem for problem in told), (part, told)


def test_a_source_has_a_class_of_its_own(files: Files) -> None:
    files.write("avatars", "storage_class: GLACIER_IR")
    of_task_html = {"ARCHIVE_SOURCE__TASK_HTML__STORAGE_CLASS": "STANDARD_IA"}
    read = files.read("task_html", **AWS, **of_task_html)
    colds = {name: own.cold for name, own in read.items()}
    assert all(isinstance(cold, ColdS3) for cold in colds.values())
    classes = {name: getattr(cold, "storage_class", None) for name, cold in colds.items()}
    assert classes == {"avatars": "GLACIER_IR", "task_html": "STANDARD_IA"}


def test_a_class_that_cannot_be_read_back_as_its_evidence_demands_is_refused(
    files: Files,
) -> None:
    files.write("avatars", "storage_class: GLACIER", "evidence: readback")
    (told,) = files.problems("task_html", **AWS)
    assert told.startswith("source avatars: ")
    assert "'GLACIER', whose objects cannot be read back" in told


def test_what_is_wrong_between_settings_names_the_source(files: Files) -> None:
    files.write("avatars", "hot: s3://avatars")
    (told,) = (it for it in files.problems("task_html", **_without_key()) if "KEY_ID" in it)
    assert told.startswith("source avatars: ARCHIVE_HOT_ACCESS_KEY_ID")


def test_two_sources_of_one_name_are_refused(files: Files) -> None:
    files.write("avatars")
    second = files.write("avatars", file_name="other.sql")
    assert [f"{second}: another source of ARCHIVE_SOURCES has the name avatars too"] == (
        files.problems()
    )


def test_no_source_lets_go_of_what_another_has_archived(files: Files) -> None:
    files.write("one", "hot: file:///srv/one")
    files.write("two", "hot: file:///srv/cold/one")
    told = files.problems(
        ARCHIVE_PROVIDER="file",
        ARCHIVE_ENDPOINT="file:///srv/cold",
        ARCHIVE_ACCESS_KEY_ID="",
        ARCHIVE_SECRET_ACCESS_KEY="",
    )
    assert any(
        "the hot store of source two is the cold store of source one" in it for it in told
    )


def _sources(files: Files, *others: str) -> dict[str, str]:
    return {"ARCHIVE_SOURCES": ",".join([*files.names, *others])}


def _without_key() -> dict[str, str]:
    return {**S3_KEYS, "ARCHIVE_HOT_ACCESS_KEY_ID": ""}
