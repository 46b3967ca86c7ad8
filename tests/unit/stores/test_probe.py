"""The probe believes only what it saw; what is uncertain is no."""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING

import boto3
import pytest
from botocore import UNSIGNED
from botocore.config import Config

from archiver.errors import ArchiverError, BucketMissing, StoreDenied, StoreUnavailable
from archiver.model import Capabilities, ColdKey
from archiver.stores.probe import probe_cold, probe_name
from archiver.stores.providers import PROVIDERS
from archiver.stores.s3_answers import Asked
from archiver.stores.s3_questions import Questions
from archiver.stores.s3_trials import Trials
from tests.fakes.s3_worlds import BUCKET, ENFORCES_NOTHING, PREFIX, cold_world, settings_of
from tests.fakes.scripted_http import Answer, ScriptedHttp, s3_error

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.fakes.scripted_http import Answerer, Request

TAKEN = Answer(200, b"", {"ETag": '"e"'})
OTHER = Answer(200, b"other bytes", {"ETag": '"e"'})
NO_KEY = s3_error(404, "NoSuchKey")
TAKEN_ALREADY = s3_error(412, "PreconditionFailed")
MISMATCH = s3_error(400, "XAmzContentSHA256Mismatch")


@pytest.fixture
def server() -> Iterator[ScriptedHttp]:
    with ScriptedHttp(Answer(500)) as server:
        yield server


def probe(
    server: ScriptedHttp, *answers: Answer | Answerer, provider: str = "other"
) -> Capabilities:
    server.script(*answers)
    return probe_cold(settings_of(server.url), PROVIDERS[provider], BUCKET, PREFIX)


def found(*, signed: bool, create: bool) -> Capabilities:
    return Capabilities(
        enforces_signed_digest=signed, enforces_create=create, returns_digest=False
    )


def test_a_store_that_takes_everything_enforces_nothing(server: ScriptedHttp) -> None:
    assert probe(server, TAKEN) == ENFORCES_NOTHING


def test_a_digest_of_another_put_is_no_digest(server: ScriptedHttp) -> None:
    said = Answer(200, b"", {"ETag": '"e"', "x-amz-checksum-sha256": "AAAA"})

    assert probe(server, TAKEN, said, TAKEN) == ENFORCES_NOTHING


def test_every_put_of_a_probe_asks_for_the_encryption_and_for_no_class(
    server: ScriptedHttp,
) -> None:
    settings = replace(
        settings_of(server.url),
        sse="aws:kms",
        sse_kms_key_id="alias/archive",
        storage_class="GLACIER",
    )
    server.script(TAKEN)

    probe_cold(settings, PROVIDERS["other"], BUCKET, PREFIX)

    puts = [request.headers for request in server.requests if request.method == "PUT"]
    assert len(puts) == 5
    for headers in puts:
        assert headers["x-amz-server-side-encryption"] == "aws:kms"
        assert headers["x-amz-server-side-encryption-aws-kms-key-id"] == "alias/archive"
        assert "x-amz-storage-class" not in headers
    plain = probe_name(settings_of(server.url), PROVIDERS["other"], BUCKET)
    assert probe_name(settings, PROVIDERS["other"], BUCKET) != plain


@pytest.mark.parametrize("refusal", [MISMATCH, s3_error(403, "SignatureDoesNotMatch")])
@pytest.mark.parametrize("left", [NO_KEY, OTHER])
def test_an_altered_body_that_is_refused_shows_that_digests_are_enforced(
    server: ScriptedHttp, refusal: Answer, left: Answer
) -> None:
    seen = probe(server, TAKEN, TAKEN, refusal, left, TAKEN)

    assert seen == found(signed=True, create=False)
    put = server.requests[2]
    assert (put.method, put.target) == ("PUT", f"/{BUCKET}/{PREFIX}.archiver/probe-signed")
    assert put.headers["x-amz-content-sha256"] not in {"UNSIGNED-PAYLOAD", ""}


