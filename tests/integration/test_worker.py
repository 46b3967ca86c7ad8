"""The scheduled worker as a process, on a real database and stores that fail it."""

from __future__ import annotations

import json
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.harness.command import archiver, environment
from tests.harness.hover import create_hover
from tests.harness.monitor import running_monitor
from tests.harness.worker import running_worker

if TYPE_CHECKING:
    from archiver.demo.postgres import EmbeddedPostgres
    from tests.harness.scene import Scene

WITHOUT = {"ARCHIVE_PROVIDER": "", "ARCHIVE_BUCKET": "", "ARCHIVE_ENDPOINT": ""}


def ask(scene: Scene, query: str) -> list[tuple[Any, ...]]:
    return scene.hover.connection.execute(query.encode()).fetchall()


def claims_count(scene: Scene) -> int:
    ((count,),) = ask(scene, "select count(*) from archiver.claim where state = 'claimed'")
    return int(count)


def health(scene: Scene, **changes: str) -> tuple[int, str]:
    """The exit code, and the reason."""
    settings = {"ARCHIVE_INTERVAL": "1s"} | scene.settings | changes
    ran = archiver(settings, "health", "--json")
    told = json.loads(ran.stdout)
    assert told["healthy"] is (ran.exit_code == 0)
    return ran.exit_code, told["reason"]


# --- sweep after sweep --------------------------------------------------------------------


def test_sweep_after_sweep_takes_what_has_come_meanwhile(scene: Scene, tmp_path: Path) -> None:
    pages = [scene.due_page()]
    with (
        running_monitor() as monitor,
        running_worker(scene.settings, tmp_path, ARCHIVE_PING_URL=f"{monitor.url}/uuid") as it,
    ):
        for _ in range(3):
            it.until(lambda: scene.is_archived(pages[-1]))
            pages.append(scene.due_page())
        it.until(lambda: all(map(scene.is_archived, pages)))
        it.until(lambda: monitor.asked)
        assert health(scene, ARCHIVE_INTERVAL="20s")[0] == 0
        idle = len(it.told("no archive candidates"))
        it.until_told("no archive candidates", idle + 2)
        assert it.stop() == 0

    assert [] == scene.lost()
    assert set(monitor.asked) == {"/uuid"}
    assert monitor.url not in it.log.read_text()
    (started,) = it.told("worker started")
    assert (started["schedule"], started["sources"]) == ("every 1 s", "task_html")
    assert len(it.told("cold store probed")) == 1  # for all sweeps
    assert len(set(ask(scene, "select worker_id from archiver.sweep"))) == 1
    ended = it.told("sweep ended")
    assert {line["level"] for line in ended if not line["archived"]} == {"debug"}
    assert sum(line["archived"] for line in ended) == len(pages)
    left = ask(scene, "select left_at is not null from archiver.worker")
    assert left == [(True,)]


def test_a_database_that_is_down_at_the_start_is_waited_for(
    scene: Scene, postgres_server: EmbeddedPostgres, tmp_path: Path
) -> None:
    url = postgres_server.create_database("app")
    create_hover(url)
    postgres_server.stop("immediate")
    settings = scene.settings | {"ARCHIVE_DATABASE_URL": url}
    with (
        running_monitor() as monitor,
        running_worker(settings, tmp_path, ARCHIVE_PING_URL=f"{monitor.url}/u?a=b") as it,
    ):
        told = it.until_told("no sweep: the ledger cannot be used", 2)
        assert "The database did not answer" in told[0]["reason"]
        assert health(scene, ARCHIVE_DATABASE_URL=url)[0] == 1

        postgres_server.start()
        it.until_told("no archive candidates")
        postgres_server.stop("immediate")  # and away again, in mid-life
        it.until_told("ledger unavailable, trying again")
        postgres_server.start()
        before = len(it.told("no archive candidates"))
        it.until_told("no archive candidates", before + 2)
        assert it.stop() == 0
    assert {"/u/fail?a=b", "/u?a=b"} == set(monitor.asked)


