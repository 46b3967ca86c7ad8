"""Which keys nobody writes or deletes by hand: archiver's own, and those that sources make."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from archiver.errors import ReservedKey
from archiver.sources.key_shapes import can_make

if TYPE_CHECKING:
    from collections.abc import Sequence

    from archiver.sources.template import KeyTemplate

OURS = ".archiver"  # below any prefix: stamps, probes, and what a directory keeps beside files
OBJECTS = "objects/"  # below a prefix: where what has no key of its own is put


@dataclass(frozen=True, slots=True)
class SourceKeys:
    """The keys that one source's objects have in a bucket."""

    source: str
    path_prefix: str  # goes before each of them: empty, or ending in a slash
    template: KeyTemplate | None  # None: any; it is code that makes them (a plugin)

    def can_make(self, key: str) -> bool:
        if not key.startswith(self.path_prefix):
            return False
        below = key.removeprefix(self.path_prefix)
        if self.template is None:
            return not below.startswith(OBJECTS)
        return can_make(self.template, below)


@dataclass(frozen=True, slots=True)
class KeyGuard:
    """Refuses keys before anything is asked of a store."""

    sources: Sequence[SourceKeys] = ()

    def require_free(self, key: str, where: str) -> None:
        """Return when the key is the user's own.

        Raises:
            ReservedKey
        """
        if OURS in key.split("/"):
            raise ReservedKey(where=where, whose="archiver's own")
        for source in self.sources:
            if source.can_make(key):
                raise ReservedKey(where=where, whose=f"of the source {source.source}")
