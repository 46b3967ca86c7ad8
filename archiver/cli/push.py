"""`archiver push`: a file, or what a pipe gives, into the cold store."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import click

from archiver.cli import exits
from archiver.cli.backstage import Backstage, pass_backstage
from archiver.cli.options import BANDWIDTH, DIGEST, KEY, PART_SIZE, PROFILE
from archiver.cli.paper import print_facts, print_json, say, warn
from archiver.cli.running import stopping_on_signals, transferring
from archiver.engine.stop import Stop
from archiver.errors import ArchiverError, KeyHeld, Mismatch, TransientError
from archiver.ops.human import bytes_text, seconds_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from archiver.config import Settings
    from archiver.model import Digest
    from archiver.objects.pushing import Course, Pushed
    from archiver.protocols import Observer

_A_PIPE = "-"
_STDIN = 0

bandwidth_option = click.option(
    "--bandwidth", type=BANDWIDTH, metavar="RATE", help="In place of ARCHIVE_BANDWIDTH."
)
profile_option = click.option(
    "--profile", type=PROFILE, metavar="NAME", help="In place of ARCHIVE_PROFILE."
)
part_size_option = click.option(
    "--part-size", type=PART_SIZE, metavar="SIZE", help="In place of ARCHIVE_PART_SIZE."
)
json_option = click.option(
    "--json", "as_json", is_flag=True, help="Answer with one JSON object."
)


@click.command()
@click.argument("file", type=click.Path(), metavar="FILE|-")
@click.argument("key", type=KEY, required=False)
@click.option(
    "--digest", type=DIGEST, metavar="SHA256", help="Which the bytes must have, or none is put."
)
@click.option("--content-type", metavar="TYPE", help="Of the object.")
@profile_option
@part_size_option
@bandwidth_option
@json_option
@pass_backstage
def push(
    backstage: Backstage,
    *,
    file: str,
    key: str | None,
    digest: Digest | None,
    content_type: str | None,
    profile: str | None,
    part_size: str | None,
    bandwidth: str | None,
    as_json: bool,
) -> int:
    """Put a file into the cold store, below objects/. KEY: the file's name.

    Nothing is replaced; a key that holds the same bytes is success. A file above one part is
    resumed: after a crash, or Ctrl-C, the same command sends only what is missing. With - it
    is a pipe's: that cannot be read again, so nothing of it stays unless all of it came.
    """
    if file == _A_PIPE and key is None:
        raise click.UsageError("a pipe has no name: say its KEY.")
    named = KEY.convert(Path(file).name, None, None) if key is None else key
    flags = flags_of(profile=profile, part_size=part_size, bandwidth=bandwidth)
    asked = Asked(file, named, digest, content_type, flags, as_json=as_json)
    return run_push(backstage, asked)


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be pushed, and how."""

    file: str
    key: str  # below objects/
    digest: Digest | None
    content_type: str | None
    flags: dict[str, str]  # by the settings in whose place they stand
    as_json: bool

    @property
    def is_pipe(self) -> bool:
        return self.file == _A_PIPE


def flags_of(**flags: str | None) -> dict[str, str]:
    """The flags that were given, by their settings."""
    return {f"ARCHIVE_{name.upper()}": it for name, it in flags.items() if it is not None}


def run_push(backstage: Backstage, asked: Asked) -> int:
    """Push, and tell how it ended."""
    run = _Run(backstage, asked, backstage.clock.monotonic())
    try:
        pushed = run.push()
    except ArchiverError as error:
        return run.failed(error)
    except Exception as error:
        run.broken(error)
        raise
    run.done(pushed)
    return exits.ExitCode.DONE


