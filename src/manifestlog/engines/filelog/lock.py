"""The append lock and the compaction lock; the only module that uses filelock.

Invariants:

- A lock file is never deleted, written or read. The kernel releases its lock when the holder dies.
- The descriptor stays open for the life of the process: a pair of lock and unlock takes 3 µs instead of 150.
- A forked child closes inherited descriptors and never unlocks them: an unlock would release the parent's lock.

A `FileLock` does not nest and does not serialise threads; a `TwoLevelLock` does both.
"""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Self

from filelock import lock_descriptor, unlock_descriptor

from manifestlog.errors import LockTimeoutError
from manifestlog.files import disk, system

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

BACKOFF_FIRST_S = 20e-6
BACKOFF_LAST_S = 5e-4


class FileLock:
    """An exclusive lock between processes, used as a context manager: `with lock: …`.

    `meanwhile` is called before each retry, to do work that needs no lock. A new lock file copies the mode and group
    of `mode_from`.
    """

    def __init__(
        self, path: str, timeout_s: float, meanwhile: Callable[[], None] | None = None, *, mode_from: str | None = None
    ) -> None:
        self.path = path
        self._mode_from = mode_from
        self._timeout_s = timeout_s
        self._meanwhile = meanwhile
        self._fd = -1

    def try_acquire(self) -> bool:
        """Take the lock if it is free, without waiting; return whether it is held now."""
        while True:
            if self._fd < 0:
                self._fd = disk.open_lock(self.path, self._mode_from)
            if not lock_descriptor(self._fd, blocking=False):
                return False
            if disk.is_linked(self._fd):
                return True
            # The lock file was deleted: the next process locks a new one, and both would hold "the" lock.
            self.close()

    def acquire(self) -> None:
        """Wait for the lock; raises `LockTimeoutError` after `timeout_s`."""
        deadline = time.monotonic() + self._timeout_s
        pause = BACKOFF_FIRST_S
        while not self.try_acquire():
            if time.monotonic() >= deadline:
                raise LockTimeoutError(self.path, self._timeout_s, system.lock_holder(self.path))
            # filelock's own 50 ms poll costs 200 ms at the 99th percentile of eight writers.
            time.sleep(pause)
            pause = min(pause * 1.5, BACKOFF_LAST_S)
            if self._meanwhile is not None:
                self._meanwhile()

    def release(self) -> None:
        if self._fd >= 0:
            try:
                unlock_descriptor(self._fd)
            except OSError:
                self.close()  # closing the descriptor releases the lock, which others wait for

    def close(self) -> None:
        """Close the descriptor, which releases the lock; in a forked child the parent keeps its lock."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            with suppress(OSError):
                disk.close(fd)

    def __enter__(self) -> Self:
        try:
            # The usual case takes as few steps as possible: every write passes here.
            if self._fd < 0 or not (lock_descriptor(self._fd, blocking=False) and disk.is_linked(self._fd)):
                self.acquire()
        except BaseException:
            # Ctrl-C may come after the kernel granted the lock and before the call returned; an extra unlock is harmless.
            self.release()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


class TwoLevelLock:
    """A lock between the threads of this process, and then between processes.

    `threads` is reentrant, so that a lock which Ctrl-C left held by this thread can be released. `turn_s` is how long a
    thread waits for the others of its process [default: `timeout_s`].
    """

    def __init__(
        self,
        path: str,
        timeout_s: float,
        meanwhile: Callable[[], None] | None = None,
        *,
        turn_s: float | None = None,
        mode_from: str | None = None,
    ) -> None:
        self.threads = threading.RLock()
        self.file = FileLock(path, timeout_s, meanwhile, mode_from=mode_from)
        self._timeout_s = timeout_s
        self._turn_s = timeout_s if turn_s is None else turn_s

    def take_turn(self) -> None:
        """Wait for the other threads of this process; raises `LockTimeoutError`."""
        if not self.threads.acquire(True, self._turn_s):
            raise LockTimeoutError(self.file.path, self._timeout_s, "another thread of this process")

    def acquire(self) -> None:
        """Wait for threads and processes; raises `LockTimeoutError`."""
        self.take_turn()
        self.file.acquire()

    def try_acquire(self) -> bool:
        """Take the lock if it is free; return whether it is held now. Call `release` in both cases."""
        return self.threads.acquire(blocking=False) and self.file.try_acquire()

    def release(self) -> None:
        """Release what this thread holds, also after an interrupt at any point; do nothing if another thread is inside."""
        # Another thread inside also holds the file lock, which belongs to the descriptor and not to a thread.
        if self.threads.acquire(blocking=False):
            # Unlock, not only close: a child forked meanwhile may still hold a copy of the descriptor.
            self.file.release()
            free(self.threads)

    def close(self) -> None:
        """Close the descriptor; in a forked child the parent keeps its lock."""
        self.file.close()


def free(lock: threading.RLock) -> None:
    """Release a lock completely, however often this thread has acquired it."""
    with suppress(RuntimeError):
        while True:
            lock.release()
