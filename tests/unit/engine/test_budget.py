from __future__ import annotations

import threading

import pytest

from archiver.engine.budget import BytesInFlight
from archiver.errors import ObjectTooLarge


def test_an_object_over_its_limit_is_refused_before_it_is_read() -> None:
    budget = BytesInFlight(total_bytes=100, object_limit_bytes=60)

    with (
        pytest.raises(ObjectTooLarge, match="too large for this version"),
        budget.hold(61, "a/b"),
    ):
        pytest.fail("never held")


def test_h10_bytes_in_flight_never_pass_the_budget() -> None:
    budget = BytesInFlight(total_bytes=100, object_limit_bytes=60)
    lock, held, most = threading.Lock(), 0, 0

    def move(size_bytes: int) -> None:
        nonlocal held, most
        for _ in range(50):
            with budget.hold(size_bytes, "a/b"):
                with lock:
                    held += size_bytes
                    most = max(most, held)
                with lock:
                    held -= size_bytes

    threads = [threading.Thread(target=move, args=(size,)) for size in (60, 45, 30, 10, 0)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)

    assert not any(thread.is_alive() for thread in threads)
    assert 0 < most <= 100


def test_an_error_gives_its_bytes_back() -> None:
    budget = BytesInFlight(total_bytes=60, object_limit_bytes=60)
    with pytest.raises(RuntimeError), budget.hold(60, "a/b"):
        raise RuntimeError
    with budget.hold(60, "a/b"):
        pass
