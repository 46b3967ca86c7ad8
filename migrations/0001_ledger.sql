-- The ledger: who works here, what is claimed, what was proven, how it ended.
--
-- Applied by `archiver migrate`, or by hand: psql -1 -v ON_ERROR_STOP=1 -f 0001_ledger.sql
--
-- Least privilege. The role that migrates owns the schema. The worker's role needs USAGE on
-- the schema and on the sequence, SELECT on everything in it, and
--   INSERT                  on place, receipt, outcome: what was proven is never changed, so
--                           no UPDATE and no DELETE there;
--   INSERT, UPDATE, DELETE  on worker, probe, claim, release and the tables of task_html;
--   nothing more            on fleet and schema_version.

create schema if not exists archiver;

create table archiver.schema_version (
    version    integer primary key,
    name       text not null,
    sha256     bytea, -- of the file; NULL until `archiver migrate` has seen it
    applied_at timestamptz not null default now()
);

-- Which ledger this is. The epoch is part of every fencing token: raising it disarms all
-- workers at once.
create table archiver.fleet (
    is_only    boolean primary key default true check (is_only),
    ledger_id  uuid not null default gen_random_uuid(),
    epoch      integer not null default 1,
    created_at timestamptz not null default now()
);
insert into archiver.fleet default values;

-- The number in a fencing token, raised by each claim of anything.
create sequence archiver.fencing_number;

-- One row per process. A worker keeps what it claimed while now < lease_until, by this
-- database's clock. left_at: it went in good order, so what it left behind is no crash.
create table archiver.worker (
    worker_id   bigint generated always as identity primary key,
    epoch       integer not null,
    lease_until timestamptz not null,
    left_at     timestamptz,
    started_at  timestamptz not null default now(),
    host        text not null,
    pid         integer not null,
    version     text not null
);

-- What a probe of a cold store found; believed for some days.
create table archiver.probe (
    name                   text primary key,
    enforces_signed_digest boolean not null,
    enforces_create        boolean not null,
    returns_digest         boolean not null,
    probed_at              timestamptz not null
);

-- One row per (source, id) in motion, with the whole candidate, so that a retry and a
-- take-over need no query by id. Deleted at the end.
create table archiver.claim (
    source           text not null,
    id               text not null,
    state            text not null
        check (state in ('claimed', 'waiting', 'proved', 'held', 'parked')),
    due_at           timestamptz not null,
    hot_bucket       text, -- NULL: a bad pointer
    hot_path         text,
    cold_key         text, -- without the path prefix; NULL: a bad pointer
    digest           bytea check (octet_length(digest) = 32),
    content_digest   bytea check (octet_length(content_digest) = 32),
    size_bytes       bigint,
    content_type     text,
    content_encoding text,
    group_id         text,
    metadata         jsonb not null default '{}',
    epoch            integer not null,
    worker_id        bigint not null, -- who claimed it last
    number           bigint not null,
    attempts_count   integer not null default 0,
    crashes_count    integer not null default 0,
    next_attempt_at  timestamptz,
    reason           text,
    claimed_at       timestamptz not null default now(),
    parked_at        timestamptz,
    primary key (source, id),
    check (state not in ('waiting', 'held') or next_attempt_at is not null),
    check (state <> 'parked' or (reason is not null and parked_at is not null)),
    check (state <> 'claimed' or (hot_bucket is not null and hot_path is not null
                                  and cold_key is not null))
)
with (autovacuum_vacuum_scale_factor = 0.05); -- every row is written and deleted soon after

create index claim_by_state on archiver.claim (source, state, next_attempt_at);

-- What many receipts have in common.
create table archiver.place (
    place_id    integer generated always as identity primary key,
    provider    text not null,
    cold_bucket text not null,
    prefix      text not null, -- goes before the cold key
    hot_bucket  text not null,
    unique (provider, cold_bucket, prefix, hot_bucket)
);

-- One row per proven cold copy. Inserted once, never updated.
create table archiver.receipt (
    receipt_id      bigint generated always as identity primary key,
    source          text not null,
    id              text not null,
    epoch           integer not null, -- the fencing token it was recorded under
    worker_id       bigint not null,
    number          bigint not null,
    place_id        integer not null references archiver.place,
    cold_key        text not null, -- without the prefix
    hot_path        text, -- NULL: equal to the cold key
    size_bytes      bigint not null,
    digest          bytea not null check (octet_length(digest) = 32),
    content_digest  bytea check (octet_length(content_digest) = 32),
    etag            text, -- of the cold object
    hot_size_bytes  bigint, -- NULL: equal to size_bytes
    hot_etag        text, -- neither etag nor version: the hot object was missing (recovered)
    hot_version     text,
    hot_modified_at timestamptz,
    evidence        smallint not null check (evidence between 0 and 3),
    group_id        text,
    archived_at     timestamptz not null default now()
);

create index receipt_by_id on archiver.receipt (id, source); -- an id is also asked for alone

-- One row per receipt whose hot copy is not let go yet. A claim cannot play this part: the
-- id may be captured again, and claimed again, while this is pending. Deleted at the end.
create table archiver.release (
    receipt_id     bigint primary key references archiver.receipt,
    source         text not null,
    due_at         timestamptz not null,
    epoch          integer,
    worker_id      bigint, -- NULL: nobody holds it
    number         bigint,
    attempts_count integer not null default 0,
    reason         text,
    parked_at      timestamptz,
    check (parked_at is null or (reason is not null and worker_id is null)),
    check ((worker_id is null) = (number is null) and (worker_id is null) = (epoch is null))
)
with (autovacuum_vacuum_scale_factor = 0.05);

create index release_by_due on archiver.release (source, due_at, receipt_id);

-- How a receipt ended. Appended, never changed.
create table archiver.outcome (
    receipt_id bigint not null references archiver.receipt,
    source     text not null,
    outcome    text not null check (outcome in ('released', 'replaced', 'undone', 'restored')),
    detail     text,
    at         timestamptz not null default now()
);

create index outcome_by_receipt on archiver.outcome (receipt_id, at);

-- Receipts as people read them: nothing abbreviated.
create view archiver.archived as
select r.receipt_id, r.source, r.id, r.epoch, r.worker_id, r.number,
       p.hot_bucket, coalesce(r.hot_path, r.cold_key) as hot_path,
       p.provider, p.cold_bucket, p.prefix || r.cold_key as cold_key,
       r.size_bytes, r.digest, r.content_digest, r.etag,
       coalesce(r.hot_size_bytes, r.size_bytes) as hot_size_bytes,
       r.hot_etag, r.hot_version, r.hot_modified_at,
       r.evidence, r.group_id, r.archived_at
from archiver.receipt r
join archiver.place p using (place_id);

-- task_html's own: the jobs whose pages may move in this sweep, oldest first.
create table archiver.task_html_rank (
    job_id text primary key,
    due_at timestamptz not null
);

create index task_html_rank_by_due on archiver.task_html_rank (due_at, job_id);

-- Jobs of which a page was archived since the marker last looked.
create table archiver.task_html_touched (
    job_id text primary key
);

-- What a job was before it was marked archived; ranking goes on using it.
create table archiver.job_mark (
    job_id        text primary key,
    status_before text not null,
    completed_at  timestamptz,
    marked_at     timestamptz not null default now()
);

insert into archiver.schema_version (version, name) values (1, 'ledger');
