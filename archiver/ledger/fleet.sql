-- find_fleet --
-- The one row that says which ledger this is, and where it is at home; and where it is found.
select f.ledger_id::text as ledger_id, f.epoch,
       f.database_name as home_name, f.system_identifier as home_system,
       current_database()::text as found_name, archiver.system_identifier() as found_system
from archiver.fleet f

-- join --
-- Register a process under the present epoch; its lease runs from now.
insert into archiver.worker (epoch, lease_until, host, pid, version)
select f.epoch, clock_timestamp() + make_interval(secs => %(lease_seconds)s),
       %(host)s, %(pid)s, %(version)s
from archiver.fleet f
returning worker_id, epoch, (select array_agg(p.what) from archiver.pause p) as pauses

-- beat --
-- Extend a lease that has not run out, under an epoch that was not raised.
update archiver.worker w
set lease_until = clock_timestamp() + make_interval(secs => %(lease_seconds)s),
    progressed_at = clock_timestamp() - make_interval(secs => %(idle_seconds)s)
from archiver.fleet f
where w.worker_id = %(worker_id)s
  and w.epoch = f.epoch
  and w.left_at is null
  and w.lease_until > clock_timestamp()
returning w.worker_id, (select array_agg(p.what) from archiver.pause p) as pauses

-- leave --
-- End a lease in good order: what is still held can be taken over at once, as no crash.
update archiver.worker
set left_at = clock_timestamp(), lease_until = least(lease_until, clock_timestamp())
where worker_id = %(worker_id)s
  and left_at is null

-- forget_workers --
-- Drop workers that hold nothing: those that left, after an hour; the dead, after some days.
delete from archiver.worker w
where clock_timestamp() > case
          when w.left_at is not null then w.left_at + interval '1 hour'
          else w.lease_until + make_interval(days => %(days)s)
      end
  and not exists (
      select from archiver.claim c
      where c.worker_id = w.worker_id and c.state = 'claimed'
  )
  and not exists (select from archiver.release r where r.worker_id = w.worker_id)

-- find_lease --
-- Whether this worker's lease runs now, under the present epoch.
select w.worker_id
from archiver.worker w
join archiver.fleet f on f.epoch = w.epoch
where w.worker_id = %(worker_id)s
  and w.left_at is null
  and w.lease_until > clock_timestamp()

-- take_over --
-- Be at home here, under an epoch above all others: no worker from before beats again.
update archiver.fleet f
set epoch = greatest(f.epoch, %(epoch)s) + 1,
    database_name = current_database(),
    system_identifier = archiver.system_identifier()
returning f.epoch

-- find_fenced_lease --
-- How long a worker of another epoch may still think that its lease runs.
select coalesce(extract(epoch from max(w.lease_until) - clock_timestamp()), 0)::double precision
           as seconds
from archiver.worker w
join archiver.fleet f on f.epoch <> w.epoch
where w.left_at is null
  and w.lease_until > clock_timestamp()

-- remember_probe --
-- Keep what a probe of a store found, in place of what an earlier one did.
insert into archiver.probe
    (name, enforces_signed_digest, enforces_create, returns_digest, etag_is_md5,
     enforces_signed_parts, keeps_refused_parts, probed_at)
values (%(name)s, %(enforces_signed_digest)s, %(enforces_create)s, %(returns_digest)s,
        %(etag_is_md5)s, %(enforces_signed_parts)s, %(keeps_refused_parts)s, clock_timestamp())
on conflict (name) do update
set enforces_signed_digest = excluded.enforces_signed_digest,
    enforces_create = excluded.enforces_create,
    returns_digest = excluded.returns_digest,
    etag_is_md5 = excluded.etag_is_md5,
    enforces_signed_parts = excluded.enforces_signed_parts,
    keeps_refused_parts = excluded.keeps_refused_parts,
    probed_at = excluded.probed_at

-- recall_probe --
-- What a probe found, unless it is too long ago, or of a release that asked less.
select enforces_signed_digest, enforces_create, returns_digest, etag_is_md5,
       enforces_signed_parts, keeps_refused_parts
from archiver.probe
where name = %(name)s
  and enforces_signed_parts is not null
  and keeps_refused_parts is not null
  and probed_at > clock_timestamp() - make_interval(days => %(days)s)

-- list_workers --
-- Live workers and those that died lately, the youngest first; and whoever left something.
select w.worker_id, w.host, w.pid, w.version, w.started_at, w.lease_until, w.progressed_at,
       w.left_at is null and w.lease_until > clock_timestamp() as is_alive,
       (select count(*) from archiver.claim c
        where c.worker_id = w.worker_id and c.state = 'claimed') as claims_count,
       (select jsonb_object_agg(m.source, m.claims_count)
        from (select c.source, count(*) as claims_count
              from archiver.claim c
              where c.worker_id = w.worker_id and c.state = 'claimed'
              group by c.source) m) as moving
from archiver.worker w
where w.left_at is null
   or exists (
       select from archiver.claim c
       where c.worker_id = w.worker_id and c.state = 'claimed'
   )
order by w.worker_id desc

-- resume --
-- Ask nothing of the workers any more.
delete from archiver.pause

-- pause --
-- Ask this of all workers.
insert into archiver.pause (what) values (%(what)s)
on conflict (what) do nothing

-- find_pauses --
-- What is asked of all workers.
select array_agg(p.what) as pauses
from archiver.pause p

-- begin_sweep --
-- Note a sweep of one source.
insert into archiver.sweep (source, worker_id)
values (%(source)s, %(worker_id)s)
returning sweep_id

-- forget_sweeps --
-- Drop the sweeps of long ago: those that did nothing after days, the others after a year.
-- Bounded, so that a worker that comes back after months does not wait for it. And of those
-- that are kept for a year, no more than a day's are looked at: this runs with each sweep.
-- `now()`, as the index is of no use for what changes within a statement.
delete from archiver.sweep s
where s.sweep_id in (
    (select o.sweep_id
     from archiver.sweep o
     where o.started_at < now() - interval '1 year'
     order by o.started_at
     limit 500)
    union all
    (select o.sweep_id
     from archiver.sweep o
     where o.started_at < now() - make_interval(days => %(idle_days)s)
       and o.started_at > now() - make_interval(days => %(idle_days)s + 1)
       and o.summary ->> 'error' is null
       and (o.summary ->> 'archived')::bigint = 0
       and (o.summary ->> 'released')::bigint = 0
     order by o.started_at
     limit 500)
)

-- end_sweep --
-- Note how a sweep ended, once.
update archiver.sweep
set ended_at = clock_timestamp(), summary = %(summary)s
where sweep_id = %(sweep_id)s
  and ended_at is null

-- list_sweeps --
-- The last sweeps, of one source or of all.
select sweep_id, source, worker_id, started_at, ended_at, summary
from archiver.sweep
where %(source)s::text is null or source = %(source)s
order by sweep_id desc
limit %(limit)s

-- find_sweep --
-- The sweep of this number.
select sweep_id, source, worker_id, started_at, ended_at, summary
from archiver.sweep
where sweep_id = %(sweep_id)s
