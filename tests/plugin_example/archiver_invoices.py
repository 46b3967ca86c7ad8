"""Invoices as PDF: a source for archiver in Python."""

import psycopg
from archiver.sources.plugins import PluginCandidate

FIND = """select id, due_at, 'invoices' as hot_bucket, pdf as hot_path from invoices
    where pdf is not null and (due_at, id) > (%s::timestamptz, %s) order by due_at, id limit %s"""
FLIP = """update invoices set pdf = null, cold_key = %s
    where id = %s and pdf = %s and 'invoices' = %s returning id"""


class Invoices:
    name = "invoices"

    def __init__(self, settings):
        self.url = settings.database_url.reveal()

    def cold_key(self, candidate):
        return f"invoices/{candidate.id}.pdf"

    def find_candidates(self, limit, after):
        place = (after.due_at, after.id) if after else ("-infinity", "")
        with psycopg.connect(self.url) as db:
            rows = db.cursor(row_factory=psycopg.rows.class_row(PluginCandidate))
            return rows.execute(FIND, (*place, limit)).fetchall()

    def on_archived(self, receipts, tx):
        rows = ((r.cold.key, r.id, r.location.path, r.location.bucket) for r in receipts)
        return {found[0] for row in sorted(rows) for found in tx.execute(FLIP, row)}
