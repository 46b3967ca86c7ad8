-- find_fleet --
-- The one row that says which ledger this is.
select ledger_id::text as ledger_id, epoch
from archiver.fleet

-- join --
-- Register a process under the present epoch; its lease runs from now.
insert into archiver.worker (epoch, lease_until, host, pid, version)
select f.epoch, clock_timestamp() + make_interval(secs => %(lease_seconds)s),
       %(host)s, %(pid)s, %(version)s
from archiver.fleet f
returning worker_id, epoch

-- beat --
-- Extend a lease that has not run out, under an epoch that was not raised.
update archiver.worker w
set lease_until = clock_timestamp() + make_interval(secs => %(lease_seconds)s)
from archiver.fleet f
where w.worker_id = %(worker_id)s
  and w.epoch = f.epoch
  and w.left_at is null
  and w.lease_until > clock_timestamp()
returning w.worker_id

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

-- remember_probe --
-- Keep what a probe of a store found, in place of what an earlier one did.
insert into archiver.probe
    (name, enforces_signed_digest, enforces_create, returns_digest, probed_at)
values (%(name)s, %(enforces_signed_digest)s, %(enforces_create)s, %(returns_digest)s,
        clock_timestamp())
on conflict (name) do update
set enforces_signed_digest = excluded.enforces_signed_digest,
    enforces_create = excluded.enforces_create,
    returns_digest = excluded.returns_digest,
    probed_at = excluded.probed_at

-- recall_probe --
-- What a probe found, unless it is too long ago.
select enforces_signed_digest, enforces_create, returns_digest
from archiver.probe
where name = %(name)s
  and probed_at > clock_timestamp() - make_interval(days => %(days)s)

-- list_workers --
-- Live workers and those that died lately, the youngest first; and whoever left something.
select w.worker_id, w.host, w.pid, w.version, w.started_at, w.lease_until,
       w.left_at is null and w.lease_until > clock_timestamp() as is_alive,
       (select count(*) from archiver.claim c
        where c.worker_id = w.worker_id and c.state = 'claimed') as claims_count
from archiver.worker w
where w.left_at is null
   or exists (
       select from archiver.claim c
       where c.worker_id = w.worker_id and c.state = 'claimed'
   )
order by w.worker_id desc
