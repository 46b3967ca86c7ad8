"""Buckets behind an S3 API as a hot store.

The identity of an object is its ETag, its size and its time to the second: what a GET, a
HEAD and a LIST tell alike. A version is left out because a LIST does not tell it.

There is no conditional delete: between the caller's last `identify` and the delete an
overwrite is not noticed.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import obstore
from obstore.exceptions import BaseError, PermissionDeniedError

from archiver.errors import UnusableName
from archiver.model import Deleted, HotIdentity, HotLocation
from archiver.stores.s3 import S3
from archiver.stores.s3_answers import ACCESS_DENIED, told_by, translate
from archiver.stores.s3_bodies import buffers_of, range_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from obstore import GetResult, ObjectMeta

    from archiver.model import Buffer
    from archiver.stores.s3 import S3Settings
    from archiver.stores.s3_answers import Asked

_KEYS_PER_DELETE = 1_000  # the most a DeleteObjects takes
_LIST_PAYS_FROM = 13  # a LIST is billed as a write by most, a HEAD as a read


class S3HotStore:
    """The objects of one account; each row says its bucket. Safe to share between threads.

    Args:
        settings: Where the account is.
        bucket: The only bucket that may be touched; None: any the rows name.
    """

    def __init__(self, settings: S3Settings, *, bucket: str | None = None) -> None:
        self._s3 = S3(settings, "hot")
        self._only_bucket = bucket

    @contextmanager
    def open(self, location: HotLocation) -> Iterator[_OpenObject]:
        asked = self._asked("open", location)
        with self._s3.pace.reading() as reading, self._s3.translate(asked):
            result = obstore.get(self._s3.bucket(location.bucket), location.path)
            reading.size_bytes = result.meta["size"]
            identity = _identity_of(result.meta)
        if identity is None:
            raise asked.unavailable(code="no etag")
        yield _OpenObject(identity, result, asked)

    def read_range(
        self, location: HotLocation, identity: HotIdentity, start: int, stop: int
    ) -> Buffer:
        asked = self._asked("read", location)
        expected = identity.size_bytes, identity.etag
        self._s3.pace.wait(stop - start)
        with self._s3.translate(asked):
            with asked.on_condition(expected):
                result = obstore.get(
                    self._s3.bucket(location.bucket),
                    location.path,
                    options={"range": (start, stop), "if_match": identity.etag},
                )
            asked.require_same(expected, (result.meta["size"], result.meta["e_tag"]))
            return range_of(asked, result, start, stop)

    def identify(
        self, locations: Collection[HotLocation]
    ) -> Mapping[HotLocation, HotIdentity | None]:
        for location in locations:
            self._asked("identify", location)
        seen: dict[HotLocation, HotIdentity | None] = {}
        for bucket, paths in _by_bucket(locations).items():
            found = self._s3.find("identify", bucket, paths, list_pays_from=_LIST_PAYS_FROM)
            for path, meta in found.items():
                identity = None if meta is None else _identity_of(meta)
                if meta is not None and identity is None:
                    raise self._s3.asked("identify", bucket, path).unavailable(code="no etag")
                seen[HotLocation(bucket, path)] = identity
        return seen

    def delete(
        self,
        targets: Sequence[tuple[HotLocation, HotIdentity]],
        allow: Callable[[], None],
    ) -> Mapping[HotLocation, Deleted]:
        """S3 does not say whether there was anything to delete: absent is deleted, too."""
        for location, _ in targets:
            self._asked("delete", location)
        answers: dict[HotLocation, Deleted] = {}
        for bucket, paths in _by_bucket(location for location, _ in targets).items():
            for start in range(0, len(paths), _KEYS_PER_DELETE):
                done = self._delete(bucket, paths[start : start + _KEYS_PER_DELETE], allow)
                answers |= {HotLocation(bucket, path): done[path] for path in done}
        return answers

    def probe(self, bucket: str) -> None:
        self._s3.questions().prove_bucket(self._s3.asked("probe", bucket))

    def signed_url(self, where: HotLocation, lifetime_seconds: int) -> str:
        return self._s3.signed_url(self._asked("sign", where), lifetime_seconds)

    def close(self) -> None:
        self._s3.close()

    def _asked(self, operation: str, location: HotLocation) -> Asked:
        if self._only_bucket not in {None, location.bucket}:
            reason = f"only bucket {self._only_bucket} may be touched"
            raise UnusableName(store="hot", where=str(location), reason=reason)
        return self._s3.asked(operation, location.bucket, location.path)

    def _delete(
        self, bucket: str, paths: list[str], allow: Callable[[], None]
    ) -> Mapping[str, Deleted]:
        asked = self._s3.asked("delete", bucket)
        self._s3.pace.wait(ahead=True)
        allow()
        with self._s3.translate(asked):
            try:
                obstore.delete(self._s3.bucket(bucket), paths)
            except BaseError as exc:
                told = told_by(exc, asked)
                if told is None or not told.may_be_about_some:
                    raise
            else:
                return dict.fromkeys(paths, Deleted.DELETED)
        return self._delete_singly(bucket, paths, allow)

    def _delete_singly(
        self, bucket: str, paths: list[str], allow: Callable[[], None]
    ) -> Mapping[str, Deleted]:
        """A refused bulk call tells of one key, and nothing of the others."""
        store = self._s3.bucket(bucket, deletes_in_bulk=False)

        async def delete(path: str) -> Deleted:
            allow()
            try:
                await obstore.delete_async(store, path)
            except PermissionDeniedError as exc:
                told = told_by(exc, self._s3.asked("delete", bucket, path))
                if told is None or told.code != ACCESS_DENIED:
                    raise
                return Deleted.DENIED
            return Deleted.DELETED

        answers = self._s3.each("delete", bucket, paths, delete, ahead=True)
        absent = [path for path in paths if answers[path] is None]
        if absent:
            self._s3.prove_missing(self._s3.asked("identify", bucket, absent[0]))
        return {path: answer or Deleted.ABSENT for path, answer in answers.items()}


@dataclass(frozen=True, slots=True)
class _OpenObject:
    """An answer whose body is still on the wire."""

    identity: HotIdentity
    _result: GetResult
    _asked: Asked

    def read(self) -> bytes:
        with translate(self._asked):  # the answer came: no second question about a cut
            return b"".join(buffers_of(self._asked, self._result))


def _identity_of(meta: ObjectMeta) -> HotIdentity | None:
    """None: the store gives no ETag, so nobody could tell whether the object changed."""
    etag = meta["e_tag"]
    if not etag:
        return None
    # A LIST may tell fractions of a second, a GET never does.
    modified_at = meta["last_modified"].replace(microsecond=0)
    return HotIdentity(meta["size"], etag=etag, modified_at=modified_at)


def _by_bucket(locations: Iterable[HotLocation]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for location in dict.fromkeys(locations):
        groups.setdefault(location.bucket, []).append(location.path)
    return groups
