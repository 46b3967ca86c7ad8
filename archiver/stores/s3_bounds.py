"""What botocore leaves to us: answers without an end, that cannot be read, that send us on.

Objects are not bounded here: who reads one knows how long it was said to be.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import urllib3
from botocore.exceptions import BotoCoreError, ReadTimeoutError, ResponseStreamingError
from botocore.parsers import ResponseParser, ResponseParserError, ResponseParserFactory
from botocore.response import StreamingBody

from archiver.stores.deadlines import ends_in, one_request

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from botocore.awsrequest import AWSPreparedRequest, AWSResponse
    from botocore.model import Shape
    from mypy_boto3_s3 import S3Client

ANSWER_LIMIT_BYTES = 16 << 20  # a LIST of 1,000 keys of 1,024 bytes, each escaped, is a fourth
_ERROR_LIMIT_BYTES = 1 << 20
_FIRST_ERROR = 300  # HTTP status


class UnreadableAnswer(BotoCoreError):
    """An answer that no store gives that means well."""

    fmt = "The answer cannot be read: {problem}"


class CarefulParsers(ResponseParserFactory):
    """botocore's parsers. What they raise over an answer is one kind of error."""

    def create_parser(self, protocol_name: str) -> ResponseParser:
        return _CarefulParser(super().create_parser(protocol_name))


class _CarefulParser(ResponseParser):
    def __init__(self, parser: ResponseParser) -> None:
        super().__init__()
        self._parser = parser

    def parse(self, response: Mapping[str, Any], shape: Shape) -> Any:
        try:
            return self._parser.parse(response, shape)
        except (
            ArithmeticError,
            AttributeError,
            LookupError,
            RecursionError,
            ResponseParserError,
            TypeError,
            ValueError,
        ) as exc:  # a size of `x`, a time of `never`, a page of a proxy
            if isinstance(body := response.get("body"), StreamingBody):
                body.close()  # nobody will read it
            raise UnreadableAnswer(problem=f"{type(exc).__name__}: {exc}") from exc


def bound_answers(client: S3Client, request_seconds: float | None) -> None:
    """Let no answer of this client be read beyond the limit, but for objects.

    Each request, with all of its answer but an object's bytes, takes no longer than that in
    all: the client's own timeout is of silence alone.

    Raises:
        UnreadableAnswer: By the client's calls: the answer is longer.
    """
    session = client._endpoint.http_session  # type: ignore[attr-defined]  # noqa: SLF001  # no event lies between the headers and the body

    def send(request: AWSPreparedRequest, **_: object) -> AWSResponse:
        is_object = request.stream_output
        request.stream_output = True  # else it is read before it can be bounded
        with one_request(ends_in(request_seconds)):
            answer: AWSResponse = session.send(request)
            is_error = answer.status_code >= _FIRST_ERROR
            limit_bytes = _ERROR_LIMIT_BYTES if is_error else ANSWER_LIMIT_BYTES
            answer.raw.stream = partial(_pieces, answer.raw, limit_bytes)
            if is_error or not is_object:
                _read(answer)
        return answer

    # The last one: others change what is sent.
    client.meta.events.register_last("before-send.s3", send)  # type: ignore[arg-type]  # an answer is taken for the request's


def follow_no_redirect(client: S3Client) -> None:
    """Let a redirect be an answer as any other.

    botocore asks for the bucket's region then, which a store may answer by a redirect, and so
    on until the stack is full. Our endpoint stays what it was set to in any case.
    """

    def mark(context: dict[str, Any], **_: object) -> None:
        context.setdefault("s3_redirect", {})["redirected"] = True  # "was tried already"

    client.meta.events.register("before-call.s3", mark)


def _read(answer: AWSResponse) -> None:
    """Read it now: botocore keeps it. Errors are told in botocore's words."""
    try:
        _ = answer.content
    except urllib3.exceptions.ReadTimeoutError as exc:
        raise ReadTimeoutError(endpoint_url=answer.url, error=exc) from exc
    except urllib3.exceptions.HTTPError as exc:
        raise ResponseStreamingError(error=exc) from exc


def _pieces(raw: urllib3.HTTPResponse, limit_bytes: int) -> Iterator[bytes]:
    size_bytes = 0
    for piece in type(raw).stream(raw):
        size_bytes += len(piece)
        if size_bytes > limit_bytes:
            raw.close()
            raise UnreadableAnswer(problem=f"more than {limit_bytes} bytes")
        yield piece
