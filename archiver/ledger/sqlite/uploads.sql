-- find_met --
-- The uploads at a plan's location, and those of its row elsewhere. `is_here`: the location's
-- current one; `is_served`: its parts are parts of this plan, too.
select u.upload_no, u.worker_id,
       u.is_current and u.provider = :provider and u.cold_bucket = :cold_bucket
           and u.cold_key = :cold_key as is_here,
       u.origin = :origin and u.size_bytes is :size_bytes and u.part_bytes = :part_bytes
           as is_served
from upload u
where (u.provider = :provider and u.cold_bucket = :cold_bucket and u.cold_key = :cold_key)
   or (u.source = :source and u.id = :id)
order by u.upload_no

-- set_aside --
-- Own an upload that is of no use any more; it expires.
update upload
set is_current = 0, expires_at = min(expires_at, :at),
    epoch = :epoch, worker_id = :worker_id, number = :number
where upload_no = :upload_no

-- insert --
-- Own a new upload.
insert into upload (
    provider, cold_bucket, cold_key, origin, size_bytes, part_bytes, source, id,
    epoch, worker_id, number, begun_at, expires_at
)
values (
    :provider, :cold_bucket, :cold_key, :origin, :size_bytes, :part_bytes, :source, :id,
    :epoch, :worker_id, :number, :at, :expires_at
)

-- resume --
-- Own the upload that is there.
update upload
set source = :source, id = :id, expires_at = :expires_at,
    epoch = :epoch, worker_id = :worker_id, number = :number
where upload_no = :upload_no

-- own --
-- Own an upload and leave it as it is.
update upload
set epoch = :epoch, worker_id = :worker_id, number = :number
where upload_no = :upload_no

-- find --
-- One upload.
select u.upload_no, u.provider, u.cold_bucket, u.cold_key, u.origin, u.size_bytes,
       u.part_bytes, u.source, u.id, u.upload_id, u.epoch, u.worker_id, u.number,
       u.begun_at, u.expires_at
from upload u
where u.upload_no = :upload_no

-- list_parts --
-- The acknowledged parts of one upload.
select number, size_bytes, digest, etag
from upload_part
where upload_no = :upload_no
order by number

-- find_mine --
-- An upload under this token; whether its lease runs is another question.
select upload_no, upload_id
from upload
where upload_no = :upload_no
  and epoch = :epoch and worker_id = :worker_id and number = :number

-- begin --
-- Note under which id the store began it.
update upload
set upload_id = :upload_id
where upload_no = :upload_no

-- drop_parts --
-- They were another id's.
delete from upload_part
where upload_no = :upload_no

-- save_part --
-- Note an acknowledged part, in place of an earlier one of its number.
insert into upload_part (upload_no, number, size_bytes, digest, etag, acknowledged_at)
values (:upload_no, :part_number, :size_bytes, :digest, :etag, :at)
on conflict (upload_no, number) do update
set size_bytes = excluded.size_bytes, digest = excluded.digest, etag = excluded.etag,
    acknowledged_at = excluded.acknowledged_at

-- put_off --
-- Somebody goes on with it.
update upload
set expires_at = :expires_at
where upload_no = :upload_no

-- forget --
-- Drop an upload under this token, with its parts.
delete from upload
where upload_no = :upload_no
  and epoch = :epoch and worker_id = :worker_id and number = :number

-- give_back --
-- Let go of an upload under this token.
update upload
set epoch = null, worker_id = null, number = null
where upload_no = :upload_no
  and epoch = :epoch and worker_id = :worker_id and number = :number

-- find_expired --
-- Uploads of a place past their expiry, the longest past first.
select upload_no, worker_id, number
from upload
where expires_at <= :at
  and provider = :provider and cold_bucket = :cold_bucket
  and substr(cold_key, 1, length(:prefix)) = :prefix
order by expires_at, upload_no

-- list_uploads --
-- Every upload, the oldest first.
select upload_no
from upload
order by begun_at, upload_no
