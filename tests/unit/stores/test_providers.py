"""The table of providers is complete, and its endpoints say their regions."""

from __future__ import annotations

import pytest

from archiver.stores.providers import PROVIDERS


def test_every_name_of_the_setting_has_its_row() -> None:
    names = ["r2", "b2", "s3", "minio", "gcs", "wasabi", "other", "file"]

    assert [row.name for row in PROVIDERS.values()] == names
    assert list(PROVIDERS) == names


@pytest.mark.parametrize(
    ("name", "endpoint", "region"),
    [
        ("r2", "https://abc.r2.cloudflarestorage.com", "auto"),
        ("r2", None, "auto"),
        ("b2", "https://s3.us-west-004.backblazeb2.com", "us-west-004"),
        ("b2", "https://s3.us-west-004.backblazeb2.com/", "us-west-004"),
        ("b2", "https://elsewhere.example", None),
        ("s3", "https://s3.eu-west-1.amazonaws.com", "eu-west-1"),
        ("s3", None, None),
        ("wasabi", "https://s3.eu-central-1.wasabisys.com", "eu-central-1"),
        ("wasabi", "https://s3.wasabisys.com", "us-east-1"),
        ("minio", "http://127.0.0.1:9000", "us-east-1"),
    ],
)
def test_the_region_is_the_endpoints_own_or_the_providers(
    name: str, endpoint: str | None, region: str | None
) -> None:
    assert PROVIDERS[name].region_for(endpoint) == region


def test_throttling_by_a_400_is_known_where_it_happens() -> None:
    assert "RequestRateLimitExceeded" in PROVIDERS["wasabi"].throttle_codes
    assert "SlowDown" in PROVIDERS["b2"].throttle_codes
