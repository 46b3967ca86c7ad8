"""What our S3 stores make of answers about parts, against a server that gives them."""

from __future__ import annotations

import base64
import hashlib
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from archiver.errors import (
    ArchiverError,
    BucketMissing,
    KeyTaken,
    ObjectDenied,
    StoreDenied,
    StoreThrottled,
    StoreUnavailable,
    UnusableName,
    UploadMissing,
)
from archiver.model import ColdKey, ColdStat, Digest, OpenUpload, Part, PartRules, StoredPart
from archiver.stores.cold_s3 import S3ColdStore
from archiver.stores.providers import PROVIDERS
from tests.fakes.s3_worlds import ENFORCES_ALL, ENFORCES_NOTHING, settings_of
from tests.fakes.scripted_http import Answer, ScriptedHttp, s3_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from archiver.model import Capabilities
    from archiver.protocols import Multipart
    from tests.fakes.scripted_http import Request

BUCKET = "cold-bucket"
KEY = ColdKey("app/large.bin")
UPLOAD = OpenUpload(KEY, "the+upload/id")
BODY = b"the body of a part"
PART = Part(1, len(BODY), Digest.of(BODY), '"e1"')
TAKEN = Answer(200, b"", {"ETag": '"e1"'})
GONE = s3_error(404, "NoSuchUpload")
LISTED = Answer(200, b"<ListBucketResult><KeyCount>0</KeyCount></ListBucketResult>")


def xml(name: str, inner: str) -> Answer:
    return Answer(200, f"<{name}>{inner}</{name}>".encode())


def begun(upload_id: str) -> Answer:
    return xml("InitiateMultipartUploadResult", f"<UploadId>{upload_id}</UploadId>")


MADE = xml("CompleteMultipartUploadResult", '<ETag>"whole-1"</ETag>')


def part(number: int | str, size: int | str = 18, etag: str = '"e"') -> str:
    number_, size_, etag_ = (
        f"<{name}>{said}</{name}>" if said != "" else ""
        for name, said in (("PartNumber", number), ("Size", size), ("ETag", etag))
    )
    return f"<Part>{number_}{size_}{etag_}</Part>"


def parts(*inner: str, more: bool = False, marker: int | None = None) -> Answer:
    next_ = "" if marker is None else f"<NextPartNumberMarker>{marker}</NextPartNumberMarker>"
    truncated = f"<IsTruncated>{str(more).lower()}</IsTruncated>{next_}"
    return xml("ListPartsResult", truncated + "".join(inner))


def upload(key: str, upload_id: str, initiated: str = "2026-11-21T04:16:16.000Z") -> str:
    told = f"<Key>{key}</Key><UploadId>{upload_id}</UploadId><Initiated>{initiated}</Initiated>"
    return f"<Upload>{told}</Upload>"


def uploads(*inner: str, more: bool = False, after: str = "") -> Answer:
    next_ = f"<NextKeyMarker>{after}</NextKeyMarker>" if after else ""
    truncated = f"<IsTruncated>{str(more).lower()}</IsTruncated>{next_}"
    return xml("ListMultipartUploadsResult", truncated + "".join(inner))


@pytest.fixture
def server() -> Iterator[ScriptedHttp]:
    with ScriptedHttp(Answer(500)) as server:
        yield server


@pytest.fixture
def multipart(server: ScriptedHttp) -> Iterator[Multipart]:
    store = cold_store(server, ENFORCES_ALL)
    yield store.multipart
    store.close()


@pytest.fixture
def plain(server: ScriptedHttp) -> Iterator[Multipart]:
    """Of a store that enforces nothing."""
    store = cold_store(server, ENFORCES_NOTHING)
    yield store.multipart
    store.close()


def cold_store(
    server: ScriptedHttp, capabilities: Capabilities, provider: str = "r2", **more: Any
) -> S3ColdStore:
    settings = replace(settings_of(server.url), **more)
    return S3ColdStore(settings, PROVIDERS[provider], BUCKET, "app/", capabilities)


def begin(multipart: Multipart) -> OpenUpload:
    return multipart.begin(
        KEY,
        part_bytes=5 << 20,
        metadata={"task_id": "7"},
        content_type="text/html",
        content_encoding="gzip",
    )


