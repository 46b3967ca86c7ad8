"""What an answer of an S3 store means: one table for both clients. Asks nothing itself.

It goes by the store's own `<Code>`, never by the status alone: throttling comes as 400, 429
and 503, and a 404 without a code may be a missing object, a missing bucket or a proxy. Such
a doubt is for a second question (`s3.py`); what stays unknown is `StoreUnavailable`.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from obstore import exceptions as obstore_errors

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
    UploadMissing,
)
from archiver.formats.etags import in_words
from archiver.stores.covering import covered
from archiver.stores.providers import THROTTLE_CODES
from archiver.stores.retry_after import retry_after_seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from archiver.model import Secret

    AskAgain = Callable[["Asked", "Told"], "Told"]
    SizeAndEtag = tuple[int, str | None]

_MESSAGE_LIMIT = 300
_CODE_LIMIT = 100
_KEY_LIMIT_BYTES = 1024  # of every S3 store

NO_SUCH_KEY = "NoSuchKey"
NO_SUCH_BUCKET = "NoSuchBucket"
NO_SUCH_UPLOAD = "NoSuchUpload"
ACCESS_DENIED = "AccessDenied"
_BAD_NAME_CODES = {"InvalidBucketName", "InvalidObjectName", "InvalidURI", "KeyTooLongError"}
_BAD_REQUEST_CODES = {  # of the class and the encryption that every put asks for
    "InvalidEncryptionAlgorithmError",
    "InvalidStorageClass",
    "KMS.DisabledException",
    "KMS.KMSInvalidStateException",
    "KMS.NotFoundException",
}
EXPIRED_CODES = {"ExpiredToken", "TokenRefreshRequired"}
BAD_CREDENTIALS_CODES = {
    *EXPIRED_CODES,
    "AccountProblem",
    "AllAccessDisabled",
    "AuthorizationHeaderMalformed",  # most often another region's
    "IllegalLocationConstraintException",
    "InvalidAccessKeyId",
    "InvalidSecurity",
    "InvalidToken",
    "NoCredentialsError",  # the AWS chain has none
    "NotSignedUp",
    "PermanentRedirect",  # another region's bucket
    "RequestTimeTooSkewed",  # this machine's clock, for every request alike
    "SignatureDoesNotMatch",
    "UnauthorizedAccess",
    "XAdminUserNotFound",  # an unknown key id, as versitygw says it
}


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked for. Without a key the question was about the bucket."""

    store: Literal["hot", "cold"]
    operation: str
    bucket: str
    key: str | None = None
    writes: bool = False
    secrets: tuple[Secret, ...] = ()  # that the answer may echo

    @property
    def where(self) -> str:
        return self.bucket if self.key is None else f"{self.bucket}/{self.key}"

    def unavailable(self, code: str, message: str = "") -> StoreUnavailable:
        return StoreUnavailable(
            store=self.store,
            operation=self.operation,
            code=code,
            where=self.where,
            message=message,
        )

    def require_same(self, expected: SizeAndEtag, seen: SizeAndEtag) -> None:
        """Return when an answer is of the object that is meant: some know no condition.

        Raises:
            ObjectChanged: It is another one.
            StoreUnavailable: It has no ETag, so nobody could tell.
        """
        if not seen[1]:
            raise self.unavailable(code="no etag")
        if seen != expected:
            raise self._changed(expected, in_words(*seen))

    @contextmanager
    def on_condition(self, expected: SizeAndEtag) -> Iterator[None]:
        """For a request that is refused where another object lies there.

        Raises:
            ObjectChanged
        """
        try:
            yield
        except Exception as exc:
            told = told_by(exc, self)
            if told is None or not (told.is_condition or told.is_out_of_range):
                raise
            raise self._changed(expected, "another one") from exc

    def _changed(self, expected: SizeAndEtag, told: str) -> ObjectChanged:
        return ObjectChanged(
            where=self.where,
            expected=in_words(*expected),
            seen=covered(told, self.secrets)[:_MESSAGE_LIMIT],
        )


