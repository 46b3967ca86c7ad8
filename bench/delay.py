"""A wire that is longer than loopback: each byte to the server arrives so much later.

    python -m bench.delay HOST:PORT MILLISECONDS

Prints its own port, and passes bytes on until its stdin ends. It reads no HTTP, so it costs a
fraction of what the server behind it does.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, cast

if TYPE_CHECKING:
    from collections.abc import Iterator


class _Side(asyncio.Protocol):
    """One end of a connection: what it receives is written to the other, later."""

    def __init__(self, delay_seconds: float) -> None:
        self._delay_seconds = delay_seconds
        self._waiting: list[bytes] = []  # until there is another end
        self._other: asyncio.Transport | None = None

    def meet(self, other: asyncio.Transport) -> None:
        self._other = other
        for data in self._waiting:
            other.write(data)

    def data_received(self, data: bytes) -> None:
        if self._delay_seconds:
            asyncio.get_running_loop().call_later(self._delay_seconds, self._pass_on, data)
        else:
            self._pass_on(data)

    def _pass_on(self, data: bytes) -> None:
        if self._other is None:
            self._waiting.append(data)
        elif not self._other.is_closing():
            self._other.write(data)

    def connection_lost(self, _: Exception | None) -> None:
        if self._other is not None:
            self._other.close()


class _Front(_Side):
    """The client's end; connects to the server behind."""

    def __init__(self, host: str, port: int, delay_seconds: float) -> None:
        super().__init__(delay_seconds)
        self._behind = (host, port)
        self._connecting: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        connect = self._connect(cast("asyncio.Transport", transport))
        self._connecting = asyncio.get_running_loop().create_task(connect)

    async def _connect(self, transport: asyncio.Transport) -> None:
        loop = asyncio.get_running_loop()
        behind, back = await loop.create_connection(lambda: _Side(0.0), *self._behind)
        back.meet(transport)
        self.meet(behind)


async def _serve(host: str, port: int, delay_seconds: float) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: _Front(host, port, delay_seconds), "127.0.0.1", 0, backlog=1024
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


@contextmanager
def delayed(endpoint: str, milliseconds: int) -> Iterator[str]:
    """An endpoint that leads to that one, the longer way."""
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.delay", endpoint.partition("//")[2], str(milliseconds)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield f"http://127.0.0.1:{int(cast('IO[str]', process.stdout).readline())}"
    finally:
        process.communicate()  # its stdin ends, and it does


if __name__ == "__main__":
    _host, _, _port = sys.argv[1].partition(":")
    asyncio.run(_serve(_host, int(_port), int(sys.argv[2]) / 1000))
