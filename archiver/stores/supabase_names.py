"""Names of hot objects: what a URL can carry, and how many lie together."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING
from urllib.parse import quote

from archiver.errors import UnusableName
from archiver.stores.supabase_answers import Asked

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from archiver.model import HotLocation


def escaped(location: HotLocation) -> str:
    """Bucket and path for a URL, segment by segment.

    Raises:
        UnusableName: Anything between us and the store may take the URL for another's:
            `.` and `..` are resolved and empty segments merged by common proxies.
    """
    asked = Asked("open", location.bucket, location.path)
    segments = [location.bucket.replace("/", "\0"), *location.path.split("/")]
    return "/".join(escaped_segment(segment, asked) for segment in segments)


def escaped_to_sign(location: HotLocation) -> str:
    """The same for a URL that is to be signed.

    The server signs the URL it was asked with after JavaScript's `decodeURI`, which leaves
    these characters escaped, and compares it with the decoded one later: so they must not
    have been escaped to begin with.

    Raises:
        UnusableName: Also for a `?` or `#`, which a URL cannot carry otherwise.
    """
    path = escaped(location)
    for character in "?#":
        if quote(character) in path:
            reason = f"the server signs no URL with a {character!r} in the name"
            raise UnusableName(store="hot", where=str(location), reason=reason)
    for character in ";:@&=+$,":
        path = path.replace(quote(character, safe=""), character)
    return path


def escaped_segment(segment: str, asked: Asked) -> str:
    if segment in {"", ".", ".."} or "\0" in segment:
        reason = f"no URL can carry the segment {segment!r} safely"
        raise UnusableName(store="hot", where=asked.where, reason=reason)
    try:
        return quote(segment, safe="")
    except UnicodeEncodeError as exc:
        reason = "not Unicode"
        raise UnusableName(store="hot", where=ascii(asked.where), reason=reason) from exc


def by_bucket(locations: Iterable[HotLocation]) -> dict[str, list[HotLocation]]:
    groups: dict[str, list[HotLocation]] = {}
    for location in dict.fromkeys(locations):
        groups.setdefault(location.bucket, []).append(location)
    return groups


def common_directory(paths: Collection[str]) -> str:
    """Of the first and the last of them, and so of all: empty, or ending in a slash."""
    first, last = (path.split("/")[:-1] for path in (min(paths), max(paths)))
    same = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False))
    return "".join(f"{directory}/" for directory, _ in same)


def by_directory_below(
    prefix: str, locations: Iterable[HotLocation]
) -> Iterable[list[HotLocation]]:
    """The same locations by the next directory in their path, if that parts them at all."""
    groups: dict[str, list[HotLocation]] = {}
    for location in locations:
        directory, slash, _ = location.path.removeprefix(prefix).partition("/")
        groups.setdefault(directory + slash if slash else "", []).append(location)
    groups.pop("", None)  # these lie in the prefix itself, which did not pay
    return groups.values()
