"""What our S3 stores make of each answer, against a server that gives it."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import subprocess
import sys
import tracemalloc
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from archiver.errors import (
    ArchiverError,
    BucketMissing,
    KeyTaken,
    MetadataTooLarge,
    ObjectChanged,
    ObjectDenied,
    ObjectFrozen,
    ObjectMissing,
    StoreDenied,
    StoreThrottled,
    StoreUnavailable,
    UnusableName,
)
from archiver.model import ColdKey, ColdStat, Deleted, Digest, HotIdentity, HotLocation, Secret
from archiver.stores.cold_boto3 import Boto3ColdStore
from archiver.stores.cold_s3 import S3ColdStore
from archiver.stores.hot_s3 import S3HotStore
from archiver.stores.providers import PROVIDERS
from archiver.stores.s3 import S3Settings
from tests.fakes.s3_worlds import (
    BUCKET,
    ENFORCES_ALL,
    ENFORCES_CREATE,
    ENFORCES_NOTHING,
    cold_world,
    settings_of,
)
from tests.fakes.scripted_http import Answer, ScriptedHttp, s3_error
from tests.fakes.stores import anytime

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from archiver.model import Capabilities
    from tests.fakes.s3_worlds import AnyColdStore
    from tests.fakes.scripted_http import Request

KEY = ColdKey("app/page.html")
AT = HotLocation("hot-pages", "page.html")
SOME = HotIdentity(1, etag='"e"')
THERE = {"ETag": '"e"', "Last-Modified": "Sat, 21 Nov 2026 04:16:16 GMT"}
FOUND = Answer(200, b"bytes", THERE)
CHUNKED = {"Transfer-Encoding": "chunked"}
MADE = Answer(200, b"", {"ETag": '"e"'})
LISTED = Answer(200, b"<ListBucketResult><KeyCount>0</KeyCount></ListBucketResult>")
DELETED = Answer(200, b"<DeleteResult></DeleteResult>")


@pytest.fixture
def server() -> Iterator[ScriptedHttp]:
    with ScriptedHttp(Answer(500)) as server:
        yield server


@pytest.fixture(params=[S3ColdStore, Boto3ColdStore])
def kind(request: pytest.FixtureRequest) -> type[AnyColdStore]:
    """What moves the objects: both clients are held to the same."""
    chosen: type[AnyColdStore] = request.param
    return chosen


@pytest.fixture
def cold(server: ScriptedHttp, kind: type[AnyColdStore]) -> Iterator[AnyColdStore]:
    store = cold_store(kind, server, ENFORCES_CREATE)
    yield store
    store.close()


@pytest.fixture
def hot(server: ScriptedHttp) -> Iterator[S3HotStore]:
    store = S3HotStore(settings_of(server.url))
    yield store
    store.close()


def cold_store(
    kind: type[AnyColdStore], server: ScriptedHttp, capabilities: Capabilities
) -> AnyColdStore:
    settings = settings_of(server.url)
    return kind(settings, PROVIDERS["r2"], "cold-bucket", "app/", capabilities)


def create(store: AnyColdStore, key: ColdKey = KEY) -> ColdStat:
    return store.create(
        key,
        b"bytes",
        metadata={"task_id": "7"},
        content_type="text/html",
        content_encoding="gzip",
    )


def read(store: S3HotStore) -> bytes:
    with store.open(AT) as opened:
        return opened.read()


# --- what is sent -------------------------------------------------------------------------


PUT_HEADERS = {
    "cache-control": "no-transform",
    "content-encoding": "gzip",
    "content-length": "5",
    "content-type": "text/html",
    "if-none-match": "*",
    "x-amz-content-sha256": hashlib.sha256(b"bytes").hexdigest(),
    "x-amz-meta-task_id": "7",
}
VARYING = {"authorization", "host", "user-agent", "x-amz-date"}
OF_NO_MATTER = {"accept", "accept-encoding", "amz-sdk-invocation-id", "amz-sdk-request"}


def sent_by_a_put(
    kind: type[AnyColdStore], server: ScriptedHttp, capabilities: Capabilities
) -> dict[str, str]:
    server.script(MADE)
    store = cold_store(kind, server, capabilities)
    create(store)
    store.close()
    (request,) = server.requests
    assert (request.method, request.target) == ("PUT", "/cold-bucket/app/page.html")
    assert request.body == b"bytes"
    signed = request.headers["authorization"].partition("SignedHeaders=")[2].partition(",")[0]
    assert "x-amz-content-sha256" in signed.split(";")
    return said_by(request)


def said_by(put: Request) -> dict[str, str]:
    """Its headers, but those that differ from put to put or say nothing of the object."""
    assert set(put.headers) >= VARYING
    left_out = VARYING | OF_NO_MATTER
    return {name: said for name, said in put.headers.items() if name not in left_out}


def test_a_put_carries_the_signed_digest_of_its_body_and_nothing_else(
    server: ScriptedHttp, kind: type[AnyColdStore]
) -> None:
    assert sent_by_a_put(kind, server, ENFORCES_CREATE) == PUT_HEADERS


def test_the_class_and_the_encryption_go_along_with_every_put(
    server: ScriptedHttp, kind: type[AnyColdStore]
) -> None:
    asking = replace(
        settings_of(server.url),
        storage_class="GLACIER_IR",
        sse="aws:kms",
        sse_kms_key_id="alias/archive",
    )
    server.script(MADE)
    store = kind(asking, PROVIDERS["s3"], "cold-bucket", "app/", ENFORCES_CREATE)
    create(store)
    store.close()

    (put,) = server.requests
    assert said_by(put) == {
        **PUT_HEADERS,
        "x-amz-storage-class": "GLACIER_IR",
        "x-amz-server-side-encryption": "aws:kms",
        "x-amz-server-side-encryption-aws-kms-key-id": "alias/archive",
    }


@pytest.mark.parametrize("code", ["InvalidStorageClass", "KMS.NotFoundException"])
def test_a_class_or_key_that_the_store_has_not_stops_the_sweep(
    server: ScriptedHttp, cold: AnyColdStore, code: str
) -> None:
    server.script(s3_error(400, code))

    with pytest.raises(StoreDenied, match=code):
        create(cold)


def test_an_object_in_a_frozen_class_is_there_and_cannot_be_read(
    moto_url: str, kind: type[AnyColdStore]
) -> None:
    settings = replace(settings_of(moto_url), storage_class="GLACIER")
    world = cold_world(settings, ENFORCES_CREATE)
    with contextlib.closing(world.client):
        store = kind(settings, PROVIDERS["s3"], BUCKET, "app/", ENFORCES_CREATE)
        made = create(store)

        assert store.look(KEY) is not None
        assert store.stat_many([KEY])[KEY] == made
        for read_it in (store.readback, store.read):
            with pytest.raises(ObjectFrozen):
                read_it(KEY)
        store.close()
        world.store.close()


def test_a_checksum_goes_along_where_the_store_is_known_to_return_it(
    server: ScriptedHttp, kind: type[AnyColdStore]
) -> None:
    digest = hashlib.sha256(b"bytes").digest()

    sent = sent_by_a_put(kind, server, ENFORCES_ALL)

    assert sent == {**PUT_HEADERS, "x-amz-checksum-sha256": base64.b64encode(digest).decode()}


def test_a_create_is_not_conditional_where_that_is_not_enforced(
    server: ScriptedHttp, kind: type[AnyColdStore]
) -> None:
    expected = {name: said for name, said in PUT_HEADERS.items() if name != "if-none-match"}

    assert sent_by_a_put(kind, server, ENFORCES_NOTHING) == expected


LEAKS = {
    "AWS_ACCESS_KEY_ID": "of-the-environment",
    "AWS_AUTH_SCHEME_PREFERENCE": "sigv4a",
    "AWS_BUCKET": "of-the-environment",
    "AWS_CONDITIONAL_PUT": "disabled",
    "AWS_CA_BUNDLE": "/nowhere",
    "AWS_CONFIG_FILE": "/nowhere",
    "AWS_DEFAULT_REGION": "eu-west-9",
    "AWS_ENDPOINT": "http://127.0.0.1:1",
    "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
    "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:1",
    "AWS_PROFILE": "of-the-environment",
    "AWS_PROXY_URL": "http://127.0.0.1:1",
    "AWS_REGION": "eu-west-9",
    "AWS_REQUEST_CHECKSUM_CALCULATION": "when_supported",
    "AWS_REQUEST_PAYER": "true",
    "AWS_S3_EXPRESS": "true",
    "AWS_SECRET_ACCESS_KEY": "of-the-environment",
    "AWS_SESSION_TOKEN": "of-the-environment",
    "AWS_SKIP_SIGNATURE": "true",
    "AWS_TIMEOUT": "1ns",
    "AWS_UNSIGNED_PAYLOAD": "true",
    "AWS_USE_DUALSTACK_ENDPOINT": "true",
    "AWS_USE_FIPS_ENDPOINT": "true",
    "AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "true",
}


@pytest.mark.parametrize("name", LEAKS)
def test_no_variable_of_the_environment_changes_a_put(
    server: ScriptedHttp, kind: type[AnyColdStore], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, LEAKS[name])

    assert sent_by_a_put(kind, server, ENFORCES_CREATE) == PUT_HEADERS
    assert "/us-east-1/s3/" in server.requests[0].headers["authorization"]
    assert "Credential=key-id/" in server.requests[0].headers["authorization"]


def test_no_variable_of_the_environment_changes_the_second_question(
    server: ScriptedHttp, cold: AnyColdStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in LEAKS.items():
        monkeypatch.setenv(name, value)
    server.script(Answer(404), s3_error(404, "NoSuchKey"))

    assert cold.look(KEY) is None

    headers = server.requests[1].headers
    assert server.requests[1].target == "/cold-bucket/app/page.html"
    assert "Credential=key-id/" in headers["authorization"]
    assert "/us-east-1/s3/" in headers["authorization"]
    assert "x-amz-security-token" not in headers


def test_without_an_endpoint_it_is_the_one_of_aws_in_that_region() -> None:
    def endpoint(region: str) -> str:
        settings = S3Settings(
            endpoint=None, region=region, access_key_id="k", secret_access_key=Secret("s")
        )
        return settings.endpoint_url

    assert endpoint("eu-west-1") == "https://s3.eu-west-1.amazonaws.com"
    assert endpoint("cn-north-1") == "https://s3.cn-north-1.amazonaws.com.cn"


def test_a_secret_is_in_no_repr_and_no_error(server: ScriptedHttp, cold: AnyColdStore) -> None:
    server.script(s3_error(403, "SignatureDoesNotMatch"))

    with pytest.raises(StoreDenied) as caught:
        create(cold)

    assert "secret-key" not in repr(settings_of(server.url))
    assert "secret-key" not in f"{caught.value!r} {caught.value} {caught.value.__cause__}"


def test_boto3_is_not_even_imported_while_all_goes_well(server: ScriptedHttp) -> None:
    server.script(FOUND)
    script = f"""if True:
        import sys
        from archiver.model import *
        from archiver.stores.cold_s3 import S3ColdStore
        from archiver.stores.hot_s3 import S3HotStore
        from archiver.stores.probe import probe_cold, probe_name
        from archiver.stores.providers import PROVIDERS
        from archiver.stores.s3 import S3Settings

        settings = S3Settings(
            endpoint={server.url!r}, region="us-east-1", access_key_id="k",
            secret_access_key=Secret("s"), allow_http=True,
        )
        probe_name(settings, PROVIDERS["r2"], "cold-bucket")
        hot, at = S3HotStore(settings), HotLocation("hot-pages", "page")
        cold = S3ColdStore(
            settings, PROVIDERS["r2"], "cold-bucket", "", Capabilities(True, True, False)
        )
        with hot.open(at) as opened:
            assert opened.read() == b"bytes"
        assert hot.identify([at])[at] == opened.identity
        cold.create(
            ColdKey("k"), b"bytes", metadata={{}}, content_type=None, content_encoding=None
        )
        assert cold.stat_many([ColdKey("k")])[ColdKey("k")].size_bytes == 5
        assert cold.look(ColdKey("k")).stat.size_bytes == 5
        assert cold.readback(ColdKey("k")) == Digest.of(b"bytes")
        hot.close()
        cold.close()
        assert not {{"boto3", "botocore"}} & set(sys.modules), "boto3 was imported"
    """

    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)

    assert ended.stderr == b""
    assert [request.method for request in server.requests] == [
        *["GET", "HEAD", "PUT", "HEAD", "HEAD", "GET"]
    ]


# --- ranges -----------------------------------------------------------------------------

STAT = ColdStat(KEY, 10, '"e"')
PARTIAL = {**THERE, "Content-Range": "bytes 2-4/10"}


def partial(body: bytes = b"cde", **other: str) -> Answer:
    return Answer(206, body, {**PARTIAL, **{k.replace("_", "-"): v for k, v in other.items()}})


@pytest.mark.parametrize(
    ("answer", "error", "told"),
    [
        (s3_error(412, "PreconditionFailed"), ObjectChanged, "another one"),
        (Answer(412), ObjectChanged, "another one"),
        (s3_error(416, "InvalidRange"), ObjectChanged, "another one"),
        (partial(ETag='"f"'), ObjectChanged, '"f"'),
        (partial(ETag='"secret-key"'), ObjectChanged, "SECRET"),
        (partial(Content_Range="bytes 2-4/11"), ObjectChanged, "11 bytes"),
        (partial(ETag=""), StoreUnavailable, "no etag"),
        (partial(Content_Range="bytes 3-5/10"), StoreUnavailable, "code="),
        (partial(Content_Range="bytes 2-4/*"), StoreUnavailable, "code="),
        (Answer(206, b"cde", THERE), StoreUnavailable, "code="),
        (partial(b"cd"), StoreUnavailable, "cut"),
        (partial(b"cdef"), StoreUnavailable, "cut"),
        (Answer(206, b"cde", PARTIAL, cut_at=1), StoreUnavailable, "cut"),
        (s3_error(404, "NoSuchKey"), ObjectMissing, "NoSuchKey"),
        (s3_error(403, "AccessDenied"), ObjectDenied, "AccessDenied"),
        (s3_error(503, "SlowDown"), StoreThrottled, "SlowDown"),
    ],
)
def test_an_answer_to_a_range_means(
    server: ScriptedHttp,
    cold: AnyColdStore,
    hot: S3HotStore,
    answer: Answer,
    error: type[ArchiverError],
    told: str,
) -> None:
    server.script(answer)

    with pytest.raises(error, match=told) as of_cold:
        cold.read_range(STAT, 2, 5)
    with pytest.raises(error, match=told) as of_hot:
        hot.read_range(AT, HotIdentity(10, etag='"e"'), 2, 5)

    assert "secret-key" not in f"{of_cold.value} {of_hot.value}"


def test_a_range_is_asked_for_on_the_condition_that_it_is_that_object(
    server: ScriptedHttp, cold: AnyColdStore, hot: S3HotStore
) -> None:
    server.script(partial())

    assert cold.read_range(STAT, 2, 5) == b"cde"
    assert hot.read_range(AT, HotIdentity(10, etag='"e"'), 2, 5) == b"cde"

    for request in server.requests:
        assert (request.headers["range"], request.headers["if-match"]) == ("bytes=2-4", '"e"')


def test_a_whole_object_in_the_place_of_a_range_is_not_read(
    server: ScriptedHttp, cold: AnyColdStore, hot: S3HotStore
) -> None:
    """Nobody made room for it: the connection is given up."""
    body = bytes(64 << 20)
    server.script(Answer(200, body, THERE))
    whole = HotIdentity(len(body), etag='"e"')
    for read_range in (
        lambda: cold.read_range(replace(STAT, size_bytes=len(body)), 2, 5),
        lambda: hot.read_range(AT, whole, 2, 5),
    ):
        assert peak_bytes_of_a_refusal(read_range) < 16 << 20


def peak_bytes_of_a_refusal(ask: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        with pytest.raises(StoreUnavailable):
            ask()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


# --- what an answer means -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("answers", "error", "told"),
    [
        ([s3_error(404, "NoSuchKey")], ObjectMissing, "NoSuchKey"),
        ([s3_error(404, "NoSuchBucket")], BucketMissing, "hot-pages"),
        ([s3_error(403, "AccessDenied")], ObjectDenied, "AccessDenied"),
        ([s3_error(403, "InvalidAccessKeyId")], StoreDenied, "InvalidAccessKeyId"),
        ([s3_error(403, "SignatureDoesNotMatch")], StoreDenied, "SignatureDoesNotMatch"),
        ([s3_error(400, "ExpiredToken")], StoreDenied, "ExpiredToken"),
        ([s3_error(403, "RequestTimeTooSkewed")], StoreDenied, "RequestTimeTooSkewed"),
        ([s3_error(401, "Unauthorized")], StoreDenied, "Unauthorized"),
        ([s3_error(400, "KeyTooLongError")], UnusableName, "KeyTooLongError"),
        ([s3_error(400, "RequestRateLimitExceeded")], StoreThrottled, "RequestRateLimit"),
        ([s3_error(429, "TooManyRequests")], StoreThrottled, "TooManyRequests"),
        ([s3_error(503, "SlowDown")], StoreThrottled, "SlowDown"),
        ([s3_error(500, "InternalError")], StoreUnavailable, "InternalError"),
        ([s3_error(418, "SomethingNew")], StoreUnavailable, "SomethingNew"),
        ([s3_error(404, "SomethingNew")], StoreUnavailable, "SomethingNew"),
        ([s3_error(403, "SomethingNew")], StoreUnavailable, "SomethingNew"),
        # Without a code the answer is asked for again, and then the bucket.
        ([Answer(404), s3_error(404, "NoSuchKey")], ObjectMissing, "NoSuchKey"),
        ([Answer(404), s3_error(404, "NoSuchBucket")], BucketMissing, "hot-pages"),
        ([Answer(404), s3_error(403, "AccessDenied")], ObjectDenied, "AccessDenied"),
        ([Answer(404), Answer(404), LISTED], ObjectMissing, "NoSuchKey"),
        ([Answer(404), Answer(404), s3_error(404, "NoSuchBucket")], BucketMissing, "hot-"),
        ([Answer(404)], StoreUnavailable, "http 404"),
        ([Answer(404), FOUND], StoreUnavailable, "contradicts itself"),
        ([Answer(403)], ObjectDenied, "http 403"),
        ([Answer(403), s3_error(403, "InvalidAccessKeyId")], StoreDenied, "InvalidAccess"),
        ([Answer(502, b"<html>a proxy</html>")], StoreUnavailable, "http 502"),
        ([Answer(502), FOUND], StoreUnavailable, "http 502"),
        ([Answer(404, b"<html>not found</html>")], StoreUnavailable, "http 404"),
        ([Answer(200, b"bytes", THERE, cut_at=2)], StoreUnavailable, "cut"),
        ([Answer(200, b"bytes", {})], StoreUnavailable, "no etag"),
    ],
)
def test_an_answer_to_a_read_means(
    server: ScriptedHttp,
    hot: S3HotStore,
    answers: list[Answer],
    error: type[ArchiverError],
    told: str,
) -> None:
    server.script(*answers)

    with pytest.raises(error, match=told) as caught:
        read(hot)

    assert type(caught.value) is error


@pytest.mark.parametrize(
    ("answers", "error", "told"),
    [
        ([s3_error(412, "PreconditionFailed")], KeyTaken, "app/page.html"),
        ([Answer(412), LISTED], KeyTaken, "app/page.html"),
        ([s3_error(409, "ConditionalRequestConflict")], StoreUnavailable, "Conflict"),
        ([s3_error(409, "OperationAborted")], StoreUnavailable, "OperationAborted"),
        ([Answer(304)], StoreUnavailable, "http 304"),
        ([s3_error(404, "NoSuchKey")], StoreUnavailable, "NoSuchKey"),
        ([s3_error(404, "NoSuchBucket")], BucketMissing, "cold-bucket"),
        ([Answer(404), s3_error(404, "NoSuchBucket")], BucketMissing, "cold-bucket"),
        ([Answer(404), LISTED], StoreUnavailable, "http 404"),
        ([s3_error(403, "AccessDenied")], ObjectDenied, "AccessDenied"),
        ([Answer(500), s3_error(403, "AccessDenied")], StoreUnavailable, "http 500"),
        ([s3_error(403, "InvalidAccessKeyId")], StoreDenied, "InvalidAccessKeyId"),
        ([s3_error(400, "XAmzContentSHA256Mismatch")], StoreUnavailable, "SHA256Mismatch"),
        ([s3_error(400, "MetadataTooLarge")], MetadataTooLarge, "said so"),
        ([s3_error(400, "RequestRateLimitExceeded")], StoreThrottled, "RequestRateLimit"),
        ([s3_error(501, "NotImplemented")], StoreUnavailable, "NotImplemented"),
        ([s3_error(200, "InternalError")], StoreUnavailable, "ETag|InternalError"),
        ([Answer(200)], StoreUnavailable, "ETag|no etag"),
    ],
)
def test_an_answer_to_a_create_means(
    server: ScriptedHttp,
    cold: AnyColdStore,
    answers: list[Answer],
    error: type[ArchiverError],
    told: str,
) -> None:
    server.script(*answers)

    with pytest.raises(error, match=told) as caught:
        create(cold)

    assert type(caught.value) is error
    assert [it.method for it in server.requests].count("PUT") == 1  # nothing is repeated


def test_silence_is_a_timeout_and_is_not_asked_again(server: ScriptedHttp) -> None:
    settings = S3Settings(
        endpoint=server.url,
        region="us-east-1",
        access_key_id="k",
        secret_access_key=Secret("s"),
        allow_http=True,
        timeout_seconds=0.2,
    )
    store = S3HotStore(settings)
    server.script(Answer(never_comes=True))

    with pytest.raises(StoreUnavailable, match="code=timeout"):
        read(store)

    assert len(server.requests) == 1
    store.close()


def test_a_server_that_is_not_there_is_a_connection_error() -> None:
    store = S3HotStore(settings_of("http://127.0.0.1:1"))

    with pytest.raises(StoreUnavailable, match="code=connection"):
        read(store)
    with pytest.raises(StoreUnavailable, match="code=connection"):
        store.probe("hot-pages")
    store.close()


@pytest.mark.parametrize("status", [429, 503])
def test_the_pause_a_store_asks_for_is_in_the_error(
    server: ScriptedHttp, cold: AnyColdStore, status: int
) -> None:
    pause = {"Retry-After": "17"}
    for ask in (lambda: create(cold), lambda: cold.read(KEY), lambda: cold.stat_many([KEY])):
        for answer in (s3_error(status, "SlowDown", pause), Answer(status, headers=pause)):
            server.script(answer, s3_error(status, "SlowDown", pause))

            with pytest.raises(StoreUnavailable) as caught:
                ask()

            assert caught.value.retry_after_seconds == 17


def test_words_in_a_key_are_not_the_answer(server: ScriptedHttp, hot: S3HotStore) -> None:
    words = (
        "Error performing GET x in 1s - Server returned non-2xx status code: 404 Not Found: "
    )
    at = HotLocation("hot-pages", f"{words}<Code>NoSuchKey</Code>")
    server.script(s3_error(403, "InvalidAccessKeyId"))

    with pytest.raises(StoreDenied), hot.open(at):
        pass


# --- absence is proven --------------------------------------------------------------------


def test_when_nothing_is_found_the_bucket_is_asked_for(
    server: ScriptedHttp, cold: AnyColdStore, hot: S3HotStore
) -> None:
    server.script(Answer(404), Answer(404), s3_error(404, "NoSuchBucket"))
    with pytest.raises(BucketMissing):
        cold.stat_many([KEY, ColdKey("app/other")])

    server.script(Answer(404), s3_error(404, "NoSuchBucket"))
    with pytest.raises(BucketMissing):
        hot.identify([AT])

    server.script(Answer(404), Answer(404), s3_error(404, "NoSuchKey"))
    assert cold.stat_many([KEY, ColdKey("app/other")]) == {KEY: None, "app/other": None}
    assert len(server.requests) == 3


def test_what_is_put_between_two_questions_is_there(
    server: ScriptedHttp, cold: AnyColdStore
) -> None:
    server.script(Answer(404), FOUND)

    seen = cold.stat_many([KEY])[KEY]

    assert seen is not None
    assert [it.method for it in server.requests] == ["HEAD", "GET", "HEAD"]


def test_a_store_that_contradicts_itself_again_proves_nothing(
    server: ScriptedHttp, cold: AnyColdStore
) -> None:
    server.script(Answer(404), FOUND, Answer(404))

    with pytest.raises(StoreUnavailable, match="contradicts itself"):
        cold.stat_many([KEY])


def test_one_that_is_found_proves_the_bucket_for_the_others(
    server: ScriptedHttp, cold: AnyColdStore
) -> None:
    server.script(Answer(404), FOUND)

    seen = cold.stat_many([KEY, ColdKey("app/other")])

    assert sorted(stat is None for stat in seen.values()) == [False, True]
    assert len(server.requests) == 2


def test_a_listing_that_fails_midway_proves_no_absence(server: ScriptedHttp) -> None:
    """To obstore it looks like an empty one: 200, and an error for a body."""
    keys = [ColdKey(f"app/{n}") for n in range(20)]
    server.script(s3_error(200, "InternalError"), FOUND)
    cold = cold_store(S3ColdStore, server, ENFORCES_CREATE)

    seen = cold.stat_many(keys)
    cold.close()

    assert [key for key in keys if seen[key] is None] == []
    assert [it.method for it in server.requests] == ["GET", *["HEAD"] * 20]


def test_boto3_sees_that_a_listing_failed_midway(server: ScriptedHttp) -> None:
    server.script(s3_error(200, "InternalError"), FOUND)
    cold = cold_store(Boto3ColdStore, server, ENFORCES_CREATE)

    with pytest.raises(StoreUnavailable, match="InternalError"):
        cold.stat_many([ColdKey(f"app/{n}") for n in range(20)])
    cold.close()


def test_an_answer_without_a_length_could_be_cut_anywhere(server: ScriptedHttp) -> None:
    server.script(Answer(200, b"5\r\nbytes\r\n0\r\n\r\n", {**THERE, **CHUNKED}))
    cold = cold_store(Boto3ColdStore, server, ENFORCES_CREATE)

    with pytest.raises(StoreUnavailable, match="no length"):
        cold.read(KEY)
    cold.close()


def test_keys_that_may_not_list_are_looked_at_one_by_one(
    server: ScriptedHttp, cold: AnyColdStore
) -> None:
    server.script(s3_error(403, "AccessDenied"), FOUND)

    seen = cold.stat_many([ColdKey(f"app/{n}") for n in range(20)])

    assert None not in seen.values()


# --- deletes ------------------------------------------------------------------------------


def test_a_partly_refused_delete_is_repeated_singly_and_answered_each(
    server: ScriptedHttp, hot: S3HotStore
) -> None:
    one, two = HotLocation("hot-pages", "one"), HotLocation("hot-pages", "two")
    partly = (
        b"<DeleteResult><Deleted><Key>one</Key></Deleted><Error><Key>two</Key>"
        b"<Code>AccessDenied</Code><Message>no</Message></Error></DeleteResult>"
    )
    server.script(Answer(200, partly), Answer(204), s3_error(403, "AccessDenied"))

    answers = hot.delete([(one, SOME), (two, SOME)], anytime)

    assert sorted(answers.values(), key=str) == [Deleted.DELETED, Deleted.DENIED]
    assert [it.method for it in server.requests] == ["POST", "DELETE", "DELETE"]


@pytest.mark.parametrize("code", ["NotImplemented", "MissingContentMD5", "AccessDenied"])
def test_a_store_without_bulk_deletes_is_asked_singly(
    server: ScriptedHttp, hot: S3HotStore, code: str
) -> None:
    status = {"NotImplemented": 501, "MissingContentMD5": 400, "AccessDenied": 403}[code]
    server.script(s3_error(status, code), Answer(204))

    assert hot.delete([(AT, SOME)], anytime) == {AT: Deleted.DELETED}


@pytest.mark.parametrize(
    ("answers", "error"),
    [
        ([s3_error(404, "NoSuchBucket")], BucketMissing),
        ([s3_error(403, "InvalidAccessKeyId")], StoreDenied),
        ([s3_error(503, "SlowDown")], StoreThrottled),
        ([s3_error(200, "InternalError")], StoreUnavailable),
        ([Answer(200, b"not XML")], StoreUnavailable),
        ([Answer(200, b"")], StoreUnavailable),
        ([s3_error(501, "NotImplemented"), s3_error(404, "NoSuchBucket")], BucketMissing),
        ([s3_error(501, "NotImplemented"), s3_error(503, "SlowDown")], StoreUnavailable),
        ([s3_error(501, "NotImplemented"), s3_error(403, "InvalidAccessKeyId")], StoreDenied),
    ],
)
def test_a_failed_delete_is_never_taken_for_done(
    server: ScriptedHttp, hot: S3HotStore, answers: list[Answer], error: type[ArchiverError]
) -> None:
    server.script(*answers)

    with pytest.raises(error):
        hot.delete([(AT, SOME)], anytime)


def test_only_the_given_bucket_is_touched(server: ScriptedHttp) -> None:
    store = S3HotStore(settings_of(server.url), bucket="hot-pages")
    elsewhere = HotLocation("another", "page")
    server.script(DELETED)

    with pytest.raises(UnusableName), store.open(elsewhere):
        pass
    with pytest.raises(UnusableName):
        store.identify([elsewhere])
    with pytest.raises(UnusableName):
        store.delete([(AT, SOME), (elsewhere, SOME)], anytime)

    assert server.requests == []
    store.close()


# --- names --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "key",
    [
        *("", "/", "/a", "a/", "a//b", ".", "..", "a/./b", "a/../b"),
        *("a\nb", "a\tb", "a\0b", "\x7f", "\ud800", "é" * 513),
    ],
)
def test_a_key_the_client_would_change_is_refused(
    server: ScriptedHttp, cold: AnyColdStore, hot: S3HotStore, key: str
) -> None:
    server.script(FOUND)
    cold_key, at = ColdKey(key), HotLocation("hot-pages", key)

    for ask in (
        lambda: create(cold, cold_key),
        lambda: cold.stat_many([cold_key]),
        lambda: cold.look(cold_key),
        lambda: cold.read(cold_key),
        lambda: cold.readback(cold_key),
        lambda: cold.held_digest(cold_key),
        lambda: hot.identify([at]),
        lambda: hot.delete([(at, SOME)], anytime),
        lambda: hot.open(at).__enter__(),
    ):
        with pytest.raises(UnusableName):
            ask()

    assert server.requests == []


@pytest.mark.parametrize("bucket", ["", "a/b", "../x", "a..b", "a?b", "x" * 256, "ä-bucket"])
def test_a_bucket_that_is_no_name_is_refused(
    server: ScriptedHttp, hot: S3HotStore, bucket: str
) -> None:
    with pytest.raises(UnusableName), hot.open(HotLocation(bucket, "page")):
        pass
    with pytest.raises(BucketMissing):
        hot.probe(bucket)

    assert server.requests == []


# --- bytes --------------------------------------------------------------------------------


def test_a_cut_body_is_never_a_digest(server: ScriptedHttp, cold: AnyColdStore) -> None:
    server.script(Answer(200, b"x" * 5_000_000, THERE, cut_at=3_000_000))

    with pytest.raises(StoreUnavailable, match="code=cut"):
        cold.readback(KEY)
    with pytest.raises(StoreUnavailable, match="code=cut"):
        cold.read(KEY)


@pytest.mark.parametrize(
    ("checksum", "is_told"),
    [
        ("J3VSC20hOmxGEmj/CuTNiznmoZgtvLdmn5WhgXpjTm0=", True),
        ("J3VSC20hOmxGEmj/CuTNiznmoZgtvLdmn5WhgXpjTm0=-3", False),
        ("not base64", False),
        ("AAAA", False),
        (None, False),
    ],
)
def test_a_held_digest_is_that_of_the_whole_object_or_none(
    server: ScriptedHttp, cold: AnyColdStore, checksum: str | None, *, is_told: bool
) -> None:
    said = {} if checksum is None else {"x-amz-checksum-sha256": checksum}
    server.script(Answer(200, b"bytes", {**THERE, **said}))

    seen = cold.held_digest(KEY)

    assert isinstance(seen, Digest) is is_told
    assert server.requests[0].headers["x-amz-checksum-mode"] == "ENABLED"


def test_an_absent_object_holds_no_digest(server: ScriptedHttp, cold: AnyColdStore) -> None:
    server.script(Answer(404), s3_error(404, "NoSuchKey"))

    with pytest.raises(ObjectMissing):
        cold.held_digest(KEY)
