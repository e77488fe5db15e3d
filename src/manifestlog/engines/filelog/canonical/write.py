"""Writes a canonical file: as a whole, from sorted records, or piece by piece (`merge`).

Invariants:

- Records are not held in memory.
- Length and CRC are those of the bytes as written.

`model.document` defines the layout, and the caller provides the records. It does not sync.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple
from zlib import crc32

from manifestlog.files import disk
from manifestlog.model import document

if TYPE_CHECKING:
    from collections.abc import Iterable

    from manifestlog.engines.filelog.canonical.columns import Buffer
    from manifestlog.model.rows import Row

_WRITE_BYTES = 1 << 20


def write(fd: int, metadata: Row, records: Iterable[tuple[str, bytes]]) -> Writer:
    """Write a whole canonical file to an empty file, from (checksum, JSON) sorted by checksum.

    Return the writer, which has the file's length and CRC. The file is not synced.
    """
    out = Writer(fd)
    for part in document.parts(metadata, records):
        out.write(part)
    out.flush()
    return out


class ReadBack(NamedTuple):
    """What a file has that was written."""

    crc: int
    size: int
    newlines: int


def read_back(fd: int, size: int) -> ReadBack:
    """Read the first `size` bytes of a file again; return what they are, and the size of the file."""
    crc = newlines = 0
    for block in disk.blocks(fd, 0, size):
        crc = crc32(block, crc)
        newlines += block.count(b"\n")
        disk.yield_gil()
    return ReadBack(crc, disk.size(fd), newlines)


@dataclass(slots=True)
class Writer:
    """A file being written in large pieces, with its length in bytes and its CRC so far."""

    fd: int
    size: int = 0
    crc: int = 0
    _parts: list[Buffer] = field(default_factory=list)
    _waiting: int = 0

    def write(self, data: Buffer) -> None:
        self._parts.append(data)
        self.size += len(data)
        self._waiting += len(data)
        if self._waiting >= _WRITE_BYTES:
            self.flush()

    def flush(self) -> None:
        data = b"".join(self._parts)
        disk.append(self.fd, data)
        self.crc = crc32(data, self.crc)
        self._parts, self._waiting = [], 0
        disk.yield_gil()
