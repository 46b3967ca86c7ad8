-- lock_out_claims --
-- No release of this source is claimed until the end of this transaction, and what was
-- claimed before is seen by the next statement.
select pg_advisory_xact_lock(hashtextextended('archiver release ' || %(source)s, 0))

-- lock_pending --
-- Hold those of these releases that nobody else is just ending. Whether a live worker has one
-- is the next question's.
select r.receipt_id
from archiver.release r
where r.receipt_id = any(%(receipt_ids)s)
order by r.receipt_id
for update of r skip locked

-- find_under_way --
-- The hot locations that live workers may be deleting now, for whatever row.
select distinct a.hot_bucket, a.hot_path
from archiver.release r
join archiver.worker w using (worker_id)
join archiver.archived a using (receipt_id)
where r.source = %(source)s
  and w.left_at is null
  and w.lease_until > clock_timestamp()

-- find_in_motion --
-- Which of these ids are candidates again: their rows are not what a receipt has made of them.
select c.id
from archiver.claim c
where c.source = %(source)s
  and c.id = any(%(ids)s)
  and c.state in ('claimed', 'waiting', 'proved')

-- find_endings --
-- What has become of these receipts: still pending, or how they ended last.
select a.receipt_id,
       exists (select from archiver.release r where r.receipt_id = a.receipt_id) as is_pending,
       o.outcome, o.detail
from archiver.receipt a
left join lateral (
    select e.outcome, e.detail
    from archiver.outcome e
    where e.receipt_id = a.receipt_id
    order by e.at desc
    limit 1
) as o on true
where a.receipt_id = any(%(receipt_ids)s)

-- end_undone --
-- The end of these releases, and of the others that would delete the very objects the rows
-- point at again.
with back as (
    select a.receipt_id, a.source, a.id, a.hot_bucket, a.hot_path
    from archiver.archived a
    where a.receipt_id = any(%(receipt_ids)s)
),
ended as (
    delete from archiver.release r
    using archiver.archived a, back
    where a.receipt_id = r.receipt_id
      and a.id = back.id and a.source = back.source
      and a.hot_bucket = back.hot_bucket and a.hot_path = back.hot_path
    returning r.receipt_id, r.source, r.receipt_id = back.receipt_id as is_undone
)
insert into archiver.outcome (receipt_id, source, outcome, detail)
select receipt_id, source,
       case when is_undone then 'undone' else 'replaced' end,
       case when not is_undone then 'a row points at it' end
from ended

-- hold --
-- No sweep takes these ids before their time. A row that was parked or held is held anew.
insert into archiver.claim as c (
    source, id, state, due_at, hot_bucket, hot_path, digest, content_digest, size_bytes,
    group_id, epoch, worker_id, number, next_attempt_at, reason
)
select a.source, a.id, 'held', a.archived_at, a.hot_bucket, a.hot_path, a.digest,
       a.content_digest, a.size_bytes, a.group_id, a.epoch, a.worker_id,
       nextval('archiver.fencing_number'),
       clock_timestamp() + make_interval(secs => %(hold_seconds)s), 'undone'
from archiver.archived a
where a.receipt_id = any(%(receipt_ids)s)
order by a.id
on conflict (source, id) do update
set state = excluded.state, due_at = excluded.due_at, hot_bucket = excluded.hot_bucket,
    hot_path = excluded.hot_path, cold_key = null, digest = excluded.digest,
    content_digest = excluded.content_digest, size_bytes = excluded.size_bytes,
    group_id = excluded.group_id, epoch = excluded.epoch, worker_id = excluded.worker_id,
    number = excluded.number, next_attempt_at = excluded.next_attempt_at,
    reason = excluded.reason, parked_at = null, attempts_count = 0, crashes_count = 0
where c.state in ('held', 'parked')
