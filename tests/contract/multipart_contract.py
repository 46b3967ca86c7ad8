"""What every store must do with objects in parts: each line of `protocols.Multipart`.

A test module subclasses `MultipartContract` and gives the fixture `world`, an empty cold store.
Where a capability is not there, its tests are skipped. Parts have the least size the store
takes, so the suite is quick where that is a byte, and honest where it is 5 MiB.
"""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Protocol

import pytest

from archiver.errors import ArchiverError, KeyTaken, StoreUnavailable, UploadMissing
from archiver.model import (
    ColdKey,
    ColdObject,
    ColdStat,
    Digest,
    OpenUpload,
    Part,
    StoredPart,
)
from tests.contract.cold_store_contract import METADATA

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from archiver.protocols import ColdStore


class PartsWorld(Protocol):
    """A cold store, and hands that reach around it."""

    @property
    def store(self) -> ColdStore: ...

    def peek(self, key: ColdKey) -> bytes | None:
        """The stored bytes; None: nothing is there."""


@dataclass
class Sending:
    """One upload under way, and what was acknowledged of it."""

    store: ColdStore
    upload: OpenUpload

    def put(self, number: int, body: bytes) -> Part:
        etag = self.store.multipart.put_part(self.upload, number, body)
        assert etag
        return Part(number, len(body), Digest.of(body), etag)

    def put_all(self, bodies: Sequence[bytes]) -> list[Part]:
        return [self.put(number, body) for number, body in enumerate(bodies, 1)]

    def parts(self) -> Sequence[StoredPart]:
        return self.store.multipart.parts(self.upload)

    def complete(self, parts: Sequence[Part]) -> ColdStat:
        return self.store.multipart.complete(self.upload, parts)

    def abort(self) -> None:
        self.store.multipart.abort(self.upload)


