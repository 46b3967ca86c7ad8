"""The real engine and the real stores before a store that lies, and what becomes of a row.

Three rows: the smallest object, whose copy is the canary; the one that is lied about; and one
more. The fake ledger, a manual clock and a stepping pool drive them (`World`); the store that
lies is reached over HTTP by the clients that production uses.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from archiver import errors
from archiver.engine.evidence import demanded_evidence
from archiver.engine.streams import Streams
from archiver.errors import EvidenceUnavailable
from archiver.model import ClaimState, ColdKey, Evidence, HotLocation
from archiver.stores.cold_boto3 import Boto3ColdStore
from archiver.stores.cold_s3 import S3ColdStore
from archiver.stores.hot_s3 import S3HotStore
from archiver.stores.probe import probe_cold
from archiver.stores.providers import PROVIDERS
from tests.fakes.pool import InlineCrew
from tests.fakes.s3_worlds import BUCKET as COLD
from tests.fakes.s3_worlds import ENFORCES_ALL, PREFIX, settings_of
from tests.fakes.table_source import BUCKET as HOT
from tests.liar.bucket import Held
from tests.unit.engine.world import World, at

if TYPE_CHECKING:
    from collections.abc import Callable

    from archiver.model import Capabilities, Summary
    from tests.fakes.stores import FakeColdStore, FakeHotStore
    from tests.liar.server import LyingS3
    from tests.unit.engine.world import Worker

SMALLEST, TARGET, OTHER = "001", "002", "003"
COLD_TARGET = f"{PREFIX}jobs/{TARGET}."  # however its key goes on
HOT_TARGET = f"jobs/{TARGET}."
CLIENTS: dict[str, type[S3ColdStore | Boto3ColdStore]] = {
    "obstore": S3ColdStore,
    "boto3": Boto3ColdStore,
}
LEVELS = (Evidence.SIGNED, Evidence.CHECKSUM, Evidence.READBACK)

_PART_BYTES = 700
_BETWEEN_SECONDS = 2 * 3_600.0  # two sweeps: longer than any back-off, and than the grace
_PATIENT_SECONDS = 20.0  # of an honest store's client, however busy the machine


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One way to lie, by the words that stand in docs/guarantees.md.

    Attributes:
        tell: Declares the lies of the server, before the first sweep.
        at_record: Done when the first receipts are recorded: after every proof.
        provider: Says whether copies are looked at by HEAD (`other`) or by LIST (`minio`).
        capabilities: What the probe had found.
        is_probed: The probe is asked while the lie is told, in place of `capabilities`.
        timeout_seconds: Of a request; short where the store is silent.
        sweeps_count: While it lies, two hours apart.
        grace_seconds: Of releases.
        promises: Whether the row says a digest of its content.
        is_about_all: Of every object, so that nothing is expected of the neighbours.
        in_parts: The row that is lied about, and its neighbour, go in three parts each.
        is_leaky: What it does not abort stays; else no upload is open in the end.
    """

    name: str
    tell: Callable[[LyingS3], object] = lambda _server: None
    at_record: Callable[[LyingS3, World], object] | None = None
    provider: str = "other"
    capabilities: Capabilities = ENFORCES_ALL
    is_probed: bool = False
    timeout_seconds: float = _PATIENT_SECONDS
    sweeps_count: int = 3
    grace_seconds: float = 0.0
    promises: bool = True
    is_about_all: bool = False
    in_parts: bool = False
    is_leaky: bool = False

    @property
    def is_silent(self) -> bool:
        """It is met by waiting."""
        return self.timeout_seconds < _PATIENT_SECONDS


@dataclass(frozen=True, slots=True)
class Seen:
    """What became of the row that was lied about; then of all, once the store was honest."""

    outcome: str
    is_lost: bool
    troubles_after: list[str]
    left_after: dict[str, str]  # rows not archived and let go of, by their outcome
    neighbours: dict[str, str]  # while it lied
    open_after: list[str]  # uploads in parts, at the store or by the ledger


