"""The stores and the probe on a real S3 server, which checks what it is sent."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import pytest

from archiver.errors import BucketMissing, StoreDenied
from archiver.model import ColdKey, Deleted
from archiver.stores.cold_boto3 import Boto3ColdStore
from archiver.stores.cold_s3 import S3ColdStore
from archiver.stores.hot_s3 import S3HotStore
from archiver.stores.probe import probe_cold
from archiver.stores.providers import PROVIDERS
from tests.contract.cold_store_contract import ColdStoreContract
from tests.contract.hot_store_contract import AWKWARD_PATHS, HotStoreContract
from tests.contract.multipart_contract import MultipartContract
from tests.contract.url_signer_contract import UrlSignerContract, get
from tests.fakes.s3_worlds import (
    BUCKET,
    ENFORCES_ALL,
    PREFIX,
    S3ColdWorld,
    S3HotWorld,
    cold_world,
    hot_world,
    settings_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from archiver.stores.s3 import S3Settings
    from tests.harness.versitygw import S3Server


@pytest.fixture
def settings(s3_server: S3Server) -> S3Settings:
    return settings_of(s3_server.endpoint, s3_server.access_key_id, s3_server.secret_access_key)


@pytest.fixture
def cold(settings: S3Settings) -> Iterator[S3ColdWorld]:
    world = cold_world(settings, ENFORCES_ALL)
    yield world
    world.store.close()
    world.client.close()


class TestHot(HotStoreContract):
    absent_answer = Deleted.DELETED
    awkward_paths: ClassVar = tuple(path for path in AWKWARD_PATHS if path.isprintable())

    @pytest.fixture
    def world(self, settings: S3Settings) -> Iterator[S3HotWorld]:
        world = hot_world(settings, self.bucket)
        yield world
        world.store.close()
        world.client.close()


class TestSignedUrls(UrlSignerContract):
    @pytest.fixture
    def world(self, settings: S3Settings) -> Iterator[S3HotWorld]:
        world = hot_world(settings, self.bucket)
        yield world
        world.store.close()
        world.client.close()

    def test_a_cold_object_has_one_as_well(self, cold: S3ColdWorld) -> None:
        key = ColdKey(f"{PREFIX}a+b c.html")
        cold.store.create(key, b"<html>", metadata={}, content_type=None, content_encoding=None)
        assert get(cold.store.signed_url(key, 60)) == (200, b"<html>")


class TestCold(ColdStoreContract):
    @pytest.fixture
    def world(self, cold: S3ColdWorld) -> S3ColdWorld:
        return cold


class TestParts(MultipartContract):
    @pytest.fixture(params=[S3ColdStore, Boto3ColdStore], ids=["obstore", "boto3"])
    def world(
        self, settings: S3Settings, request: pytest.FixtureRequest
    ) -> Iterator[S3ColdWorld]:
        world = cold_world(settings, ENFORCES_ALL, request.param)
        yield world
        world.store.close()
        world.client.close()


class TestColdByBoto3(ColdStoreContract):
    @pytest.fixture
    def world(self, settings: S3Settings) -> Iterator[S3ColdWorld]:
        world = cold_world(settings, ENFORCES_ALL, Boto3ColdStore)
        yield world
        world.store.close()
        world.client.close()

    def test_anybody_with_a_signed_url_gets_the_stored_bytes(self, world: S3ColdWorld) -> None:
        key = ColdKey(f"{PREFIX}a+b c.html")
        world.store.create(
            key, b"<html>", metadata={}, content_type=None, content_encoding=None
        )
        assert get(world.store.signed_url(key, 60)) == (200, b"<html>")


def test_the_probe_finds_what_the_server_enforces(
    settings: S3Settings, cold: S3ColdWorld
) -> None:
    for _ in range(2):  # with and without the objects of an earlier probe
        assert probe_cold(settings, PROVIDERS["minio"], BUCKET, PREFIX) == ENFORCES_ALL

    left = [stat.key for stat in cold.store.list(ColdKey(""))]
    assert left == [f"{PREFIX}.archiver/probe-create", f"{PREFIX}.archiver/probe-digest"]


def test_a_probe_of_an_absent_bucket_says_so(settings: S3Settings) -> None:
    with pytest.raises(BucketMissing):
        probe_cold(settings, PROVIDERS["minio"], "no-such-bucket", PREFIX)


@pytest.mark.parametrize("who", ["nobody", "archiver-test"])
def test_refused_keys_are_fatal_and_never_an_absence(
    s3_server: S3Server, who: str, cold: S3ColdWorld
) -> None:
    assert cold.peek(ColdKey("x")) is None
    wrong = settings_of(s3_server.endpoint, who, "not-the-secret")
    store = S3HotStore(wrong)

    with pytest.raises(StoreDenied, match=r"XAdminUserNotFound|SignatureDoesNotMatch"):
        store.probe(BUCKET)
    with pytest.raises(StoreDenied, match=r"XAdminUserNotFound|SignatureDoesNotMatch"):
        probe_cold(wrong, PROVIDERS["minio"], BUCKET, PREFIX)
    store.close()