@pytest.mark.parametrize(
    "refusal", [s3_error(500, "InternalError"), s3_error(403, "AccessDenied"), Answer(501)]
)
def test_another_refusal_of_the_altered_body_shows_nothing(
    server: ScriptedHttp, refusal: Answer
) -> None:
    assert probe(server, TAKEN, TAKEN, refusal, NO_KEY, TAKEN) == ENFORCES_NOTHING


def the_refused_body(requests: Sequence[Request]) -> Answer:
    """A store that refuses, and keeps what it refused."""
    put = [request for request in requests if request.method == "PUT"][-1]
    return Answer(200, put.body, {"ETag": '"e"'})


def test_a_refusal_that_took_effect_shows_nothing(server: ScriptedHttp) -> None:
    kept = the_refused_body
    assert probe(server, TAKEN, TAKEN, MISMATCH, kept, TAKEN) == ENFORCES_NOTHING
    assert probe(server, TAKEN, TAKEN, TAKEN, TAKEN_ALREADY, kept) == ENFORCES_NOTHING


def test_a_refusal_of_what_was_not_signed_shows_nothing(server: ScriptedHttp) -> None:
    client = boto3.client(
        "s3",
        region_name="r",
        endpoint_url=server.url,
        config=Config(signature_version=UNSIGNED),
    )
    questions = Questions(settings_of(server.url))
    questions.client = client
    trials = Trials(questions, PROVIDERS["other"], Asked("cold", "probe", BUCKET), "probe-")
    server.script(MISMATCH, NO_KEY)

    with contextlib.closing(client):
        assert not trials.enforces_signed_digest()


@pytest.mark.parametrize("left", [s3_error(403, "AccessDenied"), s3_error(500, "x")])
def test_a_refusal_whose_effect_cannot_be_seen_shows_nothing(
    server: ScriptedHttp, left: Answer
) -> None:
    assert probe(server, TAKEN, TAKEN, MISMATCH, left, TAKEN) == ENFORCES_NOTHING
    assert probe(server, TAKEN, TAKEN, TAKEN, TAKEN_ALREADY, left) == ENFORCES_NOTHING


def test_a_refused_create_shows_that_creates_are_enforced(server: ScriptedHttp) -> None:
    second = probe(server, TAKEN, TAKEN, TAKEN, TAKEN, TAKEN_ALREADY, OTHER)
    from_an_earlier_probe = probe(server, TAKEN, TAKEN, TAKEN, TAKEN_ALREADY, OTHER)

    assert second == from_an_earlier_probe == found(signed=False, create=True)


@pytest.mark.parametrize(
    "answers",
    [
        [s3_error(501, "NotImplemented"), OTHER],
        [TAKEN_ALREADY, NO_KEY],  # nothing is there that could have been in the way
    ],
)
def test_another_refusal_of_a_create_shows_nothing(
    server: ScriptedHttp, answers: list[Answer]
) -> None:
    assert probe(server, TAKEN, TAKEN, TAKEN, *answers) == ENFORCES_NOTHING


def test_a_store_that_knows_no_checksums_is_put_without(server: ScriptedHttp) -> None:
    assert probe(server, s3_error(400, "InvalidArgument"), TAKEN) == ENFORCES_NOTHING
    assert "x-amz-checksum-sha256" in server.requests[0].headers
    assert "x-amz-checksum-sha256" not in server.requests[1].headers


@pytest.mark.parametrize(
    ("answers", "error"),
    [
        ([s3_error(404, "NoSuchBucket")], BucketMissing),
        ([s3_error(403, "AccessDenied")], StoreDenied),
        ([s3_error(403, "InvalidAccessKeyId")], StoreDenied),
        ([s3_error(500, "InternalError")], StoreUnavailable),
        ([s3_error(503, "SlowDown")], StoreUnavailable),
        ([s3_error(400, "RequestRateLimitExceeded")], StoreUnavailable),
        ([TAKEN, TAKEN, s3_error(429, "TooMany")], StoreUnavailable),
        ([TAKEN, TAKEN, s3_error(400, "RequestTimeout")], StoreUnavailable),
        ([TAKEN, TAKEN, TAKEN, s3_error(409, "Conflict")], StoreUnavailable),
        ([TAKEN, TAKEN, TAKEN, TAKEN, s3_error(429, "TooMany")], StoreUnavailable),
    ],
)
def test_a_probe_that_learned_nothing_says_why(
    server: ScriptedHttp, answers: list[Answer], error: type[ArchiverError]
) -> None:
    with pytest.raises(error):
        probe(server, *answers, provider="wasabi")


