"""The trials of a probe, by boto3: it lets us send what no honest client sends."""

from __future__ import annotations

import base64
import hashlib
import io
import secrets
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from archiver.formats.etags import md5_etag
from archiver.stores.s3_answers import (
    ACCESS_DENIED,
    EXPIRED_CODES,
    NO_SUCH_KEY,
    Asked,
    Told,
    error_for,
)
from archiver.stores.s3_bounds import UnreadableAnswer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from botocore.awsrequest import AWSPreparedRequest

    from archiver.stores.providers import Provider
    from archiver.stores.s3_questions import Questions

_PRECONDITION_FAILED = 412


@dataclass(frozen=True, slots=True)
class Trials:
    """The trials, on one bucket. The first one must be `returns_digest`: it is the control."""

    questions: Questions
    provider: Provider
    asked: Asked
    key_start: str
    sent_along: Mapping[str, Any] = field(
        default_factory=dict
    )  # with every put: the encryption

    def returns_digest(self) -> bool:
        """Whether HEAD returns the SHA-256 that was put. Its put is honest.

        Raises:
            BucketMissing, StoreDenied, StoreUnavailable: Also a plain put is not taken.
        """
        body = secrets.token_bytes(32)
        digest = base64.b64encode(hashlib.sha256(body).digest()).decode()
        refusal = self._put("digest", body, ChecksumSHA256=digest)
        if refusal is not None:  # some stores know no such header
            self._require_answer(refusal)
            plain = self._put("digest", body)
            if plain is not None:
                raise error_for(self.asked, plain)
            return False
        try:
            head = self.questions.client.head_object(
                Bucket=self.asked.bucket, Key=f"{self.key_start}digest", ChecksumMode="ENABLED"
            )
        except (ClientError, BotoCoreError):
            return False
        return head.get("ChecksumSHA256") == digest

    def etag_is_md5(self) -> bool:
        """Whether HEAD tells the MD5 of what was put as its ETag. Its put is honest."""
        body = secrets.token_bytes(32)
        refusal = self._put("digest", body)
        if refusal is not None:
            self._require_answer(refusal)
            return False
        try:
            head = self.questions.client.head_object(
                Bucket=self.asked.bucket, Key=f"{self.key_start}digest"
            )
        except (ClientError, BotoCoreError):
            return False
        return bool(head.get("ETag") == md5_etag(body))

    def enforces_signed_digest(self) -> bool:
        """Whether a body other than the signed one is refused, and leaves nothing."""
        altered = _Altered()
        with self._sending(altered, "PutObject"):
            refusal = self._put("signed", altered.signed)
        return self._is_refused(altered, refusal) and self._does_not_hold(
            altered.sent, "signed", may_be_absent=True
        )

    def enforces_create(self) -> bool:
        """Whether a second create is refused, and changes nothing."""
        body = secrets.token_bytes(32)
        refusal = self._put("create", body, IfNoneMatch="*")
        if refusal is None:  # it is there from now on: the next one is the second
            body = secrets.token_bytes(32)
            refusal = self._put("create", body, IfNoneMatch="*")
        if refusal is None:
            return False
        self._require_answer(refusal)
        return refusal.status == _PRECONDITION_FAILED and self._does_not_hold(
            body, "create", may_be_absent=False
        )

    # --- parts --------------------------------------------------------------------------

    def enforces_signed_parts(self) -> bool:
        """Whether a part other than the signed one is refused, where an honest one is not."""
        with self._upload("parts") as upload:
            honest, altered = None, _Altered()
            if upload is not None:
                honest, _ = self._put_part(upload, 1, secrets.token_bytes(32))
            if upload is None or honest is None:
                return False
            with self._sending(altered, "UploadPart"):
                _, refusal = self._put_part(upload, 2, altered.signed)
            is_refused = self._is_refused(altered, refusal)
            return is_refused and self._parts(upload) == [(1, honest)]

    def keeps_refused_parts(self) -> bool:
        """Whether a complete on a key in use is refused, and the upload stays as it was.

        The key is the one that `returns_digest` put.
        """
        with self._upload("digest") as upload:
            if upload is None:
                return False
            etag, _ = self._put_part(upload, 1, secrets.token_bytes(32))
            refusal = None if etag is None else self._complete(upload, etag)
            is_refused = refusal is not None and refusal.status == _PRECONDITION_FAILED
            return is_refused and self._parts(upload) == [(1, etag)]

    @contextmanager
    def _upload(self, name: str) -> Iterator[Mapping[str, Any] | None]:
        """One upload, aborted whatever happens; None: the store begins none."""
        client = self.questions.client
        upload: dict[str, Any] = {"Bucket": self.asked.bucket, "Key": f"{self.key_start}{name}"}
        try:
            begun = client.create_multipart_upload(**upload, **self.sent_along)
        except (ClientError, BotoCoreError) as exc:
            self._require_any_answer(self.questions.told(exc))
            yield None
            return
        if not (upload_id := begun.get("UploadId")):
            yield None
            return
        upload["UploadId"] = upload_id
        try:
            yield upload
        finally:
            with suppress(ClientError, BotoCoreError):
                client.abort_multipart_upload(**upload)

    def _put_part(
        self, upload: Mapping[str, Any], number: int, body: bytes
    ) -> tuple[str | None, Told | None]:
        """Its ETag, or the refusal."""
        try:
            answer = self.questions.client.upload_part(**upload, PartNumber=number, Body=body)
        except (ClientError, BotoCoreError) as exc:
            refusal = self.questions.told(exc)
            self._require_any_answer(refusal)
            return None, refusal
        return answer.get("ETag"), None

    def _complete(self, upload: Mapping[str, Any], etag: str) -> Told | None:
        """The refusal of the one part as a new object; None: it was taken."""
        try:
            self.questions.client.complete_multipart_upload(
                **upload,
                MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": etag}]},
                IfNoneMatch="*",
            )
        except (ClientError, BotoCoreError) as exc:
            refusal = self.questions.told(exc)
            self._require_any_answer(refusal)
            return refusal
        return None

    def _parts(self, upload: Mapping[str, Any]) -> list[tuple[int | None, str | None]]:
        """Number and ETag of what is held; empty where that is not told."""
        try:
            answer = self.questions.client.list_parts(**upload)
        except (ClientError, BotoCoreError):
            return []
        return [(it.get("PartNumber"), it.get("ETag")) for it in answer.get("Parts", ())]

    # --- what all need ------------------------------------------------------------------

    @contextmanager
    def _sending(self, altered: _Altered, operation: str) -> Iterator[None]:
        events = self.questions.client.meta.events
        events.register(f"before-send.s3.{operation}", altered.alter)
        try:
            yield
        finally:
            events.unregister(f"before-send.s3.{operation}", altered.alter)

    def _is_refused(self, altered: _Altered, refusal: Told | None) -> bool:
        if refusal is None or not altered.was_signed:
            return False
        self._require_answer(refusal)
        # 403 SignatureDoesNotMatch is a refusal, too: the digest is part of what is signed.
        return refusal.status in {400, 403} and refusal.code != ACCESS_DENIED

    def _put(self, name: str, body: bytes, **more: Any) -> Told | None:
        """The refusal; None: it was taken."""
        try:
            self.questions.client.put_object(
                Bucket=self.asked.bucket,
                Key=f"{self.key_start}{name}",
                Body=body,
                **self.sent_along,
                **more,
            )
        except (ClientError, BotoCoreError) as exc:
            return self.questions.told(exc)
        return None

    def _require_answer(self, refusal: Told) -> None:
        """Throttling, a race, silence and an old token teach nothing: ask another time."""
        if (
            refusal.code in EXPIRED_CODES
            or refusal.status in {None, 408, 409, 429, 503}
            or refusal.code == "RequestTimeout"
            or refusal.code in self.provider.throttle_codes
        ):
            raise error_for(self.asked, refusal)

    def _require_any_answer(self, refusal: Told) -> None:
        """The same; but an answer that cannot be read is one: such a store has no parts."""
        if refusal.code != UnreadableAnswer.__name__:
            self._require_answer(refusal)

    def _does_not_hold(self, refused: bytes, name: str, *, may_be_absent: bool) -> bool:
        """What was refused does not lie there. A doubt is no proof."""
        try:
            answer = self.questions.client.get_object(
                Bucket=self.asked.bucket, Key=f"{self.key_start}{name}"
            )
            return answer["Body"].read() != refused
        except (ClientError, BotoCoreError) as exc:
            return may_be_absent and self.questions.told(exc).code == NO_SUCH_KEY


@dataclass(slots=True)
class _Altered:
    """A body that is sent in the place of the one that was signed."""

    signed: bytes = field(default_factory=lambda: secrets.token_bytes(32))
    sent: bytes = field(default_factory=lambda: secrets.token_bytes(32))
    was_signed: bool = False

    def alter(self, request: AWSPreparedRequest, **_: Any) -> None:
        said = _text(request.headers.get("X-Amz-Content-SHA256"))
        self.was_signed = said == hashlib.sha256(self.signed).hexdigest()
        request.body = io.BytesIO(self.sent)


def _text(value: str | bytes | None) -> str | None:
    return value.decode() if isinstance(value, bytes) else value
