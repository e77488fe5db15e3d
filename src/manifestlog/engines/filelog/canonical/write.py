"""A canonical file is written from sorted records: to a descriptor, to a stream, or in memory.

Invariants:

- Records are never all held in memory, but where all of the file is asked for.
- Length and CRC are those of the bytes as they were written.

What the bytes are is `layout`'s business, and whose records they are the caller's.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from zlib import crc32

from manifestlog.engines.filelog import disk
from manifestlog.engines.filelog.canonical import layout

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from manifestlog.engines.filelog.canonical.columns import Buffer
    from manifestlog.model.rows import Row

_WRITE_BYTES = 1 << 20


def document(metadata: Row, records: Iterable[tuple[str, bytes]]) -> Iterator[bytes]:
    """A whole canonical file, a part for each record; `records` are (checksum, JSON), sorted by checksum."""
    before = layout.head(metadata, empty=False)
    empty = True
    for checksum, raw in records:
        yield before + layout.entry(checksum, raw)
        before, empty = layout.BETWEEN, False
    yield (layout.head(metadata, empty=True) if empty else b"") + layout.foot(empty=empty)


def render(metadata: Row, records: Iterable[tuple[str, bytes]]) -> bytes:
    """The same in one piece."""
    return b"".join(document(metadata, records))


def skeleton(metadata: Row) -> bytes:
    """An empty manifest."""
    return render(metadata, ())


def write(fd: int, metadata: Row, records: Iterable[tuple[str, bytes]]) -> Writer:
    """Append the same to an empty file; tells its length and CRC."""
    out = Writer(fd)
    for part in document(metadata, records):
        out.write(part)
    out.flush()
    return out


@dataclass(slots=True)
class Writer:
    """A file being written in large pieces, with the length and CRC so far."""

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
        disk.rest()
