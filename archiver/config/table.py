"""Every setting there is, a row each: the reader, README and `archiver check` follow it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, get_args

from archiver.config import values
from archiver.events import Level
from archiver.formats.parts import PROFILES
from archiver.stores.providers import PROVIDERS, S3Client

if TYPE_CHECKING:
    from archiver.config.values import Kind

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Setting(Generic[T]):
    """One setting. Its default is text, as one would write it; None: nothing."""

    name: str
    kind: Kind[T]
    doc: str
    example: str  # valid, and not the default
    default: str | None = None
    is_secret: bool = False  # never shown
    has_file: bool = False  # NAME_FILE may name a file that holds the value
    plain_name: str | None = None  # the application's own name for it, used when ours is unset

    @property
    def names(self) -> tuple[str, ...]:
        """Under which it is looked for, in this order; `…_FILE` forms apart."""
        return (self.name,) if self.plain_name is None else (self.name, self.plain_name)


def _secret(name: str, doc: str, example: str) -> Setting[Any]:
    return Setting(name, values.SECRET, doc, example, is_secret=True, has_file=True)


# --- where objects go -------------------------------------------------------------------

PROVIDER = Setting(
    "ARCHIVE_PROVIDER",
    values.one_of({name: name for name in PROVIDERS}),
    "The product behind the cold store. Unset together with the bucket: archiving is disabled.",
    "minio",
)
BUCKET = Setting("ARCHIVE_BUCKET", values.BUCKET, "The cold bucket.", "cold-pages")
ENDPOINT = Setting(
    "ARCHIVE_ENDPOINT",
    values.ENDPOINT,
    "The cold store's S3 endpoint; may stay unset for `s3` (AWS). For `file`: a directory.",
    "https://minio.example.net",
)
ACCESS_KEY_ID = Setting(
    "ARCHIVE_ACCESS_KEY_ID",
    values.WORD,
    "Key id for the cold store. Not needed for `file`; for `s3` unset means the AWS chain.",
    "AKIAEXAMPLE",
    has_file=True,
)
SECRET_ACCESS_KEY = _secret(
    "ARCHIVE_SECRET_ACCESS_KEY",
    "Secret key for the cold store, where there is a key id.",
    "cold-secret-example",
)
SESSION_TOKEN = _secret(
    "ARCHIVE_SESSION_TOKEN",
    "Goes with temporary keys for the cold store. They are not refreshed: the AWS chain's are.",
    "cold-token-example",
)
REGION = Setting(
    "ARCHIVE_REGION",
    values.WORD,
    "The region requests are signed for; unset: what the provider's endpoint needs.",
    "eu-central-1",
)
PATH_PREFIX = Setting(
    "ARCHIVE_PATH_PREFIX",
    values.PREFIX,
    "Goes before every cold key, followed by a slash.",
    "preview/42",
    default="",
)

S3_CLIENT: Setting[S3Client] = Setting(
    "ARCHIVE_S3_CLIENT",
    values.one_of({client: client for client in get_args(S3Client)}),
    "What moves objects to a cold store on S3. `boto3` does what `obstore` does, more slowly.",
    "boto3",
    default="obstore",
)
STORAGE_CLASS = Setting(
    "ARCHIVE_STORAGE_CLASS",
    values.STORAGE_CLASS,
    "The class of new cold objects; unset: the bucket's own. What `GLACIER` and "
    "`DEEP_ARCHIVE` hold cannot be read back at once.",
    "STANDARD_IA",
)
SSE: Setting[Literal["AES256", "aws:kms"]] = Setting(
    "ARCHIVE_SSE",
    values.one_of({"AES256": "AES256", "aws:kms": "aws:kms"}),
    "Encryption by the cold store; unset: the bucket's own.",
    "aws:kms",
)
SSE_KMS_KEY_ID = Setting(
    "ARCHIVE_SSE_KMS_KEY_ID",
    values.WORD,
    "The key for `aws:kms`: its id, alias or ARN.",
    "alias/archive",
)

# --- what may move ----------------------------------------------------------------------

SOURCES = Setting(
    "ARCHIVE_SOURCES",
    values.SOURCES,
    "The sources to sweep, in this order: names, or paths of `.sql` files.",
    "task_html,avatars.sql",
    default="task_html",
)
RETENTION_JOBS = Setting(
    "ARCHIVE_RETENTION_JOBS",
    values.whole(0),
    "How many of the newest jobs of each domain and organisation stay hot; 0 keeps none.",
    "5",
    default="3",
)
RETENTION_AGE = Setting(
    "ARCHIVE_RETENTION_AGE",
    values.duration(),
    "A candidate is also older than this.",
    "30d",
    default="0s",
)

# --- where objects are ------------------------------------------------------------------

HOT = Setting(
    "ARCHIVE_HOT",
    values.HOT,
    "The hot store. `supabase` is the default where `SUPABASE_URL` is set; `s3://` takes the "
    "bucket from the row.",
    "file:///srv/hot",
)
HOT_ENDPOINT = Setting(
    "ARCHIVE_HOT_ENDPOINT",
    values.HTTP_URL,
    "S3 endpoint of the hot store; unset: AWS.",
    "https://hot.example.net",
)
HOT_ACCESS_KEY_ID = Setting(
    "ARCHIVE_HOT_ACCESS_KEY_ID",
    values.WORD,
    "Key id for a hot store on S3; unset: the AWS chain.",
    "AKIAHOTEXAMPLE",
    has_file=True,
)
HOT_SECRET_ACCESS_KEY = _secret(
    "ARCHIVE_HOT_SECRET_ACCESS_KEY", "Secret key for a hot store on S3.", "hot-secret-example"
)
HOT_SESSION_TOKEN = _secret(
    "ARCHIVE_HOT_SESSION_TOKEN", "Goes with temporary keys for it.", "hot-token-example"
)
HOT_REGION = Setting(
    "ARCHIVE_HOT_REGION", values.WORD, "Region of a hot store on S3.", "eu-west-1"
)
SUPABASE_URL = Setting(
    "SUPABASE_URL",
    values.HTTP_URL,
    "The Supabase project; one slash at its end is dropped.",
    "https://project.supabase.co",
)
SUPABASE_SERVICE_ROLE_KEY = _secret(
    "SUPABASE_SERVICE_ROLE_KEY",
    "Reads and deletes the hot objects of the project.",
    "service-role-example",
)
SUPABASE_PUBLISHABLE_KEY = _secret(
    "SUPABASE_PUBLISHABLE_KEY",
    "Sent as `apikey`; unset: the service role key.",
    "publishable-example",
)

# --- the ledger -------------------------------------------------------------------------

DATABASE_URL = Setting(
    "ARCHIVE_DATABASE_URL",
    values.DATABASE_URL,
    "The Postgres database of the rows and the ledger.",
    "postgresql://archiver:example@db.example.net/app",
    is_secret=True,
    has_file=True,
    plain_name="DATABASE_URL",
)
MIGRATE_URL = Setting(
    "ARCHIVE_MIGRATE_URL",
    values.DATABASE_URL,
    "The same database under a role that may create tables; unset: the one above.",
    "postgresql://owner:example@db.example.net/app",
    is_secret=True,
    has_file=True,
)
LEASE = Setting(
    "ARCHIVE_LEASE",
    values.duration(at_least_seconds=1),
    "How long a worker that no longer answers keeps its claims.",
    "2m",
    default="60s",
)

STATE_DIR = Setting(
    "ARCHIVE_STATE_DIR",
    values.STATE_DIR,
    "Where what has no database keeps its record (`ledger.sqlite`), on a disk of this machine. "
    "Unset: `$XDG_STATE_HOME/archiver`, else `~/.local/state/archiver`.",
    "/var/lib/archiver",
)
UPLOAD_EXPIRY = Setting(
    "ARCHIVE_UPLOAD_EXPIRY",
    values.duration(at_least_seconds=60),
    "An upload in parts that nobody has gone on with for so long is aborted.",
    "3d",
    default="24h",
)

# --- proof and release ------------------------------------------------------------------

EVIDENCE = Setting(
    "ARCHIVE_EVIDENCE",
    values.EVIDENCE,
    "The least proof of a cold copy. `auto`: `signed` where the store was seen to enforce it, "
    "else `readback`.",
    "readback",
    default="auto",
)
STATEMENT_TIMEOUT = Setting(
    "ARCHIVE_STATEMENT_TIMEOUT",
    values.duration(at_least_seconds=1),
    "How long one statement may take in the database. Without any answer 5s later the worker "
    "gives it up, and its connection.",
    "5m",
    default="1m",
)
RELEASE = Setting(
    "ARCHIVE_RELEASE",
    values.SWITCH,
    "`off`: copy, prove and flip the rows, but delete no hot copy.",
    "off",
    default="on",
)
RELEASE_GRACE = Setting(
    "ARCHIVE_RELEASE_GRACE",
    values.duration(),
    "How long a hot copy stays after its row was flipped.",
    "1h",
    default="15m",
)

# --- pace and limits --------------------------------------------------------------------

BATCH_SIZE = Setting(
    "ARCHIVE_BATCH_SIZE",
    values.whole(1, 10_000),
    "How many candidates are claimed at once.",
    "100",
    default="500",
)
CONCURRENCY = Setting(
    "ARCHIVE_CONCURRENCY",
    values.CONCURRENCY,
    "How many objects are moved at once. `auto`: found by measuring, from 16 up to 256; fewer "
    "where a store throttles.",
    "5",
    default="auto",
)
MAX_OBJECTS = Setting(
    "ARCHIVE_MAX_OBJECTS",
    values.whole(1),
    "A sweep stops after so many objects.",
    "100000",
)
MAX_BYTES = Setting(
    "ARCHIVE_MAX_BYTES",
    values.size(at_least_bytes=1),
    "A sweep stops after so many bytes.",
    "200GB",
)
MAX_DURATION = Setting(
    "ARCHIVE_MAX_DURATION",
    values.duration(at_least_seconds=0.001),
    "After this long a run over all sources begins nothing new. The worker's next one begins "
    "with the next source.",
    "2h",
)
EGRESS_BUDGET = Setting(
    "ARCHIVE_EGRESS_BUDGET",
    values.EGRESS_BUDGET,
    "All workers together read no more bytes of stores that charge for it, in any such time; "
    "then sweeps end as `budget`.",
    "200GiB/month",
    default="off",
)
MAX_FAILURE_RATIO = Setting(
    "ARCHIVE_MAX_FAILURE_RATIO",
    values.RATIO,
    "A sweep stops when more than this share of its objects failed.",
    "0.05",
    default="off",
)
BANDWIDTH = Setting(
    "ARCHIVE_BANDWIDTH",
    values.BYTE_RATE,
    "The most that is sent to and read from each store, the hot one and the cold one, by one "
    "process; unset: as fast as it goes.",
    "50MiB/s",
)
REQUESTS_PER_SECOND = Setting(
    "ARCHIVE_REQUESTS_PER_SECOND",
    values.REQUEST_RATE,
    "The most requests to each of the two stores, by one process; unset: as fast as it goes.",
    "100",
)
PROFILE = Setting(
    "ARCHIVE_PROFILE",
    values.one_of(PROFILES),
    "How the network is: objects above 32 MiB (`datacenter`), 8 MiB (`tactical`) or 1 MiB "
    "(`edge`) go in parts of that size, or the least the store takes.",
    "edge",
    default="tactical",
)
PART_SIZE = Setting(
    "ARCHIVE_PART_SIZE",
    values.size(at_least_bytes=1 << 20),
    "The size of these parts, in place of the profile's; larger where an object would have "
    "more parts than the store takes.",
    "64MiB",
)
TIMEOUT = Setting(
    "ARCHIVE_TIMEOUT",
    values.duration(at_least_seconds=0.001),
    "How long one small object or one part may take. Unset: the profile's, 1m, 2m or 5m.",
    "30s",
)

# --- failures ---------------------------------------------------------------------------

MAX_ATTEMPTS = Setting(
    "ARCHIVE_MAX_ATTEMPTS",
    values.whole(1, 1_000),
    "An object that failed so often is parked.",
    "5",
    default="16",
)
RETRY_BASE = Setting(
    "ARCHIVE_RETRY_BASE",
    values.duration(at_least_seconds=0.001),
    "The wait after an object's first failure; doubled after each further one.",
    "5s",
    default="2s",
)
RETRY_MAX = Setting(
    "ARCHIVE_RETRY_MAX",
    values.duration(at_least_seconds=0.001),
    "The longest such wait.",
    "2h",
    default="1h",
)

# --- the schedule -----------------------------------------------------------------------

INTERVAL = Setting(
    "ARCHIVE_INTERVAL",
    values.duration(at_least_seconds=0.001),
    "From the beginning of a sweep to that of the next; the first is at once.",
    "5m",
    default="1m",
)
SCHEDULE = Setting(
    "ARCHIVE_SCHEDULE",
    values.CRONTAB,
    "In place of the interval: when sweeps begin. The first is at once all the same.",
    "30 3 * * mon-fri",
)
WINDOW = Setting(
    "ARCHIVE_WINDOW",
    values.WINDOW,
    "Sweeps begin only in these hours; one under way at their end finishes what is in flight.",
    "22:00-06:00",
)
TIME_ZONE = Setting(
    "ARCHIVE_TIME_ZONE",
    values.TIME_ZONE,
    "Of the schedule and the window.",
    "Europe/Berlin",
    default="UTC",
)
HANG_AFTER = Setting(
    "ARCHIVE_HANG_AFTER",
    values.duration(at_least_seconds=1),
    "A sweep without progress for so long is said to hang; after twice as long the worker ends "
    "with code 3, to be started anew. Unset: 5 times `ARCHIVE_TIMEOUT`, and at least 2 leases "
    "and 2 times `ARCHIVE_STATEMENT_TIMEOUT`.",
    "30m",
)
PING_URL = Setting(
    "ARCHIVE_PING_URL",
    values.PING_URL,
    "Asked (GET) after a good sweep of all sources; after a bad one with `/fail` at its path's "
    "end.",
    "https://ping.example.net/uuid",
    is_secret=True,
    has_file=True,
)

# --- the process ------------------------------------------------------------------------

ONCE_WAIT = Setting(
    "ARCHIVE_ONCE_WAIT",
    values.duration(),
    "How long `--once` waits for retries that fall due.",
    "5m",
    default="1m",
)
DRAIN_TIMEOUT = Setting(
    "ARCHIVE_DRAIN_TIMEOUT",
    values.duration(),
    "How long a stopping process finishes what is in flight.",
    "50s",
    default="25s",
)
ALLOW_HTTP = Setting(
    "ARCHIVE_ALLOW_HTTP",
    values.SWITCH,
    "`on`: plain http endpoints are allowed beyond this machine too.",
    "on",
    default="off",
)
CA_BUNDLE = Setting(
    "ARCHIVE_CA_BUNDLE",
    values.CA_BUNDLE,
    "The authorities that the stores' certificates are checked against, all that are needed.",
    "/etc/ssl/certs/ca-certificates.crt",
)
HTTPS_PROXY = Setting(
    "HTTPS_PROXY",
    values.PROXY,
    "The way to stores with an https:// address; the others are reached directly.",
    "http://proxy.example.net:3128",
    is_secret=True,
    has_file=True,
    plain_name="https_proxy",
)
NO_PROXY = Setting(
    "NO_PROXY",
    values.NO_PROXY,
    "Where the proxy is left out.",
    ".example.net,10.0.0.0/8",
    default="",
    plain_name="no_proxy",
)
LOG_FORMAT: Setting[Literal["text", "json"]] = Setting(
    "ARCHIVE_LOG_FORMAT",
    values.one_of({"text": "text", "json": "json"}),
    "One line per event, either way.",
    "json",
    default="text",
)
LOG_LEVEL: Setting[Level] = Setting(
    "ARCHIVE_LOG_LEVEL",
    values.one_of({level: level for level in get_args(Level)}),
    "`debug` has a line for each object.",
    "debug",
    default="info",
)

SETTINGS: tuple[Setting[Any], ...] = tuple(
    setting for setting in list(globals().values()) if isinstance(setting, Setting)
)


def kind_of(name: str) -> Kind[Any]:
    """What a setting accepts."""
    return next(setting.kind for setting in SETTINGS if setting.name == name)


def readme_table() -> str:
    """The settings as a Markdown table, in the order of this file."""
    rows = [
        "| setting | default | what it does | accepts |",
        "|---|---|---|---|",
        *(_readme_row(setting) for setting in SETTINGS),
    ]
    return "\n".join(rows) + "\n"


def _readme_row(setting: Setting[Any]) -> str:
    name = f"`{setting.name}`"
    if setting.plain_name is not None:
        name += f" or `{setting.plain_name}`"
    if setting.has_file:
        name += " (`_FILE`)"
    default = f"`{setting.default}`" if setting.default else ""
    return f"| {name} | {default} | {setting.doc} | {setting.kind.accepts} |"
