"""The periodic work of one open manifest: compaction when it is due, syncs in interval mode.

Invariants:

- The thread starts with the first write, never with an import or an open, and ends with its manifest.
- A failure is logged and tried again later; it never reaches a writer, and never ends the thread.

When a compaction is due, and what it does, is the compactor's business.
"""

from __future__ import annotations

import logging
import threading
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from manifestlog.compactor import compact, is_due, log_status, seconds_until_due
from manifestlog.errors import ManifestClosedError, ManifestError
from manifestlog.options import Durability

if TYPE_CHECKING:
    from manifestlog.store import Store

log = logging.getLogger("manifestlog")

_PAUSE_MIN_S = 0.05


class Runner:
    """The periodic work of one store in a daemon thread: compaction when it is due, syncs in interval mode."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._options = store.options
        self._thread: threading.Thread | None = None
        self._wake = threading.Event()
        self._stopping = False
        self._busy = False
        self._paused = False
        self._starting = threading.Lock()
        self._wanted = store.options.auto_compact or store.options.durability is Durability.INTERVAL

    def after_write(self) -> None:
        """Begin with the first write; look at once when the log is past its limit."""
        if self._thread is None and self._wanted:
            self._begin()
        if self._store.session.log_is_long and not (self._busy or self._wake.is_set()):
            self._wake.set()

    def stop(self) -> None:
        """End the thread, after a compaction that it is in."""
        with self._starting:
            self._stopping = True
            thread = self._thread
        self._wake.set()
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def pause(self) -> None:
        """End the thread if it is idle: a process that forks should have few."""
        self._paused = self._thread is not None and not self._busy
        if self._paused:
            self.stop()
            self._thread, self._stopping = None, False

    def resume(self) -> None:
        """Begin again after `pause`."""
        if self._paused:
            self._paused = False
            self._begin()

    def _begin(self) -> None:
        with self._starting:
            if self._thread is None and not self._stopping and self._wanted:
                thread = threading.Thread(target=self._run, name="manifestlog", daemon=True)
                thread.start()
                self._thread = thread  # known only when it can be joined

    def _run(self) -> None:
        while not self._stopping:
            self._wake.wait(self._pause_s())
            self._wake.clear()
            if self._stopping:
                return
            self._busy = True
            try:
                self._work()
            except ManifestClosedError:
                return
            except (ManifestError, OSError) as error:
                log.error("%s: periodic work failed: %s", self._store.paths.canonical, error)
                self._wake.wait(self._options.compact_interval_s / 4)
            finally:
                self._busy = False

    def _pause_s(self) -> float:
        pause = self._options.compact_interval_s / 4
        with suppress(ManifestError, OSError):
            if self._options.auto_compact:
                due = seconds_until_due(log_status(self._store), self._options, datetime.now(UTC))
                pause = min(pause, due)
        if self._options.durability is Durability.INTERVAL:
            pause = min(pause, self._options.sync_interval_s / 2)
        return max(pause, _PAUSE_MIN_S)

    def _work(self) -> None:
        if self._options.durability is Durability.INTERVAL:
            self._store.session.sync()
        if self._options.auto_compact and is_due(self._store):
            compact(self._store)
