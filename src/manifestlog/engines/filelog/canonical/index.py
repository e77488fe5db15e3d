"""The index over a canonical file: where each checksum's record lies, and which records each source has.

::

    magic · header length · header CRC · header (JSON: stamp, metadata, counts)
    records    bounds u32 × (2^bits + 1) · checks u32 × 2^bits     fan-out by the first bits of the checksum
               digests 32 B × n, sorted · offsets u64 × (n + 1) · crcs u32 × n
    sources    bounds u32 × (2^bits + 1) · checks u32 × 2^bits     fan-out by the first bits of the hash
               rows 32 B × m, sorted: hash of source_id 8 · of dataset 4 · time in µs 8 · tie 4 · digest prefix 8
    imported   for another tool's file only: its canonical bytes, which the offsets are of

Invariants:

- It is derived: missing, stale or damaged it costs a scan of the canonical, never an error and never a wrong answer.
- It is replaced by rename and never written in place, so it can be mapped without fear of a truncated map.
- Each bucket has a CRC over all that a lookup in it uses, checked at its first use; opening reads the header only.
- Rows are big-endian, so that their order as bytes is the order of a lookup: by source, dataset, then time.

It holds no records, and does not know the log.
"""

from __future__ import annotations

import sys
from array import array
from bisect import bisect_left
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple
from zlib import crc32

from manifestlog.engines.filelog.canonical.columns import (
    DIGEST,
    ROW,
    Columns,
    RowColumns,
    Rows,
    bits_for,
    numbers_at,
    record_check,
    record_checks,
    source_check,
    source_checks,
    tables,
)
from manifestlog.engines.filelog.canonical.source_rows import TIE_MAX, order_bytes, short_hash, source_hash
from manifestlog.files import disk
from manifestlog.model import codec
from manifestlog.model.rows import Order, Row

if TYPE_CHECKING:
    import mmap
    from collections.abc import Iterable, Iterator

MAGIC = b"MLINDEX1"
_LINEAR_MAX = 128
_ENTRIES_A_REST = 64
_FIXED = len(MAGIC) + 8


Entry = tuple[bytes, int, int, list[bytes]]
"""A record for the index: its digest, the offset of its line, the CRC of its bytes, its source rows."""


class IndexDamagedError(Exception):
    """The index is not what was written; scan the canonical instead. Never reaches a caller of the library."""


class Head(NamedTuple):
    """Which canonical an index belongs to, and what a reader needs to know before it asks for a record."""

    stamp: disk.Stamp
    crc: str
    covers: int
    metadata: Row
    imported: tuple[int, ...] = ()
    """For another tool's file: (size, CRC) of its canonical bytes, which lie behind the tables."""


def encode(columns: Columns | RowColumns, head: Head) -> Iterator[bytes | memoryview]:
    """The bytes of an index file, in parts of bounded size."""
    rows = columns.as_rows() if isinstance(columns, Columns) else columns
    found = tables(rows)
    yield _header(head, len(rows.crcs), len(rows.sources))
    for table in found:
        for section in (Rows(table.bounds, 4), Rows(table.checks, 4), *table.columns):
            yield from section.blocks(0, len(section))
            yield bytes(-(len(section) * section.width) % 8)


def _header(head: Head, records: int, sources: int) -> bytes:
    told = {
        "byteorder": sys.byteorder,
        "stamp": list(head.stamp),
        "crc": head.crc,
        "covers": head.covers,
        "metadata": head.metadata,
        "records": records,
        "sources": sources,
    }
    header = codec.dumps(told | ({"imported": list(head.imported)} if head.imported else {}))
    header += b" " * (-(_FIXED + len(header)) % 8)
    return MAGIC + len(header).to_bytes(4, "little") + crc32(header).to_bytes(4, "little") + header


