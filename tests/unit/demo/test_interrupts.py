from __future__ import annotations

import signal
from contextlib import ExitStack

import pytest

from archiver.demo.interrupts import Interrupts


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_waits_until_it_may_interrupt(number: signal.Signals) -> None:
    interrupts = Interrupts()
    with interrupts.handled():
        signal.raise_signal(number)
        assert interrupts.came

        with pytest.raises(KeyboardInterrupt), interrupts.allowed():
            pytest.fail("it came before")


def test_the_way_out_is_not_interrupted() -> None:
    interrupts, closed = Interrupts(), list[str]()
    with interrupts.handled(), pytest.raises(KeyboardInterrupt):
        work(interrupts, closed)

    assert closed == ["one", "other"]


def work(interrupts: Interrupts, closed: list[str]) -> None:
    def close(name: str) -> None:
        signal.raise_signal(signal.SIGINT)
        closed.append(name)

    with ExitStack() as way_out:
        way_out.callback(close, "other")
        with interrupts.allowed(), ExitStack() as inner_way_out:
            inner_way_out.callback(close, "one")
            signal.raise_signal(signal.SIGTERM)


def test_the_handlers_of_before_are_given_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with Interrupts().handled():
        assert signal.getsignal(signal.SIGTERM) != before

    assert signal.getsignal(signal.SIGTERM) == before
