from __future__ import annotations

import io

import pytest

from archiver.demo import world
from archiver.demo.show import run
from archiver.demo.world import DemoIncomplete
from archiver.ops.clock import SystemClock


def test_without_the_demo_extra_it_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(world, "_PACKAGES", ("no_such_package",))
    told = io.StringIO()

    with pytest.raises(DemoIncomplete, match=r"pip install 'archiver\[demo\]'"):
        run(keep=False, clock=SystemClock(), stream=told)

    assert not told.getvalue()
