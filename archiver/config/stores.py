"""Which cold and hot store the settings name, and whether the two may stand together."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from archiver.config import table
from archiver.config.values import is_loopback
from archiver.stores.providers import PROVIDERS

if TYPE_CHECKING:
    from archiver.config.reader import Reader
    from archiver.config.table import Setting
    from archiver.model import Secret


@dataclass(frozen=True, slots=True)
class ColdS3:
    """A bucket behind an S3 API. Without an endpoint: AWS, and the region is set."""

    provider: str
    bucket: str
    endpoint: str | None
    region: str | None
    access_key_id: str
    secret_access_key: Secret


@dataclass(frozen=True, slots=True)
class ColdFile:
    """A directory of this machine, with a directory in it for each bucket."""

    provider: Literal["file"]
    bucket: str
    root: Path


@dataclass(frozen=True, slots=True)
class HotSupabase:
    url: str
    service_role_key: Secret
    publishable_key: Secret | None  # None: the service role key is sent in its place


@dataclass(frozen=True, slots=True)
class HotS3:
    bucket: str | None  # None: each row says its own
    endpoint: str | None  # None: AWS, and the region is set
    region: str | None
    access_key_id: str
    secret_access_key: Secret


@dataclass(frozen=True, slots=True)
class HotFile:
    root: Path


Cold = ColdS3 | ColdFile
Hot = HotSupabase | HotS3 | HotFile


# --- the cold side ----------------------------------------------------------------------


def read_cold(reader: Reader, *, allow_http: bool) -> Cold | None:
    provider, bucket = reader.find(table.PROVIDER), reader.find(table.BUCKET)
    endpoint = reader.find(table.ENDPOINT)
    region = reader.find(table.REGION)
    access_key_id = reader.find(table.ACCESS_KEY_ID)
    secret_access_key = reader.find(table.SECRET_ACCESS_KEY)
    _require_both(reader, table.PROVIDER, table.BUCKET)
    if provider is None:
        return None
    if provider == "file":
        return _cold_file(reader, bucket, endpoint)
    why = f"provider {provider}"
    reader.required(table.ACCESS_KEY_ID, why)
    reader.required(table.SECRET_ACCESS_KEY, why)
    if isinstance(endpoint, Path):
        _refuse_endpoint(reader, str(endpoint), provider, "an https:// URL")
        return None
    _check_cold_endpoint(reader, provider, endpoint, region, allow_http=allow_http)
    if bucket is None or access_key_id is None or secret_access_key is None:
        return None
    return ColdS3(provider, bucket, endpoint, region, access_key_id, secret_access_key)


def _require_both(reader: Reader, one: Setting[Any], other: Setting[Any]) -> None:
    for present, absent in ((one, other), (other, one)):
        if reader.is_set(present) and not reader.is_set(absent):
            reader.complain(
                absent,
                f"{present.name} is set and {absent.name} is not; set both, or neither to "
                f"disable archiving ({absent.name} is {absent.kind.accepts})",
            )


def _cold_file(
    reader: Reader, bucket: str | None, endpoint: str | Path | None
) -> ColdFile | None:
    if isinstance(endpoint, str) or (endpoint is None and not reader.is_wrong(table.ENDPOINT)):
        _refuse_endpoint(reader, endpoint, "file", "file:///directory")
    if bucket is None or not isinstance(endpoint, Path):
        return None
    return ColdFile("file", bucket, endpoint)


def _check_cold_endpoint(
    reader: Reader,
    provider: str,
    endpoint: str | None,
    region: str | None,
    *,
    allow_http: bool,
) -> None:
    form = _endpoint_form(provider)
    if endpoint is None:
        if reader.is_wrong(table.ENDPOINT):
            return
        if provider != "s3":
            _refuse_endpoint(reader, None, provider, form)
        elif region is None and not reader.is_wrong(table.REGION):
            _require_region(reader, table.REGION, table.ENDPOINT)
        return
    url = urlsplit(endpoint)
    host = url.hostname or ""
    if provider == "r2" and _is_no_r2_endpoint(host, url.path):
        _refuse_endpoint(reader, endpoint, provider, f"{form}, without the bucket")
    if provider == "b2" and url.scheme != "https" and not is_loopback(host):
        _refuse_endpoint(reader, endpoint, provider, f"{form}: B2 speaks https only")
        return
    _refuse_http(reader, table.ENDPOINT, endpoint, allow_http=allow_http)


def _endpoint_form(provider: str) -> str:
    form = PROVIDERS[provider].endpoint or "https://host"
    return form.replace("{account}", "<account id>").replace("{region}", "<region>")


def _is_no_r2_endpoint(host: str, path: str) -> bool:
    """The dashboard's bucket URL, a public bucket, or no account: not R2's S3 endpoint."""
    if host.endswith(".r2.dev"):
        return True
    is_cloudflare = host == "cloudflarestorage.com" or host.endswith(".cloudflarestorage.com")
    has_account = host.endswith(".r2.cloudflarestorage.com")
    return is_cloudflare and not (has_account and path in ("", "/"))


def _refuse_endpoint(reader: Reader, seen: str | None, provider: str, form: str) -> None:
    found = "not set" if seen is None else f"'{seen}'"
    reader.complain(
        table.ENDPOINT, f"ARCHIVE_ENDPOINT is {found}; provider {provider} needs {form}"
    )


# --- the hot side -----------------------------------------------------------------------

_HOT_S3 = (
    table.HOT_ENDPOINT,
    table.HOT_ACCESS_KEY_ID,
    table.HOT_SECRET_ACCESS_KEY,
    table.HOT_REGION,
)


def read_hot(reader: Reader, *, allow_http: bool, is_needed: bool) -> Hot | None:
    hot = reader.find(table.HOT)
    for setting in (table.SUPABASE_SERVICE_ROLE_KEY, table.SUPABASE_PUBLISHABLE_KEY, *_HOT_S3):
        reader.find(setting)
    url = reader.find(table.SUPABASE_URL)
    if not is_needed or reader.is_wrong(table.HOT):
        return None
    if hot is None and not reader.is_set(table.SUPABASE_URL):
        reader.complain(
            table.HOT,
            "ARCHIVE_HOT is not set, and SUPABASE_URL is not either; it must be "
            f"{table.HOT.kind.accepts}",
        )
        return None
    if isinstance(hot, str) and hot.startswith("s3://"):
        bucket = hot.removeprefix("s3://") or None
        return _hot_s3(reader, bucket, allow_http=allow_http)
    _refuse_unused_hot(reader, hot)
    if isinstance(hot, Path):
        return HotFile(hot)
    return _hot_supabase(reader, url, allow_http=allow_http)


def _hot_supabase(reader: Reader, url: str | None, *, allow_http: bool) -> HotSupabase | None:
    why = "ARCHIVE_HOT=supabase"
    reader.required(table.SUPABASE_URL, why)
    service_role_key = reader.required(table.SUPABASE_SERVICE_ROLE_KEY, why)
    publishable_key = reader.find(table.SUPABASE_PUBLISHABLE_KEY)
    if url is None or service_role_key is None:
        return None
    _refuse_http(reader, table.SUPABASE_URL, url, allow_http=allow_http)
    return HotSupabase(url, service_role_key, publishable_key)


def _hot_s3(reader: Reader, bucket: str | None, *, allow_http: bool) -> HotS3 | None:
    why = "ARCHIVE_HOT=s3://"
    access_key_id = reader.required(table.HOT_ACCESS_KEY_ID, why)
    secret_access_key = reader.required(table.HOT_SECRET_ACCESS_KEY, why)
    endpoint, region = reader.find(table.HOT_ENDPOINT), reader.find(table.HOT_REGION)
    if endpoint is not None:
        _refuse_http(reader, table.HOT_ENDPOINT, endpoint, allow_http=allow_http)
    elif region is None and not (
        reader.is_wrong(table.HOT_ENDPOINT) or reader.is_wrong(table.HOT_REGION)
    ):
        _require_region(reader, table.HOT_REGION, table.HOT_ENDPOINT)
    if access_key_id is None or secret_access_key is None:
        return None
    return HotS3(bucket, endpoint, region, access_key_id, secret_access_key)


def _refuse_unused_hot(reader: Reader, hot: str | Path | None) -> None:
    # Taken silently, the sweep would read and delete in another store than was meant.
    for setting in _HOT_S3:
        if reader.is_set(setting):
            chosen = (
                "not set" if hot is None else "supabase" if hot == "supabase" else "a directory"
            )
            reader.complain(
                setting,
                f"{setting.name} is set and ARCHIVE_HOT is {chosen}; it belongs to "
                "ARCHIVE_HOT=s3:// or s3://bucket",
            )


# --- checks of both ---------------------------------------------------------------------


def _require_region(reader: Reader, region: Setting[Any], endpoint: Setting[Any]) -> None:
    reader.complain(
        region,
        f"{region.name} is not set; without {endpoint.name} it is AWS, which needs it: "
        "a region such as eu-central-1",
    )


def _refuse_http(reader: Reader, setting: Setting[Any], url: str, *, allow_http: bool) -> None:
    parts = urlsplit(url)
    if parts.scheme == "http" and not allow_http and not is_loopback(parts.hostname or ""):
        reader.complain(
            setting,
            f"{setting.name} is '{url}': keys and objects would travel unencrypted; use "
            "https://, or set ARCHIVE_ALLOW_HTTP=on",
        )


def check_apart(reader: Reader, cold: Cold | None, hot: Hot | None) -> None:
    """Refuse one place as both hot and cold: a release there deletes the archived copy."""
    if isinstance(cold, ColdFile) and isinstance(hot, HotFile):
        is_one = cold.root == hot.root or (
            cold.root in hot.root.parents or hot.root in cold.root.parents
        )
    elif isinstance(cold, ColdS3) and isinstance(hot, HotS3):
        is_one = hot.bucket == cold.bucket and hot.endpoint == cold.endpoint
    else:
        return
    if is_one:
        reader.complain(
            table.HOT,
            "ARCHIVE_HOT and the cold store are one place, so letting go of a hot copy would "
            "delete the cold one; keep them in different buckets, or directories apart",
        )
