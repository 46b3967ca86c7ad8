"""What every hot store must do: each line of `protocols.HotStore` as a claim.

A test module subclasses `HotStoreContract` and gives the fixture `world`. `world.store` is
the store under test; in `world` the bucket `HotStoreContract.bucket` exists and is empty, and
`HotStoreContract.absent_bucket` does not exist.
"""

from __future__ import annotations

import gzip
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, ClassVar, Protocol

import pytest

from archiver.errors import (
    BucketMissing,
    LeaseLost,
    ObjectChanged,
    ObjectMissing,
    PermanentError,
)
from archiver.model import Deleted, HotIdentity, HotLocation
from tests.fakes.stores import anytime

if TYPE_CHECKING:
    from archiver.protocols import HotStore

AWKWARD_PATHS = (
    "plain.html",
    "with space/and  two.html",
    "percent%/100%.html",
    "percent%2Fencoded.html",
    "percent/encoded.html",  # must not be what the line above means
    "question?mark=1&x=2.html",
    "question",  # what is left of the line above when the query is cut off
    "hash#fragment.html",
    "plus+sign.html",
    "plus sign.html",
    "amper&sand;semi.html",
    'quotes\'and"double".html',
    "back\\slash.html",
    "colon:at@equals=comma,.html",
    "brackets[0]{1}<2>|^`~.html",
    "ünïcödé/Übergröße-é.html",
    "e\u0301-decomposed.html",  # NFD: not the same name as its NFC form
    "\u00e9-decomposed.html",
    "日本語/📦.html",
    "new\nline.html",
    "tab\there.html",
    "trailing.dot.",
    "..double.dots..",
    "/".join(["long" * 50] * 4),  # 803 bytes
)


class HotWorld(Protocol):
    """A hot store and the hands of the application that fills it."""

    @property
    def store(self) -> HotStore: ...

    def plant(
        self, location: HotLocation, body: bytes, content_type: str = "text/html"
    ) -> None:
        """Put an object there, as the application does; writes over what was there."""

    def peek(self, location: HotLocation) -> bytes | None:
        """The stored bytes, around the store under test; None: nothing is there."""


