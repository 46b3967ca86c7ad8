-- has_schema_version --
-- Whether any migration was ever applied here.
select to_regclass('archiver.schema_version') is not null as is_there

-- list_versions --
-- What was applied, and from which files.
select version, sha256
from archiver.schema_version
order by version

-- note_sha256 --
-- Remember the file a version came from.
update archiver.schema_version
set sha256 = %(sha256)s
where version = %(version)s

-- try_lock --
-- One process at a time. Tried again and again rather than waited for: a statement that
-- waits holds a snapshot, and building an index concurrently waits for all snapshots.
select pg_try_advisory_lock(hashtextextended('archiver migrate', 0)) as is_ours

-- unlock --
-- Let the next one.
select pg_advisory_unlock(hashtextextended('archiver migrate', 0))

-- find_broken_index --
-- An index of this name that a failed build has left behind, and that nobody is building.
select format('%%I.%%I', n.nspname, c.relname) as index_name
from pg_index i
join pg_class c on c.oid = i.indexrelid
join pg_namespace n on n.oid = c.relnamespace
where i.indexrelid = to_regclass(%(name)s)
  and not i.indisvalid
  and not exists (
      select from pg_stat_progress_create_index p where p.index_relid = i.indexrelid
  )
