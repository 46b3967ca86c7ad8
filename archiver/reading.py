"""How an application reads what its rows point at: hot before the flip, cold after it.

The row is asked each time, because it alone knows; nothing is given out that was not
compared with what the row, or the receipt of the cold copy, promises.
"""

from __future__ import annotations

import io
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

from archiver.engine.budget import MIB
from archiver.engine.checking import CONTENT_LIMIT_BYTES
from archiver.errors import (
    BadPointer,
    ContentBomb,
    ElsewhereStored,
    NothingToCompare,
    NoUrl,
    ObjectDenied,
    ObjectMissing,
    ObjectTooLarge,
    SettingsError,
    WrongBytes,
)
from archiver.formats.content import (
    CannotDecompress,
    TooMuchContent,
    content,
    content_digest,
    label_of,
)
from archiver.ledger.postgres import PostgresLedger
from archiver.model import CandidateId, Digest
from archiver.opening import NEVER_WRITES, ledger_settings, open_cold, open_hot, open_source
from archiver.protocols import UrlSigner
from archiver.stores.pace import Pace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from datetime import datetime

    from archiver.config import Cold, Hot, Settings, SourceSettings
    from archiver.model import (
        Adoption,
        ColdLocation,
        ColdPointer,
        ColdStat,
        HotLocation,
        Located,
        Receipt,
        SourceName,
    )
    from archiver.protocols import ArchiveSource, Clock, ColdStore, HotStore

T = TypeVar("T")

OBJECT_LIMIT_BYTES = 64 * MIB  # what a sweep moves; one object is in memory whole
CONTENT_IN_MEMORY_BYTES = 256 * MIB
MAX_URL_LIFETIME = timedelta(days=7)  # what a signature of S3 can last
_LOOKS = 4  # at a row that changes while it is read: flipped, captured again, flipped


@contextmanager
def open_archive(settings: Settings, clock: Clock) -> Iterator[Archive]:
    """Connect to the database of the rows and the ledger; stores are opened when needed.

    Raises:
        SettingsError: Archiving is disabled by these settings.
        FatalError: The ledger is outdated or denied.
        LedgerUnavailable: The database does not answer.
    """
    stores = _Stores()
    sources = {str(it.name): _source(it, stores) for it in settings.of_sources}
    with PostgresLedger(ledger_settings(settings), clock) as ledger:
        ledger.check()
        try:
            yield Archive(ledger, sources, clock)
        finally:
            stores.close()


