"""What obstore cannot tell, asked through boto3: its errors are typed, its headers shown.

Imported when a first question arises: never on the way of an object that moves, but where
boto3 is what moves it (`cold_boto3.py`).
"""

from __future__ import annotations

import base64
import binascii
import itertools
import os
import re
from contextlib import ExitStack
from functools import cache
from typing import TYPE_CHECKING, Any

import boto3
import botocore.loaders
import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.utils import determine_content_length

from archiver.model import Digest
from archiver.stores.bounded_s3 import bound_transfers
from archiver.stores.s3_answers import (
    NO_SUCH_KEY,
    Asked,
    Told,
    error_for,
    told_by_answer,
    told_by_botocore,
    translate,
)
from archiver.stores.s3_bounds import CarefulParsers, bound_answers, follow_no_redirect

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from botocore.awsrequest import AWSRequest, AWSResponse
    from botocore.model import OperationModel
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import ObjectTypeDef

    from archiver.model import Secret
    from archiver.stores.pace import Pace
    from archiver.stores.s3 import S3Settings
    from archiver.stores.s3_chain import AwsChain

_NOT_FOUND = 404
_OUT_OF_RANGE = 416
_DIGITS = 15  # of a Content-Length that is one
_EMPTY_PAGES = 100  # in a row, after which a listing is taken to have no end
_READING = "archiver_reading"  # under way, in what botocore keeps of a call
_BRINGS = {  # what waits for bytes to read
    "GetObject": "object",
    "ListObjectsV2": "listing",
    "ListMultipartUploads": "uploads",
    "ListParts": "parts",
}
_RANGE = re.compile("bytes=([0-9]{1,15})-([0-9]{1,15})")


