"""The author's own test, run in the environment of the plugin."""

import os
from datetime import timedelta

import psycopg
import pytest
from archiver.model import Secret
from archiver.testing import PluginSettings, PluginSource, SourceContract
from archiver_invoices import Invoices


class World:
    def __init__(self, url):
        self.url = url
        self.source = PluginSource(Invoices(PluginSettings(Secret(url), 3, timedelta())))
        self.db = psycopg.connect(url, autocommit=True)
        self.db.execute("truncate invoices")

    def plant(self, id_, due_at):
        self.db.execute("insert into invoices values (%s, %s, %s)", (id_, due_at, f"{id_}.pdf"))

    def change(self, id_):
        self.db.execute("update invoices set pdf = pdf || '2' where id = %s", (id_,))

    def flipped_to(self, id_):
        row = self.db.execute("select cold_key from invoices where id = %s", (id_,)).fetchone()
        return row and row[0]


class TestInvoices(SourceContract):
    @pytest.fixture
    def world(self):
        world = World(os.environ["INVOICES_URL"])
        yield world
        world.db.close()
