"""One worker, two sources, fifty sweeps: pages and pictures come in while it runs.

Pages go from the Supabase stand-in to one bucket of a real S3 server, pictures by the file of
docs/writing-a-source.md from S3 to another. In the middle the pages' hot store is down for a
while. What ran, in which order and how much at once is read from the ledger afterwards.
"""

from __future__ import annotations

import itertools
import re
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.harness.command import archiver
from tests.harness.hover import BUCKET
from tests.harness.sides import SupabaseSide, s3_side
from tests.harness.worker import running_worker

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mypy_boto3_s3 import S3Client

    from tests.harness.hover import Hover, Page
    from tests.harness.sides import S3Side
    from tests.harness.versitygw import S3Server
    from tests.harness.worker import WorkerProcess
    from tests.standin.supabase import SupabaseStandIn

SWEEPS = 50
BACKLOG = 60  # pages there are when it starts
LIMIT = 20  # objects a sweep
OUTAGE = (15, 25)  # the sweeps of pages between which their hot store is down
BOUND_SECONDS = 240.0  # it takes about a minute

_GUIDE = Path(__file__).parents[2] / "docs" / "writing-a-source.md"
_BLOCKS = dict(
    re.findall(r"^```sql (\S+)\n(.*?)^```$", _GUIDE.read_text(), re.DOTALL | re.MULTILINE)
)


@dataclass(frozen=True)
class Progress:
    """How many are archived."""

    pages: int
    pictures: int


