"""An answer that comes a byte now and then is never silent: boto3 would wait for ever."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from archiver.errors import StoreUnavailable
from archiver.model import Capabilities, ColdKey, ColdStat, Secret
from archiver.stores.cold_boto3 import Boto3ColdStore
from archiver.stores.providers import PROVIDERS
from archiver.stores.s3 import S3Settings
from archiver.stores.s3_answers import Asked
from archiver.stores.s3_questions import Questions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TIMEOUT_SECONDS = 0.5  # of a request; the answers below would take ten times as long
DRIP_SECONDS = 0.02
BODY = b"b" * 250
HEAD = f'HTTP/1.1 200 OK\r\nETag: "e"\r\nContent-Length: {len(BODY)}\r\n'.encode()
DATED = HEAD + b"Last-Modified: Sat, 21 Nov 2026 04:16:16 GMT\r\nConnection: close\r\n\r\n"
KEY = ColdKey("app/page.html")
NOTHING = Capabilities(
    enforces_signed_digest=False, enforces_create=False, returns_digest=False
)


@contextmanager
def trickling(at_once: bytes, slowly: bytes) -> Iterator[S3Settings]:
    """A server that begins each answer well, and goes on a byte at a time."""
    is_over = threading.Event()

    def answer(connection: socket.socket) -> None:
        with connection:
            connection.recv(1 << 16)
            connection.sendall(at_once)
            for at in range(len(slowly)):
                if is_over.wait(DRIP_SECONDS):
                    return
                try:
                    connection.sendall(slowly[at : at + 1])
                except OSError:  # the client gave up: what it is tested for
                    return

    def serve(listening: socket.socket) -> None:
        while not is_over.is_set():
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            threading.Thread(target=answer, args=(connection,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=serve, args=(listening,), daemon=True).start()
        try:
            yield S3Settings(
                endpoint=f"http://127.0.0.1:{listening.getsockname()[1]}",
                region="us-east-1",
                access_key_id="key",
                secret_access_key=Secret("secret"),
                allow_http=True,
                timeout_seconds=TIMEOUT_SECONDS,
            )
        finally:
            is_over.set()
            listening.shutdown(socket.SHUT_RDWR)


def test_a_question_whose_answer_trickles_ends() -> None:
    with trickling(b"", DATED) as settings:
        questions = Questions(settings)
        with pytest.raises(StoreUnavailable, match="timeout"):
            questions.prove_bucket(Asked("cold", "probe", "bucket"))
        questions.close()


@pytest.mark.parametrize(
    "ask",
    [
        lambda cold: cold.read(KEY),
        lambda cold: cold.readback(KEY),
        lambda cold: cold.read_range(ColdStat(KEY, len(BODY), '"e"'), 0, len(BODY)),
    ],
    ids=["read", "readback", "range"],
)
def test_an_object_that_trickles_is_given_up(ask: Callable[[Boto3ColdStore], object]) -> None:
    ranged = f"Content-Range: bytes 0-{len(BODY) - 1}/{len(BODY)}\r\nConnection".encode()
    at_once = DATED.replace(b"Connection", ranged) + BODY[:10]
    with trickling(at_once, BODY[10:]) as settings:
        cold = Boto3ColdStore(settings, PROVIDERS["other"], "bucket", "", NOTHING)
        with pytest.raises(StoreUnavailable, match="timeout"):
            ask(cold)
        cold.close()
