"""The user's own objects, on every store: read, put, deleted, signed. No ledger, no sweep."""
