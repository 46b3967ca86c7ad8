"""All rows of a small database, saved and put back in a few milliseconds.

    saved = copies.save()
    copies.put_back(saved)  # only the tables that differ are written

Which tables there are is asked of the database, so a new one is covered. Triggers and foreign
keys do not see it; sequences stay where they are, as they do when a transaction rolls back.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from psycopg import sql

if TYPE_CHECKING:
    from collections.abc import Mapping

    import psycopg

Rows = dict[str, str]  # JSON of a table's rows, in a fixed order, by the name of the table

_TABLES = """
select format('%I.%I', n.nspname, c.relname),
       string_agg(quote_ident(a.attname), ', ') filter (where a.attgenerated = '')
from pg_class c
join pg_namespace n on n.oid = c.relnamespace
join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
where c.relkind = 'r' and n.nspname in ('public', 'archiver')
group by 1
order by 1
"""
_BEHIND_THE_TRIGGERS = "set local session_replication_role = replica"


class Copies:
    """Saves and restores through a connection of its own, in autocommit, as the superuser."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection
        self._tables = dict(connection.execute(_TABLES).fetchall())  # with their own columns
        parts = [
            sql.SQL(
                "(select coalesce(jsonb_agg(t order by t::text), '[]')::text from {} t)"
            ).format(
                sql.SQL(name)  # quoted by the database where it must be
            )
            for name in self._tables
        ]
        self._save = sql.SQL("select ") + sql.SQL(", ").join(parts)

    def save(self) -> Rows:
        """What is committed now, of all tables as of one instant."""
        found = self._connection.execute(self._save).fetchone()
        assert found is not None
        return dict(zip(self._tables, found, strict=True))

    def put_back(self, saved: Rows) -> None:
        now = self.save()
        differing = [name for name in self._tables if now[name] != saved[name]]
        with self._connection.transaction():
            self._connection.execute(_BEHIND_THE_TRIGGERS)
            for name in differing:
                table = sql.SQL(name)
                self._connection.execute(sql.SQL("delete from {}").format(table))
                insert = sql.SQL(
                    "insert into {0} ({1}) overriding system value "
                    "select {1} from jsonb_populate_recordset(null::{0}, %s)"
                ).format(table, sql.SQL(self._tables[name]))
                self._connection.execute(insert, [saved[name]])


def rows_of(saved: Rows, table: str) -> list[Mapping[str, Any]]:
    """The rows of one table, as JSON tells them."""
    found: list[Mapping[str, Any]] = json.loads(saved[table])
    return found
