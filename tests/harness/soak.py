"""Real workers, struck at any moment of their protocol, again and again; then what is left.

    make soak ROUNDS=400 SEED=1

A round plants some pages and pictures, starts a worker, and strikes it when the nth turn of a
drawn number has come to one of its three servers (see `wire`): so moments are spread over
the whole protocol, not over time. Up to four rounds make a chain, each on top of what the
one before left; then a fresh worker finishes, and everything is counted. The seed of a chain
says all about it: SEED=s begins with that chain.
"""

from __future__ import annotations

import enum
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from uuid import uuid4

import obstore
import psycopg
from obstore.store import S3Store

from archiver.demo.interrupts import Interrupts
from archiver.demo.postgres import EmbeddedPostgres
from tests.harness.command import environment
from tests.harness.hover import Hover, create_hover
from tests.harness.versitygw import running_s3_server
from tests.harness.wire import How, Wire
from tests.standin.supabase import SERVICE_KEY, SupabaseStandIn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from tests.harness.versitygw import S3Server

PAGES = 10  # planted by each round
PICTURES = 5
ROUNDS_PER_CHAIN = 4  # what killed five workers is tried alone and parked: no chain is longer
_OF_A_PROBE = ".archiver/probe-"
_PROBES_CUT_OFF = 2  # by one chain of strikes, at most
BOUND_SECONDS = 90.0  # for what takes two, on a machine that is busy

# What a round costs its servers, measured: moments are drawn from these.
_TURNS = {"database": 75, "hot": 24, "cold": 44}
_LOOK_SECONDS = 0.02
LEASE_SECONDS = 1.0

_PICTURES = """\
create table pictures (
    id text primary key, made_at timestamptz not null, bucket text, path text,
    sha256 text, cold_key text
);
create index on pictures (made_at, id) where cold_key is null;
create index on pictures (bucket, path);
"""
_SOURCE = """\
-- name: pictures
-- cold_key: pictures/{id}.png

-- candidates --
select id, made_at as due_at, bucket as hot_bucket, path as hot_path, sha256 as digest
from pictures
where (made_at, id) > (:after_due_at, :after_id) and cold_key is null
order by made_at, id
limit :limit;

-- archived --
with held as (
    select pictures.id, receipt.cold_key
    from pictures join receipt using (id)
    where path = hot_path
    order by id for no key update of pictures
)
update pictures set cold_key = held.cold_key, path = null from held where held.id = pictures.id
returning pictures.id;

-- points_at --
select hot_bucket, hot_path from location
where exists (select from pictures where bucket = hot_bucket and path = hot_path);
"""


_CLEAR = """\
with claims as (delete from archiver.claim), releases as (delete from archiver.release),
    pages as (delete from tasks)
delete from pictures returning id
"""


class Strike(enum.Enum):
    """What becomes of a worker."""

    KILL = "kill"
    KILL_SCHEDULED = "kill of a scheduled worker"
    KILL_BESIDE = "kill of one of two"
    TERMINATE = "SIGTERM"
    FREEZE = "SIGSTOP"  # past its lease, while another one works; then it goes on
    DATABASE = "database"  # the postmaster is killed, and started again


_STRIKES = {
    Strike.KILL: 60,
    Strike.KILL_SCHEDULED: 10,
    Strike.KILL_BESIDE: 12,
    Strike.TERMINATE: 6,
    Strike.FREEZE: 6,
    Strike.DATABASE: 6,
}


_KILLS = {Strike.KILL, Strike.KILL_SCHEDULED, Strike.KILL_BESIDE}


class Reach(enum.Enum):
    """How far the turn gets at which it happens; without a kill, it is only held."""

    UNSENT = "unsent"  # its server never sees it
    LATE = "late"  # it arrives after its sender is gone
    UNHEARD = "unheard"  # it takes effect, and nobody hears the answer


@dataclass(slots=True)
class Figures:
    rounds: int = 0
    struck: dict[str, int] = field(default_factory=dict)
    missed: int = 0  # the worker had finished before its moment
    objects: int = 0
    lost: int = 0
    duplicated: int = 0
    leaked: int = 0

    @property
    def kills(self) -> int:
        return sum(count for what, count in self.struck.items() if what.startswith("kill"))

    def __str__(self) -> str:
        others = ", ".join(
            f"{count} {what}"
            for what, count in sorted(self.struck.items())
            if not what.startswith("kill")
        )
        return (
            f"{self.rounds} rounds, {self.kills} kills, {others or 'nothing else'}, "
            f"{self.missed} missed, {self.objects} objects: "
            f"{self.lost} lost, {self.duplicated} duplicated, {self.leaked} leaked"
        )


