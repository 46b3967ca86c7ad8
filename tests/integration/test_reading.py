"""docs/reading.md, run as it stands; and every way in which a read could give out lies."""

from __future__ import annotations

import gzip
import re
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
import urllib3

from archiver import errors
from archiver.api import Archive, Settings, SystemClock, open_archive
from archiver.model import ColdLocation, HotLocation
from tests.fakes.s3_worlds import empty, peek
from tests.harness.command import archiver
from tests.harness.hover import BUCKET
from tests.harness.scene import COLD_BUCKET, client_of
from tests.standin.supabase import SERVICE_KEY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from tests.harness.hover import Page
    from tests.harness.scene import Scene

DOCUMENT = Path(__file__).parents[2] / "docs" / "reading.md"
_BLOCK = re.compile(r"^```python (\S+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
BLOCKS = dict(_BLOCK.findall(DOCUMENT.read_text()))
HTML = b"<html>" + b"what was captured, " * 200
OTHER = b"<html>what somebody else put there"
OTHER_BODY = gzip.compress(OTHER, mtime=0)
A_MINUTE = timedelta(minutes=1)


def run_block(name: str, **given: object) -> dict[str, Any]:
    """A block of the page, as it stands; the names it leaves behind."""
    namespace: dict[str, Any] = dict(given)
    exec(compile(BLOCKS[name], f"reading.md: {name}", "exec"), namespace)  # noqa: S102
    return namespace


@pytest.fixture
def set_environment(monkeypatch: pytest.MonkeyPatch) -> Callable[[Mapping[str, str]], None]:
    def set_it(settings: Mapping[str, str]) -> None:
        for name, value in settings.items():
            monkeypatch.setenv(name, value)

    return set_it


@contextmanager
def archive_of(scene: Scene, **changes: str) -> Iterator[Archive]:
    with open_archive(Settings.read(scene.settings | changes), SystemClock()) as archive:
        yield archive


def flip(scene: Scene, *, keeps_hot: bool = False) -> None:
    """Archive all that is due; the hot copies go, unless they are kept."""
    ran = scene.once(ARCHIVE_RELEASE="off" if keeps_hot else "on")
    assert ran.exit_code == 0, ran.stderr


def flip_meanwhile(scene: Scene, kind: str, **answer: Any) -> None:
    """The same by a process of its own, while the hot store is being asked something."""

    def flip_it() -> None:
        archiver(scene.settings, "--once", "--json")

    scene.hot.on(kind, run=flip_it, **answer)


def change_row(scene: Scene, page: Page, **columns: object) -> None:
    settings = ", ".join(f"{name} = %s" for name in columns)
    query = f"update tasks set {settings} where id = %s"
    scene.hover.connection.execute(query.encode(), [*columns.values(), page.task_id])


def cold_put(scene: Scene, page: Page, body: bytes) -> None:
    """Somebody else writes over the archived object."""
    assert scene.front is not None
    client = client_of(scene.front.behind)
    client.put_object(Bucket=COLD_BUCKET, Key=page.cold_key, Body=body)


def fetched(url: str) -> tuple[int, bytes]:
    answer = urllib3.request(
        "GET", url, headers={"Accept-Encoding": "identity"}, decode_content=False, retries=False
    )
    return answer.status, answer.data


# --- the page -----------------------------------------------------------------------------


def test_the_examples_read_a_page_hot_and_once_archived_cold(
    s3_scene: Scene, set_environment: Callable[[Mapping[str, str]], None]
) -> None:
    page = s3_scene.due_page(HTML)
    set_environment(s3_scene.settings)
    urls: list[str] = []
    for bucket in (BUCKET, COLD_BUCKET):
        opened = run_block("open", task_id=page.task_id)
        assert (opened["html"], opened["page"].where.bucket) == (HTML, bucket)
        run_block("url", task_id=page.task_id, redirect_to=urls.append)
        assert fetched(urls[-1]) == (200, page.body)
        flip(s3_scene)
    assert s3_scene.hot_body(page) is None


def test_an_application_without_archiver_reads_it_in_a_few_lines(
    s3_scene: Scene,
    set_environment: Callable[[Mapping[str, str]], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    page = s3_scene.due_page(HTML)
    set_environment(
        s3_scene.settings
        | {
            "AWS_ACCESS_KEY_ID": "key-id",
            "AWS_SECRET_ACCESS_KEY": "secret-key",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
    )
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    assert not re.search(r"^(from|import) archiver", BLOCKS["without-archiver"], re.MULTILINE)
    theirs = run_block("without-archiver")
    with psycopg.connect(s3_scene.database_url, autocommit=True) as db:
        assert theirs["read_page"](db, page.task_id) == HTML
        flip_meanwhile(s3_scene, "get")  # right behind its look at the row
        assert theirs["read_page"](db, page.task_id) == HTML
        assert theirs["read_page"](db, page.task_id) == HTML
        cold_put(s3_scene, page, OTHER_BODY)
        with pytest.raises(ValueError, match="not the page that was captured"):
            theirs["read_page"](db, page.task_id)


# --- where it is ----------------------------------------------------------------------------


def test_what_is_opened_says_what_it_is_and_whence(s3_scene: Scene) -> None:
    page = s3_scene.due_page(HTML)
    with archive_of(s3_scene) as archive:
        hot = archive.open("task_html", page.task_id)
        flip(s3_scene)
        cold = archive.open("task_html", page.task_id)
    assert (page.body, HTML) == (hot.read(), hot.content())
    assert (page.body, HTML) == (cold.read(), cold.content())
    assert hot.where == HotLocation(BUCKET, page.path)
    assert isinstance(cold.where, ColdLocation)
    assert (cold.where.bucket, cold.where.key) == (COLD_BUCKET, page.cold_key)
    assert hot.digest == cold.digest
    assert (hot.content_type, hot.content_encoding) == (cold.content_type, "gzip")
    assert cold.content_encoding == "gzip"


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param({}, id="gone"),
        pytest.param({"status": 403, "body": {"message": "Forbidden"}}, id="denied"),
    ],
)
def test_a_row_that_is_flipped_and_released_under_the_read_is_read_again(
    s3_scene: Scene, answer: dict[str, Any]
) -> None:
    """G8, for a reader that looked just before; many stores deny what is not there."""
    page = s3_scene.due_page(HTML)
    flip_meanwhile(s3_scene, "get", **answer)
    with archive_of(s3_scene) as archive:
        assert archive.open("task_html", page.task_id).content() == HTML
    assert s3_scene.hot_body(page) is None


def test_a_url_is_of_where_the_row_points_when_it_is_made(s3_scene: Scene) -> None:
    page = s3_scene.due_page(HTML)
    flip_meanwhile(s3_scene, "info")
    with archive_of(s3_scene) as archive:
        link = archive.url("task_html", page.task_id, A_MINUTE)
    assert isinstance(link.where, ColdLocation)
    assert fetched(link.url) == (200, page.body)


def test_a_page_captured_again_is_read_hot_in_its_newer_version(s3_scene: Scene) -> None:
    page = s3_scene.due_page(HTML)
    flip(s3_scene)
    path = page.path.replace("page", "page-2")
    s3_scene.hot.plant(BUCKET, path, OTHER_BODY)
    change_row(
        s3_scene, page, html_storage_bucket=BUCKET, html_storage_path=path, html_sha256=None
    )
    with archive_of(s3_scene) as archive:
        assert archive.open("task_html", page.task_id).content() == OTHER


def test_the_rows_own_bucket_is_opened(s3_scene: Scene) -> None:
    page = s3_scene.due_page(HTML)
    flip(s3_scene)
    with archive_of(s3_scene, ARCHIVE_BUCKET="another") as archive:
        assert archive.open("task_html", page.task_id).content() == HTML
        assert fetched(archive.url("task_html", page.task_id, A_MINUTE).url)[0] == 200


# --- what is not given out ------------------------------------------------------------------


@dataclass
class Broken:
    """A way to break a flipped page, and the error it must be told with."""

    name: str
    by: Callable[[Scene, Page], None]
    error: type[errors.ArchiverError]
    told: str = ""
    settings: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.name


def _forget_receipt(scene: Scene, _page: Page) -> None:
    for table in ("release", "outcome", "receipt"):
        scene.hover.connection.execute(f"delete from archiver.{table}".encode())


def _forget_all(scene: Scene, page: Page) -> None:
    _forget_receipt(scene, page)
    change_row(scene, page, html_sha256=None)


def _delete_cold(scene: Scene, page: Page) -> None:
    assert scene.front is not None
    client_of(scene.front.behind).delete_object(Bucket=COLD_BUCKET, Key=page.cold_key)


def _vouched_by_the_row_alone(scene: Scene, page: Page, body: bytes) -> None:
    _forget_receipt(scene, page)
    cold_put(scene, page, body)


BROKEN = [
    Broken(
        "other bytes in cold",
        lambda scene, page: cold_put(scene, page, OTHER_BODY),
        errors.WrongBytes,
        "promised_by=the receipt",
    ),
    Broken(
        "the same page compressed otherwise",
        lambda scene, page: cold_put(scene, page, gzip.compress(HTML, 1)),
        errors.WrongBytes,
        "promised_by=the receipt",
    ),
    Broken(
        "nothing in cold",
        _delete_cold,
        errors.ObjectMissing,
    ),
    Broken(
        "the row promises another page",
        lambda scene, page: change_row(scene, page, html_sha256="ab" * 32),
        errors.WrongBytes,
        "promised_by=the row's content digest",
    ),
    Broken(
        "other bytes, and only the row to tell",
        lambda scene, page: _vouched_by_the_row_alone(scene, page, OTHER_BODY),
        errors.WrongBytes,
        "promised_by=the row's content digest",
    ),
    Broken(
        "cut bytes, and only the row to tell",
        lambda scene, page: _vouched_by_the_row_alone(scene, page, page.body[:-9]),
        errors.WrongBytes,
        "ends early",
    ),
    Broken("nothing to compare with", _forget_all, errors.NothingToCompare, "archiver adopt"),
    Broken(
        "half a pointer",
        lambda scene, page: change_row(scene, page, html_archive_bucket=None),
        errors.BadPointer,
        "cold_bucket is None",
    ),
    Broken(
        "no pointer",
        lambda scene, page: change_row(
            scene, page, html_archive_bucket=None, html_archive_key=None
        ),
        errors.BadPointer,
        "neither a hot nor a cold",
    ),
    Broken(
        "no digest where one should be",
        lambda scene, page: change_row(scene, page, html_sha256="unknown"),
        errors.BadPointer,
        "content_digest: not a SHA-256",
    ),
    Broken(
        "the bucket of the row is gone",
        lambda scene, page: change_row(scene, page, html_archive_bucket="nowhere"),
        errors.BucketMissing,
        "bucket=nowhere",
    ),
    Broken(
        "another provider",
        lambda *_: None,
        errors.ElsewhereStored,
        "found=minio configured=wasabi",
        {"ARCHIVE_PROVIDER": "wasabi"},
    ),
]


@pytest.mark.parametrize("broken", BROKEN, ids=str)
def test_what_cannot_be_proven_is_an_error_and_no_bytes(
    s3_scene: Scene, broken: Broken
) -> None:
    page = s3_scene.due_page(HTML)
    flip(s3_scene)
    broken.by(s3_scene, page)
    with (
        archive_of(s3_scene, **broken.settings) as archive,
        pytest.raises(broken.error) as caught,
    ):
        archive.open("task_html", page.task_id)
    assert broken.told in str(caught.value)


def test_without_a_receipt_the_row_alone_can_vouch_for_the_page(s3_scene: Scene) -> None:
    page = s3_scene.due_page(HTML)
    flip(s3_scene)
    _forget_receipt(s3_scene, page)
    with archive_of(s3_scene) as archive:
        assert archive.open("task_html", page.task_id).content() == HTML
        with pytest.raises(errors.NothingToCompare):  # nobody reads the bytes of a URL
            archive.url("task_html", page.task_id, A_MINUTE)


def test_what_another_worker_archived_is_read_once_it_is_adopted(s3_scene: Scene) -> None:
    page = s3_scene.due_page(HTML)
    flip(s3_scene)
    _forget_all(s3_scene, page)
    assert s3_scene.run("adopt", "--source", "task_html", "--unproven").exit_code == 0
    with archive_of(s3_scene) as archive, pytest.raises(errors.NothingToCompare):
        archive.open("task_html", page.task_id)  # unproven: it vouches for none

    assert s3_scene.run("adopt", "--source", "task_html").exit_code == 0

    with archive_of(s3_scene) as archive:
        assert archive.open("task_html", page.task_id).content() == HTML
        assert archive.url("task_html", page.task_id, A_MINUTE).url
    cold_put(s3_scene, page, OTHER_BODY)
    with archive_of(s3_scene) as archive, pytest.raises(errors.WrongBytes):
        archive.open("task_html", page.task_id)


@pytest.mark.parametrize(
    ("body", "error"),
    [(None, errors.ObjectMissing), (OTHER_BODY, errors.WrongBytes)],
    ids=["missing", "other bytes"],
)
def test_a_hot_object_that_is_not_the_rows_is_not_given_out(
    s3_scene: Scene, body: bytes | None, error: type[Exception]
) -> None:
    page = s3_scene.due_page(HTML)
    s3_scene.hot.delete(BUCKET, [page.path])
    if body is not None:
        s3_scene.hot.plant(BUCKET, page.path, body)
    with archive_of(s3_scene) as archive, pytest.raises(error):
        archive.open("task_html", page.task_id)


def test_a_url_is_not_made_for_a_copy_that_is_not_the_receipts(s3_scene: Scene) -> None:
    page = s3_scene.due_page(HTML)
    flip(s3_scene)
    cold_put(s3_scene, page, page.body[:-1] + b"!")  # as long as it was
    with archive_of(s3_scene) as archive, pytest.raises(errors.WrongBytes):
        archive.url("task_html", page.task_id, A_MINUTE)
    _delete_cold(s3_scene, page)
    with archive_of(s3_scene) as archive, pytest.raises(errors.ObjectMissing):
        archive.url("task_html", page.task_id, A_MINUTE)


@pytest.mark.parametrize(
    "lifetime", [timedelta(0), timedelta(milliseconds=999), timedelta(days=7, seconds=1)]
)
def test_a_lifetime_that_no_url_can_have_is_refused(scene: Scene, lifetime: timedelta) -> None:
    with (
        archive_of(scene) as archive,
        pytest.raises(ValueError, match="from a second to 7 days"),
    ):
        archive.url("task_html", "any", lifetime)


def test_a_url_is_not_in_its_repr_and_holds_no_key(s3_scene: Scene) -> None:
    page = s3_scene.due_page(HTML)
    with archive_of(s3_scene) as archive:
        hot = archive.url("task_html", page.task_id, A_MINUTE)
        flip(s3_scene)
        cold = archive.url("task_html", page.task_id, A_MINUTE)
    for link in (hot, cold):
        assert link.url not in repr(link)
        assert "token" not in repr(link)
        assert "Signature" not in repr(link)
        assert SERVICE_KEY not in link.url
        assert "secret-key" not in link.url


def test_a_directory_has_no_urls(scene: Scene) -> None:
    page = scene.due_page(HTML)
    flip(scene)
    with archive_of(scene) as archive:
        assert archive.open("task_html", page.task_id).content() == HTML
        with pytest.raises(errors.NoUrl, match=r"archive\.open"):
            archive.url("task_html", page.task_id, A_MINUTE)


def test_rows_and_sources_that_are_not_there_are_told(scene: Scene) -> None:
    with archive_of(scene) as archive:
        with pytest.raises(errors.RowMissing, match="id=nobody"):
            archive.open("task_html", "nobody")
        with pytest.raises(
            errors.SettingsError, match="no such source; configured are task_html"
        ):
            archive.open("tasks", "nobody")
    with pytest.raises(errors.SettingsError, match="there is no archive"):
        open_archive(Settings.read({}), SystemClock()).__enter__()


def test_a_source_that_does_not_say_how_it_is_read_is_refused(
    scene: Scene, tmp_path: Path
) -> None:
    shipped = Path(errors.__file__).parent / "sources" / "task_html.sql"
    before, _, rest = shipped.read_text().partition("-- locate --")
    _, mark, after = rest.partition("-- holdings --")
    file = tmp_path / "mute.sql"
    file.write_text((before + mark + after).replace("name: task_html", "name: mute"))
    page = scene.due_page(HTML)
    told = "section locate: the file has no such"
    with (
        archive_of(scene, ARCHIVE_SOURCES=str(file)) as archive,
        pytest.raises(errors.SourceRefused, match=told),
    ):
        archive.open("mute", page.task_id)


def test_an_object_that_would_not_fit_is_refused_before_it_is_read(
    s3_scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("archiver.reading.OBJECT_LIMIT_BYTES", 50)
    page = s3_scene.due_page(HTML)
    assert len(page.body) > 50
    with archive_of(s3_scene) as archive:
        with pytest.raises(errors.ObjectTooLarge):
            archive.open("task_html", page.task_id)
        flip(s3_scene)
        with pytest.raises(errors.ObjectTooLarge):
            archive.open("task_html", page.task_id)


def test_a_bomb_is_told_by_content_and_nothing_else(s3_scene: Scene) -> None:
    page = s3_scene.due_page(bytes(2_000_000))
    flip(s3_scene)
    with archive_of(s3_scene) as archive:
        opened = archive.open("task_html", page.task_id)
    assert opened.read() == page.body
    with pytest.raises(errors.ContentBomb):
        opened.content(limit_bytes=1_000_000)


# --- from one bucket to another -------------------------------------------------------------


def test_a_source_of_ones_own_is_read_by_its_section(
    s3_scene: Scene, moto_url: str, tmp_path: Path
) -> None:
    """The avatars of docs/writing-a-source.md: hot on S3, its own cold bucket."""
    from tests.integration.test_writing_a_source import BLOCKS as FILES  # noqa: PLC0415

    client = client_of(moto_url)
    for bucket in ("avatars", "avatars-archive"):
        empty(client, bucket)
    picture = b"\x89PNG a picture"
    client.put_object(Bucket="avatars", Key="a.png", Body=picture)
    file = tmp_path / "avatars.sql"
    file.write_text(FILES["avatars.sql"])
    with psycopg.connect(s3_scene.database_url, autocommit=True) as db:
        db.execute(FILES["schema"].encode())
        db.execute(
            "insert into avatars (id, replaced_at, bucket, path) "
            "values ('a', now() - interval '40 days', 'avatars', 'a.png')"
        )
    s3_scene.settings |= {
        "ARCHIVE_SOURCES": str(file),
        "ARCHIVE_HOT_ENDPOINT": moto_url,
        "ARCHIVE_HOT_ACCESS_KEY_ID": "hot-id",
        "ARCHIVE_HOT_SECRET_ACCESS_KEY": "hot-secret",
        "ARCHIVE_SOURCE__AVATARS__RELEASE_GRACE": "0s",
    }
    with archive_of(s3_scene) as archive:
        for bucket in ("avatars", "avatars-archive"):
            opened = archive.open("avatars", "a")
            assert (opened.content(), opened.where.bucket) == (picture, bucket)
            assert opened.content_type == "image/png"
            link = archive.url("avatars", "a", A_MINUTE)
            assert fetched(link.url) == (200, picture)
            flip(s3_scene)
    assert peek(client, "avatars", "a.png") is None
