-- set_aside --
-- Own what a plan makes useless: other uploads of its location, and those of its row at other
-- locations; but none that another live worker owns. They are not resumed again, so they expire.
with meant as (
    select u.upload_no
    from archiver.upload u
    where (
          (not u.is_current
           and u.provider = %(provider)s and u.cold_bucket = %(cold_bucket)s
           and u.cold_key = %(cold_key)s)
          or (u.is_current
              and u.provider = %(provider)s and u.cold_bucket = %(cold_bucket)s
              and u.cold_key = %(cold_key)s
              and (u.origin, u.size_bytes, u.part_bytes) is distinct from
                  (%(origin)s::text, %(size_bytes)s::bigint, %(part_bytes)s::bigint))
          or (u.source = %(source)s::text and u.id = %(id)s::text
              and (u.provider, u.cold_bucket, u.cold_key) <>
                  (%(provider)s::text, %(cold_bucket)s::text, %(cold_key)s::text))
      )
      and not exists (
          select from archiver.live_worker other
          where other.worker_id = u.worker_id and other.worker_id <> %(worker_id)s
      )
    order by u.upload_no
    for update of u
)
update archiver.upload u
set is_current = false, expires_at = least(u.expires_at, clock_timestamp()),
    epoch = me.epoch, worker_id = me.worker_id, number = nextval('archiver.fencing_number')
from meant, archiver.live_worker me
where u.upload_no = meant.upload_no
  and me.worker_id = %(worker_id)s
returning u.upload_no, u.provider, u.cold_bucket, u.cold_key, u.origin, u.size_bytes,
          u.part_bytes, u.source, u.id, u.upload_id, u.epoch, u.worker_id, u.number,
          u.begun_at, u.expires_at

-- take --
-- Own the upload of a plan: a new one, or the one that is there, unless it is of other bytes or
-- another live worker's. The unique index arbitrates between those who come at once.
insert into archiver.upload as u (
    provider, cold_bucket, cold_key, origin, size_bytes, part_bytes, source, id,
    epoch, worker_id, number, expires_at
)
select %(provider)s, %(cold_bucket)s, %(cold_key)s, %(origin)s, %(size_bytes)s,
       %(part_bytes)s, %(source)s, %(id)s,
       me.epoch, me.worker_id, nextval('archiver.fencing_number'),
       clock_timestamp() + make_interval(secs => %(expiry_seconds)s)
from archiver.live_worker me
where me.worker_id = %(worker_id)s
on conflict (provider, cold_bucket, cold_key) where is_current do update
set source = excluded.source, id = excluded.id, epoch = excluded.epoch,
    worker_id = excluded.worker_id, number = excluded.number, expires_at = excluded.expires_at
where (u.origin, u.size_bytes, u.part_bytes) is not distinct from
      (excluded.origin, excluded.size_bytes, excluded.part_bytes)
  and not exists (
      select from archiver.live_worker other
      where other.worker_id = u.worker_id and other.worker_id <> excluded.worker_id
  )
returning u.upload_no, u.provider, u.cold_bucket, u.cold_key, u.origin, u.size_bytes,
          u.part_bytes, u.source, u.id, u.upload_id, u.epoch, u.worker_id, u.number,
          u.begun_at, u.expires_at

-- list_parts --
-- The acknowledged parts of some uploads.
select upload_no, number, size_bytes, digest, etag
from archiver.upload_part
where upload_no = any(%(upload_nos)s)
order by upload_no, number

-- begin --
-- Note under which id the store began an upload that is ours. Parts of another id are none of
-- this one's.
with mine as (
    select u.upload_no, u.upload_id is not distinct from %(upload_id)s::text as is_known
    from archiver.upload u
    join archiver.live_worker me on me.worker_id = u.worker_id
    where u.upload_no = %(upload_no)s
      and (u.epoch, u.worker_id, u.number) = (%(epoch)s, %(worker_id)s, %(number)s)
    for update of u
), dropped as (
    delete from archiver.upload_part p
    using mine
    where p.upload_no = mine.upload_no and not mine.is_known
)
update archiver.upload u
set upload_id = %(upload_id)s
from mine
where u.upload_no = mine.upload_no
returning mine.is_known

