-- find_pulse --
-- What is known of the workers of one host: when they last swept, and how they get on.
with here as (
    select w.started_at, w.progressed_at, s.sweep_id, s.ended_at, s.summary,
           w.left_at is null and w.lease_until > clock_timestamp() as is_alive
    from archiver.worker w
    left join lateral (
        select l.sweep_id, l.ended_at, l.summary
        from archiver.sweep l
        where l.worker_id = w.worker_id
        order by l.sweep_id desc
        limit 1
    ) s on true
    where w.host = %(host)s
)
select clock_timestamp() as asked_at,
       (select array_agg(p.what) from archiver.pause p) as pauses,
       max(greatest(
           ended_at,
           case when is_alive then started_at end,
           -- `adopt` keeps a lease and gets on as well, and sweeps nothing.
           case when is_alive and sweep_id is not null then progressed_at end
       )) as last_at,
       max(progressed_at) filter (
           where is_alive and sweep_id is not null and ended_at is null
       ) as progressed_at,
       (array_agg(summary ->> 'state' order by sweep_id desc nulls last))[1] as last_state
from here
