"""Settings and databases that cannot be used: told, and nothing is touched.

The rows are as they were, and the hot objects are all there.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import psycopg
import pytest

from archiver.ops.clock import SystemClock
from tests.harness.command import archiver
from tests.harness.hover import BUCKET, Hover, create_hover
from tests.harness.scene import COLD_BUCKET, Scene, settings_for
from tests.standin.supabase import SupabaseStandIn

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from archiver.demo.postgres import EmbeddedPostgres
    from tests.harness.command import Ran
    from tests.harness.hover import Page

NOWHERE = "postgresql://worker:word-of-the-database@127.0.0.1:1/app"


@pytest.fixture
def page(scene: Scene) -> Page:
    return scene.due_page()


def is_as_it_was(scene: Scene, page: Page) -> bool:
    """Nothing happened: the row, the hot object, and no receipt."""
    return (
        scene.is_untouched(page)
        and scene.hot_body(page) == page.body
        and scene.receipts_count() == 0
        and not any((scene.cold_root / COLD_BUCKET).iterdir())
    )


def assert_refused(ran: Ran, code: int, *told: str) -> None:
    """It ended so; stdout, one JSON object, and stderr say why, without a traceback."""
    assert ran.exit_code == code
    assert ran.summary["state"] == "fatal"
    for words in told:
        assert words in ran.stderr
        assert words in ran.summary["error"]
    assert "Traceback" not in ran.stderr


# --- settings ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"ARCHIVE_PROVIDER": None}, "ARCHIVE_BUCKET is set and ARCHIVE_PROVIDER is not"),
        ({"ARCHIVE_BUCKET": None}, "ARCHIVE_PROVIDER is set and ARCHIVE_BUCKET is not"),
        ({"ARCHIVE_PROVIDER": None, "ARCHIVE_BUCKET": None}, "archiving is disabled"),
        ({"ARCHIVE_PROVIDER": "azure"}, "'azure'; it must be one of r2, b2, s3, minio"),
        ({"ARCHIVE_S3_CLIENT": "boto"}, "'boto'; it must be one of obstore or boto3"),
        ({"ARCHIVE_S3_CLIENT": "boto3"}, "provider file knows nothing of it"),
        (
            {"ARCHIVE_STATE_DIR": "state"},
            "'state'; it must be the absolute path of a directory",
        ),
        ({"ARCHIVE_STATE_DIR": "/a/../b"}, "it must be the absolute path of a directory"),
        ({"ARCHIVE_UPLOAD_EXPIRY": "59s"}, "'59s'; it must be a duration such as 90s"),
        ({"ARCHIVE_UPLOAD_EXPIRY": "a day"}, "'a day'; it must be a duration such as 90s"),
        ({"ARCHIVE_RELEASE_GRACE": "15"}, "'15'; it must be a duration such as 90s"),
        ({"ARCHIVE_RELEASE_GRACE": "soon"}, "'soon'; it must be a duration such as 90s"),
        ({"ARCHIVE_MAX_DURATION": "0s"}, "'0s'; it must be a duration such as 90s, 1m"),
        ({"ARCHIVE_MAX_DURATION": "120"}, "'120'; it must be a duration such as 90s, 1m"),
        ({"ARCHIVE_EGRESS_BUDGET": "200GiB"}, "'200GiB'; it must be off, or a size, a slash"),
        ({"ARCHIVE_EGRESS_BUDGET": "0B/day"}, "day, week, month (30 days) or a duration"),
        ({"ARCHIVE_EGRESS_BUDGET": "5GB/59m"}, "a duration of 1h to 366d"),
        ({"ARCHIVE_BANDWIDTH": "50"}, "'50'; it must be a rate such as 50MiB/s or 400Mbit/s"),
        ({"ARCHIVE_BANDWIDTH": "50MiB/min"}, "'50MiB/min'; it must be a rate such as"),
        ({"ARCHIVE_BANDWIDTH": "999B/s"}, "at least 1KB/s"),
        ({"ARCHIVE_BANDWIDTH": "off"}, "'off'; it must be a rate such as 50MiB/s"),
        ({"ARCHIVE_REQUESTS_PER_SECOND": "0"}, "'0'; it must be a number, at least 0.1"),
        ({"ARCHIVE_REQUESTS_PER_SECOND": "-5"}, "'-5'; it must be a number, at least 0.1"),
        ({"ARCHIVE_REQUESTS_PER_SECOND": "10/s"}, "'10/s'; it must be a number"),
        ({"ARCHIVE_REQUESTS_PER_SECOND": "inf"}, "'inf'; it must be a number"),
        ({"ARCHIVE_RETENTION_JOB": "3"}, "did you mean ARCHIVE_RETENTION_JOBS?"),
        ({"ARCHIVE_RETENTION_JOBS": "-1"}, "a whole number, at least 0"),
        ({"ARCHIVE_DATABASE_URL": None}, "ARCHIVE_DATABASE_URL or DATABASE_URL is not set"),
        ({"SUPABASE_URL": None}, "ARCHIVE_HOT is not set, and SUPABASE_URL is not either"),
        ({"SUPABASE_SERVICE_ROLE_KEY": None}, "SUPABASE_SERVICE_ROLE_KEY is not set"),
        ({"ARCHIVE_SOURCES": "task_htm"}, "there is no source 'task_htm' (ARCHIVE_SOURCES"),
        ({"ARCHIVE_SOURCES": "/nowhere/x.sql"}, "/nowhere/x.sql: the source file cannot be"),
        ({"ARCHIVE_DATABASE_URL": "app"}, "it must be postgresql://user:password@host"),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, dict) else "",
)
def test_a_wrong_setting_is_told_and_nothing_is_touched(
    scene: Scene, page: Page, changes: dict[str, str | None], told: str
) -> None:
    assert_refused(scene.once(**changes), 2, told)
    assert is_as_it_was(scene, page)


def test_all_wrong_settings_are_told_at_once_and_no_secret_is(scene: Scene, page: Page) -> None:
    ran = scene.once(
        ARCHIVE_PROVIDER="azure",
        ARCHIVE_LEASE="long",
        ARCHIVE_BATCHSIZE="3",
        SUPABASE_SERVICE_ROLE_KEY="key-with\nline-break",
    )
    assert_refused(
        ran, 2, "4 problems", "azure", "ARCHIVE_LEASE", "ARCHIVE_BATCH_SIZE?", "SERVICE_ROLE"
    )
    assert "line-break" not in ran.stdout + ran.stderr
    assert is_as_it_was(scene, page)


def test_the_real_process_refuses_with_its_exit_code(scene: Scene, page: Page) -> None:
    wrong = archiver(scene.settings | {"ARCHIVE_RETENTION_JOB": "3"}, "--once", "--json")
    gone = archiver(scene.settings | {"ARCHIVE_DATABASE_URL": NOWHERE}, "--once", "--json")

    assert_refused(wrong, 2, "did you mean ARCHIVE_RETENTION_JOBS?")
    assert_refused(gone, 3, "The database did not answer")
    assert is_as_it_was(scene, page)


# --- the database -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"netloc": "worker:word-of-the-database@127.0.0.1:1"}, "The database did not answer"),
        ({"path": "/no_such_database"}, 'database "no_such_database" does not exist'),
        ({"password": "not-the-word-of-the-database"}, "password authentication failed"),
    ],
    ids=["down", "database", "password"],
)
def test_a_database_that_cannot_be_used_is_named_without_its_password(
    scene: Scene, page: Page, change: dict[str, str], told: str
) -> None:
    url = urlsplit(scene.database_url)
    if password := change.pop("password", ""):
        change = {"netloc": f"{url.username}:{password}@{url.hostname}:{url.port}"}
    wrong = url._replace(**change).geturl()

    ran = scene.once(ARCHIVE_DATABASE_URL=wrong)

    assert_refused(ran, 3, told, "ARCHIVE_DATABASE_URL")
    assert "word-of-the-database" not in ran.stdout + ran.stderr
    assert is_as_it_was(scene, page)


def test_a_database_without_the_ledger_names_the_command(scene: Scene, page: Page) -> None:
    scene.hover.connection.execute("alter schema archiver rename to elsewhere")
    ran = scene.once()
    scene.hover.connection.execute("alter schema elsewhere rename to archiver")

    assert_refused(ran, 3, "archiver migrate")
    assert is_as_it_was(scene, page)


def test_a_role_that_row_level_security_blinds_is_refused_with_the_policy(
    scene: Scene, page: Page
) -> None:
    """To a blinded role there is nothing to do, which would read as: all is archived."""
    with blinded_role(scene) as url:
        ran = scene.once(ARCHIVE_DATABASE_URL=url)
        previewed = scene.run("--once", "--dry-run", ARCHIVE_DATABASE_URL=url)

    policy = "create policy archiver_select on tasks for select to blinded using (true);"
    assert_refused(ran, 3, "row-level security may hide rows of jobs, tasks", policy)
    assert (previewed.exit_code, policy in previewed.stderr) == (3, True)
    assert is_as_it_was(scene, page)


@contextmanager
def blinded_role(scene: Scene) -> Iterator[str]:
    """The URL of a role that may do everything in there, and sees no row."""
    scene.hover.connection.execute("""
        create role blinded login password 'word-of-the-role';
        grant usage on schema public, archiver to blinded;
        grant select, insert, update, delete on all tables in schema public, archiver
            to blinded;
        grant usage on all sequences in schema public, archiver to blinded;
        alter table jobs enable row level security;
        alter table tasks enable row level security;
    """)
    url = urlsplit(scene.database_url)
    try:
        yield url._replace(
            netloc=f"blinded:word-of-the-role@{url.hostname}:{url.port}"
        ).geturl()
    finally:  # a role belongs to the server, which serves other tests too
        scene.hover.connection.execute("drop owned by blinded; drop role blinded")


# --- the database, in mid-sweep ---------------------------------------------------------


class HurriedClock(SystemClock):
    """Waits of the ledger's patience pass at once; leases must be long."""

    def __init__(self) -> None:
        self._skipped_seconds = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self._skipped_seconds

    def sleep(self, seconds: float) -> None:
        if seconds >= 0.2:  # what it waits before it asks the ledger again
            self._skipped_seconds += 30
        super().sleep(min(seconds, 0.01))