def test_a_ledger_that_is_not_migrated_yet_is_waited_for(scene: Scene, tmp_path: Path) -> None:
    page = scene.due_page()
    scene.hover.connection.execute("alter schema archiver rename to elsewhere")
    with running_worker(scene.settings, tmp_path) as it:
        (told, *_) = it.until_told("no sweep")
        assert "archiver migrate" in told["reason"]
        scene.hover.connection.execute("alter schema elsewhere rename to archiver")
        it.until(lambda: scene.is_archived(page))
        assert it.stop() == 0


def test_a_hot_store_that_is_down_is_tried_again_and_recovers(
    scene: Scene, tmp_path: Path
) -> None:
    pages = [scene.due_page() for _ in range(12)]
    scene.settings |= {"ARCHIVE_RETRY_BASE": "1s", "ARCHIVE_RETRY_MAX": "1s"}
    down = scene.hot.on("any", times=None, status=503)
    with running_worker(scene.settings, tmp_path) as it:
        it.until_told("store breaker opened", 2)  # in each sweep anew
        assert health(scene, ARCHIVE_INTERVAL="20s")[0] == 0  # the worker is; the store is not
        down.times = 0
        it.until(lambda: all(map(scene.is_archived, pages)))
        assert it.stop() == 0
    assert [] == scene.lost()


def test_a_sweep_that_a_limit_makes_wait_is_not_taken_for_a_hung_one(
    scene: Scene, tmp_path: Path
) -> None:
    """The first page is five times what the limit lets through before it would hang."""
    noise = random.Random(0)  # noqa: S311  # no secret
    pages = [scene.due_page(noise.randbytes(5_000)) for _ in range(2)]
    settings = {
        "ARCHIVE_BANDWIDTH": "1KB/s",
        "ARCHIVE_CONCURRENCY": "1",
        "ARCHIVE_HANG_AFTER": "1s",
        "ARCHIVE_LEASE": "1s",  # so that the health is told four times a second
    }
    with running_worker(scene.settings | settings, tmp_path) as it:
        it.until_told("cold store probed")
        time.sleep(2.5)
        assert health(scene, **settings)[0] == 0
        it.until(lambda: all(map(scene.is_archived, pages)))
        assert it.told("the sweep hangs") == []
        assert it.stop() == 0
    assert scene.lost() == []


def test_h12_a_cold_store_that_is_gone_at_the_start_is_used_once_it_is_back(
    scene: Scene, tmp_path: Path
) -> None:
    page = scene.due_page()
    away = scene.cold_root.rename(tmp_path / "away")
    with running_worker(scene.settings, tmp_path) as it:
        it.until_told("sweep failed", 2)
        assert scene.is_untouched(page)
        away.rename(scene.cold_root)
        it.until(lambda: scene.is_archived(page))
        assert it.stop() == 0
    assert [] == scene.lost()


def test_h14_one_sweep_of_the_worker_drains_a_backlog_of_many_batches(
    scene: Scene, tmp_path: Path
) -> None:
    pages = [scene.due_page() for _ in range(20)]
    changes = {"ARCHIVE_BATCH_SIZE": "3", "ARCHIVE_SCHEDULE": "0 0 1 1 *"}
    with running_worker(scene.settings, tmp_path, **changes) as it:
        it.until(lambda: all(map(scene.is_archived, pages)))
        it.until_told("sweep ended")
        assert it.stop() == 0
    (ended,) = it.told("sweep ended")
    assert (ended["archived"], ended["released"]) == (20, 20)


# --- stopping -----------------------------------------------------------------------------


def test_sigterm_in_mid_sweep_gives_the_claims_back_and_ends_with_0(
    scene: Scene, tmp_path: Path
) -> None:
    pages = [scene.due_page() for _ in range(40)]
    slow = scene.hot.on("get", times=None, delay_seconds=0.4)
    with running_worker(scene.settings, tmp_path) as it:
        it.until(lambda: slow.fired_count >= 6)
        assert claims_count(scene) > 0
        assert it.stop() == 0

    assert it.told("worker stopped")
    assert claims_count(scene) == 0
    assert not all(map(scene.is_archived, pages))
    assert [] == scene.lost()
    assert [] == ask(scene, "select 1 from archiver.worker where left_at is null")
    assert [] == ask(scene, "select 1 from archiver.claim where attempts_count > 0")


