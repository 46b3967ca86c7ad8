"""The fixtures every test may ask for; each module of the harness says what it gives."""

from __future__ import annotations

pytest_plugins = [
    "tests.harness.hover",
    "tests.harness.moto",
    "tests.harness.pages",
    "tests.harness.pgbouncer",
    "tests.harness.postgres",
    "tests.harness.scene",
    "tests.harness.versitygw",
    "tests.harness.world",
]