@dataclass(slots=True)
class _Run:
    backstage: Backstage
    asked: Asked
    began_at: float
    stop: Stop = field(default_factory=Stop)
    course: Course | None = None

    def push(self) -> Pushed:
        settings = self.backstage.read_settings_of_objects(self.asked.flags)
        with (
            stopping_on_signals(self.stop),
            transferring(self.backstage, settings) as (observer, draw),
        ):

            def tell(course: Course) -> None:
                self.course = course
                draw(course)

            return self._push(settings, observer, tell)

    def _push(
        self, settings: Settings, observer: Observer, tell: Callable[[Course], object]
    ) -> Pushed:
        from archiver.objects import transfers  # noqa: PLC0415  # boto3: not for --help
        from archiver.objects.local_file import LocalFile, Pipe  # noqa: PLC0415
        from archiver.objects.pushing import Wanted  # noqa: PLC0415

        asked, clock, stop = self.asked, self.backstage.clock, self.stop
        wanted = Wanted(transfers.key_of(settings, asked.key), asked.digest, asked.content_type)
        with ExitStack() as opened:
            file = None if asked.is_pipe else opened.enter_context(LocalFile(Path(asked.file)))
            pusher = opened.enter_context(
                transfers.open_pusher(settings, observer, clock, stop, tell)
            )
            if file is None:
                pipe = Pipe(_STDIN, lambda: stop.reason is not None)
                return pusher.push_pipe(pipe, wanted)
            return pusher.push_file(file, wanted)

    # --- how it ended -------------------------------------------------------------------------

    def done(self, pushed: Pushed) -> None:
        seconds = self._seconds
        if self.asked.as_json:
            print_json(
                {
                    "state": "done",
                    "key": pushed.key,
                    "size_bytes": pushed.size_bytes,
                    "digest": pushed.digest,
                    "etag": pushed.etag,
                    "evidence": pushed.evidence,
                    "was_there": pushed.was_there,
                    "sent_bytes": pushed.sent_bytes,
                    "kept_bytes": pushed.kept_bytes,
                    "seconds": seconds,
                }
            )
            return
        if pushed.was_there:
            say(f"It is there already, with the same bytes ({seconds_text(seconds)}).")
        else:
            rate = bytes_text(pushed.sent_bytes / seconds if seconds else 0)
            say(f"Pushed in {seconds_text(seconds)}, {rate}/s.")
        facts = {
            "key": str(pushed.key),
            "size": f"{bytes_text(pushed.size_bytes)} ({pushed.size_bytes} bytes)",
            "sha256": str(pushed.digest),
            "proven by": str(pushed.evidence),
        }
        if pushed.kept_bytes:
            facts["resumed"] = f"{bytes_text(pushed.kept_bytes)} were there from before"
        print_facts(facts)

    def broken(self, bug: Exception) -> None:
        if self.asked.as_json:
            self._print_failure("failed", type(bug).__name__, 0)

    def failed(self, error: ArchiverError) -> int:
        """Say why, and how to go on."""
        told = self.backstage.masked(str(error))
        goes_on = isinstance(error, TransientError) and not isinstance(error, Mismatch)
        has_stopped = self.stop.reason is not None and goes_on
        kept_bytes = self._kept_bytes if goes_on else 0
        if self.asked.as_json:
            self._print_failure("stopped" if has_stopped else "failed", told, kept_bytes)
        warn("archiver: interrupted." if has_stopped else f"archiver: {told}")
        if self.asked.is_pipe and not isinstance(error, KeyHeld):
            warn("A pipe cannot be read again: nothing of it was kept.")
        elif kept_bytes:
            warn(
                f"{bytes_text(kept_bytes)} were sent and are kept until ARCHIVE_UPLOAD_EXPIRY: "
                "the same command goes on from there."
            )
        return exits.ExitCode.INTERRUPTED if has_stopped else exits.of_transfer(error)

    def _print_failure(self, state: str, told: str, kept_bytes: int) -> None:
        answer = {"state": state, "error": told, "kept_bytes": kept_bytes}
        print_json({**answer, "seconds": self._seconds})

    @property
    def _kept_bytes(self) -> int:
        if self.course is None or self.course.doing != "pushing" or self.asked.is_pipe:
            return 0
        return self.course.done_bytes

    @property
    def _seconds(self) -> float:
        return round(self.backstage.clock.monotonic() - self.began_at, 3)
