"""The kinds of value a setting may have: how each is read, and what it accepts.

A parser raises ValueError and nothing else; its text is not shown, `accepts` is, so no
parser can let a secret slip into a message.
"""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass
from decimal import Decimal
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar
from urllib.parse import unquote, urlsplit
from zoneinfo import ZoneInfo

from archiver.config.proxies import NoProxy
from archiver.model import EgressBudget, Evidence, Secret
from archiver.ops.timetable import Crontab, Window

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

T = TypeVar("T")
Number = TypeVar("Number", int, float)

_NANOSECONDS = {
    "d": 86_400 * 10**9,
    "h": 3_600 * 10**9,
    "m": 60 * 10**9,
    "s": 10**9,
    "ms": 10**6,
    "us": 10**3,
    "µs": 10**3,
    "ns": 1,
}
_DURATION_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h|d)", re.ASCII)
_LONGEST_NANOSECONDS = 36_500 * _NANOSECONDS["d"]  # a date minus this is still a date

_BYTES = {
    "B": 1,
    **{f"{letter}B": 1000**power for power, letter in enumerate("KMGT", 1)},
    **{f"{letter}IB": 1024**power for power, letter in enumerate("KMGT", 1)},
}
_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?([KMGT]?I?B)", re.ASCII | re.IGNORECASE)

_DAY_SECONDS = 86_400.0
_WINDOW_SECONDS = {"day": _DAY_SECONDS, "week": 7 * _DAY_SECONDS, "month": 30 * _DAY_SECONDS}
_WINDOW_LIMITS_SECONDS = (3_600.0, 366 * _DAY_SECONDS)
_LARGEST_BUDGET_BYTES = 10**18  # a bigint holds the sum of a few
_BIT_RATE = re.compile(r"(\d+(?:\.\d+)?) ?([KMGT]?)bit/s", re.ASCII | re.IGNORECASE)

_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}", re.ASCII)
_SOURCE = re.compile(r"[a-z][a-z0-9_]*|[^\s,]+\.sql", re.ASCII)
_WORD = re.compile(r"[\x21-\x7e]+", re.ASCII)
_LEAST_BYTES_PER_SECOND = 1_000
_LEAST_REQUESTS_PER_SECOND = 0.1  # else one look at an object is old before its delete
_LONGEST_PREFIX_BYTES = 512  # half of what a key may be


@dataclass(frozen=True, slots=True)
class Kind(Generic[T]):
    """How one kind of value is read from text, and what it accepts, in words."""

    accepts: str
    parse: Callable[[str], T]


def parse_duration(text: str) -> float:
    """Seconds of ``90s``, ``2h30m``, ``1.5h``, ``500ms``, ``7d``: Go's form, and days.

    Raises:
        ValueError: It is something else, such as a bare number other than 0.
    """
    if text == "0":
        return 0.0
    parts = _DURATION_PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(text)
    nanoseconds = sum(Decimal(number) * _NANOSECONDS[unit] for number, unit in parts)
    if nanoseconds > _LONGEST_NANOSECONDS:
        raise ValueError(text)
    return round(nanoseconds) / 10**9


def format_duration(seconds: float) -> str:
    """The shortest text that `parse_duration` reads back as the same number."""
    left = round(Decimal(str(seconds)) * 10**9)  # as it prints: a product of floats drifts
    if left == 0:
        return "0s"
    text = ""
    for unit in ("d", "h", "m"):
        count, left = divmod(left, _NANOSECONDS[unit])
        text += f"{count}{unit}" if count else ""
    if left >= _NANOSECONDS["s"]:
        return f"{text}{_plain(left, 's')}s"
    if left >= _NANOSECONDS["ms"]:
        return f"{text}{_plain(left, 'ms')}ms"
    return f"{text}{left}ns" if left else text


def _plain(nanoseconds: int, unit: str) -> str:
    return f"{(Decimal(nanoseconds) / _NANOSECONDS[unit]).normalize():f}"


def parse_size(text: str) -> int:
    """Bytes of ``64MiB`` (powers of 1024) or ``200GB`` (powers of 1000).

    Raises:
        ValueError: It is something else, such as a bare number.
    """
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ValueError(text)
    return int(Decimal(match[1]) * _BYTES[match[2].upper()])


def parse_byte_rate(text: str) -> int:
    """Bytes a second of ``50MiB/s`` or, as lines are sold, ``400Mbit/s`` (powers of 1000).

    Raises:
        ValueError: It is something else, such as a bare number.
    """
    bits = _BIT_RATE.fullmatch(text)
    if bits is not None:
        return int(Decimal(bits[1]) * _BYTES[f"{bits[2]}B".upper()] / 8)
    return parse_size(text.removesuffix("/s"))