def test_a_probe_leaves_few_objects_under_fixed_names(moto_url: str) -> None:
    settings = settings_of(moto_url)
    world = cold_world(settings, ENFORCES_NOTHING)
    with contextlib.closing(world.store), contextlib.closing(world.client):
        first, second = (
            probe_cold(settings, PROVIDERS["minio"], BUCKET, PREFIX) for _ in range(2)
        )

        assert first == second
        assert first.enforces_create
        assert not first.enforces_signed_digest  # moto takes any body
        assert [stat.key for stat in world.store.list(ColdKey(""))] == [
            f"{PREFIX}.archiver/probe-{name}" for name in ("create", "digest", "signed")
        ]


def test_the_name_of_a_finding_says_what_it_holds_for_and_no_secret() -> None:
    name = probe_name(settings_of("https://s3.example"), PROVIDERS["r2"], BUCKET)

    for part in ("https://s3.example", BUCKET, "key-id", "obstore-", "boto3-"):
        assert part in name
    assert "secret-key" not in name


def test_what_one_client_was_seen_to_do_is_not_believed_of_the_other() -> None:
    settings, provider = settings_of("https://s3.example"), PROVIDERS["r2"]

    by_boto3 = probe_name(settings, provider, BUCKET, "boto3")

    assert by_boto3 != probe_name(settings, provider, BUCKET, "obstore")
    assert "obstore" not in by_boto3


# --- parts ------------------------------------------------------------------------------

BEGUN = Answer(
    200,
    b"<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>",
)
ABORTED = Answer(204)


def listed(*etags: str) -> Answer:
    parts = "".join(
        f"<Part><PartNumber>{number}</PartNumber><Size>32</Size><ETag>{etag}</ETag></Part>"
        for number, etag in enumerate(etags, 1)
    )
    return Answer(200, f"<ListPartsResult>{parts}</ListPartsResult>".encode())


@pytest.fixture
def trials(server: ScriptedHttp) -> Iterator[Trials]:
    questions = Questions(settings_of(server.url))
    yield Trials(questions, PROVIDERS["other"], Asked("cold", "probe", BUCKET), "app/probe-")
    questions.close()


def was_aborted(server: ScriptedHttp) -> bool:
    return [it.method for it in server.requests].count("DELETE") == 1


@pytest.mark.parametrize("refusal", [MISMATCH, s3_error(403, "SignatureDoesNotMatch")])
def test_an_altered_part_that_is_refused_shows_that_parts_are_checked(
    server: ScriptedHttp, trials: Trials, refusal: Answer
) -> None:
    server.script(BEGUN, TAKEN, refusal, listed('"e"'), ABORTED)

    assert trials.enforces_signed_parts()

    begun, honest, altered, *_ = server.requests
    assert begun.target == f"/{BUCKET}/app/probe-parts?uploads"
    for asked, is_signed in ((honest, True), (altered, False)):
        said = asked.headers["x-amz-content-sha256"]
        assert (said == hashlib.sha256(asked.body).hexdigest()) is is_signed
    assert was_aborted(server)


@pytest.mark.parametrize(
    "answers",
    [
        [TAKEN, TAKEN],  # it takes everything
        [s3_error(400, "EntityTooSmall"), MISMATCH],  # it takes nothing
        [TAKEN, s3_error(403, "AccessDenied"), listed('"e"')],
        [TAKEN, s3_error(500, "InternalError"), listed('"e"')],
        [TAKEN, MISMATCH, listed('"e"', '"f"')],  # refused, and kept
        [TAKEN, MISMATCH, listed()],
        [TAKEN, MISMATCH, s3_error(403, "AccessDenied")],
        [TAKEN, MISMATCH, Answer(200, b"no list")],
    ],
)
def test_another_answer_to_an_altered_part_shows_nothing(
    server: ScriptedHttp, trials: Trials, answers: list[Answer]
) -> None:
    server.script(BEGUN, *answers, ABORTED)

    assert not trials.enforces_signed_parts()
    assert was_aborted(server)