class Archive:
    """Objects by the id of their row. Safe to share between threads."""

    def __init__(
        self, ledger: PostgresLedger, sources: Mapping[str, _Source], clock: Clock
    ) -> None:
        self._ledger = ledger
        self._sources = sources
        self._clock = clock

    def open(self, source: str, id_: str) -> ArchivedObject:
        """The object a row points at now, whole and verified: a binary file, in memory.

        Hot bytes are compared with the digests of the row, as far as it has any; cold ones
        with their receipt and the digests of the row, and with at least one of these.

        Raises:
            RowMissing, BadPointer: The row is not there, or points nowhere.
            SourceRefused: The source does not say how its rows are read (`locate`).
            WrongBytes: Other bytes lie there. None of them is given out.
            NothingToCompare: Nothing says what the cold bytes must be.
            ObjectMissing, ObjectDenied, ObjectFrozen, ObjectTooLarge, ElsewhereStored
            BucketMissing, StoreDenied, StoreUnavailable, LedgerUnavailable, LedgerDenied
        """
        return self._at_the_row(source, id_, self._open_hot, self._open_cold)

    def url(self, source: str, id_: str, lifetime: timedelta) -> ArchivedUrl:
        """A URL to GET the object with that a row points at now, for so long.

        The object was looked at: it is there, and a cold one has the size and the ETag of
        its receipt. Its bytes were not read.

        Raises:
            ValueError: The lifetime is below a second or above 7 days.
            NoUrl: The store is a directory.
            And as `open`; without a receipt a cold copy has no URL (NothingToCompare).
        """
        if not timedelta(seconds=1) <= lifetime <= MAX_URL_LIFETIME:
            message = f"a URL lasts from a second to 7 days, not {lifetime}"
            raise ValueError(message)
        seconds = int(lifetime.total_seconds())
        expires_at = self._clock.now() + timedelta(seconds=seconds)  # before it is signed

        def of_hot(it: _Row, at: HotLocation) -> ArchivedUrl:
            hot = it.source.hot()
            if not isinstance(hot, UrlSigner):
                raise NoUrl(where=str(at))
            if hot.identify([at])[at] is None:
                raise ObjectMissing(store="hot", where=str(at))
            return ArchivedUrl(hot.signed_url(at, seconds), expires_at, at)

        def of_cold(it: _Row, at: ColdPointer) -> ArchivedUrl:
            receipt = self._receipt(it, at)
            cold, where = it.source.cold(at, receipt)
            if not isinstance(cold, UrlSigner):
                raise NoUrl(where=str(where))
            if receipt is None:
                raise it.nothing_to_compare(where)
            _require_same(cold.stat_many([at.key])[at.key], receipt, where)
            return ArchivedUrl(cold.signed_url(at.key, seconds), expires_at, where)

        return self._at_the_row(source, id_, of_hot, of_cold)

    # --- the row ------------------------------------------------------------------------

    def _at_the_row(
        self,
        source: str,
        id_: str,
        of_hot: Callable[[_Row, HotLocation], T],
        of_cold: Callable[[_Row, ColdPointer], T],
    ) -> T:
        """Go where the row points, and again where it points elsewhere meanwhile."""
        row = self._row(source, id_)
        for looks_left in reversed(range(_LOOKS)):
            try:
                if row.located.hot is not None:
                    return of_hot(row, row.located.hot)
                if row.located.cold is not None:
                    return of_cold(row, row.located.cold)
            except (ObjectMissing, ObjectDenied, WrongBytes):
                # Who may not list a bucket is told that what is gone is denied.
                before, row = row, self._row(source, id_)
                if row.located == before.located or not looks_left:
                    raise
            else:
                break
        raise BadPointer(source=source, id=id_, problem="it has neither a hot nor a cold one")

    def _row(self, source: str, id_: str) -> _Row:
        if source not in self._sources:
            known = ", ".join(self._sources)
            problem = f"source {source!r}: no such source; configured are {known}"
            raise SettingsError(problems=(problem,))
        chosen, id_ = self._sources[source], CandidateId(id_)
        return _Row(chosen, id_, self._ledger.locate(chosen.definition, id_))

    def _receipt(self, row: _Row, at: ColdPointer) -> Receipt | Adoption | None:
        """The newest for this very copy; where none is of a move, one that was adopted."""
        for known in self._ledger.records.history(row.id, row.source.name):
            receipts: list[Receipt | Adoption] = [it.receipt for it, _, _ in known.receipts]
            receipts += [it.adoption for it in known.adopted if it.adoption.digest is not None]
            for receipt in receipts:
                if (receipt.cold.bucket, receipt.cold.key) == (at.bucket, at.key):
                    return receipt
        return None

    # --- the bytes ----------------------------------------------------------------------

    def _open_hot(self, row: _Row, at: HotLocation) -> ArchivedObject:
        with row.source.hot().open(at) as found:
            _require_small(found.identity.size_bytes, at)
            body = found.read()
        _compare(body, _promises(row.located, None), at)
        return ArchivedObject(
            body,
            where=at,
            digest=Digest.of(body),
            content_type=row.located.content_type,
            content_encoding=label_of(body, row.located.content_encoding),
        )

    def _open_cold(self, row: _Row, at: ColdPointer) -> ArchivedObject:
        receipt = self._receipt(row, at)
        cold, where = row.source.cold(at, receipt)
        promises = _promises(row.located, receipt)
        if not promises:
            raise row.nothing_to_compare(where)
        found = cold.look(at.key)
        if found is None:
            raise ObjectMissing(store="cold", where=str(where))
        _require_small(found.stat.size_bytes, where)
        body = cold.read(at.key)
        _compare(body, promises, where)
        return ArchivedObject(
            body,
            where=where,
            digest=Digest.of(body),
            content_type=found.content_type,
            content_encoding=found.content_encoding,
        )


class ArchivedObject(io.BytesIO):
    """One object's stored bytes, verified, as a binary file that begins at its start."""

    def __init__(
        self,
        body: bytes,
        *,
        where: HotLocation | ColdLocation,
        digest: Digest,
        content_type: str | None,
        content_encoding: str | None,
    ) -> None:
        super().__init__(body)
        self.where = where
        self.digest = digest  # of the stored bytes
        self.content_type = content_type
        self.content_encoding = content_encoding  # of the stored bytes: `gzip`, mostly

    def content(self, limit_bytes: int = CONTENT_IN_MEMORY_BYTES) -> bytes:
        """The whole, decompressed where the bytes are gzip or zstd.

        Raises:
            ContentBomb: It is more than the limit.
            WrongBytes: It cannot be decompressed.
        """
        try:
            return content(self.getvalue(), limit_bytes)
        except TooMuchContent as exc:
            raise ContentBomb(where=str(self.where), limit_bytes=limit_bytes) from exc
        except CannotDecompress as exc:
            raise _undecompressable(str(self.where), exc) from exc


@dataclass(frozen=True, slots=True)
class ArchivedUrl:
    """A URL that is as good as a key until it ends; it is not in the repr."""

    url: str = field(repr=False)
    expires_at: datetime
    where: HotLocation | ColdLocation


# --- what is compared ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Promise:
    """Which bytes were promised, and by whom."""

    by: str
    digest: Digest
    is_of_content: bool = False


