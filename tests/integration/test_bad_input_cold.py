"""Cold stores that cannot be used, or not wholly: told, and no hot copy is let go."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest

from tests.harness.s3_front import Asked, Refusal, refuse, refuse_all

if TYPE_CHECKING:
    from tests.harness.hover import Page
    from tests.harness.scene import Scene

NO_RETRIES = {"ARCHIVE_RETRY_BASE": "1h", "ARCHIVE_RETRY_MAX": "1h", "ARCHIVE_ONCE_WAIT": "0s"}


def is_as_it_was(scene: Scene, page: Page) -> bool:
    return (
        scene.is_untouched(page)
        and scene.hot_body(page) == page.body
        and scene.receipts_count() == 0
        and scene.parked() == {}
    )


def of_objects(asked: Asked) -> bool:
    """It is about an archived object, not about the probe's own."""
    return asked.key.startswith("jobs/")


@pytest.mark.parametrize("kind", ["file", "s3"])
def test_a_missing_cold_bucket_is_named(kind: str, request: pytest.FixtureRequest) -> None:
    scene: Scene = request.getfixturevalue("s3_scene" if kind == "s3" else "scene")
    page = scene.due_page()

    ran = scene.once(ARCHIVE_BUCKET="nowhere")

    assert ran.exit_code == 3
    assert "There is no such bucket: store=cold" in ran.summary["error"]
    assert "nowhere. Create it, or correct its name" in ran.summary["error"]
    assert is_as_it_was(scene, page)
    assert scene.once().summary["archived"] == 1


@pytest.mark.parametrize(
    "code", ["InvalidAccessKeyId", "SignatureDoesNotMatch", "AccessDenied"]
)
def test_wrong_cold_keys_are_told_without_being_shown(s3_scene: Scene, code: str) -> None:
    scene = s3_scene
    page = scene.due_page()
    assert scene.front is not None
    scene.front.rule = refuse_all(403, code)

    ran = scene.once(ARCHIVE_SECRET_ACCESS_KEY="a-wrong-secret")

    assert ran.exit_code == 3
    assert "A store refuses these credentials: store=cold" in ran.summary["error"]
    assert code in ran.summary["error"]
    assert "ARCHIVE_SECRET_ACCESS_KEY" in ran.summary["error"]
    assert "a-wrong-secret" not in ran.stdout + ran.stderr
    assert is_as_it_was(scene, page)


def test_keys_that_may_not_write_are_told_though_the_probe_once_could(s3_scene: Scene) -> None:
    scene = s3_scene
    first = scene.due_page()
    assert scene.once().summary["archived"] == 1  # the finding of the probe is remembered
    page = scene.due_page()
    assert scene.front is not None
    scene.front.rule = refuse("PUT", status=403, code="AccessDenied")

    ran = scene.once()

    assert ran.exit_code == 3
    assert "store=cold operation=create" in ran.summary["error"]
    assert scene.is_untouched(page)
    assert scene.is_archived(first)
    assert [] == scene.lost()


@pytest.mark.parametrize("evidence", ["readback", "signed"])
def test_a_store_we_may_write_but_not_read_costs_no_byte(
    s3_scene: Scene, evidence: str
) -> None:
    """At `readback` no row is flipped; at `signed` the canary keeps every hot copy."""
    scene = s3_scene
    pages = [scene.due_page() for _ in range(3)]
    assert scene.front is not None

    def rule(asked: Asked) -> Refusal | None:
        if evidence == "signed" and has_other_digest(asked):
            return Refusal(400, "XAmzContentSHA256Mismatch")
        if of_objects(asked) and asked.method == "GET":
            return Refusal(403, "AccessDenied")
        return None

    scene.front.rule = rule
    ran = scene.once(ARCHIVE_EVIDENCE=evidence)

    assert ran.exit_code == 3
    assert ran.summary["released"] == 0
    assert all(scene.hot_body(page) == page.body for page in pages)
    if evidence == "readback":
        assert "A store refuses these credentials: store=cold" in ran.summary["error"]
        assert all(scene.is_untouched(page) for page in pages)
    else:
        assert "could not be read back, so no hot copy is deleted" in ran.summary["error"]
        assert "Give the key read access to the cold bucket" in ran.summary["error"]
        assert ran.summary["archived"] == 3
    assert [] == scene.lost()

    scene.front.rule = lambda _: None
    assert scene.once().summary["released"] == 3
    assert [] == scene.lost()


def has_other_digest(asked: Asked) -> bool:
    """What a store that checks signatures would refuse: the body is not what was signed."""
    signed = asked.headers.get("x-amz-content-sha256", "")
    return asked.method == "PUT" and signed != hashlib.sha256(asked.body).hexdigest()


def test_a_store_that_may_not_be_looked_at_flips_no_row(s3_scene: Scene) -> None:
    scene = s3_scene
    page = scene.due_page()
    assert scene.front is not None
    scene.front.rule = refuse("GET", "HEAD", status=403, code="AccessDenied")

    ran = scene.once()

    assert ran.exit_code == 3
    assert "A store refuses these credentials: store=cold" in ran.summary["error"]
    assert is_as_it_was(scene, page)


def test_a_damaged_cold_copy_is_never_a_reason_to_let_go(s3_scene: Scene) -> None:
    """Read back, it is not what was sent: tried three times, then parked."""
    scene = s3_scene
    page = scene.due_page()
    assert scene.front is not None
    scene.front.damages = of_objects

    ran = scene.once()

    assert ran.exit_code == 1
    assert (ran.summary["archived"], ran.summary["parked"]) == (0, 1)
    assert is_hot(scene, page)
    assert "The cold store does not hold the bytes that were sent" in ran.stderr


def is_hot(scene: Scene, page: Page) -> bool:
    return scene.is_untouched(page) and scene.hot_body(page) == page.body


def test_a_cold_store_that_fails_on_one_object_lets_the_others_pass(s3_scene: Scene) -> None:
    scene = s3_scene
    bad, *good = [scene.due_page() for _ in range(4)]
    assert scene.front is not None
    scene.front.rule = lambda asked: (
        Refusal(500, "InternalError") if bad.task_id in asked.key else None
    )

    ran = scene.once(**NO_RETRIES)

    assert (ran.exit_code, ran.summary["archived"], ran.summary["waiting"]) == (1, 3, 1)
    assert "store=cold operation=create code=InternalError" in ran.stderr
    assert is_hot(scene, bad)
    assert all(scene.is_archived(page) for page in good)
    assert [] == scene.lost()
