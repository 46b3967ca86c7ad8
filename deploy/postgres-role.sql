-- A role for workers that may do what a sweep of task_html does, and nothing else.
--
-- Run it as the owner of the schema archiver and of the application's tables, after
-- `archiver migrate` and again after each upgrade; it may be repeated:
--
--   psql -1 -v ON_ERROR_STOP=1 -f postgres-role.sql "$ARCHIVE_MIGRATE_URL"
--   psql -c '\password archiver_worker' "$ARCHIVE_MIGRATE_URL"
--
-- Workers then use this role in ARCHIVE_DATABASE_URL. `archiver migrate` stays with the owner.

do $$
begin
    if not exists (select from pg_catalog.pg_roles where rolname = 'archiver_worker') then
        create role archiver_worker login; -- cannot log in before it has a password
    end if;
end
$$;

-- --- the ledger ----------------------------------------------------------------------------

grant usage on schema archiver to archiver_worker;
grant usage on all sequences in schema archiver to archiver_worker;
grant select on all tables in schema archiver to archiver_worker;

-- What was proven and how it ended can be added to. It cannot be changed: not by a bug, and
-- not by somebody who holds the worker's password.
grant insert on archiver.place, archiver.receipt, archiver.outcome to archiver_worker;

grant insert, update, delete on
    archiver.worker,
    archiver.probe,
    archiver.claim,
    archiver.release,
    archiver.sweep,
    archiver.pause,
    archiver.spend,
    archiver.upload,
    archiver.upload_part,
    archiver.task_html_rank,
    archiver.task_html_touched,
    archiver.job_mark
to archiver_worker;

-- A stamp is recorded before it is put, and confirmed when it is seen. What `archiver ledger
-- take-over` decides (`overrules`, and all of fleet) is not a worker's to say.
grant insert (source, provider, cold_bucket, prefix, number, epoch, database_name),
    update (confirmed_at) on archiver.stamp to archiver_worker;
grant execute on function archiver.system_identifier() to archiver_worker;

-- --- the application -----------------------------------------------------------------------

grant select on tasks, jobs to archiver_worker;

-- The flip, and its undoing.
grant update (
    html_storage_bucket,
    html_storage_path,
    html_archive_provider,
    html_archive_bucket,
    html_archive_key,
    html_archived_at
) on tasks to archiver_worker;

-- The marker.
grant update (status) on jobs to archiver_worker;

-- Where row-level security is on, a row this role cannot see would look like one that is
-- gone, and its hot copy like one nobody needs. A worker refuses to start like that; these
-- policies let it see all rows. The grants above still say what it may do with them.
do $$
declare
    guarded regclass;
begin
    for guarded in
        select oid from pg_catalog.pg_class
        where oid in ('tasks'::regclass, 'jobs'::regclass) and relrowsecurity
    loop
        execute format('drop policy if exists archiver_worker on %s', guarded);
        execute format(
            'create policy archiver_worker on %s to archiver_worker '
            'using (true) with check (true)',
            guarded
        );
    end loop;
end
$$;
