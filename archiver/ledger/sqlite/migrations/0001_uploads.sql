-- Who works here, and objects on their way in parts; as in Postgres, where both have it.

-- Which ledger this is. The epoch and the number are parts of every fencing token.
create table fleet (
    is_only        integer primary key check (is_only = 1),
    ledger_id      text not null,
    epoch          integer not null default 1,
    fencing_number integer not null default 0,
    created_at     text not null default (strftime('%Y-%m-%dT%H:%M:%f000+00:00'))
);
insert into fleet (is_only, ledger_id) values (1, lower(hex(randomblob(16))));

-- One row per process, deleted when it leaves or is found dead. lease_until is on the machine's
-- boot clock; lock_name is the file that the process holds locked while it lives.
create table worker (
    worker_id     integer primary key autoincrement,
    epoch         integer not null,
    lease_until   real not null,
    progressed_at text not null,
    started_at    text not null,
    host          text not null,
    pid           integer not null,
    version       text not null,
    lock_name     text not null unique
);

create table upload (
    upload_no   integer primary key autoincrement,
    provider    text not null,
    cold_bucket text not null,
    cold_key    text not null, -- whole, with the prefix
    origin      text not null, -- which bytes; parts of one origin serve no other
    size_bytes  integer check (size_bytes >= 0), -- NULL: not known before the end
    part_bytes  integer not null check (part_bytes > 0),
    source      text, -- NULL: pushed by a person or a program
    id          text,
    upload_id   text, -- the store's; NULL: nobody knows whether it was begun
    is_current  integer not null default 1 check (is_current in (0, 1)),
    epoch       integer, -- the fencing token of who owns it
    worker_id   integer, -- NULL: nobody
    number      integer,
    begun_at    text not null, -- all times: UTC, as 2026-01-31T12:00:00.000000+00:00
    expires_at  text not null,
    check ((source is null) = (id is null)),
    check ((worker_id is null) = (number is null) and (worker_id is null) = (epoch is null))
);

create unique index upload_current on upload (provider, cold_bucket, cold_key)
    where is_current;
create index upload_by_location on upload (provider, cold_bucket, cold_key);
create index upload_of_row on upload (source, id) where source is not null;

create table upload_part (
    upload_no       integer not null references upload on delete cascade,
    number          integer not null check (number > 0),
    size_bytes      integer not null check (size_bytes >= 0),
    digest          blob not null check (typeof(digest) = 'blob' and length(digest) = 32),
    etag            text not null,
    acknowledged_at text not null,
    primary key (upload_no, number)
) without rowid;