@dataclass(frozen=True, slots=True)
class Planted:
    source: str
    id: str
    hot_bucket: str
    hot_path: str
    body: bytes = field(repr=False)
    cold_key: str


@dataclass(slots=True)
class Process:
    """One worker; it ends by its pid."""

    child: subprocess.Popen[bytes]
    out: Path
    log: Path

    def ended(self) -> int:
        return self.child.wait(BOUND_SECONDS)

    @property
    def has_ended(self) -> bool:
        return self.child.poll() is not None

    def words(self) -> str:
        return self.log.read_text()

    @property
    def summary(self) -> Mapping[str, Any]:
        return dict(json.loads(self.out.read_text()))


class Soak:
    """The servers and their wires, for as many chains as one likes."""

    def __init__(self, postgres: EmbeddedPostgres, s3: S3Server, folder: Path) -> None:
        self.figures = Figures()
        self._postgres, self._s3, self._folder = postgres, s3, folder
        self._url = postgres.create_database("soak")
        create_hover(self._url)
        with psycopg.connect(self._url, autocommit=True) as connection:
            connection.execute(_PICTURES.encode())
        (folder / "pictures.sql").write_text(_SOURCE)
        self._client = s3.client()

    @classmethod
    @contextmanager
    def opened(cls) -> Iterator[Self]:
        with (
            tempfile.TemporaryDirectory(prefix="archiver-soak-") as folder,
            EmbeddedPostgres() as postgres,
            running_s3_server() as s3,
        ):
            yield cls(postgres, s3, Path(folder))

    def chain(self, seed: int, rounds: int = ROUNDS_PER_CHAIN) -> None:
        """Up to four rounds and the end of them.

        Raises:
            AssertionError: With the seed, and what was lost, duplicated or leaked.
        """
        try:
            with self.begun(seed) as chain:
                for _ in range(min(rounds, ROUNDS_PER_CHAIN)):
                    chain.round()
                chain.finish()
        except Exception as error:
            error.add_note(f"chain: make soak SEED={seed} ROUNDS={rounds}")
            raise

    @contextmanager
    def begun(self, seed: int, *, hot: str | None = None, **settings: str) -> Iterator[Chain]:
        """Hot is `supabase` or `s3`, else drawn; so is what these settings do not say."""
        rng = random.Random(seed)  # noqa: S311 - reproducible
        hot = hot or rng.choice(["supabase", "s3"])
        with ExitStack() as opened:
            standin = opened.enter_context(SupabaseStandIn()) if hot == "supabase" else None
            s3_port = int(self._s3.endpoint.rpartition(":")[2])
            hot_port = s3_port if standin is None else int(standin.url.rpartition(":")[2])
            wires = {
                "database": opened.enter_context(Wire(self._postgres.port)),
                "hot": opened.enter_context(Wire(hot_port)),
                "cold": opened.enter_context(Wire(s3_port)),
            }
            folder = Path(opened.enter_context(tempfile.TemporaryDirectory(dir=self._folder)))
            (folder / "tmp").mkdir()
            chain = Chain(self, rng, standin, wires, folder, settings)
            opened.callback(chain.end_processes)
            try:
                yield chain
            except BaseException:
                self.ask(_CLEAR)  # so that no later chain trips over this one
                raise

    # --- what the chains share ----------------------------------------------------------------

    @property
    def postgres(self) -> EmbeddedPostgres:
        return self._postgres

    @property
    def s3(self) -> S3Server:
        return self._s3

    @property
    def url(self) -> str:
        return self._url

    @property
    def source_file(self) -> Path:
        return self._folder / "pictures.sql"

    def ask(self, query: str, *parameters: object) -> list[tuple[Any, ...]]:
        """On a connection of its own: the server may have been away."""
        with psycopg.connect(self._url, autocommit=True) as connection:
            return connection.execute(query.encode(), parameters).fetchall()

    def restart_database(self) -> None:
        """After a kill: as soon as the last orphan has let go of what they shared."""
        until(lambda: _started(self._postgres), "Postgres starts again")

    def open_uploads(self, bucket: str) -> list[str]:
        found = self._client.list_multipart_uploads(Bucket=bucket).get("Uploads", [])
        return [upload["Key"] for upload in found]


