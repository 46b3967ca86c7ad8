"""Environments that are right, to be made wrong one name at a time."""

from __future__ import annotations

from archiver.config import Settings
from archiver.errors import SettingsError

RIGHT = {
    "ARCHIVE_PROVIDER": "r2",
    "ARCHIVE_BUCKET": "cold",
    "ARCHIVE_ENDPOINT": "https://0a1b.r2.cloudflarestorage.com",
    "ARCHIVE_ACCESS_KEY_ID": "AKIDCOLD",
    "ARCHIVE_SECRET_ACCESS_KEY": "cold-secret-value",
    "ARCHIVE_DATABASE_URL": "postgresql://u:database-password@db/app",
    "SUPABASE_URL": "https://abc.supabase.co",
    "SUPABASE_SERVICE_ROLE_KEY": "service-role-value",
}
HOT_S3 = {
    "ARCHIVE_HOT": "s3://pages",
    "ARCHIVE_HOT_ENDPOINT": "https://hot.example.com",
    "ARCHIVE_HOT_ACCESS_KEY_ID": "AKIDHOT",
    "ARCHIVE_HOT_SECRET_ACCESS_KEY": "hot-secret-value",
}


def changed(changes: dict[str, str | None]) -> dict[str, str]:
    """The right environment with these changes; None takes a name out."""
    merged = {**RIGHT, **changes}
    return {name: value for name, value in merged.items() if value is not None}


def settings(**changes: str | None) -> Settings:
    return Settings.read(changed(changes))


def problems(**changes: str | None) -> tuple[str, ...]:
    """What is wrong with the right environment after these changes."""
    return problems_of(changed(changes))


def problems_of(environ: dict[str, str]) -> tuple[str, ...]:
    try:
        Settings.read(environ)
    except SettingsError as error:
        return error.problems
    return ()
