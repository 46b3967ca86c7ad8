"""Every lie that is told of a store, by the words of docs/guarantees.md.

A name goes on after "A cold store that …", or "A hot store that …".
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from tests.fakes.faults import flipped, truncated, zeroed
from tests.fakes.s3_worlds import BUCKET as COLD
from tests.fakes.s3_worlds import ENFORCES_ALL, PREFIX
from tests.fakes.table_source import BUCKET as HOT
from tests.liar.lies import ANY
from tests.liar.scene import COLD_TARGET, HOT_TARGET, SMALLEST, TARGET, Fault
from tests.liar.wire import Reply, error, xml
from tests.unit.engine.world import at

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.liar.bucket import Held
    from tests.liar.server import LyingS3
    from tests.liar.wire import Asked
    from tests.unit.engine.world import World

    Tell = Callable[[LyingS3], object]
    Strike = Callable[[LyingS3, World], object]

_SHORT_SECONDS = 1.5  # what a client waits for a store that is silent
_WORDLESS_MD5 = replace(ENFORCES_ALL, etag_is_md5=False)  # an SSE-KMS bucket's ETags


def swapped(body: bytes) -> bytes:
    """The bytes of another object."""
    return bytes(byte ^ 0x5A for byte in body)[::-1]


_DAMAGES = {
    "half of the bytes": truncated,
    "zeros": zeroed,
    "a flipped bit": flipped,
    "another object's bytes": swapped,
}


def _on(operation: str, key: str | None, /, *, times: int | None = None, **lie: object) -> Tell:
    def tell(server: LyingS3) -> None:
        server.lies.on(operation, key, times=times, **lie)  # type: ignore[arg-type]

    return tell


def _all(*tells: Tell) -> Tell:
    def tell_all(server: LyingS3) -> None:
        for tell in tells:
            tell(server)

    return tell_all


def _says(status: int, code: str, **headers: str) -> Callable[[Asked], Reply]:
    return lambda _asked: error(status, code, **headers)


def _keeps(damage: Callable[[bytes], bytes]) -> Callable[[Held], Held]:
    return lambda held: held.damaged(damage)


def _rots(damage: Callable[[bytes], bytes]) -> Callable[[Held], Held]:
    return lambda held: held.rotten(damage)


def _hides(held: Held) -> Held:
    return replace(held, is_readable=False)


def _etag(_reply: Reply) -> Reply:
    return _reply.with_headers(ETag='"0123456789abcdef0123456789abcdef"')


def _without_etag(reply: Reply) -> Reply:
    kept = {name: said for name, said in reply.headers.items() if name != "ETag"}
    return replace(reply, headers=kept)


def _length(change: int) -> Callable[[Reply], Reply]:
    """Another Content-Length: too long, and the connection is closed; too short, and cut.

    The close is told: else a client may send its next request there, before it notices.
    """

    def retell(reply: Reply) -> Reply:
        true = int(reply.length) if reply.length is not None else len(reply.body)
        return replace(reply, length=str(true + change)).with_headers(Connection="close")

    return retell


def _listed_sizes(reply: Reply) -> Reply:
    return replace(reply, body=reply.body.replace(b"</Size>", b"1</Size>"))


_ERROR_BODY = error(200, "InternalError")
_SILENT = Reply(is_silent=True, end="hang")
_RESET = Reply(is_silent=True, end="reset")


def _lost_reply(_reply: Reply) -> Reply:
    return Reply(is_silent=True, end="cut")


def _ends(end: str) -> Callable[[Reply], Reply]:
    def retell(reply: Reply) -> Reply:
        return replace(reply, stops_at=len(reply.body) // 2, end=end)  # type: ignore[arg-type]

    return retell


def _drips(reply: Reply) -> Reply:
    return replace(reply, drip_seconds=0.05)  # some 2,000 bytes: six seconds


def _cold_held(change: Callable[[LyingS3, str], object], start: str = COLD_TARGET) -> Strike:
    """Does something to the cold copies whose keys begin so."""

    def strike(server: LyingS3, _world: World) -> None:
        for key in server.buckets.objects(COLD):
            if key.startswith(start):
                change(server, key)

    return strike


_AND_ROTS = _cold_held(lambda server, key: server.buckets.change(COLD, key, _rots(flipped)))
_AND_FORGETS = _cold_held(lambda server, key: server.buckets.remove(COLD, key))
_AND_DAMAGES = _cold_held(lambda server, key: server.buckets.change(COLD, key, _keeps(flipped)))
_HOUR = 3_600.0


def _silence(name: str, tell: Tell) -> Fault:
    return Fault(name=name, tell=tell, timeout_seconds=_SHORT_SECONDS, sweeps_count=1)


COLD_FAULTS = (
    *(
        Fault(
            name=f"keeps {kept}, and says so",
            tell=_on("PutObject", COLD_TARGET, keep=_keeps(by)),
        )
        for kept, by in _DAMAGES.items()
    ),
    Fault(
        name="keeps a flipped bit once, and says so",
        tell=_on("PutObject", COLD_TARGET, keep=_keeps(flipped), times=1),
    ),
    Fault(
        name="keeps a flipped bit, and its ETags are no MD5",
        tell=_on("PutObject", COLD_TARGET, keep=_keeps(flipped)),
        capabilities=_WORDLESS_MD5,
    ),
    *(
        Fault(
            name=f"keeps {kept}, and tells of the right ones",
            tell=_on("PutObject", COLD_TARGET, keep=_rots(by)),
        )
        for kept, by in _DAMAGES.items()
    ),
    Fault(name="keeps nothing", tell=_on("PutObject", COLD_TARGET, keep=lambda _: None)),
    Fault(
        name="keeps nothing of any object",
        tell=_on("PutObject", f"{PREFIX}jobs/", keep=lambda _: None),
        is_about_all=True,
    ),
    Fault(name="says yes to HEAD, no to GET", tell=_on("PutObject", COLD_TARGET, keep=_hides)),
    Fault(
        name="says yes to HEAD, no to GET, of any object",
        tell=_on("PutObject", f"{PREFIX}jobs/", keep=_hides),
        is_about_all=True,
    ),
    Fault(
        name="lists it, and says no to GET",
        tell=_on("PutObject", COLD_TARGET, keep=_hides),
        provider="minio",
    ),
    Fault(
        name="takes it, and denies reading it",
        tell=_on("GetObject", COLD_TARGET, answer=_says(403, "AccessDenied")),
    ),
    Fault(
        name="takes all, and denies reading any",
        tell=_on("GetObject", None, answer=_says(403, "AccessDenied")),
        is_about_all=True,
    ),
    Fault(
        name="answers a put with a wrong ETag", tell=_on("PutObject", COLD_TARGET, retell=_etag)
    ),
    Fault(
        name="answers a put with a wrong ETag, and its ETags are no MD5",
        tell=_on("PutObject", COLD_TARGET, retell=_etag),
        capabilities=_WORDLESS_MD5,
    ),
    Fault(
        name="answers a put with no ETag",
        tell=_on("PutObject", COLD_TARGET, retell=_without_etag),
    ),
    Fault(name="tells a wrong ETag", tell=_on("HeadObject", COLD_TARGET, retell=_etag)),
    Fault(name="tells no ETag", tell=_on("HeadObject", COLD_TARGET, retell=_without_etag)),
    Fault(name="tells a wrong size", tell=_on("HeadObject", COLD_TARGET, retell=_length(1))),
    Fault(
        name="lists wrong sizes",
        tell=_on("ListObjectsV2", None, retell=_listed_sizes),
        provider="minio",
        is_about_all=True,
    ),
    Fault(
        name="announces more bytes than it sends",
        tell=_on("GetObject", COLD_TARGET, retell=_length(100)),
    ),
    Fault(
        name="announces fewer bytes than it sends",
        tell=_on("GetObject", COLD_TARGET, retell=_length(-100)),
    ),
    Fault(
        name="answers a put 200 with an error",
        tell=_on("PutObject", COLD_TARGET, answer=lambda _: _ERROR_BODY),
    ),
    Fault(
        name="answers a put 200 with an error and an ETag",
        tell=_on("PutObject", COLD_TARGET, answer=lambda _: _etag(_ERROR_BODY)),
    ),
    Fault(
        name="answers a read 200 with an error",
        tell=_on("GetObject", COLD_TARGET, answer=lambda _: _etag(_ERROR_BODY)),
    ),
    Fault(
        name="answers a listing 200 with an error",
        tell=_on("ListObjectsV2", None, answer=lambda _: _ERROR_BODY),
        provider="minio",
        is_about_all=True,
    ),
    Fault(
        name="takes bodies that are not what was signed",
        tell=_on("PutObject", None, ignores=("x-amz-content-sha256", "x-amz-checksum-sha256")),
        is_probed=True,
    ),
    Fault(
        name="ignores If-None-Match",
        is_about_all=True,
        tell=_on("PutObject", None, ignores=("if-none-match",)),
        is_probed=True,
    ),
    Fault(
        name="ignores If-None-Match since it was probed",
        tell=_on("PutObject", None, ignores=("if-none-match",)),
    ),
    Fault(
        name="throttles (503 SlowDown)",
        tell=_on("PutObject", COLD_TARGET, answer=_says(503, "SlowDown")),
    ),
    Fault(
        name="throttles (429, Retry-After: 30)",
        tell=_on(
            "PutObject", COLD_TARGET, answer=_says(429, "TooManyRequests", Retry_After="30")
        ),
    ),
    Fault(
        name="throttles (503, Retry-After: 30) what is looked at",
        tell=_on("HeadObject", COLD_TARGET, answer=_says(503, "", Retry_After="30")),
    ),
    Fault(
        name="throttles (400 RequestRateLimitExceeded)",
        tell=_on("PutObject", COLD_TARGET, answer=_says(400, "RequestRateLimitExceeded")),
        provider="other",
    ),
    Fault(
        name="throttles once",
        tell=_on("PutObject", COLD_TARGET, answer=_says(429, "SlowDown"), times=1),
    ),
    Fault(
        name="says that our clock is wrong",
        tell=_on(ANY, None, answer=_says(403, "RequestTimeTooSkewed")),
        is_about_all=True,
    ),
    _silence(
        "is silent when asked to put", _on("PutObject", COLD_TARGET, answer=lambda _: _SILENT)
    ),
    _silence(
        "is silent when asked to read", _on("GetObject", COLD_TARGET, answer=lambda _: _SILENT)
    ),
    _silence("falls silent in mid-body", _on("GetObject", COLD_TARGET, retell=_ends("hang"))),
    _silence("drips", _on("GetObject", COLD_TARGET, retell=_drips)),
    Fault(
        name="resets what is put", tell=_on("PutObject", COLD_TARGET, answer=lambda _: _RESET)
    ),
    Fault(name="cuts its bodies", tell=_on("GetObject", COLD_TARGET, retell=_ends("cut"))),
    Fault(name="resets its bodies", tell=_on("GetObject", COLD_TARGET, retell=_ends("reset"))),
    Fault(
        name="takes it, and its answer is lost",
        tell=_on("PutObject", COLD_TARGET, retell=_lost_reply, times=1),
    ),
    Fault(
        name="keeps a flipped bit, and its answer is lost",
        tell=_on("PutObject", COLD_TARGET, keep=_rots(flipped), retell=_lost_reply, times=1),
    ),
    # What is damaged after it was checked:
    Fault(name="forgets it after the proof", at_record=_AND_FORGETS),
    Fault(name="lets it rot after the proof", at_record=_AND_ROTS),
    Fault(
        name="lets the smallest one rot after the proof",
        at_record=_cold_held(
            lambda server, key: server.buckets.change(COLD, key, _rots(flipped)),
            f"{PREFIX}jobs/{SMALLEST}.",
        ),
        is_about_all=True,
    ),
    Fault(name="forgets it within the grace", at_record=_AND_FORGETS, grace_seconds=_HOUR),
    Fault(name="damages it within the grace", at_record=_AND_DAMAGES, grace_seconds=_HOUR),
    Fault(
        name="lets it rot within the grace, and tells of the right bytes",
        at_record=_AND_ROTS,
        grace_seconds=_HOUR,
    ),
)


def _hot_gives(damage: Callable[[bytes], bytes]) -> Callable[[Reply], Reply]:
    return lambda reply: replace(reply, body=damage(reply.body))


def _writes_over(server: LyingS3, world: World) -> None:
    """The application writes over the object, and the store goes on to tell of the old one."""
    location = at(TARGET)
    server.buckets.change(HOT, location.path, lambda held: held.rotten(swapped))
    version = world._versions[location]
    world._versions[location] = replace(version, body=swapped(version.body))


def _deletes_nothing(asked: Asked) -> Reply:
    keys = re.findall(r"<Key>[^<]*</Key>", asked.body.decode())
    return xml(
        f"<DeleteResult>{''.join(f'<Deleted>{it}</Deleted>' for it in keys)}</DeleteResult>"
    )


HOT_FAULTS = (
    *(
        Fault(
            name=f"gives {given}",
            tell=_on("GetObject", HOT_TARGET, retell=_hot_gives(by)),
        )
        for given, by in _DAMAGES.items()
    ),
    Fault(
        name="gives a flipped bit to a row without a digest",
        tell=_on("GetObject", HOT_TARGET, retell=_hot_gives(flipped)),
        promises=False,
    ),
    Fault(
        name="gives half of the bytes to a row without a digest",
        tell=_on("GetObject", HOT_TARGET, retell=_hot_gives(truncated)),
        promises=False,
    ),
    Fault(
        name="announces more bytes than it sends",
        tell=_on("GetObject", HOT_TARGET, retell=_length(100)),
    ),
    Fault(
        name="announces fewer bytes than it sends",
        tell=_on("GetObject", HOT_TARGET, retell=_length(-100)),
    ),
    Fault(
        name="answers a read 200 with an error",
        tell=_on(
            "GetObject",
            HOT_TARGET,
            answer=lambda _: _etag(_ERROR_BODY).with_headers(
                Last_Modified="Sat, 21 Nov 2026 10:00:00 GMT"
            ),
        ),
    ),
    Fault(name="tells a wrong ETag when read", tell=_on("GetObject", HOT_TARGET, retell=_etag)),
    Fault(
        name="tells no ETag when read", tell=_on("GetObject", HOT_TARGET, retell=_without_etag)
    ),
    Fault(
        name="tells a wrong ETag before the delete",
        tell=_on("HeadObject", HOT_TARGET, retell=_etag),
    ),
    Fault(
        name="tells a wrong size before the delete",
        tell=_on("HeadObject", HOT_TARGET, retell=_length(1)),
    ),
    Fault(
        name="says no to GET, though it is there",
        tell=_on("GetObject", HOT_TARGET, answer=_says(404, "NoSuchKey")),
    ),
    Fault(
        name="denies reading it",
        tell=_on("GetObject", HOT_TARGET, answer=_says(403, "AccessDenied")),
    ),
    Fault(
        name="denies reading any",
        tell=_all(
            _on("GetObject", None, answer=_says(403, "AccessDenied")),
            _on("HeadBucket", None, answer=lambda _: Reply(403)),
            _on("ListObjectsV2", None, answer=_says(403, "AccessDenied")),
        ),
        is_about_all=True,
    ),
    Fault(
        name="says no before the delete, though it is there",
        tell=_on("HeadObject", HOT_TARGET, answer=lambda _: Reply(404)),
    ),
    Fault(
        name="says that it deleted, and did not",
        tell=_on("DeleteObjects", None, answer=_deletes_nothing),
        is_about_all=True,
    ),
    Fault(
        name="answers a delete 200 with an error",
        tell=_on("DeleteObjects", None, answer=lambda _: _ERROR_BODY),
        is_about_all=True,
    ),
    Fault(
        name="deletes, and its answer is lost",
        tell=_on("DeleteObjects", None, retell=_lost_reply, times=1),
    ),
    Fault(
        name="goes on to tell of the old object when it was written over",
        at_record=_writes_over,
    ),
    Fault(
        name="throttles (503 SlowDown)",
        tell=_on("GetObject", HOT_TARGET, answer=_says(503, "SlowDown")),
    ),
    Fault(
        name="throttles (400 RequestRateLimitExceeded)",
        tell=_on("GetObject", HOT_TARGET, answer=_says(400, "RequestRateLimitExceeded")),
    ),
    Fault(
        name="says that our clock is wrong",
        tell=_on(ANY, None, answer=_says(403, "RequestTimeTooSkewed")),
        is_about_all=True,
    ),
    _silence(
        "is silent when asked to read", _on("GetObject", HOT_TARGET, answer=lambda _: _SILENT)
    ),
    _silence("falls silent in mid-body", _on("GetObject", HOT_TARGET, retell=_ends("hang"))),
    _silence("drips", _on("GetObject", HOT_TARGET, retell=_drips)),
    Fault(name="cuts its bodies", tell=_on("GetObject", HOT_TARGET, retell=_ends("cut"))),
    Fault(name="resets its bodies", tell=_on("GetObject", HOT_TARGET, retell=_ends("reset"))),
)


def _of_parts(name: str, tell: Tell, **more: object) -> Fault:
    return Fault(name=name, tell=tell, in_parts=True, **more)  # type: ignore[arg-type]


def _says_error(_reply: Reply) -> Reply:
    return _ERROR_BODY


def _listed(change: Callable[[bytes], bytes]) -> Callable[[Reply], Reply]:
    return lambda reply: replace(reply, body=change(reply.body))


def _without_last_part(body: bytes) -> bytes:
    return re.sub(rb"<Part>(?!.*<Part>).*?</Part>", b"", body)


def _with_another_part(body: bytes) -> bytes:
    more = b"<Part><PartNumber>9</PartNumber><ETag>&quot;9&quot;</ETag><Size>9</Size></Part>"
    return body.replace(b"</ListPartsResult>", more + b"</ListPartsResult>")


def _other_sizes(body: bytes) -> bytes:
    return body.replace(b"</Size>", b"1</Size>")


def _never_ending(body: bytes) -> bytes:
    return body.replace(b"<IsTruncated>false", b"<IsTruncated>true")


def _without_uploads(body: bytes) -> bytes:
    return re.sub(rb"<Upload>.*</Upload>", b"", body)


def _other_etag(body: bytes) -> bytes:
    return re.sub(rb"<ETag>.*</ETag>", b"<ETag>&quot;0123-3&quot;</ETag>", body)


def _whole_instead(reply: Reply) -> Reply:
    """200 and a body of the length of the range, from somewhere: the range is not looked at."""
    headers = {name: it for name, it in reply.headers.items() if name != "Content-Range"}
    return replace(reply, status=200, headers=headers)


def _another_range(reply: Reply) -> Reply:
    said = re.sub(r"bytes (\d+)", lambda it: f"bytes {int(it[1]) + 1}", _range_of(reply))
    return replace(reply, headers={**reply.headers, "Content-Range": said})


def _range_of(reply: Reply) -> str:
    return reply.headers.get("Content-Range", "")


PART_FAULTS = (
    *(
        _of_parts(
            f"keeps {kept} of each part, and says so",
            _on("UploadPart", COLD_TARGET, keep=_keeps(by)),
        )
        for kept, by in _DAMAGES.items()
    ),
    *(
        _of_parts(
            f"keeps {kept} of each part, and tells of the right ones",
            _on("UploadPart", COLD_TARGET, keep=_rots(by)),
        )
        for kept, by in _DAMAGES.items()
    ),
    _of_parts(
        "keeps a flipped bit of one part once, and tells of the right one",
        _on("UploadPart", COLD_TARGET, keep=_rots(flipped), times=1),
    ),
    _of_parts("keeps no part", _on("UploadPart", COLD_TARGET, keep=lambda _: None)),
    _of_parts("loses one part", _on("UploadPart", COLD_TARGET, keep=lambda _: None, times=1)),
    _of_parts("answers a part with a wrong ETag", _on("UploadPart", COLD_TARGET, retell=_etag)),
    _of_parts(
        "answers a part with no ETag", _on("UploadPart", COLD_TARGET, retell=_without_etag)
    ),
    _of_parts(
        "answers a part 200 with an error",
        _on("UploadPart", COLD_TARGET, answer=lambda _: _ERROR_BODY),
    ),
    _of_parts(
        "takes a part, and its answer is lost",
        _on("UploadPart", COLD_TARGET, retell=_lost_reply, times=1),
    ),
    _of_parts(
        "throttles parts (503 SlowDown)",
        _on("UploadPart", COLD_TARGET, answer=_says(503, "SlowDown")),
    ),
    _of_parts(
        "begins an upload, and its answer is lost",
        _on("CreateMultipartUpload", COLD_TARGET, retell=_lost_reply, times=1),
    ),
    _of_parts(
        "answers the begin 200 with an error",
        _on("CreateMultipartUpload", COLD_TARGET, answer=lambda _: _ERROR_BODY),
    ),
    _of_parts(
        "forgets the upload once it was begun",
        _on("UploadPart", COLD_TARGET, answer=_says(404, "NoSuchUpload")),
    ),
    _of_parts(
        "leaves a part out when it lists them",
        _on("ListParts", COLD_TARGET, retell=_listed(_without_last_part)),
    ),
    _of_parts(
        "adds a part when it lists them",
        _on("ListParts", COLD_TARGET, retell=_listed(_with_another_part)),
    ),
    _of_parts(
        "lists parts with wrong sizes",
        _on("ListParts", COLD_TARGET, retell=_listed(_other_sizes)),
    ),
    _of_parts(
        "lists parts without an end",
        _on("ListParts", COLD_TARGET, retell=_listed(_never_ending)),
    ),
    _of_parts(
        "lists no upload, though one is open",
        _all(
            _on("CreateMultipartUpload", COLD_TARGET, retell=_lost_reply, times=1),
            _on("ListMultipartUploads", None, retell=_listed(_without_uploads)),
        ),
        is_leaky=True,
    ),
    _of_parts(
        "completes, and its answer is lost",
        _on("CompleteMultipartUpload", COLD_TARGET, retell=_lost_reply, times=1),
    ),
    _of_parts(
        "answers the complete 200 with an error",
        _on("CompleteMultipartUpload", COLD_TARGET, answer=lambda _: _ERROR_BODY),
    ),
    _of_parts(
        "completes, and answers 200 with an error",
        _on("CompleteMultipartUpload", COLD_TARGET, retell=_says_error),
    ),
    _of_parts(
        "completes, and keeps nothing",
        _on("CompleteMultipartUpload", COLD_TARGET, keep=lambda _: None),
    ),
    _of_parts(
        "completes with a flipped bit, and tells of the right bytes",
        _on("CompleteMultipartUpload", COLD_TARGET, keep=_rots(flipped)),
    ),
    _of_parts(
        "completes with half of the bytes, and says so",
        _on("CompleteMultipartUpload", COLD_TARGET, keep=_keeps(truncated)),
    ),
    _of_parts(
        "answers the complete with a wrong ETag",
        _on("CompleteMultipartUpload", COLD_TARGET, retell=_listed(_other_etag)),
    ),
    _of_parts(
        "ignores If-None-Match at the complete",
        _on("CompleteMultipartUpload", None, ignores=("if-none-match",)),
    ),
    _of_parts(
        "says that it aborted, and did not",
        _all(
            _on("CreateMultipartUpload", COLD_TARGET, retell=_lost_reply, times=1),
            _on("AbortMultipartUpload", COLD_TARGET, answer=lambda _: Reply(204)),
        ),
        is_leaky=True,
    ),
    _of_parts(
        "answers a range 200 with the bytes of the range",
        _on("GetObject", COLD_TARGET, retell=_whole_instead),
    ),
    _of_parts(
        "answers a range with another one",
        _on("GetObject", COLD_TARGET, retell=_another_range),
    ),
    _of_parts(
        "answers a range with fewer bytes",
        _on("GetObject", COLD_TARGET, retell=_hot_gives(truncated)),
    ),
    _of_parts(
        "answers a range with another object's bytes under the old ETag",
        _on("GetObject", COLD_TARGET, retell=_hot_gives(swapped)),
    ),
)
