"""Hot stores and objects that are not as they should be: told, kept, and not in the way.

Beside each bad object stands a good one, which is archived in the same run. Nothing is lost,
and when the cause is mended the bad one is archived too.
"""

from __future__ import annotations

import gzip
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import pytest

from tests.harness.hover import BUCKET
from tests.harness.s3_front import refuse, refuse_all
from tests.harness.scene import client_of

if TYPE_CHECKING:
    from tests.harness.command import Ran
    from tests.harness.hover import Page
    from tests.harness.scene import Scene

NO_RETRIES = {"ARCHIVE_RETRY_BASE": "1h", "ARCHIVE_RETRY_MAX": "1h", "ARCHIVE_ONCE_WAIT": "0s"}
HTML = b"<html>a page</html>"


def told(status: str, code: str, error: str, message: str) -> dict[str, str]:
    """A refusal as Supabase words it."""
    return {"statusCode": status, "code": code, "error": error, "message": message}


MISSING = told("404", "NoSuchKey", "not_found", "Object not found")
DENIED = told("403", "AccessDenied", "Unauthorized", "new row violates row-level security")
BROKEN = told("500", "InternalError", "Internal", "an internal error")


# --- answers of the store ---------------------------------------------------------------


@dataclass(frozen=True)
class Bad:
    """What the store does with one object, and what becomes of that."""

    name: str
    ends: Literal["parked", "waiting"]
    says: str
    fault: dict[str, Any] = field(repr=False)


BAD_ANSWERS = [
    Bad(
        "missing, by 404", "parked", "There is no such object", {"status": 404, "body": MISSING}
    ),
    Bad(
        "missing, by 400", "parked", "There is no such object", {"status": 400, "body": MISSING}
    ),
    Bad("denied", "parked", "The store refuses this object", {"status": 400, "body": DENIED}),
    Bad("a proxy's 404", "waiting", "code=http 404", {"status": 404, "body": b"not found"}),
    Bad("500", "waiting", "code=InternalError", {"status": 500, "body": BROKEN}),
    Bad("503", "waiting", "code=http 503", {"status": 503, "body": b"busy"}),
    Bad("silence", "waiting", "code=timeout", {"hang": True}),
    Bad("cut", "waiting", "code=cut", {"cut_after_bytes": 10}),
    Bad("reset", "waiting", "code=connection", {"reset": True}),
]


@pytest.mark.parametrize(
    ("bad", "has_company"),
    [
        *((bad, True) for bad in BAD_ANSWERS),
        # Alone it has no control, and is the last thing of the sweep to come home.
        *(
            (bad, False)
            for bad in BAD_ANSWERS
            if bad.name in {"missing, by 400", "denied", "500"}
        ),
    ],
    ids=lambda it: it.name if isinstance(it, Bad) else ("beside a good one" if it else "alone"),
)
def test_an_object_the_store_does_not_give_stays_as_it_is(
    scene: Scene, bad: Bad, *, has_company: bool
) -> None:
    page = scene.due_page()
    company = [scene.due_page()] if has_company else []
    scene.hot.on("get", page.path, **bad.fault)

    ran = scene.once(**NO_RETRIES, ARCHIVE_TIMEOUT="1s")

    assert ran.exit_code == 1
    assert ran.summary[bad.ends] == 1
    assert ran.summary["archived"] == len(company)
    assert bad.says in ran.stderr
    assert scene.is_untouched(page)
    assert scene.hot_body(page) == page.body
    assert all(scene.is_archived(good) for good in company)
    assert [] == scene.lost()
    assert set(scene.parked()) == ({page.task_id} if bad.ends == "parked" else set())

    scene.hot.verify_all_fired()  # and from now on the store gives it
    scene.run("retry", "--all")
    scene.make_due()
    assert scene.once().summary["archived"] == 1
    assert scene.is_archived(page)
    assert [] == scene.lost()


# --- the whole store --------------------------------------------------------------------


