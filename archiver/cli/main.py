"""The command `archiver`: its options, its subcommands, and how every run ends."""

from __future__ import annotations

import errno
import io
import os
import sys
import traceback
from typing import TYPE_CHECKING, NoReturn, TextIO

import click

from archiver import __version__
from archiver.cli import once as once_command
from archiver.cli import worker as worker_command
from archiver.cli.adopt import adopt
from archiver.cli.backstage import Backstage, pass_backstage
from archiver.cli.discretion import keep_to_ourselves
from archiver.cli.exits import ExitCode, of_error
from archiver.cli.export import ledger
from archiver.cli.health import health
from archiver.cli.ledger import history, parked, pause, resume, retry, show, status
from archiver.cli.objects import head, ls, sign
from archiver.cli.options import DURATION, TEXT
from archiver.cli.paper import clean, warn
from archiver.cli.pull import pull
from archiver.cli.push import push
from archiver.cli.setup import check, demo, migrate
from archiver.cli.take_over import take_over
from archiver.cli.undo import undo
from archiver.cli.uploads import uploads
from archiver.errors import ArchiverError
from archiver.ops.memory import give_back_large_blocks

if TYPE_CHECKING:
    from collections.abc import Sequence

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}  # behind stdout: stores tell it as ours


def main() -> NoReturn:
    """Run the command and end the process with its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal may not know all letters
            stream.reconfigure(errors="backslashreplace")
    backstage = Backstage()
    keep_to_ourselves(backstage)
    give_back_large_blocks()
    code = run(sys.argv[1:], backstage)
    try:
        sys.stderr.flush()
    except OSError:  # a full disk under the log: the lines are lost, the exit code is not
        _let_go_of(sys.stderr)
    sys.exit(code)


def run(arguments: Sequence[str], backstage: Backstage) -> int:
    """Run the command; every error has become a message on stderr and an exit code."""
    try:
        # Not `cli.main`: it has its own idea of a closed pipe, and of exit codes.
        with cli.make_context("archiver", list(arguments), obj=backstage) as context:
            code = cli.invoke(context)
    except ArchiverError as error:
        warn(f"archiver: {backstage.masked(str(error))}")
        return of_error(error)
    except click.exceptions.Exit as ended:  # --help, --version
        return ended.exit_code
    except click.ClickException as error:
        told = io.StringIO()
        error.show(told)
        warn(told.getvalue().rstrip("\n"))  # cleaned: it may quote an id
        return ExitCode.SETTINGS
    except (KeyboardInterrupt, click.Abort):
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        # `archiver parked | head`: the reader has had enough.
        _let_go_of(sys.stdout)
        return ExitCode.DONE
    except Exception as error:  # noqa: BLE001
        if isinstance(error, OSError) and error.errno in _NO_ROOM:
            warn(f"archiver: the answer could not be written whole: {error.strerror}")
            _let_go_of(sys.stdout)
            return ExitCode.FATAL
        # A bug: told whole, but without secrets.
        warn(backstage.masked(clean(traceback.format_exc())))
        warn("archiver: this is a bug. Nothing is lost: whatever was under way is taken over.")
        return ExitCode.FATAL
    return ExitCode.DONE if code is None else int(code)


def _let_go_of(stream: TextIO) -> None:
    """What it still holds goes nowhere: else the interpreter complains when it flushes it."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


@click.group(
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 96},
)
@click.option("--once", is_flag=True, help="Archive everything that is due, then exit.")
@click.option(
    "--source",
    "sources",
    type=TEXT,
    multiple=True,
    metavar="NAME",
    help="Only this source; repeatable.",
)
@click.option("--limit", type=click.IntRange(min=1), help="Stop after so many objects.")
@click.option("--max-duration", type=DURATION, help="Begin nothing new after this long.")
@click.option("--dry-run", is_flag=True, help="Show what would move; write nothing.")
@click.option("--json", "as_json", is_flag=True, help="Answer with one JSON object.")
@click.version_option(__version__, message="%(prog)s %(version)s")
@click.pass_context
@pass_backstage
def cli(
    backstage: Backstage,
    context: click.Context,
    *,
    once: bool,
    sources: tuple[str, ...],
    limit: int | None,
    max_duration: float | None,
    dry_run: bool,
    as_json: bool,
) -> int | None:
    """Move objects from hot to cold storage; delete hot copies only against a receipt.

    Without --once and without a command this is the worker: it sweeps at once, then by
    ARCHIVE_INTERVAL or ARCHIVE_SCHEDULE, until SIGTERM.

    Settings come from ARCHIVE_* variables; `archiver check` shows them.

    Exit codes: 0 all due work is done or a limit was reached, 1 something failed and waits
    or is parked, 2 settings or usage, 3 fatal, 130 interrupted.
    """
    limits = (limit, max_duration)
    has_limits = any(it is not None for it in limits)
    has_options = once or bool(sources) or has_limits or dry_run or as_json
    if context.invoked_subcommand is not None:
        if has_options:
            message = f"options of {context.invoked_subcommand} go after its name."
            raise click.UsageError(message, context)
        return None
    if once:
        asked = once_command.Asked(sources or None, *limits, as_json=as_json)
        return (once_command.preview if dry_run else once_command.sweep)(backstage, asked)
    if has_options:
        message = (
            "--source, --limit, --max-duration, --dry-run and --json go with --once or a "
            "command."
        )
        raise click.UsageError(message, context)
    return worker_command.work(backstage)


ledger.add_command(take_over)
for _command in (
    check,
    migrate,
    health,
    adopt,
    status,
    history,
    parked,
    retry,
    show,
    pause,
    resume,
    undo,
    ledger,
    push,
    pull,
    ls,
    head,
    sign,
    uploads,
    demo,
):
    cli.add_command(_command)
