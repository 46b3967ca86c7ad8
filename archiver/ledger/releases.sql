-- lock_out_undo --
-- Releases are claimed beside each other, but not beside an undo. What follows is a statement
-- of its own, so that its snapshot shows what the undo has done.
select pg_advisory_xact_lock_shared(hashtextextended('archiver release ' || %(source)s, 0))

-- claim_releases --
-- Claim receipts whose hot copies may go by now, oldest first: those that nobody holds, that
-- a dead worker held, or that this worker claimed in a transaction whose reply got lost.
with due as (
    select r.receipt_id
    from archiver.release r
    left join archiver.worker w using (worker_id)
    where r.source = %(source)s
      and r.parked_at is null
      and r.due_at <= statement_timestamp()
      and (
          r.worker_id is null
          or (r.worker_id <> %(worker_id)s
              and (w.left_at is not null or w.lease_until <= statement_timestamp()))
          or (r.worker_id = %(worker_id)s and r.number > %(seen_number)s)
      )
    order by r.due_at, r.receipt_id
    limit %(limit)s
    for update of r skip locked
),
claimed as (
    update archiver.release r
    set epoch = %(epoch)s, worker_id = %(worker_id)s,
        number = nextval('archiver.fencing_number')
    from due
    where r.receipt_id = due.receipt_id
    returning r.receipt_id, r.due_at, r.attempts_count,
              r.epoch as release_epoch, r.worker_id as release_worker_id,
              r.number as release_number
)
select c.release_epoch, c.release_worker_id, c.release_number, c.attempts_count,
       a.receipt_id, a.source, a.id, a.epoch, a.worker_id, a.number, a.hot_bucket,
       a.hot_path, a.provider, a.cold_bucket, a.cold_key, a.size_bytes, a.digest,
       a.content_digest, a.etag, a.hot_size_bytes, a.hot_etag, a.hot_version,
       a.hot_modified_at, a.evidence, a.group_id, a.archived_at
from claimed c
join archiver.archived a using (receipt_id)
order by c.due_at, c.receipt_id

-- end_releases --
-- Append how these receipts ended, where their releases are still under these tokens.
with ended as (
    delete from archiver.release r
    using jsonb_to_recordset(%(ends)s) as e (
              receipt_id bigint, epoch integer, worker_id bigint, number bigint,
              outcome text, detail text
          ),
          archiver.fleet f
    where r.receipt_id = e.receipt_id and r.epoch = e.epoch
      and r.worker_id = e.worker_id and r.number = e.number and f.epoch = e.epoch
    returning r.receipt_id, r.source, e.outcome, e.detail
)
insert into archiver.outcome (receipt_id, source, outcome, detail)
select receipt_id, source, outcome, detail
from ended

-- fail_releases --
-- Count an attempt, let go, and wait or park.
update archiver.release r
set attempts_count = r.attempts_count + 1,
    epoch = null, worker_id = null, number = null,
    due_at = coalesce(clock_timestamp() + make_interval(secs => e.wait_seconds), r.due_at),
    parked_at = case when e.wait_seconds is null then clock_timestamp() end,
    reason = e.reason
from jsonb_to_recordset(%(failures)s) as e (
         receipt_id bigint, epoch integer, worker_id bigint, number bigint,
         reason text, wait_seconds double precision
     ),
     archiver.fleet f
where r.receipt_id = e.receipt_id and r.epoch = e.epoch
  and r.worker_id = e.worker_id and r.number = e.number and f.epoch = e.epoch

-- give_back_releases --
-- Let go of releases under these tokens, uncounted.
update archiver.release r
set epoch = null, worker_id = null, number = null
from jsonb_to_recordset(%(releases)s) as e (
         receipt_id bigint, epoch integer, worker_id bigint, number bigint
     ),
     archiver.fleet f
where r.receipt_id = e.receipt_id and r.epoch = e.epoch
  and r.worker_id = e.worker_id and r.number = e.number and f.epoch = e.epoch
