"""The append lock and the compaction lock; the only module that uses filelock.

Invariants:

- A lock file is never deleted, written or read. The kernel releases its lock when the holder dies.
- The descriptor stays open for the life of the process: a pair of lock and unlock takes 3 µs instead of 150.
- A forked child closes inherited descriptors and never unlocks them: an unlock would release the parent's lock.

It does not nest and does not serialise threads: the session holds a mutex around it.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Self

from filelock import lock_descriptor, unlock_descriptor

from manifestlog.errors import LockTimeoutError
from manifestlog.files import disk

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
                raise LockTimeoutError(self.path, self._timeout_s, disk.lock_holder(self.path))
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
