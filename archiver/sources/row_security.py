"""Row-level security must not hide rows from us: to a sweep, hidden and gone look alike.

A hidden candidate is never archived; a hidden pointer lets a hot copy be deleted that a
row still needs. Postgres itself says which statements are affected: with `row_security`
off it refuses them instead of filtering.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from archiver.errors import SourceRefused
from archiver.sources.sections import rolled_back
from archiver.sources.sql_names import TableName, tables

if TYPE_CHECKING:
    from collections.abc import Iterator

    from archiver.sources.sections import Sections, Tx
    from archiver.sources.sql_text import Statement

_POLICIES = """
    with applying as (
        select
            policy.polname, policy.polpermissive,
            coalesce(pg_get_expr(policy.polqual, policy.polrelid), 'true') = 'true'
                and coalesce(pg_get_expr(policy.polwithcheck, policy.polrelid), 'true') = 'true'
                as is_open
        from pg_catalog.pg_policy as policy
        where policy.polrelid = to_regclass(%(table)s)
            and policy.polcmd in ('*', %(command)s)
            and exists (
                select from unnest(policy.polroles) as member (role)
                where case when role = 0 then true else pg_has_role(role, 'usage') end
            )
    )
    select
        quote_ident(current_user) as role,
        coalesce(bool_or(polpermissive and is_open), false) as is_open,
        coalesce(
            array_agg(polname::text) filter (where not polpermissive and not is_open), '{}'
        ) as closing
    from applying
"""
_IS_ACTIVE = """
    select row_security_active(oid) from pg_catalog.pg_class
    where oid = to_regclass(%s) and relkind in ('r', 'p')
"""
_COMMANDS = {"r": "select", "w": "update"}


def check_row_security(sections: Sections, tx: Tx) -> None:
    """Prove that this role sees, and may update, every row of the tables it works on.

    Raises:
        SourceRefused: With the policies that would mend it.
    """
    wanted: dict[tuple[str, str], str] = {}  # (table, command): the section that needs it
    for section, statement in _affected(sections, tx):
        named = [table for table in tables(statement) if _is_active(table, tx)]
        if not named:
            problem = "row-level security hides rows of a table behind a view or function"
            fix = "Let the role bypass it: `alter role ... bypassrls`."
            raise sections.refused(section, problem, fix)
        for table in named:
            wanted.setdefault((table.text, "r"), section)
            if table.is_updated:
                wanted.setdefault((table.text, "w"), section)
    fixes = {key: fix for key in wanted if (fix := _fix(*key, tx))}
    if fixes:
        tables_ = ", ".join(sorted({table for table, _ in fixes}))
        problem = f"row-level security may hide rows of {tables_} from this role"
        first = wanted[next(iter(fixes))]
        raise sections.refused(first, problem, "\n".join(fixes.values()))


def _affected(sections: Sections, tx: Tx) -> Iterator[tuple[str, Statement]]:
    for section in sections.file.sections.values():
        for statement in section.statements:
            if sections.can_be_planned(section.name, statement) and _is_affected(
                sections, section.name, statement, tx
            ):
                yield section.name, statement


def _is_affected(sections: Sections, section: str, statement: Statement, tx: Tx) -> bool:
    try:
        with rolled_back(tx):
            tx.execute("set local row_security = off")
            sections.plan(tx, section, statement)
    except SourceRefused:
        return True  # it was planned before with row_security on, so this is the only cause
    return False


def _is_active(table: TableName, tx: Tx) -> bool:
    found = tx.execute(_IS_ACTIVE, [table.text]).fetchone()
    return bool(found and found[0])


def _fix(table: str, command: str, tx: Tx) -> str:
    """The statement that opens the table to this role; empty where it is open."""
    found = tx.execute(_POLICIES, {"table": table, "command": command}).fetchone()
    role, is_open, closing = found or ("", False, [])
    if closing:
        return f"alter role {role} bypassrls;  -- {table} has restrictive {', '.join(closing)}"
    if is_open:
        return ""
    verb = _COMMANDS[command]
    check = " with check (true)" if command == "w" else ""
    return f"create policy archiver_{verb} on {table} for {verb} to {role} using (true){check};"
