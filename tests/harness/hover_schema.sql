-- The tables of the reference application, as far as an archive can meet them: columns,
-- indexes, checks, and the triggers that matter.

create table organisations (
    id uuid primary key default gen_random_uuid()
);

create table users (
    id uuid primary key default gen_random_uuid()
);

create table domains (
    id serial primary key,
    name text not null unique
);

create table schedulers (
    id uuid primary key default gen_random_uuid()
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
    user_id uuid references users (id) on delete set null,
    organisation_id uuid references organisations (id) on delete cascade,
    status text not null,
    progress real not null,
    sitemap_tasks integer not null default 0,
    found_tasks integer not null default 0,
    total_tasks integer not null default 0,
    completed_tasks integer not null default 0,
    failed_tasks integer not null default 0,
    skipped_tasks integer not null default 0,
    running_tasks integer not null default 0
        constraint jobs_running_tasks_non_negative check (running_tasks >= 0),
    pending_tasks integer not null default 0,
    waiting_tasks integer not null default 0,
    created_at timestamptz not null,
    started_at timestamptz,
    completed_at timestamptz,
    concurrency integer not null,
    max_pages integer not null,
    find_links boolean not null,
    include_paths text,
    exclude_paths text,
    error_message text,
    source_type text,
    source_detail text,
    source_info text,
    required_workers integer default 0,
    stats jsonb,
    scheduler_id uuid references schedulers (id),
    allow_cross_subdomain_links boolean not null default true,
    duration_seconds integer generated always as (
        extract(epoch from completed_at - started_at)::integer
    ) stored,
    avg_time_per_task_seconds numeric generated always as (
        extract(epoch from completed_at - started_at) / nullif(completed_tasks, 0)
    ) stored,
    sitemap_tasks_found integer,
    updated_at timestamptz not null default now()
);

create index idx_jobs_id on jobs (id);
create index idx_jobs_status on jobs (status);
create index idx_jobs_status_created_at on jobs (status, created_at desc);
create index idx_jobs_domain_id on jobs (domain_id);
create index idx_jobs_user_id on jobs (user_id);
create index idx_jobs_organisation_id on jobs (organisation_id);
create index idx_jobs_org_status_created on jobs (organisation_id, status, created_at desc);
create index idx_jobs_org_created on jobs (organisation_id, created_at desc);
create index idx_jobs_running_tasks on jobs (running_tasks) where status = 'running';
create index idx_jobs_running_capacity on jobs (id) include (running_tasks, concurrency)
    where status = 'running';
create index idx_jobs_scheduler_id on jobs (scheduler_id) where scheduler_id is not null;
create index idx_jobs_active_updated_at on jobs (updated_at, started_at nulls first, created_at)
    where status in ('pending', 'running');

create table tasks (
    id text primary key,
    job_id text not null references jobs (id) on delete cascade,
    page_id integer not null references pages (id) on delete cascade,
    host text not null,
    path text not null,
    source_type text not null,
    source_url text,
    error text,
    status text not null constraint tasks_status_check check (
        status in ('pending', 'running', 'completed', 'failed', 'skipped', 'waiting')
    ),
    created_at timestamptz not null,
    started_at timestamptz,
    completed_at timestamptz,
    retry_count integer not null,
    status_code integer,
    response_time bigint,
    content_length bigint,
    cache_status text,
    content_type text,
    redirect_url text,
    headers jsonb,
    dns_lookup_time integer,
    tcp_connection_time integer,
    tls_handshake_time integer,
    ttfb integer,
    content_transfer_time integer,
    second_response_time bigint,
    second_content_length bigint,
    second_cache_status text,
    second_headers jsonb,
    second_dns_lookup_time integer,
    second_tcp_connection_time integer,
    second_tls_handshake_time integer,
    second_ttfb integer,
    second_content_transfer_time integer,
    cache_check_attempts jsonb,
    request_diagnostics jsonb,
    priority_score numeric(4, 3) default 0.000,
    run_at timestamptz not null default now(),
    html_storage_bucket text,
    html_storage_path text,
    html_content_type text,
    html_content_encoding text,
    html_size_bytes bigint,
    html_compressed_size_bytes bigint,
    html_sha256 text,
    html_captured_at timestamptz,
    html_archive_provider text,
    html_archive_bucket text,
    html_archive_key text,
    html_archived_at timestamptz
);