@dataclass(frozen=True, slots=True)
class Told:
    """What the store said. No status: it said nothing, and the code is a word of ours."""

    status: int | None
    code: str = ""  # empty: the answer had none
    message: str = ""
    retry_after_seconds: float | None = None
    is_partial: bool = False  # of a bulk call: some keys were refused, others were not
    is_refreshed: bool = False  # the credentials had expired; the next request has others

    @property
    def is_throttled(self) -> bool:
        return self.status in {429, 503} or self.code in THROTTLE_CODES

    @property
    def is_doubtful(self) -> bool:
        """The store answered, and did not say what it means."""
        return self.status is not None and not self.code

    @property
    def is_condition(self) -> bool:
        """What was asked on a condition was refused for it; also where a 200 came first."""
        return self.status == 412 or self.code == "PreconditionFailed"  # noqa: PLR2004

    @property
    def is_out_of_range(self) -> bool:
        return self.status == 416 or self.code == "InvalidRange"  # noqa: PLR2004

    @property
    def is_about_all(self) -> bool:
        """It is not the object: the bucket is missing, or these credentials are refused."""
        return self.code == NO_SUCH_BUCKET or self.code in BAD_CREDENTIALS_CODES

    @property
    def may_be_about_some(self) -> bool:
        """A bulk call was refused, and singly some or all of its keys may not be."""
        refuses_the_call = self.status in {400, 403, 405, 501}  # no bulk calls here
        return self.is_partial or (
            refuses_the_call and not self.is_about_all and not self.is_throttled
        )

    def fit_to_tell(self, secrets: Iterable[Secret]) -> Told:
        """The same in few words, none of which is a secret."""
        return replace(
            self,
            code=covered(self.code, secrets)[:_CODE_LIMIT],
            message=covered(self.message, secrets)[:_MESSAGE_LIMIT],
        )

    @property
    def word(self) -> str:
        return self.code or f"http {self.status}"


@contextmanager
def translate(asked: Asked, ask_again: AskAgain | None = None) -> Iterator[None]:
    """Turn what obstore and botocore raise into ours; what is neither passes."""
    try:
        yield
    # BaseException: a panic of the Rust side is no Exception.
    except BaseException as exc:
        told = told_by(exc, asked)
        if told is None:
            raise
        if ask_again is not None:
            told = ask_again(asked, told)
        raise error_for(asked, told) from exc


def error_for(asked: Asked, told: Told) -> ArchiverError:
    """The error that an answer stands for; unknown is unavailable, and says its code."""
    told = told.fit_to_tell(asked.secrets)
    code = told.code
    if code == NO_SUCH_BUCKET:
        return BucketMissing(store=asked.store, bucket=asked.bucket)
    is_refused = code in BAD_CREDENTIALS_CODES | _BAD_REQUEST_CODES or told.status == 401  # noqa: PLR2004
    if is_refused and not told.is_refreshed:
        return _denied(asked, told)
    if code == ACCESS_DENIED or (told.status == 403 and not code):  # noqa: PLR2004
        if asked.key is None:
            return _denied(asked, told)
        return ObjectDenied(
            store=asked.store, operation=asked.operation, where=asked.where, code=told.word
        )
    if asked.key is not None:
        if code == NO_SUCH_KEY and not asked.writes:
            return ObjectMissing(store=asked.store, where=asked.where, code=code)
        if code == "InvalidObjectState":  # only who may read it is told so
            return ObjectFrozen(store=asked.store, operation=asked.operation, where=asked.where)
        if code in _BAD_NAME_CODES:
            return UnusableName(store=asked.store, where=asked.where, reason=told.word)
        if code == "MetadataTooLarge":
            return MetadataTooLarge(where=asked.where, problem=told.message or code)
        if code == NO_SUCH_UPLOAD:
            return UploadMissing(where=asked.where)
        if told.is_condition and asked.writes:  # a race is 409: try again
            return KeyTaken(where=asked.where)
    unavailable = StoreThrottled if told.is_throttled else StoreUnavailable
    return unavailable(
        store=asked.store,
        operation=asked.operation,
        code=told.word,
        where=asked.where,
        message=told.message,
        retry_after_seconds=told.retry_after_seconds,
    )


def check_name(asked: Asked) -> None:
    """Refuse a bucket or key that one of the clients would send under another name.

    Raises:
        UnusableName: The key has empty, `.` or `..` segments, begins or ends with a slash,
            holds control characters, or is too long; or the bucket's name is no name.
        BucketMissing: The bucket's name is no name, and no object was asked for.
    """
    if _BUCKET_NAME.fullmatch(asked.bucket) is None or ".." in asked.bucket:
        if asked.key is None:
            raise BucketMissing(store=asked.store, bucket=asked.bucket)
        raise UnusableName(store=asked.store, where=asked.where, reason="no bucket's name")
    if asked.key is not None and (reason := _why_unusable(asked.key)) is not None:
        raise UnusableName(store=asked.store, where=repr(asked.where), reason=reason)


_BUCKET_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}")  # in a URL it stands as it is
_CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


def _why_unusable(key: str) -> str | None:
    if _CONTROL.search(key):
        return "it holds control characters"
    if {"", ".", ".."}.intersection(key.split("/")):
        return "it has an empty segment, or one that is . or .."
    if len(key.encode()) > _KEY_LIMIT_BYTES:
        return f"it is longer than {_KEY_LIMIT_BYTES} bytes"
    return None


