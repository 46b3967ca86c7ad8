"""The standard AWS chain: environment, profile, role, web identity, container, instance.

Imported only where no keys are set, for botocore takes long to import. What the chain finds
is refreshed by botocore, well before it expires; both clients are given the same.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import botocore.session
from botocore import UNSIGNED
from botocore.config import Config
from botocore.credentials import Credentials, RefreshableCredentials
from botocore.exceptions import CredentialRetrievalError, NoCredentialsError

from archiver.model import Secret
from archiver.stores.s3_answers import EXPIRED_CODES

if TYPE_CHECKING:
    from botocore.credentials import ReadOnlyCredentials
    from obstore.store import S3Credential

    from archiver.stores.s3 import S3Settings
    from archiver.stores.s3_answers import Told

# What was found is used for so long before botocore is asked again, and a failure is told
# for as long. It refreshes what lasts less than a quarter of an hour each time it is asked:
# so this is also how often a token service is asked at most, whatever it gives.
_KEEP_SECONDS = 5.0


class AwsChain:
    """The credentials of one account. Safe to share between threads.

    Args:
        settings: How a token service is reached: as the stores are.
    """

    def __init__(self, settings: S3Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()  # over all below, and the search itself
        self._session = _new_session(settings)
        self._found = _Found(None)
        self._keep_until = 0.0
        self._renew_again_at = 0.0

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
            "expires_at": datetime.now(UTC),  # it keeps none: to ask here costs 1 µs
        }

    def load_credentials(self) -> Credentials:
        """The same for boto3, to which this is a credential provider. Searches nothing yet."""
        return _Shared(self)

    def valid_now(self) -> ReadOnlyCredentials:
        """What botocore finds, and refreshes where it is about to expire.

        Raises:
            NoCredentialsError: No part of the chain has any.
            CredentialRetrievalError: A part of it failed.
        """
        with self._lock:
            self._look()
            found = self._found
        if found.failure is not None:
            raise CredentialRetrievalError(provider="AWS chain", error_msg=found.failure)
        if found.now is None:
            raise NoCredentialsError
        return found.now

    @property
    def secrets(self) -> tuple[Secret, ...]:
        """What was found last; nothing is searched for it."""
        now = self._found.now
        said = () if now is None else (now.secret_key, now.token)
        return tuple(Secret(text) for text in said if text)

    def refreshed(self, told: Told) -> Told:
        """The answer; where it says expired, marked if other credentials may be had.

        They were thought fresh: a role was revoked, a clock is wrong, or a metadata service
        gave what was about to end. A new search begins, and the next request uses it.
        """
        if told.code not in EXPIRED_CODES:
            return told
        with self._lock:
            if time.monotonic() >= self._renew_again_at:
                refused = self._found.now
                self._session, self._keep_until = _new_session(self._settings), 0.0
                self._look()
                if self._found.now != refused:
                    self._found = replace(self._found, is_renewable=True)
                self._renew_again_at = time.monotonic() + _KEEP_SECONDS
            return replace(told, is_refreshed=self._found.is_renewable)

    def _look(self) -> None:
        if time.monotonic() >= self._keep_until:
            self._found = _search(self._session)
            self._keep_until = time.monotonic() + _KEEP_SECONDS


@dataclass(frozen=True, slots=True)
class _Found:
    """How a search ended."""

    now: ReadOnlyCredentials | None
    is_renewable: bool = False  # another search may find others
    failure: str | None = None  # the kind of the error


def _search(session: botocore.session.Session) -> _Found:
    try:
        found = session.get_credentials()
        if found is None:
            return _Found(None)
        is_renewable = isinstance(found, RefreshableCredentials)
        return _Found(found.get_frozen_credentials(), is_renewable)
    except Exception as exc:  # noqa: BLE001  # each part of the chain has its own
        # Its text stays here: it may quote the answer, secrets and all.
        return _Found(None, is_renewable=True, failure=type(exc).__name__)


def _new_session(settings: S3Settings) -> botocore.session.Session:
    session = botocore.session.Session()
    if settings.ca_bundle is not None:
        session.set_config_variable("ca_bundle", str(settings.ca_bundle))
    proxy = None
    if settings.proxy_for is not None:
        unsigned = Config(signature_version=UNSIGNED)  # else it would need credentials
        service = session.create_client("sts", config=unsigned)
        proxy = settings.proxy_for(service.meta.endpoint_url)
        service.close()
    # Empty, not None: None takes one from the environment.
    proxies = {} if proxy is None else {"https": proxy.reveal()}
    session.set_default_client_config(Config(proxies=proxies))
    return session


class _Shared(Credentials):
    """Asks the chain each time a request is signed."""

    def __init__(self, chain: AwsChain) -> None:
        super().__init__("", "", method="archiver")
        self._chain = chain

    def get_frozen_credentials(self) -> ReadOnlyCredentials:
        return self._chain.valid_now()
