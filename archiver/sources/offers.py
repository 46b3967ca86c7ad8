"""From rows to offers: everything a `candidates` section returns is parsed here, once."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from archiver.errors import SourceRefused
from archiver.formats.headers import problem_of_header
from archiver.formats.ids import problem_of_id, short_id
from archiver.model import (
    BadRow,
    Candidate,
    CandidateId,
    Digest,
    HotLocation,
    Offer,
    Position,
)
from archiver.sources.template import TemplateError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from archiver.model import ColdKey
    from archiver.sources.sections import Row
    from archiver.sources.sql_file import SqlFile


REQUIRED_COLUMNS = ("id", "due_at", "hot_bucket", "hot_path")


class BadRowError(ValueError):
    """This row cannot be a candidate."""


def offer(file: SqlFile, row: Row) -> Offer:
    """Make a candidate of a row, or say what is wrong with it.

    Raises:
        SourceRefused: It has no place in the order, so it could not even be parked, or
            the section returns a type that has no one text.
    """
    at = position(file, row)
    id_, due_at = at.id, at.due_at
    bucket, path = _text(file, row, "hot_bucket"), _text(file, row, "hot_path")
    if problem := problem_of_id(id_):
        return BadRow(short_id(id_), due_at, f"bad row: id: {problem}", bucket, path, id_)
    try:
        location = _location(bucket, path)
        digest, content_digest = (
            _digest(file, row, "digest"),
            _digest(file, row, "content_digest"),
        )
        values = _values(file, row, digest, content_digest)
        return Candidate(
            id=id_,
            due_at=due_at,
            location=location,
            cold_key=_cold_key(file, values),
            digest=digest,
            content_digest=content_digest,
            size_bytes=_size_bytes(row),
            content_type=_header(file, row, "content_type"),
            content_encoding=_header(file, row, "content_encoding"),
            group_id=_text(file, row, "group_id"),
            metadata=_metadata(file, values),
        )
    except BadRowError as exc:
        return BadRow(id_, due_at, str(exc), bucket, path)


def position(file: SqlFile, row: Row) -> Position:
    """Where a row is in the order.

    Raises:
        SourceRefused: Nowhere.
    """
    id_, due_at = row["id"], row["due_at"]
    if not isinstance(id_, str):
        raise _refused(file, f"id {id_!r} is not text", "Write `id::text as id`.")
    if not isinstance(due_at, datetime) or due_at.tzinfo is None:
        fix = "due_at must be a timestamptz and never NULL."
        raise _refused(file, f"due_at of {id_!r} is {due_at!r}", fix)
    return Position(due_at, CandidateId(id_))


def _location(bucket: str | None, path: str | None) -> HotLocation:
    for name, value in (("hot_bucket", bucket), ("hot_path", path)):
        if not value:
            state = "NULL" if value is None else "empty"
            reason = f"bad pointer: {name} is {state}"
            raise BadRowError(reason)
    return HotLocation(bucket or "", path or "")


def _digest(file: SqlFile, row: Row, name: str) -> Digest | None:
    text = _text(file, row, name)
    if text is None:
        return None
    try:
        digest = Digest.parse(text)
    except ValueError as exc:
        reason = f"bad row: {name}: {exc}"
        raise BadRowError(reason) from exc
    if text != str(digest):
        # The flip compares texts in SQL: another form of the same digest is never equal there.
        reason = f"bad row: {name}: not 64 lower-case hex digits alone: {text[:80]!r}"
        raise BadRowError(reason)
    return digest


def _header(file: SqlFile, row: Row, name: str) -> str | None:
    """A value that goes into a header of the cold object; an empty one says nothing."""
    text = _text(file, row, name) or None
    if text and (problem := problem_of_header(text)):
        reason = f"bad row: {name}: {problem}"
        raise BadRowError(reason)
    return text


def _size_bytes(row: Row) -> int | None:
    size = row.get("size_bytes")
    if size is None:
        return None
    if not isinstance(size, int) or size < 0:
        reason = f"bad row: size_bytes is {size!r}"
        raise BadRowError(reason)
    return size


def _cold_key(file: SqlFile, values: Mapping[str, str | None]) -> ColdKey:
    try:
        return file.cold_key.key(values)
    except TemplateError as exc:
        reason = f"bad row: no cold key: {exc}"
        raise BadRowError(reason) from exc


def _metadata(file: SqlFile, values: Mapping[str, str | None]) -> dict[str, str]:
    """What the file asks for; a template over a NULL is left out."""
    filled = {name: template.fill(values) for name, template in file.metadata.items()}
    return {name: value for name, value in filled.items() if value}


def _values(
    file: SqlFile, row: Row, digest: Digest | None, content_digest: Digest | None
) -> dict[str, str | None]:
    """What templates may name, as text; digests in the one form we use."""
    values = {name: _text(file, row, name) for name in template_columns(file)}
    parsed = {"digest": digest, "content_digest": content_digest}
    return values | {name: str(value) for name, value in parsed.items() if value is not None}


def template_columns(file: SqlFile) -> tuple[str, ...]:
    """The columns that the templates of the file name."""
    of_metadata = (name for template in file.metadata.values() for name in template.columns)
    return (*file.cold_key.columns, *of_metadata)


def _text(file: SqlFile, row: Row, name: str) -> str | None:
    value = row.get(name)
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, int | UUID) and not isinstance(value, bool):
        return str(value)
    # A time, a float or an array reads differently under other session settings.
    problem = f"{name} is a {type(value).__name__}"
    raise _refused(file, problem, f"Cast it to text: `{name}::text as {name}`.")


def _refused(file: SqlFile, problem: str, fix: str) -> SourceRefused:
    where = f"{file.file_name}:{file.sections['candidates'].line}: section candidates"
    return SourceRefused(source=file.name, problem=f"{where}: {problem}", fix=fix)
