-- lock_source --
-- One transaction at a time prepares this source or claims from it. What follows is a
-- statement of its own, so that its snapshot shows what the one before has claimed.
select pg_advisory_xact_lock(hashtextextended('archiver ' || %(source)s, 0))

-- lock_housekeeping --
-- One transaction at a time keeps house; claims go on beside it.
select pg_advisory_xact_lock(hashtextextended('archiver housekeeping ' || %(source)s, 0))

-- forget_ended_holds --
-- Drop some of the holds whose time is over: their rows are asked anew.
delete from archiver.claim c
where c.source = %(source)s
  and c.id in (
      select h.id
      from archiver.claim h
      where h.source = %(source)s
        and h.state = 'held'
        and h.next_attempt_at <= statement_timestamp()
      limit %(limit)s
      for update skip locked
  )

-- park_worker_killers --
-- Set aside what has just killed one worker too many.
update archiver.claim c
set state = 'parked', reason = 'crashes the worker', parked_at = clock_timestamp(),
    crashes_count = c.crashes_count + 1
from (
    select c.source, c.id
    from archiver.claim c
    join archiver.worker w using (worker_id)
    where c.source = %(source)s
      and c.state = 'claimed'
      and w.left_at is null
      and w.lease_until <= statement_timestamp()
      and c.crashes_count >= %(last_crash)s
    for update of c skip locked
) as killer
where c.source = killer.source and c.id = killer.id
returning c.id

-- take_over --
-- Claim what is in motion and free: retries that are due, what dead workers held, and what
-- this worker claimed in a transaction whose reply it never saw. Oldest first. The clock is
-- the statement's, which may use an index and is never later than the real one.
with free as (
    select c.source, c.id, dead.is_crash::integer as crash
    from archiver.claim c
    left join archiver.worker w on w.worker_id = c.worker_id and c.state = 'claimed'
    cross join lateral (
        select coalesce(w.left_at is null and c.worker_id <> %(worker_id)s
                        and c.state = 'claimed', false) as is_crash
    ) as dead
    where c.source = %(source)s
      and (
          (c.state = 'waiting' and c.next_attempt_at <= statement_timestamp())
          or (c.state = 'claimed' and c.worker_id <> %(worker_id)s
              and (w.left_at is not null or w.lease_until <= statement_timestamp()))
          or (c.state = 'claimed' and c.worker_id = %(worker_id)s
              and c.number > %(seen_number)s)
      )
      and (c.crashes_count + dead.is_crash::integer >= %(alone_at)s) = %(is_alone)s
    order by c.due_at, c.id
    limit %(limit)s
    for update of c skip locked
)
update archiver.claim c
set state = 'claimed', epoch = %(epoch)s, worker_id = %(worker_id)s,
    number = nextval('archiver.fencing_number'), claimed_at = clock_timestamp(),
    crashes_count = c.crashes_count + free.crash, next_attempt_at = null
from free
where c.source = free.source and c.id = free.id
returning c.id, c.due_at, c.hot_bucket, c.hot_path, c.cold_key, c.digest, c.content_digest,
          c.size_bytes, c.content_type, c.content_encoding, c.group_id, c.metadata,
          c.epoch, c.worker_id, c.number, c.attempts_count, c.crashes_count

-- find_moving --
-- What is being moved now. Asked before the source is: a row that is flipped, and its claim
-- deleted, between the two would else look like a candidate that nobody holds.
select id
from archiver.claim
where source = %(source)s and state = 'claimed'

-- find_in_the_way --
-- Which of these offers have a claim that stands in their way. A park binds only the row
-- that failed; a hold binds the id. `is_free`: the claim is a retry or a take-over that could be
-- claimed now, or a hold that the next sweep forgets.
select c.id,
       coalesce(
           (c.state in ('waiting', 'held') and c.next_attempt_at <= statement_timestamp())
           or (c.state = 'claimed'
               and (w.left_at is not null or w.lease_until <= statement_timestamp())),
           false
       ) as is_free
from jsonb_to_recordset(%(offers)s) as o (
    id text, hot_bucket text, hot_path text, digest text, content_digest text
)
join archiver.claim c on c.source = %(source)s and c.id = o.id
left join archiver.worker w on w.worker_id = c.worker_id
where not (
    c.state = 'parked'
    and (c.hot_bucket, c.hot_path, c.digest, c.content_digest) is distinct from
        (o.hot_bucket, o.hot_path, decode(o.digest, 'hex'), decode(o.content_digest, 'hex'))
)

-- insert_claims --
-- Claim these offers, and park those with a reason; the unique key arbitrates. A parked row
-- that has changed since is claimed anew, from zero.
insert into archiver.claim as c (
    source, id, state, due_at, hot_bucket, hot_path, cold_key, digest, content_digest,
    size_bytes, content_type, content_encoding, group_id, metadata,
    epoch, worker_id, number, claimed_at, reason, parked_at
)
select %(source)s, o.id, case when o.reason is null then 'claimed' else 'parked' end,
       o.due_at, o.hot_bucket, o.hot_path, o.cold_key,
       decode(o.digest, 'hex'), decode(o.content_digest, 'hex'),
       o.size_bytes, o.content_type, o.content_encoding, o.group_id, o.metadata,
       %(epoch)s, %(worker_id)s, nextval('archiver.fencing_number'), clock_timestamp(),
       o.reason, case when o.reason is not null then clock_timestamp() end
