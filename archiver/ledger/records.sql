-- count_by_source --
-- One line per source that the ledger has ever met.
with claims as (
    select source,
           count(*) filter (where state = 'claimed') as claimed_count,
           count(*) filter (where state = 'waiting') as waiting_count,
           count(*) filter (where state = 'held'
                            and next_attempt_at > clock_timestamp()) as held_count,
           count(*) filter (where state = 'parked') as parked_count
    from archiver.claim
    group by source
),
receipts as (
    -- A copy that was proven after all is counted by its later receipt.
    select source, count(*) as archived_count, sum(size_bytes)::bigint as archived_bytes,
           count(*) filter (where hot_bucket is null) as adopted_count,
           count(*) filter (where is_unproven) as unproven_count,
           max(archived_at) filter (where hot_bucket is not null) as last_archived_at
    from (
        select r.source, r.size_bytes, p.hot_bucket, r.archived_at, false as is_unproven
        from archiver.receipt r
        join archiver.place p using (place_id)
        where r.evidence > 0
        union all
        select source, size_bytes, hot_bucket, archived_at, true
        from archiver.unproven
    ) as copies
    group by source
),
releases as (
    select source,
           count(*) filter (where parked_at is null) as pending_release_count,
           count(*) filter (where parked_at is not null) as parked_count
    from archiver.release
    group by source
),
outcomes as (
    select source,
           count(*) filter (where outcome = 'released') as released_count,
           count(*) filter (where outcome = 'replaced') as replaced_count,
           count(*) filter (where outcome = 'undone') as undone_count
    from archiver.outcome
    group by source
)
select source,
       coalesce(c.claimed_count, 0) as claimed_count,
       coalesce(c.waiting_count, 0) as waiting_count,
       coalesce(c.held_count, 0) as held_count,
       coalesce(c.parked_count, 0) + coalesce(p.parked_count, 0) as parked_count,
       coalesce(r.archived_count, 0) as archived_count,
       coalesce(r.archived_bytes, 0) as archived_bytes,
       coalesce(r.adopted_count, 0) as adopted_count,
       coalesce(r.unproven_count, 0) as unproven_count,
       coalesce(p.pending_release_count, 0) as pending_release_count,
       coalesce(o.released_count, 0) as released_count,
       coalesce(o.replaced_count, 0) as replaced_count,
       coalesce(o.undone_count, 0) as undone_count,
       r.last_archived_at
from claims c
full join receipts r using (source)
full join releases p using (source)
full join outcomes o using (source)
order by source

-- count_uploads --
-- How many objects are on their way in parts, and how many of these are abandoned.
select count(*) as open_count,
       count(*) filter (where expires_at <= clock_timestamp()) as expired_count
from archiver.upload

-- list_parked --
-- What was set aside, the latest first: rows that could not be moved, and hot copies that
-- could not be let go.
select source, id, reason, hot_bucket, hot_path, attempts_count, parked_at,
       false as is_release
from archiver.claim
where state = 'parked'
  and (%(source)s::text is null or source = %(source)s)
union all
select r.source, a.id, r.reason, a.hot_bucket, a.hot_path, r.attempts_count, r.parked_at,
       true
from archiver.release r
join archiver.archived a using (receipt_id)
where r.parked_at is not null
  and (%(source)s::text is null or r.source = %(source)s)
order by parked_at desc, source, id
limit %(limit)s

-- forget_parked --
-- Forget that rows were set aside: their source offers them again, if they are still there.
-- A hold is forgotten where its id is named.
delete from archiver.claim
where (state = 'parked' or (state = 'held' and %(ids)s::text[] is not null))
  and (%(source)s::text is null or source = %(source)s)
  and (%(ids)s::text[] is null or id = any(%(ids)s::text[]))

-- revive_parked_releases --
-- Let releases that were set aside be due now, from zero attempts.
update archiver.release r
set parked_at = null, reason = null, attempts_count = 0, due_at = clock_timestamp()
from archiver.receipt a
where a.receipt_id = r.receipt_id
  and r.parked_at is not null
  and (%(source)s::text is null or r.source = %(source)s)
  and (%(ids)s::text[] is null or a.id = any(%(ids)s::text[]))

-- find_claims --
-- The claims of one id, in whatever sources have it.
select source, state, reason, hot_bucket, hot_path, attempts_count, next_attempt_at
from archiver.claim
where id = %(id)s
  and (%(source)s::text is null or source = %(source)s)
order by source

-- find_receipts --
-- The receipts of one id, the newest first, each with how it ended last.
select a.receipt_id, a.source, a.id, a.epoch, a.worker_id, a.number, a.hot_bucket,
       a.hot_path, a.provider, a.cold_bucket, a.cold_key, a.size_bytes, a.digest,
       a.content_digest, a.etag, a.hot_size_bytes, a.hot_etag, a.hot_version,
       a.hot_modified_at, a.evidence, a.group_id, a.archived_at,
       o.outcome, o.at as ended_at
from archiver.archived a
left join lateral (
    select e.outcome, e.at
    from archiver.outcome e
    where e.receipt_id = a.receipt_id
    order by e.at desc
    limit 1
) as o on true
where a.id = %(id)s
  and (%(source)s::text is null or a.source = %(source)s)
order by a.receipt_id desc

