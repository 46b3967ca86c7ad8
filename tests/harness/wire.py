"""A wire between a client and one server, on loopback: it counts turns, and fails as told.

    with Wire(server_port) as wire:
        wire.at(lambda turn: turn.number == 7, lambda: wire.fail(How.STALL))

A turn is what a client sends until it is answered: a request of HTTP, a statement of
Postgres. So a moment of a protocol is a number, not a time.
"""

from __future__ import annotations

import ctypes
import enum
import socket
import struct
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable

_BUFFER_BYTES = 1 << 16
_DRIP_SECONDS = 0.05  # between two bytes of a slow answer
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER: on, for no time
_ATTACH_FILTER = 26  # SO_ATTACH_FILTER of Linux
_DROP_ALL = struct.pack("HBBI", 6, 0, 0, 0)  # BPF: return 0, keep nothing of any packet


class How(enum.Enum):
    """The ways of a network to fail."""

    CUT = "cut"  # open connections are reset; new ones are served
    STALL = "stall"  # connections are taken, and nothing passes either way
    DEAF = "deaf"  # what is sent arrives, and nothing comes back
    SLOW = "slow"  # answers come a byte at a time
    HALF_OPEN = "half-open"  # the peer of open ones is gone without a word; new ones are served
    REFUSED = "refused"  # open ones are reset, and nobody listens


@dataclass(frozen=True, slots=True)
class Turn:
    number: int  # on this wire, from 1
    data: bytes = field(repr=False)  # its first piece


@dataclass(slots=True)
class _Rule:
    is_meant: Callable[[Turn], bool]
    do: Callable[[], object]
    is_answered: bool  # it waits until the server has answered that turn
    is_drop: bool
    fired: threading.Event = field(default_factory=threading.Event)


@dataclass(eq=False, slots=True)
class _Link:
    """One connection of a client, and the one behind it."""

    client: socket.socket
    server: socket.socket
    turn: Turn | None = None
    is_answered: bool = True  # so that the first bytes are a turn
    is_dead: bool = False  # its peer is gone without a word

    def reset(self) -> None:
        for end in (self.client, self.server):
            with suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)  # wakes who reads from it
            end.close()


