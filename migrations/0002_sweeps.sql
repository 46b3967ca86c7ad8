-- Sweeps as they were, and the operator's wishes.
--
-- The worker's role needs INSERT, UPDATE and DELETE on sweep and pause besides.

-- One row per sweep of one source.
create table archiver.sweep (
    sweep_id   bigint generated always as identity primary key,
    source     text not null,
    worker_id  bigint not null,
    started_at timestamptz not null default clock_timestamp(),
    ended_at   timestamptz, -- NULL: under way, or its worker died
    summary    jsonb, -- its counts, by the names of `--once --json`
    check ((ended_at is null) = (summary is null))
);

create index sweep_by_source on archiver.sweep (source, sweep_id);
create index sweep_by_start on archiver.sweep (started_at);

-- What all workers must leave undone until the row is gone.
create table archiver.pause (
    what      text primary key check (what in ('all', 'releases')),
    paused_at timestamptz not null default clock_timestamp()
);

-- Whether a store's ETag is the MD5 of the bytes. False: unknown, or it is not.
alter table archiver.probe add column etag_is_md5 boolean not null default false;

insert into archiver.schema_version (version, name) values (2, 'sweeps');
