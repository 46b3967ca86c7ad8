"""From a row to where its object is: what a `locate` section returns is parsed here, once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from archiver.errors import BadPointer
from archiver.model import ColdKey, ColdPointer, Digest, HotLocation, Located

if TYPE_CHECKING:
    from collections.abc import Mapping

    from archiver.model import CandidateId, SourceName

LOCATED_COLUMNS = (
    "hot_bucket",
    "hot_path",
    "digest",
    "content_digest",
    "cold_bucket",
    "cold_key",
)


def located(source: SourceName, id_: CandidateId, row: Mapping[str, object]) -> Located:
    """Make sense of one row; `provider`, `content_type`, `content_encoding` may be left out.

    Raises:
        BadPointer: A pointer is half there, or a promise cannot be read.
    """
    told = _Told(source, id_, row)
    hot, cold = told.pair("hot_bucket", "hot_path"), told.pair("cold_bucket", "cold_key")
    return Located(
        hot=HotLocation(*hot) if hot else None,
        cold=ColdPointer(told.text("provider"), cold[0], ColdKey(cold[1])) if cold else None,
        digest=told.digest("digest"),
        content_digest=told.digest("content_digest"),
        content_type=told.text("content_type"),
        content_encoding=told.text("content_encoding"),
    )


class _Told:
    """One row, and whose it is."""

    def __init__(self, source: SourceName, id_: CandidateId, row: Mapping[str, object]) -> None:
        self._source = source
        self._id = id_
        self._row = row

    def pair(self, bucket: str, name: str) -> tuple[str, str] | None:
        """Both, or None where the name is not set: a bucket may be the same for all rows."""
        where, what = self.text(bucket), self.text(name)
        if not what:
            return None
        if not where:
            problem = f"{bucket} is {where!r} and {name} {what!r}"
            raise self._bad(problem)
        return where, what

    def digest(self, name: str) -> Digest | None:
        text = self.text(name)
        try:
            return Digest.parse(text) if text else None
        except ValueError as exc:
            problem = f"{name}: {exc}"
            raise self._bad(problem) from exc

    def text(self, name: str) -> str | None:
        value = self._row.get(name)
        if value is not None and not isinstance(value, str):
            problem = f"{name} is a {type(value).__name__}, not text"
            raise self._bad(problem)
        return value

    def _bad(self, problem: str) -> BadPointer:
        return BadPointer(source=self._source, id=self._id, problem=problem)
