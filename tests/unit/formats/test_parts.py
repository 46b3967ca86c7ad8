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


def test_a_profile_without_an_end_is_refused() -> None:
    with pytest.raises(ValueError, match="above 0"):
        custom_profile(1, 1, timeout_seconds=float("inf"))


@given(
    st.text(),
    st.integers(1, 1 << 60),
    st.integers(1, 1 << 60),
    st.floats(0, exclude_min=True, allow_infinity=False),
)
def test_p11_a_profile_survives_a_round_trip_to_the_last_bit(
    name: str, read_bytes: int, reads: int, seconds: float
) -> None:
    profile = Profile(name, read_bytes, reads, seconds)

    assert Profile.from_json(profile.to_json()) == profile


@pytest.mark.parametrize(
    ("told", "problem"),
    [
        ("{", "Expecting"),
        ("[]", "a profile has name"),
        ('{"name": "edge"}', "a profile has name"),
        (EDGE.to_json().replace("1048576", '"1MiB"'), "read_bytes of a profile cannot be"),
        (EDGE.to_json().replace("1048576", "true"), "read_bytes of a profile cannot be True"),
        (EDGE.to_json().replace("1048576", "0"), "read_bytes must be above 0"),
        (EDGE.to_json().replace("300.0", "NaN"), "timeout_seconds must be above 0"),
    ],
)
def test_what_is_no_profile_is_refused(told: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        Profile.from_json(told)


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
