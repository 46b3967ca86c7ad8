"""The engine on real stores and a real ledger, one call at a time: a race is put between two.

Workers run the real engine in a stepping pool, on stores and a ledger that are opened as the
program opens them. Every call that crosses a contract passes a `Script`
(`tests/unit/engine/world.py`), so a test may put something between any two of them. What lies
where is looked at with none of our code.
"""

from __future__ import annotations

import gzip
import hashlib
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, cast

import pytest

from archiver.config import Settings
from archiver.engine.copies import Stores
from archiver.engine.egress import FREE
from archiver.engine.evidence import demanded_evidence
from archiver.engine.lease import Heartbeat
from archiver.engine.move import Mover
from archiver.engine.parts import PartSender
from archiver.engine.release import Releaser
from archiver.engine.run import Run, SweepPlan
from archiver.engine.sweep import Sweep
from archiver.engine.width import FixedWidth
from archiver.ledger.postgres import PostgresLedger
from archiver.model import ColdPlace, HotLocation
from archiver.opening import (
    find_capabilities,
    ledger_settings,
    open_cold,
    open_hot,
    open_source,
    shared_bucket,
)
from archiver.ops.clock import SystemClock
from archiver.stores.pace import Pace
from tests.fakes.pool import SteppingPool
from tests.unit.engine.world import Script, _Between, _BetweenHot

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from archiver.engine.pool import Pool
    from archiver.events import Event
    from archiver.model import Summary
    from archiver.protocols import (
        ArchiveSource,
        Claims,
        ColdStore,
        HotStore,
        Releases,
        Stamps,
        Uploads,
    )
    from tests.harness.hover import Hover, Page
    from tests.harness.sides import Side

SMALL = {"verify_group": 2, "record_group": 2, "release_slice": 2}
_FINISHING_SWEEPS = 8  # what failed for a row that has changed since is tried three times


class Racer:
    """One worker with a ledger, stores and a lease of its own."""

    def __init__(self, world: RacingWorld, script: Script, pool: Pool | None = None) -> None:
        self._world = world
        self._open = ExitStack()
        self.script = script
        self.events: list[Event] = []
        self.clock = SystemClock()
        self.ledger = PostgresLedger(ledger_settings(world.settings), self.clock)
        self._open.enter_context(self.ledger)
        self.source: ArchiveSource = open_source(world.settings.of_sources[0])
        self.heartbeat = Heartbeat(self.ledger.fleet, self.clock)
        self.pool: Pool = pool or SteppingPool(self.clock)
        worker = cast("Any", self)
        claims, releases = self.ledger.claims(self.source), self.ledger.releases(self.source)
        self.claims = cast("Claims", _Between(claims, "claims", worker))
        self.releases = cast("Releases", _Between(releases, "releases", worker))
        stamps = self.ledger.stamps(self.source.name)
        self.stamps = cast("Stamps", _Between(stamps, "stamps", worker))
        self._stores = world.open_stores(self.ledger, self._open)

    def sweep(self, **plan: Any) -> Summary:
        """One sweep without patience, in small groups unless the test says otherwise."""
        run = Run(
            source=self.source.name,
            claims=self.claims,
            releases=self.releases,
            spending=self.ledger.spending,
            stamps=self.stamps,
            uploads=self.ledger.uploads,
            place=self._world.place,
            pool=self.pool,
            heartbeat=self.heartbeat,
            clock=self.clock,
            observe=self.events.append,
            width=FixedWidth(plan.pop("concurrency", 2)),
            plan=SweepPlan(**{"batch_size": 10, **SMALL, **plan}),
        )
        return Sweep(run, self)(everything=True)

    def leave(self) -> None:
        """In good order."""
        self.ledger.fleet.leave()
        self.die()

    def die(self) -> None:
        """Its connections are cut; its lease runs on."""
        self._open.close()

    # --- its workshop ------------------------------------------------------------------------

    def stores(self) -> Stores:
        worker = cast("Any", self)
        return replace(
            self._stores,
            hot=cast("HotStore", _BetweenHot(self._stores.hot, "hot", worker)),
            cold=cast("ColdStore", _Between(self._stores.cold, "cold", worker)),
        )

    def mover(self) -> Mover:
        ledger_id = self.ledger.fleet.ledger_id
        stores = self.stores()
        uploads = cast("Uploads", _Between(self.ledger.uploads, "uploads", cast("Any", self)))
        sender = PartSender(
            stores.cold, uploads, self.heartbeat, self.clock, self.events.append
        )
        return Mover(stores, self.heartbeat, ledger_id, sender)

    def releaser(self) -> Releaser:
        delete_seconds = min(
            self._world.settings.timeout_seconds, self._world.settings.lease_seconds / 2
        )
        return Releaser(self.stores(), self.heartbeat, self.clock, delete_seconds)

    def hurry(self, seconds: float) -> None:
        """Nobody waits here."""


