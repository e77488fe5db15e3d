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

_SMALL_BYTES_MAX = 1 << 16


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
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        before = os.fstat(fd)
        if not stat.S_ISREG(before.st_mode):
            raise ChangedError("it is no longer a file")
        found = _large(fd, tell) if before.st_size > _SMALL_BYTES_MAX else _small(fd, before.st_size, tell)
        # The same inode, size and time behind the name: so it is what we had open, and nobody wrote to it.
        if _stamp(before) != _stamp(os.stat(path)):
            raise ChangedError("it changed while it was read; run it again")
    finally:
        os.close(fd)
    if found.size != before.st_size:
        raise ChangedError("its length is not what the system says; run it again")
    return found


def _small(fd: int, size: int, tell: Callable[[int], None]) -> Digest:
    # Without the objects and the large buffer of the other way, which cost more than hashing 4 kB does.
    block = os.read(fd, size + 1)
    found, count = hashlib.sha256(block), len(block)
    tell(count)
    while count != size and block:  # one call gives nearly every file whole, and would give one byte more
        block = os.read(fd, size + 1)
        found.update(block)
        count += len(block)
        tell(len(block))
    return Digest(found.hexdigest(), count)


def _large(fd: int, tell: Callable[[int], None]) -> Digest:
    watched = _Watched(FileIO(fd, closefd=False), tell)
    found = hashlib.file_digest(cast("Any", watched), "sha256")
    return Digest(found.hexdigest(), watched.count)


def _stamp(found: os.stat_result) -> tuple[int, int, int, int]:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