# --- what is sent -------------------------------------------------------------------------


def test_what_is_said_beside_a_put_is_said_at_the_beginning(server: ScriptedHttp) -> None:
    said_always = {"storage_class": "STANDARD_IA", "sse": "aws:kms", "sse_kms_key_id": "k"}
    store = cold_store(server, ENFORCES_ALL, "s3", **said_always)
    server.script(begun("u1"))

    assert begin(store.multipart) == OpenUpload(KEY, "u1")

    store.close()
    [asked] = server.requests
    assert (asked.method, asked.target) == ("POST", f"/{BUCKET}/{KEY}?uploads")
    said = {
        "x-amz-meta-task_id": "7",
        "content-type": "text/html",
        "content-encoding": "gzip",
        "cache-control": "no-transform",
        "x-amz-storage-class": "STANDARD_IA",
        "x-amz-server-side-encryption": "aws:kms",
        "x-amz-server-side-encryption-aws-kms-key-id": "k",
        "x-amz-checksum-algorithm": "SHA256",
    }
    assert {name: asked.headers.get(name) for name in said} == said


def test_a_part_carries_its_signed_digest(server: ScriptedHttp, multipart: Multipart) -> None:
    server.script(TAKEN)

    assert multipart.put_part(UPLOAD, 3, BODY) == '"e1"'

    [asked] = server.requests
    assert asked.target == f"/{BUCKET}/{KEY}?uploadId=the%2Bupload%2Fid&partNumber=3"
    assert asked.body == BODY
    assert asked.headers["x-amz-content-sha256"] == hashlib.sha256(BODY).hexdigest()
    digest = base64.b64encode(hashlib.sha256(BODY).digest()).decode()
    assert asked.headers["x-amz-checksum-sha256"] == digest
    assert "expect" not in asked.headers


def test_the_checksum_of_a_part_is_named_again_at_the_end(
    server: ScriptedHttp, multipart: Multipart
) -> None:
    server.script(MADE)

    stat = multipart.complete(UPLOAD, [PART, replace(PART, number=2, etag='"e2"')])

    assert stat == ColdStat(KEY, 2 * len(BODY), '"whole-1"')
    [asked] = server.requests
    assert asked.headers["if-none-match"] == "*"
    digest = base64.b64encode(hashlib.sha256(BODY).digest())
    assert asked.body.count(b"<ChecksumSHA256>" + digest) == 2
    assert asked.body.index(b"e1") < asked.body.index(b"e2")


def test_a_store_that_returns_no_digest_is_sent_none(
    server: ScriptedHttp, plain: Multipart
) -> None:
    server.script(begun("u1"), TAKEN, MADE)

    plain.put_part(begin(plain), 1, BODY)
    plain.complete(UPLOAD, [PART])

    for asked in server.requests:
        assert [name for name in asked.headers if "checksum" in name] == []
        assert b"Checksum" not in asked.body


def test_a_complete_is_conditional_only_where_a_refusal_keeps_the_parts(
    server: ScriptedHttp, plain: Multipart
) -> None:
    """R2 drops the upload with a refusal, others do not look at the condition."""
    server.script(MADE)

    plain.complete(UPLOAD, [PART])

    assert "if-none-match" not in server.requests[0].headers


def test_the_rules_of_parts_are_the_providers(server: ScriptedHttp) -> None:
    rules = {name: row.part_rules for name, row in PROVIDERS.items()}

    assert cold_store(server, ENFORCES_ALL).multipart.rules == rules["r2"]
    assert rules["s3"] == rules["other"] == PartRules(5 << 20, 5 << 30, 10_000)
    assert rules["b2"].min_bytes == 5_000_000
    assert rules["file"].min_bytes == 1


def test_a_key_that_the_client_would_change_is_refused(
    server: ScriptedHttp, multipart: Multipart
) -> None:
    for key in ("a//b", "../b", "a/", "x" * 1_025):
        with pytest.raises(UnusableName):
            multipart.put_part(OpenUpload(ColdKey(key), "u"), 1, BODY)

    assert server.requests == []


