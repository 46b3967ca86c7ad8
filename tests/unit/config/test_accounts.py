"""Whose keys, which class, which way: what the settings of an account mean and refuse."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from archiver.config import ColdS3, HotS3
from archiver.config.proxies import NoProxy, proxy_for
from archiver.model import Secret
from tests.unit.config.environments import HOT_S3, changed, problems, settings

if TYPE_CHECKING:
    from pathlib import Path

AWS = {
    "ARCHIVE_PROVIDER": "s3",
    "ARCHIVE_ENDPOINT": None,
    "ARCHIVE_REGION": "eu-central-1",
}
NO_KEYS = {"ARCHIVE_ACCESS_KEY_ID": None, "ARCHIVE_SECRET_ACCESS_KEY": None}
NO_HOT_KEYS = {"ARCHIVE_HOT_ACCESS_KEY_ID": None, "ARCHIVE_HOT_SECRET_ACCESS_KEY": None}


def the_problem(**changes: str | None) -> str:
    (problem,) = problems(**changes)
    return problem


# --- keys -------------------------------------------------------------------------------


def test_without_keys_both_stores_on_s3_ask_the_chain() -> None:
    read = settings(**AWS, **NO_KEYS, **{**HOT_S3, **NO_HOT_KEYS})

    assert isinstance(read.cold, ColdS3)
    assert isinstance(read.hot, HotS3)
    for store in (read.cold, read.hot):
        assert (store.access_key_id, store.secret_access_key) == (None, None)


def test_other_providers_need_keys_of_their_own() -> None:
    found = problems(**NO_KEYS)

    assert [problem.split()[0] for problem in found] == list(NO_KEYS)


@pytest.mark.parametrize("kept", [*NO_KEYS, "ARCHIVE_SESSION_TOKEN"])
def test_half_a_pair_of_keys_is_refused(kept: str) -> None:
    changes = {**AWS, **NO_KEYS, kept: "half-of-it"}

    found = problems(**changes)

    missing = [name for name in NO_KEYS if name != kept]
    assert [problem.split()[0] for problem in found] == missing
    assert "half-of-it" not in str(found)


def test_a_session_token_goes_with_keys(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("token-of-hot\n")
    read = settings(
        ARCHIVE_SESSION_TOKEN="token-of-cold",
        ARCHIVE_HOT_SESSION_TOKEN_FILE=str(tmp_path / "token"),
        **HOT_S3,
    )

    assert isinstance(read.cold, ColdS3)
    assert isinstance(read.hot, HotS3)
    assert read.cold.session_token == Secret("token-of-cold")
    assert read.hot.session_token == Secret("token-of-hot")
    assert "token-of" not in f"{read!r}"
    assert "token-of" not in read.masked("told: token-of-hot token-of-cold")


@pytest.mark.parametrize(
    "name",
    [
        "AWS_SERVER_SIDE_ENCRYPTION",
        "AWS_SSE_KMS_KEY_ID",
        "AWS_SSE_BUCKET_KEY_ENABLED",
        "AWS_SSE_CUSTOMER_KEY_BASE64",
        "AWS_CHECKSUM_ALGORITHM",
    ],
)
def test_a_variable_that_would_change_what_is_put_is_refused(name: str) -> None:
    found = the_problem(**{name: "sentinel-value"})

    assert found.startswith(f"{name} is set")
    assert "sentinel-value" not in found


def test_check_shows_no_secret_of_an_account(tmp_path: Path) -> None:
    names = ["ARCHIVE_SECRET_ACCESS_KEY", "ARCHIVE_SESSION_TOKEN", "ARCHIVE_HOT_SESSION_TOKEN"]
    environ = changed({**HOT_S3, **dict.fromkeys(names, "sentinel-value")})
    environ["HTTPS_PROXY"] = "http://user:sentinel-value@proxy.example:3128"
    (tmp_path / "hot-secret").write_text("sentinel-value")
    del environ["ARCHIVE_HOT_SECRET_ACCESS_KEY"]
    environ["ARCHIVE_HOT_SECRET_ACCESS_KEY_FILE"] = str(tmp_path / "hot-secret")

    for more in ([], ["--json"]):
        command = [sys.executable, "-m", "archiver", "check", *more]
        told = subprocess.run(command, env=environ, capture_output=True, text=True, check=True)
        assert "<SECRET>" in told.stdout
        assert "sentinel-value" not in told.stdout + told.stderr


# --- class and encryption ---------------------------------------------------------------


@pytest.mark.parametrize("name", ["GLACIER", "DEEP_ARCHIVE"])
def test_a_class_that_cannot_be_read_back_refuses_readback(name: str) -> None:
    found = the_problem(**AWS, ARCHIVE_STORAGE_CLASS=name, ARCHIVE_EVIDENCE="readback")

    assert "ARCHIVE_STORAGE_CLASS" in found
    assert "readback" in found
    for evidence in ("auto", "signed", "checksum"):
        read = settings(**AWS, ARCHIVE_STORAGE_CLASS=name, ARCHIVE_EVIDENCE=evidence)
        assert isinstance(read.cold, ColdS3)
        assert read.cold.storage_class == name


def test_a_frozen_class_of_an_unknown_product_refuses_readback_too() -> None:
    assert "readback" in the_problem(
        ARCHIVE_PROVIDER="other", ARCHIVE_STORAGE_CLASS="GLACIER", ARCHIVE_EVIDENCE="readback"
    )


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"ARCHIVE_STORAGE_CLASS": "GLACIER"}, "provider r2 has STANDARD, STANDARD_IA"),
        ({"ARCHIVE_STORAGE_CLASS": "standard"}, "such as STANDARD_IA"),
        ({"ARCHIVE_SSE": "aes"}, "one of AES256 or aws:kms"),
        ({"ARCHIVE_SSE_KMS_KEY_ID": "k"}, "belongs to ARCHIVE_SSE=aws:kms"),
        ({"ARCHIVE_SSE_KMS_KEY_ID": "k", "ARCHIVE_SSE": "AES256"}, "belongs to"),
    ],
)
def test_a_class_or_encryption_that_is_none_is_refused(
    changes: dict[str, str], told: str
) -> None:
    assert told in the_problem(**changes)


@pytest.mark.parametrize(
    "name",
    ["ARCHIVE_S3_CLIENT", "ARCHIVE_STORAGE_CLASS", "ARCHIVE_SSE", "ARCHIVE_SESSION_TOKEN"],
)
def test_a_directory_has_no_class_no_encryption_and_no_token(name: str) -> None:
    examples = {
        "ARCHIVE_S3_CLIENT": "boto3",
        "ARCHIVE_STORAGE_CLASS": "STANDARD",
        "ARCHIVE_SSE": "AES256",
    }
    changes = {"ARCHIVE_PROVIDER": "file", "ARCHIVE_ENDPOINT": "file:///srv/cold", **NO_KEYS}

    assert "provider file" in the_problem(**changes, **{name: examples.get(name, "token")})


# --- the way ----------------------------------------------------------------------------


@pytest.mark.parametrize("content", [None, "", "no certificate"])
def test_a_bundle_that_is_none_is_refused(tmp_path: Path, content: str | None) -> None:
    bundle = tmp_path / "ca.pem"
    if content is not None:
        bundle.write_text(content)

    found = the_problem(ARCHIVE_CA_BUNDLE=str(bundle))

    assert found.startswith(f"ARCHIVE_CA_BUNDLE is '{bundle}'; it must be a readable file")


@pytest.mark.parametrize(
    "wrong", ["proxy:3128", "https://p:1", "socks5://p:1", "http://u:pw-word@p:port", "http://"]
)
def test_a_proxy_that_is_none_is_refused_and_not_quoted(wrong: str) -> None:
    found = the_problem(HTTPS_PROXY=wrong)

    assert found == (
        "HTTPS_PROXY is <SECRET>; it must be http://host:port, with user:password@ before "
        "the host if it asks"
    )


def test_either_case_names_the_proxy_and_its_password_is_masked() -> None:
    read = settings(https_proxy="http://u:proxy-password@p:3128", no_proxy="intern.example")

    assert read.proxy_for("https://s3.example") == Secret("http://u:proxy-password@p:3128")
    assert read.proxy_for("https://intern.example") is None
    assert read.seen["HTTPS_PROXY"].shown == "<SECRET>"
    assert "proxy-password" not in read.masked("407 from proxy-password")


@pytest.mark.parametrize("wrong", ["10.0.0.0/99", "https://host", "a b"])
def test_an_exception_that_would_never_match_is_refused(wrong: str) -> None:
    assert the_problem(NO_PROXY=f"ok.example,{wrong}").startswith("NO_PROXY is ")


@pytest.mark.parametrize(
    ("entry", "url", "is_direct"),
    [
        ("", "https://s3.example", False),
        ("*", "https://s3.example", True),
        ("s3.example", "https://s3.example", True),
        ("S3.Example", "https://s3.example", True),
        ("example", "https://s3.example", True),
        (".example", "https://s3.example", True),
        ("*.example", "https://s3.example", True),
        ("3.example", "https://s3.example", False),
        ("s3.example:443", "https://s3.example", True),
        ("s3.example:9000", "https://s3.example", False),
        ("s3.example:9000", "https://s3.example:9000", True),
        ("10.0.0.0/8", "https://10.1.2.3:9000", True),
        ("10.0.0.0/8", "https://11.1.2.3", False),
        ("10.0.0.0/8", "https://s3.example", False),
        ("127.0.0.1", "https://127.0.0.1:9000", True),
        ("::1", "https://[::1]:9000", True),
        ("other.example, s3.example", "https://s3.example", True),
        ("", "http://s3.example", True),
    ],
)
def test_what_goes_around_the_proxy(entry: str, url: str, *, is_direct: bool) -> None:
    entries = NoProxy(tuple(it.strip() for it in entry.split(",") if it))
    proxy = Secret("http://proxy:3128")

    assert proxy_for(url, proxy, entries) == (None if is_direct else proxy)
