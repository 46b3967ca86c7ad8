"""Hot and cold stores in memory, under the contract suites, with faults (`faults.py`)."""

from __future__ import annotations

import hashlib
import itertools
import threading
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from archiver.errors import (
    BucketMissing,
    KeyTaken,
    ObjectChanged,
    ObjectMissing,
    StoreUnavailable,
    UnusableName,
)
from archiver.formats.etags import md5_etag
from archiver.model import (
    Capabilities,
    ColdKey,
    ColdLocation,
    ColdObject,
    ColdStat,
    Deleted,
    Digest,
    HotIdentity,
    HotLocation,
)
from tests.fakes.faults import Fault, Faults, reply_lost
from tests.fakes.multipart import PART_RULES, FakeMultipart

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from archiver.model import PartRules

ENFORCES_ALL = Capabilities(
    enforces_signed_digest=True,
    enforces_create=True,
    returns_digest=False,
    enforces_signed_parts=True,
    keeps_refused_parts=True,
)


def anytime() -> None:
    """Allow every delete."""


class FakeHotStore:
    """A hot store in a dictionary. One lock guards the objects."""

    def __init__(
        self,
        *buckets: str,
        deletes_by_identity: bool = True,  # as S3 with a condition; Supabase has none
    ) -> None:
        self.faults = Faults()
        self.served_bytes = 0  # of bodies, in all
        self._buckets = set(buckets or ("hot-pages",))
        self._deletes_by_identity = deletes_by_identity
        self._objects: dict[HotLocation, tuple[bytes, HotIdentity]] = {}
        self._versions = itertools.count(1)
        self._lock = threading.Lock()
        self.is_closed = False
        self.wait_to_delete: Callable[[], object] = anytime  # before it is allowed

    # --- the contract -------------------------------------------------------------------

    @contextmanager
    def open(self, location: HotLocation) -> Iterator[_OpenFake]:
        fault = self.faults.begin("open", location)
        self._check(location)
        with self._lock:
            found = self._objects.get(location)
        if found is None:
            raise ObjectMissing(store="hot", where=str(location), code="NoSuchKey")
        body, identity = found
        with self._lock:
            self.served_bytes += len(body)  # a server begins to send when it is asked
        reply_lost(fault)
        yield _OpenFake(_renamed(identity, fault), body, location, self.faults)

    def read_range(
        self, location: HotLocation, identity: HotIdentity, start: int, stop: int
    ) -> bytes:
        fault = self.faults.begin("read_range", location)
        self._check(location)
        with self._lock:
            found = self._objects.get(location)
        if found is None:
            raise ObjectMissing(store="hot", where=str(location), code="NoSuchKey")
        body, seen = found[0][start:stop], _renamed(found[1], fault)
        if seen != identity:
            raise _changed(str(location), identity, seen)
        with self._lock:
            self.served_bytes += len(body)
        body = body if fault.keep is None else fault.keep(body)
        return _whole(body, stop - start, "hot", str(location))

    def identify(
        self, locations: Collection[HotLocation]
    ) -> Mapping[HotLocation, HotIdentity | None]:
        return {location: self._identify(location) for location in locations}

    def delete(
        self,
        targets: Sequence[tuple[HotLocation, HotIdentity]],
        allow: Callable[[], None],
    ) -> Mapping[HotLocation, Deleted]:
        if targets:
            self.wait_to_delete()
            allow()
        return {location: self._delete(location, identity) for location, identity in targets}

    def probe(self, bucket: str) -> None:
        self.faults.begin("probe", bucket)
        if bucket not in self._buckets:
            raise BucketMissing(store="hot", bucket=bucket)

    def close(self) -> None:
        self.is_closed = True

    def _identify(self, location: HotLocation) -> HotIdentity | None:
        fault = self.faults.begin("identify", location)
        self._check(location)
        with self._lock:
            found = self._objects.get(location)
        return None if found is None else _renamed(found[1], fault)

    def _delete(self, location: HotLocation, identity: HotIdentity) -> Deleted:
        fault = self.faults.begin("delete", location)
        if fault.answer is not None:
            return fault.answer
        self._check(location)
        with self._lock:
            found = self._objects.get(location)
            if found is None:
                return Deleted.ABSENT
            if self._deletes_by_identity and found[1] != identity:
                return Deleted.CHANGED
            del self._objects[location]
        reply_lost(fault)
        return Deleted.DELETED

    def _check(self, location: HotLocation) -> None:
        if location.bucket not in self._buckets:
            raise BucketMissing(store="hot", bucket=location.bucket)
        _check_name(location.path, "hot")

    # --- the hands of the application -----------------------------------------------------

    def plant(
        self,
        location: HotLocation,
        body: bytes,
        content_type: str = "text/html",  # noqa: ARG002  # bytes are all that is moved
    ) -> HotIdentity:
        """Put an object there, over what was there; the bucket is made where it is not."""
        etag = hashlib.md5(body, usedforsecurity=False).hexdigest()
        with self._lock:
            self._buckets.add(location.bucket)
            identity = HotIdentity(len(body), etag=etag, version=str(next(self._versions)))
            self._objects[location] = (body, identity)
        return identity

    def peek(self, location: HotLocation) -> bytes | None:
        with self._lock:
            found = self._objects.get(location)
        return None if found is None else found[0]

    def remove(self, location: HotLocation) -> None:
        """Take an object away, as nobody should."""
        with self._lock:
            self._objects.pop(location, None)

    def remove_bucket(self, bucket: str) -> None:
        with self._lock:
            self._buckets.discard(bucket)
            self._objects = {at: o for at, o in self._objects.items() if at.bucket != bucket}

    @property
    def objects(self) -> dict[HotLocation, bytes]:
        """All there is, as it is now."""
        with self._lock:
            return {location: body for location, (body, _) in self._objects.items()}