-- save_part --
-- Note an acknowledged part of an upload that is ours, and put its expiry off. The lock on the
-- upload's row, held until the commit, is what a take-over waits for.
with mine as (
    update archiver.upload u
    set expires_at = clock_timestamp() + make_interval(secs => %(expiry_seconds)s)
    from archiver.live_worker me
    where u.upload_no = %(upload_no)s
      and (u.epoch, u.worker_id, u.number) = (%(epoch)s, %(worker_id)s, %(number)s)
      and u.upload_id is not distinct from %(upload_id)s::text
      and me.worker_id = u.worker_id
    returning u.upload_no
)
insert into archiver.upload_part as p (upload_no, number, size_bytes, digest, etag)
select mine.upload_no, %(part_number)s, %(size_bytes)s, %(digest)s, %(etag)s
from mine
on conflict (upload_no, number) do update
set size_bytes = excluded.size_bytes, digest = excluded.digest, etag = excluded.etag,
    acknowledged_at = excluded.acknowledged_at
returning p.upload_no

-- find_mine --
-- Whether an upload is ours now.
select u.upload_no
from archiver.upload u
join archiver.live_worker me on me.worker_id = u.worker_id
where u.upload_no = %(upload_no)s
  and (u.epoch, u.worker_id, u.number) = (%(epoch)s, %(worker_id)s, %(number)s)

-- forget --
-- Drop an upload that is ours, with its parts.
delete from archiver.upload u
using archiver.live_worker me
where u.upload_no = %(upload_no)s
  and (u.epoch, u.worker_id, u.number) = (%(epoch)s, %(worker_id)s, %(number)s)
  and me.worker_id = u.worker_id

-- give_back --
-- Let go of an upload that is ours.
update archiver.upload u
set epoch = null, worker_id = null, number = null
from archiver.live_worker me
where u.upload_no = %(upload_no)s
  and (u.epoch, u.worker_id, u.number) = (%(epoch)s, %(worker_id)s, %(number)s)
  and me.worker_id = u.worker_id

-- take_expired --
-- Own uploads of a place past their expiry that no live worker owns, the longest past first; our own, too,
-- where the reply that gave them to us was lost.
with due as (
    select u.upload_no
    from archiver.upload u
    where u.expires_at <= clock_timestamp()
      and u.provider = %(provider)s and u.cold_bucket = %(cold_bucket)s
      and starts_with(u.cold_key, %(prefix)s)
      and not exists (
          select from archiver.live_worker owner
          where owner.worker_id = u.worker_id
            and (u.worker_id <> %(worker_id)s or u.number <= %(seen_number)s)
      )
    order by u.expires_at, u.upload_no
    limit %(limit)s
    for update of u skip locked
)
update archiver.upload u
set epoch = me.epoch, worker_id = me.worker_id, number = nextval('archiver.fencing_number')
from due, archiver.live_worker me
where u.upload_no = due.upload_no
  and me.worker_id = %(worker_id)s
returning u.upload_no, u.provider, u.cold_bucket, u.cold_key, u.origin, u.size_bytes,
          u.part_bytes, u.source, u.id, u.upload_id, u.epoch, u.worker_id, u.number,
          u.begun_at, u.expires_at

-- list_uploads --
-- Every upload, the oldest first.
select u.upload_no, u.provider, u.cold_bucket, u.cold_key, u.origin, u.size_bytes,
       u.part_bytes, u.source, u.id, u.upload_id, u.epoch, u.worker_id, u.number,
       u.begun_at, u.expires_at
from archiver.upload u
order by u.begun_at, u.upload_no
