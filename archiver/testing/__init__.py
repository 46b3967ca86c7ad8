"""For the tests of a source's author: the contract, as a class to subclass. Needs pytest.

No command of archiver imports this. docs/writing-a-source.md shows how it is used.
"""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite("archiver.testing.source_contract")

from archiver.sources.plugins import PluginSettings, PluginSource  # noqa: E402
from archiver.sources.sql_source import SourceParameters, SqlSource  # noqa: E402
from archiver.testing.source_contract import (  # noqa: E402
    LONG_AGO,
    SourceContract,
    SourceWorld,
    receipt_for,
)

__all__ = [
    "LONG_AGO",
    "PluginSettings",
    "PluginSource",
    "SourceContract",
    "SourceParameters",
    "SourceWorld",
    "SqlSource",
    "receipt_for",
]
