"""Computes the checksum of one file, which another process may be writing.

Invariants:

- A checksum belongs to the content that the path had during the whole read. A file that changes meanwhile is rejected.
- Opening never blocks, whatever has replaced the file.
"""

import hashlib
import os
import stat
from collections.abc import Callable
from io import FileIO
from typing import Any, NamedTuple, cast

_SMALL_BYTES_MAX = 1 << 16


class ChangedError(Exception):
    """The file changed while it was read."""


class Digest(NamedTuple):
    """The SHA-256 of a file's content, and its length in bytes."""

    checksum: str
    size: int


class _Watched:
    """A file that reports the bytes read."""

    def __init__(self, raw: FileIO, advance: Callable[[int], None]) -> None:
        self._raw = raw
        self._advance = advance
        self.count = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray) -> int:
        got = self._raw.readinto(buffer) or 0
        self.count += got
        self._advance(got)
        return got


def digest(path: str, advance: Callable[[int], None]) -> Digest:
    """Hash a file. Calls `advance` with the length of every block read; it may raise to stop.

    Raises `OSError` if the file cannot be read, and `ChangedError` if it changed meanwhile.
    """
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        before = os.fstat(fd)
        if not stat.S_ISREG(before.st_mode):
            raise ChangedError("it is no longer a regular file")
        found = _large(fd, advance) if before.st_size > _SMALL_BYTES_MAX else _small(fd, before.st_size, advance)
        # If the path still has the same inode, size and time, the open file is still the path's, and unchanged.
        if _stamp(before) != _stamp(os.stat(path)):
            raise ChangedError("it changed while it was read; add it again")
    finally:
        os.close(fd)
    if found.size != before.st_size:
        raise ChangedError("its content and its reported size differ in length; add it again")
    return found


def _small(fd: int, size: int, advance: Callable[[int], None]) -> Digest:
    # Avoids the objects and the large buffer of `_large`, which take longer than hashing 4 kB.
    block = os.read(fd, size + 1)
    found, count = hashlib.sha256(block), len(block)
    advance(count)
    while count != size and block:  # one call reads nearly every file, and would also return an extra byte
        block = os.read(fd, size + 1)
        found.update(block)
        count += len(block)
        advance(len(block))
    return Digest(found.hexdigest(), count)


def _large(fd: int, advance: Callable[[int], None]) -> Digest:
    watched = _Watched(FileIO(fd, closefd=False), advance)
    found = hashlib.file_digest(cast("Any", watched), "sha256")
    return Digest(found.hexdigest(), watched.count)


def _stamp(found: os.stat_result) -> tuple[int, int, int, int]:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
