"""One account at one S3 endpoint. Success goes through obstore; a doubt is asked again.

obstore is several times cheaper an object than boto3, and hides the headers of an answer
and the body of a HEAD. So boto3, whose errors are typed, is asked a second question when
the first answer does not say what it means. It is not even imported before that. Neither
client repeats a request by itself.
"""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Literal, TypeVar

import obstore
from obstore.exceptions import InvalidPathError
from obstore.store import S3Store

from archiver.errors import StoreDenied
from archiver.stores.pace import Pace
from archiver.stores.s3_answers import Asked, Told, check_name, translate
from archiver.stores.s3_listing import find

if TYPE_CHECKING:
    from collections.abc import (
        AsyncIterator,
        Awaitable,
        Callable,
        Collection,
        Iterator,
        Mapping,
        Sequence,
    )
    from contextlib import AbstractContextManager
    from pathlib import Path

    from obstore import ObjectMeta
    from obstore.store import ClientConfig, S3Config, S3Credential

    from archiver.model import Secret
    from archiver.stores.s3_chain import AwsChain
    from archiver.stores.s3_questions import Questions

T = TypeVar("T")

_AT_ONCE = 16  # requests of one call that asks for many keys; they wait in one thread
_IDLE_SECONDS = 15  # a connection is dropped before the store drops it: AWS after about 20
_PAGE_KEYS = 1_000
_LISTED_BYTES = 250  # what a LIST says of an object beside its key, about
_NO_PROXY = "http://127.0.0.1:9"  # an address that is never asked: everything is excluded
_EVERYWHERE = "*,0.0.0.0/0,::/0"  # names, and the addresses of both kinds


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Settings:
    """Where the store is, as whom we ask it, and how fast."""

    endpoint: str | None  # None: AWS, in that region
    region: str
    access_key_id: str | None = None  # None: whom the AWS chain names
    secret_access_key: Secret | None = None
    session_token: Secret | None = None
    storage_class: str | None = None  # of what is put; None: the bucket's own
    sse: Literal["AES256", "aws:kms"] | None = None  # likewise
    sse_kms_key_id: str | None = None
    proxy_url: Secret | None = None  # None: directly, whatever the environment says
    proxy_for: Callable[[str], Secret | None] | None = None  # likewise, to a token service
    allow_http: bool = False
    timeout_seconds: float = 120.0  # of one request, its body included
    connect_timeout_seconds: float = 5.0
    max_connections: int = 32  # kept open while idle
    ca_bundle: Path | None = None
    pace: Pace = field(default_factory=Pace, repr=False, compare=False)

    @property
    def secrets(self) -> tuple[Secret, ...]:
        said = (self.secret_access_key, self.session_token, self.proxy_url)
        return tuple(secret for secret in said if secret is not None)

    @property
    def endpoint_url(self) -> str:
        if self.endpoint is not None:
            return self.endpoint.rstrip("/")
        domain = "amazonaws.com.cn" if self.region.startswith("cn-") else "amazonaws.com"
        return f"https://s3.{self.region}.{domain}"


