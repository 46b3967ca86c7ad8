"""Finding many keys by LIST pages, as long as a page answers enough of them. No HTTP.

Both S3 clients look for keys in this way; each brings the requests.
"""

from __future__ import annotations

from itertools import groupby, takewhile
from typing import TYPE_CHECKING, Protocol, TypedDict, TypeVar

from archiver.errors import StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence


class Listed(TypedDict):
    """What both clients tell of an object in a LIST, under obstore's names."""

    path: str
    size: int
    e_tag: str | None


T = TypeVar("T", bound=Listed)
T_co = TypeVar("T_co", bound=Listed, covariant=True)

if TYPE_CHECKING:
    Pages = Callable[[str, str | None], Iterator[Sequence[T]]]


class Requests(Protocol[T_co]):
    """The requests of one client about one bucket."""

    def pages(self, directory: str, after: str | None) -> Iterator[Sequence[T_co]]:
        """LIST pages of a directory after a key; they may end early."""

    def heads(self, keys: Sequence[str]) -> Mapping[str, T_co | None]:
        """A HEAD of each key; None is a 404."""

    def prove_missing(self, key: str) -> None:
        """Raise unless the object is missing from a bucket that is there."""


def find(requests: Requests[T], keys: Collection[str], pays_from: int) -> dict[str, T | None]:
    """What lies at each key, by LIST pages where that pays, else by a HEAD each.

    None is proven absence: a HEAD said so, in a bucket that is there. A LIST proves
    none, for one that fails midway can look like an empty one.
    """
    seen: dict[str, T | None] = dict(find_by_listing(requests.pages, keys, pays_from))
    rest = [key for key in dict.fromkeys(keys) if key not in seen]
    heads = dict(requests.heads(rest))
    if rest and not seen and not any(heads.values()):
        heads |= _come_meanwhile(requests, rest[0])
    return seen | heads


def _come_meanwhile(requests: Requests[T], key: str) -> dict[str, T]:
    """What lies now at a key where nothing was a moment ago; empty: proven absence.

    Another worker may put it between two questions. A HEAD tells that from a store that
    contradicts itself.
    """
    try:
        requests.prove_missing(key)
    except StoreUnavailable:
        found = requests.heads([key])[key]
        if found is None:
            raise
        return {key: found}
    return {}


def find_by_listing(
    pages: Pages[T], keys: Collection[str], pays_from: int
) -> Iterator[tuple[str, T]]:
    """What listings find of these keys. A key that is not among it may well be there.

    Keys are tried together with those of the same directory, first the one that all share;
    where its pages hold too much else, directory by directory below it.

    Args:
        keys: Whole keys, each once or more.
        pages: LIST of a directory after a key (None: from its start), in key order.
        pays_from: How many keys one page must answer to be worth its price.
    """
    wanted = sorted(set(keys))
    if len(wanted) < pays_from:
        return
    directory = _common_directory(wanted)
    if directory:  # at the root `/a` and `a` would look alike
        left = set(wanted)
        for page in pages(directory, _just_before(wanted[0], directory)):
            # Not the empty ones: a directory marker `a/` looks like an empty object `a`.
            found = [item for item in page if item["path"] in left and item["size"] > 0]
            for item in found:
                if item["path"] in left:  # again `a`, then `a/`
                    left.remove(item["path"])
                    yield item["path"], item
            if not page or not left or page[-1]["path"] >= wanted[-1]:
                return
            if len(found) < pays_from:
                break
        else:
            return
        wanted = sorted(left)
    for below in _by_directory_below(directory, wanted):
        yield from find_by_listing(pages, below, pays_from)


def _common_directory(keys: Sequence[str]) -> str:
    """The deepest directory all keys lie in, without its slash; empty: the root."""
    first, last = keys[0].split("/")[:-1], keys[-1].split("/")[:-1]
    shared = takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False))
    return "/".join(name for name, _ in shared)


def _by_directory_below(directory: str, keys: Sequence[str]) -> Iterator[list[str]]:
    """The keys that lie deeper, by the next directory; an object beside them is left out."""
    start = len(directory) + 1 if directory else 0
    deeper = [key for key in keys if "/" in key[start:]]
    for _, group in groupby(deeper, lambda key: key[start:].partition("/")[0]):
        yield list(group)


def _just_before(key: str, directory: str) -> str | None:
    """A name that comes before the key, with little between them; None: from the start."""
    head, last = key[:-1], key[-1]
    if len(head) <= len(directory) + 1 or not "!" < last <= "~":
        return None
    before = "." if last == "0" else chr(ord(last) - 1)  # before 0 comes the slash
    return f"{head}{before}~"
