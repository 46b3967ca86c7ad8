"""SQL as text: strings, comments, casts and `:name` parameters told apart.

Knows Postgres' lexical rules as far as a source file needs them, and no grammar: where a
token ends, where a statement ends, and what psycopg would otherwise misread.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


class Kind(enum.Enum):
    """What a token is; only as fine as somebody asks."""

    SPACE = "space"
    LINE_COMMENT = "line comment"
    BLOCK_COMMENT = "block comment"
    STRING = "string"  # also E'', dollar-quoted
    QUOTED_NAME = "quoted name"
    WORD = "word"  # keyword or plain identifier
    PARAMETER = "parameter"  # :name
    END = "end"  # ;
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of SQL text; all tokens of a text, joined, are that text again."""

    kind: Kind
    text: str
    line: int

    @property
    def is_significant(self) -> bool:
        return self.kind not in {Kind.SPACE, Kind.LINE_COMMENT, Kind.BLOCK_COMMENT}

    @property
    def word(self) -> str:
        """The keyword or plain identifier as Postgres folds it; empty for anything else."""
        return self.text.lower() if self.kind is Kind.WORD else ""


class SqlTextError(ValueError):
    """The text ends inside a string, a quoted name or a comment, or numbers a parameter."""

    def __init__(self, line: int, problem: str) -> None:
        super().__init__(problem)
        self.line = line
        self.problem = problem


# Order matters: E'' before words, :: and := before parameters, $tag$ before $1.
_TOKEN = re.compile(
    r"""
      (?P<SPACE>\s+)
    | (?P<LINE_COMMENT>--[^\n]*)
    | (?P<BLOCK_COMMENT>/\*)
    | (?P<ESCAPED_STRING>[eE]'(?:[^'\\]|''|\\.)*')
    | (?P<STRING>'(?:[^']|'')*')
    | (?P<QUOTED_NAME>"(?:[^"]|"")*")
    | (?P<DOLLAR_STRING>\$(?P<tag>(?:[^\W\d]\w*)?)\$.*?\$(?P=tag)\$)
    | (?P<WORD>(?![eE]')[^\W\d][\w$]*)
    | (?P<NUMBER>\d[\w.]*)
    | (?P<CAST>::|:=)
    | (?P<PARAMETER>:[^\W\d]\w*)
    | (?P<END>;)
    | (?P<NUMBERED_PARAMETER>\$\d+)
    | (?P<UNCLOSED>['"]|[eE]'|\$(?:[^\W\d]\w*)?\$)
    | (?P<OTHER>.)
    """,
    re.VERBOSE | re.DOTALL,
)
_KINDS = {
    "ESCAPED_STRING": Kind.STRING,
    "DOLLAR_STRING": Kind.STRING,
    "NUMBER": Kind.OTHER,
    "CAST": Kind.OTHER,
}
_COMMENT_EDGE = re.compile(r"/\*|\*/")


def tokens(text: str) -> Iterator[Token]:
    """Cut SQL text into tokens, lazily; the first line is line 1.

    Raises:
        SqlTextError: A string, name or comment is not closed, or a `$1` was found.
    """
    place = 0
    line = 1
    while place < len(text):
        match = _TOKEN.match(text, place)
        if match is None or match.lastgroup is None:  # unreachable: OTHER takes anything
            raise SqlTextError(line, "unreadable text")
        group = _group_of(match)
        if group == "UNCLOSED":
            raise SqlTextError(line, f"what {match[0]} opens is never closed")
        if group == "NUMBERED_PARAMETER":
            raise SqlTextError(line, f"{match[0]} is not known; parameters are named, :limit")
        end = _comment_end(text, place, line) if group == "BLOCK_COMMENT" else match.end()
        piece = text[place:end]
        yield Token(_KINDS.get(group) or Kind[group], piece, line)
        line += piece.count("\n")
        place = end


def _group_of(match: re.Match[str]) -> str:
    # `tag` is a group of its own, inside the dollar-quoted string
    return next(name for name, found in match.groupdict().items() if found is not None)


def _comment_end(text: str, start: int, line: int) -> int:
    depth = 0  # Postgres' block comments nest
    for edge in _COMMENT_EDGE.finditer(text, start):
        depth += 1 if edge[0] == "/*" else -1
        if depth == 0:
            return edge.end()
    raise SqlTextError(line, "what /* opens is never closed")


@dataclass(frozen=True)
class Statement:
    """One statement of a section, without its semicolon."""

    tokens: tuple[Token, ...]

    @property
    def line(self) -> int:
        return self.significant[0].line

    @property
    def text(self) -> str:
        """As it was written: for statements that are run without parameters."""
        return "".join(token.text for token in self.tokens).strip()

    @cached_property
    def significant(self) -> tuple[Token, ...]:
        return tuple(token for token in self.tokens if token.is_significant)

    @property
    def parameters(self) -> Iterator[tuple[str, int]]:
        """Name and line of each `:name`."""
        return (
            (token.text[1:], token.line)
            for token in self.tokens
            if token.kind is Kind.PARAMETER
        )

    def for_psycopg(self, relation: str = "", *, explain: str = "") -> bytes:
        """The statement with psycopg's placeholders and every literal `%` doubled.

        `relation`, the text of a common table expression (psycopg's placeholders
        already in it), goes in front of the statement's own.
        """
        body = "".join(map(_for_psycopg, self.tokens))
        if relation:
            body = self._with(relation)
        return f"{explain} {body.strip()}".strip().encode()

    def file_line(self, sent_line: int, relation: str = "") -> int:
        """Which line of the file is that line of the text that `for_psycopg` made."""
        if not relation:
            first = next(token for token in self.tokens if token.kind is not Kind.SPACE)
            return first.line + sent_line - 1
        added_count = relation.count("\n")
        if self.significant[0].word != "with":
            return self.tokens[0].line + sent_line - 1 - (added_count + 1)
        return self.significant[0].line + sent_line - 1 - added_count

    def _with(self, relation: str) -> str:
        words = [token.word for token in self.significant[:2]]
        if words[0] != "with":
            return f"with {relation}\n{''.join(map(_for_psycopg, self.tokens))}"
        opening = words if words == ["with", "recursive"] else words[:1]
        last_token = self.significant[len(opening) - 1]
        rest = self.tokens[self.tokens.index(last_token) + 1 :]
        return f"{' '.join(opening)} {relation},{''.join(map(_for_psycopg, rest))}"


def _for_psycopg(token: Token) -> str:
    if token.kind is Kind.PARAMETER:
        return f"%({token.text[1:]})s"
    return token.text.replace("%", "%%")  # psycopg reads % in strings and comments too


def statements(of: Sequence[Token]) -> Iterator[Statement]:
    """Split at semicolons; what holds nothing but space and comments is left out."""
    start = 0
    for place, token in enumerate(of):
        if token.kind is Kind.END:
            yield from _statement(of[start:place])
            start = place + 1
    yield from _statement(of[start:])


def _statement(of: Sequence[Token]) -> Iterator[Statement]:
    if any(token.is_significant for token in of):
        yield Statement(tuple(of))