create unique index idx_tasks_job_page_unique on tasks (job_id, page_id);
create index idx_tasks_page_id on tasks (page_id);
create index idx_tasks_claim_optimised
    on tasks (status, job_id, priority_score desc, created_at) where status = 'pending';
create index idx_tasks_pending_ready
    on tasks (priority_score desc, created_at, job_id) where status = 'pending';
create index idx_tasks_waiting_by_job
    on tasks (job_id, priority_score desc, created_at) where status = 'waiting';
create index idx_tasks_running_started_at on tasks (started_at) where status = 'running';
create index idx_tasks_job_activity_times
    on tasks (job_id, started_at desc nulls last, completed_at desc nulls last);
create index idx_tasks_archive_candidates
    on tasks (job_id) where html_storage_path is not null and html_archived_at is null;
create index idx_tasks_job_has_html_storage
    on tasks (job_id) where html_storage_path is not null;
create index idx_tasks_job_html_archived on tasks (job_id) where html_archived_at is not null;

-- On for web clients; the owner of the tables is not bound by it.
alter table jobs enable row level security;
alter table tasks enable row level security;

create function touch_job() returns trigger language plpgsql as $$
begin
    new.updated_at = now();
    if new.completed_at is null and new.progress >= 100 then
        new.completed_at = now();
    end if;
    return new;
end
$$;

create trigger touch_job before update on jobs
    for each row execute function touch_job();

-- Spares failed and cancelled jobs only: a late change turns an archived one into completed.
create function recount_job() returns trigger language plpgsql as $$
declare
    of_job text := coalesce(new.job_id, old.job_id);
begin
    update jobs as job
    set total_tasks = counted.total,
        pending_tasks = counted.pending,
        waiting_tasks = counted.waiting,
        running_tasks = counted.running,
        completed_tasks = counted.completed,
        failed_tasks = counted.failed,
        skipped_tasks = counted.skipped,
        status = case
            when job.status not in ('failed', 'cancelled')
                and counted.total > 0
                and counted.total = counted.completed + counted.failed + counted.skipped
            then 'completed'
            else job.status
        end
    from (
        select
            count(*) as total,
            count(*) filter (where status = 'pending') as pending,
            count(*) filter (where status = 'waiting') as waiting,
            count(*) filter (where status = 'running') as running,
            count(*) filter (where status = 'completed') as completed,
            count(*) filter (where status = 'failed') as failed,
            count(*) filter (where status = 'skipped') as skipped
        from tasks
        where job_id = of_job
    ) as counted
    where job.id = of_job;
    return null;
end
$$;

create trigger recount_job after update of status on tasks
    for each row when (old.status is distinct from new.status) execute function recount_job();

create table notifications (
    id serial primary key,
    organisation_id uuid not null references organisations (id) on delete cascade,
    job_id text not null references jobs (id) on delete cascade
);

-- A job that becomes completed gets its statistics, and with an organisation a notification.
create function complete_job() returns trigger language plpgsql as $$
begin
    update jobs set stats = jsonb_build_object('completed_tasks', completed_tasks)
    where id = new.id;
    if new.organisation_id is not null then
        insert into notifications (organisation_id, job_id)
        values (new.organisation_id, new.id);
    end if;
    return null;
end
$$;

create trigger complete_job after update of status on jobs
    for each row when (new.status = 'completed' and old.status is distinct from new.status)
    execute function complete_job();
