-- Whether a worker gets on, and its last sweep, for `archiver health`.
--
-- The worker's role needs nothing more for it.

-- When its sweep last got on, as of its last beat. A worker whose store hangs still beats.
alter table archiver.worker add column progressed_at timestamptz not null default now();

create index sweep_by_worker on archiver.sweep (worker_id, sweep_id);

insert into archiver.schema_version (version, name) values (3, 'worker');
