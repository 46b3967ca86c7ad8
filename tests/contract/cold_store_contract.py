"""What every cold store must do: each line of `protocols.ColdStore` as a claim.

A test module subclasses `ColdStoreContract` and gives the fixture `world`, an empty cold
store. Where the capabilities say that something is not enforced, its tests are skipped. No
test uses a key as an object and as a directory at once: file systems cannot.
"""

from __future__ import annotations

import gzip
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, ClassVar, Protocol

import pytest

from archiver.errors import KeyTaken, ObjectChanged, ObjectMissing
from archiver.model import ColdKey, ColdObject, ColdStat, Digest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from archiver.protocols import ColdStore

AWKWARD_NAMES = (
    "plain.html.gz",
    "with space/and  two",
    "percent%/100%",
    "percent%2Fencoded",
    "percent/encoded",
    "question?mark=1&x=2",
    "question",
    "hash#fragment",
    "plus+sign",
    "plus sign",
    "amper&sand;semi",
    'quotes\'and"double"',
    "colon:at@equals=comma,",
    "ünïcödé/Übergröße",
    "日本語/📦",
    "trailing.dot.",
    "..double.dots..",
    "/".join(["long" * 50] * 4),
)

METADATA = {
    "archiver-digest": "ab" * 32,
    "archiver-source": "task_html",
    "archiver-id": "3f0c%2F%20id",
    "archiver-hot": "pages/%C3%BCn%25%3F%23%2B%26%22%27%0A" + "x" * 800,
    "task_id": "7",  # an underscore, as the reference worker writes it
    "empty": "",
}


class ColdWorld(Protocol):
    """A cold store, and hands that reach around it."""

    @property
    def store(self) -> ColdStore: ...

    def peek(self, key: ColdKey) -> bytes | None:
        """The stored bytes; None: nothing is there."""

    def damage(self, key: ColdKey, body: bytes) -> None:
        """Put other bytes under a key that is in use, as no store of ours ever does."""


