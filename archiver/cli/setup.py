"""Before the first sweep: check the settings, migrate the database, see a demo."""

from __future__ import annotations

import click

from archiver.cli.backstage import Backstage, pass_backstage
from archiver.cli.exits import ExitCode
from archiver.cli.options import TEXT
from archiver.cli.paper import print_json, print_table, say

_json = click.option("--json", "as_json", is_flag=True, help="Answer with one JSON object.")


@click.command()
@_json
@pass_backstage
def check(backstage: Backstage, *, as_json: bool) -> int:
    """Show all settings and their origins.

    Connects to nothing; wrong settings are listed all at once.
    """
    settings = backstage.read_settings()
    if as_json:
        print_json(
            {
                "is_disabled": settings.is_disabled,
                "settings": [
                    {"name": name, "value": seen.shown, "origin": seen.origin}
                    for name, seen in settings.seen.items()
                ],
            }
        )
        return ExitCode.DONE
    print_table(
        ["setting", "value", "origin"],
        (
            [name, "unset" if seen.shown is None else seen.shown or "(empty)", seen.origin]
            for name, seen in sorted(settings.seen.items())
        ),
    )
    say("")
    if settings.is_disabled:
        say("The settings are valid. Archiving is disabled: no provider and no bucket are set.")
    else:
        say("The settings are valid. `archiver --once --dry-run` tries the database with them.")
    return ExitCode.DONE


@click.command()
@click.option(
    "--source", type=TEXT, metavar="NAME", help="What this source needs in the application."
)
@click.option("--print", "only_print", is_flag=True, help="Show its SQL; apply nothing.")
@_json
@pass_backstage
def migrate(
    backstage: Backstage, *, source: str | None, only_print: bool, as_json: bool
) -> int:
    """Bring the database up to date.

    The ledger's tables, or with --source what that source needs of the application's.
    """
    if only_print and source is None:
        message = "--print goes with --source."
        raise click.UsageError(message)
    settings = backstage.read_settings() if only_print else backstage.read_settings_to_migrate()
    app = backstage.import_app()
    if source is None:
        applied = app.migrate(settings, backstage.clock)
        lines = [f"applied {name}" for name in applied] or ["The ledger is up to date."]
        _answer({"applied": applied}, lines, as_json=as_json)
        return ExitCode.DONE
    statements = app.needs(settings, source)
    if only_print:
        lines = [f"{statement.rstrip().rstrip(';')};" for statement in statements]
        _answer({"statements": statements}, lines, as_json=as_json)
        return ExitCode.DONE
    app.apply_needs(settings, source, backstage.clock)
    _answer({"applied": statements}, [f"{source} has what it needs."], as_json=as_json)
    return ExitCode.DONE


def _answer(answer: object, lines: list[str], *, as_json: bool) -> None:
    if as_json:
        print_json(answer)
        return
    for line in lines:
        say(line)


@click.command()
@click.option("--keep", is_flag=True, help="Leave all of it running to look around.")
@pass_backstage
def demo(backstage: Backstage, *, keep: bool) -> int:
    """See a whole sweep on this machine.

    It brings a Postgres, two stores and real pages; nothing else is touched.
    """
    from archiver.demo.show import run  # noqa: PLC0415  # servers of its own: for it alone

    return run(keep=keep, clock=backstage.clock)
