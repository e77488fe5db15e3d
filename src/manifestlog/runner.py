"""The periodic work of one open manifest: compaction when it is due, syncs in interval mode.

Invariants:

- A thread starts with the first write, never with an import or an open, and ends with its manifest.
- A failure is logged and tried again later; it never reaches a writer, and never ends a thread.
- Syncs have a thread of their own: a compaction takes as long as the canonical is large, and a power cut does not wait.

When a compaction is due, and what it does, is the compactor's business.
"""

from __future__ import annotations

import logging
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from manifestlog.compactor import COMPACTION_SHARE, compact, is_due, log_status, seconds_until_due
from manifestlog.errors import LockTimeoutError, ManifestClosedError, ManifestError
from manifestlog.options import Durability

if TYPE_CHECKING:
    from collections.abc import Callable

    from manifestlog.store import Store

log = logging.getLogger(__name__)

_PAUSE_MIN_S = 0.05
_NO_THREAD_S = 10.0
"""How long to do without a thread where none could be started."""


class _Loop:
    """Does something again and again in a daemon thread, each time after a pause, or at once when woken.

    What has failed is left alone for `failed_s`, and for `share` times what the attempt has taken; nobody wakes it then.
    """

    def __init__(
        self, path: str, work: Callable[[], object], pause_s: Callable[[], float], *, failed_s: float, share: int = 0
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
        """Start the thread unless it runs; gives whether there is nothing left to start."""
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
        except RuntimeError as error:  # a limit on threads; what was written is written all the same
            self._not_before = time.monotonic() + _NO_THREAD_S
            log.error("%s: no periodic work for now: %s", self._path, error)
            return
        self._thread = thread  # known only when it can be joined

    def wake(self) -> None:
        """Do it now, unless it is being done or left alone."""
        if not (self._busy or self._wake.is_set() or time.monotonic() < self._rest_until):
            self._wake.set()

    def stop(self) -> None:
        """End the thread for good, after what it is at."""
        with self._starting:
            self._stopping = True
        self._end()

    def pause(self) -> bool:
        """End the thread if it is idle, until `begin`; gives whether it was."""
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
            log.error("%s: when is periodic work due? %s", self._path, error)
            pause = self._failed_s
        return min(max(pause, rest, _PAUSE_MIN_S), threading.TIMEOUT_MAX)

    def _round(self) -> bool:
        """Do it once; false when there is nothing to do it for any more."""
        began = time.monotonic()
        try:
            self._work()
        except ManifestClosedError:
            return False
        except Exception as error:  # noqa: BLE001 -- whatever it is: without this thread nobody would try again
            log.error("%s: periodic work failed: %s", self._path, error)
            now = time.monotonic()
            # To wait for a lock costs nobody anything.
            cost = 0.0 if isinstance(error, LockTimeoutError) else now - began
            self._rest_until = now + max(self._failed_s, self._share * cost)
        return True


class Runner:
    """The periodic work of one store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._begun = False
        self._paused: list[_Loop] = []
        self._compactions: _Loop | None = None
        self._loops: list[_Loop] = []
        options, path = store.options, store.paths.canonical
        if options.durability is Durability.INTERVAL:
            interval = options.sync_interval_s
            self._loops.append(_Loop(path, store.session.sync, lambda: interval / 2, failed_s=interval / 2))
        if options.auto_compact:
            failed_s = options.compact_interval_s / 4
            self._compactions = _Loop(
                path, self._compact_if_due, self._until_due_s, failed_s=failed_s, share=COMPACTION_SHARE
            )
            self._loops.append(self._compactions)

    def after_write(self) -> None:
        """Begin with the first write; look at once when the log is past its limit."""
        if not self._begun:
            self._begin()
        if self._store.session.log_is_long and self._compactions is not None:
            self._compactions.wake()

    def _begin(self) -> None:
        waiting = [loop for loop in self._loops if not loop.begin()]
        self._begun = not waiting

    def stop(self) -> None:
        """End every thread, after a compaction that it is in."""
        for loop in self._loops:
            loop.stop()

    def pause(self) -> None:
        """End the threads that are idle: a process that forks should have few."""
        self._begun = False  # whatever interrupts the fork, the next write looks
        for loop in self._loops:
            if loop.pause():
                self._paused.append(loop)

    def resume(self) -> None:
        """Begin again after `pause`."""
        paused, self._paused = self._paused, []
        for loop in paused:
            loop.begin()

    def _compact_if_due(self) -> None:
        if is_due(self._store):
            compact(self._store)

    def _until_due_s(self) -> float:
        due = float("inf")
        with suppress(ManifestError, OSError):
            due = seconds_until_due(log_status(self._store), self._store.options, datetime.now(UTC))
        return min(due, self._store.options.compact_interval_s / 4)
