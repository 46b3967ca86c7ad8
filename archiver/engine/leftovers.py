"""Uploads that nobody came back for: aborted once they are past their expiry."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from archiver.errors import ArchiverError, FatalError, LeaseLost
from archiver.events import UploadLeft

if TYPE_CHECKING:
    from collections.abc import Callable

    from archiver.engine.move import Mover
    from archiver.engine.run import Run
    from archiver.model import Upload

_AT_MOST = 100  # a sweep; the next one goes on


class Leftovers:
    """Asked once a sweep, by its own thread. What cannot be aborted now is for a later one."""

    def __init__(self, run: Run, mover: Callable[[], Mover]) -> None:
        self._run = run
        self._mover = mover  # opens the stores: only once there is something to abort

    def step(self) -> None:
        run = self._run
        expired = run.ledger("expired", partial(run.uploads.expired, run.place, _AT_MOST))
        for upload in expired:
            self._submit(upload)

    def _submit(self, upload: Upload) -> None:
        def abort() -> None:
            try:
                self._mover().sender.abandon(upload, "nobody came back for it")
            except LeaseLost:
                raise
            except ArchiverError:  # else it stays ours, and is not found again
                self._run.uploads.give_back(upload)
                raise

        def failed(error: ArchiverError) -> None:
            if isinstance(error, FatalError):
                self._run.fail_fatally(error)
            else:
                self._run.observe(UploadLeft(str(upload.plan.location), str(error)))

        self._run.pool.submit(abort, lambda _: None, failed, ahead=True)
