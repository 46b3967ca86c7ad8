-- find_fleet --
-- The one row that says which ledger this is.
select ledger_id, epoch from fleet

-- join --
-- Register a process under the present epoch.
insert into worker
    (epoch, lease_until, progressed_at, started_at, host, pid, version, lock_name)
select f.epoch, :lease_until, :at, :at, :host, :pid, :version, :lock_name
from fleet f

-- beat --
-- Extend a lease that has not run out, under an epoch that was not raised.
update worker
set lease_until = :lease_until, progressed_at = :progressed_at
where worker_id = :worker_id
  and lease_until > :now
  and epoch = (select f.epoch from fleet f)

-- find_lease --
-- Whether this worker's lease runs now, under the present epoch.
select w.worker_id
from worker w
join fleet f on f.epoch = w.epoch
where w.worker_id = :worker_id
  and w.lease_until > :now

-- find_live --
-- Whose leases run now, under the present epoch.
select w.worker_id
from worker w
join fleet f on f.epoch = w.epoch
where w.lease_until > :now

-- find_others --
-- Every other process that has not left.
select worker_id, lock_name
from worker
where worker_id is not :worker_id

-- forget_worker --
-- It has left, or it is dead.
delete from worker
where worker_id = :worker_id

-- raise_number --
-- Each fencing token has a higher number than all before.
update fleet
set fencing_number = fencing_number + 1

-- find_number --
-- The number that was raised last.
select fencing_number from fleet
