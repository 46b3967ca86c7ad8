"""Sources written in Python: an author's object, found by its entry point, as `ArchiveSource`.

What the author returns is checked here, once, and what the author raises ends the sweep of
this source alone. The contract is in docs/writing-a-source.md, its suite in
`archiver.testing`.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Protocol

import psycopg

from archiver.errors import ArchiverError, RowMissing, SettingsError, SourceRefused
from archiver.formats.headers import problem_of_header
from archiver.formats.ids import problem_of_id, problem_of_text, short_id
from archiver.model import (
    BadRow,
    Candidate,
    CandidateId,
    ColdKey,
    Digest,
    HotLocation,
    SourceName,
)
from archiver.sources import sql_check
from archiver.sources.holding import holding, problem_of_page
from archiver.sources.locating import located
from archiver.sources.sql_file import is_source_name
from archiver.sources.template import LIMIT_BYTES, problem_of_key

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
    from datetime import datetime, timedelta
    from importlib.metadata import EntryPoint

    from archiver.model import Holding, Located, Offer, Position, Receipt, Secret

    Tx = psycopg.Connection[Any]

_SIZE_LIMIT_BYTES = 2**63  # of a bigint
_COUNT_PAGE = 5000  # candidates, while they are counted
_NEEDED = ("cold_key", "find_candidates", "on_archived")


@dataclass(frozen=True, slots=True)
class PluginSettings:
    """What the entry point is called with."""

    database_url: Secret  # of the rows and the ledger: `.reveal()` is the text
    retention_jobs: int
    retention_age: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginCandidate:
    """One row that may move now. None promises nothing; digests are SHA-256 in hex."""

    id: str
    due_at: datetime  # aware
    hot_bucket: str | None
    hot_path: str | None
    digest: str | None = None  # of the stored bytes
    content_digest: str | None = None  # of the decompressed bytes
    size_bytes: int | None = None
    content_type: str | None = None
    content_encoding: str | None = None
    group_id: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginHolding:
    """One row whose object is archived already, whoever did that."""

    id: str
    cold_bucket: str | None
    cold_key: str | None  # whole; None: the row names no object
    content_digest: str | None = None  # of the decompressed bytes; None promises nothing
    group_id: str | None = None


class Plugin(Protocol):
    """What an author writes.

    Optional beside it: ``points_at(locations, tx)``, ``on_restored(receipts, tx)``,
    ``locate(id, tx)``, ``holdings(limit, after)``, ``housekeeping()``,
    ``transactional = True``.
    """

    @property
    def name(self) -> str: ...

    def cold_key(self, candidate: PluginCandidate, /) -> str:
        """Where it goes: a relative path of plain ASCII, another for each id."""

    def find_candidates(
        self, limit: int, after: Position | None, /
    ) -> Iterable[PluginCandidate]:
        """Up to `limit` rows that may move now, by (due_at, id), behind `after`."""

    def on_archived(self, receipts: Sequence[Receipt], tx: Tx, /) -> Collection[str]:
        """Flip the rows that still hold the path and content digest of their receipt.

        In `tx`, the ledger's open transaction, which is not ended here. Returns their ids.
        """


def load_plugin(entry: EntryPoint, settings: PluginSettings) -> PluginSource:
    """Import what an entry point of the group `archiver.sources` names, and call it.

    Raises:
        SettingsError: It cannot be imported or called, or does not keep the contract.
    """
    try:
        plugin = entry.load()(settings)
    except Exception as exc:  # it is foreign code: it may raise anything
        problem = f"the source {entry.name!r} ({entry.value}) cannot be loaded: {_told(exc)}"
        raise SettingsError(problems=(problem,)) from exc
    source = PluginSource(plugin)
    if source.name != entry.name:
        problem = f"the source {entry.name!r} ({entry.value}) calls itself {source.name!r}"
        raise SettingsError(problems=(problem,))
    return source


class PluginSource:
    """An author's object behind the contract that the engine drives."""

    def __init__(self, plugin: Plugin) -> None:
        """Look at the object; nothing of it is called.

        Raises:
            SettingsError: With all that it lacks.
        """
        if problems := _problems_of(plugin):
            kind = type(plugin).__qualname__
            raise SettingsError(problems=tuple(f"source {kind}: {it}" for it in problems))
        self._plugin: Any = plugin  # optional methods are no part of its type

    @property
    def name(self) -> SourceName:
        return SourceName(self._plugin.name)

    @property
    def looks_for_pointers(self) -> bool:
        return hasattr(self._plugin, "points_at")

    @property
    def can_restore(self) -> bool:
        return hasattr(self._plugin, "on_restored")

    @property
    def tells_holdings(self) -> bool:
        return hasattr(self._plugin, "holdings")

    def check(self, tx: Tx) -> Sequence[str]:
        return sql_check.prove(self, tx)

    def prepare(self, tx: Tx) -> None:
        """Nothing: a plugin prepares itself where it likes."""

    def find_candidates(self, limit: int, after: Position | None, tx: Tx) -> Sequence[Offer]:
        del tx  # the author's rows are read in the author's own way
        with self._blamed("find_candidates"):
            found = list(self._plugin.find_candidates(limit, after))
            offers = [self._offer(one) for one in found]
        if problem := _problem_of_page(offers, limit, after):
            raise self.refused("find_candidates", problem, "Order by (due_at, id).")
        return offers

    def count_candidates(self, tx: Tx) -> int:
        count, after = 0, None
        while page := self.find_candidates(_COUNT_PAGE, after, tx):
            count, after = count + len(page), page[-1].position
        return count

    def on_archived(self, receipts: Sequence[Receipt], tx: Tx) -> Collection[CandidateId]:
        return self._flip("on_archived", receipts, tx)

    def on_restored(self, receipts: Sequence[Receipt], tx: Tx) -> Collection[CandidateId]:
        """The mirror: point the rows hot again that still hold that cold key.

        Raises:
            SourceRefused: The plugin has no such method.
        """
        if not self.can_restore:
            raise self.refused("on_restored", "the plugin has no such method", "Write it.")
        return self._flip("on_restored", receipts, tx)

    def points_at(self, locations: Collection[HotLocation], tx: Tx) -> Collection[HotLocation]:
        """Which of these does a row point at? None where the author's rows share none."""
        if not locations or not self.looks_for_pointers:
            return set()
        with self._blamed("points_at"):
            return set(self._plugin.points_at(locations, tx))

    def locate(self, id_: CandidateId, tx: Tx) -> Located:
        if not hasattr(self._plugin, "locate"):
            raise self.refused("locate", "the plugin has no such method", "Write it.")
        with self._blamed("locate"):
            row = self._plugin.locate(id_, tx)
            if row is None:
                raise RowMissing(source=self.name, id=id_)
            return located(self.name, id_, dict(row))

    def holdings(self, limit: int, after: CandidateId | None, tx: Tx) -> Sequence[Holding]:
        del tx  # the author's rows are read in the author's own way
        if not self.tells_holdings:
            raise self.refused("holdings", "the plugin has no such method", "Write it.")
        with self._blamed("holdings"):
            page = [holding(asdict(one)) for one in self._plugin.holdings(limit, after)]
        if problem := problem_of_page(page, limit, after):
            raise self.refused("holdings", problem, "Order by id, after the id asked for.")
        return page

    def housekeeping(self, tx: Tx, *, everything: bool) -> Mapping[str, int]:
        del tx, everything  # the author's own house is kept in the author's own way
        if not hasattr(self._plugin, "housekeeping"):
            return {}
        with self._blamed("housekeeping"):
            return dict(self._plugin.housekeeping() or {})

    def refused(self, section: str, problem: str, fix: str) -> SourceRefused:
        """An error that says which method of which class."""
        kind = type(self._plugin)
        method = _METHODS.get(section, section)
        where = f"{kind.__module__}.{kind.__qualname__}.{method}"
        return SourceRefused(source=self.name, problem=f"{where}: {problem}", fix=fix)

    def _flip(
        self, method: str, receipts: Sequence[Receipt], tx: Tx
    ) -> Collection[CandidateId]:
        if not receipts:
            return set()
        with self._blamed(method):
            taken = getattr(self._plugin, method)(receipts, tx)
            if taken is None:
                raise TypeError("it returned None, not the ids it took")
            return {CandidateId(id_) for id_ in taken}

    def _offer(self, one: PluginCandidate) -> Offer:
        """Parse what the author found, or say what is wrong with that row."""
        if one.due_at.tzinfo is None:
            problem = f"due_at of {one.id!r} has no time zone"
            raise TypeError(problem)
        id_ = CandidateId(one.id)
        try:
            _check_storable(one)
            return Candidate(
                id=id_,
                due_at=one.due_at,
                location=_location(one),
                cold_key=self._cold_key(one),
                digest=_digest("digest", one.digest),
                content_digest=_digest("content_digest", one.content_digest),
                size_bytes=one.size_bytes,
                content_type=_header("content_type", one.content_type),
                content_encoding=_header("content_encoding", one.content_encoding),
                group_id=one.group_id,
                metadata=dict(one.metadata),
            )
        except _BadRowError as exc:
            return _bad_row(one, str(exc))

    def _cold_key(self, one: PluginCandidate) -> ColdKey:
        key = self._plugin.cold_key(one)
        problem = problem_of_key(key)
        if not problem and len(key) > LIMIT_BYTES:
            problem = f"the key has {len(key)} bytes, {LIMIT_BYTES} are allowed"
        if problem:
            reason = f"bad row: no cold key: {key!r}: {problem}"
            raise _BadRowError(reason)
        return ColdKey(key)

    @contextmanager
    def _blamed(self, method: str) -> Iterator[None]:
        """In here the author's code runs: what it raises is the source's fault.

        What Postgres says passes through: the ledger, whose transaction it is, knows what
        is about one row.
        """
        try:
            yield
        except (ArchiverError, psycopg.Error):
            raise
        except Exception as exc:
            raise self.refused(method, _told(exc), "Correct the plugin.") from exc


