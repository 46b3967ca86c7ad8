"""Answers that no store gives that means well are errors of ours, and bounded.

Here what was mended; every answer to every store in tests/long.
"""

from __future__ import annotations

import ssl
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from obstore.exceptions import GenericError

from archiver.errors import ArchiverError, StoreUnavailable
from archiver.events import PingFailed
from archiver.model import ColdKey, HotLocation, Secret
from archiver.ops.ping import Ping
from archiver.stores.cold_boto3 import Boto3ColdStore
from archiver.stores.cold_s3 import S3ColdStore
from archiver.stores.hot_s3 import S3HotStore
from archiver.stores.probe import probe_cold
from archiver.stores.providers import PROVIDERS
from archiver.stores.s3_answers import Asked as Question
from archiver.stores.s3_answers import told_by
from archiver.stores.supabase import SupabaseHotStore
from archiver.stores.supabase_wire import SupabaseSettings
from tests.fakes.s3_worlds import BUCKET, ENFORCES_ALL, PREFIX, settings_of
from tests.harness.authority import make_authority
from tests.liar.asking import ask_all, running
from tests.liar.hostile import ANSWERS, MENDED
from tests.liar.lies import ANY
from tests.liar.server import LyingS3
from tests.liar.wire import Reply, xml

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from archiver.events import Event
    from tests.harness.authority import Authority
    from tests.liar.hostile import Asker
    from tests.liar.wire import Asked

HOT = HotLocation("hot-pages", "page.html")
KEY = ColdKey(f"{PREFIX}page.html")


@pytest.fixture(scope="module")
def asking() -> Iterator[tuple[LyingS3, dict[str, Asker]]]:
    with running() as server_and_askers:
        yield server_and_askers


@pytest.mark.parametrize("store", ["hot", "obstore", "boto3", "supabase"])
@pytest.mark.parametrize("answer", MENDED)
def test_no_answer_is_more_than_an_error(
    asking: tuple[LyingS3, dict[str, Asker]], store: str, answer: str
) -> None:
    server, askers = asking

    ask_all(server, askers[store], answer)


def giving(answer: str) -> Callable[[Asked], Reply]:
    return lambda _asked: ANSWERS[answer]


def test_a_hostile_answer_is_no_bug_of_the_probe(
    asking: tuple[LyingS3, dict[str, Asker]],
) -> None:
    server, _ = asking
    for answer in ("a time that is none", "a length that is no number", "a page of a proxy"):
        server.lies.forget()
        server.lies.on(ANY, times=None, answer=giving(answer))
        found = None
        try:
            found = probe_cold(settings_of(server.url), PROVIDERS["minio"], BUCKET, PREFIX)
        except ArchiverError:
            continue
        assert not found.enforces_signed_digest
        assert not found.enforces_create


@pytest.mark.parametrize("body", ["<Code>" + " " * 50_000, "<Message>" + " " * 50_000])
def test_the_words_of_an_error_cost_no_time_to_find(body: str) -> None:
    """A thread that searches holds the whole process: 2 KB of spaces took 14 s once."""
    asked = Question("cold", "create", BUCKET, KEY, writes=True)
    lead = "Error performing PUT http://x in 1ms - Server returned non-2xx status code: 500 x: "
    partial = f"DeleteObjects request failed for key {': ' * 5_000}{' (code: ' * 5_000}"
    began_seconds = time.process_time()

    told = [told_by(GenericError(text), asked) for text in (lead + body, partial)]

    assert [it.code for it in told if it is not None] == ["", "unknown"]
    assert time.process_time() - began_seconds < 20.0


# --- redirects ------------------------------------------------------------------------------


def redirect_to(elsewhere: LyingS3, status: int = 307) -> Reply:
    host = elsewhere.url.replace("127.0.0.1", "localhost")  # another host, by its name
    return Reply(status, {"Location": f"{host}/{BUCKET}/{KEY}"})


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_no_signature_follows_a_redirect_to_another_host(status: int) -> None:
    """One client goes there without what signs, the other does not even go."""
    with LyingS3(BUCKET) as elsewhere, LyingS3(BUCKET, HOT.bucket) as server:
        server.lies.on(ANY, times=None, answer=lambda _: redirect_to(elsewhere, status))
        settings = settings_of(server.url)
        by_boto3 = Boto3ColdStore(settings, PROVIDERS["minio"], BUCKET, PREFIX, ENFORCES_ALL)
        for ask in (by_boto3.readback, by_boto3.look, by_boto3.held_digest):
            with pytest.raises(ArchiverError):
                ask(KEY)
        assert list(elsewhere.asked) == []

        by_obstore = S3ColdStore(settings, PROVIDERS["minio"], BUCKET, PREFIX, ENFORCES_ALL)
        with pytest.raises(ArchiverError):
            by_obstore.readback(KEY)
        assert elsewhere.asked
        assert [it for it in elsewhere.asked if "authorization" in it.headers] == []
        by_boto3.close()
        by_obstore.close()


