"""The mutants: what is broken on purpose, and which tests see it.

Each is a small replacement that somebody could have written. A test is named by its function:
whichever of its cases fails first has caught it.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Edit:
    """A text that occurs once in a file, and what stands there instead."""

    file: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Mutant:
    """One deliberate fault."""

    name: str
    does: str  # the harm, as an operator would tell it
    caught_by: tuple[str, ...]  # node ids; quick ones
    edits: tuple[Edit, ...]


def _mutant(name: str, does: str, caught_by: tuple[str, ...], *edits: Edit) -> Mutant:
    return Mutant(name, does, caught_by, edits)


_SWEEP = "tests/unit/engine/test_sweep.py"
_MOVE = "tests/unit/engine/test_move.py"
_RELEASE = "tests/unit/engine/test_release.py"
_DOUBTS = "tests/unit/engine/test_doubts.py"
_LEASE = "tests/unit/engine/test_lease.py"
_CRASHES = "tests/faults/test_crash_matrix.py"
_LEDGER = "tests/contract/test_postgres_ledger.py::TestPostgresLedger"
_IN_POSTGRES = "tests/integration/test_ledger_in_postgres.py"
_TASK_HTML = "tests/integration/test_task_html.py"
_ROLE = "tests/integration/test_postgres_role.py"
_FILES = "tests/unit/stores/test_file_stores.py"
_PARTS_OF_FILES = "tests/unit/stores/test_file_multipart.py"
_PROBE = "tests/unit/stores/test_probe.py"
_S3 = "tests/unit/stores/test_s3.py"
_S3_CONTRACT = "tests/unit/stores/test_s3_contract.py"
_S3_PARTS = "tests/unit/stores/test_s3_multipart.py"
_HOSTILE = "tests/faults/test_hostile_input.py"
_CONTENT = "tests/unit/formats/test_content.py"
_PLUGIN_ROWS = "tests/integration/test_hostile_plugin.py"
_NO_FILES = "tests/integration/test_no_plain_files.py"
_TRANSFER = "tests/unit/engine/test_transfer.py"
_UPLOADS = "tests/contract/test_postgres_ledger.py::TestPostgresUploads"
_UPLOADS_IN_POSTGRES = "tests/integration/test_uploads_in_postgres.py"
_IN_SQLITE = "tests/integration/test_ledger_in_sqlite.py"
_LANDING = "tests/unit/engine/test_landing_file.py"
_LARGE = "tests/unit/engine/test_large_move.py"
_STREAMS = "tests/unit/engine/test_streams.py"

_OF_A_MOVE = (
    _mutant(
        "delete before verify",
        "The hot copy is deleted as soon as the put was answered.",
        (f"{_MOVE}::test_a_move_never_touches_the_hot_copy",),
        Edit(
            "archiver/engine/move.py",
            "            etag = stat.etag\n",
            "            etag = stat.etag\n"
            "            self.stores.hot.delete(\n"
            "                [(candidate.location, found.identity)], self.heartbeat.require\n"
            "            )\n",
        ),
    ),
    _mutant(
        "the receipt says what the row promises",
        "The digest of the row is taken for that of the bytes.",
        (f"{_MOVE}::test_h01_an_object_that_is_not_what_its_row_promises_is_not_sent",),
        Edit(
            "archiver/engine/checking.py",
            "        if promised is not None and promised != seen:\n"
            "            raise DigestMismatch(where=self._where, expected=str(promised), "
            "seen=str(seen))\n",
            "        seen = promised or seen\n",
        ),
    ),
    _mutant(
        "a taken key is believed",
        "Whatever lies under the key, with our metadata, is taken for the copy.",
        (
            f"{_MOVE}::test_a_copy_of_ours_that_was_damaged_since_is_not_believed_by_its_metadata",
        ),
        Edit(
            "archiver/engine/copies.py",
            "is_copy = self.stores.streams.read_back(self.stores.cold, stat) == digest",
            "is_copy = True",
        ),
    ),
    _mutant(
        "the hot object is its own copy",
        "Where hot and cold are one place, the object found under the key is the hot one.",
        (
            f"{_MOVE}::test_an_object_that_may_be_the_hot_one_under_another_name_is_nobodys_copy",
        ),
        Edit(
            "archiver/engine/copies.py",
            "        if not is_ours and "
            "_may_be_one_object(stat.key, claim.candidate.location):\n"
            "            return None\n",
            "",
        ),
    ),
    _mutant(
        "hot and cold may be one bucket",
        "A row may point into the archive: its release deletes an archived object.",
        (f"{_RELEASE}::test_in_a_bucket_that_is_hot_and_cold_at_once_nothing_is_deleted",),
        Edit(
            "archiver/engine/copies.py",
            "        if location.bucket == self.shared_bucket and is_archived:\n",
            "        if location.bucket == self.shared_bucket and is_archived and False:\n",
        ),
    ),
    _mutant(
        "a put begins without a lease",
        "A worker that slept past its lease goes on sending.",
        (f"{_MOVE}::test_past_its_lease_a_worker_sends_nothing",),
        Edit(
            "archiver/engine/move.py",
            "            self.heartbeat.require()  #",
            "            #",
        ),
    ),
    _mutant(
        "recovery believes a name",
        "Any cold object whose metadata names the row replaces a missing hot one.",
        (f"{_MOVE}::test_without_a_promise_the_objects_own_name_decides",),
        Edit(
            "archiver/engine/move.py",
            "            and told_digest(cold, found, origin) == checked.digest\n        )\n",
            "        )\n",
        ),
    ),
    _mutant(
        "recovery compares nothing",
        "A missing hot object is replaced by any bytes under its cold key.",
        (
            f"{_MOVE}::test_h02_a_missing_object_is_recovered_only_from_cold_bytes_the_row_promises",
        ),
        Edit(
            "archiver/engine/move.py",
            "            checked = self._check_cold(candidate, found)\n",
            "            body = cold.read(found.stat.key)\n"
            "            checked = Checked(Digest.of(body), candidate.content_digest)\n",
        ),
    ),
    _mutant(
        "a bomb may unpack",
        "What an object decompresses to is limited by nothing.",
        (f"{_CONTENT}::test_a_bomb_is_stopped_at_the_limit",),
        Edit(
            "archiver/formats/content.py",
            "            if self._left_bytes < 0:\n",
            "            if self._left_bytes is None:\n",
        ),
    ),
)

_OF_A_PROOF = (
    _mutant(
        "trust HEAD",
        "At readback the copy is not read back.",
        (f"{_MOVE}::test_g2_only_a_readback_sees_bytes_that_rot_under_a_good_stat",),
        Edit(
            "archiver/engine/verify.py",
            "        return _read_back(sent, stat, stores)\n",
            "        return Evidence.READBACK\n",
        ),
    ),
    _mutant(
        "the size of a copy is not compared",
        "A truncated copy counts.",
        (f"{_HOSTILE}::test_a_shorter_copy_is_seen_though_its_store_tells_no_etag",),
        Edit(
            "archiver/engine/verify.py",
            "    if stat.size_bytes != sent.size_bytes:\n",
            "    if stat.size_bytes < 0:\n",
        ),
    ),
    _mutant(
        "the ETag of a copy is not compared",
        "Other bytes of the same length count.",
        (f"{_MOVE}::test_another_etag_than_the_puts_is_not_proven",),
        Edit(
            "archiver/engine/verify.py",
            "    if sent.etag is not None and stat.etag != sent.etag:\n",
            "    if sent.etag is not None and stat.etag is None:\n",
        ),
    ),
    _mutant(
        "a copy that is not there counts",
        "A store that forgets after it said yes loses the object.",
        (f"{_MOVE}::test_a_copy_that_vanished_or_shrank_is_not_proven",),
        Edit(
            "archiver/engine/verify.py",
            "    if stat is None:\n        raise ColdMismatch(where=where, "
            'expected=f"{sent.size_bytes} bytes", seen="no object")\n',
            "    if stat is None:\n        return Evidence.SIGNED\n",
        ),
    ),
    _mutant(
        "a LIST proves absence",
        "A listing that failed midway reads as: these objects are gone.",
        (f"{_S3}::test_a_listing_that_fails_midway_proves_no_absence",),
        Edit(
            "archiver/stores/s3_listing.py",
            "    heads = dict(requests.heads(rest))\n",
            "    is_listed = len(keys) >= pays_from\n"
            "    heads = dict.fromkeys(rest) if is_listed else dict(requests.heads(rest))\n",
        ),
    ),
    _mutant(
        "a missing bucket is a missing object",
        "Where the bucket was not found, every object in it counts as gone.",
        (f"{_S3}::test_when_nothing_is_found_the_bucket_is_asked_for",),
        Edit(
            "archiver/stores/s3_listing.py",
            "        requests.prove_missing(key)\n",
            "        pass\n",
        ),
    ),
)

_OF_A_STORE = (
    _mutant(
        "an unconditional put",
        "A late writer puts other bytes over an archived object.",
        (
            f"{_S3_CONTRACT}::TestColdThatEnforces::test_a_taken_key_keeps_its_bytes_and_its_metadata",
        ),
        Edit(
            "archiver/stores/cold_s3.py",
            'mode="create" if self._capabilities.enforces_create else "overwrite"',
            'mode="overwrite"',
        ),
    ),
    _mutant(
        "an unconditional put by boto3",
        "The same, by the other client.",
        (
            f"{_S3_CONTRACT}::TestColdByBoto3ThatEnforces::test_a_taken_key_keeps_its_bytes_and_its_metadata",
        ),
        Edit(
            "archiver/stores/cold_boto3.py",
            '            said["IfNoneMatch"] = "*"\n',
            "            pass\n",
        ),
    ),
    _mutant(
        "a create over a file",
        "On a directory the later of two writers wins.",
        (f"{_FILES}::TestFileColdStore::test_a_taken_key_keeps_its_bytes_and_its_metadata",),
        Edit(
            "archiver/stores/cold_directory.py",
            "                os.link(whole, path)\n",
            "                path.unlink(missing_ok=True)\n"
            "                os.link(whole, path)\n",
        ),
        Edit(
            "archiver/stores/cold_directory.py",
            "        raise KeyTaken(where=where)\n",
            "        return path\n",
        ),
    ),
    _mutant(
        "a key may climb",
        "`..` in a cold key writes outside of the bucket.",
        (f"{_FILES}::test_a_key_that_is_no_file_name_is_unusable",),
        Edit(
            "archiver/stores/cold_directory.py",
            '    if segment in {"", ".", ".."} or "\\0" in segment:\n',
            '    if segment in {"", "."} or "\\0" in segment:\n',
        ),
    ),
    _mutant(
        "a hot path follows links",
        "A link below the bucket leads reads and deletes out of it.",
        (f"{_FILES}::test_a_link_out_of_the_root_is_refused",),
        Edit(
            "archiver/stores/hot_file.py",
            "        if real != directory:\n",
            "        if not real:\n",
        ),
    ),
    _mutant(
        "a link in cold is an object",
        "A link to the hot copy is taken for the archived one: its release deletes both.",
        (f"{_NO_FILES}::test_a_link_to_the_hot_copy_is_no_archived_one",),
        Edit(
            "archiver/stores/cold_directory.py",
            "        return Path(os.path.realpath(path.parent)) != bucket / below\n",
            "        return not (bucket / below)\n",
        ),
    ),
    _mutant(
        "what a link leads to is ours",
        "A link among the cold store's own directories: what lies there is deleted.",
        (f"{_NO_FILES}::test_what_a_link_leads_to_is_not_taken_for_the_stores_own",),
        Edit(
            "archiver/stores/cold_directory.py",
            '        if not path.is_dir() or self.is_behind_link(path / "any"):\n',
            "        if not path.is_dir():\n",
        ),
    ),
    _mutant(
        "a file may change while it is read",
        "Half of the old bytes and half of the new ones are archived.",
        (f"{_FILES}::test_a_file_rewritten_while_it_is_read_is_not_delivered",),
        Edit(
            "archiver/stores/hot_file.py",
            "        if after != self._identity or len(body) != self._identity.size_bytes:\n",
            "        if len(body) != self._identity.size_bytes:\n",
        ),
    ),
    _mutant(
        "a file may change while a range of it is read",
        "A part holds bytes of two versions.",
        (f"{_FILES}::test_a_file_that_changes_while_a_range_of_it_is_read_is_not_delivered",),
        Edit(
            "archiver/stores/hot_file.py",
            "                body = read_plain(number, start, stop)\n"
            "                _require_same(number, identity, location)\n",
            "                body = read_plain(number, start, stop)\n",
        ),
    ),
    _mutant(
        "a range of whatever lies there",
        "Parts of one version are followed by those of another.",
        (f"{_S3}::test_an_answer_to_a_range_means",),
        Edit(
            "archiver/stores/s3_answers.py",
            "        if seen != expected:\n",
            "        if not seen:\n",
        ),
    ),
    _mutant(
        "a late part is written into an object",
        "On a directory a part that comes after the end changes the archived bytes.",
        (
            f"{_PARTS_OF_FILES}::test_data_that_has_another_name_takes_no_more_bytes",
            f"{_PARTS_OF_FILES}::test_a_killed_process_leaves_an_upload_that_is_told_of_or_nothing",
        ),
        Edit(
            "archiver/stores/file_multipart.py",
            "            if place.data.lstat().st_nlink != 1:\n",
            "            if place.data.lstat().st_nlink == 0:\n",
        ),
    ),
    _mutant(
        "an upload ends while a part of it is written",
        "A part is written into what was completed meanwhile.",
        (f"{_PARTS_OF_FILES}::test_an_upload_does_not_end_while_a_part_is_written",),
        Edit(
            "archiver/stores/file_multipart.py",
            "            fcntl.flock(number, lock)\n",
            "            fcntl.flock(number, lock & fcntl.LOCK_SH)\n",
        ),
    ),
    _mutant(
        "a part counts before it is there",
        "A part that is half written over counts as the one before it.",
        (f"{_PARTS_OF_FILES}::test_a_part_for_which_there_is_no_room_does_not_count",),
        Edit(
            "archiver/stores/file_multipart.py",
            "            place.forget_part(number)",
            "            place.part(number)",
        ),
    ),
    _mutant(
        "every complete is conditional",
        "R2 drops the upload, and gigabytes with it, because the key is taken.",
        (f"{_S3_PARTS}::test_a_complete_is_conditional_only_where_a_refusal_keeps_the_parts",),
        Edit(
            "archiver/stores/s3_multipart.py",
            "        if self.capabilities.keeps_refused_parts:\n",
            "        if self.capabilities is not None:\n",
        ),
    ),
    _mutant(
        "a refused part may be kept",
        "A store that refuses a part and keeps it all the same is trusted with signed parts.",
        (f"{_PROBE}::test_another_answer_to_an_altered_part_shows_nothing",),
        Edit(
            "archiver/stores/s3_trials.py",
            "            return is_refused and self._parts(upload) == [(1, honest)]\n",
            "            return is_refused\n",
        ),
    ),
    _mutant(
        "a 403 is a 404",
        "What these keys may not read counts as gone.",
        (f"{_S3}::test_an_answer_to_a_read_means",),
        Edit(
            "archiver/stores/s3_answers.py",
            "        return ObjectDenied(\n"
            "            store=asked.store, operation=asked.operation, where=asked.where, "
            "code=told.word\n"
            "        )\n",
            "        return ObjectMissing(store=asked.store, where=asked.where, "
            "code=told.word)\n",
        ),
    ),
    _mutant(
        "a lost reply is a success",
        "A put that got no answer counts as done, and is not looked at.",
        (
            f"{_S3}::test_an_answer_to_a_create_means",
            f"{_S3}::test_silence_is_a_timeout_and_is_not_asked_again",
        ),
        Edit(
            "archiver/stores/cold_s3.py",
            "        with self._s3.translate(asked):\n            result = obstore.put(",
            '        result: dict[str, str | None] = {"e_tag": None}\n'
            "        with suppress(BaseError):\n            result = obstore.put(",
        ),
        Edit(
            "archiver/stores/cold_s3.py",
            "import obstore\n",
            "import obstore\nfrom contextlib import suppress\n"
            "from obstore.exceptions import BaseError\n",
        ),
    ),
    _mutant(
        "an answer may quote a secret",
        "What a store echoes is written to the log as it is.",
        (
            "tests/integration/test_secrets.py::test_a_cold_store_that_echoes_what_it_was_sent_makes_nobody_tell",
        ),
        Edit(
            "archiver/stores/covering.py",
            "            text = text.replace(form, repr(secret))\n",
            "            text = text.replace(form, form)\n",
        ),
    ),
)

_OF_A_RELEASE = (
    _mutant(
        "skip the canary",
        "Hot copies are deleted though the cold store cannot be read.",
        (f"{_RELEASE}::test_a_canary_that_does_not_sing_is_fatal_and_nothing_is_deleted",),
        Edit(
            "archiver/engine/letting_go.py",
            "if self._has_sung:\n            self._send_out(due)\n",
            "if due:\n            self._send_out(due)\n",
        ),
    ),
    _mutant(
        "the canary may sing wrong",
        "The canary is read, and not compared.",
        (f"{_RELEASE}::test_a_canary_that_does_not_sing_is_fatal_and_nothing_is_deleted",),
        Edit(
            "archiver/engine/release.py",
            "        if seen != receipt.digest:\n",
            "        if not seen:\n",
        ),
    ),
    _mutant(
        "release without a look at the identity",
        "Whatever lies at the path by now is deleted.",
        (
            f"{_RELEASE}::test_g3_the_same_bytes_put_there_again_are_another_object",
            f"{_RELEASE}::test_a_recovered_receipt_never_deletes_what_came_back",
        ),
        Edit(
            "archiver/engine/release.py",
            "            elif identity == item.recorded.receipt.identity:\n",
            "            elif identity is not None:\n",
        ),
    ),
    _mutant(
        "release without the pointer check",
        "The hot copy goes though a row points at it again.",
        (f"{_LEDGER}::test_a_location_that_a_row_points_at_again_is_ended_as_replaced",),
        Edit(
            "archiver/ledger/releases.py",
            "source.points_at(locations, tx)",
            "source.points_at([], tx)",
        ),
    ),
    _mutant(
        "release an unproven receipt",
        "The hot copy goes against a receipt that nobody has proven.",
        (f"{_RELEASE}::test_an_unproven_receipt_releases_nothing",),
        Edit(
            "archiver/engine/release.py",
            "        if receipt.evidence is Evidence.UNPROVEN:\n",
            "        if receipt.evidence < Evidence.UNPROVEN:\n",
        ),
    ),
    _mutant(
        "an unproven receipt makes a release",
        "The ledger lets it go, too.",
        (f"{_LEDGER}::test_an_unproven_receipt_never_releases",),
        Edit("archiver/ledger/claims.sql", "\nwhere evidence > 0\n", "\n"),
    ),
    _mutant(
        "an old copy is not looked at",
        "The hot copy goes though the cold one was lost during the grace.",
        (f"{_RELEASE}::test_a_hot_copy_stays_where_its_old_cold_copy_is_gone_or_changed",),
        Edit(
            "archiver/engine/release.py",
            "for it in here if not self._was_just_seen(it)]",
            "for it in here if self._was_just_seen(it)]",
        ),
    ),
    _mutant(
        "a refused delete counts",
        "A 403 on a delete is told as released.",
        (f"{_RELEASE}::test_a_denied_delete_is_parked_and_holds_nobody_back",),
        Edit(
            "archiver/engine/release.py",
            "        case Deleted.ABSENT:\n",
            "        case Deleted.ABSENT | Deleted.DENIED:\n",
        ),
    ),
    _mutant(
        "absent in a missing bucket counts",
        "Objects of a bucket that is not there are told as released.",
        (f"{_RELEASE}::test_an_absence_counts_only_in_a_bucket_that_is_proven_to_be_there",),
        Edit(
            "archiver/engine/release.py",
            "            self.stores.hot.probe(bucket)  # many stores say "
            '"not found" of a missing bucket too\n',
            "            pass\n",
        ),
    ),
    _mutant(
        "a delete that does not fit its lease",
        "A delete may arrive when the release is another worker's.",
        (f"{_RELEASE}::test_a_delete_is_not_begun_where_it_does_not_fit_in_the_lease",),
        Edit(
            "archiver/engine/release.py",
            "        self.heartbeat.require(self.delete_seconds)\n",
            "        self.heartbeat.require()\n",
        ),
    ),
    _mutant(
        "deletes go on after a fatal error",
        "Going on would do harm, and it goes on.",
        (
            f"{_SWEEP}::test_after_a_fatal_error_no_delete_is_begun",
            f"{_SWEEP}::test_a_signal_between_slices_begins_no_further_delete",
        ),
        Edit(
            "archiver/engine/letting_go.py",
            "            is_held = self._run.is_ending or not self._run.may_release\n",
            "            is_held = not self._run.may_release\n",
        ),
    ),
    _mutant(
        "no grace",
        "Hot copies go at once, under the hands of who reads them.",
        (f"{_LEDGER}::test_a_release_is_due_after_its_grace_with_the_receipt_as_recorded",),
        Edit(
            "archiver/ledger/claims.sql",
            "statement_timestamp() + make_interval(secs => %(grace_seconds)s)",
            "statement_timestamp() + make_interval(secs => 0 * %(grace_seconds)s)",
        ),
    ),
    _mutant(
        "undo without its lock",
        "A release is claimed while its row is pointed back at the hot copy.",
        (
            f"{_IN_POSTGRES}::test_while_a_row_is_pointed_back_no_release_of_its_object_is_claimed",
        ),
        Edit(
            "archiver/ledger/undo.sql",
            "select pg_advisory_xact_lock(hashtextextended('archiver release ' || "
            "%(source)s, 0))",
            "select hashtextextended('archiver release ' || %(source)s, 0)",
        ),
    ),
    _mutant(
        "undo points at whatever is there",
        "A row is pointed back at another object than the one that was archived.",
        (
            "tests/unit/engine/test_undo.py::test_a_hot_copy_that_is_gone_or_another_is_not_pointed_at",
        ),
        Edit(
            "archiver/engine/undo.py",
            "    return None if seen == read else UndoAnswer.HOT_CHANGED\n",
            "    return None\n",
        ),
    ),
    _mutant(
        "an adopted row may release",
        "The guard of the table `release` takes everything.",
        (f"{_ROLE}::test_a_worker_adopts_and_can_release_nothing_of_that",),
        Edit(
            "migrations/0006_adopted.sql",
            "        where not receipt.is_releasable\n",
            "        where false\n",
        ),
    ),
)

_OF_THE_LEDGER = (
    _mutant(
        "drop the fence",
        "Whoever held a claim once may record it, whoever holds it now.",
        (f"{_LEDGER}::test_a_late_owner_writes_nothing",),
        Edit(
            "archiver/ledger/claims.sql",
            "select c.id, c.number, c.cold_key, c.attempts_count,\n",
            "select c.id, t.number, c.cold_key, c.attempts_count,\n",
        ),
        Edit(
            "archiver/ledger/claims.sql",
            "\njoin archiver.claim c\n  on c.source = %(source)s and c.id = t.id and "
            "c.epoch = t.epoch\n and c.worker_id = t.worker_id and c.number = t.number\n"
            "join archiver.fleet f",
            "\njoin archiver.claim c\n  on c.source = %(source)s and c.id = t.id and "
            "c.epoch = t.epoch\njoin archiver.fleet f",
        ),
    ),
    _mutant(
        "drop the epoch",
        "A worker from before a take-over of the ledger goes on recording.",
        (f"{_IN_POSTGRES}::test_a_raised_epoch_disarms_every_worker",),
        Edit(
            "archiver/ledger/claims.sql",
            " and c.worker_id = t.worker_id and c.number = t.number\n"
            "join archiver.fleet f on f.epoch = c.epoch\nwhere c.state = 'claimed'\n"
            "order by c.id\nfor update of c\n\n-- find_fates",
            " and c.worker_id = t.worker_id and c.number = t.number\n"
            "where c.state = 'claimed'\norder by c.id\nfor update of c\n\n-- find_fates",
        ),
    ),
    _mutant(
        "record without a lease",
        "A worker records after its lease is over.",
        (f"{_LEDGER}::test_nothing_is_recorded_after_the_lease_though_nobody_took_over",),
        Edit(
            "archiver/ledger/endings.py",
            '        if not all(row["has_lease"] for row in held.values()):\n',
            '        if not all("has_lease" in row for row in held.values()):\n',
        ),
    ),
    _mutant(
        "take claims of the living",
        "Two workers move one object, and both may record it.",
        (f"{_LEDGER}::test_two_workers_never_hold_the_same_candidate",),
        Edit(
            "archiver/ledger/claims.sql",
            "          or (c.state = 'claimed' and c.worker_id <> %(worker_id)s\n"
            "              and (w.left_at is not null or w.lease_until <= "
            "statement_timestamp()))\n",
            "          or (c.state = 'claimed' and c.worker_id <> %(worker_id)s)\n",
        ),
    ),
    _mutant(
        "claim without the source's lock",
        "Two workers read the order at once, and each thinks that nothing is left.",
        (f"{_IN_POSTGRES}::test_only_one_worker_at_a_time_reads_the_order_of_a_source",),
        Edit(
            "archiver/ledger/claims.py",
            "                self._lock_source(tx)\n",
            "",
        ),
    ),
    _mutant(
        "end releases of others",
        "A late worker ends a release that another one holds by now.",
        (
            f"{_LEDGER}::test_a_dead_workers_release_is_taken_over_and_its_late_end_is_not_written",
        ),
        Edit(
            "archiver/ledger/releases.sql",
            "      and r.worker_id = e.worker_id and r.number = e.number "
            "and f.epoch = e.epoch\n    returning",
            "      and f.epoch = e.epoch\n    returning",
        ),
    ),
    _mutant(
        "flip whatever page is there",
        "A page captured again meanwhile loses its pointer: the digest is not compared.",
        (
            f"{_TASK_HTML}::test_h09_a_row_that_changed_since_is_not_flipped",
            f"{_TASK_HTML}::test_h09_a_null_digest_is_compared_too",
        ),
        Edit(
            "archiver/sources/task_html.sql",
            "        and nullif(lower(btrim(task.html_sha256)), '')\n"
            "            is not distinct from receipt.content_digest\n"
            "    order by task.id\n",
            "    order by task.id\n",
        ),
    ),
    _mutant(
        "flip whatever path is there",
        "The same, where the new page has another path.",
        (f"{_TASK_HTML}::test_h09_a_row_that_changed_since_is_not_flipped",),
        Edit(
            "archiver/sources/task_html.sql",
            "    where task.html_storage_path = receipt.hot_path\n"
            "        and task.html_storage_bucket = receipt.hot_bucket\n        and nullif",
            "    where nullif",
        ),
    ),
    _mutant(
        "receipts can be changed",
        "The worker's role may rewrite what was proven.",
        (f"{_ROLE}::test_what_was_proven_cannot_be_changed",),
        Edit(
            "deploy/postgres-role.sql",
            "grant insert on archiver.place, archiver.receipt, archiver.outcome to",
            "grant insert, update on archiver.place, archiver.receipt, archiver.outcome to",
        ),
    ),
)

_OF_AN_UPLOAD = (
    _mutant(
        "drop the fence of a part",
        "Whoever owned an upload once may record a part of it: a newer one's ETag is replaced.",
        (f"{_UPLOADS}::test_the_same_worker_takes_it_again_under_a_higher_token",),
        Edit(
            "archiver/ledger/uploads.sql",
            "      and (u.epoch, u.worker_id, u.number) = "
            "(%(epoch)s, %(worker_id)s, %(number)s)\n"
            "      and u.upload_id is not distinct",
            "      and u.upload_id is not distinct",
        ),
    ),
    _mutant(
        "a part needs no lease",
        "A worker past its lease records parts, though nobody may rely on it any more.",
        (f"{_UPLOADS}::test_a_worker_past_its_lease_writes_nothing",),
        Edit(
            "archiver/ledger/uploads.sql",
            "%(expiry_seconds)s)\n    from archiver.live_worker me\n",
            "%(expiry_seconds)s)\n    from archiver.worker me\n",
        ),
    ),
    _mutant(
        "a part of another id",
        "A part that was sent to an upload before counts as one of the new upload's.",
        (f"{_UPLOADS}::test_parts_of_another_id_are_dropped_and_not_saved",),
        Edit(
            "archiver/ledger/uploads.sql",
            "      and u.upload_id is not distinct from %(upload_id)s::text\n",
            "",
        ),
    ),
    _mutant(
        "a take-over waits for no part",
        "A part is recorded after its upload was taken over, and its new owner never hears.",
        (f"{_UPLOADS_IN_POSTGRES}::test_a_take_over_waits_for_a_part_that_is_being_saved",),
        Edit(
            "archiver/ledger/uploads.sql",
            "    update archiver.upload u\n    set expires_at = clock_timestamp() + "
            "make_interval(secs => %(expiry_seconds)s)\n    from archiver.live_worker me\n",
            "    select u.upload_no\n    from archiver.upload u, archiver.live_worker me\n",
        ),
        Edit(
            "archiver/ledger/uploads.sql",
            "      and me.worker_id = u.worker_id\n    returning u.upload_no\n)\n",
            "      and me.worker_id = u.worker_id\n)\n",
        ),
    ),
    _mutant(
        "take uploads of the living",
        "Two workers send one object, each in turn refused what it sends.",
        (f"{_UPLOADS}::test_a_live_workers_upload_is_busy",),
        Edit(
            "archiver/ledger/uploads.sql",
            "where other.worker_id = u.worker_id and other.worker_id <> excluded.worker_id\n",
            "where other.worker_id = u.worker_id and false\n",
        ),
        Edit(
            "archiver/ledger/uploads.sql",
            "where other.worker_id = u.worker_id and other.worker_id <> %(worker_id)s\n",
            "where other.worker_id = u.worker_id and false\n",
        ),
    ),
    _mutant(
        "stale uploads wait for their day",
        "What nobody will resume costs storage until its expiry.",
        (f"{_UPLOADS}::test_what_is_stale_expires_at_once",),
        Edit(
            "archiver/ledger/uploads.sql",
            "set is_current = false, expires_at = least(u.expires_at, clock_timestamp()),\n",
            "set is_current = false,\n",
        ),
    ),
    _mutant(
        "an old probe is believed",
        "What was never asked of a store counts as refused, for days.",
        (f"{_UPLOADS_IN_POSTGRES}::test_a_probe_of_an_earlier_release_counts_as_none",),
        Edit(
            "archiver/ledger/fleet.sql",
            "  and enforces_signed_parts is not null\n  and keeps_refused_parts is not null\n",
            "",
        ),
    ),
    _mutant(
        "the dead keep their leases",
        "Whoever pushes again after a crash waits for a minute.",
        (f"{_IN_SQLITE}::test_what_was_acknowledged_is_there_after_kill_9",),
        Edit(
            "archiver/ledger/sqlite/locks.py",
            "        return not _try_lock(number)\n",
            "        return True\n",
        ),
    ),
    _mutant(
        "go on in a deleted file",
        "Parts are recorded where no other process will ever look.",
        (f"{_IN_SQLITE}::test_a_file_deleted_under_the_ledger_is_missed_at_once",),
        Edit(
            "archiver/ledger/sqlite/file.py",
            "            self._require_in_place()\n",
            "",
        ),
    ),
    _mutant(
        "another program's file is taken",
        "The ledger's tables are made in a database that is somebody else's.",
        (f"{_IN_SQLITE}::test_another_programs_file_is_left_alone",),
        Edit(
            "archiver/ledger/sqlite/file.py",
            "            self._require_ours(connection)\n",
            "",
        ),
    ),
)

_OF_A_SWEEP = (
    _mutant(
        "a plugin's rows are believed",
        "One row that Postgres cannot keep stops every sweep of its source.",
        (f"{_PLUGIN_ROWS}::test_what_postgres_cannot_keep_parks_alone",),
        Edit(
            "archiver/sources/plugins.py",
            "            _check_storable(one)\n",
            "            problem_of_id(one.id)\n",
        ),
    ),
    _mutant(
        "one missing bucket stops everybody",
        "A row that names no bucket of ours stops every sweep of its source.",
        (f"{_HOSTILE}::test_a_row_that_names_a_missing_bucket_parks_alone_beside_others",),
        Edit(
            "archiver/engine/failing.py",
            '            case BucketMissing(store="hot"):\n',
            '            case BucketMissing(store="cold"):\n',
        ),
    ),
    _mutant(
        "ignore the lease",
        "`require` asks whether the lease was lost, not whether it is over.",
        (f"{_LEASE}::test_a_beat_extends_the_lease_and_without_one_it_runs_out",),
        Edit(
            "archiver/engine/lease.py",
            "            if self._is_lost or left <= seconds:\n",
            "            if self._is_lost:\n",
        ),
    ),
    _mutant(
        "the breaker never opens",
        "An outage parks what is due, an attempt after the other.",
        (
            f"{_DOUBTS}::test_while_half_open_one_object_is_tried_at_a_time",
            f"{_DOUBTS}::test_a_hot_store_that_is_down_costs_no_attempt",
        ),
        Edit(
            "archiver/engine/doubts.py",
            "        return self._calls_count == self._limit\n",
            "        return False\n",
        ),
    ),
    _mutant(
        "a verdict without a control",
        "A 403 or 404 parks objects though their whole bucket is refused.",
        (f"{_DOUBTS}::test_where_nothing_proves_the_bucket_it_is_fatal_and_no_row_is_touched",),
        Edit(
            "archiver/engine/failing.py",
            "        if self._controls.is_proven(bucket):\n",
            "        if bucket:\n",
        ),
    ),
    _mutant(
        "swallow a 403 of the cold store",
        "Credentials that may not write park every object there is.",
        (f"{_DOUBTS}::test_a_recovery_is_no_control_and_costs_nothing_where_cold_is_denied",),
        Edit(
            "archiver/engine/failing.py",
            '            case ObjectDenied(store="cold") if not self._cold_is_proven:\n',
            '            case ObjectDenied(store="cold") if self._cold_is_proven is None:\n',
        ),
    ),
    _mutant(
        "give back after a lost lease",
        "Claims that are another worker's by now are given away.",
        (f"{_SWEEP}::test_a_lost_lease_stops_the_sweep_at_once_and_gives_nothing_back",),
        Edit(
            "archiver/engine/sweep.py",
            "            self._workshop.hurry(0.0)\n"
            "            return  # the claims may be others' already: nothing is completed or "
            "given back\n",
            "            self._workshop.hurry(0.0)\n",
        ),
    ),
)

_OF_WHAT_IS_TOLD = (
    _mutant(
        "an error quotes a row as it is",
        "A path with a line end makes two lines of a reason.",
        (f"{_HOSTILE}::test_an_error_is_one_line_whatever_is_in_its_facts",),
        Edit(
            "archiver/errors.py",
            'f"{item.name}={_in_line(value)}"',
            'f"{item.name}={value}"',
        ),
    ),
    _mutant(
        "a fact may break its line",
        "An id with a line end writes a log line of its own.",
        (
            "tests/unit/ops/test_logs.py::test_no_fact_can_make_a_second_line",
            f"{_HOSTILE}::test_a_hostile_row_is_told_in_one_line",
        ),
        Edit(
            "archiver/ops/logs.py",
            "    return f'\"{escaped(text)}\"' if _NEEDS_QUOTES.search(text) else text\n",
            "    return f'\"{text}\"' if _NEEDS_QUOTES.search(text) else text\n",
        ),
    ),
    _mutant(
        "a table obeys its cells",
        "An id with an escape sequence steers the operator's terminal.",
        (
            "tests/unit/cli/test_commands.py::test_parked_rows_are_told_with_their_reason_and_the_way_out",
        ),
        Edit(
            "archiver/cli/paper.py",
            "    told = in_line(text)\n",
            "    told = text\n",
        ),
    ),
    _mutant(
        "settings are not masked",
        "A bug's traceback shows the keys.",
        ("tests/unit/cli/test_commands.py::test_a_bug_is_told_whole_but_without_secrets",),
        Edit(
            "archiver/config/settings.py",
            "            text = text.replace(secret.reveal(), repr(secret))\n",
            "            text = text.replace(secret.reveal(), secret.reveal())\n",
        ),
    ),
)

_OF_A_TRANSFER = (
    _mutant(
        "checkpoint before sync",
        "A checkpoint names bytes that a power cut takes back.",
        (f"{_TRANSFER}::test_p03_a_file_is_synced_before_each_checkpoint",),
        Edit(
            "archiver/engine/transfer.py",
            "            self._writer.sync(self._offset)\n            self._tell()\n",
            "            self._tell()\n",
        ),
    ),
    _mutant(
        "an unwritten chunk counts",
        "The digest of a checkpoint is of more than was written, so no resume ever fits it.",
        (f"{_TRANSFER}::test_p02_the_last_checkpoint_is_the_progress_on_a_failed_write",),
        Edit(
            "archiver/engine/transfer.py",
            "        ahead = self._hash.copy()",
            "        ahead = self._hash",
        ),
    ),
    _mutant(
        "a resume appends",
        "Half a chunk that a failed write left stays in the middle of the object.",
        (f"{_TRANSFER}::test_p03_bytes_beyond_the_offset_are_cut_on_resume",),
        Edit(
            "archiver/engine/bounded_streams.py",
            "    if end != offset and not _is_device(target):",
            "    if end < offset and not _is_device(target):",
        ),
    ),
    _mutant(
        "a changed source is resumed",
        "The first half is of one object, the second of another.",
        (f"{_TRANSFER}::test_p08_a_source_that_changed_starts_over_and_that_is_said",),
        Edit(
            "archiver/engine/transfer.py",
            '        return None if is_same else "bytes"\n',
            '        return None if is_same or begun else "bytes"\n',
        ),
    ),
    _mutant(
        "a long source passes",
        "What is longer than promised is taken for it, cut.",
        (f"{_TRANSFER}::test_p04_any_difference_from_the_declared_size_is_an_error",),
        Edit(
            "archiver/engine/transfer.py",
            "        return total_size is None or self._reader.is_at_end(self._offset)\n",
            "        return True\n",
        ),
    ),
    _mutant(
        "a mismatch poisons",
        "After a wrong digest every try resumes at the end, and fails again.",
        (f"{_TRANSFER}::test_p05_after_a_mismatch_the_next_try_starts_clean",),
        Edit(
            "archiver/engine/transfer.py",
            "                self._start_clean()\n            raise mismatch\n",
            "                pass\n            raise mismatch\n",
        ),
    ),
    _mutant(
        "who was given up writes on",
        "A write that hung wakes up and goes on, into what was resumed meanwhile.",
        (f"{_TRANSFER}::test_p12_who_wakes_up_after_it_was_given_up_writes_no_more",),
        Edit(
            "archiver/engine/pool.py",
            "        if self.is_abandoned:\n            raise NotInTime\n",
            "        if self.is_abandoned:\n            pass\n",
        ),
    ),
    _mutant(
        "half a file lands",
        "A file that holds less than was transferred gets its name.",
        (f"{_LANDING}::test_what_is_not_whole_does_not_land",),
        Edit(
            "archiver/engine/landing_file.py",
            "            if size_bytes != result.total_size:\n",
            "            if size_bytes > result.total_size:\n",
        ),
    ),
    _mutant(
        "a landed file is written into",
        "Who waited for the lock writes into the file that has landed.",
        (f"{_LANDING}::test_who_opened_the_part_just_before_it_landed_leaves_it_alone",),
        Edit(
            "archiver/engine/landing_file.py",
            "            is_landed = True\n",
            "            is_landed = False\n",
        ),
    ),
)

_OF_PARTS = (
    _mutant(
        "a resumed part is believed",
        "Bytes of two versions of an object are sent as one.",
        (f"{_LARGE}::test_bytes_that_differ_under_one_identity_start_over",),
        Edit(
            "archiver/engine/parts.py",
            "            if known.digest != digest:\n",
            "            if False:\n",
        ),
    ),
    _mutant(
        "complete without ListParts",
        "A part that rots before the end is not missed before the end.",
        (
            f"{_LARGE}::test_a_part_rotten_between_its_answer_and_the_end_is_never_part_of_an_object",
        ),
        Edit(
            "archiver/engine/parts.py",
            "        self._require_listed(parts)\n",
            "",
        ),
    ),
    _mutant(
        "complete without a look at the record",
        "Whoever lost an upload to another worker completes it.",
        (f"{_LARGE}::test_an_upload_that_is_anothers_by_now_is_not_completed",),
        Edit(
            "archiver/engine/parts.py",
            "        sender.uploads.require(self._upload)\n"
            "        sender.heartbeat.require()\n",
            "        sender.heartbeat.require()\n",
        ),
    ),
    _mutant(
        "an abort without a lease",
        "A worker that slept aborts what another one goes on with.",
        (f"{_LARGE}::test_past_its_lease_a_worker_abandons_nothing",),
        Edit(
            "archiver/engine/parts.py",
            "        self.heartbeat.require()\n        self.uploads.require(upload)\n",
            "",
        ),
    ),
    _mutant(
        "one key for all versions of a large object",
        "A new version is sent under the key of the old one.",
        (f"{_LARGE}::test_g3_another_object_is_another_upload_and_the_old_one_is_aborted",),
        Edit(
            "archiver/engine/large_move.py",
            "digest_keys(plain, Digest.of(self._origin.encode()))",
            'digest_keys(plain, Digest.of(b""))',
        ),
    ),
    _mutant(
        "what is recorded is not compared with the store",
        "Parts that the store has lost are never sent again.",
        (f"{_LARGE}::test_parts_that_the_store_lost_are_sent_again",),
        Edit(
            "archiver/engine/parts.py",
            "            listed = self.patiently(partial(self.cold.multipart.parts, opened))\n",
            "            listed = upload.parts\n",
        ),
    ),
    _mutant(
        "what a lost begin has left is not looked for",
        "Each lost answer leaves an upload that is paid for, for ever.",
        (f"{_LARGE}::test_a_lost_answer_to_begin_leaks_nothing",),
        Edit(
            "archiver/engine/parts.py",
            "            self._abort_lost(upload)\n            self.heartbeat",
            "            self.heartbeat",
        ),
    ),
    _mutant(
        "an upload is forgotten in doubt",
        "Other bytes lie at the key, and the upload stays at the store for ever.",
        (f"{_LARGE}::test_g9_an_answer_lost_at_a_key_that_was_taken_leaks_no_upload",),
        Edit(
            "archiver/engine/parts.py",
            "        if completed.is_certain:\n",
            "        if True:\n",
        ),
    ),
    _mutant(
        "an upload that was not recorded is left",
        "Who lost its lease while it began one leaves it at the store for ever.",
        (f"{_LARGE}::test_what_was_begun_too_late_to_be_recorded_is_aborted_by_who_began_it",),
        Edit(
            "archiver/engine/parts.py",
            "                self.cold.multipart.abort(begun)\n",
            "                pass\n",
        ),
    ),
    _mutant(
        "who holds memory waits for more",
        "Large objects wait for each other for ever, each with parts in hand.",
        (f"{_STREAMS}::test_g6_no_object_waits_for_memory_while_it_holds_some",),
        Edit(
            "archiver/engine/streams.py",
            "                while under_way and not has_room:\n",
            "                while len(under_way) >= self.at_once and not has_room:\n",
        ),
    ),
)

MUTANTS = (
    *_OF_A_MOVE,
    *_OF_A_PROOF,
    *_OF_A_STORE,
    *_OF_A_RELEASE,
    *_OF_THE_LEDGER,
    *_OF_AN_UPLOAD,
    *_OF_A_SWEEP,
    *_OF_WHAT_IS_TOLD,
    *_OF_A_TRANSFER,
    *_OF_PARTS,
)
