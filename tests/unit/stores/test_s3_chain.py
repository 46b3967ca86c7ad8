"""Credentials of the AWS chain: found where they are, the same for both clients, refreshed."""

from __future__ import annotations

import json
import re
import ssl
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from archiver.errors import StoreDenied, StoreUnavailable
from archiver.model import HotLocation, Secret
from archiver.stores import s3_chain
from archiver.stores.hot_s3 import S3HotStore
from archiver.stores.probe import probe_cold
from archiver.stores.providers import PROVIDERS
from archiver.stores.s3 import S3Settings
from tests.fakes.scripted_http import Answer, ScriptedHttp, s3_error
from tests.harness.authority import make_authority
from tests.harness.issuer import Issuer
from tests.harness.proxy import TunnelProxy

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tests.fakes.scripted_http import Request

AT = HotLocation("hot-pages", "page.html")
FOUND = Answer(200, b"bytes", {"ETag": '"e"', "Last-Modified": "Sat, 21 Nov 2026 04:16:16 GMT"})
SENTINEL = "sentinel-never-to-be-seen"


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing of this machine's own chain."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))


@pytest.fixture
def server() -> Iterator[ScriptedHttp]:
    with ScriptedHttp(FOUND) as server:
        yield server


def settings_without_keys(server: ScriptedHttp) -> S3Settings:
    return S3Settings(endpoint=server.url, region="us-east-1", allow_http=True)


def use_both_clients(settings: S3Settings) -> None:
    store = S3HotStore(settings)
    try:
        with store.open(AT) as opened:
            assert opened.read() == b"bytes"
        store.probe(AT.bucket)
    finally:
        store.close()


def read(store: S3HotStore, _: str = "") -> None:
    with store.open(AT) as opened:
        opened.read()


def who(request: Request) -> tuple[str, str | None]:
    """The key id that signed, and the session token."""
    signed_by = re.search(r"Credential=([^/]+)/", request.headers["authorization"])
    assert signed_by is not None
    return signed_by[1], request.headers.get("x-amz-security-token")


# --- where they are ---------------------------------------------------------------------


def test_keys_and_token_of_the_environment(
    server: ScriptedHttp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDENV")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SENTINEL)
    monkeypatch.setenv("AWS_SESSION_TOKEN", "token-of-env")

    use_both_clients(settings_without_keys(server))

    assert [who(request) for request in server.requests] == [("AKIDENV", "token-of-env")] * 2


def test_a_profile(
    server: ScriptedHttp, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "credentials").write_text(
        f"[archive]\naws_access_key_id = AKIDPROFILE\naws_secret_access_key = {SENTINEL}\n"
    )
    monkeypatch.setenv("AWS_PROFILE", "archive")

    use_both_clients(settings_without_keys(server))

    assert [who(request) for request in server.requests] == [("AKIDPROFILE", None)] * 2


def test_a_web_identity(
    server: ScriptedHttp, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    until = datetime.now(UTC) + timedelta(hours=1)
    answer = (
        '<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">'
        "<AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>AKIDROLE</AccessKeyId>"
        f"<SecretAccessKey>{SENTINEL}</SecretAccessKey><SessionToken>role-token</SessionToken>"
        f"<Expiration>{until:%Y-%m-%dT%H:%M:%SZ}</Expiration></Credentials>"
        "</AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"
    )
    (tmp_path / "identity").write_text("a.web.token")
    with ScriptedHttp(Answer(200, answer.encode(), {"Content-Type": "text/xml"})) as sts:
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", sts.url)
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/archiver")
        monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "identity"))

        use_both_clients(settings_without_keys(server))

        assert [who(request) for request in server.requests] == [("AKIDROLE", "role-token")] * 2
        assert len(sts.requests) == 1  # one search for both clients


