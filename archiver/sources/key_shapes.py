"""Which keys a template can make: what is never to be written over by hand.

Exact, but for a column that stands in a template twice and values that its type does not
allow: there it says yes to more.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from archiver.formats.keys import plain_keys
from archiver.sources.template import LIMIT_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from archiver.sources.template import KeyTemplate

_PIECE = re.compile(r"\{[a-z_][a-z0-9_]*\}|[^{]+")

# One character of a value as a key has it: an escape is that of UTF-8, in capitals, and only
# of what needs one.
_TAIL = "%[89AB][0-9A-F]"
_CHARACTER = re.compile(
    r"[A-Za-z0-9_.~-]"
    r"|%(?:[01][0-9A-F]|2[0-9A-CF]|3[A-F]|40|5[B-E]|60|7[B-DF])"
    rf"|%(?:C[2-9A-F]|D[0-9A-F]){_TAIL}"
    rf"|%(?:E0%[AB][0-9A-F]|E[1-9A-CEF]{_TAIL}|ED%[89][0-9A-F]){_TAIL}"
    rf"|%(?:F0%[9AB][0-9A-F]|F[1-3]{_TAIL}|F4%8[0-9A-F]){_TAIL}{_TAIL}"
)
_ESCAPED_DOT = "%2E"  # only where a value is dots and nothing else


def can_make(template: KeyTemplate, key: str) -> bool:
    """Whether some row's object could lie at this key, by the plain key or a later one."""
    return any(_can_fill(template.template.text, plain) for plain in plain_keys(key))


def _can_fill(template: str, key: str) -> bool:
    """Whether the template can be filled so. Takes as long as the key, not as its splits."""
    if len(key) > LIMIT_BYTES or not key.isascii():
        return False
    ends = {0}  # where the pieces so far may have ended
    for piece in _PIECE.findall(template):
        if piece.startswith("{"):
            ends = set(_value_ends(key, ends))
        else:
            ends = {end + len(piece) for end in ends if key.startswith(piece, end)}
    return len(key) in ends


def _value_ends(key: str, starts: set[int]) -> Iterator[int]:
    """Where a value that begins at one of these may end."""
    only_dots: set[int] = set()  # after nothing but dots: that is no value yet
    others: set[int] = set()
    escaped_dots: set[int] = set()
    for at in range(len(key)):
        is_plain = at in starts or at in only_dots
        character = _CHARACTER.match(key, at) if is_plain or at in others else None
        if character is not None:
            if is_plain and character[0] == ".":
                only_dots.add(character.end())
            if at in others or character[0] != ".":
                others.add(character.end())
        if (at in starts or at in escaped_dots) and key.startswith(_ESCAPED_DOT, at):
            escaped_dots.add(at + len(_ESCAPED_DOT))
    yield from others
    yield from escaped_dots
