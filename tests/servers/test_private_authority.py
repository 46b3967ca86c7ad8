"""Our stores and a real S3 server behind a private authority, directly and through a proxy."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pytest

from archiver.errors import ArchiverError, StoreUnavailable
from archiver.model import ColdKey, HotLocation, Secret
from archiver.stores.cold_boto3 import Boto3ColdStore
from archiver.stores.cold_s3 import S3ColdStore
from archiver.stores.hot_s3 import S3HotStore
from archiver.stores.probe import probe_cold
from archiver.stores.providers import PROVIDERS
from archiver.stores.s3_questions import open_client
from archiver.stores.supabase import SupabaseHotStore
from archiver.stores.supabase_wire import SupabaseSettings
from tests.fakes.s3_worlds import ENFORCES_ALL, settings_of
from tests.harness.authority import make_authority
from tests.harness.proxy import TunnelProxy
from tests.harness.versitygw import running_s3_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from archiver.stores.s3 import S3Settings

BUCKET = "private-bucket"
KEY = ColdKey("app/page.html")


@dataclass(frozen=True)
class Https:
    settings: S3Settings  # with the bundle
    host: str


@pytest.fixture(scope="module")
def https(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Https]:
    authority = make_authority(tmp_path_factory.mktemp("authority"))
    with running_s3_server(authority) as server:
        plain = settings_of(server.endpoint, server.access_key_id, server.secret_access_key)
        settings = replace(plain, ca_bundle=authority.bundle, allow_http=False)
        client = open_client(settings)
        client.create_bucket(Bucket=BUCKET)
        client.close()
        yield Https(settings, server.endpoint.removeprefix("https://"))


def use(settings: S3Settings) -> None:
    """Each client once: boto3 by the probe, the control and one cold store, obstore else."""
    seen = probe_cold(settings, PROVIDERS["minio"], BUCKET, "")
    assert seen == ENFORCES_ALL
    by_boto3 = Boto3ColdStore(settings, PROVIDERS["minio"], BUCKET, "", seen)
    by_boto3.stat_many([KEY])
    by_boto3.close()
    cold = S3ColdStore(settings, PROVIDERS["minio"], BUCKET, "", seen)
    hot = S3HotStore(settings)
    try:
        if cold.look(KEY) is None:
            cold.create(KEY, b"bytes", metadata={}, content_type=None, content_encoding=None)
        with hot.open(HotLocation(BUCKET, KEY)) as opened:
            assert opened.read() == b"bytes"
        hot.probe(BUCKET)
        assert cold.held_digest(KEY) == cold.readback(KEY)
    finally:
        hot.close()
        cold.close()


def test_a_bundle_makes_a_private_authority_trusted(https: Https) -> None:
    use(https.settings)


def test_without_the_bundle_neither_client_speaks_to_it(https: Https) -> None:
    stranger = replace(https.settings, ca_bundle=None)
    hot = S3HotStore(stranger)

    with pytest.raises(StoreUnavailable, match="connection"):
        probe_cold(stranger, PROVIDERS["minio"], BUCKET, "")
    with (
        pytest.raises(StoreUnavailable, match="connection"),
        hot.open(HotLocation(BUCKET, KEY)),
    ):
        pass
    with pytest.raises(StoreUnavailable, match="connection"):
        hot.probe(BUCKET)
    hot.close()


def test_both_clients_go_through_the_proxy_and_log_in(https: Https) -> None:
    with TunnelProxy("worker", "proxy-password") as proxy:
        use(replace(https.settings, proxy_url=Secret(proxy.url)))

        assert set(proxy.asked) == {https.host}
        assert len(proxy.asked) >= 3  # the probe, obstore, the second questions
    assert proxy.refused_count == 0


def test_a_proxy_that_is_down_is_not_gone_around(https: Https) -> None:
    with TunnelProxy() as proxy:
        url = proxy.url
    astray = replace(https.settings, proxy_url=Secret(url))
    hot = S3HotStore(astray)

    with pytest.raises(StoreUnavailable), hot.open(HotLocation(BUCKET, KEY)):
        pass
    with pytest.raises(StoreUnavailable):
        hot.probe(BUCKET)
    hot.close()


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "AWS_PROXY_URL"])
def test_without_the_setting_a_proxy_of_the_environment_is_left_alone(
    https: Https, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    with TunnelProxy() as proxy:
        monkeypatch.setenv(name, proxy.url)
        use(https.settings)

        assert proxy.asked == []


def told_to_supabase(settings: SupabaseSettings) -> str:
    """The code of what it was told: this server is no Supabase, but it does answer."""
    store = SupabaseHotStore(settings)
    try:
        store.probe("bucket")
    except StoreUnavailable as error:
        return error.code
    except ArchiverError as error:
        return type(error).__name__
    finally:
        store.close()
    return "taken"


def test_supabase_is_reached_by_the_bundle_and_through_the_proxy(https: Https) -> None:
    without = SupabaseSettings(url=f"https://{https.host}", service_role_key=Secret("key"))
    direct = replace(without, ca_bundle=https.settings.ca_bundle)

    assert told_to_supabase(without) == "connection"
    answered = told_to_supabase(direct)
    assert answered not in {"connection", "timeout"}
    with TunnelProxy("worker", "pass word%") as proxy:
        url = proxy.url.replace("pass word%", "pass%20word%25")
        assert told_to_supabase(replace(direct, proxy_url=Secret(url))) == answered
        assert proxy.asked == [https.host]
        assert proxy.refused_count == 0
