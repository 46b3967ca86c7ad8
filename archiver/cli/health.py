"""`archiver health`: whether the worker of this host does its work. Cheap, and soon there."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import click

from archiver.cli.backstage import Backstage, pass_backstage
from archiver.cli.exits import ExitCode
from archiver.cli.paper import instant, print_json, say
from archiver.errors import ArchiverError, SettingsError
from archiver.model import Pause

if TYPE_CHECKING:
    from archiver.config import Settings
    from archiver.ledger.health import Pulse
    from archiver.protocols import Clock

_BEATS_PER_LEASE = 4  # progress is as old as the last beat


@dataclass(frozen=True, slots=True)
class Health:
    """The answer, with its reason."""

    is_healthy: bool
    reason: str


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Answer with one JSON object.")
@pass_backstage
def health(backstage: Backstage, *, as_json: bool) -> int:
    """Say whether the worker of this host is healthy: exit code 0, else 1.

    It is while its last sweep is younger than twice the interval (by ARCHIVE_SCHEDULE: not
    before the last but one fire time), or a sweep is under way and gets on. One that is
    paused, disabled or outside its window is healthy. For a container's health check.
    """
    settings = backstage.read_settings()
    found = _disabled() if settings.is_disabled else _look(settings, backstage.clock)
    if as_json:
        print_json({"healthy": found.is_healthy, "reason": found.reason})
    else:
        say(f"{'healthy' if found.is_healthy else 'unhealthy'}: {found.reason}")
    return ExitCode.DONE if found.is_healthy else ExitCode.UNFINISHED


def _disabled() -> Health:
    reason = "archiving is disabled: neither ARCHIVE_PROVIDER nor ARCHIVE_BUCKET is set"
    return Health(is_healthy=True, reason=reason)


def _look(settings: Settings, clock: Clock) -> Health:
    from archiver.ledger.health import find_pulse  # noqa: PLC0415  # psycopg

    assert settings.database_url is not None  # noqa: S101  # whoever archives has one
    try:
        pulse = find_pulse(settings.database_url, socket.gethostname(), clock)
    except SettingsError:
        raise
    except ArchiverError as error:
        return Health(is_healthy=False, reason=settings.masked(str(error)))
    return judge(pulse, settings)


def judge(pulse: Pulse, settings: Settings) -> Health:
    """What a pulse means by this timetable."""
    from archiver.ops.schedule import Schedule  # noqa: PLC0415  # APScheduler

    if pulse.pause is Pause.ALL:
        return Health(is_healthy=True, reason="paused; `archiver resume` ends that")
    if not settings.timetable.is_open(pulse.asked_at):
        return Health(is_healthy=True, reason="outside ARCHIVE_WINDOW nothing is swept")
    if pulse.progressed_at is not None:
        return _under_way(pulse.asked_at - pulse.progressed_at, settings)
    since = Schedule(settings.timetable).last_but_one(pulse.asked_at)
    if since is None or (pulse.last_at is not None and pulse.last_at >= since):
        ended = (
            "" if pulse.last_state in (None, "done") else f", and it ended: {pulse.last_state}"
        )
        return Health(is_healthy=True, reason=f"last sweep {instant(pulse.last_at)}{ended}")
    reason = (
        f"no sweep on {socket.gethostname()} since {instant(pulse.last_at)}, nor after one was "
        f"due, {instant(since)}. The worker's log says why; is it silent, start it anew."
    )
    return Health(is_healthy=False, reason=reason)


def _under_way(idle: timedelta, settings: Settings) -> Health:
    beat_seconds = settings.lease_seconds / _BEATS_PER_LEASE
    told = f"last made progress {idle.total_seconds():.0f} s ago"
    if idle <= timedelta(seconds=settings.hang_after_seconds + beat_seconds):
        return Health(is_healthy=True, reason=f"a sweep is under way, it {told}")
    reason = (
        f"the sweep under way hangs, it {told}. The worker's log says where; start it anew."
    )
    return Health(is_healthy=False, reason=reason)