def test_keys_of_the_settings_leave_the_chain_alone(
    server: ScriptedHttp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDENV")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "env-secret")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "token-of-env")
    settings = S3Settings(
        endpoint=server.url,
        region="us-east-1",
        allow_http=True,
        access_key_id="AKIDSET",
        secret_access_key=Secret(SENTINEL),
        session_token=Secret("token-of-settings"),
    )

    use_both_clients(settings)

    seen = [who(request) for request in server.requests]
    assert seen == [("AKIDSET", "token-of-settings")] * 2
    assert SENTINEL not in repr(settings)


# --- for how long they hold --------------------------------------------------------------


class Container:
    """A credentials endpoint on loopback; what it gave before is no longer taken."""

    def __init__(self) -> None:
        self.given_count = 0
        self.is_down = False

    def give(self, _: Sequence[Request]) -> Answer:
        if self.is_down:
            return Answer(500, SENTINEL.encode())
        self.given_count += 1
        # So close to its end that botocore will not use it twice.
        until = datetime.now(UTC) + timedelta(minutes=2)
        told = {
            "AccessKeyId": f"AKID{self.given_count}",
            "SecretAccessKey": SENTINEL,
            "Token": f"token-{self.given_count}",
            "Expiration": f"{until:%Y-%m-%dT%H:%M:%SZ}",
        }
        return Answer(200, json.dumps(told).encode(), {"Content-Type": "application/json"})

    def take(self, requests: Sequence[Request]) -> Answer:
        """The store: it knows the latest credentials alone."""
        newest = (f"AKID{self.given_count}", f"token-{self.given_count}")
        return FOUND if who(requests[-1]) == newest else s3_error(403, "ExpiredToken")


def test_role_credentials_are_refreshed_in_mid_sweep_for_both_clients(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    container = Container()
    monkeypatch.setattr(s3_chain, "_KEEP_SECONDS", 0.0)  # ask for each request
    with ScriptedHttp(container.give) as endpoint, ScriptedHttp(container.take) as server:
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{endpoint.url}/role")
        store = S3HotStore(settings_without_keys(server))
        for _ in range(3):
            with store.open(AT) as opened:
                assert opened.read() == b"bytes"
            store.probe(AT.bucket)
        store.close()

        tokens = [token for _, token in map(who, server.requests)]
        assert len(tokens) == 6
        assert len(set(tokens)) == 6  # each had a life of its own
        assert tokens == sorted(tokens, key=lambda token: int((token or "-0")[6:]))


def test_credentials_that_last_are_asked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    container = Container()

    def give(requests: Sequence[Request]) -> Answer:
        told = json.loads(container.give(requests).body)
        told["Expiration"] = f"{datetime.now(UTC) + timedelta(hours=6):%Y-%m-%dT%H:%M:%SZ}"
        return Answer(200, json.dumps(told).encode())

    monkeypatch.setattr(s3_chain, "_KEEP_SECONDS", 0.0)
    with ScriptedHttp(give) as endpoint, ScriptedHttp(container.take) as server:
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{endpoint.url}/role")
        for _ in range(2):
            use_both_clients(settings_without_keys(server))

        assert len(endpoint.requests) == 2  # once for each store


def test_a_token_service_is_asked_once_in_a_while_however_short_its_tokens_live(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Botocore would ask for others at each request: two minutes are little to it."""
    container = Container()
    with ScriptedHttp(container.give) as endpoint, ScriptedHttp(container.take) as server:
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{endpoint.url}/role")
        monkeypatch.setattr(s3_chain, "_KEEP_SECONDS", 600.0)
        store = S3HotStore(settings_without_keys(server))
        for _ in range(10):
            with store.open(AT) as opened:
                assert opened.read() == b"bytes"
            store.probe(AT.bucket)
        store.close()

        assert len(endpoint.requests) == 2  # the search, and the refresh it begins with


def test_what_a_store_calls_expired_is_searched_anew_and_is_no_denial(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    container = Container()
    monkeypatch.setattr(s3_chain, "_KEEP_SECONDS", 600.0)  # they are thought fresh
    with ScriptedHttp(container.give) as endpoint, ScriptedHttp(container.take) as server:
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{endpoint.url}/role")
        for ask in (read, S3HotStore.probe):
            store = S3HotStore(settings_without_keys(server))
            store.probe(AT.bucket)
            container.given_count += 1  # others were given out meanwhile

            with pytest.raises(StoreUnavailable, match="code=ExpiredToken"):
                ask(store, AT.bucket)
            ask(store, AT.bucket)
            store.close()


def test_a_probe_learns_nothing_from_an_expired_token(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    container = Container()
    expired = s3_error(400, "ExpiredToken")
    with ScriptedHttp(container.give) as endpoint, ScriptedHttp(expired) as server:
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{endpoint.url}/role")

        with pytest.raises(StoreUnavailable, match="code=ExpiredToken"):
            probe_cold(settings_without_keys(server), PROVIDERS["s3"], "cold-bucket", "")


def test_an_expired_token_that_nobody_can_renew_is_a_denial(
    server: ScriptedHttp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDENV")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SENTINEL)
    monkeypatch.setenv("AWS_SESSION_TOKEN", "token-of-env")
    server.script(s3_error(400, "ExpiredToken"))
    store = S3HotStore(settings_without_keys(server))

    with pytest.raises(StoreDenied, match="ExpiredToken"), store.open(AT):
        pass
    with pytest.raises(StoreDenied, match="ExpiredToken"):
        store.probe(AT.bucket)
    store.close()


# --- the way to a token service -------------------------------------------------------------


def test_a_token_service_is_reached_by_the_bundle_and_through_the_proxy(
    server: ScriptedHttp, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    authority = make_authority(tmp_path)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(authority.certificate, authority.key)
    (tmp_path / "identity").write_text("a.web.token")
    issuer = Issuer(lifetime_seconds=3600)
    with ScriptedHttp(issuer.web_identity, tls=tls) as sts, TunnelProxy("me", "word") as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", sts.url)
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/archiver")
        monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "identity"))
        monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")  # it is not for us to read
        plain = settings_without_keys(server)
        trusting = replace(plain, ca_bundle=authority.bundle)
        through = replace(trusting, proxy_for=lambda _: Secret(proxy.url))
        around = replace(trusting, proxy_for=lambda _: None)

        use_both_clients(trusting)
        use_both_clients(around)
        assert proxy.asked == []
        use_both_clients(through)
        assert proxy.asked == [sts.url.removeprefix("https://")]

        stranger = S3HotStore(plain)
        with pytest.raises(StoreUnavailable, match="SSLError"):
            read(stranger)
        stranger.close()


# --- when there are none ----------------------------------------------------------------


def test_an_empty_chain_is_fatal_for_both_clients(server: ScriptedHttp) -> None:
    settings = settings_without_keys(server)
    store = S3HotStore(settings)

    with pytest.raises(StoreDenied, match="NoCredentialsError"), store.open(AT):
        pass
    with pytest.raises(StoreDenied, match="NoCredentialsError"):
        store.probe(AT.bucket)
    with pytest.raises(StoreDenied, match="NoCredentialsError"):
        probe_cold(settings, PROVIDERS["s3"], "cold-bucket", "")
    store.close()
    assert server.requests == []


def test_a_chain_that_fails_is_waited_for_and_says_no_secret(
    server: ScriptedHttp, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ScriptedHttp(Answer(200, json.dumps({"SecretAccessKey": SENTINEL}).encode())) as bad:
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{bad.url}/role")
        store = S3HotStore(settings_without_keys(server))

        with pytest.raises(StoreUnavailable) as by_obstore, store.open(AT):
            pass
        with pytest.raises(StoreUnavailable) as by_boto3:
            store.probe(AT.bucket)
        store.close()

    assert SENTINEL not in f"{by_obstore.value!r} {by_obstore.value} {by_boto3.value}"
    assert server.requests == []