def _denied(asked: Asked, told: Told) -> StoreDenied:
    return StoreDenied(
        store=asked.store,
        operation=asked.operation,
        where=asked.where,
        code=told.word,
        message=told.message,
    )


# --- reading what the clients say -------------------------------------------------------


def told_by(exc: BaseException, asked: Asked) -> Told | None:
    """What the store said, by what a client raised; None: no client did."""
    if isinstance(exc, (obstore_errors.BaseError, FileNotFoundError, NotImplementedError)):
        return _told_by_obstore(str(exc), asked)
    if type(exc).__name__ == "PanicException":  # its module cannot be imported
        return Told(None, "panic", str(exc))
    kinds = type(exc).__mro__  # ours of botocore's, too (`s3_bounds.py`)
    if any(kind.__module__.partition(".")[0] in {"botocore", "urllib3"} for kind in kinds):
        return told_by_botocore(exc)
    return None


_STATUS = re.compile(
    r"Error performing [A-Z]+ \S+ in \S+ - Server returned "
    r"(?:non-2xx status code: (\d{3})|error response)(.*)",
    re.DOTALL,
)
# None of these may look at a character twice: a store chooses what they search.
_CODE = re.compile(r"<Code>([^<]*)</Code>")
_MESSAGE = re.compile(r"<Message>([^<]*)</Message>")
_PARTIAL = "DeleteObjects request failed for key "
_CHAIN = re.compile(r"External AWS credential provider: (\w+): (.*)", re.DOTALL)
_KINDS = (  # of the wire, as obstore words them in its debug text
    ("kind: Timeout", "timeout"),
    ("TimedOut", "timeout"),
    ("kind: Interrupted", "cut"),
    ("HTTP error", "connection"),
)


def _told_by_obstore(text: str, asked: Asked) -> Told:
    """Status and code are only in its text; no header of the answer is.

    A key may hold anything, also the words that are looked for: it is taken out first.
    """
    summary, _, debug = text.partition("\n\nDebug source:")
    if asked.key is not None:
        for lead, end in (("location ", " "), ("path ", ": ")):
            summary = summary.replace(f"{lead}{asked.key}{end}", "", 1)
    if (answer := _STATUS.search(summary)) is not None:
        status, body = int(answer[1] or 200), answer[2]
        code, message = _CODE.search(body), _MESSAGE.search(body)
        return Told(
            status,
            code[1].strip() if code else "",
            message[1].strip() if message else "",
        )
    if (partial := _told_of_one_key(summary)) is not None:
        return partial
    if (chain := _CHAIN.search(summary)) is not None:
        return Told(None, chain[1], chain[2])
    for kind, code_of_ours in _KINDS:
        if kind in debug or kind in summary:
            return Told(None, code_of_ours, summary)
    return Told(None, "unknown", summary)


def _told_of_one_key(summary: str) -> Told | None:
    """The refusal of one key of a bulk delete: `… for key <key>: <message> (code: <code>)`."""
    _, is_meant, rest = summary.partition(_PARTIAL)
    before, has_code, after = rest.rpartition(" (code: ")
    code, is_closed, _ = after.rpartition(")")
    if not (is_meant and has_code and is_closed):
        return None
    return Told(200, code, before.rpartition(": ")[2], is_partial=True)


_TIMEOUTS = {"ConnectTimeoutError", "ReadTimeoutError"}
_CUTS = {"IncompleteReadError", "ResponseStreamingError", "ProtocolError", "IncompleteRead"}
_CONNECTIONS = {
    "ConnectionClosedError",
    "ConnectionError",
    "EndpointConnectionError",
    "HTTPClientError",
    "ProxyConnectionError",
    "SSLError",
}


def told_by_botocore(exc: BaseException) -> Told:
    """An answer is a `ClientError`; everything of the wire is not."""
    name = type(exc).__name__
    if (answer := getattr(exc, "response", None)) is not None:
        return told_by_answer(answer)
    if name in _TIMEOUTS:
        return Told(None, "timeout", str(exc))
    if name in _CUTS:
        return Told(None, "cut", str(exc))
    if name in _CONNECTIONS:
        return Told(None, "connection", str(exc))
    return Told(None, name, str(exc))


def told_by_answer(answer: Mapping[str, Any]) -> Told:
    """What botocore parsed of an answer, and of its headers."""
    error = answer.get("Error", {})
    facts = answer.get("ResponseMetadata", {})
    headers = facts.get("HTTPHeaders", {})
    code = str(error.get("Code", ""))
    return Told(
        facts.get("HTTPStatusCode"),
        # Without a body botocore gives the status for a code.
        "" if code.isdigit() else code,
        str(error.get("Message", "")),
        retry_after_seconds(headers.get("retry-after"), headers.get("date")),
    )
