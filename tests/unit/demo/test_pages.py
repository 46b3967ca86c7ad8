from __future__ import annotations

import gzip
from typing import TYPE_CHECKING

from archiver.demo.pages import Page, pages

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_there_are_two_hundred_pages_and_no_two_are_equal(real_pages: list[Page]) -> None:
    assert len(real_pages) == 200
    assert len({page.name for page in real_pages}) == 200
    assert len({page.content_digest for page in real_pages}) == 200
    assert len({page.digest for page in real_pages}) == 200


def test_a_page_is_html_and_compressed_to_the_stored_bytes(real_pages: list[Page]) -> None:
    for page in real_pages:
        assert page.html.startswith(b"<!DOCTYPE html>")
        assert gzip.decompress(page.gz) == page.html


def test_rendering_again_gives_the_same_bytes(real_pages: list[Page]) -> None:
    assert pages() == real_pages


def test_pages_are_kept_and_read_again(real_pages: list[Page], tmp_path: Path) -> None:
    assert pages(tmp_path / "cache") == real_pages
    assert pages(tmp_path / "cache") == real_pages

    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_no_page_shows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARCHIVE_SECRET_ACCESS_KEY", "do-not-show-me")

    shown = [page.html for page in pages()]

    assert not any(b"do-not-show-me" in html for html in shown)
    assert not any(b"SECRET_ACCESS_KEY" in html for html in shown)