@dataclass
class Application:
    """It captures pages and replaces pictures; archiving is not its business."""

    hover: Hover
    supabase: SupabaseStandIn
    s3: S3Client
    cold: S3Side
    settings: dict[str, str]
    pages: list[Page] = field(default_factory=list)
    pictures: dict[str, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.domain = self.hover.domain()

    def capture(self) -> None:
        page = self.hover.page(self.hover.job(self.domain))
        self.supabase.plant(BUCKET, page.path, page.body)
        self.pages.append(page)

    def replace_picture(self) -> None:
        id_ = f"picture-{len(self.pictures):03d}"
        body = b"\x89PNG " + id_.encode() * 50
        self.s3.put_object(Bucket="avatars", Key=f"{id_}.png", Body=body)
        self.hover.connection.execute(
            "insert into avatars (id, replaced_at, bucket, path, sha256) "
            "values (%s, now() - interval '40 days', 'avatars', %s, %s)",
            [id_, f"{id_}.png", sha256(body).hexdigest()],
        )
        self.pictures[id_] = body

    def ask(self, query: str, *parameters: object) -> list[tuple[Any, ...]]:
        return self.hover.connection.execute(query.encode(), parameters).fetchall()

    def sweeps_count(self, source: str) -> int:
        return len(self.ended(source))

    def ended(self, source: str) -> list[tuple[Any, ...]]:
        """When each sweep began and ended, and its counts, in their order."""
        return self.ask(
            "select started_at, ended_at, summary from archiver.sweep "
            "where source = %s and ended_at is not null order by sweep_id",
            source,
        )

    def archived(self, source: str) -> list[str]:
        """Ids in the order of their receipts."""
        rows = self.ask(
            "select id from archiver.receipt where source = %s order by receipt_id", source
        )
        return [id_ for (id_,) in rows]

    def progress(self) -> Progress:
        return Progress(len(self.archived("task_html")), len(self.archived("avatars")))

    def is_all_archived(self) -> bool:
        return self.progress() == Progress(len(self.pages), len(self.pictures))


@pytest.fixture
def application(
    hover_url: str,
    hover: Hover,
    supabase: SupabaseStandIn,
    s3_server: S3Server,
    tmp_path: Path,
) -> Iterator[Application]:
    hover.connection.execute(_BLOCKS["schema"].encode())
    file = tmp_path / "avatars.sql"
    file.write_text(_BLOCKS["avatars.sql"])
    with ExitStack() as opened:
        cold = opened.enter_context(s3_side(s3_server))
        for bucket in ("avatars", "avatars-archive"):
            cold.client.create_bucket(Bucket=bucket)
        settings = {
            **SupabaseSide(supabase).hot_settings,
            **cold.cold_settings,
            **{name: text for name, text in cold.hot_settings.items() if name != "ARCHIVE_HOT"},
            "ARCHIVE_DATABASE_URL": hover_url,
            "ARCHIVE_SOURCES": f"task_html,{file}",
            "ARCHIVE_RETENTION_JOBS": "0",
            "ARCHIVE_RELEASE_GRACE": "0s",
            "ARCHIVE_RETRY_BASE": "500ms",
            "ARCHIVE_RETRY_MAX": "500ms",
            "ARCHIVE_MAX_ATTEMPTS": "100",
            "ARCHIVE_MAX_OBJECTS": str(LIMIT),
            "ARCHIVE_CONCURRENCY": "4",
        }
        for source in ("task_html", str(file)):
            migrated = archiver(settings, "migrate", "--source", source)
            assert migrated.exit_code == 0, migrated.stderr
        yield Application(hover, supabase, cold.client, cold, settings)


def _live(application: Application, worker: WorkerProcess) -> None:
    """Capture and replace, twice a second, until both sources were swept often enough."""
    supabase = application.supabase
    deadline = time.monotonic() + BOUND_SECONDS
    down, done = None, Progress(0, 0)
    for turn in itertools.count():
        sweeps_count = application.sweeps_count("task_html")
        if down is None and sweeps_count >= OUTAGE[0]:
            down = supabase.on("any", times=None, status=503, body={"message": "down"})
        elif down is not None and down.times is None and sweeps_count == OUTAGE[0] + 3:
            done = application.progress()  # what was in flight has come home
        elif down is not None and down.times is None and sweeps_count >= OUTAGE[1]:
            now = application.progress()
            assert (now.pages, now.pictures > done.pictures) == (done.pages, True)
            down.times = 0  # it is back
        if min(sweeps_count, application.sweeps_count("avatars")) >= SWEEPS:
            break
        application.capture()
        if turn % 2:
            application.replace_picture()
        assert worker.process.poll() is None, worker.log.read_text()[-5000:]
        assert time.monotonic() < deadline, worker.log.read_text()[-5000:]
        time.sleep(0.5)
    worker.until(application.is_all_archived)


def test_fifty_sweeps_of_two_sources_with_one_store_down_for_a_while(
    application: Application, tmp_path: Path
) -> None:
    for _ in range(BACKLOG):
        application.capture()
    backlog = [page.task_id for page in application.pages]

    with running_worker(application.settings, tmp_path) as worker:
        _live(application, worker)
        worker.until(
            lambda: (
                not application.ask("select 1 from archiver.release where source = 'task_html'")
            )
        )
        assert worker.stop() == 0

    # All due objects are archived, once, and stand where their rows say.
    assert sorted(application.archived("task_html")) == sorted(
        page.task_id for page in application.pages
    )
    assert sorted(application.archived("avatars")) == sorted(application.pictures)
    assert [] == application.ask("select id from archiver.claim")
    for page in application.pages:
        row = application.hover.row("tasks", page.task_id)
        assert application.cold.read(row["html_archive_key"]) == page.body
        assert row["html_storage_path"] is None
    assert set() == set(application.supabase.names(BUCKET))
    for id_, bucket, key in application.ask(
        "select id, archive_bucket, archive_key from avatars"
    ):
        stored = application.s3.get_object(Bucket=bucket, Key=key)["Body"].read()
        hot = application.s3.get_object(Bucket="avatars", Key=f"{id_}.png")["Body"].read()
        assert (bucket, stored, hot) == ("avatars-archive",) + (application.pictures[id_],) * 2
    assert [(3,)] == application.ask(
        "select distinct evidence from archiver.receipt where source = 'avatars'"
    )

    # The oldest first, sweep by sweep (four at once overtake each other within one), and never
    # more at once than was allowed.
    archived = application.archived("task_html")
    for start in range(0, BACKLOG, LIMIT):
        assert set(archived[start : start + LIMIT]) == set(backlog[start : start + LIMIT])
    for source in ("task_html", "avatars"):
        summaries = [summary for *_, summary in application.ended(source)]
        assert len(summaries) >= SWEEPS
        assert max(summary["archived"] for summary in summaries) <= LIMIT
    assert application.ended("task_html")[0][2]["stopped"] == "limit"

    # One after another, all by one worker, and no fault but the outage.
    spans = sorted(application.ended("task_html") + application.ended("avatars"), key=_began)
    assert all(one[1] <= later[0] for one, later in itertools.pairwise(spans))
    assert [(1,)] == application.ask("select count(distinct worker_id) from archiver.sweep")
    assert worker.told("store breaker opened") or worker.told("object not archived")
    assert {"avatars"}.isdisjoint(line["source"] for line in worker.told("object not archived"))
    assert [] == worker.told("object parked") + worker.told("this is a bug")


def _began(span: tuple[Any, ...]) -> Any:
    return span[0]
