"""The checksum of one file, read while others may be writing it.

Invariants:

- A checksum belongs to the bytes that the file's name stood for all along; a file that moved under our hands is refused.
- Opening never hangs, whatever took the file's place.
"""

import hashlib
import os
import stat
from collections.abc import Callable
from io import FileIO
from typing import Any, NamedTuple, cast


class ChangedError(Exception):
    """The file is not what it was when it was opened."""


class Digest(NamedTuple):
    """The SHA-256 of a file's content, and its length in bytes."""

    checksum: str
    size: int


class _Watched:
    """A file that tells how much of it was read."""

    def __init__(self, raw: FileIO, tell: Callable[[int], None]) -> None:
        self._raw = raw
        self._tell = tell
        self.count = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray) -> int:
        got = self._raw.readinto(buffer) or 0
        self.count += got
        self._tell(got)
        return got


def digest(path: str, tell: Callable[[int], None]) -> Digest:
    """Hash a file; `tell` hears of every block read, and may raise to stop.

    Raises `OSError` for what cannot be read, `ChangedError` for what changed meanwhile.
    """
    with FileIO(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)) as raw:
        before = os.fstat(raw.fileno())
        if not stat.S_ISREG(before.st_mode):
            raise ChangedError("it is no longer a file")
        watched = _Watched(raw, tell)
        found = hashlib.file_digest(cast("Any", watched), "sha256")
        after = os.stat(path)
        if _stamp(before) != _stamp(os.fstat(raw.fileno())) or _stamp(before) != _stamp(after):
            raise ChangedError("it changed while it was read; add it again")
    if watched.count != before.st_size:
        raise ChangedError("its length is not what the system says; add it again")
    return Digest(found.hexdigest(), watched.count)


def _stamp(found: os.stat_result) -> tuple[int, int, int, int]:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
