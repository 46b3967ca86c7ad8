"""The body of an object: all that was declared, or an error, and never much more."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from obstore import GetResult

    from archiver.model import Buffer
    from archiver.stores.s3_answers import Asked

READ_BYTES = 1 << 20  # of one buffer


def buffers_of(asked: Asked, result: GetResult) -> Iterator[bytes]:
    """What obstore reads, as it comes.

    No more than a buffer beyond the declared length: a body in chunks may have no end.

    Raises:
        StoreUnavailable: It is not as long as declared.
    """
    yield from _buffers(asked, result, result.meta["size"])


def range_of(asked: Asked, result: GetResult, start: int, stop: int) -> Buffer:
    """What obstore reads of a range.

    Raises:
        StoreUnavailable: It is another one, or was cut.
    """
    if result.range != (start, stop):
        raise asked.unavailable(code="another range")
    body, at = bytearray(stop - start), 0  # once: parts are what memory is counted by
    for buffer in _buffers(asked, result, stop - start):
        body[at : at + len(buffer)] = buffer
        at += len(buffer)
    return body


def _buffers(asked: Asked, result: GetResult, declared_bytes: int) -> Iterator[bytes]:
    size_bytes = 0
    for buffer in result.stream(min_chunk_size=READ_BYTES):
        size_bytes += len(buffer)
        yield buffer
        if size_bytes > declared_bytes:
            break
    require_whole(asked, size_bytes, declared_bytes)


def require_whole(asked: Asked, size_bytes: int, declared_bytes: int) -> None:
    """Return when as many bytes came as the answer declared.

    Raises:
        StoreUnavailable: It was cut.
    """
    if size_bytes != declared_bytes:
        raise asked.unavailable(code="cut", message=f"{size_bytes} of {declared_bytes} bytes")
