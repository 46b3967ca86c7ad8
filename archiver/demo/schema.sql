-- The tables of an application that crawls websites: jobs visit the pages of a domain, and
-- each task keeps what it saw in the hot store. The columns that point at the cold store
-- are missing: `archiver migrate --source task_html` adds them, as on a live database.

create table organisations (
    id uuid primary key default gen_random_uuid(),
    name text not null unique
);

create table domains (
    id serial primary key,
    name text not null unique
);

create table pages (
    id serial primary key,
    domain_id integer not null references domains (id) on delete cascade,
    host text not null,
    path text not null,
    unique (domain_id, host, path)
);

create table jobs (
    id text primary key,
    domain_id integer not null references domains (id) on delete cascade,
    organisation_id uuid references organisations (id) on delete cascade,
    status text not null check (
        status in ('pending', 'running', 'completed', 'failed', 'cancelled', 'archived')
    ),
    created_at timestamptz not null,
    started_at timestamptz,
    completed_at timestamptz
);

create index on jobs (domain_id, organisation_id, completed_at desc);

create table tasks (
    id text primary key,
    job_id text not null references jobs (id) on delete cascade,
    page_id integer not null references pages (id) on delete cascade,
    status text not null check (
        status in ('pending', 'running', 'completed', 'failed', 'skipped')
    ),
    created_at timestamptz not null,
    completed_at timestamptz,
    status_code integer,
    html_storage_bucket text,
    html_storage_path text,
    html_content_type text,
    html_content_encoding text,
    html_size_bytes bigint,
    html_compressed_size_bytes bigint,
    html_sha256 text,
    html_captured_at timestamptz
);

create unique index on tasks (job_id, page_id);
