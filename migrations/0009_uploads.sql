-- Objects on their way in parts, and what a probe found of parts.
--
-- The worker's role needs INSERT, UPDATE and DELETE on upload and upload_part.

-- What earlier releases probed says nothing of these: NULL, and the probe counts as none.
alter table archiver.probe
    add column enforces_signed_parts boolean,
    add column keeps_refused_parts   boolean;

-- Whose leases run now, under the present epoch.
create view archiver.live_worker as
select w.worker_id, w.epoch
from archiver.worker w
join archiver.fleet f on f.epoch = w.epoch
where w.left_at is null and w.lease_until > clock_timestamp();

-- One row per upload, here before the store is asked to begin it, so that whoever comes after a
-- death knows of it. Deleted when it was completed or aborted.
create table archiver.upload (
    upload_no   bigint generated always as identity primary key,
    provider    text not null,
    cold_bucket text not null,
    cold_key    text not null, -- whole, with the prefix
    origin      text not null, -- which bytes; parts of one origin serve no other
    size_bytes  bigint check (size_bytes >= 0), -- NULL: not known before the end
    part_bytes  bigint not null check (part_bytes > 0),
    source      text, -- NULL: pushed by a person or a program
    id          text,
    upload_id   text, -- the store's; NULL: nobody knows whether it was begun
    is_current  boolean not null default true, -- false: of no use any more, to be aborted
    epoch       integer, -- the fencing token of who owns it
    worker_id   bigint, -- NULL: nobody
    number      bigint,
    begun_at    timestamptz not null default clock_timestamp(),
    expires_at  timestamptz not null, -- no index: each part puts it off
    check ((source is null) = (id is null)),
    check ((worker_id is null) = (number is null) and (worker_id is null) = (epoch is null))
);

create unique index upload_current on archiver.upload (provider, cold_bucket, cold_key)
    where is_current;
create index upload_stale on archiver.upload (provider, cold_bucket, cold_key)
    where not is_current;
create index upload_of_row on archiver.upload (source, id) where source is not null;

-- One row per part that the store has acknowledged.
create table archiver.upload_part (
    upload_no       bigint not null references archiver.upload on delete cascade,
    number          integer not null check (number > 0),
    size_bytes      bigint not null check (size_bytes >= 0),
    digest          bytea not null check (octet_length(digest) = 32),
    etag            text not null,
    acknowledged_at timestamptz not null default clock_timestamp(),
    primary key (upload_no, number)
);

insert into archiver.schema_version (version, name) values (9, 'uploads');