@dataclass
class Captured:
    """A page as the application last meant it to be."""

    page: Page
    body: bytes  # the last object it put there
    html: bytes  # what the row promises
    is_deleted: bool = False  # the row is


@dataclass
class RacingWorld:
    """Rows, two real stores, and what ought to be in them."""

    hover: Hover
    hot: Side
    cold: Side
    environ: Mapping[str, str]
    domain: int = field(init=False)
    captured: dict[str, Captured] = field(default_factory=dict)  # by task id

    def __post_init__(self) -> None:
        self.domain = self.hover.domain()
        self.settings = Settings.read(self.environ)

    @property
    def place(self) -> ColdPlace:
        settings = self.settings
        return ColdPlace(settings.provider_name, settings.bucket_name, settings.path_prefix)

    # --- the application ---------------------------------------------------------------------

    def job(self) -> str:
        """A job that has completed, after all others so far."""
        return self.hover.job(self.domain)

    def page(self) -> Page:
        """Of a job of its own, its object in hot."""
        page = self.hover.page(self.job(), html_storage_bucket=self.hot.bucket)
        self.hot.plant(HotLocation(self.hot.bucket, page.path), page.body)
        self.captured[page.task_id] = Captured(page, page.body, page.html)
        return page

    def put_object(self, page: Page, html: bytes) -> None:
        """Overwrite the object. What was there is nobody's concern any more."""
        body = gzip.compress(html, mtime=0)
        self.hot.plant(HotLocation(self.hot.bucket, page.path), body)
        self.captured[page.task_id].body = body

    def put_alike(self, page: Page) -> None:
        """Overwrite the object by another of the same size, and if that is a file, as old."""
        was = self.captured[page.task_id].body
        body = was[:-1] + bytes([was[-1] ^ 1])
        location = HotLocation(self.hot.bucket, page.path)
        self.hot.plant_as_old(location, body)
        self.captured[page.task_id].body = body

    def write_row(self, page: Page, html: bytes) -> None:
        """Let the row promise these bytes, at its hot path."""
        self.hover.update(
            "tasks",
            page.task_id,
            html_storage_bucket=self.hot.bucket,
            html_storage_path=page.path,
            html_size_bytes=len(html),
            html_compressed_size_bytes=len(gzip.compress(html, mtime=0)),
            html_sha256=hashlib.sha256(html).hexdigest(),
        )
        self.captured[page.task_id].html = html

    def delete_row(self, page: Page) -> None:
        self.hover.connection.execute("delete from tasks where id = %s", [page.task_id])
        self.captured[page.task_id].is_deleted = True

    # --- workers -----------------------------------------------------------------------------

    def racer(self, script: Script | None = None, pool: Pool | None = None) -> Racer:
        return Racer(self, script or Script(), pool)

    def open_stores(self, ledger: PostgresLedger, closing: ExitStack) -> Stores:
        settings = self.settings
        hot = open_hot(settings, settings.timeout_seconds, Pace())
        closing.callback(hot.close)
        capabilities, _ = find_capabilities(settings, ledger.fleet, Pace())
        cold = open_cold(settings, capabilities, Pace())
        closing.callback(cold.close)
        evidence = demanded_evidence(
            settings.evidence, capabilities, settings.provider_name, can_read_back=True
        )
        shared = shared_bucket(hot, cold, settings.bucket_name)
        return Stores(hot, cold, evidence, shared, FREE)

    def sweep(self, **plan: Any) -> Summary:
        """A worker that sweeps once and leaves."""
        racer = self.racer()
        try:
            summary = racer.sweep(**plan)
        finally:
            racer.leave()
        return summary

    def pass_time(self) -> None:
        """All leases have run out, all that waits is due."""
        for table, column in (("claim", "next_attempt_at"), ("release", "due_at")):
            self.hover.connection.execute(
                f"update archiver.{table} set {column} = now() where {column} > now()"
            )
        self.hover.connection.execute("update archiver.worker set lease_until = now()")

    def finish(self) -> None:
        """Whoever comes next, as often as it takes."""
        for _ in range(_FINISHING_SWEEPS):
            self.pass_time()
            if self.sweep().is_idle:
                return
        pytest.fail(f"never done: {self.in_motion()}")

    # --- what is -----------------------------------------------------------------------------

    def ask(self, query: str, *parameters: object) -> list[tuple[Any, ...]]:
        return self.hover.connection.execute(query.encode(), parameters).fetchall()

    def in_motion(self) -> list[tuple[Any, ...]]:
        """What the ledger has in its hands, or will take up by itself."""
        return self.ask(
            "select 'claim', state, id from archiver.claim where state <> 'parked' union all "
            "select 'release', reason, receipt_id::text from archiver.release "
            "where parked_at is null"
        )

    def parked(self) -> dict[str, str]:
        return dict(self.ask("select id, reason from archiver.claim where state = 'parked'"))

    def outcomes(self, page: Page) -> list[str]:
        return [
            outcome
            for (outcome,) in self.ask(
                "select o.outcome from archiver.outcome o join archiver.receipt r "
                "using (receipt_id) where r.id = %s order by r.receipt_id, o.at",
                page.task_id,
            )
        ]

    def is_hot(self, page: Page) -> bool:
        """Whether the last object that was put there is there."""
        return self.hot.read(page.path) == self.captured[page.task_id].body

    def is_archived(self, page: Page) -> bool:
        row = self.hover.row("tasks", page.task_id)
        return row["html_archive_key"] is not None and row["html_storage_path"] is None

    def troubles(self, *, unfinished: bool = False) -> list[str]:
        """What breaks the promises; empty in every world that is well.

        `unfinished`: the application may be between its two writes, so that a row need not
        promise what lies where it points.
        """
        return [
            *self._unreachable(),
            *self._wrong_pointers(unfinished=unfinished),
            *self._doubled(),
            *self._damaged_copies(),
        ]

    def _unreachable(self) -> Iterator[str]:
        """The last object of each page is hot, or under a receipt in cold."""
        for id_, it in self.captured.items():
            if self.hot.read(it.page.path) != it.body and not self._has_receipt(id_, it.body):
                yield f"unreachable: {id_}"

    def _has_receipt(self, id_: str, body: bytes) -> bool:
        found = self.ask(
            "select cold_key from archiver.archived where id = %s and digest = %s "
            "and evidence > 0",
            id_,
            hashlib.sha256(body).digest(),
        )
        return any(self.cold.read(key) == body for (key,) in found)

    def _wrong_pointers(self, *, unfinished: bool) -> Iterator[str]:
        for id_, it in self.captured.items():
            if it.is_deleted:
                continue
            row = self.hover.row("tasks", id_)
            if row["html_storage_path"] is not None:
                body = self.hot.read(row["html_storage_path"])
                if body is None or (not unfinished and not _is(body, it.html)):
                    yield f"points at something else in hot: {id_}"
            else:
                body = self.cold.read(row["html_archive_key"])
                digest = row["html_sha256"]
                if body is None or _content_digest(body) != digest:
                    yield f"points at something else in cold: {id_}"
                elif not self._has_receipt(id_, body):
                    yield f"flipped without a receipt: {id_}"

    def _doubled(self) -> Iterator[str]:
        for id_, count in self.ask(
            "select id, count(*) from archiver.receipt group by id, digest having count(*) > 1"
        ):
            yield f"{count} receipts for the same bytes of {id_}"
        for receipt_id, count in self.ask(
            "select receipt_id, count(*) from archiver.outcome group by receipt_id "
            "having count(*) > 1"
        ):
            yield f"receipt {receipt_id} ended {count} times"

    def _damaged_copies(self) -> Iterator[str]:
        for id_, key, digest in self.ask("select id, cold_key, digest from archiver.archived"):
            body = self.cold.read(key)
            if body is None or hashlib.sha256(body).digest() != bytes(digest):
                yield f"the copy of {id_} at {key} is not what its receipt says"

    def forget(self) -> None:
        """The pages so far are done: let the next race begin with an empty table."""
        for table in ("outcome", "release", "receipt", "claim"):
            self.hover.connection.execute(f"delete from archiver.{table}")
        self.hover.connection.execute("delete from tasks")
        self.hover.connection.execute("delete from pages")
        self.hover.connection.execute("delete from jobs")
        self.captured.clear()


def _content_digest(body: bytes) -> str:
    try:
        return hashlib.sha256(gzip.decompress(body)).hexdigest()
    except gzip.BadGzipFile:
        return "unreadable"


def _is(body: bytes, html: bytes) -> bool:
    return _content_digest(body) == hashlib.sha256(html).hexdigest()


@contextmanager
def racing_world(
    hover: Hover, url: str, hot: Side, cold: Side, **settings: str
) -> Iterator[RacingWorld]:
    """Nothing is kept hot by age or place, grace is over at once."""
    environ = {
        **hot.hot_settings,
        **cold.cold_settings,
        "ARCHIVE_DATABASE_URL": url,
        "ARCHIVE_RELEASE_GRACE": "0s",
        "ARCHIVE_RETENTION_JOBS": "0",
        "ARCHIVE_RETRY_BASE": "10m",  # one try a sweep: `pass_time` makes the next one due
        "ARCHIVE_TIMEOUT": "20s",
        "ARCHIVE_LEASE": "1h",  # nobody beats: `pass_time` ends it
        **settings,
    }
    yield RacingWorld(hover, hot, cold, environ)
