"""Finding keys by listing: what is found is there, and no page is paid for in vain."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from archiver.stores.s3_listing import _just_before, find_by_listing

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from obstore import ObjectMeta

PAGE_KEYS = 10
NAMES = st.text("ab0.~/ é", min_size=1, max_size=6).filter(
    lambda key: not {"", ".", ".."} & set(key.split("/"))
)


class Bucket:
    """Keys in order, and how many pages were asked for."""

    def __init__(self, keys: Sequence[str]) -> None:
        self._keys = sorted(keys)
        self.pages_count = 0

    def pages(self, directory: str, after: str | None) -> Iterator[Sequence[ObjectMeta]]:
        inside = [key for key in self._keys if key.startswith(f"{directory}/")]
        left = [key for key in inside if after is None or key > after]
        for start in range(0, max(len(left), 1), PAGE_KEYS):
            self.pages_count += 1
            yield [meta(key) for key in left[start : start + PAGE_KEYS]]


def meta(key: str, size: int = 1) -> ObjectMeta:
    return {
        "path": key.removesuffix("/"),  # as the client reads it
        "last_modified": datetime(2026, 11, 21, tzinfo=UTC),
        "size": size,
        "e_tag": '"e"',
        "version": None,
    }


def found(bucket: Bucket, keys: Sequence[str], pays_from: int) -> set[str]:
    pairs = list(find_by_listing(bucket.pages, keys, pays_from))
    assert [key for key, item in pairs if item["path"] != key] == []
    assert len({key for key, _ in pairs}) == len(pairs)
    return {key for key, _ in pairs}


def test_keys_of_one_directory_cost_one_listing() -> None:
    keys = [f"jobs/7/{n:03}" for n in range(30)]
    bucket = Bucket([*keys, *[f"jobs/6/{n}" for n in range(50)], "jobs/8/1"])

    assert found(bucket, keys, 5) == set(keys)
    assert bucket.pages_count == 3


def test_fewer_keys_than_a_page_is_worth_are_not_listed() -> None:
    bucket = Bucket(["a/1", "a/2", "a/3", "a/4"])

    assert found(bucket, ["a/1", "a/2", "a/3", "a/4"], 5) == set()
    assert bucket.pages_count == 0


def test_a_listing_among_strangers_is_left_for_the_directories_below() -> None:
    keys = [f"jobs/{job}/{n:03}" for job in (1, 5) for n in range(8)]
    strangers = [f"jobs/{job}/{n:03}" for job in (2, 3, 4) for n in range(500)]
    bucket = Bucket([*keys, *strangers])

    assert found(bucket, keys, 5) == set(keys)
    assert bucket.pages_count <= 4


def test_keys_far_apart_cost_few_pages() -> None:
    keys = [f"jobs/{n:03}/page" for n in range(50)]
    strangers = [f"jobs/{n:03}/{other:03}" for n in range(50) for other in range(100)]
    bucket = Bucket([*keys, *strangers])

    found(bucket, keys, 5)

    assert bucket.pages_count == 1


def test_a_directory_marker_is_not_an_object() -> None:
    keys = [f"dir/{n}" for n in range(6)]

    def pages(_: str, __: str | None) -> Iterator[Sequence[ObjectMeta]]:
        yield [meta("dir/0", 3), meta("dir/0/", 0), meta("dir/1/", 0), meta("dir/2")]

    pairs = dict(find_by_listing(pages, keys, 2))

    assert {key: item["size"] for key, item in pairs.items()} == {"dir/0": 3, "dir/2": 1}


def test_nothing_is_listed_at_the_root() -> None:
    """`/a` and `a` would look alike."""
    bucket = Bucket(["a", "b", "c"])

    assert found(bucket, ["a", "b", "c"], 1) == set()
    assert bucket.pages_count == 0


@given(st.lists(NAMES), st.lists(NAMES), st.integers(1, 6))
def test_only_what_is_there_is_found(
    there: list[str], wanted: list[str], pays_from: int
) -> None:
    assert found(Bucket(there), wanted, pays_from) <= set(there) & set(wanted)


@given(NAMES)
def test_the_name_before_a_key_comes_before_it_and_can_be_said(name: str) -> None:
    before = _just_before(f"dir/{name}", "dir")

    if before is not None:
        assert before < f"dir/{name}"
        assert not {"", ".", ".."} & set(before.split("/"))