def test_a_listing_by_directories_is_not_taken_for_an_endless_one() -> None:
    """As stores on file systems order their keys: what lies in `a/` before `a.b`."""
    more = "<IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken>"

    def page(asked: Asked) -> Reply:
        key, more_or_not = ("a.b", "") if "continuation-token" in asked.query else ("a/b", more)
        told = f"<Key>{key}</Key><LastModified>2026-11-21T00:00:00.000Z</LastModified>"
        entry = f"<Contents>{told}<ETag>e</ETag><Size>5</Size></Contents>"
        return xml(f"<ListBucketResult>{entry}{more_or_not}</ListBucketResult>")

    with LyingS3(BUCKET) as server:
        settings = settings_of(server.url)
        cold = S3ColdStore(settings, PROVIDERS["minio"], BUCKET, PREFIX, ENFORCES_ALL)
        server.lies.on("ListObjectsV2", times=2, answer=page)

        assert [it.key for it in cold.list("a")] == ["a/b", "a.b"]

        cold.close()


# --- certificates ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("nobody-trusts"))


@pytest.fixture(scope="module")
def self_signed(authority: Authority) -> Iterator[LyingS3]:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(authority.certificate, authority.key)
    with LyingS3(BUCKET, HOT.bucket, tls=tls) as server:
        yield server


def test_a_certificate_that_nobody_signed_is_refused_by_every_store(
    self_signed: LyingS3, authority: Authority
) -> None:
    settings = replace(settings_of(self_signed.url), allow_http=False)
    by_obstore = S3ColdStore(settings, PROVIDERS["minio"], BUCKET, PREFIX, ENFORCES_ALL)
    by_boto3 = Boto3ColdStore(settings, PROVIDERS["minio"], BUCKET, PREFIX, ENFORCES_ALL)
    hot = S3HotStore(settings)
    supabase = SupabaseHotStore(SupabaseSettings(self_signed.url, Secret("service-key")))
    for ask in (
        lambda: by_obstore.readback(KEY),
        lambda: by_boto3.readback(KEY),
        lambda: hot.identify([HOT]),
        lambda: hot.probe(HOT.bucket),
        lambda: supabase.identify([HOT]),
        lambda: probe_cold(settings, PROVIDERS["minio"], BUCKET, PREFIX),
    ):
        with pytest.raises(StoreUnavailable, match="code=connection"):
            ask()
    assert list(self_signed.asked) == []  # not a byte of a request

    trusted = replace(settings, ca_bundle=authority.bundle)
    seen = probe_cold(trusted, PROVIDERS["minio"], BUCKET, PREFIX)
    assert seen == ENFORCES_ALL
    for store in (by_obstore, by_boto3, hot, supabase):
        store.close()


def test_a_ping_does_not_go_to_a_certificate_that_nobody_signed(self_signed: LyingS3) -> None:
    told: list[Event] = []
    self_signed.asked.clear()

    Ping(Secret(self_signed.url), told.append, ca_bundle=None, proxy_url=None)(is_good=True)

    assert [type(event) for event in told] == [PingFailed]
    assert list(self_signed.asked) == []


def test_https_is_not_left_by_a_redirect(self_signed: LyingS3, authority: Authority) -> None:
    with LyingS3(BUCKET) as elsewhere:

        def to_http(_asked: Asked) -> Reply:
            return redirect_to(elsewhere)

        self_signed.lies.on("GetObject", times=None, answer=to_http)
        settings = replace(
            settings_of(self_signed.url), allow_http=False, ca_bundle=authority.bundle
        )
        for kind in (S3ColdStore, Boto3ColdStore):
            store = kind(settings, PROVIDERS["minio"], BUCKET, PREFIX, ENFORCES_ALL)
            with pytest.raises(ArchiverError):
                store.readback(KEY)
            store.close()
        assert list(elsewhere.asked) == []
