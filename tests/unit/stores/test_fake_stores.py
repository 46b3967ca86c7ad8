"""The fakes keep the contracts, and their faults fire or fail."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from archiver.errors import KeyTaken, ObjectDenied, StoreUnavailable, UploadMissing
from archiver.model import (
    Capabilities,
    ColdKey,
    ColdStat,
    Deleted,
    Digest,
    HotLocation,
    OpenUpload,
    Part,
    PartRules,
)
from tests.contract.cold_store_contract import ColdStoreContract
from tests.contract.hot_store_contract import HotStoreContract, identity_of, read
from tests.contract.multipart_contract import MultipartContract
from tests.fakes.faults import denied, flipped, truncated, unavailable, zeroed
from tests.fakes.stores import FakeColdStore, FakeHotStore, anytime

if TYPE_CHECKING:
    from collections.abc import Callable

AT = HotLocation("hot-pages", "page")
KEY = ColdKey("cold/key")
NO_CREATE = Capabilities(
    enforces_signed_digest=False, enforces_create=False, returns_digest=True
)


@dataclass
class FakeHotWorld:
    store: FakeHotStore

    def plant(
        self, location: HotLocation, body: bytes, content_type: str = "text/html"
    ) -> None:
        self.store.plant(location, body, content_type)

    def peek(self, location: HotLocation) -> bytes | None:
        return self.store.peek(location)


@dataclass
class FakeColdWorld:
    store: FakeColdStore

    def peek(self, key: ColdKey) -> bytes | None:
        return self.store.peek(key)

    def damage(self, key: ColdKey, body: bytes) -> None:
        self.store.damage(key, body)


class TestFakeHotStore(HotStoreContract):
    @pytest.fixture(params=[True, False], ids=["conditional-delete", "plain-delete"])
    def world(self, request: pytest.FixtureRequest) -> FakeHotWorld:
        return FakeHotWorld(FakeHotStore(self.bucket, deletes_by_identity=request.param))


class TestFakeColdStore(ColdStoreContract):
    @pytest.fixture(params=["", "some/prefix/"])
    def world(self, request: pytest.FixtureRequest) -> FakeColdWorld:
        return FakeColdWorld(FakeColdStore(request.param))


class TestFakeColdStoreWithoutCreate(ColdStoreContract):
    @pytest.fixture
    def world(self) -> FakeColdWorld:
        return FakeColdWorld(FakeColdStore(capabilities=NO_CREATE))


class TestFakeMultipart(MultipartContract):
    @pytest.fixture(params=["", "some/prefix/"])
    def world(self, request: pytest.FixtureRequest) -> FakeColdWorld:
        return FakeColdWorld(FakeColdStore(request.param))


class TestFakeMultipartWithoutCondition(MultipartContract):
    @pytest.fixture
    def world(self) -> FakeColdWorld:
        return FakeColdWorld(FakeColdStore(capabilities=NO_CREATE))


def test_a_fault_that_did_not_fire_fails_its_test() -> None:
    hot = FakeHotStore()
    hot.faults.on("open", AT, raise_=unavailable("hot", "open"), times=2)
    hot.plant(AT, b"x")
    with pytest.raises(StoreUnavailable):
        read(hot, AT)

    with pytest.raises(AssertionError, match=r"open of hot-pages/page: 2 times, fired 1"):
        hot.faults.verify_all_fired()

    with pytest.raises(StoreUnavailable):
        read(hot, AT)
    hot.faults.verify_all_fired()
    assert read(hot, AT) == b"x"


def test_a_fault_is_for_its_subject_alone() -> None:
    hot = FakeHotStore()
    other = HotLocation("hot-pages", "other")
    hot.plant(AT, b"x")
    hot.plant(other, b"y")
    hot.faults.on("open", AT, raise_=lambda: unavailable("hot", "open"), times=None)

    assert read(hot, other) == b"y"
    with pytest.raises(StoreUnavailable):
        read(hot, AT)


def test_an_overwrite_can_happen_in_the_middle_of_a_call() -> None:
    hot = FakeHotStore(deletes_by_identity=False)
    hot.plant(AT, b"old")
    old = identity_of(hot, AT)
    hot.faults.on("delete", AT, run=lambda: hot.plant(AT, b"new"))

    assert hot.delete([(AT, old)], anytime) == {AT: Deleted.DELETED}  # what no condition guards
    assert hot.peek(AT) is None


def test_a_delete_can_lose_its_reply() -> None:
    hot = FakeHotStore()
    hot.plant(AT, b"x")
    hot.faults.on("delete", AT, lose_reply=unavailable("hot", "delete"))

    with pytest.raises(StoreUnavailable):
        hot.delete([(AT, identity_of(hot, AT))], anytime)

    assert hot.peek(AT) is None


@pytest.mark.parametrize("lie", [truncated, flipped, zeroed])
def test_a_lying_cold_store_answers_well_and_holds_other_bytes(
    lie: Callable[[bytes], bytes],
) -> None:
    cold = FakeColdStore()
    cold.faults.on("create", KEY, keep=lie)

    stat = create(cold, b"good bytes")

    assert stat.size_bytes == 10
    assert cold.read(KEY) == lie(b"good bytes") != b"good bytes"
    assert cold.readback(KEY) != Digest.of(b"good bytes")


def test_a_forgetful_cold_store_answers_well_and_holds_nothing() -> None:
    cold = FakeColdStore()
    cold.faults.on("create", KEY, forget=True)

    assert create(cold, b"x").etag

    assert cold.stat_many([KEY]) == {KEY: None}


def test_a_create_can_lose_its_reply() -> None:
    cold = FakeColdStore()
    cold.faults.on("create", KEY, lose_reply=unavailable("cold", "create"))

    with pytest.raises(StoreUnavailable):
        create(cold, b"x")

    assert cold.peek(KEY) == b"x"
    with pytest.raises(KeyTaken):
        create(cold, b"x")


def test_a_cold_store_can_be_written_but_not_read() -> None:
    cold = FakeColdStore()
    cold.faults.on("readback", raise_=denied("readback"), times=None)
    create(cold, b"x")

    with pytest.raises(ObjectDenied):
        cold.readback(KEY)
    assert cold.stat_many([KEY])[KEY] is not None


def test_rot_shows_in_a_read_alone() -> None:
    cold = FakeColdStore()
    stat = create(cold, b"good")

    cold.rot(KEY, b"evil")

    assert cold.stat_many([KEY]) == {KEY: stat}
    assert cold.readback(KEY) == Digest.of(b"evil")


def test_a_stat_can_name_a_wrong_etag() -> None:
    cold = FakeColdStore()
    create(cold, b"x")
    cold.faults.on("stat", KEY, etag="wrong")

    stat = cold.stat_many([KEY])[KEY]

    assert stat is not None
    assert stat.etag == "wrong"


def create(cold: FakeColdStore, body: bytes) -> ColdStat:
    return cold.create(KEY, body, metadata={}, content_type=None, content_encoding=None)


# --- parts ------------------------------------------------------------------------------


def begin(cold: FakeColdStore) -> OpenUpload:
    return cold.multipart.begin(
        KEY, part_bytes=10, metadata={}, content_type=None, content_encoding=None
    )


def part_of(body: bytes, etag: str, number: int = 1) -> Part:
    return Part(number, len(body), Digest.of(body), etag)


def test_an_upload_may_be_begun_without_an_answer() -> None:
    cold = FakeColdStore()
    cold.faults.on("begin", KEY, lose_reply=unavailable("cold", "begin"))

    with pytest.raises(StoreUnavailable):
        begin(cold)

    [upload] = cold.multipart.open_uploads(KEY)
    assert upload.key == KEY


def test_an_upload_may_be_lost() -> None:
    cold = FakeColdStore()
    upload = begin(cold)
    etag = cold.multipart.put_part(upload, 1, b"part")

    cold.multipart.lose(upload)

    with pytest.raises(UploadMissing):
        cold.multipart.put_part(upload, 1, b"part")
    with pytest.raises(UploadMissing):
        cold.multipart.complete(upload, [part_of(b"part", etag)])


def test_a_part_may_be_acknowledged_and_not_kept() -> None:
    cold = FakeColdStore()
    upload = begin(cold)
    cold.faults.on("put_part", KEY, forget=True)

    etag = cold.multipart.put_part(upload, 1, b"part")

    assert cold.multipart.parts(upload) == []
    with pytest.raises(StoreUnavailable, match="InvalidPart"):
        cold.multipart.complete(upload, [part_of(b"part", etag)])


@pytest.mark.parametrize("lie", [flipped, zeroed])
def test_a_part_may_be_kept_otherwise_than_it_was_sent(lie: Callable[[bytes], bytes]) -> None:
    cold = FakeColdStore()
    upload = begin(cold)
    cold.faults.on("put_part", KEY, keep=lie)
    etag = cold.multipart.put_part(upload, 1, b"good bytes")

    stat = cold.multipart.complete(upload, [part_of(b"good bytes", etag)])

    assert stat.size_bytes == 10
    assert cold.read(KEY) == lie(b"good bytes")


def test_an_answer_to_a_complete_may_be_lost_and_the_object_is_there() -> None:
    cold = FakeColdStore()
    upload = begin(cold)
    etag = cold.multipart.put_part(upload, 1, b"part")
    cold.faults.on("complete", KEY, lose_reply=unavailable("cold", "complete"))

    with pytest.raises(StoreUnavailable):
        cold.multipart.complete(upload, [part_of(b"part", etag)])

    assert cold.peek(KEY) == b"part"
    assert cold.multipart.uploads == []


def test_no_more_and_no_larger_parts_are_taken_than_the_rules_say() -> None:
    rules = PartRules(min_bytes=4, max_bytes=8, max_count=2)
    cold = FakeColdStore(part_rules=rules)
    upload = begin(cold)

    assert cold.multipart.rules == rules
    for number, body in ((3, b"part"), (0, b"part"), (1, b"too large")):
        with pytest.raises(StoreUnavailable, match="InvalidArgument"):
            cold.multipart.put_part(upload, number, body)
    small = [part_of(b"s", cold.multipart.put_part(upload, it, b"s"), it) for it in (1, 2)]
    with pytest.raises(StoreUnavailable, match="EntityTooSmall"):
        cold.multipart.complete(upload, small)


def test_the_etag_of_an_object_in_parts_is_no_md5_of_its_bytes() -> None:
    cold = FakeColdStore()
    upload = begin(cold)
    etag = cold.multipart.put_part(upload, 1, b"part")

    stat = cold.multipart.complete(upload, [part_of(b"part", etag)])

    assert etag == create(FakeColdStore(), b"part").etag
    assert stat.etag is not None
    assert stat.etag.endswith('-1"')
