"""The contracts of hot and cold stores, on moto."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

import pytest

from archiver.errors import StoreUnavailable
from archiver.model import Deleted
from archiver.stores.cold_boto3 import Boto3ColdStore
from tests.contract.cold_store_contract import ColdStoreContract
from tests.contract.hot_store_contract import AWKWARD_PATHS, HotStoreContract
from tests.contract.multipart_contract import MultipartContract
from tests.contract.url_signer_contract import UrlSignerContract
from tests.fakes.s3_worlds import (
    ENFORCES_CREATE,
    ENFORCES_NOTHING,
    S3ColdWorld,
    S3HotWorld,
    cold_world,
    hot_world,
    settings_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator


class TestHot(HotStoreContract):
    many_count = 120  # more than a page of them, here and below: tests/servers
    absent_answer = Deleted.DELETED
    # A key with a control character is refused: test_s3.py.
    awkward_paths: ClassVar = tuple(path for path in AWKWARD_PATHS if path.isprintable())

    @pytest.fixture
    def world(self, moto_url: str) -> Iterator[S3HotWorld]:
        world = hot_world(settings_of(moto_url), self.bucket)
        yield world
        world.store.close()
        world.client.close()


class TestSignedUrls(UrlSignerContract):
    checks_signatures = False

    @pytest.fixture
    def world(self, moto_url: str) -> Iterator[S3HotWorld]:
        world = hot_world(settings_of(moto_url), self.bucket)
        yield world
        world.store.close()
        world.client.close()


class TestColdThatEnforces(ColdStoreContract):
    many_count = 120

    @pytest.fixture
    def world(self, moto_url: str) -> Iterator[S3ColdWorld]:
        world = cold_world(settings_of(moto_url), ENFORCES_CREATE)
        yield world
        world.store.close()
        world.client.close()


class TestColdThatDoesNot(ColdStoreContract):
    many_count = 120

    @pytest.fixture
    def world(self, moto_url: str) -> Iterator[S3ColdWorld]:
        world = cold_world(settings_of(moto_url), ENFORCES_NOTHING)
        yield world
        world.store.close()
        world.client.close()


class TestPartsOnACondition(MultipartContract):
    late_error = StoreUnavailable  # moto answers 500

    @pytest.fixture
    def world(self, moto_url: str) -> Iterator[S3ColdWorld]:
        capabilities = replace(ENFORCES_CREATE, keeps_refused_parts=True)
        world = cold_world(settings_of(moto_url), capabilities)
        yield world
        world.store.close()
        world.client.close()


class TestPartsWithoutACondition(MultipartContract):
    late_error = StoreUnavailable

    @pytest.fixture
    def world(self, moto_url: str) -> Iterator[S3ColdWorld]:
        world = cold_world(settings_of(moto_url), ENFORCES_NOTHING, Boto3ColdStore)
        yield world
        world.store.close()
        world.client.close()


class TestColdByBoto3ThatEnforces(ColdStoreContract):
    many_count = 120

    @pytest.fixture
    def world(self, moto_url: str) -> Iterator[S3ColdWorld]:
        world = cold_world(settings_of(moto_url), ENFORCES_CREATE, Boto3ColdStore)
        yield world
        world.store.close()
        world.client.close()


class TestColdByBoto3ThatDoesNot(ColdStoreContract):
    many_count = 120

    @pytest.fixture
    def world(self, moto_url: str) -> Iterator[S3ColdWorld]:
        world = cold_world(settings_of(moto_url), ENFORCES_NOTHING, Boto3ColdStore)
        yield world
        world.store.close()
        world.client.close()
