"""The append lock and the compaction lock; the only owner of filelock.

Invariants:

- A lock file is never deleted, never written, never read; the kernel's lock on it dies with its holder.
- The descriptor stays open for the life of the process: a lock and unlock pair costs 3 µs instead of 150.
- A forked child closes what it inherited and never unlocks it: an unlock in the child would free the parent's lock.

It does not nest, and does not serialise threads: the store holds a mutex around it.
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

    `meanwhile` is called before each further try: work that would otherwise wait for the lock, too. A lock file that has
    to be made is made `like` that file, for the same users.
    """

    def __init__(
        self, path: str, timeout_s: float, meanwhile: Callable[[], None] | None = None, *, like: str | None = None
    ) -> None:
        self.path = path
        self._like = like
        self._timeout_s = timeout_s
        self._meanwhile = meanwhile
        self._fd = -1

    def try_acquire(self) -> bool:
        """Take the lock if it is free; never waits."""
        while True:
            if self._fd < 0:
                self._fd = disk.open_lock(self.path, self._like)
            if not lock_descriptor(self._fd, blocking=False):
                return False
            if disk.is_linked(self._fd):
                return True
            # Somebody deleted the lock file: whoever comes next locks a new one, and two would be inside at once.
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
                self.close()  # others must not wait for what the kernel would not give back

    def close(self) -> None:
        """Drop the descriptor, and with it the lock; in a forked child this leaves the parent's lock alone."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            with suppress(OSError):
                disk.close(fd)

    def __enter__(self) -> Self:
        try:
            # The usual case in as few steps as possible: this is on every write's way.
            if self._fd < 0 or not (lock_descriptor(self._fd, blocking=False) and disk.is_linked(self._fd)):
                self.acquire()
        except BaseException:
            # Ctrl-C may land between the kernel's yes and our knowing of it; unlocking what is not held is harmless.
            self.release()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
