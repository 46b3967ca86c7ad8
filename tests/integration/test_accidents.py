"""Ways to lose the only copy that an operator, or a row, could bring about. None may work."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
from psycopg import sql

from tests.fakes.s3_worlds import empty, peek
from tests.harness.hover import BUCKET
from tests.harness.scene import COLD_BUCKET, Scene, client_of

if TYPE_CHECKING:
    from pathlib import Path
    from typing import LiteralString

    from tests.harness.hover import Page


@pytest.fixture
def hot_root(scene: Scene, tmp_path: Path) -> Path:
    """Both stores are directories."""
    root = tmp_path / "hot"
    (root / BUCKET).mkdir(parents=True)
    scene.settings.pop("SUPABASE_URL")
    scene.settings.pop("SUPABASE_SERVICE_ROLE_KEY")
    scene.settings["ARCHIVE_HOT"] = f"file://{root}"
    return root


def hot_file(root: Path, page: Page) -> Path:
    assert page.bucket is not None
    path = root / page.bucket / page.path
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(page.body)
    return path


def hot_on_s3(scene: Scene, moto_url: str) -> None:
    """Both stores are buckets of one server, the hot one named by each row."""
    scene.settings.pop("SUPABASE_URL")
    scene.settings.pop("SUPABASE_SERVICE_ROLE_KEY")
    scene.settings |= {
        "ARCHIVE_HOT": "s3://",
        "ARCHIVE_HOT_ENDPOINT": moto_url,
        "ARCHIVE_HOT_ACCESS_KEY_ID": "key-id",
        "ARCHIVE_HOT_SECRET_ACCESS_KEY": "x-secret",
    }
    empty(client_of(moto_url), BUCKET)


def test_a_cold_bucket_that_is_a_link_into_hot_is_refused(scene: Scene, hot_root: Path) -> None:
    path = hot_file(hot_root, scene.due_page())
    shutil.rmtree(scene.cold_root / COLD_BUCKET)
    (scene.cold_root / COLD_BUCKET).symlink_to(hot_root / BUCKET)

    ran = scene.once()

    assert (ran.exit_code, path.exists()) == (2, True)
    assert "one place" in ran.stderr


def test_a_link_in_the_archive_never_makes_an_object_its_own_copy(
    scene: Scene, hot_root: Path
) -> None:
    page = scene.due_page()
    path = hot_file(hot_root, page)
    scene.cold_path(page.cold_key).symlink_to(path)

    scene.once()

    assert path.exists() or scene.cold_body(scene.row(page)["html_archive_key"]) == page.body


def test_objects_that_lie_where_they_would_be_archived_stay(
    s3_scene: Scene, moto_url: str
) -> None:
    """Also where the path prefix was another one when the store was probed."""
    scene, client = s3_scene, client_of(moto_url)
    hot_on_s3(scene, moto_url)
    for changes in ({"ARCHIVE_PATH_PREFIX": "archive"}, {}):
        job = scene.hover.job(scene.domain)
        page = scene.hover.page(job, html_storage_bucket=COLD_BUCKET)
        client.put_object(Bucket=COLD_BUCKET, Key=page.path, Body=page.body)

        scene.once(**changes)

        key = scene.row(page)["html_archive_key"]
        is_archived = key is not None and peek(client, COLD_BUCKET, key) == page.body
        assert is_archived or peek(client, COLD_BUCKET, page.path) == page.body


def test_a_row_that_points_at_another_rows_archived_object_cannot_delete_it(
    s3_scene: Scene, moto_url: str
) -> None:
    scene, client = s3_scene, client_of(moto_url)
    hot_on_s3(scene, moto_url)
    page = scene.hover.page(scene.hover.job(scene.domain))
    client.put_object(Bucket=BUCKET, Key=page.path, Body=page.body)
    assert scene.once().exit_code == 0
    key = scene.row(page)["html_archive_key"]

    scene.hover.page(
        scene.hover.job(scene.domain),
        page.html,
        html_storage_bucket=COLD_BUCKET,
        html_storage_path=key,
    )
    ran = scene.once()

    assert ran.summary["parked"] == 1
    assert peek(client, COLD_BUCKET, key) == page.body


def test_a_cold_bucket_exchanged_for_an_incomplete_copy_costs_no_hot_copy(scene: Scene) -> None:
    pages = [scene.due_page() for _ in range(3)]
    scene.once(ARCHIVE_RELEASE="off")
    (scene.cold_root / "exchanged").mkdir()

    ran = scene.once(ARCHIVE_BUCKET="exchanged")

    assert (ran.exit_code, ran.summary["released"]) == (1, 0)
    assert all(scene.hot_body(page) == page.body for page in pages)
    assert "another store" in "".join(scene.parked().values())


def test_cold_copies_that_vanish_before_the_release_cost_no_hot_copy(scene: Scene) -> None:
    pages = [scene.due_page(b"<p>" + b"x" * 100 * size) for size in range(1, 4)]
    scene.once(ARCHIVE_RELEASE="off")
    for page in pages[1:]:  # the canary is the smallest, and sings
        scene.cold_path(scene.row(page)["html_archive_key"]).unlink()

    ran = scene.once()

    assert (ran.summary["released"], ran.summary["parked"]) == (1, 2)
    assert all(scene.hot_body(page) == page.body for page in pages[1:])


@pytest.mark.parametrize("form", ["sha256:{}", "{}\n", "\t{}"])
def test_a_digest_in_another_form_parks_its_row_and_stops_nobody(
    scene: Scene, form: str
) -> None:
    odd, plain = scene.due_page(), scene.due_page()
    digest = scene.row(odd)["html_sha256"]
    scene.hover.update("tasks", odd.task_id, html_sha256=form.format(digest))

    assert scene.once().summary["archived"] >= 1

    assert scene.is_archived(plain)
    assert scene.is_archived(odd) or odd.task_id in scene.parked()


@pytest.mark.parametrize("style", ["SQL, DMY", "German", "Postgres, MDY"])
def test_a_database_with_dates_of_its_own_is_read_all_the_same(
    scene: Scene, style: LiteralString
) -> None:
    connection = scene.hover.connection
    database = sql.Identifier(connection.info.dbname)
    connection.execute(
        sql.SQL("alter database {} set datestyle to {}").format(database, sql.SQL(style))
    )
    page = scene.due_page()

    assert scene.once().exit_code == 0

    assert scene.is_archived(page)
