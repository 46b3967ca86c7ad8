"""The standard AWS chain: environment, profile, role, web identity, container, instance.

Imported only where no keys are set, for botocore takes long to import. What the chain finds
is refreshed by botocore, well before it expires; both clients are given the same.
"""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import botocore.session
from botocore.credentials import Credentials
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    NoCredentialsError,
)

if TYPE_CHECKING:
    from pathlib import Path

    from botocore.credentials import ReadOnlyCredentials
    from obstore.store import S3Credential

# obstore keeps what it is given for so long. botocore is asked again that often, which
# costs nothing, and goes to the network only when its own credentials are about to expire.
_KEEP = timedelta(seconds=5)


class AwsChain:
    """The credentials of one account. Safe to share between threads."""

    def __init__(self, ca_bundle: Path | None) -> None:
        self._session = botocore.session.Session()
        if ca_bundle is not None:  # of the token service, too
            self._session.set_config_variable("ca_bundle", str(ca_bundle))
        self._lock = threading.Lock()  # over the search for them

    def __call__(self) -> S3Credential:
        """What is valid now, for obstore.

        Raises:
            NoCredentialsError, CredentialRetrievalError
        """
        now = self.valid_now()
        return {
            "access_key_id": now.access_key or "",
            "secret_access_key": now.secret_key or "",
            "token": now.token,
            "expires_at": datetime.now(UTC) + _KEEP,
        }

    def load_credentials(self) -> Credentials:
        """The same for boto3, to which this is a credential provider. Searches nothing yet."""
        return _Shared(self)

    def valid_now(self) -> ReadOnlyCredentials:
        """What botocore finds, and refreshes where it is about to expire.

        Raises:
            NoCredentialsError: No part of the chain has any; the next call looks again.
            CredentialRetrievalError: A part of it failed.
        """
        try:
            with self._lock:
                found = self._session.get_credentials()
            if found is not None:
                return found.get_frozen_credentials()
        except (BotoCoreError, ClientError, KeyError, ValueError, OSError) as exc:
            # Its text stays here: it may quote the answer, secrets and all.
            told = type(exc).__name__
            raise CredentialRetrievalError(provider="AWS chain", error_msg=told) from None
        raise NoCredentialsError


class _Shared(Credentials):
    """Asks the chain each time a request is signed."""

    def __init__(self, chain: AwsChain) -> None:
        super().__init__("", "", method="archiver")
        self._chain = chain

    def get_frozen_credentials(self) -> ReadOnlyCredentials:
        return self._chain.valid_now()
