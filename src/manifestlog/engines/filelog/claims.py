"""Claims as locks in one file of a directory, shared by all processes that use the directory.

A claim is a lock on one byte of the file, at a position hashed from the claimed name. The kernel releases it when the
holder dies, even after `kill -9`. There is no clock, no process id and nothing to clean up. The file is never deleted.

Invariants:

- At most one `FileClaims` object holds a claim, in any process. Threads of one object share its claims, so each worker
  needs its own object.
- No claim depends on the content of the file. It is empty, or lists the runs that skipped a claimed name in a row.
  Unreadable content counts as empty.

Two names may collide in one of 2⁶² positions; then one of them waits or is skipped until the next run.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import time
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Self

from manifestlog.engines.claiming import one_by_one
from manifestlog.engines.reports import Holder
from manifestlog.files import disk, system
from manifestlog.names import CLAIMS_NAME

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager
    from types import TracebackType

_NOTES_WAIT_S = 60.0
_POLL_S = 0.005
_RUNS_NOTED_MAX = 999


class FileClaims:
    """The claims of one worker in a directory; a context manager."""

    def __init__(self, directory: str) -> None:
        self.display = os.path.join(directory, CLAIMS_NAME)
        self._fd = disk.open_lock(self.display)
        self._has_notes = True
        """Whether the file had notes when this worker looked for the first time, or has its own."""

    @contextmanager
    def claim(self, kind: str, name: str, *, wait_s: float = 0.0) -> Iterator[bool]:
        position = _position(kind, name)
        ours = self._lock(position, time.monotonic() + wait_s)
        try:
            yield ours
        finally:
            if ours and self._fd >= 0:
                disk.unlock_byte(self._fd, position)

    @property
    def descriptors(self) -> tuple[int, ...]:
        # The locks are the open file's: they last until every descriptor of it is closed, in whatever process.
        return (self._fd,)

    def _lock(self, position: int, deadline: float) -> bool:
        while not disk.lock_byte(self._fd, position):
            if time.monotonic() >= deadline:
                return False
            time.sleep(_POLL_S)
        return True

    def claim_many(self, kind: str, wanted: Sequence[str], *, wait_s: float = 0.0) -> AbstractContextManager[set[str]]:
        return one_by_one(self, kind, wanted, wait_s)

    def fence(self, *_: Self) -> AbstractContextManager[None]:
        """Do nothing: a claim ends only with this process."""
        return nullcontext()

    def ensure_held(self, *_: Self) -> None:
        """Do nothing, for the same reason."""

    def record_skip(self, name: str) -> list[str]:
        with self.claim("notes", "", wait_s=_NOTES_WAIT_S) as ours:
            if not ours:
                return []
            self._has_notes = True
            notes = self._notes()
            notes[name] = [*notes.get(name, [])[-_RUNS_NOTED_MAX:], datetime.now(UTC).isoformat(timespec="seconds")]
            self._write(notes)
            return notes[name]

    def clear_skips(self, name: str) -> None:
        # Without notes at the first look, this worker does not look again: the next run deletes what came meanwhile.
        self._has_notes = self._has_notes and disk.size(self._fd) > 0
        if not self._has_notes:
            return
        with self.claim("notes", "", wait_s=_NOTES_WAIT_S) as ours:
            notes = self._notes() if ours else {}
            if notes.pop(name, None):
                self._write(notes)

    def _notes(self) -> dict[str, list[str]]:
        try:
            found = json.loads(disk.read(self._fd, disk.size(self._fd), 0))
        except (ValueError, RecursionError):
            return {}
        named = found.items() if isinstance(found, dict) else ()
        return {name: [str(time) for time in times] for name, times in named if isinstance(times, list)}

    def _write(self, notes: dict[str, list[str]]) -> None:
        disk.overwrite(self._fd, json.dumps(notes).encode() if notes else b"")

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            disk.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def holders(directory: str, kind: str, names: Sequence[str]) -> list[Holder]:
    """Return which processes of this host hold claims on these names, as far as this user may see; creates no file."""
    pids = system.byte_lock_holders(os.path.join(directory, CLAIMS_NAME)) if names else {}
    found = ((pids.get(_position(kind, name)), name) for name in names) if pids else ()
    return [Holder(socket.gethostname(), pid, None, kind, name) for pid, name in found if pid is not None]


def _position(kind: str, name: str) -> int:
    digest = hashlib.sha256(f"{kind}\0{name}".encode(errors="surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") >> 2