-- list_entries --
-- A page of the receipts of moves of a time, each with how it ended last, by (archived_at, receipt_id).
-- The bare comparison is there for the index, which keeps each time once; the lateral joins
-- take two looks at an index for each receipt, however many releases are pending.
select a.receipt_id, a.source, a.id, a.epoch, a.worker_id, a.number, a.hot_bucket,
       a.hot_path, a.provider, a.cold_bucket, a.cold_key, a.size_bytes, a.digest,
       a.content_digest, a.etag, a.hot_size_bytes, a.hot_etag, a.hot_version,
       a.hot_modified_at, a.evidence, a.group_id, a.archived_at,
       p.receipt_id is not null as is_pending, o.outcome, o.detail, o.at as ended_at
from archiver.archived a
left join lateral (
    select r.receipt_id
    from archiver.release r
    where r.receipt_id = a.receipt_id
    limit 1
) as p on true
left join lateral (
    select e.outcome, e.detail, e.at
    from archiver.outcome e
    where e.receipt_id = a.receipt_id
    order by e.at desc
    limit 1
) as o on true
where a.archived_at >= greatest(%(since)s::timestamptz, %(after_at)s::timestamptz)
  and (a.archived_at, a.receipt_id) > (%(after_at)s::timestamptz, %(after_id)s)
  and a.archived_at < %(until)s::timestamptz
  and (%(source)s::text is null or a.source = %(source)s)
  and a.hot_bucket is not null
order by a.archived_at, a.receipt_id
limit %(limit)s

-- list_newest_entries --
-- The same of one source, and of one worker where one is asked for: of each id the last move.
select a.receipt_id, a.source, a.id, a.epoch, a.worker_id, a.number, a.hot_bucket,
       a.hot_path, a.provider, a.cold_bucket, a.cold_key, a.size_bytes, a.digest,
       a.content_digest, a.etag, a.hot_size_bytes, a.hot_etag, a.hot_version,
       a.hot_modified_at, a.evidence, a.group_id, a.archived_at,
       p.receipt_id is not null as is_pending, o.outcome, o.detail, o.at as ended_at
from archiver.archived a
left join lateral (
    select r.receipt_id
    from archiver.release r
    where r.receipt_id = a.receipt_id
    limit 1
) as p on true
left join lateral (
    select e.outcome, e.detail, e.at
    from archiver.outcome e
    where e.receipt_id = a.receipt_id
    order by e.at desc
    limit 1
) as o on true
where a.archived_at >= greatest(%(since)s::timestamptz, %(after_at)s::timestamptz)
  and (a.archived_at, a.receipt_id) > (%(after_at)s::timestamptz, %(after_id)s)
  and a.archived_at < %(until)s::timestamptz
  and a.source = %(source)s
  and a.hot_bucket is not null
  and (%(worker_id)s::bigint is null or a.worker_id = %(worker_id)s)
  and a.receipt_id = (
      select max(n.receipt_id)
      from archiver.receipt n
      join archiver.place p using (place_id)
      where n.id = a.id and n.source = a.source
        and p.hot_bucket is not null
        and n.archived_at < %(until)s::timestamptz
        and (%(worker_id)s::bigint is null or n.worker_id = %(worker_id)s)
  )
order by a.archived_at, a.receipt_id
limit %(limit)s

-- list_newest_entries_of --
-- The receipt of the last move of each of these ids, in whatever sources have it.
select a.receipt_id, a.source, a.id, a.epoch, a.worker_id, a.number, a.hot_bucket,
       a.hot_path, a.provider, a.cold_bucket, a.cold_key, a.size_bytes, a.digest,
       a.content_digest, a.etag, a.hot_size_bytes, a.hot_etag, a.hot_version,
       a.hot_modified_at, a.evidence, a.group_id, a.archived_at,
       p.receipt_id is not null as is_pending, o.outcome, o.detail, o.at as ended_at
from archiver.archived a
left join lateral (
    select r.receipt_id
    from archiver.release r
    where r.receipt_id = a.receipt_id
    limit 1
) as p on true
left join lateral (
    select e.outcome, e.detail, e.at
    from archiver.outcome e
    where e.receipt_id = a.receipt_id
    order by e.at desc
    limit 1
) as o on true
where a.id = any(%(ids)s)
  and (%(source)s::text is null or a.source = %(source)s)
  and a.hot_bucket is not null
  and a.receipt_id = (
      select max(n.receipt_id)
      from archiver.receipt n
      join archiver.place p using (place_id)
      where n.id = a.id and n.source = a.source
        and p.hot_bucket is not null
  )
order by a.id, a.source

-- list_adoptions --
-- A page of the receipts of a time that know of no hot object, by (archived_at, receipt_id).
select a.receipt_id, a.source, a.id, a.provider, a.cold_bucket, a.cold_key, a.size_bytes,
       a.digest, a.content_digest, a.etag, a.evidence, a.group_id, a.archived_at
from archiver.archived a
where a.archived_at >= greatest(%(since)s::timestamptz, %(after_at)s::timestamptz)
  and (a.archived_at, a.receipt_id) > (%(after_at)s::timestamptz, %(after_id)s)
  and a.archived_at < %(until)s::timestamptz
  and (%(source)s::text is null or a.source = %(source)s)
  and a.hot_bucket is null
order by a.archived_at, a.receipt_id
limit %(limit)s
