"""Whole sweeps that outlast their credentials: a role's, refreshed on the way.

The lives are seconds long here, where those of AWS are a quarter of an hour at least: so
botocore would ask for others each time it is asked itself.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from archiver.stores import s3_chain
from tests.fakes.scripted_http import ScriptedHttp
from tests.harness.issuer import SECRET, Issuer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.harness.command import Ran
    from tests.harness.s3_front import Asked, Refusal
    from tests.harness.scene import Scene

LIFETIME_SECONDS = 4.0
KEEP_SECONDS = 0.5  # so what is used has 3.5 s left at least
PAGES = 24
THREADS = 4
PUT_SECONDS = 1.4  # so a sweep takes more than two lives

CLIENTS = pytest.mark.parametrize("client", ["obstore", "boto3"])


@pytest.fixture
def roles(s3_scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    """A scene without keys, and nothing of this machine's own chain."""
    monkeypatch.setattr(s3_chain, "_KEEP_SECONDS", KEEP_SECONDS)
    for name in ("ARCHIVE_ACCESS_KEY_ID", "ARCHIVE_SECRET_ACCESS_KEY"):
        del s3_scene.settings[name]
    s3_scene.settings |= {
        "ARCHIVE_PROVIDER": "s3",
        "ARCHIVE_REGION": "us-east-1",
        "ARCHIVE_CONCURRENCY": str(THREADS),
        "ARCHIVE_LOG_LEVEL": "debug",
        "AWS_CONFIG_FILE": str(tmp_path / "config"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "credentials"),
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    return s3_scene


def sweep(scene: Scene, issuer: Issuer, client: str, pages_count: int = PAGES) -> Ran:
    """Move pages slowly into a store that believes the issuer alone."""
    assert scene.front is not None
    scene.front.rule = slowly(issuer.judge)
    for _ in range(pages_count):
        scene.due_page()
    return scene.once(ARCHIVE_S3_CLIENT=client)


def slowly(judge: Callable[[Asked], Refusal | None]) -> Callable[[Asked], Refusal | None]:
    def rule(asked: Asked) -> Refusal | None:
        refusal = judge(asked)
        if asked.method == "PUT" and "/tasks/" in asked.key:
            time.sleep(PUT_SECONDS)
        return refusal

    return rule


def assert_all_moved(scene: Scene, ran: Ran, pages_count: int = PAGES) -> None:
    assert ran.exit_code == 0, ran.stderr
    summary = ran.summary
    assert (summary["archived"], summary["released"]) == (pages_count, pages_count)
    assert (summary["waiting"], summary["parked"]) == (0, 0)
    assert scene.lost() == []
    for secret in (SECRET, "sentinel-token"):
        assert secret not in ran.stdout + ran.stderr


@CLIENTS
def test_container_credentials_that_expire_in_mid_sweep_are_refreshed(
    roles: Scene, client: str
) -> None:
    issuer = Issuer(LIFETIME_SECONDS)
    began_at = time.monotonic()
    with ScriptedHttp(issuer.container) as endpoint:
        roles.settings["AWS_CONTAINER_CREDENTIALS_FULL_URI"] = f"{endpoint.url}/role"
        ran = sweep(roles, issuer, client)
        asked_count = len(endpoint.requests)
    took_seconds = time.monotonic() - began_at

    assert_all_moved(roles, ran)
    assert took_seconds > 2 * LIFETIME_SECONDS
    assert len(issuer.used) >= 3
    assert issuer.refused == []
    assert "object not archived" not in ran.stderr  # so no attempt was counted
    # The probe and the cold store have a chain each.
    assert asked_count <= 2 * (took_seconds / KEEP_SECONDS + 2)


@CLIENTS
def test_a_web_identity_is_exchanged_anew_in_mid_sweep(
    roles: Scene, client: str, tmp_path: Path
) -> None:
    issuer = Issuer(LIFETIME_SECONDS)
    (tmp_path / "identity").write_text("sentinel-token-of-the-web")
    with ScriptedHttp(issuer.web_identity) as endpoint:
        roles.settings |= {
            "AWS_ENDPOINT_URL_STS": endpoint.url,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/archiver",
            "AWS_WEB_IDENTITY_TOKEN_FILE": str(tmp_path / "identity"),
        }
        ran = sweep(roles, issuer, client)

    assert_all_moved(roles, ran)
    assert len(issuer.used) >= 3
    assert issuer.refused == []
    assert "object not archived" not in ran.stderr


@CLIENTS
def test_credentials_that_expire_too_soon_are_searched_anew_and_the_object_tried_again(
    roles: Scene, client: str
) -> None:
    """What a metadata service gives close to its end, botocore goes on to use."""
    issuer = Issuer(LIFETIME_SECONDS)
    with ScriptedHttp(issuer.instance) as endpoint:
        roles.settings |= {
            "AWS_EC2_METADATA_DISABLED": "false",
            "AWS_EC2_METADATA_SERVICE_ENDPOINT": f"{endpoint.url}/",
        }
        ran = sweep(roles, issuer, client)

    assert_all_moved(roles, ran)
    assert len(issuer.refused) >= 1  # else this test shows nothing
    assert len(issuer.used) >= 2


def test_a_token_of_the_environment_that_has_expired_is_fatal(roles: Scene) -> None:
    """Nobody else is there to give another, however long one waits."""
    issuer = Issuer(lifetime_seconds=-1.0)
    issuer._give()
    roles.settings |= {
        "AWS_ACCESS_KEY_ID": "AKIDROLE1",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_SESSION_TOKEN": "sentinel-token-1",
    }
    ran = sweep(roles, issuer, "obstore", 1)

    assert ran.exit_code == 3
    assert "ExpiredToken" in ran.summary["error"]
    assert roles.lost() == []
    assert "sentinel" not in ran.stdout + ran.stderr
