-- Undo, and the ledger as a table that can be handed to others.

-- By time: what was archived since then, however long the ledger is. Receipts of one
-- transaction have one time, which the index keeps once.
create index receipt_by_time on archiver.receipt (archived_at);

insert into archiver.schema_version (version, name) values (5, 'undo');