class MultipartContract:
    """Subclass it, give the fixture `world`."""

    least_bytes: ClassVar[int] = 1_000  # of a part in these tests, where the store takes less
    takes_empty_part: ClassVar[bool] = True  # else an empty object is a plain `create`
    lists_by_prefix: ClassVar[bool] = True  # else the uploads of a whole key alone
    tells_begun_at: ClassVar[bool] = True
    late_error: ClassVar[type[ArchiverError]] = UploadMissing  # of a part, and of a complete
    metadata: ClassVar[Mapping[str, str]] = METADATA

    def part_bytes(self, world: PartsWorld) -> int:
        return max(self.least_bytes, world.store.multipart.rules.min_bytes)

    def bodies(self, world: PartsWorld, count: int, last_bytes: int = 77) -> list[bytes]:
        """Bodies of as many parts, no two alike; the last one is shorter."""
        size_bytes = self.part_bytes(world)
        full = [bytes([number]) * size_bytes for number in range(1, count)]
        return [*full, bytes([count]) * last_bytes]

    def begin(self, world: PartsWorld, name: str = "dir/object") -> Sending:
        key = whole(world, name)
        upload = world.store.multipart.begin(
            key,
            part_bytes=self.part_bytes(world),
            metadata={"archiver-id": "1"},
            content_type="text/html",
            content_encoding=None,
        )
        assert upload.key == key
        return Sending(world.store, upload)

    # --- the whole way ------------------------------------------------------------------

    def test_parts_become_one_object_at_once(self, world: PartsWorld) -> None:
        sending, bodies = self.begin(world), self.bodies(world, 3)
        key = sending.upload.key
        parts = sending.put_all(bodies)

        assert world.peek(key) is None
        assert world.store.stat_many([key]) == {key: None}
        assert list(world.store.list(whole(world, "dir/"))) == []
        stat = sending.complete(parts)

        assert (stat.key, stat.size_bytes) == (key, sum(map(len, bodies)))
        assert world.peek(key) == b"".join(bodies)
        assert world.store.stat_many([key]) == {key: stat}
        assert world.store.readback(key) == Digest.of(b"".join(bodies))
        assert list(world.store.multipart.open_uploads(key)) == []

    def test_equal_parts_are_equal_to_the_last_byte(self, world: PartsWorld) -> None:
        sending = self.begin(world)
        bodies = self.bodies(world, 2, last_bytes=self.part_bytes(world))

        stat = sending.complete(sending.put_all(bodies))

        assert stat.size_bytes == 2 * self.part_bytes(world)
        assert world.store.readback(stat.key) == Digest.of(b"".join(bodies))

    def test_one_part_alone_may_be_small(self, world: PartsWorld) -> None:
        sending = self.begin(world)

        stat = sending.complete(sending.put_all([b"x"]))

        assert stat.size_bytes == 1
        assert world.peek(stat.key) == b"x"

    def test_an_empty_object_is_one_empty_part(self, world: PartsWorld) -> None:
        if not self.takes_empty_part:
            pytest.skip("here an empty object is a plain create")
        sending = self.begin(world)

        stat = sending.complete(sending.put_all([b""]))

        assert stat.size_bytes == 0
        assert world.peek(stat.key) == b""

    def test_parts_may_come_out_of_order(self, world: PartsWorld) -> None:
        sending, bodies = self.begin(world), self.bodies(world, 3)

        parts = [sending.put(number, bodies[number - 1]) for number in (3, 1, 2)]

        stat = sending.complete(sorted(parts, key=lambda part: part.number))
        assert world.store.readback(stat.key) == Digest.of(b"".join(bodies))

    def test_parts_may_come_from_many_threads(self, world: PartsWorld) -> None:
        sending, bodies = self.begin(world), self.bodies(world, 5)

        with ThreadPoolExecutor(4) as pool:
            parts = list(pool.map(sending.put, itertools.count(1), bodies))

        stat = sending.complete(parts)
        assert world.store.readback(stat.key) == Digest.of(b"".join(bodies))

    def test_two_uploads_of_one_key_know_nothing_of_each_other(self, world: PartsWorld) -> None:
        first, second = self.begin(world), self.begin(world)
        first.put(1, b"of the first")
        part = second.put(1, b"of the second")
        first.abort()

        stat = second.complete([part])

        assert first.upload.upload_id != second.upload.upload_id
        assert world.peek(stat.key) == b"of the second"

    def test_metadata_type_and_encoding_come_back(self, world: PartsWorld) -> None:
        key = whole(world, "page.html.gz")
        upload = world.store.multipart.begin(
            key,
            part_bytes=self.part_bytes(world),
            metadata=self.metadata,
            content_type="text/html; charset=utf-8",
            content_encoding="gzip",
        )
        sending = Sending(world.store, upload)

        stat = sending.complete(sending.put_all([b"x"]))

        assert world.store.look(key) == ColdObject(
            stat, dict(self.metadata), "text/html; charset=utf-8", "gzip"
        )

    # --- what the store holds -------------------------------------------------------------

    def test_the_store_tells_the_parts_it_holds_by_number(self, world: PartsWorld) -> None:
        sending, bodies = self.begin(world), self.bodies(world, 3)
        assert list(sending.parts()) == []

        parts = [sending.put(number, bodies[number - 1]) for number in (3, 1)]

        assert list(sending.parts()) == [stored(part) for part in reversed(parts)]
        sending.abort()

    def test_of_a_part_sent_twice_the_last_one_counts(self, world: PartsWorld) -> None:
        sending, bodies = self.begin(world), self.bodies(world, 2)
        first, last = sending.put_all(bodies)
        sending.put(2, b"a longer last part than the one that counts")

        again = sending.put(1, bytes(len(bodies[0])))
        last = sending.put(2, bodies[1])

        assert list(sending.parts()) == [stored(again), stored(last)]
        stat = sending.complete([again, last])
        assert first.digest != again.digest
        assert world.store.readback(stat.key) == Digest.of(bytes(len(bodies[0])) + bodies[1])

    def test_a_part_that_is_not_there_cannot_be_completed(self, world: PartsWorld) -> None:
        sending, bodies = self.begin(world), self.bodies(world, 2)
        parts = sending.put_all(bodies)

        with pytest.raises(StoreUnavailable):
            sending.complete([parts[0], replace(parts[1], number=3)])

        assert world.peek(sending.upload.key) is None
        assert sending.complete(parts).size_bytes == sum(map(len, bodies))

    # --- ends -----------------------------------------------------------------------------

    def test_an_abort_may_be_repeated_and_leaves_nothing(self, world: PartsWorld) -> None:
        sending = self.begin(world)
        part = sending.put(1, b"x")

        for _ in range(2):
            sending.abort()

        with pytest.raises(UploadMissing):
            sending.parts()
        with pytest.raises(self.late_error):
            sending.put(1, b"x")
        with pytest.raises(self.late_error):
            sending.complete([part])
        assert world.peek(sending.upload.key) is None
        assert list(world.store.multipart.open_uploads(sending.upload.key)) == []

    def test_an_upload_that_never_was_is_missing(self, world: PartsWorld) -> None:
        begun = self.begin(world)
        part = begun.put(1, b"x")
        upload_id = begun.upload.upload_id
        begun.abort()

        for unknown in (upload_id[:-1] + ("0" if upload_id[-1] != "0" else "1"), "../x", "x"):
            sending = Sending(world.store, replace(begun.upload, upload_id=unknown))
            with pytest.raises(UploadMissing):
                sending.parts()
            with pytest.raises(self.late_error):
                sending.complete([part])
            sending.abort()

    def test_a_second_complete_changes_nothing(self, world: PartsWorld) -> None:
        sending = self.begin(world)
        part = sending.put(1, b"x")
        stat = sending.complete([part])

        try:
            again = sending.complete([part])
        except (KeyTaken, UploadMissing):  # look at the key
            again = stat

        assert again == stat
        assert world.store.stat_many([stat.key]) == {stat.key: stat}

    def test_a_part_that_comes_too_late_changes_no_object(self, world: PartsWorld) -> None:
        sending = self.begin(world)
        stat = sending.complete([sending.put(1, b"in time")])

        with pytest.raises(self.late_error):
            sending.put(1, b"too late")

        assert world.peek(stat.key) == b"in time"

    def test_a_taken_key_keeps_its_bytes_and_the_upload_its_parts(
        self, world: PartsWorld
    ) -> None:
        if not world.store.capabilities.keeps_refused_parts:
            pytest.skip("here the key must only ever be given the same bytes")
        sending = self.begin(world)
        part = sending.put(1, b"ours")
        before = create(world.store, sending.upload.key, b"theirs")

        for _ in range(2):
            with pytest.raises(KeyTaken):
                sending.complete([part])

        assert world.peek(sending.upload.key) == b"theirs"
        assert world.store.look(sending.upload.key) == before
        assert list(sending.parts()) == [stored(part)]
        told = world.store.multipart.open_uploads(sending.upload.key)
        assert ids(told) == ids([sending.upload])
        sending.abort()

    def test_without_the_capability_a_taken_key_is_written_over(
        self, world: PartsWorld
    ) -> None:
        if world.store.capabilities.keeps_refused_parts:
            pytest.skip("here nothing is")
        sending = self.begin(world)
        part = sending.put(1, b"the same bytes")
        create(world.store, sending.upload.key, b"the same bytes")

        assert sending.complete([part]).size_bytes == 14
        assert world.peek(sending.upload.key) == b"the same bytes"

    # --- which are under way ----------------------------------------------------------------

    def test_uploads_under_way_are_told_of_by_key(self, world: PartsWorld) -> None:
        first, second = self.begin(world, "u/a"), self.begin(world, "u/a")
        other = self.begin(world, "u/b")
        uploads = world.store.multipart.open_uploads

        seen = list(uploads(first.upload.key))

        assert ids(seen) == ids([first.upload, second.upload])
        assert {upload.key for upload in seen} == {first.upload.key}
        if self.tells_begun_at:
            assert [it for it in seen if it.begun_at is None or not it.begun_at.tzinfo] == []
        for sending in (first, second, other):
            sending.abort()
        assert list(uploads(first.upload.key)) == []

    def test_uploads_under_way_are_told_of_by_prefix(self, world: PartsWorld) -> None:
        if not self.lists_by_prefix:
            pytest.skip("here only the uploads of a whole key are told")
        inside = [self.begin(world, f"p/abc{tail}") for tail in ("1", "/x", "/y/z")]
        outside = [self.begin(world, name) for name in ("p/ab", "q/abc")]
        uploads = world.store.multipart.open_uploads

        seen = ids(uploads(whole(world, "p/abc")))

        assert seen == ids(sending.upload for sending in inside)
        assert list(uploads(whole(world, "nothing"))) == []
        assert ids(uploads("")) == ids(sending.upload for sending in inside + outside)
        for sending in inside + outside:
            sending.abort()

    def test_a_store_without_uploads_has_none_under_way(self, world: PartsWorld) -> None:
        assert list(world.store.multipart.open_uploads("")) == []

    def test_awkward_names_are_the_names_of_the_objects(self, world: PartsWorld) -> None:
        names = ("with space/and  two", "percent%2F/100%", "a+b&c=d?e#f", "ünï/日本語/📦")
        sendings = {name: self.begin(world, f"awkward/{name}") for name in names}

        for name, sending in sendings.items():
            told = list(world.store.multipart.open_uploads(sending.upload.key))
            assert ids(told) == ids([sending.upload])
            assert [upload.key for upload in told] == [sending.upload.key]
            sending.complete([sending.put(1, name.encode())])

        for name, sending in sendings.items():
            assert world.peek(sending.upload.key) == name.encode()


def whole(world: PartsWorld, name: str) -> ColdKey:
    """A whole key: the store's prefix is part of it."""
    return ColdKey(world.store.path_prefix + name)


def create(store: ColdStore, key: ColdKey, body: bytes) -> ColdObject:
    store.create(key, body, metadata={"who": "other"}, content_type=None, content_encoding=None)
    seen = store.look(key)
    assert seen is not None
    return seen


def stored(part: Part) -> StoredPart:
    return StoredPart(part.number, part.size_bytes, part.etag)


def ids(uploads: Iterable[OpenUpload]) -> set[str]:
    return {upload.upload_id for upload in uploads}