def test_boto3_is_not_imported_before_it_is_needed(server: ScriptedHttp) -> None:
    script = f"""if True:
        import sys
        from archiver.model import *
        from archiver.stores.cold_s3 import S3ColdStore
        from archiver.stores.providers import PROVIDERS
        from archiver.stores.s3 import S3Settings

        settings = S3Settings(
            endpoint={server.url!r}, region="us-east-1", access_key_id="k",
            secret_access_key=Secret("s"), allow_http=True,
        )
        nothing = Capabilities(False, False, False)
        cold = S3ColdStore(settings, PROVIDERS["r2"], "cold-bucket", "", nothing)
        assert not {{"boto3", "botocore"}} & set(sys.modules)
        cold.multipart.put_part(OpenUpload(ColdKey("k"), "u"), 1, b"x")
        cold.close()
    """
    server.script(TAKEN)

    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)

    assert ended.stderr == b""


# --- what answers mean --------------------------------------------------------------------


def ask_begin(multipart: Multipart) -> object:
    return begin(multipart)


def ask_put_part(multipart: Multipart) -> object:
    return multipart.put_part(UPLOAD, 1, BODY)


def ask_parts(multipart: Multipart) -> object:
    return multipart.parts(UPLOAD)


def ask_complete(multipart: Multipart) -> object:
    return multipart.complete(UPLOAD, [PART])


def ask_abort(multipart: Multipart) -> object:
    multipart.abort(UPLOAD)
    return None


def ask_open_uploads(multipart: Multipart) -> object:
    return list(multipart.open_uploads("app/"))


ASKS = [ask_begin, ask_put_part, ask_parts, ask_complete, ask_abort, ask_open_uploads]


@pytest.mark.parametrize("ask", ASKS)
@pytest.mark.parametrize(
    ("answers", "error", "told"),
    [
        ([s3_error(404, "NoSuchBucket")], BucketMissing, BUCKET),
        ([s3_error(403, "AccessDenied")], (ObjectDenied, StoreDenied), "AccessDenied"),
        ([s3_error(403, "SignatureDoesNotMatch")], StoreDenied, "SignatureDoesNotMatch"),
        ([s3_error(503, "SlowDown", {"Retry-After": "7"})], StoreThrottled, "SlowDown"),
        ([s3_error(500, "InternalError")], StoreUnavailable, "InternalError"),
        ([s3_error(418, "SomethingNew")], StoreUnavailable, "SomethingNew"),
        ([s3_error(501, "NotImplemented")], StoreUnavailable, "NotImplemented"),
        ([Answer(404), LISTED], StoreUnavailable, "http 404"),  # no upload, or a proxy
        ([Answer(404), s3_error(404, "NoSuchBucket")], BucketMissing, BUCKET),
        ([Answer(502, b"<html>a proxy</html>")], StoreUnavailable, "http 502"),
    ],
)
def test_a_refusal_means(
    server: ScriptedHttp,
    multipart: Multipart,
    ask: Callable[[Multipart], object],
    answers: list[Answer],
    error: type[ArchiverError] | tuple[type[ArchiverError], ...],
    told: str,
) -> None:
    server.script(*answers)

    with pytest.raises(error, match=told) as caught:
        ask(multipart)

    if isinstance(caught.value, StoreThrottled):
        assert caught.value.retry_after_seconds == 7


@pytest.mark.parametrize(
    ("ask", "status"),
    [
        (ask_put_part, 404),
        (ask_parts, 404),
        (ask_parts, 200),
        (ask_complete, 404),
        (ask_complete, 200),
    ],
)
def test_an_upload_that_is_gone_is_missing(
    server: ScriptedHttp,
    multipart: Multipart,
    ask: Callable[[Multipart], object],
    status: int,
) -> None:
    server.script(s3_error(status, "NoSuchUpload"))

    with pytest.raises(UploadMissing, match=str(KEY)):
        ask(multipart)


def test_an_abort_of_what_is_gone_has_done_its_work(
    server: ScriptedHttp, multipart: Multipart
) -> None:
    server.script(Answer(204), GONE)

    for _ in range(2):
        multipart.abort(UPLOAD)

    assert {(asked.method, asked.target) for asked in server.requests} == {
        ("DELETE", f"/{BUCKET}/{KEY}?uploadId=the%2Bupload%2Fid")
    }