class Index:
    """An index in memory or mapped. Lookups raise `IndexDamagedError` when what they touch is damaged."""

    def __init__(self, buffer: bytes | mmap.mmap) -> None:
        self._buffer = buffer
        view = memoryview(buffer)
        header, position = _read_header(view)
        self._tables_at = position
        count, sources = header["records"], header["sources"]
        self.count: int = count
        imported = tuple(header.get("imported", ()))
        self.head = Head(disk.Stamp(*header["stamp"]), header["crc"], header["covers"], header["metadata"], imported)
        self._bits, self._source_bits = bits_for(count), bits_for(sources)
        sizes = (
            *(4 * ((1 << self._bits) + 1), 4 << self._bits, DIGEST * count, 8 * (count + 1), 4 * count),
            *(4 * ((1 << self._source_bits) + 1), 4 << self._source_bits, ROW * sources),
        )
        cuts = []
        for size in sizes:
            cuts.append(view[position : position + size])
            position += size + -size % 8
        self._tables_end = position
        self.imported = view[position:] if imported else None
        if len(view) - position != (imported[0] if imported else 0):
            raise IndexDamagedError("length")
        if self.imported is not None and crc32(self.imported) != imported[1]:
            raise IndexDamagedError("the imported file")
        self._bounds, self._checks = cuts[0].cast("I"), cuts[1].cast("I")
        self._digests, self._offsets, self._crcs = cuts[2], cuts[3].cast("Q"), cuts[4].cast("I")
        self._source_bounds, self._source_checks = cuts[5].cast("I"), cuts[6].cast("I")
        self._sources = cuts[7]
        self._digests_at = position - sum(size + -size % 8 for size in sizes[2:])
        self._sources_at = position - sum(size + -size % 8 for size in sizes[7:])
        # A bit a bucket: clearing a byte for each takes longer than the rest of an opening, from some million records on.
        self._checked = bytearray(len(self._checks) + 7 >> 3)
        self._sources_checked = bytearray(len(self._source_checks) + 7 >> 3)

    @classmethod
    def open(cls, path: str) -> Index | None:
        """Map the index at `path`; None when there is none or its header is no good."""
        try:
            fd = disk.open_read(path)
        except OSError:
            return None
        try:
            return cls(disk.map_read(fd))
        except (IndexDamagedError, ValueError, KeyError, TypeError, OSError):
            return None
        finally:
            disk.close(fd)

    def find(self, digest: bytes) -> int:
        """The number of the record with this digest, in canonical order; -1 when there is none."""
        if not self.count:
            return -1
        start, end = self._bucket(int.from_bytes(digest[:4], "big") >> (32 - self._bits))
        if end - start > _LINEAR_MAX:
            number = self._first(digest, start, end, self._digests_at)
            return number if number < end and self.digest(number) == digest else -1
        first = self._digests_at + start * DIGEST
        last = self._digests_at + end * DIGEST
        found = self._buffer.find(digest, first, last)
        while found >= 0 and (found - first) % DIGEST:
            found = self._buffer.find(digest, found + 1, last)
        return -1 if found < 0 else start + (found - first) // DIGEST

    def position(self, digest: bytes) -> int:
        """Where a record with this digest is, or would have to be put in."""
        start, end = self._bucket(int.from_bytes(digest[:4], "big") >> (32 - self._bits))
        return bisect_left(range(end), digest, start, key=self.digest)

    def _bucket(self, bucket: int) -> tuple[int, int]:
        start, end = self._bounds[bucket], self._bounds[bucket + 1]
        bit = 1 << (bucket & 7)
        if not self._checked[bucket >> 3] & bit:
            if not start <= end <= self.count or self._checks[bucket] != record_check(
                self._digests, self._offsets, self._crcs, start, end
            ):
                raise IndexDamagedError(f"bucket {bucket}")
            self._checked[bucket >> 3] |= bit
        return start, end

    def source_position(self, row: bytes, after: int) -> tuple[int, bool]:
        """Where, not before `after`, this source row is or would have to be put in; and whether it is there."""
        start, end = self._source_bucket(int.from_bytes(row[:4], "big") >> (32 - self._source_bits))
        at = bisect_left(range(end), row, max(start, after), key=self._source)
        return at, at < end and self._source(at) == row

    def _source_bucket(self, bucket: int) -> tuple[int, int]:
        start, end = self._source_bounds[bucket], self._source_bounds[bucket + 1]
        bit = 1 << (bucket & 7)
        if not self._sources_checked[bucket >> 3] & bit:
            if not start <= end <= len(self._sources) // ROW or self._source_checks[bucket] != source_check(
                self._sources, start, end
            ):
                raise IndexDamagedError(f"source bucket {bucket}")
            self._sources_checked[bucket >> 3] |= bit
        return start, end

    def check_all(self) -> None:
        """Check every bucket: before a merge, which would otherwise give damage a fresh CRC."""
        digests, offsets, crcs, sources = self.columns().as_rows()
        self._check_table(self._bounds, self._checks, self.count, record_checks(self._bounds, digests, offsets, crcs))
        checks = source_checks(self._source_bounds, sources)
        self._check_table(self._source_bounds, self._source_checks, len(sources), checks)

    @staticmethod
    def _check_table(bounds: memoryview, told: memoryview, count: int, found: array[int]) -> None:
        if told != found or any(not a <= b <= count for a, b in pairwise(bounds)):
            raise IndexDamagedError("a bucket")

    def is_as_written(self) -> bool:
        """Whether every byte is what `encode` makes of this content, the ones included that no lookup reads."""
        view = memoryview(self._buffer)
        position = 0
        for part in encode(Columns(self._digests, self._offsets, self._crcs, self._sources), self.head):
            if view[position : position + len(part)] != part:
                return False
            position += len(part)
        return position == self._tables_end

    def is_record(self, number: int, digest: bytes, offset: int, crc: int) -> bool:
        """Whether record `number` is this one."""
        return self._crcs[number] == crc and self._offsets[number] == offset and self.digest(number) == digest

    def ends_at(self, count: int, end: int) -> bool:
        """Whether it holds so many records, the last of which ends there."""
        return self.count == count and self._offsets[count] == end

    def source_rows(self) -> Iterator[bytes]:
        """Every source row, as it is stored."""
        return map(self._source, range(len(self._sources) // ROW))

    def digest(self, number: int) -> bytes:
        at = self._digests_at + number * DIGEST
        return self._buffer[at : at + DIGEST]

    def place(self, number: int) -> tuple[int, int, int]:
        """(offset of the line, offset of the next, CRC of the record's bytes)."""
        return self._offsets[number], self._offsets[number + 1], self._crcs[number]

    def checksums(self) -> Iterator[str]:
        """Every checksum, sorted."""
        self.check_all()
        return (self.digest(number).hex() for number in range(self.count))

    def has_source(self, source_id: str) -> bool:
        """Whether a source may have records; a wrong yes is a collision of hashes."""
        key = source_hash(source_id)
        row, end = self._rows_from(key)
        return row < end and self._source(row).startswith(key)

    def _rows_from(self, key: bytes) -> tuple[int, int]:
        """(the first row that begins with `key`, if there is one; the end of its bucket)."""
        start, end = self._source_bucket(int.from_bytes(key[:4], "big") >> (32 - self._source_bits))
        return self._first(key, start, end, self._sources_at), end

    def groups(self, source_id: str, dataset: str | None) -> list[range]:
        """The rows of a source, one range a dataset, each in order of time."""
        key = source_hash(source_id)
        if dataset is not None:
            key += short_hash(dataset, 4)
        found = []
        row, end = self._rows_from(key)
        while row < end and self._source(row).startswith(key):
            group = self._source(row)[:12]
            after = row + 1
            if after < end and self._source(after).startswith(group):
                # Past every time that this source and dataset can have.
                after = bisect_left(range(end), group + b"\xff" * 9, after, key=self._source)
            found.append(range(row, after))
            row = after
        return found

    def _first(self, key: bytes, start: int, end: int, rows_at: int) -> int:
        """The first of these rows that begins with `key`, or one that is not smaller; of digests or sources, both 32 bytes."""
        if end - start > _LINEAR_MAX:
            return bisect_left(range(end), key, start, key=self.digest if rows_at == self._digests_at else self._source)
        first, last = rows_at + start * ROW, rows_at + end * ROW
        found = self._buffer.find(key, first, last)
        while found >= 0 and (found - first) % ROW:
            found = self._buffer.find(key, found + 1, last)
        return end if found < 0 else start + (found - first) // ROW

    def may_have(self, group: range, dataset: str) -> bool:
        """Whether a group of `groups` is of this dataset; a wrong yes is a collision of hashes."""
        return self._source(group[0])[8:12] == short_hash(dataset, 4)

    def at(self, group: range, moment: str) -> range:
        """Of a group of `groups`, the rows of this very time."""
        newest = self._source(group[-1])
        first = newest[:12] + order_bytes(moment, 0)
        if newest < first:  # most events are newer than all that is known
            return range(0)
        start = bisect_left(range(group.stop), first, group.start, key=self._source)
        last = newest[:12] + order_bytes(moment, TIE_MAX) + b"\xff" * 9
        return range(start, bisect_left(range(group.stop), last, start, key=self._source))

    def later_than(self, moment: str) -> Iterator[int]:
        """The source rows of a later time, whichever their source."""
        self.check_all()
        key = int.from_bytes(order_bytes(moment, 0)[:8], "big")
        times = numbers_at(self._sources, ROW, 12)
        return (row for row, when in enumerate(times) if when > key) if max(times, default=0) > key else iter(())

    def named(self, row: int) -> Iterator[int]:
        """The records that a source row may mean: the caller looks whether one does, as hashes collide (`is_of_time`)."""
        prefix = self._source(row)[24:]
        start, end = self._bucket(int.from_bytes(prefix[:4], "big") >> (32 - self._bits))
        number = self._first(prefix, start, end, self._digests_at)
        while number < end and self.digest(number).startswith(prefix):
            yield number
            number += 1

    def is_of_time(self, row: int, order: Order) -> bool:
        """Whether a source row is of an observation with this order."""
        return self._source(row)[12:24] == order_bytes(*order)

    def _source(self, number: int) -> bytes:
        at = self._sources_at + number * ROW
        return self._buffer[at : at + ROW]

    def copy(self, covers: int, imported: bytes | memoryview | None) -> Iterator[bytes | memoryview]:
        """The bytes of an index file with this content, in blocks. What is damaged keeps the CRC that tells of it."""
        told = (len(imported), crc32(imported)) if imported is not None else ()
        head = self.head._replace(covers=covers, imported=told)
        yield _header(head, self.count, len(self._sources) // ROW)
        for part in (memoryview(self._buffer)[self._tables_at : self._tables_end], memoryview(imported or b"")):
            for at in range(0, len(part), disk.BLOCK_BYTES):
                yield part[at : at + disk.BLOCK_BYTES]

    def columns(self) -> Columns:
        """The content, for a merge to cut slices from: no copies."""
        return Columns(self._digests, self._offsets, self._crcs, self._sources)


def _read_header(view: memoryview) -> tuple[Row, int]:
    size = int.from_bytes(view[len(MAGIC) : len(MAGIC) + 4], "little")
    header = view[_FIXED : _FIXED + size]
    if bytes(view[: len(MAGIC)]) != MAGIC or crc32(header) != int.from_bytes(view[_FIXED - 4 : _FIXED], "little"):
        raise IndexDamagedError("header")
    data: Row = codec.loads(bytes(header))
    if data["byteorder"] != sys.byteorder:
        raise IndexDamagedError("byte order")
    if type(data["records"]) is not int or type(data["sources"]) is not int or type(data["metadata"]) is not dict:
        raise IndexDamagedError("counts")
    return data, _FIXED + size


def build(entries: Iterable[Entry], end: int) -> Columns:
    """Columns from (digest, line offset, record CRC, source rows) in canonical order; `end` is behind the last line."""
    digests, offsets, crcs = bytearray(), array("Q"), array("I")
    sources: dict[bytes, bytearray] = {}  # by their first bytes: an object for each row would be three times the memory
    for digest, offset, crc, rows in entries:
        digests += digest
        offsets.append(offset)
        crcs.append(crc)
        for row in rows:
            sources.setdefault(row[:2], bytearray()).extend(row)
        if len(crcs) % _ENTRIES_A_REST == 0:
            disk.yield_gil()
    offsets.append(end)
    return Columns(digests, offsets, crcs, _sorted(sources))


def _sorted(parts: dict[bytes, bytearray]) -> bytearray:
    """All rows in order; takes the parts away as it goes."""
    found = bytearray()
    for key in sorted(parts):
        part = bytes(parts.pop(key))
        found += b"".join(sorted(part[at : at + ROW] for at in range(0, len(part), ROW)))
        disk.yield_gil()
    return found