@dataclass
class Stage:
    """One server for many scenes; clients are made once, for they are dear."""

    server: LyingS3
    _cold: dict[Any, S3ColdStore | Boto3ColdStore] = field(default_factory=dict)
    _hot: dict[float, S3HotStore] = field(default_factory=dict)

    def cold(
        self, client: str, provider: str, found: Capabilities, timeout_seconds: float
    ) -> S3ColdStore | Boto3ColdStore:
        what = (client, provider, found, timeout_seconds)
        if what not in self._cold:
            settings = replace(settings_of(self.server.url), timeout_seconds=timeout_seconds)
            kind = CLIENTS[client]
            product = replace(PROVIDERS[provider], part_min_bytes=1)
            self._cold[what] = kind(settings, product, COLD, PREFIX, found)
        return self._cold[what]

    def hot(self, timeout_seconds: float) -> S3HotStore:
        if timeout_seconds not in self._hot:
            settings = replace(settings_of(self.server.url), timeout_seconds=timeout_seconds)
            self._hot[timeout_seconds] = S3HotStore(settings)
        return self._hot[timeout_seconds]

    def close(self) -> None:
        for store in (*self._cold.values(), *self._hot.values()):
            store.close()

    # --- a cold store that lies -------------------------------------------------------------

    def play_cold(self, fault: Fault, evidence: Evidence, client: str) -> Seen:
        """Sweep while the cold store lies, then once while it does not."""
        world = self._set(fault, evidence)
        fault.tell(self.server)
        found = fault.capabilities
        if fault.is_probed:
            settings = settings_of(self.server.url)
            found = probe_cold(settings, PROVIDERS[fault.provider], COLD, PREFIX)
        try:
            demanded_evidence(evidence, found, fault.provider)
        except EvidenceUnavailable as error:
            return self._refused(world, found, error, fault, client)
        store = self.cold(client, fault.provider, found, fault.timeout_seconds)
        world.cold = cast("FakeColdStore", _ServedCold(store, self.server))
        seen = self._lie(world, fault)
        store = self.cold(client, fault.provider, found, _PATIENT_SECONDS)
        world.cold = cast("FakeColdStore", _ServedCold(store, self.server))
        return self._be_honest(world, seen)

    def _refused(
        self,
        world: World,
        found: Capabilities,
        error: EvidenceUnavailable,
        fault: Fault,
        client: str,
    ) -> Seen:
        """No sweep begins. With the evidence that is left, `auto`'s, one succeeds."""
        self.server.lies.end()
        world.evidence = demanded_evidence(None, found, fault.provider)
        store = self.cold(client, fault.provider, found, _PATIENT_SECONDS)
        world.cold = cast("FakeColdStore", _ServedCold(store, self.server))
        return self._be_honest(world, (_stops(error), {}, False))

    # --- a hot store that lies --------------------------------------------------------------

    def play_hot(self, fault: Fault) -> Seen:
        """The same of a hot store; the cold one is a fake that keeps what it is given."""
        world = self._set(fault, Evidence.SIGNED, self.hot(fault.timeout_seconds))
        fault.tell(self.server)
        seen = self._lie(world, fault)
        hot = _ServedHot(self.hot(_PATIENT_SECONDS), self.server)
        world.hot = cast("FakeHotStore", hot)
        return self._be_honest(world, seen)

    # --- both -------------------------------------------------------------------------------

    def _set(self, fault: Fault, evidence: Evidence, hot: S3HotStore | None = None) -> World:
        self.server.lies.forget()
        self.server.asked.clear()
        self.server.buckets.empty()
        self.server.buckets.make(COLD, HOT)
        world = World(evidence=evidence, grace_seconds=fault.grace_seconds)
        if fault.in_parts:
            world.streams = Streams(crew=InlineCrew(), part_bytes=_PART_BYTES)
        if hot is not None:
            world.hot = cast("FakeHotStore", _ServedHot(hot, self.server))
        for id_, size_bytes in ((SMALLEST, 200), (TARGET, 2_000), (OTHER, 1_500)):
            content = random.Random(id_).randbytes(size_bytes)  # noqa: S311  # no secret
            row = {} if fault.promises else {"content_digest": None}
            world.plant(id_, content=content, **row)
        return world

    def _lie(self, world: World, fault: Fault) -> tuple[str, dict[str, str], bool]:
        fired: list[str] = []
        summary: Summary | None = None
        for number in range(fault.sweeps_count):
            worker = world.worker()
            if number == 0 and fault.at_record is not None:
                worker.script.on(
                    "claims.record", after=partial(self._strike, fault, world, fired)
                )
            told = worker.sweep()
            if summary is None or summary.state != "fatal":
                summary = told
            _end(worker, world)
            _pass_time(world)
        untold = self.server.lies.untold()
        is_met = not untold and (fault.at_record is None or fired)
        self.server.lies.end()
        told_of = {id_: _outcome(world, id_, summary) for id_ in (SMALLEST, TARGET, OTHER)}
        outcome = told_of.pop(TARGET) if is_met else "not met"
        return outcome, told_of, _is_lost(world)

    def _strike(self, fault: Fault, world: World, fired: list[str]) -> None:
        assert fault.at_record is not None
        fault.at_record(self.server, world)
        fired.append(fault.name)

    def _be_honest(self, world: World, seen: tuple[str, dict[str, str], bool]) -> Seen:
        """What the next sweep makes of it, after `retry`, or `undo`, where it parked."""
        outcome, neighbours, is_lost = seen
        worker = world.worker()
        if world.parked_releases() or "canary" in outcome:
            worker.undo(hold_seconds=1.0)
        worker._ledger.records.retry(None, None)
        worker.leave()
        summary: Summary | None = None
        for _ in range(2 if world.grace_seconds else 1):
            _pass_time(world)
            worker = world.worker()
            summary = worker.sweep()
            _end(worker, world)
        left = {
            id_: told
            for id_ in (SMALLEST, TARGET, OTHER)
            if not (told := _outcome(world, id_, summary)).endswith(", released")
        }
        open_after = [*self.server.buckets.uploads.open]
        open_after += [str(it.plan.location) for it in world.tables.uploads.values()]
        return Seen(outcome, is_lost, world.troubles(), left, neighbours, open_after)