def is_loopback(host: str) -> bool:
    """Whether a URL's host can only be this machine."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


# --- the kinds --------------------------------------------------------------------------


def duration(*, at_least_seconds: float = 0.0) -> Kind[float]:
    least = f", at least {format_duration(at_least_seconds)}" if at_least_seconds else ""

    def parse(text: str) -> float:
        return _within(parse_duration(text), at_least_seconds, float("inf"))

    return Kind(f"a duration such as 90s, 1m, 2h30m, 500ms or 7d{least}", parse)


def whole(at_least: int, at_most: int | None = None) -> Kind[int]:
    upper = "" if at_most is None else f" and at most {at_most:,}"

    def parse(text: str) -> int:
        if not re.fullmatch(r"[+-]?\d{1,18}", text, re.ASCII):
            raise ValueError(text)
        return _within(int(text), at_least, float("inf") if at_most is None else at_most)

    return Kind(f"a whole number, at least {at_least:,}{upper}", parse)


def _auto_or(number: Kind[int]) -> Kind[int | None]:
    """None is `auto`."""
    return Kind(
        f"auto, or {number.accepts}",
        lambda text: None if text.lower() == "auto" else number.parse(text),
    )


def size(*, at_least_bytes: int) -> Kind[int]:
    def parse(text: str) -> int:
        return _within(parse_size(text), at_least_bytes, float("inf"))

    return Kind(f"a size such as 64MiB or 200GB, at least {at_least_bytes}B", parse)


def one_of(choices: Mapping[str, T]) -> Kind[T]:
    def parse(text: str) -> T:
        try:
            return choices[text]
        except KeyError:
            raise ValueError(text) from None

    *most, last = choices
    return Kind(f"one of {', '.join(most)} or {last}" if most else last, parse)


def _within(number: Number, least: float, most: float) -> Number:
    if not least <= number <= most:
        raise ValueError(number)
    return number


def _parse_ratio(text: str) -> float | None:
    if text == "off":
        return None
    if not re.fullmatch(r"\d*\.?\d+", text, re.ASCII):
        raise ValueError(text)
    return _within(float(text), 0.0, 1.0)


def _parse_egress_budget(text: str) -> EgressBudget | None:
    if text == "off":
        return None
    limit, _, window = text.partition("/")
    limit_bytes = _within(parse_size(limit), 1, _LARGEST_BUDGET_BYTES)
    seconds = _WINDOW_SECONDS[window] if window in _WINDOW_SECONDS else parse_duration(window)
    return EgressBudget(limit_bytes, _within(seconds, *_WINDOW_LIMITS_SECONDS))


def _parse_byte_rate(text: str) -> int:
    return _within(parse_byte_rate(text), _LEAST_BYTES_PER_SECOND, float("inf"))


def _parse_request_rate(text: str) -> float:
    if not re.fullmatch(r"\d{1,9}(?:\.\d+)?", text, re.ASCII):
        raise ValueError(text)
    return _within(float(text), _LEAST_REQUESTS_PER_SECOND, float("inf"))


def _parse_prefix(text: str) -> str:
    trimmed = text.strip().strip("/")
    if not trimmed:
        return ""
    segments = trimmed.split("/")
    is_plain = trimmed.isprintable() and not {"", ".", ".."} & set(segments)
    if not is_plain or len(trimmed.encode()) > _LONGEST_PREFIX_BYTES:
        raise ValueError(text)
    return f"{trimmed}/"


def _parse_bucket(text: str) -> str:
    if not _BUCKET.fullmatch(text):
        raise ValueError(text)
    return text


def _parse_word(text: str) -> str:
    if not _WORD.fullmatch(text):
        raise ValueError(text)
    return text


def _parse_secret(text: str) -> Secret:
    return Secret(_parse_word(text))


def _parse_database_url(text: str) -> Secret:
    if not text.startswith(("postgresql://", "postgres://")) or not text.isprintable():
        raise ValueError(text)
    return Secret(text)


def _parse_http_url(text: str) -> str:
    url = urlsplit(_parse_word(text))
    has_more = "@" in url.netloc or "?" in text or "#" in text
    if url.scheme not in ("http", "https") or not url.hostname or has_more:
        raise ValueError(text)
    _ = url.port  # raises ValueError when it is no port
    return text.removesuffix("/")


def _parse_directory(text: str) -> Path:
    url = urlsplit(text)
    path = Path(unquote(url.path))
    is_whole = url.scheme == "file" and url.netloc in ("", "localhost")
    if not is_whole or url.query or url.fragment or not path.is_absolute():
        raise ValueError(text)
    if ".." in path.parts or not str(path).isprintable():
        raise ValueError(text)
    return path


def _parse_endpoint(text: str) -> str | Path:
    return _parse_directory(text) if text.startswith("file:") else _parse_http_url(text)


def _parse_state_dir(text: str) -> Path:
    """It may have to be made; from wherever it is named, it is the same one."""
    path = Path(text)
    if not path.is_absolute() or ".." in path.parts or not text.isprintable():
        raise ValueError(text)
    return path


def _parse_ca_bundle(text: str) -> Path:
    """A file of certificates. It is opened here: nothing works without it."""
    try:
        ssl.create_default_context(cafile=text)
    except OSError as exc:  # an SSLError is one, too
        raise ValueError(text) from exc
    return Path(text).absolute()


def _parse_proxy(text: str) -> Secret:
    url = urlsplit(_parse_word(text))
    is_more = url.path not in ("", "/") or url.query or url.fragment
    if url.scheme != "http" or not url.hostname or is_more:
        raise ValueError(text)
    _ = url.port  # raises ValueError when it is no port
    return Secret(text.removesuffix("/"))


def _parse_no_proxy(text: str) -> NoProxy:
    return NoProxy(tuple(entry.strip() for entry in text.split(",") if entry.strip()))


def _parse_time_zone(text: str) -> ZoneInfo:
    try:
        return ZoneInfo(text)
    except (KeyError, OSError) as exc:  # an unknown one; a directory of them
        raise ValueError(text) from exc


def _parse_ping_url(text: str) -> Secret:
    url = urlsplit(_parse_word(text))
    if url.scheme not in ("http", "https") or not url.hostname or "@" in url.netloc:
        raise ValueError(text)
    if url.fragment:
        raise ValueError(text)
    _ = url.port  # raises ValueError when it is no port
    return Secret(text)


def _parse_storage_class(text: str) -> str:
    if not re.fullmatch(r"[A-Z][A-Z0-9_]{0,63}", text, re.ASCII):
        raise ValueError(text)
    return text


def _parse_sources(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(","))
    if len(set(names)) != len(names) or not all(map(_SOURCE.fullmatch, names)):
        raise ValueError(text)
    return names


def _parse_hot(text: str) -> str | Path:
    if text.startswith("file:"):
        return _parse_directory(text)
    if text in ("supabase", "s3://"):
        return text
    if not text.startswith("s3://"):
        raise ValueError(text)
    return f"s3://{_parse_bucket(text.removeprefix('s3://').removesuffix('/'))}"


SWITCH = one_of({"on": True, "off": False})
RATIO = Kind("off, or a number between 0 and 1 such as 0.05", _parse_ratio)
EGRESS_BUDGET = Kind(
    "off, or a size, a slash and day, week, month (30 days) or a duration of 1h to 366d: "
    "200GiB/month, 5GB/day, 1TB/12h",
    _parse_egress_budget,
)
BYTE_RATE = Kind("a rate such as 50MiB/s or 400Mbit/s, at least 1KB/s", _parse_byte_rate)
REQUEST_RATE = Kind("a number, at least 0.1", _parse_request_rate)
PREFIX = Kind("path segments with / between them, none of them . or ..", _parse_prefix)
BUCKET = Kind("the bucket's name alone, without s3:// or slashes", _parse_bucket)
WORD = Kind("printable ASCII without white space", _parse_word)
SECRET = Kind("printable ASCII without white space", _parse_secret)
DATABASE_URL = Kind("postgresql://user:password@host:port/database", _parse_database_url)
HTTP_URL = Kind("https://host, without user, query or fragment", _parse_http_url)
ENDPOINT = Kind(
    "https://host (no user, query, fragment), or file:///directory", _parse_endpoint
)
SOURCES = Kind("names and .sql files with commas between them, each once", _parse_sources)
HOT = Kind("supabase, s3://, s3://bucket or file:///directory", _parse_hot)
EVIDENCE: Kind[Evidence | None] = one_of(
    {
        "auto": None,
        **{str(level): level for level in Evidence if level is not Evidence.UNPROVEN},
    }
)
CONCURRENCY = _auto_or(whole(1, 1_000))
STATE_DIR = Kind("the absolute path of a directory", _parse_state_dir)
CA_BUNDLE = Kind("a readable file of PEM certificates", _parse_ca_bundle)
PROXY = Kind("http://host:port, with user:password@ before the host if it asks", _parse_proxy)
NO_PROXY = Kind("hosts, .domains, addresses and networks with commas between", _parse_no_proxy)
CRONTAB = Kind(
    "five crontab fields such as 30 3 * * mon-fri, or @hourly, @daily, @weekly, @monthly",
    Crontab.parse,
)
TIME_ZONE = Kind("a time zone by its IANA name, such as Europe/Berlin", _parse_time_zone)
WINDOW = Kind(
    "HH:MM-HH:MM, days before it if need be: mon-fri 22:00-06:00,sat-sun 00:00-24:00",
    Window.parse,
)
PING_URL = Kind("https://host/path, with a query if it has one", _parse_ping_url)
STORAGE_CLASS = Kind("the provider's word for it, such as STANDARD_IA", _parse_storage_class)
