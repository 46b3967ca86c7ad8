"""Large files pushed to a real S3 server, killed in the middle, and pushed again."""

from __future__ import annotations

import hashlib
import json
import random
import signal
import subprocess
import sys
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from tests.harness.command import archiver, environment
from tests.harness.s3_front import S3Front
from tests.harness.sides import s3_side

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from tests.harness.s3_front import Asked
    from tests.harness.sides import S3Side
    from tests.harness.versitygw import S3Server

MIB = 1 << 20
PART_BYTES = 5 * MIB
PARTS_COUNT = 13
SIZE_BYTES = (PARTS_COUNT - 1) * PART_BYTES + 17
IN_FLIGHT = 4  # parts of one object at once
BOUND_SECONDS = 120.0
KILLS = 5


@dataclass
class Push:
    """One file, and a bucket behind a front that says when to kill."""

    side: S3Side
    front: S3Front
    file: Path
    settings: dict[str, str]

    @property
    def arguments(self) -> list[str]:
        return ["push", str(self.file), "big", "--part-size", "5MiB", "--json"]

    def run(self, **settings: str) -> Mapping[str, Any]:
        ran = archiver(self.settings | settings, *self.arguments)
        assert "Traceback" not in ran.stderr
        assert ran.exit_code == 0, ran.stderr
        return ran.summary

    def killed_at_part(self, number: int, **settings: str) -> bool:
        """Run it, killed when so many parts have reached the store; whether it got there."""
        child: Future[subprocess.Popen[bytes]] = Future()
        seen: list[int] = []

        def rule(asked: Asked) -> None:
            if is_part(asked):
                seen.append(1)
                if len(seen) == number:
                    child.result(BOUND_SECONDS).kill()

        self.front.rule = rule
        process = subprocess.Popen(
            [sys.executable, "-m", "archiver", *self.arguments],
            env=environment(self.settings | settings),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        child.set_result(process)
        try:
            code = process.wait(BOUND_SECONDS)
        finally:
            process.kill()
            process.wait()
            self.front.rule = lambda _: None
        assert code in (-signal.SIGKILL, 0)
        return code != 0

    def parts_sent(self) -> int:
        """How many parts the server has taken, by its own log."""
        requests = self.side.server.requests(self.side.bucket)
        return sum(
            1
            for it in requests
            if it.operation == "s3_UploadPart"
            and it.status == 200
            and it.key.endswith("objects/big")
        )

    def assert_there(self) -> None:
        body = self.side.read("objects/big")
        assert body is not None
        assert hashlib.sha256(body).digest() == hashlib.sha256(self.file.read_bytes()).digest()
        assert [] == self.open_uploads()

    def open_uploads(self) -> list[str]:
        listed = self.side.client.list_multipart_uploads(Bucket=self.side.bucket)
        return [it["Key"] for it in listed.get("Uploads", ())]


def is_part(asked: Asked) -> bool:
    return (
        asked.method == "PUT"
        and "partNumber" in asked.query
        and asked.key.endswith("objects/big")
    )


@pytest.fixture
def push(s3_server: S3Server, tmp_path: Path) -> Iterator[Push]:
    file = tmp_path / "big.bin"
    file.write_bytes(random.Random(7).randbytes(SIZE_BYTES))  # noqa: S311
    with s3_side(s3_server) as side, S3Front(s3_server.endpoint) as front:
        settings = {
            **side.cold_settings,
            "ARCHIVE_ENDPOINT": front.url,
            "ARCHIVE_STATE_DIR": str(tmp_path / "state"),
        }
        yield Push(side, front, file, settings)


def test_a_push_killed_at_half_sends_again_only_what_was_in_flight(push: Push) -> None:
    assert push.killed_at_part(PARTS_COUNT // 2)
    before = push.parts_sent()

    done = push.run()

    assert done["digest"] == hashlib.sha256(push.file.read_bytes()).hexdigest()
    assert done["sent_bytes"] + done["kept_bytes"] == SIZE_BYTES
    assert done["kept_bytes"] >= (PARTS_COUNT // 2 - IN_FLIGHT) * PART_BYTES
    assert push.parts_sent() <= PARTS_COUNT + IN_FLIGHT
    assert before < push.parts_sent()
    push.assert_there()


@pytest.mark.parametrize("seed", range(2))
def test_a_push_killed_again_and_again_ends_with_one_whole_object(
    push: Push, seed: int
) -> None:
    chosen = random.Random(seed)  # noqa: S311
    kills = sum(push.killed_at_part(chosen.randint(1, 5)) for _ in range(KILLS))

    done = push.run()

    assert done["state"] == "done"
    assert push.parts_sent() <= PARTS_COUNT + kills * IN_FLIGHT
    push.assert_there()


def test_another_directory_and_state_dir_go_on_through_postgres(
    push: Push, hover_url: str, tmp_path: Path
) -> None:
    push.settings |= {"ARCHIVE_DATABASE_URL": hover_url, "ARCHIVE_LEASE": "2s"}
    assert push.killed_at_part(PARTS_COUNT // 2)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    copied = elsewhere / "copy.bin"
    copied.write_bytes(push.file.read_bytes())  # another inode, another time
    push.file = copied

    done = push.run(ARCHIVE_STATE_DIR=str(elsewhere / "state"))

    assert done["kept_bytes"] >= (PARTS_COUNT // 2 - IN_FLIGHT) * PART_BYTES
    assert push.parts_sent() <= PARTS_COUNT + IN_FLIGHT
    push.assert_there()


def test_an_upload_that_the_store_dropped_is_begun_anew(push: Push) -> None:
    assert push.killed_at_part(PARTS_COUNT // 2)
    client, bucket = push.side.client, push.side.bucket
    for it in client.list_multipart_uploads(Bucket=bucket).get("Uploads", ()):
        client.abort_multipart_upload(Bucket=bucket, Key=it["Key"], UploadId=it["UploadId"])

    done = push.run()

    assert done["kept_bytes"] == 0
    push.assert_there()


def test_another_file_under_that_key_begins_anew(push: Push) -> None:
    assert push.killed_at_part(PARTS_COUNT // 2)
    push.file.write_bytes(random.Random(8).randbytes(SIZE_BYTES))  # noqa: S311

    done = push.run()

    assert (done["kept_bytes"], done["sent_bytes"]) == (0, SIZE_BYTES)
    push.assert_there()


def test_ctrl_c_leaves_it_to_be_resumed_and_says_so(push: Push) -> None:
    child: Future[subprocess.Popen[str]] = Future()
    seen: list[int] = []

    def rule(asked: Asked) -> None:
        if is_part(asked):
            seen.append(1)
            if len(seen) == PARTS_COUNT // 2:
                child.result(BOUND_SECONDS).send_signal(signal.SIGINT)

    push.front.rule = rule
    child.set_result(
        subprocess.Popen(
            [sys.executable, "-m", "archiver", *push.arguments],
            env=environment(push.settings),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    )
    stdout, stderr = child.result().communicate(timeout=BOUND_SECONDS)

    assert child.result().returncode == 130
    told = json.loads(stdout)
    assert told["state"] == "stopped"
    assert told["kept_bytes"] > 0
    assert "the same command goes on from there" in stderr
    sent = push.parts_sent()
    push.front.rule = lambda _: None
    push.run()
    assert push.parts_sent() == PARTS_COUNT
    assert sent < PARTS_COUNT
    push.assert_there()


# --- pipes ------------------------------------------------------------------------------------


def piped(push: Push, body: bytes, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "archiver", "push", "-", "big", "--json", *arguments],
        env=environment(push.settings),
        input=body,
        capture_output=True,
        timeout=BOUND_SECONDS,
        check=False,
    )


def test_a_pipe_is_pushed_in_full_parts(push: Push) -> None:
    ran = piped(push, push.file.read_bytes(), "--part-size", "5MiB")

    assert ran.returncode == 0, ran.stderr
    assert push.parts_sent() == PARTS_COUNT
    push.assert_there()


def test_nothing_is_left_of_a_pipe_of_another_digest(push: Push) -> None:
    ran = piped(push, push.file.read_bytes(), "--part-size", "5MiB", "--digest", "0" * 64)

    assert ran.returncode == 1
    assert b"do not have the digest" in ran.stderr
    assert b"nothing of it was kept" in ran.stderr
    assert push.side.read("objects/big") is None
    assert [] == push.open_uploads()


def test_a_pipe_that_is_interrupted_is_aborted(push: Push) -> None:
    child = subprocess.Popen(
        [sys.executable, "-m", "archiver", "push", "-", "big", "--part-size", "5MiB"],
        env=environment(push.settings),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )

    once = iter([signal.SIGINT])  # a second one would end it at once

    def rule(asked: Asked) -> None:
        if is_part(asked) and (number := next(once, None)):
            child.send_signal(number)

    push.front.rule = rule
    assert child.stdin is not None
    child.stdin.write(push.file.read_bytes()[: 2 * PART_BYTES + 1])
    child.stdin.flush()  # and more seems to come
    _, stderr = _ended(child)

    assert child.returncode == 130
    assert b"nothing of it was kept" in stderr
    assert push.side.read("objects/big") is None
    assert [] == push.open_uploads()


def _ended(child: subprocess.Popen[bytes]) -> tuple[bytes, bytes]:
    try:
        child.wait(BOUND_SECONDS)
    finally:
        child.kill()
    return child.communicate()