class _ServedCold:
    """A real cold store, and the hands of `World` that reach around it."""

    def __init__(self, store: S3ColdStore | Boto3ColdStore, server: LyingS3) -> None:
        self._store = store
        self._server = server

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def peek(self, key: ColdKey) -> bytes | None:
        held = self._server.buckets.held(COLD, key)
        return held.body if held is not None and held.is_readable else None


class _ServedHot:
    """A real hot store, and the hands of the application."""

    def __init__(self, store: S3HotStore, server: LyingS3) -> None:
        self._store = store
        self._server = server

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def plant(self, location: HotLocation, body: bytes) -> None:
        self._server.buckets.put(location.bucket, location.path, Held.of(body, {}))

    def peek(self, location: HotLocation) -> bytes | None:
        held = self._server.buckets.held(location.bucket, location.path)
        return None if held is None else held.body


def _pass_time(world: World) -> None:
    world.clock.stepped()
    world.clock.advance(_BETWEEN_SECONDS)


def _end(worker: Worker, world: World) -> None:
    held = world.held()
    worker.leave()
    assert held == []


# --- what became of a row ---------------------------------------------------------------------


def _is_lost(world: World) -> bool:
    return any(told.startswith("unreachable") for told in world.troubles())


def _outcome(world: World, id_: str, summary: Summary | None) -> str:
    """In the words of docs/guarantees.md."""
    keys = world.receipted_keys(id_)
    hot = "released" if world.hot.peek(at(id_)) is None else "kept"
    if not keys:
        assert hot == "kept"
        return _unarchived(world, id_, summary)
    version = world._versions[at(id_)]
    is_large = world.streams.is_large(len(version.body))
    first = rf"jobs/{id_}\.[0-9a-f]{{64}}\.html\.gz" if is_large else rf"jobs/{id_}\.html\.gz"
    told = "archived" if re.search(f"{first}$", keys[-1]) else "archived under another key"
    if hot == "kept":
        return f"{told}, {_why_kept(world, id_, summary)}"
    return f"{told}, released" if world._is_safe(version) else "**lost**"


def _unarchived(world: World, id_: str, summary: Summary | None) -> str:
    if summary is not None and summary.state == "fatal":
        return f"sweep stops: {_word(summary.error or '')}"
    if world.claim_states().get(id_) is ClaimState.PARKED:
        return f"parked: {_word(world.reasons()[id_] or '')}"
    return "waits"


def _why_kept(world: World, id_: str, summary: Summary | None) -> str:
    if id_ in world.parked_releases():
        return "release parked"
    if summary is not None and summary.state == "fatal":
        return f"kept; sweep stops: {_word(summary.error or '')}"
    outcomes = [it[1] for it in world.tables.outcomes if it[0].receipt.id == id_]
    return f"kept, though told {outcomes[-1].value}" if outcomes else "release waits"


def _stops(error: Exception) -> str:
    return f"sweep stops: {_word(str(error))}"


_LEADS = {
    (kind.__doc__ or "").partition("\n")[0].rstrip("."): name
    for name, kind in vars(errors).items()
    if isinstance(kind, type) and issubclass(kind, errors.ArchiverError)
}


def _word(told: str) -> str:
    """The name of an error in small letters, by the words it is told in."""
    lead = max((lead for lead in _LEADS if told.startswith(lead)), key=len, default="")
    assert lead, told
    return re.sub(r"(?<!^)(?=[A-Z])", " ", _LEADS[lead]).lower()
