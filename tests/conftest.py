"""The fixtures every test may ask for; each module of the harness says what it gives."""

from __future__ import annotations

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
    "tests.harness.versitygw",
    "tests.harness.world",
]