class Questions:
    """A boto3 client of one account. Safe to share between threads."""

    def __init__(
        self,
        settings: S3Settings,
        chain: AwsChain | None = None,
        *,
        bounds_requests: bool = True,
    ) -> None:
        self._settings = settings
        self._chain = chain or _open_chain(settings)
        self.client = open_client(settings, self._chain, bounds_requests=bounds_requests)

    @property
    def secrets(self) -> tuple[Secret, ...]:
        """What this client signs with now."""
        of_chain = () if self._chain is None else self._chain.secrets
        return (*self._settings.secrets, *of_chain)

    def close(self) -> None:
        self.client.close()

    # --- what went wrong ----------------------------------------------------------------

    def what_is_wrong(self, asked: Asked, told: Told) -> Told:
        """The typed form of an answer that had no code; as it was where none is given.

        A missing object is `NoSuchKey` only when the store says so, or its bucket is seen.
        """
        if asked.key is None:
            return self._ask_of_bucket(asked) or told
        if asked.writes:  # the object may well be absent: what could be wrong is the bucket
            answer = self._ask_of_bucket(asked)
            return answer if answer is not None and answer.is_about_all else told
        answer = self._ask_of_object(asked)
        if answer is None:  # it is there, and may be read
            return Told(None, "contradicts itself") if told.status == _NOT_FOUND else told
        if answer.is_doubtful and answer.status == _NOT_FOUND:
            return self._ask_of_bucket(asked) or Told(_NOT_FOUND, NO_SUCH_KEY)
        return answer

    def how_long(self, asked: Asked, told: Told) -> Told:
        """The same answer with the pause the store asks for, if it still does."""
        is_of_bucket = asked.key is None or asked.writes
        answer = self._ask_of_bucket(asked) if is_of_bucket else self._ask_of_object(asked)
        if answer is None or not answer.is_throttled:
            return told
        pause = answer.retry_after_seconds
        return Told(told.status, told.code or answer.code, told.message, pause)

    def prove_missing(self, asked: Asked) -> None:
        """Return when the object is missing from a bucket that is there.

        Raises:
            BucketMissing, StoreDenied, ObjectDenied: It was not the object.
            StoreUnavailable: It could not be proven; or the object is there now.
        """
        told = self.what_is_wrong(asked, Told(_NOT_FOUND))
        if told.code != NO_SUCH_KEY:
            raise error_for(asked, told)

    def translate(self, asked: Asked) -> AbstractContextManager[None]:
        """Turn what the client raises into ours, after a second question if one is needed."""
        return translate(asked, self._typed)

    def _typed(self, asked: Asked, told: Told) -> Told:
        # Of a store that throttles all is known: the pause is in the answer's headers.
        if told.is_doubtful and not told.is_throttled:
            return self.what_is_wrong(asked, told)
        return self._refreshed(told)

    def _ask_of_object(self, asked: Asked) -> Told | None:
        """None: it is there, and may be read."""
        try:  # a GET: the answer to a HEAD has no body, so no code
            answer = self.client.get_object(
                Bucket=asked.bucket, Key=asked.key or "", Range="bytes=0-0"
            )
            answer["Body"].close()
        except (ClientError, BotoCoreError) as exc:
            told = self.told(exc)
            return None if told.status == _OUT_OF_RANGE else told  # it is empty
        return None

    def _ask_of_bucket(self, asked: Asked) -> Told | None:
        """None: it is there, and may be listed."""
        try:  # a LIST, as HeadBucket has no body either
            self.client.list_objects_v2(Bucket=asked.bucket, MaxKeys=1)
        except (ClientError, BotoCoreError) as exc:
            return self.told(exc)
        return None

    def told(self, exc: BaseException) -> Told:
        """What the client says; credentials of the chain that have expired are refreshed."""
        return self._refreshed(told_by_botocore(exc))

    def _refreshed(self, told: Told) -> Told:
        return told if self._chain is None else self._chain.refreshed(told)

    # --- what only boto3 can ask ----------------------------------------------------------

    def prove_bucket(self, asked: Asked) -> None:
        """Return when the bucket is there and may be used.

        Raises:
            BucketMissing, StoreDenied, StoreUnavailable
        """
        try:
            self.client.head_bucket(Bucket=asked.bucket)
        except (ClientError, BotoCoreError) as exc:
            told: Told | None = self.told(exc)
            if told is not None and told.is_doubtful:  # the answer to a HEAD has no body
                told = self._ask_of_bucket(asked)
            if told is not None:
                raise error_for(asked, told) from exc

    def held_digest(self, asked: Asked) -> Digest | None:
        """The SHA-256 the store keeps of the whole object; None: it keeps or tells none."""
        with self.translate(asked):
            head = self.client.head_object(
                Bucket=asked.bucket, Key=asked.key or "", ChecksumMode="ENABLED"
            )
        return whole_digest(head.get("ChecksumSHA256"))

    def objects(self, asked: Asked, prefix: str) -> Iterator[ObjectTypeDef]:
        """Every object whose key starts with the prefix, in key order, lazily."""
        return itertools.chain.from_iterable(self.pages(asked, prefix))

    def pages(
        self, asked: Asked, prefix: str, after: str | None = None
    ) -> Iterator[Sequence[ObjectTypeDef]]:
        """The same as LIST pages, from behind a key."""
        start: dict[str, Any] = {} if after is None else {"StartAfter": after}
        pages = self.client.get_paginator("list_objects_v2").paginate(
            Bucket=asked.bucket, Prefix=prefix, **start
        )
        remaining, first_keys, empty_count = iter(pages), set[str](), 0
        while True:
            with self.translate(asked):
                page = next(remaining, None)
            if page is None:
                return
            found = page.get("Contents", ())
            if any("Key" not in item or "Size" not in item for item in found):
                raise asked.unavailable(code="not a listing")
            empty_count = 0 if found else empty_count + 1
            # By what comes again, not by order: stores on file systems list `a/b` before `a.b`.
            if empty_count > _EMPTY_PAGES or (found and found[0]["Key"] in first_keys):
                raise asked.unavailable(code="endless listing")
            first_keys.update(item["Key"] for item in found[:1])
            yield found


def encryption(settings: S3Settings) -> dict[str, Any]:
    """What a put says of it, in boto3's words."""
    said = {"ServerSideEncryption": settings.sse, "SSEKMSKeyId": settings.sse_kms_key_id}
    return {name: value for name, value in said.items() if value is not None}


