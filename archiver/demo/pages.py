"""Two hundred real HTML pages that every Python can make without a network."""

from __future__ import annotations

import gzip
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from archiver.model import Digest

_SCRIPT = Path(__file__).with_name("render.py")
_TIMEOUT_SECONDS = 120.0  # it takes three; a machine may be busy


@dataclass(frozen=True, slots=True)
class Page:
    """One page, as a browser shows it and as a hot store holds it."""

    name: str  # of the module it documents
    html: bytes
    gz: bytes  # the same, compressed; equal for equal pages

    @property
    def digest(self) -> Digest:
        """Of the stored, compressed bytes."""
        return Digest.of(self.gz)

    @property
    def content_digest(self) -> Digest:
        """Of the page itself."""
        return Digest.of(self.html)


def pages(cache: Path | None = None) -> list[Page]:
    """The pages by name, at most 200 of 1 KB to 600 KB, the same for the same Python.

    Rendering them takes about three seconds. With a `cache` folder they are kept there, and
    read from there the next time.
    """
    with tempfile.TemporaryDirectory(prefix="archiver-pages-", dir=_existing(cache)) as scratch:
        if cache is None:
            return _read(_render(Path(scratch)))
        kept = cache / _cache_name()
        if not kept.exists():
            _render(Path(scratch)).replace(kept)  # at once or not at all
        return _read(kept)


def _existing(cache: Path | None) -> Path | None:
    if cache is not None:
        cache.mkdir(parents=True, exist_ok=True)
    return cache


def _cache_name() -> str:
    made_by = Digest.of(sys.version.encode() + _SCRIPT.read_bytes())
    return f"pages-{str(made_by)[:16]}.zip"


def _render(folder: Path) -> Path:
    name = "pages.zip"  # without its folder: the page of `sys` shows the command line
    subprocess.run(
        [sys.executable, "-P", "-s", "-X", "utf8", "-W", "ignore", str(_SCRIPT), name],
        env={"PYTHONHASHSEED": "0"},  # nothing else: see there; and sets print in one order
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=True,
        timeout=_TIMEOUT_SECONDS,
    )
    return folder / name


def _read(path: Path) -> list[Page]:
    with zipfile.ZipFile(path) as archive:
        return [
            Page(name.removesuffix(".html.gz"), gzip.decompress(body), body)
            for name in archive.namelist()
            for body in [archive.read(name)]
        ]
