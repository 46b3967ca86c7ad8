"""Names in SQL text: which tables a statement mentions, which indexes it creates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from archiver.sources.sql_text import Kind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from archiver.sources.sql_text import Statement, Token

_BEFORE_A_TABLE = {"from", "join", "update", "into", "using", "only"}
_BEFORE_A_LOCK = {"for", "key", "do"}  # for update of x, for no key update, do update set


@dataclass(frozen=True, slots=True)
class TableName:
    """A name, perhaps with its schema, where a table can stand; may be a CTE or function."""

    text: str
    is_updated: bool


def tables(statement: Statement) -> Iterator[TableName]:
    """Every name that stands where a table can stand."""
    significant = statement.significant
    for place in range(1, len(significant)):
        before = significant[place - 1]
        if before.word not in _BEFORE_A_TABLE and before.text != ",":
            continue
        is_updated = before.word == "update"
        if is_updated and place > 1 and significant[place - 2].word in _BEFORE_A_LOCK:
            continue
        if name := _name_at(significant, place):
            yield TableName(name, is_updated)


def indexes(statement: Statement) -> Iterator[str]:
    """The index that a `create index` creates, with its schema where the table has one."""
    words = [token.word for token in statement.significant]
    if words[:1] != ["create"] or "index" not in words[:3] or "on" not in words:
        return
    place = words.index("on")
    index = statement.significant[place - 1]
    table = _name_at(statement.significant, place + 1 + (words[place + 1] == "only"))
    if _is_name(index) and index.word != "index":
        schema, dot, _ = table.rpartition(".")
        yield f"{schema}{dot}{index.text}"


def _name_at(significant: tuple[Token, ...], place: int) -> str:
    """`name` or `schema.name` as it is written there; empty where no name is."""
    parts: list[str] = []
    for token in significant[place:]:
        expects_name = len(parts) % 2 == 0
        if not (_is_name(token) if expects_name else token.text == "."):
            break
        parts.append(token.text)
    return "".join(parts)


def _is_name(token: Token) -> bool:
    return token.kind in {Kind.WORD, Kind.QUOTED_NAME}
