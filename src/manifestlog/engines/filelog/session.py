"""The session: locking, transactions and durability of one open manifest in one process.

Invariants:

- Locks are taken in this order: writers' mutex, append lock (between processes), state mutex. Readers take only the
  last.
- Apart from a rotation, nothing is synced, validated or logged under the append lock that can be done outside it.
- Every read sees all writes acknowledged before it, from any process.
- The answer "already there" is as durable as a write: a transaction syncs the lines that it relied on.

It does not know what is read or written (`engine`), and starts no threads.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, TypeVar

from manifestlog.engines.filelog.canonical.index import IndexDamagedError
from manifestlog.engines.filelog.lock import TwoLevelLock, free
from manifestlog.engines.filelog.log.fold import WRITES
from manifestlog.engines.filelog.log.lines import LogEntry
from manifestlog.engines.filelog.log.wal import OvertakenError
from manifestlog.engines.filelog.state import State
from manifestlog.errors import (
    TO_READ,
    DiskFullError,
    IndeterminateWriteError,
    ManifestClosedError,
    ManifestError,
    ReadOnlyError,
)
from manifestlog.files import disk
from manifestlog.options import Durability, ManifestOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from manifestlog.engines.filelog.canonical.turn import Turn
    from manifestlog.engines.filelog.log.segment import Segment
    from manifestlog.names import ManifestPaths

T = TypeVar("T")

_LINE_EXTRA_BYTES = 128
_LINES_PER_LOOK = 16
_KEPT = "nothing was written, and all earlier writes are kept"
_ADVICE = {
    errno.EROFS: f"make the file system writable again{TO_READ}; {_KEPT}",
    errno.EACCES: f"ask for write permission here{TO_READ}; {_KEPT}",
    errno.EIO: "the disk failed: look for the cause in the system's log, then retry",
    errno.EPERM: f"ask for write permission here{TO_READ}; {_KEPT}",
}


@lru_cache(maxsize=2)
def _second_text(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).isoformat()[:-6]


def reraise_with_advice(path: str, error: BaseException) -> None:
    """Raise an `OSError` again with the path and advice that it lacks; do nothing if it needs neither.

    A failed write names no file. A full disk raises `DiskFullError`, also during a compaction or a creation. An error
    without a number is not the system's: the handler of a caller's alarm may have raised it.
    """
    if not isinstance(error, OSError) or isinstance(error, ManifestError) or isinstance(error.__cause__, OSError):
        return
    if error.errno is None:
        return
    if error.errno in disk.FULL_ERRNOS:
        raise DiskFullError(path, error) from error
    advice = _ADVICE.get(error.errno)
    if advice or error.filename is None:
        said = "; ".join(filter(None, (error.strerror, advice)))
        raise OSError(error.errno, said, error.filename or path) from error


def now_text() -> str:
    """Return the current time for a log line, in UTC with microseconds: always 27 characters."""
    second, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
    return f"{_second_text(second)}.{nanoseconds // 1000:06d}Z"


class Session:
    """One open manifest. Threads may share it, and a forked child may use it."""

    def __init__(
        self, paths: ManifestPaths, options: ManifestOptions, *, read_only: bool, turn: Turn | None = None
    ) -> None:
        self.paths = paths
        self.options = options
        self.read_only = read_only
        self.closed = False
        self.log_is_long = False
        self._must_load = False
        self._fencing = False
        self._fresh_locks()
        self._state = State.load(paths, writable=not read_only, turn=turn)

    def _fresh_locks(self) -> None:
        self._pid = os.getpid()
        self._mutex = threading.RLock()
        self._acting: int | None = None
        self.compactors: set[int] = set()
        """The threads that compact, or wait for that."""
        timeout_s = min(self.options.lock_timeout_s, threading.TIMEOUT_MAX / 2)
        mode_from = self.paths.canonical
        # The thread whose turn it is may itself wait that long for the file, and then do its work.
        self._append_lock = TwoLevelLock(
            self.paths.append_lock, timeout_s, self._read_ahead, turn_s=timeout_s + 1.0, mode_from=mode_from
        )
        self._compact_lock = TwoLevelLock(self.paths.compact_lock, timeout_s, mode_from=mode_from)

    def _ensure_open(self) -> None:
        if self._pid != os.getpid():
            self.drop_inherited()
        if self.closed:
            raise ManifestClosedError(self.paths.canonical)
        if self._must_load:
            with self._mutex:
                if self._must_load:
                    self._state = State.load(self.paths, writable=not self.read_only)
                    self._must_load = False

    @property
    def unused(self) -> bool:
        """Whether this is a forked child that has not used the manifest."""
        return self._must_load or self._pid != os.getpid()

    def read(self, ask: Callable[[State], T]) -> T:
        """Call `ask` with a state that includes every write acknowledged before this call, from any process."""
        self._ensure_open()
        try:
            with self._mutex:
                return self._on_fresh_state(ask)
        except BaseException:
            free(self._mutex)
            raise

    def _on_fresh_state(self, ask: Callable[[State], T]) -> T:
        """Catch up, then call `ask`; again if the index turns out damaged. An act writes only after its last lookup."""
        if self.closed:
            raise ManifestClosedError(self.paths.canonical)
        if not self._state.is_fresh():
            self._catch_up()
        try:
            return ask(self._state)
        except IndexDamagedError:
            self._rescan()
            return ask(self._state)

    def _catch_up(self) -> None:
        """Apply what others wrote, however far ahead they are."""
        try:
            self._state.follow()
        except OvertakenError:
            self._reload()
        except IndexDamagedError:
            self._rescan()
            self._catch_up()

    def _read_ahead(self) -> None:
        """Read other writers' lines before taking the append lock, so that less remains to read under it."""
        with self._mutex:
            self._on_fresh_state(lambda _: None)

    def _reload(self) -> None:
        old = self._state
        fresh = State.load(self.paths, writable=not self.read_only)
        if self._state is not old:
            # A signal handler of this thread has loaded the manifest meanwhile, so its state is newer.
            fresh.close()
            return
        self._state = fresh
        if old.wal is not None and fresh.wal is not None:
            fresh.wal.sync_failed_segments |= old.wal.sync_failed_segments
        old.close()

    def _rescan(self) -> None:
        try:
            self._state.rescan()
        except OvertakenError:
            self._reload()

    def transact(self, act: Callable[[State], T]) -> T:
        """Run `act` on a fresh state, exclusively among all threads and processes; then sync what it relied on.

        Raises `ReadOnlyError`, `LockTimeoutError`, `DiskFullError`, and `IndeterminateWriteError` if the sync fails.
        """
        self._ensure_open()
        if self.read_only:
            raise ReadOnlyError(self.paths.canonical)
        thread = threading.get_ident()
        if self._acting == thread:
            raise ManifestError(
                f"{self.paths.canonical}: a signal handler tried to write while its thread was writing;"
                " set a flag in the handler, and write after the interrupted call has returned"
            )
        try:
            self._append_lock.take_turn()
            if self.options.durability is Durability.POWER_CUT:
                self._read_ahead()  # others wrote during our last sync; reading their lines needs no lock
            # Before the lock: a handler that writes during a wait here would release it at its end, for us as well.
            self._acting = thread
            with self._append_lock.file, self._mutex:
                result = self._on_fresh_state(act)
                unsynced = self._pin_unsynced()
                self._acting = None
            self._append_lock.threads.release()
        except BaseException as error:
            self._release_after_interrupt(thread)
            reraise_with_advice(self.paths.canonical, error)
            raise
        if unsynced is not None:
            self._make_durable(*unsynced)
        return result

    def _release_after_interrupt(self, thread: int) -> None:
        """Release locks that an interrupt left held by this thread."""
        free(self._mutex)
        if self._acting == thread:
            self._acting = None
        self._append_lock.release()

    def append(self, state: State, op: LogEntry) -> None:
        """Append one line and apply it; only inside a transaction.

        On return the line survives a process kill. Raises `DiskFullError`, and then nothing of the line remains.
        """
        try:
            wal = state.wal or state.start_log()
            line_bytes = _LINE_EXTRA_BYTES
            for raw, _, _ in op.puts:
                line_bytes += len(raw)
            wal.prepare(line_bytes, self.options.segment_bytes_max)
            if not wal.writes and op.kind in WRITES:
                wal.register_writer()
            state.append(op)
            if op.kind == "batch" or wal.current.tail.lines % _LINES_PER_LOOK == 0:
                self._look_at_length(state)
        except OSError as error:
            if error.errno in disk.FULL_ERRNOS:
                raise DiskFullError(self.paths.canonical, error) from error
            raise

    def append_whole(self, state: State, ops: Sequence[LogEntry]) -> None:
        """Append several lines as a segment of their own: a crash leaves all or none of them. Only inside a transaction.

        On return they survive a power cut. Raises `DiskFullError`, and then none of them is there.
        """
        try:
            wal = state.wal or state.start_log()
            wal.prepare(0, self.options.segment_bytes_max)
            if not wal.writes:
                wal.register_writer()
            wal.rotate(ops)
        except OSError as error:
            if error.errno in disk.FULL_ERRNOS:
                raise DiskFullError(self.paths.canonical, error) from error
            raise
        state.follow()
        self._look_at_length(state)

    def _look_at_length(self, state: State) -> None:
        assert state.wal is not None
        limit = self.options.log_bytes_limit(state.base.canonical_bytes, state.base.rewrite_bytes)
        self.log_is_long = state.wal.bytes_to_merge >= limit

    # -- durability ----------------------------------------------------------------------------------------------

    def _pin_unsynced(self, *, force: bool = False) -> tuple[Segment, int] | None:
        wal = self._state.wal
        if wal is None or not (force or self.options.durability is Durability.POWER_CUT):
            return None
        tail = wal.current.tail
        if tail.synced >= tail.length or wal.current.sync_failed:
            return None
        wal.current.pin()
        return wal.current, tail.length

    def _make_durable(self, segment: Segment, length: int) -> None:
        """Sync outside the locks, so that concurrent writers share one sync."""
        failure: OSError | None = None
        try:
            segment.sync(length)
        except OSError as error:
            failure = error
        with self._mutex:
            if failure is None:
                segment.mark_synced(length)
            elif self._state.wal is not None:
                self._state.wal.mark_sync_failed(segment)
            segment.unpin()
        if failure is not None:
            self._abandon_segment()
            raise IndeterminateWriteError(segment.path, failure) from failure

    def _abandon_segment(self) -> None:
        """Move to a new segment at once after a failed sync, if the disk allows it.

        Other writers do not know of the failure. They would acknowledge lines after ours. A power cut could then
        leave a hole before those lines.
        """
        if self._fencing:
            return
        self._fencing = True
        try:
            with suppress(ManifestError, OSError):
                self.transact(self._leave_current)
        finally:
            self._fencing = False

    def _leave_current(self, state: State) -> None:
        if state.wal is not None:
            state.wal.prepare(0, self.options.segment_bytes_max)

    def sync(self) -> None:
        """Make everything in the log survive a power cut, in every durability mode.

        Data in a segment whose sync failed is not synced again; the writer moves to a new segment.
        """
        self._ensure_open()
        if self.read_only:
            return
        with self._mutex:
            wal = self._state.wal
            failed = wal is not None and wal.current.sync_failed
            unsynced = self._pin_unsynced(force=True)
        if failed:
            # `_abandon_segment` usually left it at once. If that failed, returning here would let a compaction rename
            # its file although the line that announces it is not on the disk.
            self.transact(self._leave_current)
        elif unsynced is not None:
            self._make_durable(*unsynced)

    # -- compaction, closing, forking -----------------------------------------------------------------------------

    @contextmanager
    def compaction_lock(self, *, wait: bool) -> Iterator[bool]:
        """Hold the compaction lock. Without `wait`, yield false if another thread or process holds it.

        Raises `ReadOnlyError`, and with `wait` also `LockTimeoutError`.
        """
        self._ensure_open()
        if self.read_only:
            raise ReadOnlyError(self.paths.canonical)
        alone = False
        try:
            if wait:
                self._compact_lock.acquire()
                alone = True
            else:
                alone = self._compact_lock.try_acquire()
            yield alone
        finally:
            self._compact_lock.release()

    def close(self) -> None:
        """Close files and locks; nothing is written. Idempotent."""
        if self._pid != os.getpid():
            self.drop_inherited()
        with self._append_lock.threads, self._mutex:
            if not self.closed:
                self.closed = True
                self._append_lock.close()
                self._compact_lock.close()
                if not self._must_load:
                    self._state.close()

    def before_fork(self) -> None:
        """Block all threads between operations while the process forks."""
        self._append_lock.threads.acquire()
        self._mutex.acquire()

    def after_fork_in_parent(self) -> None:
        self._mutex.release()
        self._append_lock.threads.release()

    def drop_inherited(self) -> None:
        """In a forked child: close the inherited descriptors, and load the manifest again at the next call.

        Closing an inherited descriptor does not affect the parent's locks; unlocking it would.
        """
        self._append_lock.close()
        self._compact_lock.close()
        if not self.closed and not self._must_load:
            self._state.abandon()
            self._must_load = True
        self._fresh_locks()
