"""The demo, told from the beginning to the end: read this first.

It starts a database and two stores, fills them as an application would, lets the real
command loose on them, and then looks for itself whether all is well.
"""

from __future__ import annotations

import gzip
import signal
import sys
import zlib
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from archiver.config import Settings
from archiver.demo import backlog, command
from archiver.demo.checks import Seen, check
from archiver.demo.interrupts import Interrupts
from archiver.demo.pages import pages
from archiver.demo.paper import Paper
from archiver.demo.state import State, bytes_of, observe, read_digests
from archiver.demo.world import Starting, World, require_packages
from archiver.model import Digest, Evidence
from archiver.ops.human import bytes_text, count_text, seconds_text

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TextIO

    from archiver.demo.backlog import Backlog, Captured
    from archiver.demo.command import Ran
    from archiver.protocols import Clock


def leave_alone(_world: World) -> None:
    """What stands between the sweep and the checks: nothing."""


def run(
    *,
    keep: bool,
    clock: Clock,
    stream: TextIO | None = None,
    meddle: Callable[[World], object] = leave_alone,
) -> int:
    """Show a whole sweep; 0 when every claim about it holds, else 1.

    With `keep` all of it stays until Ctrl-C. `meddle` is called between the sweep and the
    checks; the tests break something there, and the demo must see it.

    Raises:
        KeyboardInterrupt: Ctrl-C or SIGTERM; everything is ended before.
    """
    require_packages()
    paper, interrupts = Paper(stream or sys.stdout), Interrupts()
    try:
        with interrupts.handled(), ExitStack() as stack:
            is_well = _show(stack, interrupts, paper, clock, meddle, keep=keep)
    except (KeyboardInterrupt, RuntimeError) as error:
        if not interrupts.came:
            raise
        # A RuntimeError: the terminal's Ctrl-C ended a server while it was starting.
        paper.line("Interrupted; nothing is left of it.")
        raise KeyboardInterrupt from error
    if keep:
        paper.line("Ended; nothing is left of it.")
    return 0 if is_well else 1


def _show(
    stack: ExitStack,
    interrupts: Interrupts,
    paper: Paper,
    clock: Clock,
    meddle: Callable[[World], object],
    *,
    keep: bool,
) -> bool:
    paper.title("archiver demo: real pages move from hot to cold storage")
    starting = Starting(stack)
    with interrupts.allowed():
        real_pages = pages()
    world = starting.finish()
    story = _Story(world, backlog.spread(real_pages, clock.now()), paper, clock)
    with interrupts.allowed():
        is_well = story.tell(meddle)
        if not keep:
            story.tell_what_next()
    if keep:
        story.tell_how_to_look_around()
        _wait_for_the_end(interrupts)
    return is_well


def _wait_for_the_end(interrupts: Interrupts) -> None:
    try:
        with interrupts.allowed():
            while True:
                signal.pause()
    except KeyboardInterrupt:
        return