@pytest.mark.parametrize(
    "keys",
    [
        {"SUPABASE_SERVICE_ROLE_KEY": "wrong"},  # the gateway does not know it
        {  # only the store behind the gateway knows better
            "SUPABASE_SERVICE_ROLE_KEY": "wrong",
            "SUPABASE_PUBLISHABLE_KEY": "publishable-key-of-the-stand-in",
        },
    ],
    ids=["apikey", "token"],
)
def test_a_wrong_hot_key_stops_the_sweep(scene: Scene, keys: dict[str, str]) -> None:
    pages = [scene.due_page() for _ in range(3)]

    ran = scene.once(**keys)

    assert ran.exit_code == 3
    assert "A store refuses these credentials: store=hot" in ran.summary["error"]
    assert "SUPABASE_SERVICE_ROLE_KEY" in ran.summary["error"]
    assert all(scene.is_untouched(page) for page in pages)
    assert {} == scene.parked()
    assert [] == scene.lost()
    assert scene.once().summary["archived"] == 3  # nothing is held back by it


def test_a_missing_hot_bucket_stops_the_sweep_and_parks_nothing(scene: Scene) -> None:
    page = scene.hover.page(scene.hover.job(scene.domain), html_storage_bucket="renamed")

    ran = scene.once()

    assert ran.exit_code == 3
    assert "There is no such bucket: store=hot bucket=renamed" in ran.summary["error"]
    assert scene.is_untouched(page)
    assert {} == scene.parked()


def test_a_hot_store_that_is_down_is_left_alone_until_the_next_run(scene: Scene) -> None:
    pages = [scene.due_page() for _ in range(20)]
    fault = scene.hot.on("any", times=None, status=500, body=BROKEN)

    ran = scene.once(**NO_RETRIES)

    assert ran.exit_code == 1
    assert ran.summary["stopped"] == "failures"
    assert "store breaker opened" in ran.stderr
    assert all(scene.is_untouched(page) for page in pages)

    fault.times = fault.fired_count  # it is back
    assert scene.once().summary["archived"] == 20  # no attempt was counted, none has to wait
    assert [] == scene.lost()


def test_a_verdict_whose_bucket_cannot_be_asked_is_no_verdict(scene: Scene) -> None:
    """A 404 for an object, and nobody to say that its bucket is there and ours."""
    page = scene.due_page()
    scene.hot.on("get", page.path, times=None, status=400, body=MISSING)
    silent = scene.hot.on("bucket", times=None, status=500, body=BROKEN)

    ran = scene.once(**NO_RETRIES)

    assert (ran.exit_code, ran.summary["stopped"]) == (1, "failures")
    assert scene.is_untouched(page)
    assert {} == scene.parked()

    silent.times = silent.fired_count + 2  # it answers again while the sweep is patient
    ran = scene.once(ARCHIVE_RETRY_MAX="10ms", ARCHIVE_ONCE_WAIT="20s")
    assert (ran.exit_code, ran.summary["parked"]) == (1, 1)
    assert scene.is_untouched(page)
    assert [] == scene.lost()


# --- bytes ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "columns", "says"),
    [
        (HTML + b"!", {"html_compressed_size_bytes": None}, "bytes that are not gzip"),
        (
            gzip.compress(HTML, mtime=0)[:-6],
            {"html_compressed_size_bytes": None},
            "the gzip stream ends early",
        ),
        (None, {"html_sha256": "0" * 64}, "does not have the content digest its row promises"),
        (None, {"html_compressed_size_bytes": 1}, "does not have the size its row promises"),
        (b"", {}, "does not have the size its row promises"),
        (b"", {"html_compressed_size_bytes": None}, "bytes that are not gzip"),
    ],
    ids=["not gzip", "cut gzip", "digest", "size", "empty, sized", "empty, digested"],
)
def test_an_object_that_is_not_what_its_row_promises_is_parked_untouched(
    scene: Scene, body: bytes | None, columns: dict[str, Any], says: str
) -> None:
    page, good = scene.due_page(HTML, **columns), scene.due_page()
    if body is not None:
        scene.plant(page, body)

    ran = scene.once()

    assert ran.exit_code == 1
    assert (ran.summary["parked"], ran.summary["archived"]) == (1, 1)
    reason = scene.parked()[page.task_id]
    assert says in reason
    assert "The hot copy is untouched. Mend the row or the object" in reason
    assert scene.is_untouched(page)
    assert scene.is_archived(good)
    assert [] == scene.lost()

    scene.plant(page, page.body)
    mended = {"html_compressed_size_bytes": len(page.body), "html_sha256": None}
    scene.hover.update("tasks", page.task_id, **mended)  # a changed row needs no `retry`
    assert scene.once().summary["archived"] == 1
    assert [] == scene.lost()