class HotStoreContract:
    """Subclass it, give the fixture `world`."""

    bucket: ClassVar[str] = "hot-pages"
    absent_bucket: ClassVar[str] = "no-such-bucket"
    many_count: ClassVar[int] = 1_200  # more than one page or one call of any store
    awkward_paths: ClassVar[tuple[str, ...]] = AWKWARD_PATHS
    absent_answer: ClassVar[Deleted] = Deleted.ABSENT  # S3 itself does not tell: DELETED

    def at(self, path: str) -> HotLocation:
        return HotLocation(self.bucket, path)

    # --- open and read ------------------------------------------------------------------

    def test_a_read_gives_the_stored_bytes(self, world: HotWorld) -> None:
        world.plant(self.at("jobs/1/page.html"), b"<p>hello</p>")

        assert read(world.store, self.at("jobs/1/page.html")) == b"<p>hello</p>"

    def test_a_read_never_decodes_what_is_stored(self, world: HotWorld) -> None:
        packed = gzip.compress(b"<p>hello</p>" * 100)
        world.plant(self.at("page.html.gz"), packed)

        assert read(world.store, self.at("page.html.gz")) == packed

    def test_every_byte_value_survives(self, world: HotWorld) -> None:
        body = bytes(range(256)) * 5_000
        world.plant(self.at("all.bin"), body, content_type="application/octet-stream")

        assert read(world.store, self.at("all.bin")) == body

    def test_the_size_is_known_before_the_bytes_are_taken(self, world: HotWorld) -> None:
        world.plant(self.at("page"), b"x" * 12_345)

        with world.store.open(self.at("page")) as opened:
            assert opened.identity.size_bytes == 12_345
            assert len(opened.read()) == 12_345

    def test_an_object_may_be_opened_and_left_unread(self, world: HotWorld) -> None:
        world.plant(self.at("page"), b"x" * 100_000)

        for _ in range(5):
            with world.store.open(self.at("page")):
                pass

        assert read(world.store, self.at("page")) == b"x" * 100_000

    def test_an_empty_object_is_an_object(self, world: HotWorld) -> None:
        world.plant(self.at("empty"), b"")

        with world.store.open(self.at("empty")) as opened:
            assert opened.identity.size_bytes == 0
            assert opened.read() == b""
            identity = opened.identity
        assert world.store.identify([self.at("empty")]) == {self.at("empty"): identity}
        assert world.store.delete([(self.at("empty"), identity)], anytime) == {
            self.at("empty"): Deleted.DELETED
        }

    def test_an_absent_object_is_missing(self, world: HotWorld) -> None:
        with pytest.raises(ObjectMissing), world.store.open(self.at("nothing/here")):
            pass

    def test_an_object_in_an_absent_bucket_is_never_read(self, world: HotWorld) -> None:
        location = HotLocation(self.absent_bucket, "page")

        with pytest.raises((BucketMissing, ObjectMissing)), world.store.open(location):
            pass

    def test_many_threads_read_their_own_bytes(self, world: HotWorld) -> None:
        bodies = {self.at(f"thread/{n}"): bytes([n]) * (1_000 + n) for n in range(24)}
        for location, body in bodies.items():
            world.plant(location, body)

        with ThreadPoolExecutor(8) as pool:
            seen = dict(
                zip(bodies, pool.map(lambda at: read(world.store, at), bodies), strict=True)
            )

        assert seen == bodies

    # --- ranges -------------------------------------------------------------------------

    @pytest.mark.parametrize(
        ("start", "stop"),
        [(0, 1), (0, 100), (500, 501), (499, 1_500), (1_499, 1_500), (0, 1_500)],
    )
    def test_a_range_gives_exactly_those_bytes(
        self, world: HotWorld, start: int, stop: int
    ) -> None:
        body = bytes(range(250)) * 6
        world.plant(self.at("page"), body)
        identity = identity_of(world.store, self.at("page"))

        assert (
            world.store.read_range(self.at("page"), identity, start, stop) == body[start:stop]
        )

    def test_a_range_never_decodes_what_is_stored(self, world: HotWorld) -> None:
        packed = gzip.compress(bytes(range(256)) * 100, mtime=0)
        world.plant(self.at("page.html.gz"), packed)
        identity = identity_of(world.store, self.at("page.html.gz"))

        seen = world.store.read_range(self.at("page.html.gz"), identity, 10, len(packed))

        assert seen == packed[10:]

    def test_ranges_make_up_a_large_object(self, world: HotWorld) -> None:
        body = bytes(range(251)) * 12_000  # about 3 MB: more than one buffer of anybody's
        world.plant(self.at("large"), body)
        identity = identity_of(world.store, self.at("large"))
        starts = range(0, len(body), 700_000)

        def read_from(start: int) -> bytes:
            stop = min(len(body), start + 700_000)
            return bytes(world.store.read_range(self.at("large"), identity, start, stop))

        with ThreadPoolExecutor(4) as pool:
            assert b"".join(pool.map(read_from, starts)) == body

    @pytest.mark.parametrize("body", [b"other bytes", b"of another size", b"of"])
    def test_a_range_of_another_object_is_not_given_out(
        self, world: HotWorld, body: bytes
    ) -> None:
        world.plant(self.at("page"), b"first bytes")
        identity = identity_of(world.store, self.at("page"))
        world.plant(self.at("page"), body)

        with pytest.raises(ObjectChanged):
            world.store.read_range(self.at("page"), identity, 4, 8)

    def test_a_range_of_what_is_gone_is_missing(self, world: HotWorld) -> None:
        world.plant(self.at("page"), b"page")
        identity = identity_of(world.store, self.at("page"))
        world.store.delete([(self.at("page"), identity)], anytime)

        with pytest.raises(ObjectMissing):
            world.store.read_range(self.at("page"), identity, 0, 1)

    # --- identity -----------------------------------------------------------------------

    def test_identify_says_what_open_said(self, world: HotWorld) -> None:
        locations = [self.at("a"), self.at("dir/b"), self.at("dir/c")]
        for location in locations:
            world.plant(location, str(location).encode())

        opened = {location: identity_of(world.store, location) for location in locations}

        assert world.store.identify(locations) == opened
        assert world.store.identify(locations[:1]) == {locations[0]: opened[locations[0]]}

    def test_an_identity_has_an_etag_or_a_version(self, world: HotWorld) -> None:
        world.plant(self.at("page"), b"x")

        identity = identity_of(world.store, self.at("page"))

        assert identity.etag or identity.version

    def test_an_unchanged_object_keeps_its_identity(self, world: HotWorld) -> None:
        world.plant(self.at("page"), b"same")
        before = identity_of(world.store, self.at("page"))

        read(world.store, self.at("page"))

        assert identity_of(world.store, self.at("page")) == before
        assert world.store.identify([self.at("page")]) == {self.at("page"): before}

    @pytest.mark.parametrize("body", [b"other bytes", b"of another size"])
    def test_an_overwritten_object_has_another_identity(
        self, world: HotWorld, body: bytes
    ) -> None:
        world.plant(self.at("page"), b"first bytes")
        before = identity_of(world.store, self.at("page"))

        world.plant(self.at("page"), body)

        assert identity_of(world.store, self.at("page")) != before
        assert world.store.identify([self.at("page")]) != {self.at("page"): before}

    def test_identify_answers_none_for_what_is_not_there(self, world: HotWorld) -> None:
        world.plant(self.at("dir/here"), b"x")

        seen = world.store.identify(
            [self.at("dir/gone"), self.at("dir/here"), self.at("gone"), self.at("dir/her")]
        )

        assert seen == {
            self.at("dir/gone"): None,
            self.at("dir/here"): identity_of(world.store, self.at("dir/here")),
            self.at("gone"): None,
            self.at("dir/her"): None,  # a prefix of a name is not the name
        }

    def test_identify_of_nothing_is_nothing(self, world: HotWorld) -> None:
        assert world.store.identify([]) == {}

    def test_identify_never_finds_an_object_in_an_absent_bucket(self, world: HotWorld) -> None:
        location = HotLocation(self.absent_bucket, "page")

        with suppress(BucketMissing):
            assert world.store.identify([location]) == {location: None}

    def test_identify_and_delete_work_in_bulk(self, world: HotWorld) -> None:
        one_directory = [self.at(f"bulk/{n:05}") for n in range(self.many_count)]
        scattered = [self.at(f"jobs/{n}/tasks/{n}/page.html.gz") for n in range(40)]
        absent = [self.at(f"bulk/absent-{n}") for n in range(5)]
        present = one_directory + scattered
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda at: world.plant(at, str(at).encode()), present))

        seen = world.store.identify([*absent, *present])

        assert [at for at in absent if seen[at] is not None] == []
        identities = {at: identity for at, identity in seen.items() if identity is not None}
        assert identities.keys() == set(present)
        assert [at for at in present if identities[at].size_bytes != len(str(at))] == []
        assert identities[present[0]] == identity_of(world.store, present[0])
        assert identities[scattered[7]] == identity_of(world.store, scattered[7])

        targets = [(at, identities[at]) for at in present]
        targets += [(at, HotIdentity(1, etag="gone")) for at in absent]
        answers = world.store.delete(targets, anytime)

        assert answers == {
            **dict.fromkeys(present, Deleted.DELETED),
            **dict.fromkeys(absent, self.absent_answer),
        }
        assert [at for at in present if world.peek(at) is not None] == []

    # --- delete -------------------------------------------------------------------------

    def test_delete_removes_exactly_the_targets(self, world: HotWorld) -> None:
        kept = [
            self.at("dir/page2"),
            self.at("dir/pag"),
            self.at("dir/page.html"),
            self.at("p"),
        ]
        for location in [self.at("dir/page"), *kept]:
            world.plant(location, b"x")

        target = (self.at("dir/page"), identity_of(world.store, self.at("dir/page")))
        answers = world.store.delete([target], anytime)

        assert answers == {self.at("dir/page"): Deleted.DELETED}
        assert world.peek(self.at("dir/page")) is None
        assert [at for at in kept if world.peek(at) is None] == []

    def test_delete_is_repeatable(self, world: HotWorld) -> None:
        world.plant(self.at("page"), b"x")
        target = (self.at("page"), identity_of(world.store, self.at("page")))

        first = world.store.delete([target], anytime)
        second = world.store.delete([target], anytime)

        assert first == {self.at("page"): Deleted.DELETED}
        assert second == {self.at("page"): self.absent_answer}

    def test_delete_answers_each_target_for_itself(self, world: HotWorld) -> None:
        for path in ("one", "three"):
            world.plant(self.at(path), path.encode())
        targets = [
            (self.at("one"), identity_of(world.store, self.at("one"))),
            (self.at("two"), HotIdentity(3, etag="of-old")),
            (self.at("three"), identity_of(world.store, self.at("three"))),
        ]

        assert world.store.delete(targets, anytime) == {
            self.at("one"): Deleted.DELETED,
            self.at("two"): self.absent_answer,
            self.at("three"): Deleted.DELETED,
        }

    def test_delete_of_nothing_is_nothing(self, world: HotWorld) -> None:
        assert world.store.delete([], anytime) == {}

    def test_delete_tells_the_truth_about_a_changed_object(self, world: HotWorld) -> None:
        """A store without a condition deletes it and says so; `identify` is the guard."""
        world.plant(self.at("page"), b"old")
        old = identity_of(world.store, self.at("page"))
        world.plant(self.at("page"), b"new")

        answer = world.store.delete([(self.at("page"), old)], anytime)[self.at("page")]

        left = world.peek(self.at("page"))
        assert (answer, left) in [(Deleted.CHANGED, b"new"), (Deleted.DELETED, None)]

    def test_nothing_is_deleted_that_is_no_longer_allowed(self, world: HotWorld) -> None:
        world.plant(self.at("page"), b"page")
        target = (self.at("page"), identity_of(world.store, self.at("page")))

        def refuse() -> None:
            raise LeaseLost(worker=1)

        with pytest.raises(LeaseLost):
            world.store.delete([target], refuse)

        assert world.peek(self.at("page")) == b"page"

    # --- names --------------------------------------------------------------------------

    def test_awkward_names_stay_apart(self, world: HotWorld) -> None:
        bodies = {self.at(path): f"body of {path!r}".encode() for path in self.awkward_paths}
        for location, body in bodies.items():
            world.plant(location, body)

        assert {at: world.peek(at) for at in bodies} == bodies  # else the world is wrong
        assert {at: read(world.store, at) for at in bodies} == bodies
        opened = {at: identity_of(world.store, at) for at in bodies}
        assert world.store.identify(list(bodies)) == opened
        for location in bodies:
            assert world.store.identify([location]) == {location: opened[location]}

    def test_awkward_names_are_deleted_one_by_one(self, world: HotWorld) -> None:
        locations = [self.at(path) for path in self.awkward_paths]
        for location in locations:
            world.plant(location, b"x")

        while locations:
            gone = locations.pop()
            answers = world.store.delete([(gone, identity_of(world.store, gone))], anytime)
            assert answers == {gone: Deleted.DELETED}
            assert world.peek(gone) is None
            assert [at for at in locations if world.peek(at) is None] == []

    @pytest.mark.parametrize(
        "path",
        [
            "public/../secret",
            "../hot-pages/secret",
            "./secret",
            "public/%2E%2E/secret",
            "/secret",
            "//secret",
            "secret/",
            "nul\0/../secret",
        ],
    )
    def test_a_crooked_path_never_reaches_another_object(
        self, world: HotWorld, path: str
    ) -> None:
        world.plant(self.at("secret"), b"of another row")
        world.plant(self.at("public/page"), b"x")

        with pytest.raises(PermanentError), world.store.open(self.at(path)):
            pass
        with suppress(PermanentError):
            assert world.store.identify([self.at(path)]) == {self.at(path): None}
        identity = identity_of(world.store, self.at("secret"))
        with suppress(PermanentError):
            answers = world.store.delete([(self.at(path), identity)], anytime)
            assert answers[self.at(path)] in {self.absent_answer, Deleted.DENIED}
        assert world.peek(self.at("secret")) == b"of another row"

    # --- probe --------------------------------------------------------------------------

    def test_a_probe_passes_where_the_bucket_is_there(self, world: HotWorld) -> None:
        world.store.probe(self.bucket)  # does not raise

    def test_a_probe_of_an_absent_bucket_says_so(self, world: HotWorld) -> None:
        with pytest.raises(BucketMissing) as caught:
            world.store.probe(self.absent_bucket)

        assert caught.value.bucket == self.absent_bucket


def read(store: HotStore, location: HotLocation) -> bytes:
    with store.open(location) as opened:
        return opened.read()


def identity_of(store: HotStore, location: HotLocation) -> HotIdentity:
    with store.open(location) as opened:
        return opened.identity
