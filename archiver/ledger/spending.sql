-- lock_spending --
-- One transaction at a time reserves or gives back. What follows is a statement of its own,
-- so that its snapshot shows what the one before has written.
select pg_advisory_xact_lock(hashtextextended('archiver spending', 0))

-- reserve --
-- Spend so much of what is wanted as the window has room for. A row counts until its last
-- byte has left the window.
with granted as (
    select least(
               %(wanted_bytes)s,
               greatest(0, %(limit_bytes)s - coalesce(sum(s.bytes), 0))
           )::bigint as bytes
    from archiver.spend s
    where s.began_at > clock_timestamp()
        - make_interval(secs => %(window_seconds)s + %(row_seconds)s)
), noted as (
    insert into archiver.spend as s (began_at, bytes)
    select to_timestamp(
               floor(extract(epoch from clock_timestamp()) / %(row_seconds)s) * %(row_seconds)s
           ),
           g.bytes
    from granted g
    where g.bytes > 0
    on conflict (began_at) do update set bytes = s.bytes + excluded.bytes
)
select g.bytes
from granted g

-- owe --
-- Note what was read without having been reserved, room or not.
insert into archiver.spend as s (began_at, bytes)
values (
    to_timestamp(
        floor(extract(epoch from clock_timestamp()) / %(row_seconds)s) * %(row_seconds)s
    ),
    %(bytes)s
)
on conflict (began_at) do update set bytes = s.bytes + excluded.bytes

-- give_back --
-- Take back what was reserved lately and not read: from the newest rows, where it was noted.
with newest as (
    select s.began_at, s.bytes, sum(s.bytes) over (order by s.began_at desc) - s.bytes as above
    from archiver.spend s
    where s.began_at > clock_timestamp() - interval '1 day'
)
update archiver.spend s
set bytes = s.bytes - least(n.bytes, %(bytes)s - n.above)
from newest n
where n.began_at = s.began_at
  and n.above < %(bytes)s

-- forget_spending --
-- Drop what has left every window there may be.
delete from archiver.spend
where began_at < clock_timestamp() - interval '400 days'

-- find_spent --
-- What the window holds, and when the oldest of it leaves.
select coalesce(sum(s.bytes), 0)::bigint as spent_bytes,
       min(s.began_at) + make_interval(secs => %(window_seconds)s + %(row_seconds)s)
           as next_room_at
from archiver.spend s
where s.bytes > 0
  and s.began_at > clock_timestamp()
    - make_interval(secs => %(window_seconds)s + %(row_seconds)s)
