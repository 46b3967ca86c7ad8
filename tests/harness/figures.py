"""Figures that a run of the tests tells at its end: how many points, states, rounds.

def test_it(tell_figure): ...; tell_figure("crash matrix", "412 points")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

_PROPERTY = "figure"


class TellFigure(Protocol):
    def __call__(self, name: str, figure: str) -> None: ...


@pytest.fixture
def tell_figure(record_property: Callable[[str, object], None]) -> TellFigure:
    """Says it in the summary of the run, whichever process ran the test."""

    def tell(name: str, figure: str) -> None:
        record_property(_PROPERTY, f"{name}: {figure}")

    return tell


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    told = [
        str(value)
        for reports in terminalreporter.stats.values()
        for report in reports
        if isinstance(report, pytest.TestReport) and report.when == "call"
        for name, value in report.user_properties
        if name == _PROPERTY
    ]
    if told:
        terminalreporter.section("figures")
        for line in sorted(set(told)):
            terminalreporter.line(line)
