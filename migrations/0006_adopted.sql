-- Receipts for objects that were archived before this ledger, by another worker.
--
-- Nothing is known of their hot copies, so nothing may ever be deleted against them: they have
-- no hot bucket, and the trigger below refuses a release. The worker's role needs nothing new.

alter table archiver.place alter column hot_bucket drop not null; -- NULL: no hot object is known

create unique index place_without_hot on archiver.place (provider, cold_bucket, prefix)
    where hot_bucket is null;

-- Bytes that nobody has read have no known digest. The content digest of such a receipt is
-- what the row promises.
alter table archiver.receipt
    alter column digest drop not null,
    add check (digest is not null or evidence = 0);

create index receipt_unproven on archiver.receipt (source, receipt_id) where evidence = 0;

-- Whatever a release is made by, its receipt is proven and knows its hot object. Once for a
-- whole statement; the limit keeps the look at each receipt on its primary key.
create function archiver.require_releasable() returns trigger
    language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    if exists (
        select from added
        cross join lateral (
            select r.evidence > 0 and p.hot_bucket is not null as is_releasable
            from archiver.receipt r
            join archiver.place p using (place_id)
            where r.receipt_id = added.receipt_id
            limit 1
        ) as receipt
        where not receipt.is_releasable
    ) then
        raise exception 'a release needs a receipt that is proven and knows its hot object';
    end if;
    return null;
end
$$;

create trigger require_releasable after insert on archiver.release
    referencing new table as added
    for each statement execute function archiver.require_releasable();

create or replace view archiver.archived as
select r.receipt_id, r.source, r.id, r.epoch, r.worker_id, r.number,
       p.hot_bucket,
       case when p.hot_bucket is not null then coalesce(r.hot_path, r.cold_key) end as hot_path,
       p.provider, p.cold_bucket, p.prefix || r.cold_key as cold_key,
       r.size_bytes, r.digest, r.content_digest, r.etag,
       case when p.hot_bucket is not null
            then coalesce(r.hot_size_bytes, r.size_bytes) end as hot_size_bytes,
       r.hot_etag, r.hot_version, r.hot_modified_at,
       r.evidence, r.group_id, r.archived_at
from archiver.receipt r
join archiver.place p using (place_id);

-- What an audit proves first: receipts without proof, but for those whose object was proven
-- by a later one.
create view archiver.unproven as
select a.receipt_id, a.source, a.id, a.hot_bucket, a.provider, a.cold_bucket, a.cold_key,
       a.size_bytes, a.content_digest, a.etag, a.archived_at
from archiver.archived a
where a.evidence = 0
  and not exists (
      select from archiver.archived proven
      where proven.id = a.id and proven.source = a.source
        and proven.cold_bucket = a.cold_bucket and proven.cold_key = a.cold_key
        and proven.evidence > 0
  );

insert into archiver.schema_version (version, name) values (6, 'adopted');