def open_client(
    settings: S3Settings, chain: AwsChain | None = None, *, bounds_requests: bool = True
) -> S3Client:
    """A client of its own session. From `AWS_*` and `~/.aws` come credentials at most.

    `bounds_requests`: none takes longer than `timeout_seconds` in all, what is sent included.
    """
    nowhere: tuple[Any, Any, Any, Any] = (None, None, None, None)
    no_file: tuple[Any, Any, Any, Any] = (None, None, os.devnull, None)
    session = botocore.session.Session(
        session_vars={
            "profile": nowhere,
            "config_file": no_file,
            "credentials_file": no_file,
            "ca_bundle": nowhere,
        }
    )
    session.register_component("data_loader", _service_models())
    session.register_component("response_parser_factory", CarefulParsers())
    chain = chain or _open_chain(settings)
    if chain is not None:
        session.register_component("credential_provider", chain)
    secret, token = settings.secret_access_key, settings.session_token
    proxy = settings.proxy_url
    client = boto3.session.Session(botocore_session=session).client(
        "s3",
        endpoint_url=settings.endpoint_url,
        region_name=settings.region,
        use_ssl=True,
        verify=str(settings.ca_bundle) if settings.ca_bundle is not None else True,
        aws_access_key_id=settings.access_key_id,
        aws_secret_access_key=secret.reveal() if secret is not None else None,
        aws_session_token=token.reveal() if token is not None else None,
        config=Config(
            signature_version="s3v4",
            connect_timeout=settings.connect_timeout_seconds,
            read_timeout=settings.timeout_seconds,
            max_pool_connections=settings.max_connections,
            # Empty, not None: None takes one from the environment.
            proxies={"https": proxy.reveal()} if proxy is not None else {},
            retries={"total_max_attempts": 1, "mode": "standard"},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            s3={"addressing_style": "path", "payload_signing_enabled": True},
        ),
    )
    for operation in ("PutObject", "UploadPart"):
        client.meta.events.register(f"before-sign.s3.{operation}", _send_at_once)
    _keep(settings.pace, client)
    bound_transfers(client)
    bound_answers(client, settings.timeout_seconds if bounds_requests else None)
    follow_no_redirect(client)
    return client


@cache
def _service_models() -> botocore.loaders.Loader:
    """What botocore knows of services, parsed once for all clients: 50 ms each."""
    return botocore.loaders.create_loader()


def _keep(pace: Pace, client: S3Client) -> None:
    """Let every request of a client wait for its turn, and keep the pauses it is told."""

    def before_call(
        model: OperationModel, params: Mapping[str, Any], context: dict[str, Any], **_: object
    ) -> None:
        range_ = _RANGE.fullmatch(params["headers"].get("Range", ""))
        what = _BRINGS.get(model.name)
        if range_ is not None:
            pace.wait(int(range_[2]) - int(range_[1]) + 1)
        elif what is None:
            pace.wait(determine_content_length(params["body"]) or 0)
        else:
            held = ExitStack()
            context[_READING] = held, held.enter_context(pace.reading(what))

    def after_call(
        http_response: AWSResponse,
        parsed: Mapping[str, Any],
        model: OperationModel,
        context: dict[str, Any],
        **_: object,
    ) -> None:
        if _READING in context:
            held, reading = context.pop(_READING)
            # What is no object was read already, and AWS sends it in chunks, without a length.
            reading.size_bytes = (
                _declared_bytes(http_response)
                if model.has_streaming_output
                else len(http_response.content)
            )
            held.close()
        told = told_by_answer(parsed)
        if told.is_throttled and told.retry_after_seconds is not None:
            pace.pause(told.retry_after_seconds)

    def after_call_error(context: dict[str, Any], **_: object) -> None:
        if _READING in context:
            held, _reading = context.pop(_READING)
            held.close()

    # Not `before-send`: there the request is signed, and a signature ages while it waits.
    client.meta.events.register("before-call.s3", before_call)
    client.meta.events.register("after-call.s3", after_call)
    client.meta.events.register("after-call-error.s3", after_call_error)


def _send_at_once(request: AWSRequest, **_: Any) -> None:
    """Else each put waits for the word of the store first, a round trip more."""
    del request.headers["Expect"]


def _declared_bytes(answer: AWSResponse) -> int:
    """What a pace can count on; an error may declare anything."""
    said = str(answer.headers.get("Content-Length", ""))
    return int(said) if said.isdecimal() and len(said) <= _DIGITS else 0


def _open_chain(settings: S3Settings) -> AwsChain | None:
    """None: keys are set."""
    if settings.access_key_id is not None:
        return None
    from archiver.stores.s3_chain import AwsChain  # noqa: PLC0415  # rarely needed

    return AwsChain(settings)


def whole_digest(text: str | None) -> Digest | None:
    """What a store says is the SHA-256 of a whole object; None: it is that of none."""
    if text is None or "-" in text:  # composite: a digest of the parts' digests
        return None
    try:
        raw = base64.b64decode(text, validate=True)
    except binascii.Error:
        return None
    return Digest(raw) if len(raw) == 32 else None  # noqa: PLR2004