class Chain:
    """Some rounds over buckets of their own."""

    def __init__(
        self,
        soak: Soak,
        rng: random.Random,
        standin: SupabaseStandIn | None,
        wires: Mapping[str, Wire],
        folder: Path,
        settings: Mapping[str, str],
    ) -> None:
        self._soak, self._rng, self._standin, self._wires = soak, rng, standin, wires
        self._folder = folder
        self._planted: list[Planted] = []
        self._processes: list[Process] = []
        self._hot_bucket = soak.s3.new_bucket()
        self._cold_bucket = soak.s3.new_bucket()
        if standin is not None:
            standin.create_bucket(self._hot_bucket)
        self._hot, self._cold = self._store(self._hot_bucket), self._store(self._cold_bucket)
        self._settings = self._chosen_settings() | dict(settings)

    # --- one round ----------------------------------------------------------------------------

    def round(self) -> None:
        rng = self._rng
        (strike,) = rng.choices(list(_STRIKES), list(_STRIKES.values()))
        place = rng.choice(list(_TURNS))
        number, reach = rng.randint(1, _TURNS[place]), rng.choice(list(Reach))
        self.strike(strike, place, number, reach)

    def strike(self, strike: Strike, place: str, number: int, reach: Reach) -> bool:
        """Plant, start, strike at that turn of that server; False: the worker was faster."""
        figures = self._soak.figures
        self.plant()
        figures.rounds += 1
        for wire in self._wires.values():
            wire.forget()
        is_scheduled = strike is Strike.KILL_SCHEDULED
        struck: list[Process] = []  # of one, once it is started; no turn comes before
        fired = self._wires[place].at(
            lambda turn: turn.number >= number,
            lambda: self._hit(struck[0], strike),
            is_answered=reach is Reach.UNHEARD,
            is_drop=reach is Reach.UNSENT and strike in _KILLS,
        )
        struck.append(self.start(is_scheduled=is_scheduled))
        beside = self.start() if strike is Strike.KILL_BESIDE else None
        worker = struck[0]
        until(
            lambda: fired.is_set() or worker.has_ended or (is_scheduled and self._is_idle()),
            "the moment comes, or the worker ends",
        )
        is_struck = fired.is_set() and not _was_faster(worker, strike)
        if is_struck:
            figures.struck[strike.value] = figures.struck.get(strike.value, 0) + 1
            self._after(strike, worker)
        else:
            figures.missed += 1
            if is_scheduled:
                worker.child.terminate()
                assert worker.ended() == 0, worker.words()
            else:
                self.require_said_so(worker, worker.ended())
        if beside is not None:
            self.require_said_so(beside, beside.ended())
        for wire in self._wires.values():
            wire.forget()
        self._count_lost()
        return is_struck

    def _hit(self, worker: Process, strike: Strike) -> None:
        """On the wire's thread, while the turn is held."""
        match strike:
            case Strike.KILL | Strike.KILL_SCHEDULED | Strike.KILL_BESIDE:
                worker.child.kill()
                worker.child.wait()
            case Strike.TERMINATE:
                worker.child.terminate()
            case Strike.FREEZE:
                worker.child.send_signal(signal.SIGSTOP)
            case Strike.DATABASE:
                pid = self._soak.postgres.pid
                assert pid is not None
                os.kill(pid, signal.SIGKILL)

    def _after(self, strike: Strike, worker: Process) -> None:
        match strike:
            case Strike.KILL | Strike.KILL_SCHEDULED | Strike.KILL_BESIDE:
                pass  # whoever comes next takes its claims over
            case Strike.TERMINATE:
                code = worker.ended()
                self.require_said_so(worker, code)
                if code in (0, 130):
                    self._count("leaked", self._held_by_the_living())
            case Strike.FREEZE:
                other = self.start()
                self.require_said_so(other, other.ended())
                self.thaw(worker)
            case Strike.DATABASE:
                self._soak.restart_database()
                self.require_said_so(worker, worker.ended())

    def require_said_so(self, worker: Process, code: int) -> None:
        """It ended by itself, and its exit code, its summary and its words agree."""
        words = worker.words()
        assert "Traceback" not in words, words
        assert code in (0, 1, 3, 130), words
        summary = worker.summary
        if code == 3:
            assert (summary["state"], bool(summary["error"])) == ("fatal", True), summary
        if code == 1:
            is_left = summary["waiting"] or summary["parked"]
            assert is_left or (summary["stopped"], bool(summary["error"])) == (
                "failures",
                True,
            ), summary
        if code == 0:
            assert summary["state"] == "done", summary
        assert words or code in (0, 130), summary

    # --- one behind a network that fails ------------------------------------------------------

    def fail_network(self, place: str, how: How, number: int) -> int:
        """Let the way to one server fail at that turn, until the worker has ended: its code.

        At turn 0 it fails before anybody connects.
        """
        self.plant()
        wire = self._wires[place]
        wire.forget()
        fired = wire.at(lambda turn: turn.number >= number, lambda: wire.fail(how))
        if number == 0:
            wire.forget()
            wire.fail(how)
        worker = self.start()
        code = worker.ended()
        assert fired.is_set() or number == 0, "the fault did not fire"
        assert wire.connections_count or how is How.REFUSED, "nobody came by"
        wire.mend()
        self.require_said_so(worker, code)
        self._count_lost()
        return code

    def outlast_network(self, place: str, how: How, number: int) -> None:
        """The same under a scheduled worker: it says so, goes on, and does what is left."""
        self.plant()
        wire = self._wires[place]
        wire.forget()
        fired = wire.at(lambda turn: turn.number >= number, lambda: wire.fail(how))
        worker = self.start(is_scheduled=True)
        until(lambda: fired.is_set() and _has_said_so(worker), "it says so")
        wire.mend()
        until(lambda: worker.has_ended or self._is_idle(), "it does what is left")
        worker.child.terminate()
        assert worker.ended() == 0, worker.words()
        assert "Traceback" not in worker.words()

    # --- one frozen at a statement ------------------------------------------------------------

    def freeze_at(self, words: bytes) -> Process:
        """Start a worker, and stop it when the database has answered that statement."""
        frozen: list[Process] = []
        fired = self._wires["database"].at(
            lambda turn: words in turn.data,
            lambda: frozen[0].child.send_signal(signal.SIGSTOP),
            is_answered=True,
        )
        frozen.append(self.start())
        until(fired.is_set, "the worker says that")
        return frozen[0]

    def thaw(self, frozen: Process) -> None:
        frozen.child.send_signal(signal.SIGCONT)
        self.require_said_so(frozen, frozen.ended())

    # --- the end of a chain -------------------------------------------------------------------

    def finish(self) -> None:
        """A fresh worker does what is left, and nothing is lost, doubled or left lying.

        It has a lease that a busy machine does not take from it.
        """
        last = self.start(changes={"ARCHIVE_LEASE": "60s"})
        code = last.ended()
        assert (code, last.summary["parked"]) == (0, 0), last.words()
        self._soak.figures.objects += len(self._planted)
        self._count_lost()
        self._count("lost", self._not_archived())
        self._count("duplicated", self._not_once_receipted())
        self._count("leaked", [*self._left_hot(), *self._orphans(), *self._in_motion()])
        until(lambda: not self._leases(), "the leases of the killed run out")
        temporary = [str(path) for path in (self._folder / "tmp").iterdir()]
        uploads = self._soak.open_uploads(self._cold_bucket)
        # A probe that is cut off leaves one of its own (docs/guarantees.md, not promised).
        probes = [key for key in uploads if _OF_A_PROBE in key]
        objects = [key for key in uploads if _OF_A_PROBE not in key]
        self._count("leaked", [*objects, *probes[_PROBES_CUT_OFF:], *temporary])

    @property
    def planted_count(self) -> int:
        return len(self._planted)

    def end_processes(self) -> None:
        for process in self._processes:
            if not process.has_ended:
                process.child.kill()
                process.child.wait()

    def _count(self, what: str, found: list[Any]) -> None:
        """Add to a figure that must stay zero."""
        figures = self._soak.figures
        setattr(figures, what, getattr(figures, what) + len(found))
        assert not found, f"{what}: {found}"

    def _count_lost(self) -> None:
        """Objects whose row leads to no bytes, or to wrong ones: never may there be any."""
        pointers = self._pointers()
        self._count(
            "lost",
            [it for it in self._planted if self._body(it, pointers[it.id]) != it.body],
        )

    def _pointers(self) -> dict[str, tuple[str | None, str | None]]:
        """By id: the hot path, and the cold key where there is none."""
        found = self._soak.ask(
            "select id, html_storage_path, html_archive_key from tasks where id = any(%s) "
            "union all select id, path, cold_key from pictures where id = any(%s)",
            *[[it.id for it in self._planted]] * 2,
        )
        return {id_: (path, key) for id_, path, key in found}

    def _body(self, planted: Planted, pointer: tuple[str | None, str | None]) -> bytes | None:
        path, key = pointer
        if path is not None:
            if self._standin is not None:
                return self._standin.peek(planted.hot_bucket, path)
            return _get(self._hot, path)
        return None if key is None else _get(self._cold, key)

    def _not_archived(self) -> list[str]:
        pointers = self._pointers()
        return [id_ for id_, (path, key) in pointers.items() if path is not None or key is None]

    def _not_once_receipted(self) -> list[Any]:
        """Ids whose receipts are not one, with the digest of what was planted."""
        found: dict[str, list[bytes]] = {it.id: [] for it in self._planted}
        for id_, digest in self._soak.ask(
            "select id, digest from archiver.receipt where id = any(%s)", list(found)
        ):
            found[id_].append(bytes(digest))
        return [
            (it.id, found[it.id])
            for it in self._planted
            if found[it.id] != [sha256(it.body).digest()]
        ]

    def _left_hot(self) -> list[str]:
        if self._standin is not None:
            return self._standin.names(self._hot_bucket)
        return [it["path"] for page in obstore.list(self._hot) for it in page]

    def _orphans(self) -> list[str]:
        """What is in cold and should not be, or should and is not."""
        names = {it["path"] for page in obstore.list(self._cold) for it in page}
        ours = {name for name in names if name.startswith(".archiver/")}
        return sorted((names - ours) ^ {it.cold_key for it in self._planted})

    def _in_motion(self) -> list[Any]:
        return self._soak.ask(
            "select 'claim', id from archiver.claim union all "
            "select 'release', receipt_id::text from archiver.release"
        )

    def _leases(self) -> list[Any]:
        return self._soak.ask(
            "select worker_id from archiver.worker "
            "where left_at is null and lease_until > clock_timestamp()"
        )

    def _held_by_the_living(self) -> list[Any]:
        """Who left holds nothing; what the killed of earlier rounds held is free."""
        return self._soak.ask(
            "select id from archiver.claim c join archiver.worker w using (worker_id) "
            "where c.state = 'claimed' and w.left_at is not null"
        )

    def _is_idle(self) -> bool:
        return not self._in_motion() and not self._not_archived()

    # --- what is planted ----------------------------------------------------------------------

    def plant(self) -> None:
        rng = self._rng
        with psycopg.connect(self._soak.url, autocommit=True) as connection:
            hover = Hover(connection)
            job = hover.job(hover.domain())
            for _ in range(PAGES):
                html = rng.randbytes(rng.randint(10, 20_000))
                page = hover.page(job, html, html_storage_bucket=self._hot_bucket)
                key = page.cold_key
                self._plant_one("task_html", page.task_id, page.path, page.body, key)
            for _ in range(PICTURES):
                id_ = f"picture-{uuid4()}"
                body = rng.randbytes(rng.randint(1, 5_000))
                path = f"{id_}.png"
                connection.execute(
                    "insert into pictures (id, made_at, bucket, path, sha256) "
                    "values (%s, now(), %s, %s, %s)",
                    [id_, self._hot_bucket, path, sha256(body).hexdigest()],
                )
                self._plant_one("pictures", id_, path, body, f"pictures/{id_}.png")

    def _plant_one(self, source: str, id_: str, path: str, body: bytes, key: str) -> None:
        if self._standin is not None:
            self._standin.plant(self._hot_bucket, path, body)
        else:
            obstore.put(self._hot, path, body, use_multipart=False)
        self._planted.append(Planted(source, id_, self._hot_bucket, path, body, key))

    # --- the workers --------------------------------------------------------------------------

    def start(
        self, *, is_scheduled: bool = False, changes: Mapping[str, str] | None = None
    ) -> Process:
        """A worker, its first turn some tenths of a second away; `changes` to its settings."""
        number = len(self._processes)
        out, log = self._folder / f"{number}.out", self._folder / f"{number}.log"
        arguments = [] if is_scheduled else ["--once", "--json"]
        with out.open("wb") as stdout, log.open("wb") as stderr:
            child = subprocess.Popen(
                [sys.executable, "-m", "archiver", *arguments],
                env=environment(self._settings | dict(changes or {})),
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
            )
        process = Process(child, out, log)
        self._processes.append(process)
        return process

    def _chosen_settings(self) -> dict[str, str]:
        rng, s3, wires = self._rng, self._soak.s3, self._wires
        endpoints = {name: f"http://127.0.0.1:{wire.port}" for name, wire in wires.items()}
        behind, before = self._soak.postgres.port, wires["database"].port
        hot = {
            "ARCHIVE_HOT": "s3://",
            "ARCHIVE_HOT_ENDPOINT": endpoints["hot"],
            "ARCHIVE_HOT_REGION": s3.region,
            "ARCHIVE_HOT_ACCESS_KEY_ID": s3.access_key_id,
            "ARCHIVE_HOT_SECRET_ACCESS_KEY": s3.secret_access_key,
        }
        if self._standin is not None:
            hot = {
                "SUPABASE_URL": endpoints["hot"],
                "SUPABASE_SERVICE_ROLE_KEY": SERVICE_KEY,
            }
        return {
            **hot,
            "ARCHIVE_DATABASE_URL": self._soak.url.replace(f":{behind}/", f":{before}/"),
            "ARCHIVE_SOURCES": f"task_html,{self._soak.source_file}",
            "ARCHIVE_PROVIDER": "other",
            "ARCHIVE_BUCKET": self._cold_bucket,
            "ARCHIVE_ENDPOINT": endpoints["cold"],
            "ARCHIVE_REGION": s3.region,
            "ARCHIVE_ACCESS_KEY_ID": s3.access_key_id,
            "ARCHIVE_SECRET_ACCESS_KEY": s3.secret_access_key,
            "ARCHIVE_S3_CLIENT": "boto3" if rng.random() < 0.15 else "obstore",
            "ARCHIVE_EVIDENCE": rng.choice(["auto", "readback"]),
            "ARCHIVE_LEASE": f"{LEASE_SECONDS:.0f}s",
            "ARCHIVE_TIMEOUT": "5s",
            "ARCHIVE_RETENTION_JOBS": "0",
            "ARCHIVE_RELEASE_GRACE": "0s",
            "ARCHIVE_RETRY_BASE": "50ms",
            "ARCHIVE_RETRY_MAX": "200ms",
            "ARCHIVE_MAX_ATTEMPTS": "100",
            "ARCHIVE_CONCURRENCY": "4",
            "ARCHIVE_BATCH_SIZE": "8",
            "ARCHIVE_INTERVAL": "200ms",
            "ARCHIVE_STATEMENT_TIMEOUT": "10s",
            "ARCHIVE_DRAIN_TIMEOUT": "5s",
            "ARCHIVE_LOG_FORMAT": "json",
            "TMPDIR": str(self._folder / "tmp"),
        }

    def _store(self, bucket: str) -> S3Store:
        s3 = self._soak.s3
        return S3Store(
            bucket,
            endpoint=s3.endpoint,
            region=s3.region,
            access_key_id=s3.access_key_id,
            secret_access_key=s3.secret_access_key,
            virtual_hosted_style_request=False,
            client_options={"allow_http": True},
        )


