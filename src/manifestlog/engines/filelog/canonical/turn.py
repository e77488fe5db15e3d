"""The turn to read a whole canonical file: if many processes find no valid index, one reads the file and the others
wait.

::

    first      locks a byte of the compaction lock file ─► reads the whole file ─► publishes the index ─► unlocks it
    others     wait for the byte, or for the index to change ─► use the new index

Invariants:

- A turn protects nothing. A process that has waited too long, or may not lock, reads the file as well; so nothing here
  ever fails.
- The longest wait depends on the file's size. The kernel unlocks the byte when its holder dies.
- A compaction holds the byte between its two renames, when the old index no longer fits and the new one does not exist
  yet.
- A reader locks nothing: it tests whether the byte is locked. So a reader waits for writers, and no process waits for a
  reader.

The byte is independent of the compaction lock (`flock`), which the process that publishes the index also takes
(`kept_index`).
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Self

from manifestlog import progress
from manifestlog.files import disk

if TYPE_CHECKING:
    from types import TracebackType

    from manifestlog.names import ManifestPaths

BYTES_MIN = 1 << 20
"""A smaller file is read in the time of a few looks at the lock."""
PATIENCE_S = 1.0
BYTES_PER_S = 20e6
"""A third of what one process reads on a machine with nothing else to do."""

_BYTE = 0
_PAUSE_FIRST_S, _PAUSE_LAST_S = 1e-3, 0.05


class Turn:
    """One process's turn at one manifest; a context manager. It opens no file before it is needed."""

    def __init__(self, paths: ManifestPaths, *, read_only: bool = False) -> None:
        self._paths = paths
        self._read_only = read_only
        self._fd = -1
        self._ours = False
        self._deadline: float | None = None

    def take(self, size: int) -> bool:
        """Wait while another process reads this file of `size` bytes; return whether to look for its index again.

        If not, it is this process's turn, or there is none to wait for.
        """
        if self._ours or size < BYTES_MIN or not self._open():
            return False
        if self._deadline is None:
            self._deadline = time.monotonic() + PATIENCE_S + size / BYTES_PER_S
        before = disk.path_stamp(self._paths.index)
        pause, waited = _PAUSE_FIRST_S, False
        while not self._try():
            if time.monotonic() >= self._deadline:
                return False
            if disk.path_stamp(self._paths.index) != before:
                return True
            progress.tell("waiting for another process that reads", self._paths.canonical, 0)
            time.sleep(pause)
            pause, waited = min(pause * 1.5, _PAUSE_LAST_S), True
        return waited or self._ours  # the one before may have published its index a moment ago

    def hold(self, size: int) -> None:
        """Let others wait, if it is nobody's turn: this process is about to replace the file and its index."""
        if size >= BYTES_MIN and self._open():
            self._try()

    def _open(self) -> bool:
        if self._fd < 0 and disk.BYTE_LOCKS_ARE_APART:
            if not self._read_only:
                with suppress(OSError):
                    self._fd = disk.open_lock(self._paths.compact_lock, self._paths.canonical)
                    return True
                self._read_only = True
            with suppress(OSError):
                self._fd = disk.open_read(self._paths.compact_lock)
        return self._fd >= 0

    def _try(self) -> bool:
        """Lock the byte if it is free; return false while another process holds it."""
        with suppress(OSError):  # a file system without such locks
            if self._read_only:
                return not disk.is_byte_locked(self._fd, _BYTE)
            self._ours = disk.lock_byte(self._fd, _BYTE)
            return self._ours
        return True

    def end(self) -> None:
        """Let the next one have its turn; idempotent."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            with suppress(OSError):
                if self._ours:
                    disk.unlock_byte(fd, _BYTE)  # a child that was forked meanwhile may hold a copy of the descriptor
            self._ours = False
            with suppress(OSError):
                disk.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()
