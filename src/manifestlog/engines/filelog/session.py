"""One process's way to a manifest: who may look at its state and change it, when, and what is durable afterwards.

Invariants:

- Order of locks: writers' mutex, append lock (between processes), state mutex. A reader takes the last only.
- Under the append lock nothing is synced, validated or logged that could be done before or after it, rotation apart.
- Whatever is asked is asked of knowledge that holds everything acknowledged before the call, by whichever process.
- Whoever answers "already there" answers for its durability too: a transaction syncs what it relied on.

It does not know what is read or written (`engine`), and starts no thread.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, NoReturn, TypeVar

from manifestlog.engines.filelog.canonical.index import IndexDamagedError
from manifestlog.engines.filelog.lock import FileLock
from manifestlog.engines.filelog.log.fold import CHANGES
from manifestlog.engines.filelog.log.lines import LogEntry
from manifestlog.engines.filelog.log.wal import OvertakenError
from manifestlog.engines.filelog.state import State
from manifestlog.errors import (
    DiskFullError,
    IndeterminateWriteError,
    LockTimeoutError,
    ManifestClosedError,
    ManifestError,
    ReadOnlyError,
)
from manifestlog.files import disk
from manifestlog.options import Durability, ManifestOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from manifestlog.engines.filelog.log.segment import Segment
    from manifestlog.names import ManifestPaths

T = TypeVar("T")

_LINE_EXTRA_BYTES = 128
_LINES_PER_LOOK = 16
_READ_ONLY = "or open the manifest with read_only=True; nothing was written and everything earlier is kept"
_ADVICE = {
    errno.EROFS: f"make the file system writable again, {_READ_ONLY}",
    errno.EACCES: f"ask for the right to write here, {_READ_ONLY}",
    errno.EIO: "the disk failed: look into the system's log for the reason, then retry",
    errno.EPERM: f"ask for the right to write here, {_READ_ONLY}",
}


def _free(lock: threading.RLock) -> None:
    """Release a lock as often as this thread holds it."""
    with suppress(RuntimeError):
        while True:
            lock.release()


@lru_cache(maxsize=2)
def _second_text(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).isoformat()[:-6]


def reraise_with_advice(path: str, error: BaseException) -> None:
    """Raise an error of the disk anew when it does not say where it happened and what to do; otherwise do nothing.

    A write that fails names no file, and a compaction or a creation that finds no room is a full disk like any other.
    """
    if not isinstance(error, OSError) or isinstance(error, ManifestError) or isinstance(error.__cause__, OSError):
        return
    if error.errno in disk.FULL_ERRNOS:
        raise DiskFullError(path, error) from error
    advice = _ADVICE.get(error.errno or 0)
    if advice or error.filename is None:
        said = "; ".join(filter(None, (error.strerror, advice)))
        raise OSError(error.errno, said, error.filename or path) from error


def now_text() -> str:
    """The time of a log line: always 27 characters."""
    second, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
    return f"{_second_text(second)}.{nanoseconds // 1000:06d}Z"


class Session:
    """One open manifest. Threads may share it; after a fork it works in the child."""

    def __init__(self, paths: ManifestPaths, options: ManifestOptions, *, read_only: bool) -> None:
        self.paths = paths
        self.options = options
        self.read_only = read_only
        self.closed = False
        self.log_is_long = False
        self._must_load = False
        self._fencing = False
        self._fresh_locks()
        self._state = State.load(paths, writable=not read_only)

    def _fresh_locks(self) -> None:
        self._pid = os.getpid()
        # Reentrant, so that a lock which Ctrl-C has left with this thread can be told and given back (`_release_after_interrupt`).
        self._writers = threading.RLock()
        self._mutex = threading.RLock()
        self._acting: int | None = None
        self._timeout_s = min(self.options.lock_timeout_s, threading.TIMEOUT_MAX / 2)
        # A thread that is ahead of us may itself wait that long, and then has something to do.
        self._turn_s = self._timeout_s + 1.0
        like = self.paths.canonical
        self._append_lock = FileLock(self.paths.append_lock, self._timeout_s, self._read_ahead, like=like)
        self._compacting = threading.RLock()
        self._compact_lock = FileLock(self.paths.compact_lock, self._timeout_s, like=like)

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
        """Whether this is a forked child that has not touched the manifest."""
        return self._must_load or self._pid != os.getpid()

    def read(self, ask: Callable[[State], T]) -> T:
        """Answer from everything that was acknowledged before this call, by whichever process."""
        self._ensure_open()
        try:
            with self._mutex:
                return self._on_fresh_state(ask)
        except BaseException:
            _free(self._mutex)
            raise

    def _on_fresh_state(self, ask: Callable[[State], T]) -> T:
        """Catch up and ask; once more if the index turns out damaged. Nothing is written before an act's last lookup."""
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
        """Take over what others wrote, however far they have come."""
        try:
            self._state.follow()
        except OvertakenError:
            self._reload()
        except IndexDamagedError:
            self._rescan()
            self._catch_up()

    def _read_ahead(self) -> None:
        """Read what others write before we hold the append lock, so that less is left to read under it."""
        with self._mutex:
            self._on_fresh_state(lambda _: None)

    def _reload(self) -> None:
        old = self._state
        fresh = State.load(self.paths, writable=not self.read_only)
        if self._state is not old:
            # A signal handler of this thread read or wrote meanwhile, and has loaded it: later than we have.
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
        """Run `act` alone among all threads and processes, on fresh knowledge; then make durable what it relied on."""
        self._ensure_open()
        if self.read_only:
            raise ReadOnlyError(self.paths.canonical)
        thread = threading.get_ident()
        if self._acting == thread:
            raise ManifestError(
                f"{self.paths.canonical}: written to by a signal handler in the middle of a write;"
                " set a flag in the handler, and write when the interrupted call has returned"
            )
        try:
            if not self._writers.acquire(True, self._turn_s):
                self._raise_timeout(self.paths.append_lock)
            if self.options.durability is Durability.POWER_CUT:
                self._read_ahead()  # others went on while our last sync ran: read here, their lines need no lock
            with self._append_lock, self._mutex:
                self._acting = thread
                result = self._on_fresh_state(act)
                unsynced = self._pin_unsynced()
                self._acting = None
            self._writers.release()
        except BaseException as error:
            self._release_after_interrupt(thread)
            reraise_with_advice(self.paths.canonical, error)
            raise
        if unsynced is not None:
            self._make_durable(*unsynced)
        return result

    def _raise_timeout(self, path: str) -> NoReturn:
        raise LockTimeoutError(path, self.options.lock_timeout_s, "another thread of this process")

    def _release_after_interrupt(self, thread: int) -> None:
        """Give back what an interrupt between two instructions has left with this thread."""
        _free(self._mutex)
        if self._acting == thread:
            self._acting = None
        # Somebody else inside means that the append lock is his: it belongs to the descriptor, not to a thread.
        if self._writers.acquire(blocking=False):
            self._append_lock.release()
            _free(self._writers)

    def append(self, state: State, op: LogEntry) -> None:
        """Write one line and take it over; only from inside a transaction.

        Raises `DiskFullError` with nothing of the line left.
        """
        try:
            wal = state.wal or state.start_log()
            line_bytes = _LINE_EXTRA_BYTES
            for raw, _, _ in op.puts:
                line_bytes += len(raw)
            wal.prepare(line_bytes, self.options.segment_bytes_max)
            if not wal.writes and op.kind in CHANGES:
                wal.register_writer()
            state.append(op)
            if op.kind == "batch" or wal.current.tail.lines % _LINES_PER_LOOK == 0:
                limit = self.options.log_bytes_limit(state.base.canonical_bytes)
                self.log_is_long = wal.bytes_to_merge >= limit
        except OSError as error:
            if error.errno in disk.FULL_ERRNOS:
                raise DiskFullError(self.paths.canonical, error) from error
            raise

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
        """Sync outside the locks, so that concurrent writers share the disk's work."""
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
        """Leave a segment whose sync has failed, at once and if the disk lets us.

        Others do not know of the failure: their lines behind ours would be confirmed, and lie behind a hole after a power cut.
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
        """Make everything in the log survive a power cut, in whichever mode it was written.

        But what lies in a segment whose sync has failed: that is left, and its successor says which canonicals may come.
        """
        self._ensure_open()
        if self.read_only:
            return
        with self._mutex:
            wal = self._state.wal
            failed = wal is not None and wal.current.sync_failed
            unsynced = self._pin_unsynced(force=True)
        if failed:
            # Mostly it was left at once. Where that had failed as well, "done" would let a compaction rename its file
            # while the line that announces it is nowhere.
            self.transact(self._leave_current)
        elif unsynced is not None:
            self._make_durable(*unsynced)

    # -- compaction, ending, forking ------------------------------------------------------------------------------

    @contextmanager
    def compaction_lock(self, *, wait: bool) -> Iterator[bool]:
        """Hold the compaction lock; gives false when another thread or process has it and `wait` is not set."""
        self._ensure_open()
        if self.read_only:
            raise ReadOnlyError(self.paths.canonical)
        alone = False
        try:
            if not self._compacting.acquire(blocking=wait, timeout=self._timeout_s if wait else -1):
                if wait:
                    self._raise_timeout(self.paths.compact_lock)
            elif wait:
                self._compact_lock.acquire()
                alone = True
            else:
                alone = self._compact_lock.try_acquire()
            yield alone
        finally:
            if self._compacting.acquire(blocking=False):
                # Ours, or nobody's after an interrupt; another thread's otherwise. Released, not only closed: a child
                # that was forked meanwhile may still hold a copy of the descriptor.
                self._compact_lock.release()
                _free(self._compacting)

    def close(self) -> None:
        """Let go of files and locks; nothing is written."""
        if self._pid != os.getpid():
            self.drop_inherited()
        with self._writers, self._mutex:
            if not self.closed:
                self.closed = True
                self._append_lock.close()
                self._compact_lock.close()
                if not self._must_load:
                    self._state.close()

    def before_fork(self) -> None:
        """Let no thread be in the middle of anything while the process is copied."""
        self._writers.acquire()
        self._mutex.acquire()

    def after_fork_in_parent(self) -> None:
        self._mutex.release()
        self._writers.release()

    def drop_inherited(self) -> None:
        """In a forked child: close what is the parent's, and load anew at the next call.

        Closing a copied descriptor leaves the parent's locks alone; unlocking it would not.
        """
        self._append_lock.close()
        self._compact_lock.close()
        if not self.closed and not self._must_load:
            self._state.abandon()
            self._must_load = True
        self._fresh_locks()
