"""The user's own objects behind an S3 API: the contract on moto, and answers that mislead."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from archiver.errors import (
    ArchiverError,
    BucketMissing,
    KeyTaken,
    NotOffered,
    ObjectChanged,
    ObjectDenied,
    StoreDenied,
    StoreThrottled,
    StoreUnavailable,
    TransferTimeout,
)
from archiver.objects.guard import KeyGuard
from archiver.objects.sending import PART_BYTES
from archiver.objects.service import FoundDigest, ObjectService
from archiver.stores.objects_s3 import S3ObjectStore
from archiver.stores.providers import PROVIDERS
from archiver.stores.s3_questions import open_client
from tests.contract.object_store_contract import Dribble, ObjectStoreContract
from tests.fakes.s3_worlds import (
    BUCKET,
    ENFORCES_ALL,
    ENFORCES_CREATE,
    ENFORCES_NOTHING,
    empty,
    peek,
    settings_of,
)
from tests.fakes.scripted_http import Answer, ScriptedHttp, s3_error

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from mypy_boto3_s3 import S3Client

    from archiver.model import Capabilities
    from archiver.stores.s3 import S3Settings
    from tests.fakes.scripted_http import Request


@dataclass
class S3ObjectWorld:
    objects: ObjectService
    client: S3Client

    def peek(self, key: str) -> bytes | None:
        return peek(self.client, BUCKET, key)

    def plant(self, key: str, body: bytes) -> None:
        self.client.put_object(Bucket=BUCKET, Key=key, Body=body)

    def left_behind(self) -> list[str]:
        found = self.client.list_multipart_uploads(Bucket=BUCKET).get("Uploads", [])
        return [upload["Key"] for upload in found]


def s3_object_world(
    settings: S3Settings, capabilities: Capabilities | None
) -> Iterator[S3ObjectWorld]:
    client = open_client(settings)
    empty(client, BUCKET)
    store = S3ObjectStore(settings, PROVIDERS["minio"], BUCKET, "app/", capabilities)
    with ObjectService(store, KeyGuard()) as objects:
        yield S3ObjectWorld(objects, client)
    client.close()


class TestOnMoto(ObjectStoreContract):
    @pytest.fixture
    def world(self, moto_url: str) -> Iterator[S3ObjectWorld]:
        yield from s3_object_world(settings_of(moto_url), ENFORCES_CREATE)


# --- answers ------------------------------------------------------------------------------

THERE = {"ETag": '"e"', "Last-Modified": "Sat, 21 Nov 2026 04:16:16 GMT"}


@pytest.fixture
def server() -> Iterator[ScriptedHttp]:
    with ScriptedHttp(Answer(500)) as server:
        yield server


@pytest.fixture
def objects(server: ScriptedHttp) -> Iterator[ObjectService]:
    settings = settings_of(server.url)
    store = S3ObjectStore(settings, PROVIDERS["r2"], BUCKET, "app/", ENFORCES_CREATE)
    with ObjectService(store) as objects:
        yield objects


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (s3_error(403, "AccessDenied"), ObjectDenied),
        (s3_error(403, "InvalidAccessKeyId"), StoreDenied),
        (s3_error(404, "NoSuchBucket"), BucketMissing),
        (s3_error(500, "InternalError"), StoreUnavailable),
        (s3_error(503, "SlowDown"), StoreThrottled),
        (Answer(403), ObjectDenied),
        (Answer(404), StoreUnavailable),  # of a proxy: that proves no absence
        (Answer(500), StoreUnavailable),
        (Answer(200, b"bytes", {**THERE, "Content-Length": "x"}), StoreUnavailable),
    ],
)
def test_m14_what_is_not_known_is_neither_there_nor_absent(
    objects: ObjectService, server: ScriptedHttp, answer: Answer, error: type[ArchiverError]
) -> None:
    server.script(answer)
    for ask in (objects.exists, objects.head, objects.get, objects.md5, objects.delete):
        if ask == objects.delete and answer.status in {200, 404}:
            continue  # a success, or a doubt that is asked again
        with pytest.raises(error):
            ask("page.html")
    with pytest.raises(error):
        objects.put("page.html", b"x", create_only=True)


@pytest.mark.parametrize(
    "answer",
    [
        Answer(200),  # of a proxy: no ETag
        Answer(200, s3_error(500, "InternalError").body),
        s3_error(500, "InternalError"),
        Answer(never_comes=True),
    ],
)
def test_m16_nothing_is_put_until_the_store_says_so(
    objects: ObjectService, server: ScriptedHttp, answer: Answer
) -> None:
    server.script(answer)
    with pytest.raises((StoreUnavailable, TransferTimeout)):
        objects.limited(timeout_seconds=2).put("page.html", b"bytes")


def test_m16_a_complete_that_fails_within_its_answer_is_a_failure(
    objects: ObjectService, server: ScriptedHttp
) -> None:
    upload = (
        b"<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>"
    )
    failure = s3_error(500, "InternalError").body

    def answer(requests: Sequence[Request]) -> Answer:
        last = requests[-1]
        if last.method == "POST":
            return Answer(200, upload if "uploads" in last.target else failure)
        return Answer(204) if last.method == "DELETE" else Answer(200, b"", {"ETag": '"p"'})

    server.script(answer)
    with pytest.raises(StoreUnavailable, match="InternalError"):
        objects.put("page.html", Dribble(bytes(2 * PART_BYTES)))
    assert server.requests[-1].method == "DELETE"  # of the upload


def test_every_range_is_of_the_object_that_was_seen_first(
    objects: ObjectService, server: ScriptedHttp, tmp_path: Path
) -> None:
    size_bytes = PART_BYTES + 5
    head = Answer(200, b"", {**THERE, "Content-Length": str(size_bytes)})
    body = bytes(PART_BYTES)
    said = {"Content-Range": f"bytes 0-{PART_BYTES - 1}/{size_bytes}"}
    for answer in (
        s3_error(412, "PreconditionFailed"),
        # A store that does not know the condition.
        Answer(206, body, {**THERE, **said, "ETag": '"another"'}),
        Answer(206, body, {**THERE, "Content-Range": f"bytes 0-{PART_BYTES - 1}/{1 << 30}"}),
    ):
        server.script(head, answer)
        with pytest.raises(ObjectChanged):
            objects.limited(concurrency=1).download("page.html", tmp_path / "file")
        assert server.requests[1].headers["if-match"] == '"e"'
        assert server.requests[1].headers["range"] == f"bytes=0-{PART_BYTES - 1}"


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (200, {}),  # the whole object
        (206, {}),
        (206, {"Content-Range": "bytes 1-5/10"}),
        (206, {"Content-Range": "items 0-4/10"}),
    ],
)
def test_another_range_is_not_given_out(
    objects: ObjectService, server: ScriptedHttp, status: int, said: dict[str, str]
) -> None:
    server.script(Answer(status, b"01234", {**THERE, **said}))
    with pytest.raises(StoreUnavailable, match="another range"):
        objects.get_range("page.html", 0, 5)


def test_a_cut_body_is_no_object(
    objects: ObjectService, server: ScriptedHttp, tmp_path: Path
) -> None:
    server.script(Answer(200, b"bytes", THERE, cut_at=2))
    with pytest.raises(StoreUnavailable, match="cut"):
        objects.get("page.html")
    with pytest.raises(StoreUnavailable):
        objects.download("page.html", tmp_path / "file")


def test_a_new_type_keeps_all_that_was_said(
    objects: ObjectService, server: ScriptedHttp
) -> None:
    kept = {
        "cache-control": "max-age=60",
        "content-disposition": "inline",
        "content-encoding": "gzip",
        "content-language": "en",
        "expires": "Sun, 21 Nov 2027 04:16:16 GMT",
        "x-amz-meta-owner": "me",
        "x-amz-storage-class": "STANDARD_IA",
        "x-amz-server-side-encryption": "AES256",
    }
    copied = b'<CopyObjectResult><ETag>"e"</ETag></CopyObjectResult>'
    server.script(
        Answer(200, b"", {**THERE, **kept, "Content-Length": "5"}), Answer(200, copied)
    )

    objects.set_content_type("dir/a b.html", "text/css")

    said = server.requests[1].headers
    assert {name: said[name] for name in kept} == kept
    assert said["content-type"] == "text/css"
    assert said["x-amz-metadata-directive"] == "REPLACE"
    assert said["x-amz-copy-source"] == f"{BUCKET}/dir/a%20b.html"
    assert said["x-amz-copy-source-if-match"] == '"e"'


def test_a_type_is_not_set_on_another_object(
    objects: ObjectService, server: ScriptedHttp
) -> None:
    there = Answer(200, b"", {**THERE, "Content-Length": "5"})
    server.script(there, s3_error(412, "PreconditionFailed"))
    with pytest.raises(ObjectChanged):
        objects.set_content_type("page.html", "text/css")
    server.script(there, Answer(200, s3_error(500, "InternalError").body))
    with pytest.raises(StoreUnavailable):
        objects.set_content_type("page.html", "text/css")
    server.script(Answer(200, b"", {**THERE, "Content-Length": str((5 << 30) + 1)}))
    with pytest.raises(NotOffered, match="5368709121"):
        objects.set_content_type("page.html", "text/css")


def test_a_store_without_conditions_is_looked_at_before_a_create(server: ScriptedHttp) -> None:
    settings = settings_of(server.url)
    store = S3ObjectStore(settings, PROVIDERS["gcs"], BUCKET, "", ENFORCES_NOTHING)
    with ObjectService(store) as objects:
        server.script(Answer(200, b"", {**THERE, "Content-Length": "5"}))
        with pytest.raises(KeyTaken):
            objects.put("page.html", b"x", create_only=True)
        assert [it.method for it in server.requests] == ["HEAD"]
        missing = s3_error(404, "NoSuchKey")
        server.script(missing, missing, Answer(200, b"", {"ETag": '"e"'}))
        objects.put("page.html", b"x", create_only=True)
        assert "if-none-match" not in server.requests[-1].headers
        with pytest.raises(NotOffered):
            objects.signed_put("page.html", timedelta(hours=1), create_only=True)


def test_an_md5_is_believed_only_where_it_was_seen_to_be_one(server: ScriptedHttp) -> None:
    md5 = hashlib.md5(b"bytes", usedforsecurity=False)
    whole = {**THERE, "ETag": f'"{md5.hexdigest()}"'}
    head, body = (
        Answer(200, b"", {**whole, "Content-Length": "5"}),
        Answer(200, b"bytes", whole),
    )
    kms = Answer(
        200,
        b"",
        {**whole, "Content-Length": "5", "x-amz-server-side-encryption": "aws:kms"},
    )
    denied = s3_error(403, "AccessDenied")
    for capabilities, answers, by in (
        (ENFORCES_ALL, (head,), "store"),
        (ENFORCES_ALL, (kms, body), "bytes"),
        (ENFORCES_NOTHING, (head, body), "bytes"),
        (None, (head, denied, denied, body), "bytes"),  # keys that may only read
    ):
        server.script(*answers)
        settings = settings_of(server.url)
        store = S3ObjectStore(settings, PROVIDERS["r2"], BUCKET, "", capabilities)
        with ObjectService(store) as objects:
            assert objects.md5("page.html") == FoundDigest(md5.digest(), by)  # type: ignore[arg-type]


def test_no_secret_is_in_an_error(objects: ObjectService, server: ScriptedHttp) -> None:
    echo = b"<Error><Code>InternalError</Code><Message>got secret-key</Message></Error>"
    server.script(Answer(500, echo))
    with pytest.raises(StoreUnavailable) as raised:
        objects.get("page.html")
    assert "secret-key" not in str(raised.value)


def test_a_store_that_throttles_says_for_how_long(
    objects: ObjectService, server: ScriptedHttp
) -> None:
    server.script(s3_error(503, "SlowDown", {"Retry-After": "7"}))
    with pytest.raises(StoreThrottled) as raised:
        objects.get("page.html")
    assert raised.value.retry_after_seconds == 7
