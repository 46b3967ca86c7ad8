"""deploy/Dockerfile and deploy/compose.yaml say what the rest of the project says."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]  # it comes with moto, and has no types

from archiver.cli.main import cli
from archiver.config import ColdS3, HotS3, Settings
from archiver.config.values import duration

PROJECT = Path(__file__).parents[2]
DOCKERFILE = PROJECT / "deploy" / "Dockerfile"
PYPROJECT = tomllib.loads((PROJECT / "pyproject.toml").read_text())
COMPOSE: dict[str, Any] = yaml.safe_load((PROJECT / "deploy" / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = ["worker", "migrate"]


def instructions() -> list[tuple[str, str]]:
    """Each instruction with what follows it, on one line."""
    text = re.sub(r"^#.*\n", "", DOCKERFILE.read_text(), flags=re.MULTILINE)
    lines = text.replace("\\\n", " ").splitlines()
    return [(line.split()[0], line.partition(" ")[2]) for line in lines if line.strip()]


def last(name: str) -> str:
    return [told for instruction, told in instructions() if instruction == name][-1]


# --- the image ------------------------------------------------------------------------------


def test_the_base_is_slim_pinned_by_a_tag_and_new_enough() -> None:
    (base,) = (told for name, told in instructions() if name == "ARG")
    tag = base.removeprefix("PYTHON=")
    minor = re.fullmatch(r"3\.(\d+)-slim-[a-z]+", tag)
    assert minor is not None, tag
    assert PYPROJECT["project"]["requires-python"] == ">=3.11"
    assert int(minor[1]) >= 11
    bases = [told.split()[0] for name, told in instructions() if name == "FROM"]
    assert set(bases) == {"python:${PYTHON}"}


def test_everything_is_installed_by_the_hashes_of_a_lock_that_is_there() -> None:
    steps = " && ".join(told for name, told in instructions() if name == "RUN").split("&&")
    installs = [shlex.split(it) for it in steps if " install " in it or " wheel " in it]
    assert len(installs) == 4
    for words in installs:
        is_locked = "--require-hashes" in words and "--only-binary" in words
        assert is_locked or {"--no-deps", "--no-index"} <= set(words), words
        for lock in (it for it in words if it.endswith(".lock")):
            assert "--hash=sha256:" in (PROJECT / lock).read_text()


def test_both_locks_of_the_image_pin_what_the_tests_run_with() -> None:
    whole = (PROJECT / "requirements.lock").read_text()
    for name in ("requirements-runtime.lock", "requirements-build.lock"):
        pins = re.findall(r"^([a-z0-9-]+==\S+)", (PROJECT / name).read_text(), re.MULTILINE)
        assert pins
        assert [pin for pin in pins if pin not in whole] == []
    (group,) = PYPROJECT["dependency-groups"]["build"]
    assert group in PYPROJECT["build-system"]["requires"]


def test_it_runs_as_nobody_and_writes_no_bytecode() -> None:
    user, group = last("USER").split(":")
    assert int(user) > 0
    assert int(group) > 0
    assert "PYTHONDONTWRITEBYTECODE=1" in last("ENV")


@pytest.mark.parametrize("instruction", ["HEALTHCHECK", "ENTRYPOINT"])
def test_its_commands_are_commands_of_archiver(instruction: str) -> None:
    words = re.findall(r'"([^"]+)"', last(instruction))
    assert words[0] in PYPROJECT["project"]["scripts"]
    assert set(words[1:]) <= cli.commands.keys()
    assert bool(words[1:]) == (instruction == "HEALTHCHECK")


def test_what_is_copied_is_let_through_and_nothing_secret_can_be() -> None:
    lines = (PROJECT / ".dockerignore").read_text().splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    let_through = {line.removeprefix("!") for line in rules if line.startswith("!")}
    assert all((PROJECT / name).exists() for name in let_through)
    copied = {
        word
        for name, told in instructions()
        if name == "COPY" and "--from" not in told
        for word in told.split()[:-1]
    } - {"."}
    packaged = {PYPROJECT["project"]["readme"], *PYPROJECT["project"]["license-files"]}
    packaged |= {"pyproject.toml", "archiver", "migrations"}
    assert let_through == copied | packaged


# --- the compose file -------------------------------------------------------------------------


def seconds(text: str) -> float:
    return float(duration().parse(text))


@pytest.mark.parametrize("service", OURS)
def test_its_settings_are_settings_and_fit_together(service: str, tmp_path: Path) -> None:
    environ = dict(SERVICES[service]["environment"])
    contents = {
        "database_url": "postgresql://archiver:secret@postgres/archiver",
        "s3_secret_key": "secret",
    }
    assert set(SERVICES[service]["secrets"]) == set(contents)
    for name, value in environ.items():
        if name.endswith("_FILE"):
            folder, _, secret = value.rpartition("/")
            assert folder == "/run/secrets"
            (tmp_path / secret).write_text(contents[secret])
            environ[name] = str(tmp_path / secret)

    settings = Settings.read(environ)

    assert isinstance(settings.cold, ColdS3)
    assert isinstance(settings.hot, HotS3)
    server = (
        f"http://s3:{SERVICES['s3']['healthcheck']['test'][-1].split(':')[2].split('/')[0]}"
    )
    assert {settings.cold.endpoint, settings.hot.endpoint} == {server}
    assert f"/data/{settings.hot.bucket}" in SERVICES["buckets"]["command"]
    assert f"/data/{settings.cold.bucket}" in SERVICES["buckets"]["command"]


def test_no_secret_is_in_the_environment_of_ours() -> None:
    for service in OURS:
        for name in SERVICES[service]["environment"]:
            assert not re.search(r"(SECRET|PASSWORD|TOKEN|KEY|URL)$", name), name
    assert all(set(it) == {"file"} for it in COMPOSE["secrets"].values())


@pytest.mark.parametrize("service", OURS)
def test_ours_can_do_nothing_but_their_work(service: str) -> None:
    told = SERVICES[service]
    assert told["read_only"] is True
    assert told["tmpfs"] == ["/tmp"]  # noqa: S108
    assert told["cap_drop"] == ["ALL"]
    assert told["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "cap_add", "user", "volumes", "ports"} & told.keys()
    dockerfile = Path(told["build"]["dockerfile"])
    assert (PROJECT / "deploy" / told["build"]["context"] / dockerfile).samefile(DOCKERFILE)


def test_the_worker_may_drain_before_it_is_killed() -> None:
    worker = SERVICES["worker"]
    drain_seconds = seconds(worker["environment"]["ARCHIVE_DRAIN_TIMEOUT"])
    assert seconds(worker["stop_grace_period"]) > drain_seconds
    told = re.search(r"docker stop --time (\d+)", DOCKERFILE.read_text())
    assert told is not None
    assert int(told[1]) > Settings.read({}).drain_timeout_seconds


def test_the_worker_starts_behind_the_migration_and_what_it_needs_is_healthy() -> None:
    assert "command" not in SERVICES["worker"]  # the image's own
    assert SERVICES["migrate"]["command"][0] in cli.commands
    waits = {
        (service, other): how["condition"]
        for service, told in SERVICES.items()
        for other, how in told.get("depends_on", {}).items()
    }
    assert waits == {
        ("worker", "migrate"): "service_completed_successfully",
        ("worker", "s3"): "service_healthy",
        ("migrate", "postgres"): "service_healthy",
        ("s3", "buckets"): "service_completed_successfully",
    }
    for _, other in [it for it, how in waits.items() if how == "service_healthy"]:
        assert SERVICES[other]["healthcheck"]["test"][0] == "CMD"


def test_every_image_has_a_version_and_the_s3_server_is_the_one_of_the_tests() -> None:
    foreign = {name: it["image"] for name, it in SERVICES.items() if "build" not in it}
    assert all(re.search(r":v?\d", image) for image in foreign.values()), foreign
    ours = (PROJECT / ".ci/run").read_text()
    tested = re.search(r"^versitygw_version=(\S+)$", ours, re.MULTILINE)
    assert tested is not None
    assert foreign["s3"].endswith(f":{tested[1]}")
