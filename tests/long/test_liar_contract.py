"""The lying S3 server, while it tells no lies, is under the contracts of both stores."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import pytest

from archiver.errors import StoreUnavailable
from archiver.model import ColdKey, Deleted
from archiver.stores.cold_boto3 import Boto3ColdStore
from archiver.stores.probe import probe_cold
from archiver.stores.providers import PROVIDERS
from tests.contract.cold_store_contract import ColdStoreContract, create
from tests.contract.hot_store_contract import AWKWARD_PATHS, HotStoreContract
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
from tests.liar.server import LyingS3
from tests.liar.wire import error

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def honest() -> Iterator[LyingS3]:
    with LyingS3() as server:
        yield server


class TestHot(HotStoreContract):
    absent_answer = Deleted.DELETED
    awkward_paths: ClassVar = tuple(path for path in AWKWARD_PATHS if path.isprintable())

    @pytest.fixture
    def world(self, honest: LyingS3) -> Iterator[S3HotWorld]:
        world = hot_world(settings_of(honest.url), self.bucket)
        yield world
        world.store.close()
        world.client.close()


class TestCold(ColdStoreContract):
    @pytest.fixture
    def world(self, honest: LyingS3) -> Iterator[S3ColdWorld]:
        world = cold_world(settings_of(honest.url), ENFORCES_ALL)
        yield world
        world.store.close()
        world.client.close()


class TestColdByBoto3(ColdStoreContract):
    many_count = 120

    @pytest.fixture
    def world(self, honest: LyingS3) -> Iterator[S3ColdWorld]:
        world = cold_world(settings_of(honest.url), ENFORCES_ALL, Boto3ColdStore)
        yield world
        world.store.close()
        world.client.close()


def test_the_probe_finds_that_it_enforces_everything(honest: LyingS3) -> None:
    honest.buckets.make(BUCKET)

    for _ in range(2):
        seen = probe_cold(settings_of(honest.url), PROVIDERS["minio"], BUCKET, PREFIX)
        assert seen == ENFORCES_ALL


def test_a_lie_that_is_not_told_fails_the_test() -> None:
    server = LyingS3(BUCKET)
    server.lies.on("PutObject", "app/x", times=2, answer=lambda _: error(500, "Oh"))

    def lie_once() -> None:
        with server:
            world = cold_world(settings_of(server.url), ENFORCES_ALL)
            with pytest.raises(StoreUnavailable, match="Oh"):
                create(world.store, ColdKey("app/x"), b"bytes")
            create(world.store, ColdKey("app/y"), b"bytes")

    with pytest.raises(AssertionError, match="PutObject of app/x: 2 times, told 1"):
        lie_once()
