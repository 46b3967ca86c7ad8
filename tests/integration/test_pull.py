"""Pulling, listing and signing by the real command: what comes home is what was pushed."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING

import boto3
import pytest

from tests.harness.command import run_here
from tests.integration.test_full_disks import mounted, root_runs
from tests.integration.test_push import PART_BYTES, SIZE_BYTES, Place, place

if TYPE_CHECKING:
    from pathlib import Path

    from tests.harness.command import Ran

__all__ = ["place"]

BODY = random.Random(3).randbytes(3_000_001)  # noqa: S311


def pull(place: Place, *arguments: str | Path, **settings: str) -> Ran:
    return run_here(place.settings | settings, "pull", *map(str, arguments))


@pytest.mark.parametrize("size_bytes", [0, 1, PART_BYTES, SIZE_BYTES])
def test_what_was_pushed_comes_home_verified(place: Place, size_bytes: int) -> None:
    file, target = place.file(size_bytes), place.root / "home"
    place.push(file)

    ran = pull(place, "file.bin", target, "--json")

    assert ran.exit_code == 0, ran.stderr
    assert target.read_bytes() == file.read_bytes()
    promised_by = "its metadata" if size_bytes <= PART_BYTES else "the note beside it"
    assert ran.summary["promised_by"] == promised_by
    assert target.stat().st_mode & 0o777 == 0o600
    assert [] == list(place.root.glob("home.part*"))


def test_other_bytes_than_were_promised_never_get_the_name(place: Place) -> None:
    place.push(place.file(SIZE_BYTES))
    damaged = place.cold / "objects" / "file.bin"
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"?")

    ran = pull(place, "file.bin", place.root / "home", "--json")

    assert (ran.exit_code, ran.summary["state"]) == (1, "failed")
    assert not (place.root / "home").exists()


def test_a_demanded_digest_goes_before_all_others(place: Place) -> None:
    place.push(place.file(10))

    ran = pull(place, "file.bin", place.root / "home", "--digest", "0" * 64)

    assert ran.exit_code == 1
    assert not (place.root / "home").exists()


def test_what_nothing_promises_is_said(place: Place) -> None:
    (place.cold / "objects").mkdir()
    (place.cold / "objects" / "by-hand").write_bytes(b"bytes")

    ran = pull(place, "by-hand", place.root / "home")

    assert ran.exit_code == 0
    assert "Not verified" in ran.stderr
    assert (place.root / "home").read_bytes() == b"bytes"


def test_a_full_disk_keeps_what_came_and_the_next_pull_goes_on(place: Place) -> None:
    file, disk = place.file(SIZE_BYTES), place.root / "disk"
    place.push(file)
    disk.mkdir()
    with mounted(disk, "8m"):
        ran = pull(place, "file.bin", disk / "home", ARCHIVE_PROFILE="edge")

        assert ran.exit_code == 3
        assert "has no room left" in ran.stderr
        assert "goes on from there" in ran.stderr
        assert not (disk / "home").exists()
        kept_bytes = (disk / "home.part").stat().st_size
        for name in ("home.part", "home.part.json"):
            (place.root / name).write_bytes((disk / name).read_bytes())

    again = pull(place, "file.bin", place.root / "home", "--json")

    assert again.exit_code == 0, again.stderr
    assert 0 < again.summary["kept_bytes"] <= kept_bytes
    assert (place.root / "home").read_bytes() == file.read_bytes()


def test_another_object_under_the_key_starts_over(place: Place) -> None:
    file, target = place.file(SIZE_BYTES), place.root / "home"
    place.push(file)
    (place.root / "home.part").write_bytes(b"x" * 100)
    (place.root / "home.part.json").write_text("no json")

    ran = pull(place, "file.bin", target)

    assert ran.exit_code == 0, ran.stderr
    assert target.read_bytes() == file.read_bytes()


def test_what_is_not_there_is_said(place: Place) -> None:
    ran = pull(place, "none", place.root / "home")

    assert ran.exit_code == 1
    assert "There is no such object" in ran.stderr
    assert [] == list(place.root.glob("home*"))


def test_a_directory_is_no_file(place: Place) -> None:
    place.push(place.file(1))

    ran = pull(place, "file.bin", place.root)

    assert ran.exit_code == 1
    assert "EISDIR" in ran.stderr


def test_the_objects_are_listed_and_looked_at(place: Place) -> None:
    for name in ("b", "a/1", "a/2"):
        place.push(place.file(3), name)

    ran = run_here(place.settings, "ls", "a/", "--json")
    head = run_here(place.settings, "head", "b", "--json")

    assert [json.loads(it)["key"] for it in ran.stdout.splitlines()] == ["a/1", "a/2"]
    assert (head.exit_code, head.summary["size_bytes"]) == (0, 3)
    assert run_here(place.settings, "head", "none").exit_code == 1
    assert " b" in run_here(place.settings, "ls").stdout


@pytest.mark.parametrize("lifetime", ["8d", "1ms", "700000h"])
def test_a_url_that_would_last_too_long_is_refused(place: Place, lifetime: str) -> None:
    ran = run_here(place.settings, "sign", "b", "--expires", lifetime)

    assert (ran.exit_code, ran.stdout) == (2, "")
    assert "A signed URL cannot last so long" in ran.stderr


def test_a_directory_has_no_urls(place: Place) -> None:
    ran = run_here(place.settings, "sign", "b")

    assert (ran.exit_code, ran.stdout) == (1, "")


def test_a_url_of_a_bucket_names_the_object(place: Place) -> None:
    s3 = {
        "ARCHIVE_PROVIDER": "s3",
        "ARCHIVE_REGION": "eu-central-1",
        "ARCHIVE_ENDPOINT": "",
        "ARCHIVE_ACCESS_KEY_ID": "AKID",
        "ARCHIVE_SECRET_ACCESS_KEY": "very-secret",
    }
    for flags in ((), ("--put",), ("--download", "a b.txt")):
        ran = run_here(place.settings | s3, "sign", "a/b", *flags)

        assert ran.exit_code == 0, ran.stderr
        assert "objects/a/b" in ran.stdout
        assert "X-Amz-Expires=3600" in ran.stdout
        assert "very-secret" not in ran.stdout + ran.stderr


# --- uploads ----------------------------------------------------------------------------------


def test_there_is_nothing_to_resume_or_abort(place: Place) -> None:
    resumed = run_here(place.settings, "uploads", "resume", "k", str(place.file(1)))
    aborted = run_here(place.settings, "uploads", "abort", "k", "--yes")
    nothing = run_here(place.settings, "uploads", "abort", "--all", "--yes")

    assert (resumed.exit_code, aborted.exit_code, nothing.exit_code) == (1, 1, 0)
    assert "`archiver push` begins one" in resumed.stderr
    assert run_here(place.settings, "uploads", "abort").exit_code == 2


def test_an_upload_that_was_left_is_listed_aborted_or_resumed(place: Place) -> None:
    file = place.file(SIZE_BYTES)
    for act in (
        ("uploads", "resume", "file.bin", str(file)),
        ("uploads", "abort", "file.bin", "--yes"),
    ):
        with mounted(place.cold.parent, "9m"):
            place.cold.mkdir()
            assert place.push(file).exit_code == 3
            (left,) = place.uploads()
            assert (left["key"], left["worker"]) == ("objects/file.bin", None)
            root_runs("mount", "-o", "remount,size=64m", place.cold.parent)

            ran = run_here(place.settings, *act)

            assert ran.exit_code == 0, ran.stderr
            assert [] == place.uploads()
            there = (place.cold / "objects" / "file.bin").exists()
            assert there is (act[1] == "resume")


# --- URLs -------------------------------------------------------------------------------------


@pytest.fixture
def url(moto_url: str) -> str:
    client = boto3.client(
        "s3",
        endpoint_url=moto_url,
        region_name="us-east-1",
        aws_access_key_id="any",
        aws_secret_access_key="any",
    )
    client.create_bucket(Bucket="urls")
    client.put_object(Bucket="urls", Key="a/big", Body=BODY)
    return client.generate_presigned_url(
        "get_object", Params={"Bucket": "urls", "Key": "a/big"}
    )


def test_a_signed_url_is_pulled_without_any_store(url: str, tmp_path: Path) -> None:
    target = tmp_path / "home"

    ran = run_here({}, "pull", url, str(target), "--json", "--part-size", "1MiB")

    assert ran.exit_code == 0, ran.stderr
    assert target.read_bytes() == BODY
    assert "Not verified" in ran.stderr
    assert "Signature" not in ran.stdout + ran.stderr


def test_a_url_that_leads_nowhere_is_told_without_its_secrets(url: str, tmp_path: Path) -> None:
    for wrong in (
        url.replace("a/big", "a/none"),
        url.replace("127.0.0.1", "127.0.0.1:1@127.0.0.1"),
        "http://127.0.0.1:1/a?Signature=s3cr3t",
        "http://example.com/a?Signature=s3cr3t",
        "http://[/a?Signature=s3cr3t",
    ):
        ran = run_here({}, "pull", wrong, str(tmp_path / "home"))

        assert ran.exit_code in (1, 2, 3)
        assert "Signature" not in ran.stderr
        assert "Traceback" not in ran.stderr
        assert not (tmp_path / "home").exists()
