"""Claims: locks on sources, contents and paths, shared by all processes that use one data directory.

A claim is a lock on one byte of a file, at a position hashed from the claimed name. The kernel releases it when the
holder dies, even after `kill -9`. There is no clock, no process id and nothing to clean up. The file is never deleted.

Invariants:

- At most one `Claims` object holds a claim, in any process. Threads of one object share its claims, so each worker
  needs its own object.
- A path is claimed relative to the real data directory: the claim is the same through every symbolic link.
- No claim depends on the content of the file. It is empty, or lists the runs that skipped a claimed source in a row.
  Unreadable content counts as empty.

Two names may collide in one of 2⁶² positions; then one of them waits or is skipped until the next run.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from manifestlog.extract import part_file
from manifestlog.extract.errors import ExtractError
from manifestlog.names import CLAIMS_NAME

_WAIT_S = 60.0
_POLL_S = 0.005
_RUNS_NOTED_MAX = 999

_FLOCK = "hhqqi4x"
"""`struct flock` of 64-bit Linux: type, whence, start, length, pid."""
# Open file description locks: closing another descriptor of the file would release process locks (fcntl(2)).
_SET = getattr(fcntl, "F_OFD_SETLK", None)


class Claims:
    """The claims of one worker in a data directory; a context manager."""

    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir / CLAIMS_NAME
        part_file.make_directory(data_dir)
        self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)

    def name_of(self, path: Path) -> str:
        """Return the name under which a file of the data directory is claimed, with symbolic links resolved."""
        directory = os.path.relpath(os.path.realpath(path.parent), os.path.realpath(self._path.parent))
        return os.path.join(directory, path.name)

    @contextmanager
    def trying(self, kind: str, name: str) -> Iterator[bool]:
        """Claim a name if it is free; yield whether the claim succeeded."""
        position = _position(kind, name)
        ours = self._lock(position)
        try:
            yield ours
        finally:
            if ours:
                self._unlock(position)

    @contextmanager
    def waiting(self, kind: str, name: str) -> Iterator[None]:
        """Claim a name, waiting for its current holder; raises `ExtractError` after a minute."""
        deadline = time.monotonic() + _WAIT_S
        while True:
            with self.trying(kind, name) as ours:
                if ours:
                    yield
                    return
            if time.monotonic() > deadline:
                raise ExtractError(
                    f"{kind} {name} is claimed by another process; run extract again later", str(self._path)
                )
            time.sleep(_POLL_S)

    def record_skip(self, name: str) -> list[str]:
        """Note that this run skips a claimed name; return the times of the runs in a row that have skipped it."""
        with self.waiting("notes", ""):
            notes = self._notes()
            notes[name] = [*notes.get(name, [])[-_RUNS_NOTED_MAX:], datetime.now(UTC).isoformat(timespec="seconds")]
            self._write(notes)
            return notes[name]

    def clear_skips(self, name: str) -> None:
        """Delete the note of runs that skipped this name, since this run has the claim."""
        if os.fstat(self._fd).st_size:
            with self.waiting("notes", ""):
                notes = self._notes()
                if notes.pop(name, None):
                    self._write(notes)

    def _notes(self) -> dict[str, list[str]]:
        try:
            found = json.loads(os.pread(self._fd, os.fstat(self._fd).st_size, 0))
        except (ValueError, RecursionError):
            return {}
        named = found.items() if isinstance(found, dict) else ()
        return {name: [str(time) for time in times] for name, times in named if isinstance(times, list)}

    def _write(self, notes: dict[str, list[str]]) -> None:
        data = json.dumps(notes).encode() if notes else b""
        os.pwrite(self._fd, data, 0)
        os.ftruncate(self._fd, len(data))

    def _lock(self, position: int) -> bool:
        try:
            _change(self._fd, fcntl.F_WRLCK, position)
        except BlockingIOError:
            return False
        except PermissionError:
            return False  # some systems raise this instead
        return True

    def _unlock(self, position: int) -> None:
        _change(self._fd, fcntl.F_UNLCK, position)

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _position(kind: str, name: str) -> int:
    digest = hashlib.sha256(f"{kind}\0{name}".encode(errors="surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") >> 2


def _change(fd: int, kind: int, position: int) -> None:
    if _SET is not None:
        fcntl.fcntl(fd, _SET, struct.pack(_FLOCK, kind, os.SEEK_SET, position, 1, 0))
    else:
        operation = fcntl.LOCK_UN if kind == fcntl.F_UNLCK else fcntl.LOCK_EX | fcntl.LOCK_NB
        fcntl.lockf(fd, operation, 1, position)