from jsonb_to_recordset(%(offers)s) as o (
    id text, due_at timestamptz, hot_bucket text, hot_path text, cold_key text,
    digest text, content_digest text, size_bytes bigint, content_type text,
    content_encoding text, group_id text, metadata jsonb, reason text
)
on conflict (source, id) do update
set state = excluded.state, due_at = excluded.due_at, hot_bucket = excluded.hot_bucket,
    hot_path = excluded.hot_path, cold_key = excluded.cold_key, digest = excluded.digest,
    content_digest = excluded.content_digest, size_bytes = excluded.size_bytes,
    content_type = excluded.content_type, content_encoding = excluded.content_encoding,
    group_id = excluded.group_id, metadata = excluded.metadata, epoch = excluded.epoch,
    worker_id = excluded.worker_id, number = excluded.number,
    claimed_at = excluded.claimed_at, reason = excluded.reason,
    parked_at = excluded.parked_at, attempts_count = 0, crashes_count = 0,
    next_attempt_at = null
where c.state = 'parked'
  and (c.hot_bucket, c.hot_path, c.digest, c.content_digest) is distinct from
      (excluded.hot_bucket, excluded.hot_path, excluded.digest, excluded.content_digest)
returning c.id, c.number, c.state

-- give_back --
-- Let go of claims under these tokens: one without a history is as if it had never been
-- claimed, the others can be retried at once.
with mine as (
    select c.source, c.id, c.attempts_count = 0 and c.crashes_count = 0 as is_fresh
    from jsonb_to_recordset(%(tokens)s) as t (
        id text, epoch integer, worker_id bigint, number bigint
    )
    join archiver.claim c
      on c.source = %(source)s and c.id = t.id and c.epoch = t.epoch
     and c.worker_id = t.worker_id and c.number = t.number
    join archiver.fleet f on f.epoch = c.epoch
    where c.state = 'claimed'
    order by c.id
    for update of c
),
forgotten as (
    delete from archiver.claim c
    using mine
    where c.source = mine.source and c.id = mine.id and mine.is_fresh
)
update archiver.claim c
set state = 'waiting', next_attempt_at = clock_timestamp()
from mine
where c.source = mine.source and c.id = mine.id and not mine.is_fresh

-- lock_mine --
-- Hold the claims under these tokens until the end of the transaction, and say whether
-- their worker's lease runs. While they are held nobody can take them over.
select c.id, c.number, c.cold_key, c.attempts_count,
       exists (
           select from archiver.worker w
           where w.worker_id = c.worker_id
             and w.left_at is null
             and w.lease_until > clock_timestamp()
       ) as has_lease
from jsonb_to_recordset(%(tokens)s) as t (
    id text, epoch integer, worker_id bigint, number bigint
)
join archiver.claim c
  on c.source = %(source)s and c.id = t.id and c.epoch = t.epoch
 and c.worker_id = t.worker_id and c.number = t.number
join archiver.fleet f on f.epoch = c.epoch
where c.state = 'claimed'
order by c.id
for update of c

-- find_fates --
-- What has become of these tokens: the state of the claim that still carries one, and
-- whether a receipt was recorded under it.
select t.number, c.state, r.receipt_id is not null as is_recorded
from jsonb_to_recordset(%(tokens)s) as t (
    id text, epoch integer, worker_id bigint, number bigint
)
left join archiver.claim c
  on c.source = %(source)s and c.id = t.id and c.epoch = t.epoch
 and c.worker_id = t.worker_id and c.number = t.number
left join archiver.receipt r
  on r.source = %(source)s and r.id = t.id and r.epoch = t.epoch
 and r.worker_id = t.worker_id and r.number = t.number

-- set_lock_timeout --
-- Until it is set again, or the transaction ends; and what it was before.
select own as before, set_config('lock_timeout', %(timeout)s, true)
from current_setting('lock_timeout') as own

-- add_places --
-- What receipts have in common is kept once. A statement of its own: the next one sees also
-- what another transaction has just added.
insert into archiver.place (provider, cold_bucket, prefix, hot_bucket)
select distinct s.provider, s.cold_bucket, s.prefix, s.hot_bucket
from jsonb_to_recordset(%(receipts)s) as s (
    provider text, cold_bucket text, prefix text, hot_bucket text
)
where not exists (
    select from archiver.place p
    where p.provider = s.provider and p.cold_bucket = s.cold_bucket
      and p.prefix = s.prefix and p.hot_bucket = s.hot_bucket
)
order by s.provider, s.cold_bucket, s.prefix, s.hot_bucket
on conflict do nothing

