"""What the ledger must be told; the rest it decides by the database's clock."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from archiver.model import Secret


_IDLE_AT_LEAST_SECONDS = 5.0  # a machine may be as busy as that


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerSettings:
    """One Postgres database, and how patient to be with it and with its rows."""

    url: Secret
    application_name: str = "archiver"
    lease_seconds: float = 60.0
    retry_base_seconds: float = 2.0
    retry_max_seconds: float = 3600.0
    max_attempts: int = 16  # about 5 hours with the two above
    release_grace_seconds: float = 900.0
    upload_expiry_seconds: float = 86_400.0
    connect_timeout_seconds: int = 10  # libpq takes whole seconds, and no fewer than 2
    statement_timeout_seconds: float = 60.0  # ranking 500,000 jobs takes half a second
    busy_wait_seconds: float = 0.1  # for a row the application holds, in a group
    lone_busy_wait_seconds: float = 1.0  # the same, where one receipt is recorded alone
    max_connections: int = 6  # a sweep and its heartbeat need two

    @property
    def idle_transaction_seconds(self) -> float:
        """Who does not go on within a lease has lost it, and must not keep its locks."""
        return max(self.lease_seconds, _IDLE_AT_LEAST_SECONDS)