class S3:
    """The buckets of one account, for one of our two stores. Safe to share between threads.

    Args:
        settings: Every option is taken from here; `AWS_*` variables change none of them.
        store: What errors call it.
        sends_checksum: Put `x-amz-checksum-sha256` beside the signed SHA-256, for a store
            that is known to keep it. Others refuse it.
    """

    def __init__(
        self,
        settings: S3Settings,
        store: Literal["hot", "cold"],
        *,
        sends_checksum: bool = False,
    ) -> None:
        self.settings = settings
        self.pace = settings.pace
        self._store = store
        self._sends_checksum = sends_checksum
        self._client_options = _client_options(settings)
        self._chain: AwsChain | None = None
        self._lock = threading.Lock()  # over the buckets and the questions
        self._buckets: dict[tuple[str, bool], S3Store] = {}
        self._questions: Questions | None = None
        self._asks_how_long = threading.Lock()  # held by the one who asks

    def bucket(self, name: str, *, deletes_in_bulk: bool = True) -> S3Store:
        """The client of one bucket, made once."""
        with self._lock:
            if (name, deletes_in_bulk) not in self._buckets:
                self._buckets[name, deletes_in_bulk] = self._open(name, deletes_in_bulk)
            return self._buckets[name, deletes_in_bulk]

    def asked(self, operation: str, bucket: str, key: str | None = None) -> Asked:
        """Name a question, for its errors.

        Raises:
            UnusableName: It would reach the store under another name.
        """
        writes = operation in {"create", "delete"}
        asked = Asked(self._store, operation, bucket, key, writes, self.secrets)
        check_name(asked)
        return asked

    def translate(self, asked: Asked) -> AbstractContextManager[None]:
        """Turn foreign errors into ours, after a second question where one is needed."""
        return translate(asked, self._ask_again)

    def questions(self) -> Questions:
        """The client that tells more, made when it is first needed."""
        # Importing it costs a tenth of a second and 30 MB that success does not need.
        from archiver.stores.s3_questions import Questions  # noqa: PLC0415

        with self._lock:
            self._find_chain()
            if self._questions is None:
                self._questions = Questions(self.settings, self._chain)
            return self._questions

    def signed_url(self, asked: Asked, lifetime_seconds: int) -> str:
        """A URL to GET an object with; made here, no store is asked.

        With keys of a role it ends with those keys, if that is sooner.
        """
        with self.translate(asked):
            store, lifetime = self.bucket(asked.bucket), timedelta(seconds=lifetime_seconds)
            return obstore.sign(store, "GET", asked.key or "", lifetime)

    def close(self) -> None:
        with self._lock:
            self._buckets.clear()
            if self._questions is not None:
                self._questions.close()
                self._questions = None

    @property
    def secrets(self) -> tuple[Secret, ...]:
        """What requests are signed with now."""
        of_chain = () if self._chain is None else self._chain.secrets
        return (*self.settings.secrets, *of_chain)

    def _find_chain(self) -> None:
        if self.settings.access_key_id is None and self._chain is None:
            # botocore, which is not needed where keys are set
            from archiver.stores.s3_chain import AwsChain  # noqa: PLC0415

            self._chain = AwsChain(self.settings)

    def _open(self, name: str, deletes_in_bulk: bool) -> S3Store:  # noqa: FBT001
        settings = self.settings
        self._find_chain()
        # All that a variable of the environment could set otherwise, said aloud. What has
        # no neutral value are the headers of server-side encryption and of a checksum:
        # the settings refuse those variables.
        headers: S3Config = {}
        if self._sends_checksum:
            headers["checksum_algorithm"] = "SHA256"
        if settings.sse is not None:
            headers["server_side_encryption"] = settings.sse
        if settings.sse_kms_key_id is not None:
            headers["sse_kms_key_id"] = settings.sse_kms_key_id
        return S3Store(
            name,
            prefix=None,
            endpoint=settings.endpoint_url,
            aws_endpoint_url_s3=settings.endpoint_url,
            region=settings.region,
            default_region=settings.region,
            # A callback, because only it keeps AWS_SESSION_TOKEN out.
            credential_provider=self._chain or self._credential,
            unsigned_payload=False,  # the signed SHA-256 is what evidence stands on
            skip_signature=False,
            virtual_hosted_style_request=False,
            conditional_put="etag",
            s3_express=False,
            request_payer=False,
            disable_tagging=False,
            disable_bulk_delete=not deletes_in_bulk,
            client_options=self._client_options,
            retry_config={"max_retries": 0},
            config=headers,
        )

    def _credential(self) -> S3Credential:
        settings = self.settings
        return {
            "access_key_id": settings.access_key_id or "",
            "secret_access_key": _text(settings.secret_access_key) or "",
            "token": _text(settings.session_token),
            "expires_at": None,
        }

    # --- many keys ----------------------------------------------------------------------

    def find(
        self, operation: str, bucket: str, keys: Collection[str], *, list_pays_from: int
    ) -> Mapping[str, ObjectMeta | None]:
        """What lies at each key; None is proven absence (`s3_listing.py`)."""
        for key in keys:
            self.asked(operation, bucket, key)
        return find(_Requests(self, operation, bucket), keys, list_pays_from)

    def each(
        self,
        operation: str,
        bucket: str,
        keys: Sequence[str],
        ask: Callable[[str], Awaitable[T]],
        *,
        ahead: bool = False,
    ) -> dict[str, T | None]:
        """Ask for each key, some at once; None is a 404. The first other error ends it."""
        if not keys:
            return {}
        answers: dict[str, T | None] = {}
        failed: list[tuple[str, Exception]] = []
        with self.translate(self.asked(operation, bucket)):
            wait = partial(self.pace.wait_async, ahead=ahead)
            asyncio.run(_take_turns(wait, keys, ask, answers, failed))
        if failed:
            key, error = failed[0]
            with self.translate(self.asked(operation, bucket, key)):
                raise error
        return answers

    # --- the second question ------------------------------------------------------------

    def prove_missing(self, asked: Asked) -> None:
        """Return when the object is missing from a bucket that is there, else raise."""
        self.questions().prove_missing(asked)

    def _ask_again(self, asked: Asked, told: Told) -> Told:
        if told.is_throttled:
            return self._ask_how_long(asked, told)
        if told.is_doubtful:
            return self.questions().what_is_wrong(asked, told)
        return told if self._chain is None else self._chain.refreshed(told)

    def _ask_how_long(self, asked: Asked, told: Told) -> Told:
        # One asks: a store that throttles is not asked twice by everybody.
        if not self._asks_how_long.acquire(blocking=False):
            return told
        try:
            return self.questions().how_long(asked, told)
        finally:
            self._asks_how_long.release()


