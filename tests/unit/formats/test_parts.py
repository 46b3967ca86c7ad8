"""How objects are cut: whole, in order, within what a store takes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archiver.formats.parts import (
    DATACENTER,
    EDGE,
    MIB,
    PROFILES,
    TACTICAL,
    Profile,
    custom_profile,
    part_bytes_for,
    part_count,
    part_ranges,
)
from archiver.model import PartRules

S3 = PartRules(min_bytes=5 * MIB, max_bytes=5 << 30, max_count=10_000)


@pytest.mark.parametrize(
    ("profile", "read_bytes", "reads", "seconds", "checkpoint_bytes"),
    [
        (DATACENTER, 32 * MIB, 128, 60.0, 4 << 30),
        (TACTICAL, 8 * MIB, 64, 120.0, 512 * MIB),
        (EDGE, 1 * MIB, 32, 300.0, 32 * MIB),
        (custom_profile(100, 2), 100, 2, 120.0, 200),
    ],
)
def test_profiles(
    profile: Profile, read_bytes: int, reads: int, seconds: float, checkpoint_bytes: int
) -> None:
    assert (profile.read_bytes, profile.checkpoint_reads) == (read_bytes, reads)
    assert (profile.timeout_seconds, profile.checkpoint_bytes) == (seconds, checkpoint_bytes)
    assert set(PROFILES) == {"datacenter", "tactical", "edge"}


@pytest.mark.parametrize(("read_bytes", "reads", "seconds"), [(0, 1, 1), (1, 0, 1), (1, 1, 0)])
def test_p07_a_profile_that_would_do_nothing_is_refused(
    read_bytes: int, reads: int, seconds: float
) -> None:
    with pytest.raises(ValueError, match="above 0"):
        custom_profile(read_bytes, reads, timeout_seconds=seconds)


@given(st.integers(0, 10_000), st.integers(1, 700))
def test_parts_cover_the_object_once_and_all_but_the_last_are_equal(
    size_bytes: int, part_bytes: int
) -> None:
    parts = list(part_ranges(size_bytes, part_bytes))

    assert [part.number for part in parts] == list(range(1, len(parts) + 1))
    assert len(parts) == part_count(size_bytes, part_bytes)
    assert parts[0].start == 0
    assert parts[-1].stop == size_bytes
    assert [part.stop for part in parts[:-1]] == [part.start for part in parts[1:]]
    assert {part.size_bytes for part in parts[:-1]} <= {part_bytes}
    assert size_bytes == 0 or 0 < parts[-1].size_bytes <= part_bytes


@given(st.integers(0, 50_000 * (1 << 30)), st.integers(1, 8 << 30))
def test_what_a_store_takes_is_kept(size_bytes: int, wanted_bytes: int) -> None:
    if size_bytes > S3.max_bytes * S3.max_count:
        with pytest.raises(ValueError, match="all this store takes"):
            part_bytes_for(size_bytes, wanted_bytes, S3)
        return

    part_bytes = part_bytes_for(size_bytes, wanted_bytes, S3)

    assert S3.min_bytes <= part_bytes <= S3.max_bytes
    assert part_count(size_bytes, part_bytes) <= S3.max_count
    wanted = min(max(wanted_bytes, S3.min_bytes), S3.max_bytes)
    assert part_bytes == wanted or part_count(size_bytes, wanted) > S3.max_count


def test_the_edge_profile_keeps_the_stores_floor() -> None:
    assert part_bytes_for(300 << 30, EDGE.read_bytes, S3) == 31 * MIB
    assert part_bytes_for(1 << 30, EDGE.read_bytes, S3) == 5 * MIB
    assert part_bytes_for(None, TACTICAL.read_bytes, S3) == 8 * MIB
