"""Reads a canonical file in any layout, record by record, and checks every byte.

Invariants:

- Anything that cannot be parsed is an error with its byte offset, never an empty manifest.
- A file in our layout is read in blocks. Another tool's file (`foreign`) is converted in memory and not changed on disk.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar
from zlib import crc32

from manifestlog.engines.filelog import checksums
from manifestlog.engines.filelog.canonical import foreign, index
from manifestlog.engines.filelog.canonical.source_rows import source_rows
from manifestlog.errors import DamagedManifestError
from manifestlog.files import disk
from manifestlog.model import codec
from manifestlog.model.document import BETWEEN, FOOT, KEY_BYTES, checked_metadata, head
from manifestlog.model.rows import Row, is_checksum, normalise

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from manifestlog.engines.filelog.canonical.columns import Columns
    from manifestlog.engines.filelog.canonical.index import Entry

_HEAD_BYTES_MAX = 1 << 20


class Counted(Protocol):
    """A result that knows how many records it was built from."""

    @property
    def count(self) -> int: ...


C = TypeVar("C", bound=Counted)


class Canonical:
    """An open canonical file: its descriptor, or for another tool's file the canonical bytes in memory.

    It closes with its last reference: an iteration may continue in the old file after a new one has replaced it.
    """

    def __init__(self, path: str, fd: int, memory: bytes | memoryview | None = None) -> None:
        self.path = path
        self.fd = fd
        self.memory = memory

    def read(self, offset: int, end: int) -> bytes:
        if self.memory is not None:
            return bytes(self.memory[offset:end])
        return disk.read(self.fd, end - offset, offset)

    def blocks(self, start: int, end: int) -> Iterator[bytes]:
        if self.memory is not None:
            for at in range(start, end, disk.BLOCK_BYTES):
                yield bytes(self.memory[at : min(at + disk.BLOCK_BYTES, end)])
        else:
            yield from disk.blocks(self.fd, start, end)

    def record(self, place: tuple[int, int, int]) -> bytes:
        """Return the bytes of one record; raises `DamagedManifestError` if they do not match the CRC in the index."""
        offset, after, crc = place
        raw = self.read(offset + KEY_BYTES, after - len(BETWEEN))
        if crc32(raw) != crc:
            raise self.damage(offset)
        return raw

    def damage(self, offset: int) -> DamagedManifestError:
        """Return the error for a line whose record does not match the CRC in the index."""
        return DamagedManifestError(self.path, offset, "the record on this line differs from what was written")

    def __del__(self) -> None:
        with suppress(OSError):  # a finalizer cannot report an error, and nothing was written
            disk.close(self.fd)


@dataclass(slots=True)
class Scanned:
    """The result of reading a whole canonical file; `crc` covers the file as it is on disk."""

    metadata: Row
    columns: Columns
    crc: str


def scan(source: Canonical) -> Scanned:
    """Read and check a whole canonical file in any layout, and return its index columns.

    Raises `DamagedManifestError` with the byte offset of the error.
    """
    return Scanned(*fold(source, index.build))


def fold(source: Canonical, take: Callable[[Iterator[Entry], int], C]) -> tuple[Row, C, str]:
    """Read and check a whole canonical file; return its metadata, the result of `take`, and the file's CRC.

    `take` receives the records one by one and the offset after the last line. It is called a second time for a file in
    another layout, which must be parsed whole. Raises `DamagedManifestError` with the byte offset of the error.
    """
    end = disk.size(source.fd)
    crc = checksum(source, end)
    try:
        metadata, taken = _scan_lines(source, end, take)
    except _OtherLayout:
        source.memory = foreign.canonical_bytes(source.path, disk.read(source.fd, end, 0))
        metadata, taken = _scan_lines(source, len(source.memory), take)
    return metadata, taken, crc


def checksum(source: Canonical, end: int) -> str:
    """Return the CRC-32 of the first `end` bytes of the file on disk."""
    crc = 0
    for block in disk.blocks(source.fd, 0, end):
        crc = crc32(block, crc)
    return checksums.hex_crc(crc)


class _OtherLayout(Exception):  # noqa: N818 -- a signal to read the file the slow way, not an error
    """The file is not in our layout."""


def _scan_lines(source: Canonical, end: int, take: Callable[[Iterator[Entry], int], C]) -> tuple[Row, C]:
    found = _lines(source, end)
    start, metadata = _scan_head(found, end)
    taken = take(_entries(found, start, end), _end_of_records(source, end))
    if metadata["total_records"] != taken.count:
        raise _OtherLayout
    return metadata, taken


def _lines(source: Canonical, end: int) -> Iterator[bytes]:
    rest: list[bytes] = []
    for block in source.blocks(0, end):
        rest.append(block)
        if b"\n" in block:  # join only at a newline, so that a line of any length is read in linear time
            *whole, last = b"".join(rest).split(b"\n")
            yield from whole
            rest = [last]
    if any(rest):
        raise _OtherLayout


def _scan_head(found: Iterator[bytes], end: int) -> tuple[int, Row]:
    first, size = [], 0
    for line in found:
        first.append(line)
        size += len(line) + 1
        if line.startswith(b'    "records": {') or size > _HEAD_BYTES_MAX:
            break
    taken = b"".join(line + b"\n" for line in first)
    try:
        empty = taken.endswith(b'"records": {}\n')
        metadata = codec.loads(taken.rstrip(b"{}\n") + b"{}}")["metadata"]
        metadata, _ = checked_metadata(metadata)
        expected = head(metadata, empty=empty) + (b"}\n" if empty else b"")
    except (ValueError, KeyError, TypeError):
        raise _OtherLayout from None
    if taken != expected or (empty and end != len(taken) + 2):
        raise _OtherLayout
    return len(taken), metadata


def _entries(found: Iterator[bytes], offset: int, end: int) -> Iterator[Entry]:
    before = b""
    last = False
    for line in found:
        if line in (b"    }", b"}"):
            continue
        if last or line[:9] != b'        "' or line[73:76] != b'": ':
            raise _OtherLayout
        last = line[-1:] != b","
        raw = line[KEY_BYTES:] if last else line[KEY_BYTES:-1]
        key = line[9:73]
        if key <= before:
            raise _OtherLayout
        before = key
        row = _canonical_row(key, raw)
        yield bytes.fromhex(row["checksum"]), offset, crc32(raw), source_rows(row)
        offset += len(line) + 1
    if before and not (last and offset == end - len(FOOT) + 1):
        raise _OtherLayout


def _canonical_row(key: bytes, raw: bytes) -> Row:
    try:
        row: Row
        row, naive = normalise(codec.loads(raw), key.decode())
        same = codec.dumps(row) == raw
    except (ValueError, TypeError):  # not a valid record, or nested too deeply to be written again
        raise _OtherLayout from None
    if naive or not same or not is_checksum(key.decode()):
        raise _OtherLayout
    return row


def _end_of_records(source: Canonical, end: int) -> int:
    foot = source.read(max(0, end - len(FOOT)), end)
    if foot == FOOT:
        return end - len(FOOT) + len(BETWEEN)
    return end