# Where `prove` speaks of a file's sections.
_METHODS = {"archived": "on_archived", "restored": "on_restored"}


class _BadRowError(ValueError):
    """This row cannot be a candidate."""


def _problems_of(plugin: object) -> list[str]:
    problems = []
    name = getattr(plugin, "name", None)
    if not isinstance(name, str) or not is_source_name(name):
        problems.append(f"name is {name!r}; it must be lower-case letters, digits, single _")
    problems += [
        f"there is no method {method}"
        for method in _NEEDED
        if not callable(getattr(plugin, method, None))
    ]
    if getattr(plugin, "transactional", True) is not True:
        problems.append(
            "transactional is not True; this version flips rows in the ledger's own "
            "transaction, so they must lie in its database"
        )
    return problems


def _problem_of_page(offers: Sequence[Offer], limit: int, after: Position | None) -> str:
    positions = [offer.position for offer in offers]
    if len(offers) > limit:
        return f"{len(offers)} candidates, {limit} were asked for"
    if after is not None and positions and positions[0].due_at < after.due_at:
        return "candidates before the position asked for"
    if after is not None and after in positions:
        return f"the candidate {after.id!r} again, which ends the page before"
    if any(one.due_at > next_one.due_at for one, next_one in pairwise(positions)):
        return "candidates are not in order of (due_at, id)"
    if len({position.id for position in positions}) < len(positions):
        return "a candidate stands there twice"
    return ""


