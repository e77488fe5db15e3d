"""Reads a canonical file in any layout, block by block, and checks every byte.

Invariants:

- Anything that cannot be parsed is an error with its byte offset, never an empty manifest.
- A file in our layout is read in blocks. Another tool's file (`foreign`) is converted in memory and not changed on disk.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Protocol, TypeVar
from zlib import crc32

from manifestlog import progress
from manifestlog.engines.filelog import checksums
from manifestlog.engines.filelog.canonical import columns, foreign
from manifestlog.engines.filelog.canonical.parsing import OtherLayoutError, parse
from manifestlog.errors import DamagedManifestError
from manifestlog.files import disk
from manifestlog.model import codec
from manifestlog.model.document import BETWEEN, FOOT, KEY_BYTES, checked_metadata, head, skeleton

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from manifestlog.engines.filelog.canonical.columns import Block, Columns
    from manifestlog.model.rows import Row

_RECORDS = b'\n    "records": {'
_LINES_AT_ONCE = 512
"""Parsing as many takes about a millisecond, which other threads may have to wait."""


class Counted(Protocol):
    """A result that knows how many records it was built from."""

    @property
    def count(self) -> int: ...


C = TypeVar("C", bound=Counted)


class Canonical:
    """An open canonical file: its descriptor, or for another tool's file the canonical bytes in memory.

    It closes with its last reference: an iteration may continue in the old file after a new one has replaced it.
    """

    def __init__(self, path: str, fd: int, memory: memoryview | None = None) -> None:
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

    def damage_between(self) -> DamagedManifestError:
        """Return the error for a file that differs although every record matches its CRC."""
        return DamagedManifestError(self.path, 0, "the bytes between the records differ from what was written")

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
    return Scanned(*fold(source, columns.build))


def fold(source: Canonical, take: Callable[[Iterator[Block], int], C]) -> tuple[Row, C, str]:
    """Read and check a whole canonical file; return its metadata, the result of `take`, and the file's CRC.

    `take` receives the records in blocks, and the offset after the last line. It is called a second time for a file in
    another layout, which is converted first. Raises `DamagedManifestError` with the byte offset of the error.
    """
    end = disk.size(source.fd)
    try:
        return _scan_lines(source, end, take)
    except OtherLayoutError:
        passes: list[_Blocks] = []  # a file with an error, or in an odd shape, is read once more

        def blocks() -> Iterator[bytes]:
            passes.append(_Blocks(progress.over(disk.blocks(source.fd, 0, end), source.path, end)))
            return iter(passes[-1])

        found = foreign.convert(source.path, blocks)
        source.memory = found.data
        return found.metadata, take(iter((found.records,)), found.end), checksums.hex_crc(passes[-1].crc)


def checksum(source: Canonical, end: int) -> str:
    """Return the CRC-32 of the first `end` bytes of the file on disk."""
    crc = 0
    for block in progress.over(disk.blocks(source.fd, 0, end), source.path, end):
        crc = crc32(block, crc)
    return checksums.hex_crc(crc)


class _Blocks:
    """The blocks of a file, with the CRC of those that were taken."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks
        self.crc = 0

    def __iter__(self) -> Iterator[bytes]:
        for block in self._blocks:
            self.crc = crc32(block, self.crc)
            yield block


def _scan_lines(source: Canonical, end: int, take: Callable[[Iterator[Block], int], C]) -> tuple[Row, C, str]:
    read = _Blocks(progress.over(source.blocks(0, end), source.path, end))
    blocks = iter(read)
    first = next(blocks, b"")
    metadata, start = _scan_head(first)
    if start is None:
        if end != len(first):
            raise OtherLayoutError
        taken = take(iter(()), end)
    else:
        taken = take(_parsed(chain((first[start:],), blocks), start), end - len(FOOT) + len(BETWEEN))
    if metadata["total_records"] != taken.count:
        raise OtherLayoutError
    return metadata, taken, checksums.hex_crc(read.crc)


def _scan_head(first: bytes) -> tuple[Row, int | None]:
    """Return the metadata, and where the first record's line begins, if there is one."""
    at = first.find(_RECORDS)
    if at < 0:
        raise OtherLayoutError
    end = first.find(b"\n", at + len(_RECORDS)) + 1
    taken = first[:end]
    try:
        metadata, _ = checked_metadata(codec.loads(taken.rstrip(b"{}\n") + b"{}}")["metadata"])
        expected = head(metadata, empty=False)
        if taken == expected:
            return metadata, end
        if first == skeleton(metadata):
            return metadata, None
    except (ValueError, KeyError, TypeError):
        pass
    raise OtherLayoutError


def _parsed(blocks: Iterable[bytes], offset: int) -> Iterator[Block]:
    """Parse the lines of all records, of which the first one begins at `offset`."""
    before = ""
    for lines in _lines(blocks):
        for first in range(0, len(lines), _LINES_AT_ONCE):
            some = lines[first : first + _LINES_AT_ONCE]
            found, before = parse(some, offset, before)
            yield found
            offset += sum(map(len, some)) + len(some) * len(BETWEEN)


def _lines(blocks: Iterable[bytes]) -> Iterator[list[bytes]]:
    """Yield the lines of all records, without what separates them."""
    rest: list[bytes] = []
    for block in blocks:
        rest.append(block)
        if BETWEEN in block:  # join only then, so that a line of any length is read in linear time
            *whole, last = b"".join(rest).split(BETWEEN)
            rest = [last]
            yield whole
    *whole, last = b"".join(rest).split(BETWEEN)
    if not last.endswith(FOOT):
        raise OtherLayoutError
    yield [*whole, last[: -len(FOOT)]]