@pytest.fixture
def mortal_scene(postgres_server: EmbeddedPostgres, tmp_path: Path) -> Iterator[Scene]:
    """On a database server of its own, which may be stopped."""
    url = postgres_server.create_database("app")
    create_hover(url)
    store = tmp_path / "store"
    (store / COLD_BUCKET).mkdir(parents=True)
    with psycopg.connect(url, autocommit=True) as connection, SupabaseStandIn() as hot:
        hot.create_bucket(BUCKET)
        yield Scene(url, Hover(connection), hot, store, settings_for(url, hot, store))


def test_a_database_that_goes_away_for_good_loses_nothing(
    mortal_scene: Scene, postgres_server: EmbeddedPostgres
) -> None:
    scene = mortal_scene
    pages = [scene.due_page() for _ in range(6)]
    scene.hot.on("get", run=lambda: postgres_server.stop("immediate"))

    scene.clock = HurriedClock()
    ran = scene.once(ARCHIVE_LEASE="1h")

    assert ran.exit_code == 1
    assert ran.summary["stopped"] == "failures"
    assert "The database did not answer" in ran.summary["error"]
    assert "ledger unavailable, trying again" in ran.stderr
    assert all(scene.hot_body(page) == page.body for page in pages)

    postgres_server.start()
    scene.clock = SystemClock()
    with psycopg.connect(scene.database_url, autocommit=True) as connection:
        scene.hover.connection = connection
        assert all(scene.is_untouched(page) for page in pages)
        scene.make_due()
        again = scene.once()
        assert (again.exit_code, again.summary["archived"]) == (0, 6)
        assert [] == scene.lost()


def test_a_database_that_restarts_in_mid_sweep_is_waited_for(
    mortal_scene: Scene, postgres_server: EmbeddedPostgres
) -> None:
    scene = mortal_scene
    pages = [scene.due_page() for _ in range(6)]

    def restart() -> None:
        postgres_server.stop("immediate")
        postgres_server.start()

    scene.hot.on("get", run=restart)
    ran = scene.once()

    assert (ran.exit_code, ran.summary["archived"], ran.summary["released"]) == (0, 6, 6)
    with psycopg.connect(scene.database_url, autocommit=True) as connection:
        scene.hover.connection = connection
        assert all(scene.is_archived(page) for page in pages)
        assert [] == scene.lost()
