-- Crawled pages: each row of tasks points at the gzipped HTML of one page. A job's pages
-- leave the hot store once newer jobs of the same domain and organisation have taken its
-- place among the newest N.
--
-- name: task_html
-- cold_key: jobs/{job_id}/tasks/{id}/page-content.html.gz
-- metadata: task_id={id}, job_id={job_id}, sha256={content_digest}

-- prepare --
-- Make archiver.task_html_rank the due jobs that still have a hot page, oldest first.
-- Ranked once per sweep: a window over all ended jobs is too dear for every claim. Archived
-- jobs keep their place, or each marking would push another job out of the newest N.
-- Only differences are written.
with ranked as (
    select
        job.id as job_id,
        kept.completed_at,
        row_number() over (
            partition by job.domain_id, job.organisation_id  -- NULL is one group
            order by kept.completed_at desc, job.id desc
        ) as place
    from jobs as job
    left join archiver.job_mark as mark
        on mark.job_id = job.id
        and coalesce(job.started_at, job.created_at) <= mark.marked_at  -- not restarted since
    cross join lateral (
        select greatest(
            coalesce(mark.completed_at, job.completed_at, job.created_at),
            timestamptz '1970-01-01 00:00:00+00'  -- -infinity cannot be read by a client
        )
    ) as kept (completed_at)
    where job.status in ('completed', 'failed', 'cancelled', 'archived')
),
due as materialized (
    select ranked.job_id, ranked.completed_at as due_at
    from ranked
    where ranked.place > :retention_jobs
        and ranked.completed_at <= now() - :retention_age
        and exists (
            select from tasks as task
            where task.job_id = ranked.job_id and task.html_storage_path is not null
        )
),
gone as (
    delete from archiver.task_html_rank as rank
    where not exists (select from due where due.job_id = rank.job_id)
)
insert into archiver.task_html_rank (job_id, due_at)
select due.job_id, due.due_at
from due
where not exists (
    select from archiver.task_html_rank as rank
    where rank.job_id = due.job_id and rank.due_at = due.due_at
)
order by due.job_id
on conflict (job_id) do update set due_at = excluded.due_at;

-- A job that was marked and came back (the application recounts its tasks and calls it
-- completed again) is looked at by the marker once more.
insert into archiver.task_html_touched (job_id)
select job.id
from jobs as job
join archiver.job_mark as mark on mark.job_id = job.id
where job.status in ('completed', 'failed', 'cancelled')
order by job.id
on conflict (job_id) do nothing;

-- candidates --
-- A candidate is a hot pointer, whatever html_archived_at says: a page captured again after
-- it was archived is a new candidate. Jobs in order, then each job's pages through the
-- partial index on (job_id, id); a flat query would read the whole backlog for every claim.
select
    page.id,
    rank.due_at,
    page.html_storage_bucket as hot_bucket,
    page.html_storage_path as hot_path,
    nullif(lower(btrim(page.html_sha256)), '') as content_digest,
    page.html_compressed_size_bytes as size_bytes,
    coalesce(nullif(btrim(page.html_content_type), ''), 'text/html') as content_type,
    coalesce(nullif(btrim(page.html_content_encoding), ''), 'gzip') as content_encoding,
    page.job_id,
    page.job_id as group_id
from archiver.task_html_rank as rank
cross join lateral (
    select task.*
    from tasks as task
    where task.job_id = rank.job_id
        and task.html_storage_path is not null
        and task.id > case when rank.due_at = :after_due_at then :after_id else '' end
    order by task.id
    limit :limit
) as page
where rank.due_at >= :after_due_at
order by rank.due_at, page.id
limit :limit;

-- archived --
-- Flip the rows that still hold the path and the page that were moved. The job is noted for
-- the marker; the update there takes the row's lock, so that a marker which cannot see this
-- transaction yet leaves the note alone.
with held as (
    select task.id
    from receipt
    join tasks as task on task.id = receipt.id
    where task.html_storage_path = receipt.hot_path
        and task.html_storage_bucket = receipt.hot_bucket
        and nullif(lower(btrim(task.html_sha256)), '')
            is not distinct from receipt.content_digest
    order by task.id
    for no key update of task
),
flipped as (
    update tasks as task
    set html_archive_provider = receipt.provider,
        html_archive_bucket = receipt.cold_bucket,
        html_archive_key = receipt.cold_key,
        html_archived_at = receipt.archived_at,
        html_storage_bucket = null,
        html_storage_path = null
    from held
    join receipt on receipt.id = held.id
    where task.id = held.id
    returning task.id, task.job_id
),
touched as (
    insert into archiver.task_html_touched (job_id)
    select distinct flipped.job_id
    from flipped
    order by flipped.job_id
    on conflict (job_id) do update set job_id = excluded.job_id
)
select flipped.id from flipped;

-- restored --
-- The mirror: point hot again where the row still holds that cold key and no newer page. A
-- job that was marked stays so, as it does with a late page: were it to become `completed`
-- once more, the application would tell its customers of it once more.
with held as (
    select task.id
    from receipt
    join tasks as task on task.id = receipt.id
    where task.html_archive_key = receipt.cold_key
        and task.html_archive_bucket = receipt.cold_bucket
        and task.html_storage_path is null
    order by task.id
    for no key update of task
)
update tasks as task
set html_storage_bucket = receipt.hot_bucket,
    html_storage_path = receipt.hot_path,
    html_archive_provider = null,
    html_archive_bucket = null,
    html_archive_key = null,
    html_archived_at = null
from held
join receipt on receipt.id = held.id
where task.id = held.id
returning task.id;

