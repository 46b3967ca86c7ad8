"""The fixtures every test may ask for; each module of the harness says what it gives."""

from __future__ import annotations

import signal

import hypothesis

# How long an example takes says something of the machine, nothing of the code.
hypothesis.settings.register_profile("archiver", deadline=None)
hypothesis.settings.load_profile("archiver")

pytest_plugins = [
    "tests.harness.crash_world",
    "tests.harness.figures",
    "tests.harness.hover",
    "tests.harness.moto",
    "tests.harness.pages",
    "tests.harness.pgbouncer",
    "tests.harness.postgres",
    "tests.harness.scene",
    "tests.harness.things",
    "tests.harness.versitygw",
    "tests.harness.world",
]


def pytest_configure() -> None:
    """Who is asked to end, by a bound of time say, ends the servers it started first."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
