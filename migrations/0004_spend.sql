-- What was read from stores that charge for it, so that a budget holds over time.
--
-- The worker's role needs INSERT, UPDATE and DELETE on spend besides.

-- Bytes that all workers reserved and did not give back, five minutes a row.
create table archiver.spend (
    began_at timestamptz primary key, -- of the five minutes
    bytes    bigint not null check (bytes >= 0)
);

insert into archiver.schema_version (version, name) values (4, 'spend');
