"""Which cold and hot store the settings name, and whether the two may stand together."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from archiver.config import table
from archiver.config.values import is_loopback
from archiver.model import Evidence
from archiver.stores.providers import FROZEN_CLASSES, PROVIDERS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from archiver.config.reader import Reader
    from archiver.config.table import Setting
    from archiver.model import Secret, SourceName
    from archiver.stores.providers import S3Client


@dataclass(frozen=True, slots=True)
class ColdS3:
    """A bucket behind an S3 API. Without an endpoint: AWS, and the region is set."""

    provider: str
    bucket: str
    endpoint: str | None
    region: str | None
    access_key_id: str | None  # None: the AWS chain
    secret_access_key: Secret | None
    session_token: Secret | None = None
    storage_class: str | None = None
    sse: Literal["AES256", "aws:kms"] | None = None
    sse_kms_key_id: str | None = None
    client: S3Client = "obstore"


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
    access_key_id: str | None  # None: the AWS chain
    secret_access_key: Secret | None
    session_token: Secret | None = None


@dataclass(frozen=True, slots=True)
class HotFile:
    root: Path


Cold = ColdS3 | ColdFile
Hot = HotSupabase | HotS3 | HotFile


# --- the cold side ----------------------------------------------------------------------

_COLD_KEYS = (table.ACCESS_KEY_ID, table.SECRET_ACCESS_KEY, table.SESSION_TOKEN)
_CLASS_AND_SSE = (table.STORAGE_CLASS, table.SSE, table.SSE_KMS_KEY_ID)


def read_cold(reader: Reader, *, allow_http: bool) -> Cold | None:
    provider, bucket = reader.find(table.PROVIDER), reader.find(table.BUCKET)
    endpoint = reader.find(table.ENDPOINT)
    region = reader.find(table.REGION)
    access_key_id = reader.find(table.ACCESS_KEY_ID)
    secret_access_key = reader.find(table.SECRET_ACCESS_KEY)
    session_token = reader.find(table.SESSION_TOKEN)
    storage_class = reader.find(table.STORAGE_CLASS)
    sse, sse_kms_key_id = reader.find(table.SSE), reader.find(table.SSE_KMS_KEY_ID)
    client = reader.value(table.S3_CLIENT)
    _require_both(reader, table.PROVIDER, table.BUCKET)
    if provider is None:
        return None
    if provider == "file":
        _refuse_of_s3(reader, (table.SESSION_TOKEN, table.S3_CLIENT, *_CLASS_AND_SSE))
        return _cold_file(reader, bucket, endpoint)
    _check_keys(
        reader, _COLD_KEYS, f"provider {provider}", has_chain=PROVIDERS[provider].has_chain
    )
    _check_class(reader, provider, storage_class)
    _check_sse(reader)
    if isinstance(endpoint, Path):
        _refuse_endpoint(reader, str(endpoint), provider, "an https:// URL")
        return None
    _check_cold_endpoint(reader, provider, endpoint, region, allow_http=allow_http)
    if bucket is None:
        return None
    return ColdS3(
        provider,
        bucket,
        endpoint,
        region,
        access_key_id,
        secret_access_key,
        session_token,
        storage_class,
        sse,
        sse_kms_key_id,
        client,
    )


def _require_both(reader: Reader, one: Setting[Any], other: Setting[Any]) -> None:
    for present, absent in ((one, other), (other, one)):
        if reader.is_set(present) and not reader.is_set(absent):
            reader.complain(
                absent,
                f"{present.name} is set and {absent.name} is not; set both, or neither to "
                f"disable archiving ({absent.name} is {absent.kind.accepts})",
            )


def _check_class(reader: Reader, provider: str, storage_class: str | None) -> None:
    known = PROVIDERS[provider].storage_classes
    if storage_class is None:
        return
    if known and storage_class not in known:
        reader.complain(
            table.STORAGE_CLASS,
            f"ARCHIVE_STORAGE_CLASS is '{storage_class}'; provider {provider} has "
            f"{', '.join(known)}",
        )
    elif storage_class in FROZEN_CLASSES and reader.find(table.EVIDENCE) is Evidence.READBACK:
        reader.complain(
            table.STORAGE_CLASS,
            f"ARCHIVE_STORAGE_CLASS is '{storage_class}', whose objects cannot be read back, "
            "and ARCHIVE_EVIDENCE is 'readback'; choose another class, or signed or checksum",
        )


def _check_sse(reader: Reader) -> None:
    if reader.is_set(table.SSE_KMS_KEY_ID) and reader.find(table.SSE) != "aws:kms":
        reader.complain(
            table.SSE_KMS_KEY_ID,
            "ARCHIVE_SSE_KMS_KEY_ID is set; it belongs to ARCHIVE_SSE=aws:kms",
        )


def _refuse_of_s3(reader: Reader, settings: Iterable[Setting[Any]]) -> None:
    for setting in settings:
        if reader.is_set(setting):
            reader.complain(
                setting, f"{setting.name} is set; provider file knows nothing of it"
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
    table.HOT_SESSION_TOKEN,
    table.HOT_REGION,
)
_HOT_KEYS = (table.HOT_ACCESS_KEY_ID, table.HOT_SECRET_ACCESS_KEY, table.HOT_SESSION_TOKEN)


def read_hot(
    reader: Reader, *, allow_http: bool, is_needed: bool, uses_hot_s3: bool
) -> Hot | None:
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
    if not uses_hot_s3:  # by another source
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
    _check_keys(reader, _HOT_KEYS, "ARCHIVE_HOT=s3://", has_chain=True)
    endpoint, region = reader.find(table.HOT_ENDPOINT), reader.find(table.HOT_REGION)
    if endpoint is not None:
        _refuse_http(reader, table.HOT_ENDPOINT, endpoint, allow_http=allow_http)
    elif region is None and not (
        reader.is_wrong(table.HOT_ENDPOINT) or reader.is_wrong(table.HOT_REGION)
    ):
        _require_region(reader, table.HOT_REGION, table.HOT_ENDPOINT)
    access_key_id, secret_access_key, token = (reader.find(key) for key in _HOT_KEYS)
    return HotS3(bucket, endpoint, region, access_key_id, secret_access_key, token)


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


def _check_keys(
    reader: Reader,
    keys: tuple[Setting[str], Setting[Secret], Setting[Secret]],
    why: str,
    *,
    has_chain: bool,
) -> None:
    """Demand key and secret: both, or neither where the AWS chain can stand in."""
    key_id, secret, _ = keys
    if not has_chain or any(reader.is_set(key) for key in keys):
        also = "" if not has_chain else " with keys of its own"
        reader.required(key_id, f"{why}{also}")
        reader.required(secret, f"{why}{also}")


def refuse_variables(reader: Reader, cold: Cold | None, hot: Hot | None) -> None:
    """Refuse what one of the S3 clients takes from the environment, and cannot be told not to.

    Said for objects of this program alone, it would hold for the objects of neither store.
    """
    if not (isinstance(cold, ColdS3) or isinstance(hot, HotS3)):
        return
    for name, instead in _VARIABLES.items():
        if reader.is_in_environment(name):
            reader.complain_of(
                f"{name} is set, and would change every object that is put; {instead}"
            )


_VARIABLES = {
    "AWS_SERVER_SIDE_ENCRYPTION": "unset it, and use ARCHIVE_SSE",
    "AWS_SSE_KMS_KEY_ID": "unset it, and use ARCHIVE_SSE_KMS_KEY_ID",
    "AWS_SSE_BUCKET_KEY_ENABLED": "unset it: the bucket's own setting holds",
    "AWS_SSE_CUSTOMER_KEY_BASE64": "unset it: an archive must be readable without it",
    "AWS_CHECKSUM_ALGORITHM": "unset it: the probe finds out which checksum is kept",
}


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
    if _is_one_place(cold, hot):
        reader.complain(
            table.HOT,
            "ARCHIVE_HOT and the cold store are one place, so letting go of a hot copy would "
            "delete the cold one; keep them in different buckets, or directories apart",
        )


def check_sources_apart(
    reader: Reader, stores: Mapping[SourceName, tuple[Cold | None, Hot | None]]
) -> None:
    """Refuse that one source lets go of objects where another has archived its own."""
    for archiving, (cold, _) in stores.items():
        for releasing, (_, hot) in stores.items():
            if archiving != releasing and _is_one_place(cold, hot):
                reader.complain(
                    table.HOT,
                    f"the hot store of source {releasing} is the cold store of source "
                    f"{archiving}, so its releases could delete archived copies; keep them in "
                    "different buckets, or directories apart",
                )


def _is_below_or_at(one: Path, other: Path) -> bool:
    """By where they really are: a link may lead from the one into the other."""
    return one.resolve().is_relative_to(other.resolve())


def _is_one_place(cold: Cold | None, hot: Hot | None) -> bool:
    if isinstance(cold, ColdFile) and isinstance(hot, HotFile):
        return any(
            _is_below_or_at(one, other) or _is_below_or_at(other, one)
            for one in (cold.root, cold.root / cold.bucket)
            for other in (hot.root,)
        )
    if isinstance(cold, ColdS3) and isinstance(hot, HotS3):
        return hot.bucket == cold.bucket and hot.endpoint == cold.endpoint
    return False