def test_sigterm_with_the_database_down_ends_within_the_drain(
    scene: Scene, postgres_server: EmbeddedPostgres, tmp_path: Path
) -> None:
    url = postgres_server.create_database("app")
    create_hover(url)
    changes = {"ARCHIVE_DATABASE_URL": url, "ARCHIVE_DRAIN_TIMEOUT": "4s"}
    with running_worker(scene.settings | changes, tmp_path) as it:
        it.until_told("no archive candidates")
        postgres_server.stop("immediate")
        it.until_told("ledger unavailable, trying again", 2)
        began_at = time.monotonic()
        code = it.stop()
        seconds = time.monotonic() - began_at
    assert code in (0, 1)
    assert seconds < 30  # half of how long it would try a database by itself


def test_two_interrupts_end_it_at_once(scene: Scene, tmp_path: Path) -> None:
    scene.due_page()
    scene.hot.on("get", times=None, delay_seconds=30)
    with running_worker(scene.settings, tmp_path) as it:
        it.until_told("archiving candidates")
        it.signal(signal.SIGINT)
        it.until_told("stopping: draining")
        it.signal(signal.SIGINT)
        assert it.ended() == 130


def test_a_disabled_worker_stays_up_and_is_healthy(scene: Scene, tmp_path: Path) -> None:
    with running_worker(scene.settings | WITHOUT, tmp_path) as it:
        (told,) = it.until_told("archiving is disabled")
        assert told["level"] == "warning"
        code, reason = health(scene, **WITHOUT)
        assert (code, reason.partition(":")[0]) == (0, "archiving is disabled")
        assert it.stop() == 0


# --- what hangs, and what is lost ---------------------------------------------------------


def test_a_store_that_hangs_is_said_and_at_last_the_process_ends(
    scene: Scene, tmp_path: Path
) -> None:
    page = scene.due_page()
    scene.hot.on("get", times=1, delay_seconds=40)
    changes = {"ARCHIVE_HANG_AFTER": "2s", "ARCHIVE_TIMEOUT": "1h", "ARCHIVE_LEASE": "4s"}
    with running_worker(scene.settings, tmp_path, **changes) as it:
        (told,) = it.until_told("the sweep hangs")
        assert "supabase.py" in str(told)  # where it hangs
        assert it.ended() == 3
        assert it.told("the sweep still hangs")
    with running_worker(scene.settings, tmp_path, **changes) as it:
        it.until(lambda: scene.is_archived(page))  # taken over, after a lease
        assert it.stop() == 0
    assert [] == scene.lost()


def test_a_full_disk_behind_the_log_keeps_no_worker_that_hangs(scene: Scene) -> None:
    scene.due_page()
    scene.hot.on("get", times=1, delay_seconds=40)
    changes = {"ARCHIVE_HANG_AFTER": "1s", "ARCHIVE_TIMEOUT": "1h"}
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "archiver"],
            env=environment(scene.settings | changes),
            stderr=full,
            timeout=60,
            check=False,
        )
    assert ended.returncode == 3


def test_work_that_hangs_beyond_a_drain_keeps_its_lease_until_it_runs_out(
    scene: Scene, tmp_path: Path
) -> None:
    """The thread may still put or delete: nobody takes its claims over before that."""
    page = scene.due_page()
    scene.hot.on("get", times=1, delay_seconds=20)
    changes = {"ARCHIVE_DRAIN_TIMEOUT": "2s", "ARCHIVE_LEASE": "4s", "ARCHIVE_TIMEOUT": "1h"}
    with running_worker(scene.settings, tmp_path, **changes) as it:
        it.until_told("archiving candidates")
        scene.run("pause")
        it.until_told("sweep ended")
        it.until(lambda: len(ask(scene, "select 1 from archiver.worker")) == 2)
        first = ask(scene, "select left_at from archiver.worker order by worker_id limit 1")
        assert first == [(None,)]
        scene.run("resume")
        it.until(lambda: scene.is_archived(page))
        assert it.stop() in (0, 1)
    assert [] == scene.lost()


