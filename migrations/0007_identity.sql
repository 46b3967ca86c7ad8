-- Which database a ledger is at home in, and its stamps in the cold stores.
--
-- Sets the home to the database it is applied in. The worker's role needs INSERT on stamp, but for
-- `overrules`, and UPDATE of its `confirmed_at`; nothing on fleet: where a ledger is at home, and
-- what is overruled, `archiver ledger take-over` decides, with the role that migrates.

-- Of the server's data directory: a dump that is loaded elsewhere finds another. NULL where this
-- role may not read it, or the server does not tell: hosted ones refuse such functions as they like.
create function archiver.system_identifier() returns bigint
    language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
    return (select s.system_identifier from pg_control_system() s);
exception
    when insufficient_privilege or undefined_function or feature_not_supported
        or object_not_in_prerequisite_state then
        return null;
end
$$;

alter table archiver.fleet
    add column system_identifier bigint, -- NULL: not known, so not compared
    add column database_name     text;

update archiver.fleet
set system_identifier = archiver.system_identifier(), database_name = current_database();

alter table archiver.fleet alter column database_name set not null;

-- Stamps that say in the cold store which ledger lets go of hot copies against what lies there. A row is here
-- before its stamp is there, so whoever finds the stamp can tell whose it is.
create table archiver.stamp (
    source       text not null,
    provider     text not null,
    cold_bucket  text not null,
    prefix       text not null,
    number       bigint not null check (number > 0),
    nonce        uuid not null default gen_random_uuid(),
    epoch        integer not null,
    overrules    boolean not null default false, -- what lies there below this number is settled
    database_name text not null, -- the ledger's home when it was intended
    stamped_at   timestamptz not null default clock_timestamp(),
    confirmed_at timestamptz, -- when it was seen there; NULL: it may be there or not
    primary key (source, provider, cold_bucket, prefix, number)
);

insert into archiver.schema_version (version, name) values (7, 'identity');