class _OpenFake:
    def __init__(
        self, identity: HotIdentity, body: bytes, location: HotLocation, faults: Faults
    ) -> None:
        self._identity = identity
        self._body = body
        self._location = location
        self._faults = faults

    @property
    def identity(self) -> HotIdentity:
        return self._identity

    def read(self) -> bytes:
        fault = self._faults.begin("read", self._location)
        body = self._body if fault.keep is None else fault.keep(self._body)
        if len(body) != self._identity.size_bytes:
            raise StoreUnavailable(
                store="hot", operation="open", code="cut", where=str(self._location)
            )
        return body


@dataclass(frozen=True, slots=True)
class _Held:
    body: bytes
    seen: ColdObject
    digest: Digest | None  # of what was sent in one piece, as a store computes it then


class FakeColdStore:
    """A cold store in a dictionary. One lock guards the objects."""

    def __init__(
        self,
        path_prefix: str = "",
        *,
        capabilities: Capabilities = ENFORCES_ALL,
        bucket: str = "cold-pages",
        provider: str = "fake",
        part_rules: PartRules = PART_RULES,
    ) -> None:
        self.faults = Faults()
        self.served_bytes = 0  # of bodies, in all
        self._path_prefix = path_prefix
        self._capabilities = capabilities
        self._bucket = bucket
        self._provider = provider
        self._objects: dict[ColdKey, _Held] = {}
        self._lock = threading.Lock()
        self.is_closed = False
        self.multipart = FakeMultipart(
            self.faults,
            lambda key: str(self.location(key)),
            self._appear,
            rules=part_rules,
            keeps_refused_parts=capabilities.keeps_refused_parts,
        )

    # --- the contract -------------------------------------------------------------------

    @property
    def capabilities(self) -> Capabilities:
        return self._capabilities

    @property
    def path_prefix(self) -> str:
        return self._path_prefix

    def location(self, key: ColdKey) -> ColdLocation:
        return ColdLocation(self._provider, self._bucket, key)

    def create(
        self,
        key: ColdKey,
        body: bytes,
        *,
        metadata: Mapping[str, str],
        content_type: str | None,
        content_encoding: str | None,
    ) -> ColdStat:
        fault = self.faults.begin("create", key)
        _check_name(key, "cold")
        kept = body if fault.keep is None else fault.keep(body)
        stat = ColdStat(key, len(kept), md5_etag(kept))
        seen = ColdObject(
            stat,
            {name.lower(): value for name, value in metadata.items()},
            content_type,
            content_encoding,
        )
        with self._lock:
            if self._capabilities.enforces_create and key in self._objects:
                raise KeyTaken(where=str(self.location(key)))
            if not fault.forget:
                self._objects[key] = _Held(kept, seen, Digest.of(body))
        reply_lost(fault)
        return ColdStat(key, len(body), fault.etag or md5_etag(body))  # what it claims to hold

    def stat_many(self, keys: Sequence[ColdKey]) -> Mapping[ColdKey, ColdStat | None]:
        return {key: self._stat(key, "stat") for key in keys}

    def look(self, key: ColdKey) -> ColdObject | None:
        fault = self.faults.begin("look", key)
        held = self._held(key)
        return None if held is None else replace(held.seen, stat=_restated(held, fault))

    def held_digest(self, key: ColdKey) -> Digest | None:
        self.faults.begin("held_digest", key)
        held = self._held(key)
        return held.digest if held and self._capabilities.returns_digest else None

    def readback(self, key: ColdKey) -> Digest:
        return Digest.of(self._read(key, "readback"))

    def read(self, key: ColdKey) -> bytes:
        return self._read(key, "read")

    def read_range(self, stat: ColdStat, start: int, stop: int) -> bytes:
        fault = self.faults.begin("read_range", stat.key)
        held, where = self._held(stat.key), str(self.location(stat.key))
        if held is None:
            raise ObjectMissing(store="cold", where=where, code="NoSuchKey")
        if (seen := _restated(held, fault)) != stat:
            raise _changed(where, stat, seen)
        body = held.body[start:stop]
        with self._lock:
            self.served_bytes += len(body)
        body = body if fault.keep is None else fault.keep(body)
        return _whole(body, stop - start, "cold", where)

    def list(self, prefix: str) -> Iterator[ColdStat]:
        if self.faults.begin("list", prefix).forget:
            return
        with self._lock:
            keys = sorted(self._objects, key=lambda key: key.encode())
        for key in keys:
            held = self._held(key)
            if key.startswith(prefix) and held is not None:
                yield held.seen.stat

    def close(self) -> None:
        self.is_closed = True

    def _appear(self, seen: ColdObject, body: bytes, must_be_free: bool) -> None:  # noqa: FBT001
        """What an upload in parts became."""
        key = seen.stat.key
        with self._lock:
            if must_be_free and key in self._objects:
                raise KeyTaken(where=str(self.location(key)))
            self._objects[key] = _Held(body, seen, None)

    def _stat(self, key: ColdKey, operation: str) -> ColdStat | None:
        fault = self.faults.begin(operation, key)
        held = self._held(key)
        return None if held is None or fault.forget else _restated(held, fault)

    def _read(self, key: ColdKey, operation: str) -> bytes:
        fault = self.faults.begin(operation, key)
        held = self._held(key)
        if held is None:
            raise ObjectMissing(store="cold", where=str(self.location(key)), code="NoSuchKey")
        with self._lock:
            self.served_bytes += len(held.body)
        return held.body if fault.keep is None else fault.keep(held.body)

    def _held(self, key: ColdKey) -> _Held | None:
        with self._lock:
            return self._objects.get(key)

    # --- hands that reach around it -------------------------------------------------------

    def peek(self, key: ColdKey) -> bytes | None:
        held = self._held(key)
        return None if held is None else held.body

    def damage(self, key: ColdKey, body: bytes) -> None:
        """Other bytes under a key in use; size and ETag show it, its metadata does not."""
        with self._lock:
            held = self._objects[key]
            stat = ColdStat(key, len(body), md5_etag(body))
            self._objects[key] = _Held(body, replace(held.seen, stat=stat), held.digest)

    def rot(self, key: ColdKey, body: bytes) -> None:
        """Other bytes, while size and ETag still say what they said: only a read shows it."""
        with self._lock:
            self._objects[key] = replace(self._objects[key], body=body)

    def lose(self, key: ColdKey) -> None:
        """Forget an object after it was acknowledged."""
        with self._lock:
            self._objects.pop(key, None)

    @property
    def objects(self) -> dict[ColdKey, bytes]:
        """All there is, as it is now."""
        with self._lock:
            return {key: held.body for key, held in self._objects.items()}


def _changed(where: str, expected: object, seen: object) -> ObjectChanged:
    return ObjectChanged(where=where, expected=str(expected), seen=str(seen))


def _whole(body: bytes, size_bytes: int, store: str, where: str) -> bytes:
    if len(body) != size_bytes:
        raise StoreUnavailable(store=store, operation="read", code="cut", where=where)
    return body


def _restated(held: _Held, fault: Fault) -> ColdStat:
    return replace(held.seen.stat, etag=fault.etag) if fault.etag else held.seen.stat


def _renamed(identity: HotIdentity, fault: Fault) -> HotIdentity:
    return replace(identity, etag=fault.etag) if fault.etag else identity


def _check_name(name: str, store: str) -> None:
    if "\0" in name or {"", ".", ".."} & set(name.split("/")):
        raise UnusableName(store=store, where=ascii(name), reason="scripted")