def test_a_worker_that_was_suspended_says_so_and_joins_again(
    scene: Scene, tmp_path: Path
) -> None:
    with running_worker(scene.settings, tmp_path, ARCHIVE_LEASE="3s") as it:
        it.until_told("no archive candidates")
        it.signal(signal.SIGSTOP)
        time.sleep(5)
        page = scene.due_page()
        it.signal(signal.SIGCONT)
        (told, *_) = it.until_told("sweep missed")
        it.until(lambda: scene.is_archived(page))
        assert it.stop() == 0
    assert told["late_seconds"] > 2
    ((workers,),) = ask(scene, "select count(*) from archiver.worker")
    assert workers >= 2


def test_a_worker_whose_lease_was_taken_away_joins_again(scene: Scene, tmp_path: Path) -> None:
    with running_worker(scene.settings, tmp_path, ARCHIVE_LEASE="4s") as it:
        it.until_told("no archive candidates")
        scene.hover.connection.execute("update archiver.worker set lease_until = now()")
        page = scene.due_page()
        it.until(lambda: scene.is_archived(page))
        assert it.stop() == 0
    assert "Run again" in it.told("sweep failed")[0]["reason"]
    assert len(ask(scene, "select 1 from archiver.worker")) == 2


def test_a_pause_is_obeyed_and_healthy(scene: Scene, tmp_path: Path) -> None:
    with running_worker(scene.settings, tmp_path, ARCHIVE_LEASE="4s") as it:
        it.until_told("no archive candidates")
        scene.run("pause")
        it.until_told("the operator's wish has changed")
        page = scene.due_page()
        assert health(scene) == (0, "paused; `archiver resume` ends that")
        assert scene.is_untouched(page)
        scene.run("resume")
        it.until(lambda: scene.is_archived(page))
        assert it.stop() == 0


def test_one_source_that_is_refused_keeps_no_other_from_its_sweeps(
    scene: Scene, tmp_path: Path
) -> None:
    file = tmp_path / "nothing.sql"
    file.write_text(
        "-- A table that is not there.\n-- name: nothing\n-- cold_key: n/{id}\n"
        "-- shares_objects: no\n\n-- candidates --\nselect id, at as due_at, bucket as "
        "hot_bucket, path as hot_path from nothing where (at, id) > (:after_due_at, :after_id) "
        "order by at, id limit :limit;\n\n-- archived --\nupdate nothing set path = null from "
        "receipt where nothing.id = receipt.id and nothing.path = receipt.hot_path "
        "returning nothing.id;\n"
    )
    pages = [scene.due_page()]
    changes = {"ARCHIVE_SOURCES": f"{file},task_html"}
    with running_worker(scene.settings, tmp_path, **changes) as it:
        it.until(lambda: scene.is_archived(pages[0]))
        pages.append(scene.due_page())
        it.until(lambda: scene.is_archived(pages[1]))
        assert it.stop() == 0
    assert {line["source"] for line in it.told("sweep failed")} == {"nothing"}


# --- health -------------------------------------------------------------------------------


def test_health_follows_the_last_sweep_of_this_host(scene: Scene) -> None:
    code, reason = health(scene)
    assert (code, "no sweep on" in reason) == (1, True)

    scene.once()
    assert health(scene, ARCHIVE_INTERVAL="1m")[0] == 0  # by cron is as good

    forward = "ended_at = ended_at - interval '3 minutes', started_at = now() - interval '1 h'"
    scene.hover.connection.execute(f"update archiver.sweep set {forward}".encode())
    code, reason = health(scene, ARCHIVE_INTERVAL="1m")
    assert (code, "start it anew" in reason) == (1, True)
    assert health(scene, ARCHIVE_INTERVAL="2m")[0] == 0
    scene.hover.connection.execute("update archiver.worker set host = 'another'")
    assert health(scene, ARCHIVE_INTERVAL="2m")[0] == 1