def _was_faster(worker: Process, strike: Strike) -> bool:
    """It had come to its own end when it was killed: at its goodbye to the database, say."""
    return strike in _KILLS and worker.ended() != -signal.SIGKILL


def _has_said_so(worker: Process) -> bool:
    said = ("sweep failed", "no sweep:", '"stopped": "failures"')
    return any(words in worker.words() for words in said)


def until(has_come: Callable[[], object], what: str) -> None:
    """Wait for a fact."""
    deadline = time.monotonic() + BOUND_SECONDS
    while not has_come():
        assert time.monotonic() < deadline, f"not within {BOUND_SECONDS:.0f} s: {what}"
        time.sleep(_LOOK_SECONDS)


def _started(postgres: EmbeddedPostgres) -> bool:
    try:
        postgres.start()
    except RuntimeError:
        return False
    return True


def _get(store: S3Store, key: str) -> bytes | None:
    try:
        return bytes(obstore.get(store, key).bytes())
    except FileNotFoundError:
        return None


def main() -> int:
    """ROUNDS and SEED come from the environment; the first fault ends it, and is raised.

    So does SIGTERM, as Ctrl-C does: the servers and workers end with it.
    """
    rounds, seed = int(os.environ["ROUNDS"]), int(os.environ["SEED"])
    say = partial(print, flush=True)
    began_at = time.monotonic()
    interrupts = Interrupts()
    with interrupts.handled(), Soak.opened() as soak, interrupts.allowed():
        figures = soak.figures
        try:
            while figures.rounds < rounds:
                soak.chain(seed, rounds - figures.rounds)
                seed += 1
                say(f"{time.monotonic() - began_at:7.1f} s  next SEED={seed}  {figures}")
        finally:
            say(figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