@dataclass(frozen=True, slots=True)
class _Story:
    world: World
    backlog: Backlog
    paper: Paper
    clock: Clock

    def tell(self, meddle: Callable[[World], object]) -> bool:
        """All but its end; whether every claim holds."""
        self._tell_what_is_started()
        self._tell_settings()
        backlog.plant(self.backlog, self.world.database_url, self.world.hot)
        self._migrate()
        before = observe(self.world)
        self._tell_before(before)
        began_at = self.clock.monotonic()
        sweep = self._sweep()
        seconds = self.clock.monotonic() - began_at
        meddle(self.world)
        after = observe(self.world)
        self._tell_after(before, after, seconds)
        return self._prove(before, sweep, after)

    # --- what there is ------------------------------------------------------------------

    def _tell_what_is_started(self) -> None:
        world, jobs = self.world, self.backlog.jobs
        domains = len({job.domain for job in jobs})
        pages_text = count_text(len(self.backlog.captured))
        self.paper.heading("Started", "on 127.0.0.1 alone, and gone at the end")
        self.paper.facts(
            {
                "Postgres": f"port {world.postgres.port}  the application's rows, the ledger",
                "hot store": f"port {world.hot.port}  S3 (moto), bucket {world.hot.bucket}",
                "cold store": f"port {world.cold.port}  S3 (moto), bucket {world.cold.bucket}",
                "pages": f"the documentation of {pages_text} Python modules, crawled by "
                f"{len(jobs)} jobs",
                "": f"of {domains} domains; the newest {backlog.RETENTION_JOBS} jobs of each "
                "domain and customer stay hot",
            }
        )

    def _tell_settings(self) -> None:
        self.paper.heading("Settings", "the whole environment of the command")
        seen = Settings.read(self.world.settings).seen
        self.paper.facts({name: str(seen[name].shown) for name in self.world.settings})

    def _migrate(self) -> None:
        for arguments in (["migrate"], ["migrate", "--source", "task_html"]):
            ran = self._run(*arguments)
            for line in ran.stdout.splitlines():
                self.paper.aside(line)
            if ran.exit_code != 0:
                raise command.CommandFailed(
                    command=" ".join(arguments), exit_code=ran.exit_code
                )

    def _tell_before(self, before: State) -> None:
        self.paper.heading("Before")
        hot, cold = bytes_text(bytes_of(before.hot)), bytes_text(bytes_of(before.cold))
        self.paper.line(
            f"{before.rows_hot} rows point hot, {before.rows_cold} point cold; "
            f"{before.jobs_archived} jobs are marked archived"
        )
        self.paper.line(
            f"{len(before.hot)} objects in hot ({hot}), {len(before.cold)} in cold ({cold})"
        )

    # --- the sweep ----------------------------------------------------------------------

    def _sweep(self) -> Ran:
        ran = self._run("--once", "--json")
        if ran.summary:
            self.paper.answer(ran.summary)
        return ran

    def _run(self, *arguments: str) -> Ran:
        self.paper.command(f"python -m archiver {' '.join(arguments)}")
        shows_progress = self.paper.is_terminal and sys.stderr.isatty()
        environment = dict(self.world.settings)
        if not self.paper.has_colours:
            environment["NO_COLOR"] = "1"
        tell = None if shows_progress else self.paper.aside
        return command.archiver(environment, *arguments, tell=tell)

    def _tell_after(self, before: State, after: State, seconds: float) -> None:
        self.paper.heading("After", seconds_text(seconds))
        pairs = zip(_columns(before), _columns(after), strict=True)
        head = ["", "before", "", "after", ""]
        self.paper.table([head, *([*was, *now[1:]] for was, now in pairs)])

    # --- the proof ----------------------------------------------------------------------

    def _prove(self, before: State, sweep: Ran, after: State) -> bool:
        second_sweep = self._sweep()
        seen = Seen(
            backlog=self.backlog,
            before=before,
            sweep=sweep,
            after=after,
            cold_digests=read_digests(self.world.cold, after.cold),
            second_sweep=second_sweep,
            at_last=observe(self.world),
        )
        self.paper.heading("Proof", "seen from outside, with plain SQL and plain S3")
        checks = check(seen)
        for it in checks:
            self.paper.verdict(it.claim, it.problem)
        is_equal = self._read_one_back(after)
        self._tell_evidence(after)
        return is_equal and all(it.holds for it in checks)

    def _read_one_back(self, after: State) -> bool:
        """The digests of one page, before and after its journey, for the reader to compare."""
        sample = self._sample()
        key = after.rows[sample.id].cold_key
        size = bytes_text(len(sample.page.html))
        claim = f"page `{sample.page.name}` ({size} of HTML), read back: the digests are equal"
        if key is None or key not in after.cold:
            self.paper.verdict(claim, "it is not in the cold store")
            return False
        html = _unpacked(self.world.cold.read(key))
        read = None if html is None else Digest.of(html)
        is_equal = read == sample.page.content_digest
        self.paper.verdict(claim, "" if is_equal else "they differ")
        self.paper.aside(f"hot, before  {sample.page.content_digest}")
        self.paper.aside(f"cold, now    {read or 'not even gzip'}")
        return is_equal

    def _sample(self) -> Captured:
        """The largest of the pages that are due."""
        return max(self.backlog.due, key=lambda captured: len(captured.page.html))

    def _tell_evidence(self, after: State) -> None:
        levels = sorted(set(after.evidence.values()))
        self.paper.heading("Evidence", ", ".join(map(str, levels)))
        if levels == [Evidence.READBACK]:
            self.paper.line(
                "moto does not check signatures, and archiver found out: it read every"
            )
            self.paper.line("copy back before it deleted the hot one.")

    # --- the end ------------------------------------------------------------------------

    def tell_what_next(self) -> None:
        self.paper.heading("Next")
        self.paper.steps(
            [
                ("the same, left running to look around", f"{_program()} demo --keep"),
                ("all settings, and where each came from", f"{_program()} check"),
            ]
        )

    def tell_how_to_look_around(self) -> None:
        path = self.world.write_settings()
        bucket = self.world.cold.bucket
        self.paper.heading("Look around", "from another shell, in this directory")
        self.paper.steps(
            [
                ("the settings above with their secrets; only you can read it", f". {path}"),
                ("counts, and one page's history", f"{_program()} status"),
                ("", f"{_program()} show {self._sample().id}"),
                ("the rows and the ledger", 'psql "$ARCHIVE_DATABASE_URL"'),
                (
                    "the stores; any keys will do",
                    f'aws s3 ls --recursive --endpoint-url "$ARCHIVE_ENDPOINT" s3://{bucket}',
                ),
            ]
        )
        self.paper.heading("Ctrl-C ends it", "and removes everything")


def _columns(state: State) -> list[list[str]]:
    return [
        ["rows that point hot", count_text(state.rows_hot), ""],
        ["rows that point cold", count_text(state.rows_cold), ""],
        ["jobs marked archived", count_text(state.jobs_archived), ""],
        ["objects in hot", count_text(len(state.hot)), bytes_text(bytes_of(state.hot))],
        ["objects in cold", count_text(len(state.cold)), bytes_text(bytes_of(state.cold))],
    ]


def _unpacked(body: bytes) -> bytes | None:
    try:
        return gzip.decompress(body)
    except (OSError, EOFError, zlib.error):
        return None


def _program() -> str:
    """The command as one can type it here."""
    python = Path(sys.executable)
    here = Path.cwd()
    shown = python.relative_to(here) if python.is_relative_to(here) else python
    return f"{shown} -m archiver"
