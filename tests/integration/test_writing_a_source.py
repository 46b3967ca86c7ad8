"""docs/writing-a-source.md, run as it stands: its schema and its file, in real sweeps."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from archiver.testing import SourceContract, SourceParameters, SqlSource
from tests.fakes.s3_worlds import empty, peek
from tests.harness.command import Ran, archiver
from tests.harness.scene import client_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from tests.harness.postgres import Databases
    from tests.harness.scene import Scene

PAGE = Path(__file__).parents[2] / "docs" / "writing-a-source.md"
_BLOCK = re.compile(r"^```sql (\S+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
BLOCKS = dict(_BLOCK.findall(PAGE.read_text()))
HOT, COLD = "avatars", "avatars-archive"


def create_table(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(BLOCKS["schema"].encode())


class World:
    """The table of the page, and its file as a source."""

    def __init__(self, url: str) -> None:
        self.url = url
        parameters = SourceParameters(retention_jobs=3, retention_age=timedelta(days=30))
        self.source = SqlSource.load(BLOCKS["avatars.sql"], parameters=parameters)
        self.connection = psycopg.connect(url, autocommit=True)

    def plant(self, id_: str, due_at: datetime) -> None:
        self.connection.execute(
            "insert into avatars (id, replaced_at, bucket, path) values (%s, %s, 'b', %s)",
            [id_, due_at, f"{id_}.png"],
        )

    def change(self, id_: str) -> None:
        query = (
            "update avatars set bucket = 'b', path = coalesce(path, id) || '2' where id = %s"
        )
        self.connection.execute(query, [id_])

    def flipped_to(self, id_: str) -> str | None:
        row = self.connection.execute("select archive_key from avatars where id = %s", [id_])
        (key,) = row.fetchone() or (None,)
        return key if key is None else str(key)


class TestTheFileOfThePage(SourceContract):
    """It keeps the contract."""

    @pytest.fixture
    def world(self, databases: Databases) -> Iterator[World]:
        world = World(databases.like("avatars_of_the_page", create_table))
        yield world
        world.connection.close()


@dataclass
class Pictures:
    """The application of the page: its database, its bucket, and the file in a directory."""

    url: str
    s3: Any
    file: Path
    settings: dict[str, str] = field(default_factory=dict)
    bodies: dict[str, bytes] = field(default_factory=dict)  # by id

    def plant(self, id_: str, *, days: int) -> None:
        """A picture that was replaced so many days ago."""
        body = b"\x89PNG " + id_.encode() * 100
        self.s3.put_object(Bucket=HOT, Key=f"{id_}.png", Body=body)
        self.ask(
            "insert into avatars (id, replaced_at, bucket, path, sha256) "
            "values (%s, now() - make_interval(days => %s), %s, %s, %s)",
            *(id_, days, HOT, f"{id_}.png", sha256(body).hexdigest()),
        )
        self.bodies[id_] = body

    def ask(self, query: str, *parameters: object) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url, autocommit=True) as connection:
            found = connection.execute(query.encode(), parameters)
            return found.fetchall() if found.description else []

    def hot(self, id_: str) -> bytes | None:
        return peek(self.s3, HOT, f"{id_}.png")

    def archived(self) -> dict[str, bytes | None]:
        """What lies where the rows say that it was archived."""
        rows = self.ask("select id, archive_bucket, archive_key from avatars order by id")
        return {id_: peek(self.s3, bucket, key) for id_, bucket, key in rows if key}

    def run(self, *arguments: str, **changes: str) -> Ran:
        return archiver(self.settings | changes, *arguments)

    def once(self, **changes: str) -> Ran:
        return self.run("--once", "--json", **changes)


def _of_s3(moto_url: str) -> dict[str, str]:
    return {
        "ARCHIVE_HOT_ENDPOINT": moto_url,
        "ARCHIVE_HOT_ACCESS_KEY_ID": "hot-id",
        "ARCHIVE_HOT_SECRET_ACCESS_KEY": "hot-secret",
    }


def _buckets(moto_url: str) -> Any:
    client = client_of(moto_url)
    for bucket in (HOT, COLD):
        empty(client, bucket)
    return client


def _written(tmp_path: Path) -> Path:
    file = tmp_path / "avatars.sql"
    file.write_text(BLOCKS["avatars.sql"])
    return file


@pytest.fixture
def pictures(databases: Databases, moto_url: str, tmp_path: Path) -> Pictures:
    """Nothing but pictures: no table of the shipped source is there."""
    url = databases.empty()
    create_table(url)
    pictures = Pictures(url, _buckets(moto_url), _written(tmp_path))
    pictures.settings = _of_s3(moto_url) | {
        "ARCHIVE_DATABASE_URL": url,
        "ARCHIVE_SOURCES": str(pictures.file),
        "ARCHIVE_PROVIDER": "minio",
        "ARCHIVE_ENDPOINT": moto_url,
        "ARCHIVE_ACCESS_KEY_ID": "cold-id",
        "ARCHIVE_SECRET_ACCESS_KEY": "cold-secret",
    }
    by_path, by_name = str(pictures.file), "avatars"
    for arguments in (["migrate"], *(["migrate", "--source", it] for it in (by_path, by_name))):
        ran = pictures.run(*arguments)
        assert ran.exit_code == 0, ran.stderr
    return pictures


def test_the_pages_own_steps_archive_in_a_database_without_tasks(pictures: Pictures) -> None:
    for id_, days in (("old", 40), ("older", 400), ("young", 20)):
        pictures.plant(id_, days=days)

    ran = pictures.once()

    assert (ran.exit_code, ran.summary["archived"]) == (0, 2), ran.stderr
    due = {id_: pictures.bodies[id_] for id_ in ("old", "older")}
    assert due == pictures.archived()
    assert [("avatars-archive", "people/avatars/old.png")] == pictures.ask(
        "select archive_bucket, archive_key from avatars where id = 'old'"
    )
    assert [(3,)] == pictures.ask("select distinct evidence from archiver.archived")


def test_the_hot_copy_stays_for_the_grace_of_its_source(pictures: Pictures) -> None:
    pictures.plant("old", days=40)

    pictures.once()

    ((days,),) = pictures.ask(
        "select extract(epoch from due_at - now()) / 86400 from archiver.release"
    )
    assert 6.9 < days < 7.1
    assert pictures.hot("old") == pictures.bodies["old"]
    pictures.ask("update archiver.release set due_at = now()")
    assert pictures.once().summary["released"] == 1
    assert pictures.hot("old") is None
    assert pictures.archived() == {"old": pictures.bodies["old"]}


def test_the_environment_overrides_the_file(pictures: Pictures) -> None:
    pictures.plant("young", days=20)

    ran = pictures.once(
        ARCHIVE_SOURCE__AVATARS__RETENTION_AGE="10d",
        ARCHIVE_SOURCE__AVATARS__RELEASE_GRACE="0s",
        ARCHIVE_SOURCE__AVATARS__PREFIX="others",
    )

    assert (ran.summary["archived"], ran.summary["released"]) == (1, 1), ran.stderr
    assert [("others/avatars/young.png",)] == pictures.ask("select archive_key from avatars")


def test_a_bucket_is_probed_under_each_prefix(pictures: Pictures) -> None:
    """Whether hot and cold are one bucket is seen by what the probe left there."""
    for prefix in ("people", "others"):
        pictures.plant(f"of-{prefix}", days=40)
        assert pictures.once(ARCHIVE_SOURCE__AVATARS__PREFIX=prefix).exit_code == 0
        assert peek(pictures.s3, COLD, f"{prefix}/.archiver/probe-digest") is not None


def test_check_shows_what_holds_for_a_source_and_whence(pictures: Pictures) -> None:
    ran = pictures.run("check", "--json", ARCHIVE_SOURCE__AVATARS__BUCKET="elsewhere")
    seen = {
        it["name"]: (it["value"], it["origin"]) for it in json.loads(ran.stdout)["settings"]
    }
    name = "ARCHIVE_SOURCE__AVATARS__"
    assert seen[f"{name}RELEASE_GRACE"] == ("7d", f"file {pictures.file}:10")
    assert seen[f"{name}BUCKET"] == ("elsewhere", f"environment {name}BUCKET")


def test_a_missing_column_is_told_with_file_line_and_section(pictures: Pictures) -> None:
    pictures.ask("alter table avatars drop column sha256")
    ran = pictures.once()
    assert ran.exit_code == 3
    assert f'{pictures.file}:19: section candidates: column "sha256" does not exist' in str(
        ran.summary["error"]
    )


# --- beside another source --------------------------------------------------------------


@pytest.fixture
def both(s3_scene: Scene, moto_url: str, tmp_path: Path) -> Pictures:
    """Pages in Supabase, pictures in S3: other hot, other cold bucket, one process."""
    create_table(s3_scene.database_url)
    pictures = Pictures(s3_scene.database_url, _buckets(moto_url), _written(tmp_path))
    s3_scene.settings |= _of_s3(moto_url)
    s3_scene.settings |= {"ARCHIVE_SOURCES": f"{pictures.file},task_html"}
    return pictures


def test_two_sources_are_swept_by_one_process_each_by_its_own_settings(
    s3_scene: Scene, both: Pictures
) -> None:
    both.plant("old", days=40)
    page = s3_scene.due_page()

    ran = s3_scene.once()

    assert (ran.exit_code, ran.summary["archived"]) == (0, 2), ran.stderr
    assert both.archived() == both.bodies
    assert both.hot("old") == both.bodies["old"]  # 7 days
    assert s3_scene.is_archived(page)
    assert s3_scene.hot_body(page) is None  # no grace
    assert s3_scene.lost() == []


def test_a_refused_source_stops_no_other_and_the_exit_code_is_the_worst(
    s3_scene: Scene, both: Pictures
) -> None:
    page = s3_scene.due_page()
    both.ask("drop table avatars")

    ran = s3_scene.once()

    assert (ran.exit_code, ran.summary["state"]) == (3, "fatal")
    assert 'relation "avatars" does not exist' in str(ran.summary["error"])
    assert s3_scene.is_archived(page)


def test_a_source_whose_bucket_is_gone_stops_no_other(s3_scene: Scene, both: Pictures) -> None:
    both.plant("old", days=40)
    page = s3_scene.due_page()

    ran = s3_scene.once(ARCHIVE_SOURCE__AVATARS__BUCKET="nowhere")

    assert (ran.exit_code, ran.summary["state"]) == (3, "fatal")
    assert "nowhere" in str(ran.summary["error"])
    assert s3_scene.is_archived(page)
    assert both.hot("old") == both.bodies["old"]
