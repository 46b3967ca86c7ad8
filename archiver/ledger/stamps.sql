-- lock --
-- One worker after the other intends a stamp. What follows has a snapshot of its own.
select pg_advisory_xact_lock(hashtextextended('archiver stamp ' || %(source)s, 0))

-- find_stamps --
-- The last stamp that was seen in a place, and those that are intended after it, by number; at
-- least one row, for the ledger's own facts. What a clock that was set back since puts into the
-- future is not fresh: else no stamp would follow until then.
select f.ledger_id::text as ledger_id, s.database_name, s.number, s.nonce::text as nonce,
       s.epoch, s.overrules, s.stamped_at, s.confirmed_at is not null as is_confirmed,
       s.confirmed_at > clock_timestamp() - make_interval(secs => %(fresh_seconds)s)
           and s.confirmed_at <= clock_timestamp() as is_fresh
from archiver.fleet f
left join archiver.stamp s
  on s.source = %(source)s
 and s.provider = %(provider)s
 and s.cold_bucket = %(cold_bucket)s
 and s.prefix = %(prefix)s
 and s.number >= coalesce((
         select max(c.number)
         from archiver.stamp c
         where c.source = %(source)s
           and c.provider = %(provider)s
           and c.cold_bucket = %(cold_bucket)s
           and c.prefix = %(prefix)s
           and c.confirmed_at is not null
     ), 0)
order by s.number

-- intend --
-- Record the next stamp, before it is put.
insert into archiver.stamp
    (source, provider, cold_bucket, prefix, number, epoch, database_name)
select %(source)s, %(provider)s, %(cold_bucket)s, %(prefix)s, %(number)s, %(epoch)s,
       f.database_name
from archiver.fleet f

-- confirm --
-- A stamp was seen in its place.
update archiver.stamp
set confirmed_at = clock_timestamp()
where source = %(source)s
  and provider = %(provider)s
  and cold_bucket = %(cold_bucket)s
  and prefix = %(prefix)s
  and number = %(number)s
  and nonce = %(nonce)s::uuid
  and confirmed_at is null

-- overrule --
-- Record a stamp above all that is known here or was found there, which it settles.
insert into archiver.stamp
    (source, provider, cold_bucket, prefix, number, epoch, database_name, overrules)
select %(source)s, %(provider)s, %(cold_bucket)s, %(prefix)s,
       greatest(%(number)s, coalesce((
           select max(s.number)
           from archiver.stamp s
           where s.source = %(source)s
             and s.provider = %(provider)s
             and s.cold_bucket = %(cold_bucket)s
             and s.prefix = %(prefix)s
       ), 0)) + 1, %(epoch)s, f.database_name, true
from archiver.fleet f
