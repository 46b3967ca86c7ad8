"""May this file be trusted with this database? Asked at start, in what is rolled back.

Four questions: does every section run here, does row-level security hide rows from us, does
`archived` really look at the path and the digest that were moved, and does `restored`, where
there is one, look at the cold key and at what the row points at by now.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from psycopg import errors as postgres_errors

from archiver.model import (
    Candidate,
    ColdKey,
    ColdLocation,
    Digest,
    Evidence,
    FencingToken,
    HotLocation,
    Receipt,
    WorkerId,
)
from archiver.sources import holding
from archiver.sources.locating import LOCATED_COLUMNS
from archiver.sources.offers import REQUIRED_COLUMNS, template_columns
from archiver.sources.row_security import check_row_security
from archiver.sources.sections import (
    location_values,
    page_by_id_values,
    page_values,
    receipt_values,
    rolled_back,
)
from archiver.sources.sql_names import indexes

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    import psycopg

    from archiver.errors import SourceRefused
    from archiver.model import CandidateId, Offer, Position, SourceName
    from archiver.sources.sections import Sections, Tx, Values

_FIXES = {
    "archived": "It must compare the path, and the content digest where the row has one.",
    "points_at": "It must find every row that points at one of these locations.",
    "restored": "It must take the rows that still hold that cold key and point nowhere hot.",
}
_TEXT_TYPES = {"text", "varchar"}
_PAGED = {"candidates", "holdings"}  # by an id that is sent back as text
_RETURNED: dict[str, tuple[Values, tuple[str, ...]]] = {
    "candidates": (page_values(0, None), REQUIRED_COLUMNS),
    "archived": (receipt_values(()), ("id",)),
    "restored": (receipt_values(()), ("id",)),
    "points_at": (location_values(()), ("hot_bucket", "hot_path")),
    "locate": ({"id": ""}, LOCATED_COLUMNS),
    "holdings": (page_by_id_values(0, None), holding.REQUIRED_COLUMNS),
}

_INDEX_IS_VALID = """
    select indisvalid from pg_catalog.pg_index where indexrelid = to_regclass(%s)
"""
_POINTS_HOT = "a row that points at a hot object was pointed at another one"
_PROOF_TRIES = 5
_PROOF_ROWS = 50  # so that some bad rows at the front do not prevent it
_OF_THE_ROW = (
    postgres_errors.LockNotAvailable,
    postgres_errors.IntegrityError,
    postgres_errors.DataError,
    postgres_errors.InternalError,
    postgres_errors.ProgrammingError,  # by a trigger: the file's own are SourceRefused
)


def check_sections(sections: Sections, tx: Tx) -> Sequence[str]:
    """Plan every section, look at what it returns, its indexes, and row-level security.

    Raises:
        SourceRefused: With the section, what is wrong, and what mends it.
    """
    for section in sections.file.sections.values():
        for statement in section.statements:
            if sections.can_be_planned(section.name, statement):
                with rolled_back(tx):
                    sections.plan(tx, section.name, statement)
    for name in _RETURNED:
        if name in sections:
            _check_columns(sections, tx, name)
    check_row_security(sections, tx)
    return _index_warnings(sections, tx)


def _check_columns(sections: Sections, tx: Tx, section: str) -> None:
    values, needed = _RETURNED[section]
    with rolled_back(tx):
        returned = sections.columns(tx, section, values)
    names = [name for name, _ in returned]
    types = {name: _type_name(tx, type_code) for name, type_code in returned}
    if section in _PAGED and types.get("id", "text") not in _TEXT_TYPES:
        raise sections.refused(section, f"id is {types['id']}", "Write `id::text as id`.")
    if section == "candidates":
        needed = (*needed, *template_columns(sections.file))
        if types.get("due_at", "timestamptz") != "timestamptz":
            problem = f"due_at is {types['due_at']}, not timestamptz"
            raise sections.refused(section, problem, "Say in which time zone it is.")
    if missing := sorted(set(needed) - set(names)):
        raise sections.refused(section, f"it does not return {', '.join(missing)}")
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise sections.refused(section, f"it returns {', '.join(repeated)} twice")


def _type_name(tx: Tx, type_code: int) -> str:
    known = tx.adapters.types.get(type_code)
    return known.name if known else "of an unknown type"


def _index_warnings(sections: Sections, tx: Tx) -> list[str]:
    warnings = []
    for statement in sections.statements("needs"):
        for index in indexes(statement):
            found = tx.execute(_INDEX_IS_VALID, [index]).fetchone()
            command = f"`archiver migrate --source {sections.file.name}`"
            if found is None:
                warnings.append(f"index {index} is missing, claims will be slow: {command}")
            elif not found[0]:
                warnings.append(f"index {index} is not valid: drop it, then {command}")
    return warnings


class Provable(Protocol):
    """What `prove` asks of a source."""

    @property
    def name(self) -> SourceName: ...

    @property
    def looks_for_pointers(self) -> bool:
        """Whether `points_at` is the author's own."""

    @property
    def can_restore(self) -> bool:
        """Whether rows can be pointed back."""

    def prepare(self, tx: Tx) -> None: ...

    def find_candidates(
        self, limit: int, after: Position | None, tx: Tx
    ) -> Sequence[Offer]: ...

    def on_archived(self, receipts: Sequence[Receipt], tx: Tx) -> Collection[CandidateId]: ...

    def on_restored(self, receipts: Sequence[Receipt], tx: Tx) -> Collection[CandidateId]: ...

    def points_at(
        self, locations: Collection[HotLocation], tx: Tx
    ) -> Collection[HotLocation]: ...

    def refused(self, section: str, problem: str, fix: str) -> SourceRefused:
        """An error that says where in the source."""