@pytest.mark.parametrize("upload_id", ["", "x" * 5_000])
def test_a_beginning_without_an_upload_id_is_none(
    server: ScriptedHttp, multipart: Multipart, upload_id: str
) -> None:
    server.script(begun(upload_id))

    with pytest.raises(StoreUnavailable, match="no upload id"):
        begin(multipart)


def test_a_part_without_an_etag_is_not_acknowledged(
    server: ScriptedHttp, multipart: Multipart
) -> None:
    server.script(Answer(200))

    with pytest.raises(StoreUnavailable, match="no etag"):
        multipart.put_part(UPLOAD, 1, BODY)


@pytest.mark.parametrize(
    ("answer", "error", "told"),
    [
        (s3_error(200, "InternalError"), StoreUnavailable, "InternalError"),
        (s3_error(200, "SlowDown"), StoreThrottled, "SlowDown"),
        (s3_error(200, "PreconditionFailed"), KeyTaken, str(KEY)),
        (s3_error(412, "PreconditionFailed"), KeyTaken, str(KEY)),
        (s3_error(409, "ConditionalRequestConflict"), StoreUnavailable, "Conflict"),
        (s3_error(400, "InvalidPart"), StoreUnavailable, "InvalidPart"),
        (s3_error(400, "EntityTooSmall"), StoreUnavailable, "EntityTooSmall"),
        (xml("CompleteMultipartUploadResult", ""), StoreUnavailable, "no etag"),
        (Answer(200), StoreUnavailable, "no etag"),
        (Answer(200, b"\n\n\n"), StoreUnavailable, "http 500"),  # cut before its end
        (Answer(200, MADE.body, cut_at=30), StoreUnavailable, "cut|http 500"),
        (Answer(200, MADE.body[:30]), StoreUnavailable, "http 500"),
        (Answer(never_comes=True), StoreUnavailable, "timeout"),
    ],
)
def test_a_complete_is_done_only_when_an_object_is_named(
    server: ScriptedHttp, answer: Answer, error: type[ArchiverError], told: str
) -> None:
    store = cold_store(server, ENFORCES_ALL, timeout_seconds=2)
    server.script(answer, LISTED)

    with pytest.raises(error, match=told):
        store.multipart.complete(UPLOAD, [PART])

    store.close()
    assert [it.method for it in server.requests].count("POST") == 1  # never asked twice


def test_white_space_that_keeps_a_connection_open_is_no_error(
    server: ScriptedHttp, multipart: Multipart
) -> None:
    declared = b'<?xml version="1.0" encoding="UTF-8"?>'
    server.script(Answer(200, declared + b"  \n " * 500 + MADE.body))

    assert multipart.complete(UPLOAD, [PART]).etag == '"whole-1"'


# --- lists of parts -----------------------------------------------------------------------


def told_of(*numbers: int) -> list[StoredPart]:
    return [StoredPart(number, 18, '"e"') for number in numbers]


def test_parts_come_in_pages(server: ScriptedHttp, multipart: Multipart) -> None:
    server.script(
        parts(part(1), part(2), more=True, marker=2),
        parts(part(5), more=True),  # without a marker the last one is it
        parts(part(7)),
    )

    assert list(multipart.parts(UPLOAD)) == told_of(1, 2, 5, 7)

    targets = [request.target for request in server.requests]
    assert [it.partition("part-number-marker=")[2] for it in targets] == ["", "2", "5"]


def test_parts_in_another_order_are_told_by_number(
    server: ScriptedHttp, multipart: Multipart
) -> None:
    server.script(parts(part(10), part(2), more=True, marker=2), parts(part(3), part(2)))

    assert list(multipart.parts(UPLOAD)) == told_of(2, 3, 10)


@pytest.mark.parametrize(
    "inner",
    [
        part(""),
        part(1, ""),
        part(1, 18, ""),
        part(0),
        part(-1),
        part(10_001),
        part("one"),
        part(1, "large"),
    ],
)
def test_what_is_no_part_makes_no_list(
    server: ScriptedHttp, multipart: Multipart, inner: str
) -> None:
    server.script(parts(part(2), inner))

    with pytest.raises(StoreUnavailable):
        multipart.parts(UPLOAD)