def test_health_of_a_sweep_under_way_is_whether_it_gets_on(scene: Scene) -> None:
    scene.once()
    begun = "ended_at = null, summary = null, started_at = now() - interval '9 hours'"
    scene.hover.connection.execute(f"update archiver.sweep set {begun}".encode())
    alive = "update archiver.worker set left_at = null, lease_until = now() + interval '1 h', "
    for minutes, expected in (("1", 0), ("40", 1)):
        when = f"progressed_at = now() - interval '{minutes} minutes'"
        scene.hover.connection.execute((alive + when).encode())
        code, reason = health(scene)
        assert (code, "under way" in reason) == (expected, True)


def test_health_of_a_worker_is_not_that_of_an_adopt_beside_it(scene: Scene) -> None:
    scene.hover.connection.execute(
        "insert into archiver.worker "
        "(epoch, lease_until, host, pid, version, started_at, progressed_at) "
        "select epoch, now() + interval '1 h', %s, 1, '1', now() - interval '1 h', now() "
        "from archiver.fleet",
        [socket.gethostname()],
    )
    code, reason = health(scene, ARCHIVE_INTERVAL="1m")
    assert (code, "no sweep on" in reason) == (1, True)


def test_health_says_what_is_wrong_with_the_database(scene: Scene) -> None:
    code, reason = health(scene, ARCHIVE_DATABASE_URL="postgresql://a:word@127.0.0.1:1/app")
    assert (code, "Check that Postgres runs" in reason, "word" in reason) == (1, True, False)
    scene.hover.connection.execute("alter schema archiver rename to elsewhere")
    code, reason = health(scene)
    assert (code, "archiver migrate" in reason) == (1, True)


def test_health_imports_no_store(scene: Scene) -> None:
    script = (
        "import sys; from archiver.cli.main import run; from archiver.cli.backstage import *; "
        "run(['health'], Backstage()); "
        "print([m for m in ('boto3', 'obstore', 'rich', 'urllib3') if m in sys.modules])"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script],
        env=environment(scene.settings),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert ended.stdout.splitlines()[-1] == "[]"


# --- settings -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"ARCHIVE_INTERVAL": "60"}, "a duration such as"),
        ({"ARCHIVE_INTERVAL": "0s"}, "at least 1ms"),
        ({"ARCHIVE_SCHEDULE": "0 25 * * *"}, "five crontab fields"),
        ({"ARCHIVE_SCHEDULE": "0 0 31 2 *"}, "five crontab fields"),
        ({"ARCHIVE_SCHEDULE": "0 3 * * *", "ARCHIVE_INTERVAL": "1m"}, "are both set"),
        ({"ARCHIVE_WINDOW": "22-06"}, "HH:MM-HH:MM"),
        ({"ARCHIVE_WINDOW": "22:00-06:00", "ARCHIVE_SCHEDULE": "0 12 * * *"}, "never in"),
        ({"ARCHIVE_TIME_ZONE": "Europe/Atlantis"}, "IANA"),
        ({"ARCHIVE_TIME_ZONE": "Europe"}, "IANA"),
        ({"ARCHIVE_TIME_ZONE": "../../etc/passwd"}, "IANA"),
        ({"ARCHIVE_HANG_AFTER": "0s"}, "at least 1s"),
        ({"ARCHIVE_PING_URL": "ftp://x/secret-uuid"}, "<SECRET>; it must be https://"),
        ({"ARCHIVE_PING_URL": "https://u:p@x/secret-uuid"}, "<SECRET>; it must be https://"),
        ({"ARCHIVE_PROVIDER": ""}, "ARCHIVE_PROVIDER is not"),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, dict) else "",
)
def test_a_wrong_setting_ends_the_worker_with_2(
    scene: Scene, changes: dict[str, str], told: str
) -> None:
    ran = archiver(scene.settings | changes)
    assert ran.exit_code == 2
    assert told in ran.stderr
    assert "secret-uuid" not in ran.stderr
