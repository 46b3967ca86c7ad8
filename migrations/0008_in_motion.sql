-- Indexes of what is few among many: claims and releases in somebody's hands, and releases that are
-- set aside among millions that are pending. The worker's role needs nothing new.

create index claim_in_hand on archiver.claim (worker_id) where state = 'claimed';
create index release_in_hand on archiver.release (worker_id) where worker_id is not null;
create index release_parked on archiver.release (source) where parked_at is not null;

insert into archiver.schema_version (version, name) values (8, 'in motion');
