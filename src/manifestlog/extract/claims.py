"""Claims: who may work on a source, a content or a place, among all processes that share a data folder.

A claim is a lock on one byte of a file, at a position made from the name of what is claimed. The kernel drops it
with the process that holds it, `kill -9` included; there is no clock, no process number and nothing to clean up. The
file stays where it is.

Invariants:

- A claim is held by one `Claims` object at most, in whichever process; threads of one object share it, so a worker has
  an object of its own.
- A path is claimed by its place in the data folder: whoever comes to the folder through a link claims the same.
- No claim depends on what the file holds: nothing, or the sources that runs in a row have left to another one, with the
  times of these runs. What cannot be read of that counts as nothing.

Two names may meet at one of 2⁶² positions; then one of the two waits or is left to the next run.
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
_LOOK_EVERY_S = 0.005
_RUNS_NOTED_MAX = 999

_FLOCK = "hhqqi4x"
"""`struct flock` of 64-bit Linux: type, whence, start, length, pid."""
# Locks of an open file, not of a process: closing another descriptor of the file would drop the latter (fcntl(2)).
_SET = getattr(fcntl, "F_OFD_SETLK", None)


class Claims:
    """The claims of one worker in a data folder; use it as a context manager."""

    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir / CLAIMS_NAME
        part_file.make_directory(data_dir)
        self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)

    def name_of(self, path: Path) -> str:
        """What a file of the data folder is called in a claim, whichever links its path goes through."""
        folder = os.path.relpath(os.path.realpath(path.parent), os.path.realpath(self._path.parent))
        return os.path.join(folder, path.name)

    @contextmanager
    def trying(self, kind: str, name: str) -> Iterator[bool]:
        """Hold the claim on this name if nobody else does; gives whether it is ours."""
        position = _position(kind, name)
        ours = self._lock(position)
        try:
            yield ours
        finally:
            if ours:
                self._unlock(position)

    @contextmanager
    def waiting(self, kind: str, name: str) -> Iterator[None]:
        """Hold the claim on this name, after whoever has it; raises `ExtractError` when that takes a minute."""
        deadline = time.monotonic() + _WAIT_S
        while True:
            with self.trying(kind, name) as ours:
                if ours:
                    yield
                    return
            if time.monotonic() > deadline:
                raise ExtractError(f"{self._path}: {kind} {name} is claimed by another process; run it again later")
            time.sleep(_LOOK_EVERY_S)

    def record_skip(self, name: str) -> list[str]:
        """Note that this run leaves a name to another one; gives the times of the runs in a row that have done so."""
        with self.waiting("notes", ""):
            notes = self._notes()
            notes[name] = [*notes.get(name, [])[-_RUNS_NOTED_MAX:], datetime.now(UTC).isoformat(timespec="seconds")]
            self._write(notes)
            return notes[name]

    def clear_skips(self, name: str) -> None:
        """Forget the runs that have left this name to another one: it is ours now."""
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
            return False  # what some systems say instead
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