def test_an_empty_object_of_which_nothing_is_promised_is_archived(scene: Scene) -> None:
    page = scene.due_page(html_compressed_size_bytes=None, html_sha256=None)
    scene.plant(page, b"")

    ran = scene.once()

    assert (ran.exit_code, ran.summary["archived"], ran.summary["released"]) == (0, 1, 1)
    assert scene.cold_body(page.cold_key) == b""
    assert [] == scene.lost()


def test_a_row_with_an_unreadable_digest_is_parked_with_what_it_says(scene: Scene) -> None:
    page = scene.due_page(html_sha256="abc")

    assert scene.once().exit_code == 1
    assert "content_digest: not a SHA-256 in hex: 'abc'" in scene.parked()[page.task_id]
    assert [] == scene.lost()


# --- names ------------------------------------------------------------------------------

AWKWARD_IDS = [
    "a/b", "a%2Fb", "a%252Fb", "..", ".", "../up", " space ", "q?x=1#y", "ünï", "\u0437\u0430",
    "e\u0301", "\u00e9", "new\nline", "tab\t", "back\\slash", "{id}", "'; drop table tasks; --",
]  # fmt: skip


def test_awkward_ids_are_archived_under_keys_of_their_own(scene: Scene) -> None:
    job = scene.hover.job(scene.domain, id="job/../ %2F\n?#\u00fc")
    pages = [
        scene.page(job, id=id_, html_storage_path=f"pages/{number}.html.gz")
        for number, id_ in enumerate(AWKWARD_IDS)
    ]

    ran = scene.once()

    assert (ran.exit_code, ran.summary["archived"]) == (0, len(pages))
    keys = {scene.row(page)["html_archive_key"] for page in pages}
    assert len(keys) == len(pages)
    assert all(key.isascii() and key.count("/") == 4 for key in keys)
    assert [] == scene.lost()
    shown = scene.run("show", "new\nline").stdout
    assert "pages/12.html.gz" in shown
    assert "%0A" in shown


@pytest.mark.parametrize("path", ["a/../../other/secret", "a/./b", "a//../b"])
def test_a_hot_path_no_url_can_carry_is_parked_and_reaches_nothing_else(
    scene: Scene, path: str
) -> None:
    page = scene.due_page(html_storage_path=path)
    scene.hot.plant("other", "secret", b"of somebody else")

    ran = scene.once()

    assert (ran.exit_code, ran.summary["parked"]) == (1, 1)
    assert "cannot hold an object of this name" in scene.parked()[page.task_id]
    assert scene.hot.peek("other", "secret") == b"of somebody else"
    assert [] == scene.lost()


def test_hot_paths_with_awkward_letters_are_read_and_deleted_as_they_are(scene: Scene) -> None:
    paths = ["with space", "per%2Fcent", "q?uestion#hash", "ünï", "plus+plus", "new\nline"]
    pages = [scene.due_page(html_storage_path=path) for path in paths]
    neighbours = ["with%20space", "per/cent", "q", "plus plus"]
    for name in neighbours:
        scene.hot.plant(BUCKET, name, b"a neighbour")

    ran = scene.once()

    assert (ran.exit_code, ran.summary["released"]) == (0, len(pages))
    assert sorted(neighbours) == scene.hot.names(BUCKET)
    assert [] == scene.lost()