def prove(source: Provable, tx: Tx) -> Sequence[str]:
    """Offer wrong receipts and a right one for a real candidate, there and back, rolled back.

    No candidate, no proof: a later start has one. A row that is held, or that a trigger or
    a constraint of the application's protects, proves nothing: the next one is tried.

    Raises:
        SourceRefused: It takes what it must not, or not what it must.
    """
    try:
        with rolled_back(tx):
            tx.execute("set local lock_timeout = '500ms'")
            source.prepare(tx)
            return _prove_on_some_row(source, tx)
    except postgres_errors.LockNotAvailable as exc:
        return [_not_proven(exc)]


def _prove_on_some_row(source: Provable, tx: Tx) -> Sequence[str]:
    raised: psycopg.Error | None = None
    for candidate in _candidates(source, tx)[:_PROOF_TRIES]:
        try:
            with rolled_back(tx):
                if _prove_on(source, candidate, tx):
                    return []
        except _OF_THE_ROW as exc:
            raised = exc
            continue
        if candidate in _candidates(source, tx):  # as it was: no other worker took it
            raise _unproven(source, f"the right receipt for {candidate.id!r} was not taken")
    return [_not_proven(raised)] if raised else []


def _not_proven(raised: psycopg.Error) -> str:
    return f"not proven at this start: {raised.diag.message_primary or raised}"


def _candidates(source: Provable, tx: Tx) -> list[Candidate]:
    offers = source.find_candidates(_PROOF_ROWS, None, tx)
    return [offer for offer in offers if isinstance(offer, Candidate)]


def _prove_on(source: Provable, candidate: Candidate, tx: Tx) -> bool:
    """Was the right receipt taken? Wrong ones raise."""
    right = _receipt_for(source, candidate)
    for what, wrong in _wrong_receipts(candidate, right):
        if source.on_archived([wrong], tx):
            raise _unproven(source, f"a receipt with another {what} was taken")
    if not _is_found(source, candidate.location, tx):
        if candidate not in _candidates(source, tx):
            return False  # another worker took it meanwhile
        raise _unproven(source, f"points_at does not find {candidate.location}", "points_at")
    if source.can_restore and _would_restore(source, right, tx):
        if candidate not in _candidates(source, tx):
            return False
        raise _unproven(source, _POINTS_HOT, "restored")
    taken = source.on_archived([right], tx)
    if taken and set(taken) != {candidate.id}:
        raise _unproven(source, f"one receipt flipped {sorted(taken)}")
    if taken and source.can_restore:
        _prove_back(source, right, tx)
    return bool(taken)


def _prove_back(source: Provable, right: Receipt, tx: Tx) -> None:
    """The row is flipped: it goes back for the right receipt, and never from a hot object.

    What an application makes of a row that it captures again nobody here can know: that a
    row may hold both pointers then, `SourceContract` tries.
    """
    other_key = replace(right.cold, key=ColdKey(f"{right.cold.key}~"))
    if source.on_restored([replace(right, cold=other_key)], tx):
        raise _unproven(source, "a receipt with another cold key was taken", "restored")
    taken = source.on_restored([right], tx)
    if set(taken) != {right.id}:
        problem = f"the right receipt for {right.id!r} gave back {sorted(taken)}"
        raise _unproven(source, problem, "restored")
    if not _is_found(source, right.location, tx):
        problem = f"the row does not point at {right.location} again"
        raise _unproven(source, problem, "restored")
    if source.on_restored([_with_another_path(right)], tx):
        raise _unproven(source, _POINTS_HOT, "restored")


def _would_restore(source: Provable, receipt: Receipt, tx: Tx) -> bool:
    with rolled_back(tx):
        return bool(source.on_restored([receipt], tx))


def _is_found(source: Provable, location: HotLocation, tx: Tx) -> bool:
    """Whether the author's own question finds who points there; yes where there is none."""
    return not source.looks_for_pointers or bool(source.points_at([location], tx))


def _wrong_receipts(candidate: Candidate, right: Receipt) -> Iterator[tuple[str, Receipt]]:
    other = Digest.of(b"not the bytes of any object")
    yield "path", _with_another_path(right)
    if candidate.content_digest is not None:
        yield "content digest", replace(right, content_digest=other)


def _with_another_path(right: Receipt) -> Receipt:
    location = right.location
    return replace(right, location=HotLocation(location.bucket, f"{location.path}~"))


def _receipt_for(source: Provable, candidate: Candidate) -> Receipt:
    return Receipt(
        source=source.name,
        id=candidate.id,
        token=FencingToken(epoch=0, worker=WorkerId(0), number=0),
        location=candidate.location,
        identity=None,
        cold=ColdLocation("s3", "proof", candidate.cold_key),
        size_bytes=candidate.size_bytes or 0,
        digest=candidate.digest or Digest.of(b""),
        content_digest=candidate.content_digest,
        etag=None,
        evidence=Evidence.UNPROVEN,
        group_id=candidate.group_id,
    )


def _unproven(source: Provable, problem: str, section: str = "archived") -> Exception:
    return source.refused(section, problem, _FIXES[section])