class Wire:
    """Serves until it is left. `do` of a rule runs while that turn is held."""

    def __init__(self, server_port: int) -> None:
        self._server_port = server_port
        self._changed = threading.Condition()  # guards all below
        self._how: How | None = None
        self._links: set[_Link] = set()
        self._rules: list[_Rule] = []
        self._turns_count = 0
        self._connections_count = 0
        self._is_closing = False
        self._threads: list[threading.Thread] = []
        self._listener = _listen(0)
        self.port: int = self._listener.getsockname()[1]

    @property
    def turns_count(self) -> int:
        return self._turns_count

    @property
    def connections_count(self) -> int:
        """How often somebody connected, or tried while nothing passed."""
        return self._connections_count

    def __enter__(self) -> Self:
        self._serve()
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._is_closing = True
        self._close_listener()
        self._reset_all()
        for thread in self._threads:
            thread.join()

    def at(
        self,
        is_meant: Callable[[Turn], bool],
        do: Callable[[], object],
        *,
        is_answered: bool = False,
        is_drop: bool = False,
    ) -> threading.Event:
        """Do something at the first such turn, before it passes on; set once it is done.

        `is_answered`: when the server has answered it, before the client hears of that.
        `is_drop`: the bytes that were held do not pass on.
        """
        rule = _Rule(is_meant, do, is_answered, is_drop)
        with self._changed:
            self._rules.append(rule)
        return rule.fired

    def forget(self) -> None:
        """No rule holds any more, and turns are counted anew."""
        with self._changed:
            self._rules.clear()
            self._turns_count = 0

    def fail(self, how: How) -> None:
        """From now on, until it is mended."""
        if how is How.CUT:
            self._reset_all()
            return
        with self._changed:
            self._how = how
            for link in self._links if how is How.HALF_OPEN else ():
                link.is_dead = True
                _vanish(link.client)
            self._changed.notify_all()
        if how is How.REFUSED:
            self._close_listener()
            self._reset_all()

    def mend(self) -> None:
        """Serve again; what was held on open connections is lost with them."""
        with self._changed:
            how, self._how = self._how, None
            if how is None:
                return
            self._changed.notify_all()
        if how is How.REFUSED:
            self._listener = _listen(self.port)
            self._serve()
        self._reset_all()

    # --- connections --------------------------------------------------------------------------

    def _serve(self) -> None:
        self._start(self._accept, self._listener)

    def _start(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, name="wire", daemon=True)
        with self._changed:
            self._threads = [it for it in self._threads if it.is_alive()]
            self._threads.append(thread)
            thread.start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            self._connections_count += 1
            try:
                server = socket.create_connection(("127.0.0.1", self._server_port))
            except OSError:  # the server behind is down: so is this one
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
                client.close()
                continue
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            link = _Link(client, server)
            with self._changed:
                if self._is_closing:
                    link.reset()
                    return
                self._links.add(link)
            self._start(self._carry_questions, link)
            self._start(self._carry_answers, link)

    def _close_listener(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _reset_all(self) -> None:
        with self._changed:
            links, self._links = self._links, set()
            self._changed.notify_all()
        for link in links:
            link.reset()

    def _end(self, link: _Link) -> None:
        with self._changed:
            is_open = link in self._links
            self._links.discard(link)
            self._changed.notify_all()
        if is_open:
            for end in (link.client, link.server):
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
                end.close()

    # --- what passes --------------------------------------------------------------------------

    def _carry_questions(self, link: _Link) -> None:
        with suppress(OSError):
            while data := link.client.recv(_BUFFER_BYTES):
                if self._is_held_by_rule(link, data):
                    continue
                if not self._may_pass(link, How.STALL):
                    return
                link.server.sendall(data)
        self._end(link)

    def _carry_answers(self, link: _Link) -> None:
        with suppress(OSError):
            while data := link.server.recv(_BUFFER_BYTES):
                if self._is_held_by_answer_rule(link):
                    continue
                if not self._may_pass(link, How.STALL, How.DEAF):
                    return
                self._deliver(link, data)
        self._end(link)

    def _is_held_by_rule(self, link: _Link, data: bytes) -> bool:
        with self._changed:
            if link.is_answered:
                self._turns_count += 1
                link.turn, link.is_answered = Turn(self._turns_count, data), False
                rule = self._rule_for(link.turn, is_answered=False)
            else:
                rule = None
        return rule is not None and _fire(rule)

    def _is_held_by_answer_rule(self, link: _Link) -> bool:
        with self._changed:
            is_first, link.is_answered = not link.is_answered, True
            turn = link.turn if is_first else None
            rule = None if turn is None else self._rule_for(turn, is_answered=True)
        return rule is not None and _fire(rule)

    def _rule_for(self, turn: Turn, *, is_answered: bool) -> _Rule | None:
        for rule in self._rules:
            if rule.is_answered == is_answered and rule.is_meant(turn):
                self._rules.remove(rule)
                return rule
        return None

    def _may_pass(self, link: _Link, *held: How) -> bool:
        """Hold what must not pass now; it never does, for mending resets open connections."""
        with self._changed:
            self._changed.wait_for(
                lambda: link not in self._links or not (self._how in held or link.is_dead)
            )
            return link in self._links

    def _deliver(self, link: _Link, data: bytes) -> None:
        left = memoryview(data)
        while left and self._how is How.SLOW:
            link.client.sendall(left[:1])
            left = left[1:]
            with self._changed:
                self._changed.wait_for(lambda: self._how is not How.SLOW, _DRIP_SECONDS)
        link.client.sendall(left)


def _fire(rule: _Rule) -> bool:
    rule.do()
    rule.fired.set()
    return rule.is_drop


def _listen(port: int) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen(128)
    return listener


def _vanish(end: socket.socket) -> None:
    """Let the kernel drop whatever comes in, unacknowledged, as for a machine that is gone."""
    instruction = ctypes.create_string_buffer(_DROP_ALL, len(_DROP_ALL))
    program = struct.pack("HL", 1, ctypes.addressof(instruction))
    end.setsockopt(socket.SOL_SOCKET, _ATTACH_FILTER, program)
