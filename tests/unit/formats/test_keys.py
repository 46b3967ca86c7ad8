from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from archiver.formats.keys import common_prefix, digest_keys, write_once_keys
from archiver.model import ColdKey, Digest

DIGEST = Digest.of(b"page")


def test_the_plain_key_comes_first_then_the_digest_before_the_extension() -> None:
    plain, with_digest, second, *_ = write_once_keys(ColdKey("jobs/7/page.html.gz"), DIGEST)

    assert plain == "jobs/7/page.html.gz"
    assert with_digest == f"jobs/7/page.{DIGEST}.html.gz"
    assert second == f"jobs/7/page.{DIGEST}.2.html.gz"


def test_a_key_without_an_extension_gets_the_digest_at_its_end() -> None:
    assert next(digest_keys(ColdKey("jobs.v1/page"), DIGEST)) == f"jobs.v1/page.{DIGEST}"


@given(st.text(min_size=1, max_size=30).map(ColdKey), st.binary(), st.binary())
def test_two_byte_strings_never_share_a_digest_key(
    key: ColdKey, one: bytes, two: bytes
) -> None:
    keys_of_one = set(digest_keys(key, Digest.of(one)))
    keys_of_two = set(digest_keys(key, Digest.of(two)))

    assert (one == two) or keys_of_one.isdisjoint(keys_of_two)
    assert all(it.startswith(common_prefix(key)) for it in keys_of_one)
