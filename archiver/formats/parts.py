"""How an object is cut into parts, and the profiles that say how fast a network is. Pure."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from archiver.model import PartRules

MIB = 1 << 20
_CUSTOM_TIMEOUT_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Profile:
    """How a transfer suits a network: what it reads at once, and how often it checkpoints."""

    name: str
    read_bytes: int
    checkpoint_reads: int
    timeout_seconds: float  # of one read, and of one write

    def __post_init__(self) -> None:
        """Refuse what would do nothing, or never end.

        Raises:
            ValueError: A number is not above zero, or has no end.
        """
        for name in ("read_bytes", "checkpoint_reads", "timeout_seconds"):
            if not 0 < getattr(self, name) < math.inf:
                message = f"{name} must be above 0, not {getattr(self, name)}"
                raise ValueError(message)

    @property
    def checkpoint_bytes(self) -> int:
        """How far two checkpoints are apart."""
        return self.read_bytes * self.checkpoint_reads

    def to_json(self) -> str:
        """One line; `from_json` makes an equal profile of it, to the last bit of a second."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read what `to_json` wrote.

        Raises:
            ValueError: It is no profile: says what is wrong.
        """
        told = json.loads(text)
        if not isinstance(told, dict) or told.keys() != _TYPES.keys():
            message = f"a profile has {', '.join(_TYPES)}, and nothing else"
            raise ValueError(message)
        for name, types in _TYPES.items():
            if type(told[name]) not in types:  # True is a number, else
                message = f"{name} of a profile cannot be {told[name]!r}"
                raise ValueError(message)
        return cls(**told)


_TYPES: Mapping[str, tuple[type, ...]] = {
    "name": (str,),
    "read_bytes": (int,),
    "checkpoint_reads": (int,),
    "timeout_seconds": (int, float),
}


def custom_profile(
    read_bytes: int,
    checkpoint_reads: int,
    *,
    timeout_seconds: float = _CUSTOM_TIMEOUT_SECONDS,
) -> Profile:
    """A profile of one's own.

    Raises:
        ValueError: A number is not above zero.
    """
    return Profile("custom", read_bytes, checkpoint_reads, timeout_seconds)


DATACENTER = Profile("datacenter", 32 * MIB, 128, 60.0)
TACTICAL = Profile("tactical", 8 * MIB, 64, 120.0)  # the default
EDGE = Profile("edge", 1 * MIB, 32, 300.0)

PROFILES: Mapping[str, Profile] = MappingProxyType(
    {profile.name: profile for profile in (DATACENTER, TACTICAL, EDGE)}
)


@dataclass(frozen=True, slots=True)
class PartRange:
    """Where one part lies in its object."""

    number: int  # from 1
    start: int
    stop: int

    @property
    def size_bytes(self) -> int:
        return self.stop - self.start


def part_ranges(size_bytes: int, part_bytes: int) -> Iterator[PartRange]:
    """The parts of an object, in order; one empty part where it is empty."""
    number = 1
    for start in range(0, max(size_bytes, 1), part_bytes):
        yield PartRange(number, start, min(size_bytes, start + part_bytes))
        number += 1


def part_count(size_bytes: int, part_bytes: int) -> int:
    return max(1, -(-size_bytes // part_bytes))


def part_bytes_for(size_bytes: int | None, wanted_bytes: int, rules: PartRules) -> int:
    """The size of all parts but the last: the wanted one, within what the store takes.

    Larger where the object would have more parts than it may: then whole MiB. An object of
    unknown size gets the wanted one.

    Raises:
        ValueError: The object is larger than the store can take in parts.
    """
    part_bytes = min(max(wanted_bytes, rules.min_bytes), rules.max_bytes)
    if size_bytes is None or part_count(size_bytes, part_bytes) <= rules.max_count:
        return part_bytes
    least_bytes = -(-size_bytes // rules.max_count)
    part_bytes = min(-(-least_bytes // MIB) * MIB, rules.max_bytes)
    if part_count(size_bytes, part_bytes) > rules.max_count:
        most_bytes = rules.max_bytes * rules.max_count
        message = f"{size_bytes} bytes are more than {most_bytes}, all this store takes"
        raise ValueError(message)
    return part_bytes
