-- lock_adoptions --
-- One transaction at a time adopts rows of this source; claims go on beside it.
select pg_advisory_xact_lock(hashtextextended('archiver adopt ' || %(source)s, 0))

-- find_time --
-- When what follows is read, at the latest.
select clock_timestamp() as now

-- find_known --
-- Which of these rows have a receipt for the very object they name; one without evidence
-- counts only where `unproven` ones are wanted.
select h.id
from jsonb_to_recordset(%(holdings)s) as h (id text, cold_bucket text, cold_key text)
where exists (
    select from archiver.receipt r
    join archiver.place p using (place_id)
    where r.id = h.id and r.source = %(source)s
      and (r.evidence > 0 or %(unproven)s)
      and p.cold_bucket = h.cold_bucket and p.prefix || r.cold_key = h.cold_key
)

-- add_cold_places --
-- What adopted objects have in common is kept once. No hot bucket: no hot object is known.
insert into archiver.place (provider, cold_bucket, prefix)
select distinct a.provider, a.cold_bucket, ''
from jsonb_to_recordset(%(adoptions)s) as a (provider text, cold_bucket text)
where not exists (
    select from archiver.place p
    where p.provider = a.provider and p.cold_bucket = a.cold_bucket
      and p.prefix = '' and p.hot_bucket is null
)
on conflict do nothing

-- insert_adoptions --
-- Receipts without a hot side, and so without a release. Not for objects that have one as
-- good by now; not for rows archived anew since they were read, or in a transaction that
-- was open then.
insert into archiver.receipt (
    source, id, epoch, worker_id, number, place_id, cold_key, size_bytes, digest,
    content_digest, etag, evidence, group_id
)
select %(source)s, a.id, %(epoch)s, %(worker_id)s, nextval('archiver.fencing_number'),
       here.place_id, a.cold_key, a.size_bytes, decode(a.digest, 'hex'),
       decode(a.content_digest, 'hex'), a.etag, a.evidence, a.group_id
from jsonb_to_recordset(%(adoptions)s) as a (
    id text, provider text, cold_bucket text, cold_key text, size_bytes bigint, digest text,
    content_digest text, etag text, evidence smallint, group_id text
)
join archiver.place here
  on here.provider = a.provider and here.cold_bucket = a.cold_bucket
 and here.prefix = '' and here.hot_bucket is null
where not exists (
    select from archiver.receipt r
    join archiver.place p using (place_id)
    where r.id = a.id and r.source = %(source)s
      and (((r.evidence > 0 or a.evidence = 0)
            and p.cold_bucket = a.cold_bucket and p.prefix || r.cold_key = a.cold_key)
           or (p.hot_bucket is not null
               and r.archived_at > %(read_at)s - make_interval(secs => %(margin_seconds)s)))
)
order by a.id

-- find_adopted --
-- Which of these have a receipt of this worker's: by now, or from a transaction whose reply
-- got lost.
select a.id
from jsonb_to_recordset(%(adoptions)s) as a (id text, cold_bucket text, cold_key text)
where exists (
    select from archiver.receipt r
    join archiver.place p using (place_id)
    where r.id = a.id and r.source = %(source)s and r.worker_id = %(worker_id)s
      and p.cold_bucket = a.cold_bucket and p.prefix || r.cold_key = a.cold_key
      and p.hot_bucket is null
)
