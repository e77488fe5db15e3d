"""The background threads of one open manifest: periodic compactions, and syncs in interval mode.

Invariants:

- A thread starts with the first write, never with an import or an open, and ends with its manifest.
- A failure is logged and retried later. It never reaches a writer and never ends a thread.
- Syncs have their own thread, because a compaction of a large canonical file would delay them.

`trigger` decides when a compaction is due, and `steps` does it, for a long log in a `child`.
"""

from __future__ import annotations

import logging
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from manifestlog.engines.filelog.compaction.child import compact_in_child
from manifestlog.engines.filelog.compaction.steps import compact
from manifestlog.engines.filelog.compaction.trigger import (
    log_status,
    seconds_until_due,
)
from manifestlog.error_texts import explained
from manifestlog.errors import LockTimeoutError, ManifestClosedError, ManifestError
from manifestlog.options import Durability

if TYPE_CHECKING:
    from collections.abc import Callable

    from manifestlog.engines.filelog.session import Session

log = logging.getLogger(__name__)

_PAUSE_MIN_S = 0.05
CHILD_BYTES_MIN = 1 << 20
"""Merging a shorter log takes less time than starting a process."""
_NO_THREAD_S = 10.0
"""How long to wait before retrying to start a thread, in seconds."""


class _Loop:
    """Repeats some work in a daemon thread, after a pause each time, or at once if woken.

    After a failure it waits for `failed_s` seconds, or `share` times the duration of the attempt if that is longer. A
    wake-up is ignored meanwhile.
    """

    def __init__(
        self,
        path: str,
        work: Callable[[], object],
        pause_s: Callable[[], float],
        *,
        failed_s: float,
        share: float = 0.0,
    ) -> None:
        self._path = path
        self._work = work
        self._pause_s = pause_s
        self._failed_s = failed_s
        self._share = share
        self._thread: threading.Thread | None = None
        self._not_before = 0.0
        self._rest_until = 0.0
        self._wake = threading.Event()
        self._ending = threading.Event()
        self._stopping = False
        self._busy = False
        self._starting = threading.Lock()

    def begin(self) -> bool:
        """Start the thread if needed; return false if it could not be started."""
        if self._thread is None and time.monotonic() >= self._not_before:
            with self._starting:
                if self._thread is None and not self._stopping:
                    self._start()
        return self._thread is not None or self._stopping

    def _start(self) -> None:
        self._ending = threading.Event()
        thread = threading.Thread(target=self._run, args=(self._ending,), name="manifestlog", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # a limit on threads; it must not fail the write
            self._not_before = time.monotonic() + _NO_THREAD_S
            log.error("%s: background thread not started (%s); retrying later", self._path, error)
            return
        self._thread = thread  # set last: before `start` it could not be joined

    def wake(self) -> None:
        """Do the work now, unless it is running or waiting after a failure."""
        if not (self._busy or self._wake.is_set() or time.monotonic() < self._rest_until):
            self._wake.set()

    def stop(self) -> None:
        """End the thread for good, after its current work."""
        with self._starting:
            self._stopping = True
        self._end()

    def pause(self) -> bool:
        """End an idle thread until `begin`; return whether it was idle."""
        if self._thread is None or self._busy:
            return False
        try:
            self._end()
        finally:
            self._thread = None
        return True

    def _end(self) -> None:
        thread = self._thread
        self._ending.set()
        self._wake.set()
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def _run(self, ending: threading.Event) -> None:
        while True:
            self._wake.wait(self._wait_s())
            self._wake.clear()
            if ending.is_set():
                return
            self._busy = True
            try:
                if not self._round():
                    return
            finally:
                self._busy = False

    def _wait_s(self) -> float:
        rest = self._rest_until - time.monotonic()
        try:
            pause = self._pause_s()
        except Exception as error:  # noqa: BLE001 -- as below
            log.error("%s: cannot tell when background work is due: %s", self._path, explained(error))
            pause = self._failed_s
        return min(max(pause, rest, _PAUSE_MIN_S), threading.TIMEOUT_MAX)

    def _round(self) -> bool:
        """Do the work once; return false if the manifest is closed."""
        began = time.monotonic()
        try:
            self._work()
        except ManifestClosedError:
            return False
        except Exception as error:  # noqa: BLE001 -- any error: this thread must survive to retry
            log.error("%s: background work failed (%s); retrying later", self._path, explained(error))
            now = time.monotonic()
            # Waiting for a lock uses no resources, so it does not count as cost.
            cost = 0.0 if isinstance(error, LockTimeoutError) else now - began
            self._rest_until = now + max(self._failed_s, self._share * cost)
        return True


class Background:
    """The background work of one open manifest."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._begun = False
        self._paused: list[_Loop] = []
        self._compactions: _Loop | None = None
        self._loops: list[_Loop] = []
        options, path = session.options, session.paths.canonical
        if options.durability is Durability.INTERVAL:
            interval = options.sync_interval_s
            self._loops.append(_Loop(path, session.sync, lambda: interval / 2, failed_s=interval / 2))
        if options.auto_compact:
            failed_s = options.compact_interval_s / 4
            self._compactions = _Loop(
                path, self._compact_if_due, self._until_due_s, failed_s=failed_s, share=1 / options.compact_time_share
            )
            self._loops.append(self._compactions)

    def after_write(self) -> None:
        """Start the threads at the first write; wake the compaction if the log exceeds its limit."""
        if not self._begun:
            self._begin()
        if self._session.log_is_long and self._compactions is not None:
            self._compactions.wake()

    def _begin(self) -> None:
        waiting = [loop for loop in self._loops if not loop.begin()]
        self._begun = not waiting

    def stop(self) -> None:
        """End every thread; a running compaction is finished first."""
        for loop in self._loops:
            loop.stop()

    def pause(self) -> None:
        """End the idle threads before a fork."""
        self._begun = False  # if the fork is interrupted, the next write starts them again
        for loop in self._loops:
            if loop.pause():
                self._paused.append(loop)

    def resume(self) -> None:
        """Start the threads again after `pause`."""
        paused, self._paused = self._paused, []
        for loop in paused:
            loop.begin()

    def _compact_if_due(self) -> None:
        session, options = self._session, self._session.options
        status = log_status(session)
        if seconds_until_due(status, options, datetime.now(UTC)) > 0:
            return
        in_child = options.compact_in_child and status.bytes_to_merge >= CHILD_BYTES_MIN
        if not (in_child and compact_in_child(session)):
            compact(session)  # if a child has failed, this also finds out why

    def _until_due_s(self) -> float:
        due = float("inf")
        with suppress(ManifestError, OSError):
            due = seconds_until_due(log_status(self._session), self._session.options, datetime.now(UTC))
        return min(due, self._session.options.compact_interval_s / 4)
