"""From rows to holdings: what a `holdings` section or method returns is parsed here, once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from archiver.model import CandidateId, ColdKey, Digest, Holding

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

REQUIRED_COLUMNS = ("id", "cold_bucket", "cold_key")


def holding(row: Mapping[str, object]) -> Holding:
    """Make sense of one row; what makes none is said in its `problem`.

    Raises:
        TypeError: The id is no text, or another value has no one text.
    """
    id_, bucket, key = (_text(row, name) for name in REQUIRED_COLUMNS)
    if not id_:
        message = f"id is {row['id']!r}; write `id::text as id`"
        raise TypeError(message)
    digest, problem = _digest(_text(row, "content_digest"))
    if key and not bucket:
        problem = "bad row: it names a cold key and no cold bucket"
    return Holding(
        id=CandidateId(id_),
        cold_bucket=bucket or None,
        cold_key=ColdKey(key) if key else None,
        content_digest=digest,
        group_id=_text(row, "group_id"),
        problem=problem,
    )


def problem_of_page(page: Sequence[Holding], limit: int, after: CandidateId | None) -> str:
    """Why a page cannot be followed by another; empty: it can. Ids sort as the store says."""
    ids = [it.id for it in page]
    if len(ids) > limit:
        return f"{len(ids)} rows, {limit} were asked for"
    if after in ids:
        return f"the row {after!r} again, which ends the page before"
    if len(set(ids)) < len(ids):
        return "a row stands there twice"
    return ""


def _digest(text: str | None) -> tuple[Digest | None, str]:
    try:
        return (Digest.parse(text) if text else None), ""
    except ValueError as exc:
        return None, f"bad row: content_digest: {exc}"


def _text(row: Mapping[str, object], name: str) -> str | None:
    value = row.get(name)
    if value is None or isinstance(value, str):
        return value
    message = f"{name} is a {type(value).__name__}, not text"
    raise TypeError(message)