@pytest.mark.parametrize(
    "page",
    [
        parts(part(1), part(2), more=True, marker=2),  # whatever the marker says
        parts(more=True, marker=5),
        parts(more=True),
    ],
)
def test_an_endless_list_of_parts_ends(
    server: ScriptedHttp, multipart: Multipart, page: Answer
) -> None:
    server.script(page)

    with pytest.raises(StoreUnavailable, match="endless"):
        multipart.parts(UPLOAD)

    assert len(server.requests) <= 3


def test_a_list_of_more_parts_than_there_may_be_ends(
    server: ScriptedHttp, multipart: Multipart
) -> None:
    """A thousand new ones on each page, for ever."""

    def page(requests: Sequence[Request]) -> Answer:
        first = 1_000 * (len(requests) - 1) + 1
        return parts(*map(part, range(first, first + 1_000)), more=True)

    server.script(page)

    with pytest.raises(StoreUnavailable, match="not a listing"):
        multipart.parts(UPLOAD)

    assert len(server.requests) == 11


def test_a_huge_answer_is_not_read_to_its_end(
    server: ScriptedHttp, multipart: Multipart
) -> None:
    server.script(Answer(200, b"<ListPartsResult>" + b" " * (17 << 20)))

    with pytest.raises(StoreUnavailable, match="more than"):
        multipart.parts(UPLOAD)


# --- lists of uploads ---------------------------------------------------------------------


def test_uploads_come_in_pages(server: ScriptedHttp, multipart: Multipart) -> None:
    server.script(
        uploads(upload("app/a", "1"), upload("app/b", "2"), more=True, after="app/b"),
        uploads(more=True, after="app/m"),  # an empty one is no end
        uploads(upload("app/z", "3")),
    )

    seen = list(multipart.open_uploads("app/"))

    assert [(it.key, it.upload_id) for it in seen] == [
        *[("app/a", "1"), ("app/b", "2"), ("app/z", "3")]
    ]
    assert all(it.begun_at is not None and it.begun_at.tzinfo for it in seen)
    assert "prefix=app%2F" in server.requests[0].target
    assert "key-marker=app%2Fb" in server.requests[1].target


def test_uploads_of_other_keys_are_left_out(server: ScriptedHttp, multipart: Multipart) -> None:
    server.script(uploads(upload("other/a", "1"), upload("app/b", "2")))

    assert [it.key for it in multipart.open_uploads("app/")] == ["app/b"]


@pytest.mark.parametrize(
    "page",
    [
        uploads(upload("app/a", "1"), more=True, after="app/a"),
        uploads(upload("app/a", "1"), more=True),
        uploads(more=True, after="app/a"),
    ],
)
def test_an_endless_list_of_uploads_ends(
    server: ScriptedHttp, multipart: Multipart, page: Answer
) -> None:
    server.script(page)

    with pytest.raises(StoreUnavailable, match="endless"):
        list(multipart.open_uploads("app/"))

    assert len(server.requests) <= 102


@pytest.mark.parametrize("inner", [upload("", "1"), upload("app/a", ""), "<Upload></Upload>"])
def test_what_is_no_upload_makes_no_list(
    server: ScriptedHttp, multipart: Multipart, inner: str
) -> None:
    server.script(uploads(inner))

    with pytest.raises(StoreUnavailable, match="not a listing"):
        list(multipart.open_uploads("app/"))


# --- secrets ------------------------------------------------------------------------------


@pytest.mark.parametrize("ask", ASKS)
def test_a_secret_that_is_echoed_is_in_no_error(
    server: ScriptedHttp, multipart: Multipart, ask: Callable[[Multipart], object]
) -> None:
    echo = xml("Error", "<Code>secret-key</Code><Message>for secret-key, no</Message>")
    server.script(replace(echo, status=400))

    with pytest.raises(StoreUnavailable) as caught:
        ask(multipart)

    assert "secret-key" not in f"{caught.value!r} {caught.value}"
    assert "<SECRET>" in str(caught.value)
