"""Fakes as fixtures; at teardown, a fault that was declared and did not fire is a failure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.fakes.clock import ManualClock
from tests.fakes.stores import FakeColdStore, FakeHotStore

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def hot() -> Iterator[FakeHotStore]:
    store = FakeHotStore()
    yield store
    store.faults.verify_all_fired()


@pytest.fixture
def cold() -> Iterator[FakeColdStore]:
    store = FakeColdStore()
    yield store
    store.faults.verify_all_fired()
