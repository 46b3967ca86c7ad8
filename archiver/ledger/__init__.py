"""Postgres as the ledger. Knows SQL and psycopg; no store, no source's rows."""