-- points_at --
-- A row with a path and no bucket may mean any bucket: it counts.
select distinct location.hot_bucket, location.hot_path
from location
join tasks as task on task.html_storage_path = location.hot_path
where task.html_storage_bucket = location.hot_bucket or task.html_storage_bucket is null;

-- locate --
select
    task.html_storage_bucket as hot_bucket,
    task.html_storage_path as hot_path,
    null as digest,
    nullif(lower(btrim(task.html_sha256)), '') as content_digest,
    task.html_archive_provider as provider,
    task.html_archive_bucket as cold_bucket,
    task.html_archive_key as cold_key,
    coalesce(nullif(btrim(task.html_content_type), ''), 'text/html') as content_type,
    coalesce(nullif(btrim(task.html_content_encoding), ''), 'gzip') as content_encoding
from tasks as task
where task.id = :id;

-- holdings --
-- Rows that are archived, in the order of the primary key, so that each page reads on where
-- the last one ended. The reference worker skipped pages that it found nowhere: these have no
-- key. Where a row points hot again, its digest is that of the new page.
select
    task.id,
    task.job_id as group_id,
    task.html_archive_bucket as cold_bucket,
    task.html_archive_key as cold_key,
    case
        when task.html_storage_path is null then nullif(lower(btrim(task.html_sha256)), '')
    end as content_digest
from tasks as task
where task.html_archived_at is not null
    and (task.html_archive_key is not null or task.html_storage_path is null)
    and task.id > :after_id
order by task.id
limit :limit;

-- housekeeping --
-- The marker: a job that ended, has an archived page and no hot one becomes `archived`.
-- It looks at the jobs that were touched; asked for everything, it notes all that qualify.
insert into archiver.task_html_touched (job_id)
select job.id
from jobs as job
where :everything
    and job.status in ('completed', 'failed', 'cancelled')
    and exists (
        select from tasks as task
        where task.job_id = job.id
            and task.html_archived_at is not null
            and task.html_archive_key is not null
    )
    and not exists (
        select from tasks as task
        where task.job_id = job.id and task.html_storage_path is not null
    )
order by job.id
on conflict (job_id) do nothing;

-- First take the notes, then look, in a statement of its own: only its snapshot surely has
-- what the transactions that wrote these notes did.
with taken as materialized (
    select touched.job_id
    from archiver.task_html_touched as touched
    order by touched.job_id
    limit 2000
    for update skip locked
),
gone as (
    delete from archiver.task_html_touched as touched
    using taken
    where touched.job_id = taken.job_id
)
select set_config(
    'archiver.task_html_jobs', coalesce(jsonb_agg(taken.job_id), '[]')::text, true
)
from taken;

-- The status before and the completion time are kept, also over a second marking of a job
-- that was not restarted in between. A job the application holds keeps its note.
with markable as materialized (
    select job.id
    from jsonb_array_elements_text(
        current_setting('archiver.task_html_jobs', true)::jsonb
    ) as taken (job_id)
    join jobs as job on job.id = taken.job_id
    where job.status in ('completed', 'failed', 'cancelled')
        and exists (
            select from tasks as task
            where task.job_id = job.id
                and task.html_archived_at is not null
                and task.html_archive_key is not null
        )
        and not exists (
            select from tasks as task
            where task.job_id = job.id and task.html_storage_path is not null
        )
),
held as materialized (
    select
        job.id,
        coalesce(mark.status_before, job.status) as status_before,
        coalesce(mark.completed_at, job.completed_at, job.created_at) as completed_at
    from markable
    join jobs as job on job.id = markable.id
    left join archiver.job_mark as mark
        on mark.job_id = job.id
        and coalesce(job.started_at, job.created_at) <= mark.marked_at
    where job.status in ('completed', 'failed', 'cancelled')  -- still, once it is locked
    order by job.id
    for no key update of job skip locked
),
busy as (
    insert into archiver.task_html_touched (job_id)
    select markable.id
    from markable
    where not exists (select from held where held.id = markable.id)
    order by markable.id
    on conflict (job_id) do nothing
),
kept as (
    insert into archiver.job_mark (job_id, status_before, completed_at, marked_at)
    select held.id, held.status_before, held.completed_at, now()
    from held
    on conflict (job_id) do update
    set status_before = excluded.status_before,
        completed_at = excluded.completed_at,
        marked_at = excluded.marked_at
),
marked as (
    update jobs as job
    set status = 'archived'
    from held
    where job.id = held.id
    returning job.id
)
select count(*) as jobs_marked from marked;

-- needs --
-- Safe on a live database: columns without a default are added without a rewrite, and the
-- wait for the table is short, since whoever waits for it makes the application wait.
set lock_timeout = '3s';

alter table tasks
    add column if not exists html_storage_bucket text,
    add column if not exists html_storage_path text,
    add column if not exists html_content_type text,
    add column if not exists html_content_encoding text,
    add column if not exists html_compressed_size_bytes bigint,
    add column if not exists html_sha256 text,
    add column if not exists html_archive_provider text,
    add column if not exists html_archive_bucket text,
    add column if not exists html_archive_key text,
    add column if not exists html_archived_at timestamptz;

-- A concurrent build waits for old transactions and must not give up half-way: what it
-- leaves then is an index that is not valid.
set lock_timeout = 0;

-- The pages of one job in order: each claim.
create index concurrently if not exists archiver_tasks_hot_page
    on tasks (job_id, id) where html_storage_path is not null;

-- Does a row point at this object? Asked before each hot copy is deleted.
create index concurrently if not exists archiver_tasks_hot_path
    on tasks (html_storage_path) where html_storage_path is not null;
