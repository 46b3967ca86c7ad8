"""What the environment means, what is refused, and that all of it is told at once."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archiver.config import ColdFile, ColdS3, HotFile, HotS3, HotSupabase, Settings
from archiver.errors import SettingsError
from archiver.model import Evidence, Secret
from tests.unit.config.environments import (
    HOT_S3,
    RIGHT,
    changed,
    problems,
    problems_of,
    settings,
)

_TYPED = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=12)
_SECRETS = (
    "ARCHIVE_SECRET_ACCESS_KEY",
    "ARCHIVE_HOT_SECRET_ACCESS_KEY",
    "ARCHIVE_SESSION_TOKEN",
    "ARCHIVE_HOT_SESSION_TOKEN",
    "SUPABASE_SERVICE_ROLE_KEY",
    "SUPABASE_PUBLISHABLE_KEY",
)


def _only(found: tuple[str, ...]) -> str:
    (problem,) = found
    return problem


# --- what it means ----------------------------------------------------------------------


def test_the_reference_workers_environment_is_right_as_it_is() -> None:
    read = settings(
        ARCHIVE_REGION="auto",
        ARCHIVE_PATH_PREFIX="/42/",
        ARCHIVE_RETENTION_JOBS="3",
        ARCHIVE_INTERVAL="1m",
        ARCHIVE_BATCH_SIZE="100",
        ARCHIVE_CONCURRENCY="5",
        SUPABASE_URL="https://abc.supabase.co/",
        SUPABASE_PUBLISHABLE_KEY="publishable-value",
    )

    assert read.cold == ColdS3(
        "r2",
        "cold",
        "https://0a1b.r2.cloudflarestorage.com",
        "auto",
        "AKIDCOLD",
        Secret("cold-secret-value"),
    )
    assert read.hot == HotSupabase(
        "https://abc.supabase.co", Secret("service-role-value"), Secret("publishable-value")
    )
    assert (read.path_prefix, read.batch_size, read.concurrency) == ("42/", 100, 5)
    assert not read.is_disabled


def test_defaults_stand_where_nothing_is_set() -> None:
    read = settings()

    assert (read.retention_jobs, read.batch_size, read.concurrency) == (3, 500, None)
    assert (read.lease_seconds, read.release_grace_seconds, read.timeout_seconds) == (
        60,
        900,
        120,
    )
    assert (read.evidence, read.release, read.allow_http) == (None, True, False)
    assert (read.max_objects, read.max_bytes, read.max_failure_ratio) == (None, None, None)
    assert read.sources == ("task_html",)


@pytest.mark.parametrize(
    ("environ", "state_dir"),
    [
        ({"HOME": "/home/u"}, "/home/u/.local/state/archiver"),
        ({"HOME": "/home/u", "XDG_STATE_HOME": "/var/s"}, "/var/s/archiver"),
        ({"HOME": "/home/u", "XDG_STATE_HOME": "s"}, "/home/u/.local/state/archiver"),
        ({"HOME": "/home/u", "ARCHIVE_STATE_DIR": "/srv/state/"}, "/srv/state"),
        ({"XDG_STATE_HOME": ""}, None),
        ({"HOME": "home"}, None),
        ({"ARCHIVE_STATE_DIR": "/srv/state"}, "/srv/state"),
    ],
)
def test_the_state_directory_is_named_or_the_platforms(
    environ: dict[str, str], state_dir: str | None
) -> None:
    expected = None if state_dir is None else Path(state_dir)
    assert settings(**environ).state_dir == expected


def test_an_empty_value_counts_as_unset() -> None:
    assert settings(ARCHIVE_BATCH_SIZE="", ARCHIVE_HOT="") == settings()


def test_retention_zero_keeps_none() -> None:
    assert settings(ARCHIVE_RETENTION_JOBS="0").retention_jobs == 0


def test_evidence_auto_leaves_it_to_the_store() -> None:
    assert settings(ARCHIVE_EVIDENCE="auto").evidence is None
    assert settings(ARCHIVE_EVIDENCE="readback").evidence is Evidence.READBACK


def test_neither_provider_nor_bucket_is_disabled_and_right() -> None:
    read = Settings.read({})
    assert read.is_disabled
    assert (read.cold, read.hot, read.database_url) == (None, None, None)


def test_migrations_need_a_database_and_nothing_else() -> None:
    read = Settings.read({"ARCHIVE_MIGRATE_URL": "postgresql://owner@db/app"})
    assert read.migrate_url == Secret("postgresql://owner@db/app")


def test_the_plain_database_url_is_used_where_ours_is_unset() -> None:
    plain = "postgresql://u@plain/app"
    assert settings(DATABASE_URL=plain).database_url == Secret(RIGHT["ARCHIVE_DATABASE_URL"])
    read = settings(DATABASE_URL=plain, ARCHIVE_DATABASE_URL=None)
    assert read.database_url == Secret(plain)
    assert read.seen["ARCHIVE_DATABASE_URL"].origin == "environment DATABASE_URL"


def test_provider_file_needs_a_directory_and_no_keys() -> None:
    read = settings(
        ARCHIVE_PROVIDER="file",
        ARCHIVE_ENDPOINT="file:///srv/cold",
        ARCHIVE_ACCESS_KEY_ID=None,
        ARCHIVE_SECRET_ACCESS_KEY=None,
    )
    assert read.cold == ColdFile("file", "cold", Path("/srv/cold"))


def test_s3_without_an_endpoint_is_aws_and_needs_a_region() -> None:
    aws: dict[str, str | None] = {"ARCHIVE_PROVIDER": "s3", "ARCHIVE_ENDPOINT": None}
    assert "ARCHIVE_REGION is not set" in _only(problems(**aws))
    cold = settings(**aws, ARCHIVE_REGION="eu-central-1").cold
    assert isinstance(cold, ColdS3)
    assert (cold.endpoint, cold.region) == (None, "eu-central-1")


@pytest.mark.parametrize(
    ("hot", "bucket"), [("s3://", None), ("s3://pages", "pages"), ("s3://pages/", "pages")]
)
def test_hot_s3_may_name_a_bucket_or_leave_it_to_the_rows(hot: str, bucket: str | None) -> None:
    read = Settings.read(RIGHT | HOT_S3 | {"ARCHIVE_HOT": hot})
    assert read.hot == HotS3(
        bucket, "https://hot.example.com", None, "AKIDHOT", Secret("hot-secret-value")
    )


def test_a_hot_directory_needs_no_supabase() -> None:
    read = settings(
        ARCHIVE_HOT="file:///srv/hot", SUPABASE_URL=None, SUPABASE_SERVICE_ROLE_KEY=None
    )
    assert read.hot == HotFile(Path("/srv/hot"))


# --- what is refused --------------------------------------------------------------------


def test_all_problems_are_told_at_once() -> None:
    told = problems(
        ARCHIVE_PROVIDER="r3",
        ARCHIVE_BATCH_SIZE="many",
        ARCHIVE_TIMEOUT="30",
        ARCHIVE_RETENTION_JOB="1",
        ARCHIVE_SECRET_ACCESS_KEY="two words",
        SUPABASE_SERVICE_ROLE_KEY=None,
        ARCHIVE_DATABASE_URL="mysql://x",
    )

    assert len(told) == 7
    with pytest.raises(SettingsError) as error:
        settings(ARCHIVE_PROVIDER="r3", ARCHIVE_BATCH_SIZE="many")
    assert "ARCHIVE_PROVIDER" in str(error.value)
    assert "ARCHIVE_BATCH_SIZE" in str(error.value)


@pytest.mark.parametrize("absent", ["ARCHIVE_PROVIDER", "ARCHIVE_BUCKET"])
def test_one_of_provider_and_bucket_is_an_error(absent: str) -> None:
    assert f"{absent} is not; set both, or neither" in _only(problems(**{absent: None}))


@pytest.mark.parametrize(
    ("name", "value", "accepted"),
    [
        ("ARCHIVE_PROVIDER", "R2", "one of r2, b2,"),
        ("ARCHIVE_BUCKET", "s3://cold", "name alone"),
        ("ARCHIVE_BUCKET", "..", "name alone"),
        ("ARCHIVE_RETENTION_JOBS", "-1", "at least 0"),
        ("ARCHIVE_RETENTION_JOBS", "3.5", "a whole number"),
        ("ARCHIVE_RETENTION_JOBS", "٣", "a whole number"),
        ("ARCHIVE_RETENTION_AGE", "30", "a duration such as"),
        ("ARCHIVE_RELEASE_GRACE", "15", "a duration such as"),
        ("ARCHIVE_TIMEOUT", "0", "at least 1ms"),
        ("ARCHIVE_LEASE", "999ms", "at least 1s"),
        ("ARCHIVE_BATCH_SIZE", "0", "at least 1"),
        ("ARCHIVE_CONCURRENCY", "automatic", "auto, or a whole number"),
        ("ARCHIVE_CONCURRENCY", "0", "at least 1"),
        ("ARCHIVE_CONCURRENCY", "1001", "at most 1,000"),
        ("ARCHIVE_MAX_BYTES", "1000", "a size such as"),
        ("ARCHIVE_MAX_FAILURE_RATIO", "1.1", "between 0 and 1"),
        ("ARCHIVE_MAX_FAILURE_RATIO", "nan", "between 0 and 1"),
        ("ARCHIVE_RELEASE", "maybe", "on or off"),
        ("ARCHIVE_EVIDENCE", "unproven", "auto, signed, checksum or readback"),
        ("ARCHIVE_SOURCES", "task_html,", "each once"),
        ("ARCHIVE_SOURCES", "task_html,task_html", "each once"),
        ("ARCHIVE_HOT", "gs://x", "supabase, s3://"),
        ("ARCHIVE_INTERVAL", "60", "a duration such as"),
        ("ARCHIVE_PATH_PREFIX", "../production", "path segments"),
        ("ARCHIVE_LOG_LEVEL", "trace", "one of debug, info, warning or error"),
        ("SUPABASE_URL", "abc.supabase.co", "https://host"),
    ],
)
def test_a_wrong_value_is_told_with_what_is_accepted(
    name: str, value: str, accepted: str
) -> None:
    problem = _only(problems(**{name: value}))
    assert problem.startswith(f"{name} is '{value}'; it must be")
    assert accepted in problem


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("ARCHIVE_RETENTION_JOB", "ARCHIVE_RETENTION_JOBS"),
        ("ARCHIVE_RETENSION_AGE", "ARCHIVE_RETENTION_AGE"),
        ("ARCHIVE_SECRET_ACCESS_KEY_FLIE", "ARCHIVE_SECRET_ACCESS_KEY_FILE"),
        ("ARCHIVE_BATCHSIZE", "ARCHIVE_BATCH_SIZE"),
    ],
)
def test_a_mistyped_name_is_an_error_that_names_the_nearest(name: str, nearest: str) -> None:
    problem = _only(problems(**{name: "value-of-it"}))
    assert problem == f"{name} is not a setting; did you mean {nearest}?"


def test_names_that_are_not_ours_are_left_alone() -> None:
    assert problems(SUPABASE_ANON_KEY="x", PATH="/bin", ARCHIVER="y") == ()


@pytest.mark.parametrize(
    ("missing", "needed_by"),
    [
        ("ARCHIVE_ACCESS_KEY_ID", "provider r2"),
        ("ARCHIVE_SECRET_ACCESS_KEY", "provider r2"),
        ("ARCHIVE_ENDPOINT", "provider r2 needs https://<account id>.r2"),
        ("ARCHIVE_DATABASE_URL", "archiving needs it"),
        ("SUPABASE_SERVICE_ROLE_KEY", "ARCHIVE_HOT=supabase"),
        ("SUPABASE_URL", "ARCHIVE_HOT is not set"),
    ],
)
def test_a_missing_setting_is_told_with_who_needs_it(missing: str, needed_by: str) -> None:
    problem = _only(problems(**{missing: None}))
    assert missing in problem
    assert needed_by in problem


@pytest.mark.parametrize(
    "endpoint",
    [
        "https://0a1b.r2.cloudflarestorage.com/cold",
        "https://r2.cloudflarestorage.com",
        "https://pub-1.r2.dev",
    ],
)
def test_what_is_not_r2s_s3_endpoint_is_refused_with_its_form(endpoint: str) -> None:
    problem = _only(problems(ARCHIVE_ENDPOINT=endpoint))
    assert "https://<account id>.r2.cloudflarestorage.com, without the bucket" in problem


def test_a_jurisdictions_r2_endpoint_is_right() -> None:
    assert problems(ARCHIVE_ENDPOINT="https://0a1b.eu.r2.cloudflarestorage.com") == ()


def test_b2_is_refused_over_http_whatever_is_allowed() -> None:
    problem = _only(
        problems(
            ARCHIVE_PROVIDER="b2",
            ARCHIVE_ENDPOINT="http://s3.us-west-002.backblazeb2.com",
            ARCHIVE_ALLOW_HTTP="on",
        )
    )
    assert "B2 speaks https only" in problem


@pytest.mark.parametrize(
    "changes",
    [
        {"ARCHIVE_PROVIDER": "minio", "ARCHIVE_ENDPOINT": "http://minio:9000"},
        {"SUPABASE_URL": "http://kong:8000"},
        {**HOT_S3, "ARCHIVE_HOT_ENDPOINT": "http://minio:9000"},
    ],
)
def test_plain_http_is_for_this_machine_or_on_request(changes: dict[str, str]) -> None:
    name = next(name for name, value in changes.items() if value.startswith("http://"))

    assert f"{name} is" in _only(problems(**changes))
    assert problems(**changes, ARCHIVE_ALLOW_HTTP="on") == ()
    assert problems(**{**changes, name: "http://127.0.0.1:9000"}) == ()
    assert problems(**{**changes, name: "http://[::1]:9000"}) == ()


def test_settings_of_a_hot_s3_store_are_refused_beside_another_hot_store() -> None:
    told = problems(ARCHIVE_HOT_ENDPOINT="https://hot.example.com")
    assert "it belongs to ARCHIVE_HOT=s3://" in _only(told)


def test_one_place_as_hot_and_cold_is_refused() -> None:
    same_bucket = {**HOT_S3, "ARCHIVE_HOT": "s3://cold"}
    same_bucket["ARCHIVE_HOT_ENDPOINT"] = RIGHT["ARCHIVE_ENDPOINT"]
    assert "one place" in _only(problems(**same_bucket))

    inside: dict[str, str | None] = {
        "ARCHIVE_PROVIDER": "file",
        "ARCHIVE_ENDPOINT": "file:///srv/hot/cold",
        "ARCHIVE_HOT": "file:///srv/hot",
    }
    assert "one place" in _only(problems(**inside))
    assert problems(**{**inside, "ARCHIVE_ENDPOINT": "file:///srv/cold"}) == ()


def test_the_longest_wait_is_not_below_the_first() -> None:
    told = _only(problems(ARCHIVE_RETRY_BASE="1m", ARCHIVE_RETRY_MAX="5s"))
    assert told.startswith("ARCHIVE_RETRY_MAX is 5s; it must not be below")


# --- secrets ----------------------------------------------------------------------------


def test_a_secret_may_come_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("from-the-file\n")
    read = settings(ARCHIVE_SECRET_ACCESS_KEY=None, ARCHIVE_SECRET_ACCESS_KEY_FILE=str(file))

    assert isinstance(read.cold, ColdS3)
    assert read.cold.secret_access_key == Secret("from-the-file")
    assert read.seen["ARCHIVE_SECRET_ACCESS_KEY"].origin == f"file {file}"


def test_a_value_and_a_file_for_it_are_an_error() -> None:
    told = _only(problems(ARCHIVE_SECRET_ACCESS_KEY_FILE="/run/secrets/key"))
    assert told == (
        "ARCHIVE_SECRET_ACCESS_KEY and ARCHIVE_SECRET_ACCESS_KEY_FILE are both set; "
        "keep one of them"
    )


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "cannot be read: no such file"),
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"\xff\xfe", "cannot be read as text"),
        (b"x" * 70_000, "too large"),
    ],
)
def test_an_unusable_file_is_told_by_its_name(
    tmp_path: Path, content: bytes | None, reason: str
) -> None:
    file = tmp_path / "key"
    if content is not None:
        file.write_bytes(content)
    told = _only(
        problems(ARCHIVE_SECRET_ACCESS_KEY=None, ARCHIVE_SECRET_ACCESS_KEY_FILE=str(file))
    )
    assert str(file) in told
    assert reason in told


def test_a_directory_in_place_of_a_file_is_told(tmp_path: Path) -> None:
    told = problems(
        SUPABASE_SERVICE_ROLE_KEY=None, SUPABASE_SERVICE_ROLE_KEY_FILE=str(tmp_path)
    )
    assert "is a directory" in _only(told)


@given(st.sampled_from(_SECRETS), _TYPED)
def test_nothing_that_is_shown_depends_on_a_secret(name: str, secret: str) -> None:
    read, other = (
        Settings.read(RIGHT | HOT_S3 | {name: value}) for value in (secret, "another-one")
    )

    assert repr(read) == repr(other)
    assert repr(read.seen) == repr(other.seen)
    assert read.masked(f"before {secret} after") == "before <SECRET> after"


@given(st.sampled_from(_SECRETS), _TYPED, st.sampled_from([" ", "\x00", "ä", "\n", "\u2028"]))
def test_no_wrong_secret_is_in_an_error(name: str, secret: str, spoiler: str) -> None:
    wrong = f"{secret}{spoiler}{secret}"

    told = _only(problems_of(RIGHT | HOT_S3 | {name: wrong}))

    assert told == f"{name} is <SECRET>; it must be printable ASCII without white space"


@given(_TYPED)
def test_no_wrong_database_url_is_in_an_error(password: str) -> None:
    told = _only(problems_of(RIGHT | {"ARCHIVE_DATABASE_URL": f"mysql://u:{password}@db/app"}))
    form = "postgresql://user:password@host:port/database"
    assert told == f"ARCHIVE_DATABASE_URL is <SECRET>; it must be {form}"


@given(st.from_regex(r"[a-z0-9]{12,}", fullmatch=True))
def test_a_password_within_an_endpoint_is_in_no_error(password: str) -> None:
    url = f"https://user:{password}@host"
    told = problems(ARCHIVE_ENDPOINT=url, SUPABASE_URL=url)
    assert [problem.partition(";")[0] for problem in told] == [
        "ARCHIVE_ENDPOINT is <SECRET>",
        "SUPABASE_URL is <SECRET>",
    ]


def test_the_value_of_an_unknown_name_is_not_told() -> None:
    told = _only(problems(ARCHIVE_SECRET_ACESS_KEY="pasted-secret"))
    assert "pasted-secret" not in told


def test_the_password_alone_of_a_database_url_is_masked() -> None:
    read = settings(ARCHIVE_DATABASE_URL="postgresql://u:top%2Fsecret@db/app")
    assert read.masked("tried top/secret, top%2Fsecret") == "tried <SECRET>, <SECRET>"


def test_a_value_that_does_not_print_is_told_in_one_line() -> None:
    told = _only(problems(ARCHIVE_PROVIDER="r2\x1b[2J\nx"))
    assert told.isprintable()


def test_the_environment_that_was_read_is_not_changed() -> None:
    environ = changed({})
    before = dict(environ)
    Settings.read(environ)
    assert environ == before
