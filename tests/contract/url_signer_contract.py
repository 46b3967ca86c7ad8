"""What every store that signs URLs must do: each line of `protocols.UrlSigner` as a claim.

A test module subclasses `UrlSignerContract` and gives the fixture `world`: a `HotWorld` whose
store is an `UrlSigner`, with an empty bucket `UrlSignerContract.bucket`.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import pytest
import urllib3

from archiver.model import HotLocation

if TYPE_CHECKING:
    from archiver.protocols import UrlSigner

AWKWARD_PATHS = (
    "plain.html",
    "with space/and  two.html",
    "percent/encoded.html",
    "plus+sign.html",
    "amper&sand;semi.html",
    "colon:at@equals=comma,$.html",
    "bang!star*quote'(paren).html",
)
_PATIENCE_SECONDS = 20.0  # a bound, not an expectation


class SigningWorld(Protocol):
    """A store that signs, and the hands of the application that fills it."""

    @property
    def store(self) -> Any:
        """An `UrlSigner` of hot locations."""

    def plant(
        self, location: HotLocation, body: bytes, content_type: str = "text/html"
    ) -> None: ...


def get(url: str) -> tuple[int, bytes]:
    """As anybody would: no key, no header of ours."""
    headers = {"Accept-Encoding": "identity"}
    answer = urllib3.request("GET", url, headers=headers, retries=False, timeout=10)
    return answer.status, answer.data


class UrlSignerContract:
    """Subclass it, give the fixture `world`."""

    bucket: ClassVar[str] = "hot-pages"
    awkward_paths: ClassVar[tuple[str, ...]] = AWKWARD_PATHS
    checks_signatures: ClassVar[bool] = True

    @pytest.fixture
    def signer(self, world: SigningWorld) -> UrlSigner[HotLocation]:
        signer: UrlSigner[HotLocation] = world.store
        return signer

    def at(self, path: str) -> HotLocation:
        return HotLocation(self.bucket, path)

    def test_anybody_with_the_url_gets_the_stored_bytes(
        self, world: SigningWorld, signer: UrlSigner[HotLocation]
    ) -> None:
        for path in self.awkward_paths:
            world.plant(self.at(path), path.encode())
        got = {path: get(signer.signed_url(self.at(path), 60)) for path in self.awkward_paths}
        assert got == {path: (200, path.encode()) for path in self.awkward_paths}

    def test_it_is_good_for_one_object(
        self, world: SigningWorld, signer: UrlSigner[HotLocation]
    ) -> None:
        if not self.checks_signatures:
            pytest.skip("this server believes every signature")
        for path in ("mine.html", "other.html"):
            world.plant(self.at(path), b"<html>")
        url = signer.signed_url(self.at("mine.html"), 60)
        status, body = get(url.replace("mine.html", "other.html"))
        assert status >= 400
        assert b"<html>" not in body

    def test_it_ends_with_its_lifetime(
        self, world: SigningWorld, signer: UrlSigner[HotLocation]
    ) -> None:
        if not self.checks_signatures:
            pytest.skip("this server believes every signature")
        world.plant(self.at("page.html"), b"<html>")
        url = signer.signed_url(self.at("page.html"), 1)
        give_up_at = time.monotonic() + _PATIENCE_SECONDS
        while get(url)[0] == 200:
            assert time.monotonic() < give_up_at
            time.sleep(0.2)
        assert b"<html>" not in get(url)[1]
