"""`python -m archiver`: the scheduled worker, until it is asked to stop."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn

from archiver.cli.exits import ExitCode
from archiver.cli.running import observing, stopping_on_signals
from archiver.engine.stop import Stop
from archiver.events import WorkerDisabled, WorkerStopped

if TYPE_CHECKING:
    from archiver.cli.backstage import Backstage
    from archiver.config import Settings
    from archiver.protocols import Observer

_LOOK_SECONDS = 0.25  # between two looks at the wish to stop


def work(backstage: Backstage) -> ExitCode:
    """Sweep by the timetable. Asked to stop, it drains and ends with 0: that is success."""
    settings, stop = backstage.read_settings(), Stop()
    with (
        stopping_on_signals(stop),
        observing(backstage, settings, shows_progress=False) as observe,
    ):
        if settings.is_disabled:
            observe(WorkerDisabled())
            while stop.reason is None:
                backstage.clock.sleep(_LOOK_SECONDS)
            observe(WorkerStopped())
            return ExitCode.DONE
        code = _work(backstage, settings, observe, stop)
    return _end_process(code)


def _work(backstage: Backstage, settings: Settings, observe: Observer, stop: Stop) -> ExitCode:
    # APScheduler: 150 ms that no other command needs
    from archiver.ops.ping import Ping  # noqa: PLC0415
    from archiver.worker import End, Rounds, Worker, WorkerPlan  # noqa: PLC0415

    app, clock, url = backstage.import_app(), backstage.clock, settings.ping_url
    rounds = Rounds(
        lambda: app.open_archiver(settings, observe, clock),
        observe,
        clock,
        max_duration_seconds=settings.max_duration_seconds,
        masked=settings.masked,
    )
    plan = WorkerPlan(
        timetable=settings.timetable,
        drain_seconds=settings.drain_timeout_seconds,
        hang_after_seconds=settings.hang_after_seconds,
        sources=",".join(it.name for it in settings.of_sources),
    )
    ping = None
    if url is not None:
        proxy_url = settings.proxy_for(url.reveal())
        ping = Ping(url, observe, ca_bundle=settings.ca_bundle, proxy_url=proxy_url)
    worker = Worker(plan, rounds, observe, clock, ping=ping, masked=settings.masked)
    codes = {
        End.STOPPED: ExitCode.DONE,
        End.UNFINISHED: ExitCode.UNFINISHED,
        End.HUNG: ExitCode.FATAL,
    }
    return codes[worker.run(stop)]


def _end_process(code: ExitCode) -> NoReturn:
    """At once: a thread that hangs, or one that still pings, must not keep the process."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # a full disk, a closed pipe
            stream.flush()
    os._exit(code)