def test_a_refused_complete_whose_parts_are_there_shows_that_they_are_kept(
    server: ScriptedHttp, trials: Trials
) -> None:
    server.script(BEGUN, TAKEN, TAKEN_ALREADY, listed('"e"'), ABORTED)

    assert trials.keeps_refused_parts()

    complete = server.requests[2]
    assert complete.target == f"/{BUCKET}/app/probe-digest?uploadId=u"
    assert complete.headers["if-none-match"] == "*"
    assert was_aborted(server)


MADE = Answer(
    200, b"<CompleteMultipartUploadResult><ETag>e</ETag></CompleteMultipartUploadResult>"
)


@pytest.mark.parametrize(
    "answers",
    [
        [TAKEN, MADE],  # the condition is not looked at
        [TAKEN, TAKEN_ALREADY, s3_error(404, "NoSuchUpload")],  # as R2
        [TAKEN, TAKEN_ALREADY, listed()],
        [TAKEN, TAKEN_ALREADY, listed('"another"')],
        [TAKEN, s3_error(501, "NotImplemented"), listed('"e"')],
        [TAKEN, Answer(200, b"neither"), listed('"e"')],
        [s3_error(501, "NotImplemented")],
    ],
)
def test_another_answer_to_a_complete_shows_nothing(
    server: ScriptedHttp, trials: Trials, answers: list[Answer]
) -> None:
    server.script(BEGUN, *answers, ABORTED)

    assert not trials.keeps_refused_parts()
    assert was_aborted(server)


@pytest.mark.parametrize(
    "answer",
    [
        s3_error(501, "NotImplemented"),
        s3_error(403, "AccessDenied"),
        Answer(200),
        Answer(200, b"no answer to this"),
    ],
)
def test_a_store_that_begins_no_upload_has_no_parts(
    server: ScriptedHttp, trials: Trials, answer: Answer
) -> None:
    server.script(answer)

    assert not trials.enforces_signed_parts()
    assert not trials.keeps_refused_parts()
    assert len(server.requests) == 2


@pytest.mark.parametrize("trial", ["enforces_signed_parts", "keeps_refused_parts"])
@pytest.mark.parametrize(
    "answers",
    [
        [],
        [s3_error(503, "SlowDown")],
        [BEGUN, s3_error(503, "SlowDown")],
        [BEGUN, TAKEN, s3_error(429, "TooMany")],
        [BEGUN, TAKEN, s3_error(400, "RequestTimeout")],
    ],
)
def test_a_trial_of_parts_that_learned_nothing_says_why_and_leaves_nothing(
    server: ScriptedHttp, trials: Trials, trial: str, answers: list[Answer]
) -> None:
    server.script(*answers, ABORTED if BEGUN in answers else s3_error(503, "SlowDown"))

    with pytest.raises(StoreUnavailable):
        getattr(trials, trial)()

    assert was_aborted(server) is (BEGUN in answers)


def test_a_probe_leaves_no_upload(moto_url: str) -> None:
    settings = settings_of(moto_url)
    world = cold_world(settings, ENFORCES_NOTHING)
    with contextlib.closing(world.store), contextlib.closing(world.client):
        seen = probe_cold(settings, PROVIDERS["minio"], BUCKET, PREFIX)

        assert seen.keeps_refused_parts
        assert not seen.enforces_signed_parts  # moto takes any body
        assert list(world.store.multipart.open_uploads("")) == []


def test_what_was_found_before_parts_were_tried_is_not_believed() -> None:
    name = probe_name(settings_of("https://s3.example"), PROVIDERS["r2"], BUCKET)

    assert name.endswith(" with-parts")