-- insert_receipts --
-- Keep what was proven, and let the release of each hot copy be due after the grace. An
-- unproven receipt releases nothing.
with kept as (
    insert into archiver.receipt (
        source, id, epoch, worker_id, number, place_id, cold_key, hot_path, size_bytes,
        digest, content_digest, etag, hot_size_bytes, hot_etag, hot_version,
        hot_modified_at, evidence, group_id
    )
    select %(source)s, s.id, s.epoch, s.worker_id, s.number, p.place_id, s.cold_key,
           nullif(s.hot_path, s.cold_key), s.size_bytes, decode(s.digest, 'hex'),
           decode(s.content_digest, 'hex'), s.etag, nullif(s.hot_size_bytes, s.size_bytes),
           s.hot_etag, s.hot_version, s.hot_modified_at, s.evidence, s.group_id
    from jsonb_to_recordset(%(receipts)s) as s (
        id text, epoch integer, worker_id bigint, number bigint, provider text,
        cold_bucket text, prefix text, hot_bucket text, cold_key text, hot_path text,
        size_bytes bigint, digest text, content_digest text, etag text,
        hot_size_bytes bigint, hot_etag text, hot_version text,
        hot_modified_at timestamptz, evidence smallint, group_id text
    )
    join archiver.place p
      on p.provider = s.provider and p.cold_bucket = s.cold_bucket
     and p.prefix = s.prefix and p.hot_bucket = s.hot_bucket
    order by s.number
    returning receipt_id, source, evidence
)
insert into archiver.release (receipt_id, source, due_at)
select receipt_id, source, statement_timestamp() + make_interval(secs => %(grace_seconds)s)
from kept
where evidence > 0

-- delete_claims --
-- The end of claims that are held by this transaction.
delete from archiver.claim
where source = %(source)s
  and number = any(%(numbers)s)
  and id = any(%(ids)s)

-- fail_claims --
-- Count an attempt where it is one, and wait or park; the claims are held by this transaction.
update archiver.claim c
set attempts_count = c.attempts_count + f.is_counted::int,
    state = case when f.wait_seconds is null then 'parked' else 'waiting' end,
    next_attempt_at = clock_timestamp() + make_interval(secs => f.wait_seconds),
    parked_at = case when f.wait_seconds is null then clock_timestamp() end,
    reason = f.reason
from jsonb_to_recordset(%(failures)s) as f (
    id text, number bigint, reason text, wait_seconds double precision, is_counted boolean
)
where c.source = %(source)s and c.id = f.id and c.number = f.number

-- count_in_motion --
-- What is left of one source: waiting, held by live workers, parked, to be released. Each is a
-- look of its own at an index that has just that: millions may be parked or pending.
with now as materialized (select clock_timestamp() as at),
claimed as materialized (
    select c.worker_id, w.lease_until, w.left_at is null and w.lease_until > now.at as is_alive
    from archiver.claim c
    cross join now
    left join archiver.worker w using (worker_id)
    where c.source = %(source)s and c.state = 'claimed'
),
releasing as materialized (
    select r.due_at, r.worker_id, w.lease_until,
           w.left_at is null and w.lease_until > now.at as is_alive
    from archiver.release r
    cross join now
    left join archiver.worker w using (worker_id)
    where r.source = %(source)s and r.worker_id is not null
),
elsewhere as (
    select lease_until from claimed where is_alive and worker_id <> %(worker_id)s
    union all
    select lease_until from releasing where is_alive and worker_id <> %(worker_id)s
),
next_due as (
    select least(
        (select min(c.next_attempt_at)
         from archiver.claim c
         where c.source = %(source)s and c.state = 'waiting'),
        (select now.at from now where exists (select from claimed where not is_alive))
    ) as at
),
next_release as (
    select least(
        (select r.due_at
         from archiver.release r
         where r.source = %(source)s and r.parked_at is null and r.worker_id is null
         order by r.due_at
         limit 1),
        (select min(due_at) from releasing where not is_alive)
    ) as at
),
releases as (
    select count(*) from archiver.release r where r.source = %(source)s
),
parked_releases as (
    select count(*)
    from archiver.release r
    where r.source = %(source)s and r.parked_at is not null
)
select (select count(*)
        from archiver.claim c
        where c.source = %(source)s and c.state = 'waiting') as waiting_count,
       extract(epoch from next_due.at - now.at)::double precision as next_due_seconds,
       extract(epoch from next_release.at - now.at)::double precision as next_release_seconds,
       (select count(*) from elsewhere) as elsewhere_count,
       extract(
           epoch from (select min(lease_until) from elsewhere) - now.at
       )::double precision as elsewhere_lease_seconds,
       (select count(*)
        from archiver.claim c
        where c.source = %(source)s and c.state = 'parked')
           + parked_releases.count as parked_count,
       releases.count - parked_releases.count as pending_release_count
from now, next_due, next_release, parked_releases, releases