def _promises(located: Located, receipt: Receipt | Adoption | None) -> list[_Promise]:
    promises = []
    if receipt is not None and receipt.digest is not None:
        promises.append(_Promise("the receipt", receipt.digest))
    if located.digest is not None:
        promises.append(_Promise("the row's digest", located.digest))
    # What a receipt says of the content was checked when the object was moved or read: the same
    # stored bytes have it still.
    checked = None if receipt is None else receipt.content_digest
    if located.content_digest not in (None, checked):
        promise = located.content_digest
        promises.append(_Promise("the row's content digest", promise, is_of_content=True))
    return promises


def _compare(body: bytes, promises: list[_Promise], where: HotLocation | ColdLocation) -> None:
    stored = Digest.of(body)
    for promise in promises:
        seen = _content_digest(body, where) if promise.is_of_content else stored
        if seen != promise.digest:
            raise WrongBytes(
                where=str(where),
                promised_by=promise.by,
                expected=str(promise.digest),
                seen=str(seen),
            )


def _content_digest(body: bytes, where: HotLocation | ColdLocation) -> Digest:
    try:
        return content_digest(body, CONTENT_LIMIT_BYTES)
    except TooMuchContent as exc:
        raise ContentBomb(where=str(where), limit_bytes=CONTENT_LIMIT_BYTES) from exc
    except CannotDecompress as exc:
        raise _undecompressable(str(where), exc) from exc


def _undecompressable(where: str, exc: CannotDecompress) -> WrongBytes:
    return WrongBytes(
        where=where,
        promised_by="their first bytes",
        expected="what can be decompressed",
        seen=str(exc),
    )


def _require_small(size_bytes: int, where: HotLocation | ColdLocation) -> None:
    if size_bytes > OBJECT_LIMIT_BYTES:
        raise ObjectTooLarge(
            where=str(where), size_bytes=size_bytes, limit_bytes=OBJECT_LIMIT_BYTES
        )


def _require_same(
    stat: ColdStat | None, receipt: Receipt | Adoption, where: ColdLocation
) -> None:
    if stat is None:
        raise ObjectMissing(store="cold", where=str(where))
    promised = receipt.size_bytes, receipt.etag
    seen = stat.size_bytes, stat.etag
    if promised != seen:
        raise WrongBytes(
            where=str(where),
            promised_by="the receipt",
            expected="{} bytes, ETag {}".format(*promised),
            seen="{} bytes, ETag {}".format(*seen),
        )


# --- where it is read -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Row:
    """What was found at one look."""

    source: _Source
    id: CandidateId
    located: Located

    def nothing_to_compare(self, where: ColdLocation) -> NothingToCompare:
        return NothingToCompare(source=self.source.name, id=self.id, where=str(where))


@dataclass(frozen=True, slots=True)
class _Source:
    """A source, its settings, and the stores that it shares with the others."""

    definition: ArchiveSource
    settings: Settings
    configured: Cold
    stores: _Stores

    @property
    def name(self) -> SourceName:
        return self.definition.name

    def hot(self) -> HotStore:
        return self.stores.hot(self.settings)

    def cold(
        self, at: ColdPointer, receipt: Receipt | Adoption | None
    ) -> tuple[ColdStore, ColdLocation]:
        """The store that holds this copy: the row's own bucket, of the account that is set.

        Raises:
            ElsewhereStored: It was archived with another provider.
        """
        found = at.provider if receipt is None else receipt.cold.provider
        if found not in (None, self.configured.provider):
            raise ElsewhereStored(
                where=str(at), found=str(found), configured=self.configured.provider
            )
        there = replace(self.configured, bucket=at.bucket)
        store = self.stores.cold(replace(self.settings, cold=there))
        return store, store.location(at.key)


def _source(chosen: SourceSettings, stores: _Stores) -> _Source:
    if chosen.settings.cold is None:
        problem = "neither ARCHIVE_PROVIDER nor ARCHIVE_BUCKET is set, so there is no archive"
        raise SettingsError(problems=(problem,))
    return _Source(open_source(chosen), chosen.settings, chosen.settings.cold, stores)


class _Stores:
    """Open stores, one of each."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards both
        self._hot: dict[Hot | None, HotStore] = {}
        self._cold: dict[Cold | None, ColdStore] = {}

    def hot(self, settings: Settings) -> HotStore:
        with self._lock:
            if settings.hot not in self._hot:
                self._hot[settings.hot] = open_hot(settings, settings.timeout_seconds, Pace())
            return self._hot[settings.hot]

    def cold(self, settings: Settings) -> ColdStore:
        with self._lock:
            if settings.cold not in self._cold:
                self._cold[settings.cold] = open_cold(settings, NEVER_WRITES, Pace())
            return self._cold[settings.cold]

    def close(self) -> None:
        with self._lock:
            for hot in self._hot.values():
                hot.close()
            for cold in self._cold.values():
                cold.close()
