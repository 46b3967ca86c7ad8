"""The pages `archiver demo` moves, for tests that want real content."""

from __future__ import annotations

from pathlib import Path

import pytest

from archiver.demo.pages import Page, pages

_CACHE = Path(__file__).parents[2] / ".cache"


@pytest.fixture(scope="session")
def real_pages() -> list[Page]:
    """About 200 HTML pages; rendered once per machine, then read from .cache."""
    return pages(_CACHE)