@dataclass(frozen=True, slots=True)
class _Requests:
    """What finding keys needs of obstore."""

    s3: S3
    operation: str
    bucket: str

    def pages(self, directory: str, after: str | None) -> Iterator[Sequence[ObjectMeta]]:
        """LIST pages, until one cannot be had by this client: then HEADs tell.

        Raises:
            StoreUnavailable: Also where the listing does not get on: obstore would ask for
                page after page that holds nothing, for ever.
        """
        asked = self.s3.asked("list", self.bucket)
        store = self.s3.bucket(self.bucket)
        timeout_seconds = self.s3.settings.timeout_seconds
        pages = obstore.list(store, directory, offset=after, chunk_size=_PAGE_KEYS)
        try:
            while True:
                with self.s3.pace.reading("listing") as reading, self.s3.translate(asked):
                    try:
                        page = asyncio.run(_within(timeout_seconds, pages))
                    except TimeoutError as exc:
                        raise asked.unavailable(code="timeout") from exc
                    except InvalidPathError:  # a key of somebody else's, such as `a//b`
                        return
                    reading.size_bytes = sum(_LISTED_BYTES + len(item["path"]) for item in page)
                if not page:
                    return
                yield page
        except StoreDenied:  # keys that may read objects, and may not list the bucket
            return

    def heads(self, keys: Sequence[str]) -> dict[str, ObjectMeta | None]:
        store = self.s3.bucket(self.bucket)
        return self.s3.each(
            self.operation, self.bucket, keys, lambda key: obstore.head_async(store, key)
        )

    def prove_missing(self, key: str) -> None:
        self.s3.prove_missing(self.s3.asked(self.operation, self.bucket, key))


async def _within(seconds: float, pages: AsyncIterator[Sequence[T]]) -> Sequence[T]:
    """The next page; empty after the last."""
    async with asyncio.timeout(seconds):
        try:
            return await anext(pages)  # a default is only taken with Python's own awaitables
        except StopAsyncIteration:
            return ()


async def _take_turns(
    wait: Callable[[], Awaitable[None]],
    keys: Sequence[str],
    ask: Callable[[str], Awaitable[T]],
    answers: dict[str, T | None],
    failed: list[tuple[str, Exception]],
) -> None:
    waiting = iter(keys)

    async def take() -> None:
        for key in waiting:
            try:
                await wait()
                if failed:
                    return
                answers[key] = await ask(key)
            except FileNotFoundError:
                answers[key] = None
            except Exception as exc:  # noqa: BLE001  # raised again, in the caller's thread
                failed.append((key, exc))
            if failed:
                return

    await asyncio.gather(*(take() for _ in range(min(_AT_ONCE, len(keys)))))


def _text(secret: Secret | None) -> str | None:
    return None if secret is None else secret.reveal()


def _client_options(settings: S3Settings) -> ClientConfig:
    options: ClientConfig = {
        "allow_http": settings.allow_http,
        "allow_invalid_certificates": False,
        "timeout": timedelta(seconds=settings.timeout_seconds),
        "connect_timeout": timedelta(seconds=settings.connect_timeout_seconds),
        "pool_idle_timeout": timedelta(seconds=_IDLE_SECONDS),
        "pool_max_idle_per_host": str(settings.max_connections),
        # Without one, the client would take a proxy from the environment.
        "proxy_url": _text(settings.proxy_url) or _NO_PROXY,
        "proxy_excludes": "" if settings.proxy_url else _EVERYWHERE,
    }
    if settings.ca_bundle is not None:
        options["root_certificate"] = settings.ca_bundle.read_bytes()
    return options