def _check_storable(one: PluginCandidate) -> None:
    """Refuse what Postgres would refuse together with all other rows of its page."""
    if problem := problem_of_id(one.id):
        reason = f"bad row: id: {problem}"
        raise _BadRowError(reason)
    texts = {
        "hot_bucket": one.hot_bucket,
        "hot_path": one.hot_path,
        "group_id": one.group_id,
        **{f"metadata {name!r}": name + text for name, text in one.metadata.items()},
    }
    for name, text in texts.items():
        if text is not None and (problem := problem_of_text(text)):
            reason = f"bad row: {name}: {problem}"
            raise _BadRowError(reason)
    if one.size_bytes is not None and not 0 <= one.size_bytes < _SIZE_LIMIT_BYTES:
        reason = f"bad row: size_bytes is {one.size_bytes}"
        raise _BadRowError(reason)


def _bad_row(one: PluginCandidate, reason: str) -> BadRow:
    id_ = CandidateId(one.id)
    is_kept = not problem_of_id(id_)
    bucket, path = (
        None if text is None or problem_of_text(text) else text
        for text in (one.hot_bucket, one.hot_path)
    )
    return BadRow(
        id_ if is_kept else short_id(id_),
        one.due_at,
        reason,
        bucket,
        path,
        sorts_as=None if is_kept else id_,
    )


def _location(one: PluginCandidate) -> HotLocation:
    if not one.hot_bucket or not one.hot_path:
        reason = f"bad pointer: {'hot_path' if one.hot_bucket else 'hot_bucket'} is empty"
        raise _BadRowError(reason)
    return HotLocation(one.hot_bucket, one.hot_path)


def _header(name: str, text: str | None) -> str | None:
    """A value that goes into a header of the cold object; an empty one says nothing."""
    if text and (problem := problem_of_header(text)):
        reason = f"bad row: {name}: {problem}"
        raise _BadRowError(reason)
    return text or None


def _digest(name: str, text: str | None) -> Digest | None:
    try:
        return None if text is None else Digest.parse(text)
    except ValueError as exc:
        reason = f"bad row: {name}: {exc}"
        raise _BadRowError(reason) from exc


def _told(exc: Exception) -> str:
    return f"{type(exc).__name__}: {exc}"