class ColdStoreContract:
    """Subclass it, give the fixture `world`."""

    many_count: ClassVar[int] = 1_100  # more than one page of a LIST
    awkward_names: ClassVar[tuple[str, ...]] = AWKWARD_NAMES
    metadata: ClassVar[Mapping[str, str]] = METADATA
    creators_count: ClassVar[int] = 8

    # --- create -------------------------------------------------------------------------

    def test_what_was_created_is_there(self, world: ColdWorld) -> None:
        key = whole(world, "jobs/1/page.html.gz")

        stat = create(world.store, key, b"some bytes")

        assert (stat.key, stat.size_bytes) == (key, 10)
        assert world.peek(key) == b"some bytes"
        assert world.store.read(key) == b"some bytes"

    def test_a_taken_key_keeps_its_bytes_and_its_metadata(self, world: ColdWorld) -> None:
        needs_create(world)
        key = whole(world, "taken")
        create(world.store, key, b"first", metadata={"owner": "first"})
        before = world.store.look(key)

        for body in (b"other", b"longer than the first", b"first"):
            with pytest.raises(KeyTaken):
                create(world.store, key, body, metadata={"owner": "second"})

        assert world.peek(key) == b"first"
        assert world.store.look(key) == before

    def test_exactly_one_of_many_creators_wins(self, world: ColdWorld) -> None:
        needs_create(world)
        key = whole(world, "contended/key")
        bodies = [bytes([n]) * 50_000 for n in range(self.creators_count)]

        def try_create(body: bytes) -> bytes | None:
            try:
                create(world.store, key, body, metadata={"who": str(body[0])})
            except KeyTaken:
                return None
            return body

        with ThreadPoolExecutor(len(bodies)) as pool:
            won = [body for body in pool.map(try_create, bodies) if body is not None]

        assert len(won) == 1
        assert world.peek(key) == won[0]
        assert look(world.store, key).metadata["who"] == str(won[0][0])

    def test_many_threads_create_many_keys(self, world: ColdWorld) -> None:
        bodies = {whole(world, f"t/{n % 3}/{n}"): bytes([n]) * n for n in range(30)}

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda item: create(world.store, *item), bodies.items()))

        assert {key: world.store.read(key) for key in bodies} == bodies

    def test_an_empty_object_is_an_object(self, world: ColdWorld) -> None:
        key = whole(world, "empty")

        stat = create(world.store, key, b"")

        assert stat.size_bytes == 0
        assert world.store.stat_many([key]) == {key: stat}
        assert world.store.read(key) == b""

    def test_every_byte_value_survives(self, world: ColdWorld) -> None:
        key = whole(world, "all.bin")
        body = bytes(range(256)) * 5_000

        create(world.store, key, body)

        assert world.store.read(key) == body

    # --- what a store says of an object ----------------------------------------------------

    def test_metadata_type_and_encoding_come_back(self, world: ColdWorld) -> None:
        key = whole(world, "page.html.gz")

        stat = world.store.create(
            key,
            gzip.compress(b"x"),
            metadata=self.metadata,
            content_type="text/html; charset=utf-8",
            content_encoding="gzip",
        )

        assert look(world.store, key) == ColdObject(
            stat, dict(self.metadata), "text/html; charset=utf-8", "gzip"
        )

    def test_nothing_is_added_where_nothing_was_given(self, world: ColdWorld) -> None:
        key = whole(world, "bare")

        world.store.create(key, b"x", metadata={}, content_type=None, content_encoding=None)

        seen = look(world.store, key)
        assert seen.metadata == {}
        assert seen.content_encoding is None

    def test_a_read_never_decodes_what_is_stored(self, world: ColdWorld) -> None:
        key = whole(world, "packed.html.gz")
        packed = gzip.compress(b"<p>hello</p>" * 100)

        world.store.create(
            key, packed, metadata={}, content_type="text/html", content_encoding="gzip"
        )

        assert world.store.read(key) == packed
        assert world.store.readback(key) == Digest.of(packed)

    def test_a_readback_hashes_the_whole_object(self, world: ColdWorld) -> None:
        key = whole(world, "large")
        body = bytes(range(251)) * 20_000  # about 5 MB: more than one buffer of anybody's

        create(world.store, key, body)

        assert world.store.readback(key) == Digest.of(body)

    def test_every_way_of_asking_gives_one_answer(self, world: ColdWorld) -> None:
        key = whole(world, "dir/page")

        created = create(world.store, key, b"some bytes")

        assert created.etag
        assert world.store.stat_many([key]) == {key: created}
        assert look(world.store, key).stat == created
        assert list(world.store.list(key)) == [created]
        assert world.store.stat_many([key]) == {key: created}  # and it stays

    def test_absence_is_an_answer(self, world: ColdWorld) -> None:
        create(world.store, whole(world, "dir/page"), b"x")

        for name in ("nothing", "dir/pag", "dir/page2", "dir", "dir/page/below"):
            key = whole(world, name)
            assert world.store.stat_many([key]) == {key: None}
            assert world.store.look(key) is None
            with pytest.raises(ObjectMissing):
                world.store.read(key)
            with pytest.raises(ObjectMissing):
                world.store.readback(key)

    def test_a_held_digest_is_that_of_the_bytes(self, world: ColdWorld) -> None:
        key = whole(world, "digest")
        create(world.store, key, b"some bytes")

        expected = Digest.of(b"some bytes")
        if world.store.capabilities.returns_digest:
            assert world.store.held_digest(key) == expected
        else:
            assert world.store.held_digest(key) in {None, expected}

    def test_damage_shows(self, world: ColdWorld) -> None:
        """Audit and readback stand on this: a read gives what is there now."""
        key = whole(world, "damaged")
        create(world.store, key, b"good bytes")

        world.damage(key, b"bad")

        assert world.store.read(key) == b"bad"
        assert world.store.readback(key) == Digest.of(b"bad")
        stat = world.store.stat_many([key])[key]
        assert stat is not None
        assert stat.size_bytes == 3

    def test_a_location_names_the_whole_key(self, world: ColdWorld) -> None:
        key = whole(world, "dir/page")

        location = world.store.location(key)

        assert location.key == key
        assert location.provider
        assert location.bucket

    def test_the_path_prefix_is_empty_or_ends_in_a_slash(self, world: ColdWorld) -> None:
        prefix = world.store.path_prefix

        assert prefix == "" or (prefix.endswith("/") and not prefix.startswith("/"))

    # --- ranges -------------------------------------------------------------------------

    @pytest.mark.parametrize(
        ("start", "stop"),
        [(0, 1), (0, 100), (500, 501), (499, 1_500), (1_499, 1_500), (0, 1_500)],
    )
    def test_a_range_gives_exactly_those_bytes(
        self, world: ColdWorld, start: int, stop: int
    ) -> None:
        body = bytes(range(250)) * 6
        stat = create(world.store, whole(world, "page"), body)

        assert world.store.read_range(stat, start, stop) == body[start:stop]

    def test_a_range_never_decodes_what_is_stored(self, world: ColdWorld) -> None:
        packed = gzip.compress(bytes(range(256)) * 100, mtime=0)
        stat = world.store.create(
            whole(world, "packed.html.gz"),
            packed,
            metadata={},
            content_type="text/html",
            content_encoding="gzip",
        )

        assert world.store.read_range(stat, 10, len(packed)) == packed[10:]

    def test_ranges_make_up_a_large_object(self, world: ColdWorld) -> None:
        body = bytes(range(251)) * 12_000  # about 3 MB: more than one buffer of anybody's
        stat = create(world.store, whole(world, "large"), body)
        starts = range(0, len(body), 700_000)

        def read_from(start: int) -> bytes:
            stop = min(len(body), start + 700_000)
            return bytes(world.store.read_range(stat, start, stop))

        with ThreadPoolExecutor(4) as pool:
            assert b"".join(pool.map(read_from, starts)) == body

    @pytest.mark.parametrize("body", [b"other bytes", b"of another size", b"of"])
    def test_a_range_of_another_object_is_not_given_out(
        self, world: ColdWorld, body: bytes
    ) -> None:
        stat = create(world.store, whole(world, "page"), b"first bytes")
        world.damage(stat.key, body)

        with pytest.raises(ObjectChanged):
            world.store.read_range(stat, 4, 8)

    def test_a_range_of_what_is_not_there_is_missing(self, world: ColdWorld) -> None:
        stat = ColdStat(whole(world, "nothing"), 10, '"e"')

        with pytest.raises(ObjectMissing):
            world.store.read_range(stat, 0, 1)

    # --- stat_many ----------------------------------------------------------------------

    def test_stat_of_nothing_is_nothing(self, world: ColdWorld) -> None:
        assert world.store.stat_many([]) == {}

    def test_stat_many_answers_every_key(self, world: ColdWorld) -> None:
        here, gone = whole(world, "dir/here"), whole(world, "dir/gone")
        stat = create(world.store, here, b"x")

        assert world.store.stat_many([gone, here, here]) == {here: stat, gone: None}

    def test_stat_many_finds_keys_that_lie_together(self, world: ColdWorld) -> None:
        keys = [whole(world, f"together/{n:05}") for n in range(self.many_count)]
        absent = [whole(world, f"together/{n:05}-absent") for n in range(0, 1_000, 100)]
        stats = create_all(world.store, keys)

        assert world.store.stat_many([*absent, *keys]) == {**stats, **dict.fromkeys(absent)}
        assert list(world.store.list(whole(world, "together/"))) == [stats[key] for key in keys]

    def test_stat_many_finds_keys_that_lie_apart(self, world: ColdWorld) -> None:
        keys = [whole(world, f"jobs/{n * 7919 % 997}/tasks/{n}/page") for n in range(60)]
        absent = [whole(world, f"jobs/{n}/tasks/none/page") for n in range(0, 60, 10)]
        stats = create_all(world.store, keys)

        assert world.store.stat_many([*keys, *absent]) == {**stats, **dict.fromkeys(absent)}

    # --- list ---------------------------------------------------------------------------

    def test_a_listing_is_in_key_order(self, world: ColdWorld) -> None:
        names = [
            "l/a-b",
            "l/a.b",
            "l/a/b",
            "l/a0",
            "l/a/b-",
            "l/a/é",
            "l/aé",
            "l/B",
            "l/ab/c/d",
        ]
        keys = [whole(world, name) for name in names]
        create_all(world.store, keys)

        listed = [stat.key for stat in world.store.list(whole(world, "l/"))]

        assert listed == sorted(keys, key=lambda key: key.encode())

    def test_a_listing_has_every_key_of_its_prefix_and_no_other(self, world: ColdWorld) -> None:
        inside = [whole(world, f"p/abc{tail}") for tail in ("1", "/x", "/y/z", ".z")]
        outside = [whole(world, name) for name in ("p/ab", "p/abd", "q/abc", "p/b")]
        create_all(world.store, inside + outside)

        seen = {stat.key for stat in world.store.list(whole(world, "p/abc"))}

        assert seen == set(inside)
        assert list(world.store.list(whole(world, "p/abc/nothing"))) == []
        assert list(world.store.list(whole(world, "nothing"))) == []

    def test_a_listing_can_be_left_early(self, world: ColdWorld) -> None:
        keys = [whole(world, f"early/{n}") for n in range(5)]
        create_all(world.store, keys)

        assert next(iter(world.store.list(whole(world, "early/")))).key == keys[0]

    # --- names --------------------------------------------------------------------------

    def test_awkward_names_stay_apart(self, world: ColdWorld) -> None:
        bodies = {
            whole(world, f"awkward/{name}"): f"body of {name!r}".encode()
            for name in self.awkward_names
        }
        stats = {key: create(world.store, key, body) for key, body in bodies.items()}

        assert {key: world.peek(key) for key in bodies} == bodies
        assert {key: world.store.read(key) for key in bodies} == bodies
        assert world.store.stat_many(list(bodies)) == stats
        for key in bodies:
            assert world.store.stat_many([key]) == {key: stats[key]}
        listed = {stat.key: stat for stat in world.store.list(whole(world, "awkward/"))}
        assert listed == stats


def whole(world: ColdWorld, name: str) -> ColdKey:
    """A whole key: the store's prefix is part of it."""
    return ColdKey(world.store.path_prefix + name)


def create(
    store: ColdStore, key: ColdKey, body: bytes, metadata: Mapping[str, str] | None = None
) -> ColdStat:
    return store.create(
        key,
        body,
        metadata=metadata or {"archiver-id": "1"},
        content_type="text/html",
        content_encoding=None,
    )


def create_all(store: ColdStore, keys: list[ColdKey]) -> dict[ColdKey, ColdStat]:
    with ThreadPoolExecutor(8) as pool:
        stats = pool.map(lambda key: create(store, key, str(key).encode()), keys)
        return dict(zip(keys, stats, strict=True))


def look(store: ColdStore, key: ColdKey) -> ColdObject:
    seen = store.look(key)
    assert seen is not None
    return seen


def needs_create(world: ColdWorld) -> None:
    if not world.store.capabilities.enforces_create:
        pytest.skip("this store does not enforce a conditional create")
