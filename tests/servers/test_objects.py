"""The user's own objects on a real S3 server, which checks what it is sent."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.contract.object_store_contract import ObjectStoreContract
from tests.fakes.s3_worlds import settings_of
from tests.unit.stores.test_objects_s3 import S3ObjectWorld, s3_object_world

if TYPE_CHECKING:
    from collections.abc import Iterator

    from archiver.stores.s3 import S3Settings
    from tests.harness.versitygw import S3Server


@pytest.fixture
def settings(s3_server: S3Server) -> S3Settings:
    return settings_of(s3_server.endpoint, s3_server.access_key_id, s3_server.secret_access_key)


class TestOnVersitygw(ObjectStoreContract):
    """Its capabilities are probed, as they are where nobody says them."""

    @pytest.fixture
    def world(self, settings: S3Settings) -> Iterator[S3ObjectWorld]:
        yield from s3_object_world(settings, None)