def test_two_rows_whose_keys_collide_keep_both_their_bytes(scene: Scene) -> None:
    """The second finds the key taken by other bytes, and gets one with its digest."""
    job = scene.hover.job(scene.domain)
    first = scene.page(job, b"<html>first</html>")
    assert scene.once().exit_code == 0
    second = scene.hover.capture_again(first, b"<html>second</html>")
    taken = scene.cold_body(first.cold_key)
    scene.plant(second, second.body)

    assert scene.once().exit_code == 0
    key = scene.row(second)["html_archive_key"]
    assert key != first.cold_key
    assert scene.cold_body(key) == second.body
    assert scene.cold_body(first.cold_key) == taken == first.body
    assert [] == scene.lost()


def test_two_rows_of_one_hot_object_both_keep_it(scene: Scene) -> None:
    job = scene.hover.job(scene.domain)
    one = scene.page(job, HTML, html_storage_path="shared")
    other = scene.page(job, HTML, html_storage_path="shared")

    assert scene.once().exit_code == 0
    assert scene.hot_body(one) is None
    assert scene.cold_body(one.cold_key) == scene.cold_body(other.cold_key) == one.body
    assert [] == scene.lost()


# --- the same on S3 ---------------------------------------------------------------------


def s3_ran(scene: Scene, pages: list[Page]) -> Ran:
    """A run after which nothing is lost and these pages are as they were."""
    ran = scene.once(**NO_RETRIES)
    assert all(scene.is_untouched(page) for page in pages)
    assert [] == scene.lost()
    return ran


def test_a_missing_key_that_s3_calls_denied_is_parked_with_what_to_grant(
    hot_s3_scene: Scene,
) -> None:
    """Without s3:ListBucket, AWS answers 403 for a key that is not there."""
    scene = hot_s3_scene
    good = scene.due_page()
    gone = scene.hover.page(scene.hover.job(scene.domain))
    refuses_gone = refuse("GET", "HEAD", status=403, code="AccessDenied", key=gone.path)
    refuses_lists = refuse("GET", "HEAD", status=403, code="AccessDenied", key="")
    assert scene.hot_front is not None
    scene.hot_front.rule = lambda asked: refuses_gone(asked) or refuses_lists(asked)

    ran = s3_ran(scene, [gone])

    assert (ran.exit_code, ran.summary["archived"], ran.summary["parked"]) == (1, 1, 1)
    assert "grant s3:ListBucket" in scene.parked()[gone.task_id]
    assert scene.is_archived(good)


@pytest.mark.parametrize(
    ("status", "code", "says"),
    [
        (403, "AccessDenied", "A store refuses these credentials: store=hot"),
        (403, "SignatureDoesNotMatch", "A store refuses these credentials: store=hot"),
        (403, "InvalidAccessKeyId", "A store refuses these credentials: store=hot"),
        (404, "NoSuchBucket", f"There is no such bucket: store=hot bucket={BUCKET}"),
    ],
)
def test_an_s3_hot_store_that_refuses_everything_stops_the_sweep(
    hot_s3_scene: Scene, status: int, code: str, says: str
) -> None:
    scene = hot_s3_scene
    pages = [scene.due_page() for _ in range(3)]
    assert scene.hot_front is not None
    scene.hot_front.rule = refuse_all(status, code)

    ran = s3_ran(scene, pages)

    assert ran.exit_code == 3
    assert says in ran.summary["error"]
    assert {} == scene.parked()


def test_an_object_that_is_missing_from_s3_is_parked(hot_s3_scene: Scene) -> None:
    scene = hot_s3_scene
    page = scene.hover.page(scene.hover.job(scene.domain))

    ran = s3_ran(scene, [page])

    assert (ran.exit_code, ran.summary["parked"]) == (1, 1)
    assert "There is no such object" in scene.parked()[page.task_id]


def test_a_sweep_from_s3_leaves_no_archived_object_hot(hot_s3_scene: Scene) -> None:
    scene = hot_s3_scene
    pages = [scene.due_page() for _ in range(5)]

    assert scene.once().summary["released"] == 5
    assert all(scene.hot_body(page) is None for page in pages)
    assert [] == scene.lost()
    assert scene.hot_front is not None
    left = client_of(scene.hot_front.behind).list_objects_v2(Bucket=BUCKET)
    assert left["KeyCount"] == 0
