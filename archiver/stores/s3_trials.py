"""The trials of a probe, by boto3: it lets us send what no honest client sends."""

from __future__ import annotations

import base64
import hashlib
import io
import secrets
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

if TYPE_CHECKING:
    from collections.abc import Mapping

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
        signed, sent = secrets.token_bytes(32), secrets.token_bytes(32)
        was_signed = False

        def alter(request: AWSPreparedRequest, **_: Any) -> None:
            nonlocal was_signed
            said = _text(request.headers.get("X-Amz-Content-SHA256"))
            was_signed = said == hashlib.sha256(signed).hexdigest()
            request.body = io.BytesIO(sent)

        events = self.questions.client.meta.events
        events.register("before-send.s3.PutObject", alter)
        try:
            refusal = self._put("signed", signed)
        finally:
            events.unregister("before-send.s3.PutObject", alter)
        if refusal is None or not was_signed:
            return False
        self._require_answer(refusal)
        # 403 SignatureDoesNotMatch is a refusal, too: the digest is part of what is signed.
        is_refused = refusal.status in {400, 403} and refusal.code != ACCESS_DENIED
        return is_refused and self._does_not_hold(sent, "signed", may_be_absent=True)

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

    def _does_not_hold(self, refused: bytes, name: str, *, may_be_absent: bool) -> bool:
        """What was refused does not lie there. A doubt is no proof."""
        try:
            answer = self.questions.client.get_object(
                Bucket=self.asked.bucket, Key=f"{self.key_start}{name}"
            )
            return answer["Body"].read() != refused
        except (ClientError, BotoCoreError) as exc:
            return may_be_absent and self.questions.told(exc).code == NO_SUCH_KEY


def _text(value: str | bytes | None) -> str | None:
    return value.decode() if isinstance(value, bytes) else value
