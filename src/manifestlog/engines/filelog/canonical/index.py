"""The index of a canonical file: finds the record of a checksum and the records of a source.

::

    magic · header length · header CRC · header (JSON: stamp, metadata, counts)
    records    bounds u32 × (2^bits + 1) · checks u32 × 2^bits     fan-out by the first bits of the checksum
               digests 32 B × n, sorted · offsets u64 × (n + 1) · crcs u32 × n
    sources    bounds u32 × (2^bits + 1) · checks u32 × 2^bits     fan-out by the first bits of the hash
               rows 32 B × m, sorted: hash of source_id 8 · of dataset 4 · time in µs 8 · tie 4 · digest prefix 8
    imported   only for another tool's file: its canonical bytes, to which the offsets refer

Invariants:

- It is derived data: a missing, stale or damaged index costs a scan of the canonical, never an error or a wrong answer.
- It is replaced by a rename and never written in place, so a map of it is never truncated.
- Each bucket has a CRC over everything that a lookup reads, checked at first use. Opening reads only the header.
- Rows are big-endian, so their byte order is the lookup order: by source, dataset, then time.

It holds no records and does not know the log.
"""

from __future__ import annotations

import sys
from bisect import bisect_left, bisect_right
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
    from collections.abc import Iterator

    from manifestlog.engines.filelog.canonical.columns import Block

MAGIC = b"MLINDEX1"
_LINEAR_MAX = 128
_CHECKSUMS_AT_ONCE = 512
_FIXED = len(MAGIC) + 8


class IndexDamagedError(Exception):
    """The index is damaged; the session then scans the canonical. Never reaches a caller of the library."""


class Span(NamedTuple):
    """Some consecutive records; `offsets` has one extra entry, the end of the last line."""

    digests: bytes
    offsets: list[int]
    crcs: list[int]


class Head(NamedTuple):
    """The canonical that an index belongs to, and what a reader needs before the first lookup."""

    stamp: disk.Stamp
    crc: str
    covers: int
    metadata: Row
    imported: tuple[int, ...] = ()
    """For another tool's file: (size in bytes, CRC) of its canonical bytes, which follow the tables."""


def encode(columns: Columns | RowColumns, head: Head) -> Iterator[bytes | memoryview]:
    """Yield the bytes of an index file, in parts of bounded size."""
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
    """An index, in memory or mapped. Lookups raise `IndexDamagedError` if they read a damaged bucket."""

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
        # One bit per bucket: with millions of records, clearing a byte each would take longer than the rest of opening.
        self._checked = bytearray(len(self._checks) + 7 >> 3)
        self._sources_checked = bytearray(len(self._source_checks) + 7 >> 3)

    @classmethod
    def open(cls, path: str) -> Index | None:
        """Map the index at `path`; return None if there is none or its header is damaged."""
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

    @property
    def size(self) -> int:
        """The size in bytes of the file, without an imported one."""
        return self._tables_end

    def find(self, digest: bytes) -> int:
        """Return the number of the record with this digest, in canonical order, or -1."""
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
        """Return the position of the record with this digest, or where it would be inserted."""
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
        """Return the position of this source row from `after` on, or where it would be inserted; and whether it exists."""
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
        """Check every bucket; raises `IndexDamagedError`. A merge needs it, or damage would get a valid CRC."""
        digests, offsets, crcs, sources = self.columns().as_rows()
        for bounds, count in ((self._bounds, self.count), (self._source_bounds, len(sources))):
            # First of all: a CRC up to a bound that is damaged would look for billions of rows.
            if any(not a <= b <= count for a, b in pairwise(bounds)):
                raise IndexDamagedError("a bound")
        if self._checks != record_checks(self._bounds, digests, offsets, crcs):
            raise IndexDamagedError("a bucket")
        if self._source_checks != source_checks(self._source_bounds, sources):
            raise IndexDamagedError("a source bucket")

    def is_as_written(self) -> bool:
        """Return whether every byte equals what `encode` writes, including bytes that no lookup reads."""
        view = memoryview(self._buffer)
        position = 0
        for part in encode(Columns(self._digests, self._offsets, self._crcs, self._sources), self.head):
            if view[position : position + len(part)] != part:
                return False
            position += len(part)
        return position == self._tables_end

    def has_block(self, first: int, block: Block) -> bool:
        """Return whether the records from number `first` on are those of the block, with its offsets and CRCs."""
        end = first + len(block.crcs)
        return (
            self._digests[first * DIGEST : end * DIGEST] == block.digests
            and self._offsets[first:end] == block.offsets
            and self._crcs[first:end] == block.crcs
        )

    def ends_at(self, count: int, end: int) -> bool:
        """Return whether it has this number of records and the last one ends at this offset."""
        return self.count == count and self._offsets[count] == end

    def source_rows(self) -> Iterator[bytes]:
        """Iterate over all source rows, as stored."""
        return map(self._source, range(len(self._sources) // ROW))

    def digest(self, number: int) -> bytes:
        at = self._digests_at + number * DIGEST
        return self._buffer[at : at + DIGEST]

    def place(self, number: int) -> tuple[int, int, int]:
        """Return (offset of the line, offset of the next line, CRC of the record's bytes)."""
        return self._offsets[number], self._offsets[number + 1], self._crcs[number]

    def checksums(self) -> Iterator[str]:
        """Iterate over all checksums, sorted; raises `IndexDamagedError` before the first."""
        self.check_all()
        return self.checked_checksums()

    def checked_checksums(self) -> Iterator[str]:
        """Iterate over all checksums of an index that has passed `check_all`."""
        for first in range(0, self.count, _CHECKSUMS_AT_ONCE):
            digits = self._digests[first * DIGEST : (first + _CHECKSUMS_AT_ONCE) * DIGEST].hex()
            yield from [digits[at : at + 2 * DIGEST] for at in range(0, len(digits), 2 * DIGEST)]

    def spans(self, size: int) -> Iterator[Span]:
        """Iterate over all records, in spans whose lines take up to `size` bytes, or that are one record."""
        first = 0
        while first < self.count:
            end = bisect_right(self._offsets, self._offsets[first] + size, first + 1, self.count + 1)
            last = max(first + 1, end - 1)
            digests = bytes(self._digests[first * DIGEST : last * DIGEST])
            yield Span(digests, self._offsets[first : last + 1].tolist(), self._crcs[first:last].tolist())
            first = last

    def has_source(self, source_id: str) -> bool:
        """Return whether a source may have records; a hash collision gives a false positive."""
        key = source_hash(source_id)
        row, end = self._rows_from(key)
        return row < end and self._source(row).startswith(key)

    def _rows_from(self, key: bytes) -> tuple[int, int]:
        """Return the first row that begins with `key`, if any, and the end of its bucket."""
        start, end = self._source_bucket(int.from_bytes(key[:4], "big") >> (32 - self._source_bits))
        return self._first(key, start, end, self._sources_at), end

    def groups(self, source_id: str, dataset: str | None) -> list[range]:
        """Return the rows of a source, one range per dataset, each ordered by time."""
        key = source_hash(source_id)
        if dataset is not None:
            key += short_hash(dataset, 4)
        found = []
        row, end = self._rows_from(key)
        while row < end and self._source(row).startswith(key):
            group = self._source(row)[:12]
            after = row + 1
            if after < end and self._source(after).startswith(group):
                # The key is greater than any time of this source and dataset.
                after = bisect_left(range(end), group + b"\xff" * 9, after, key=self._source)
            found.append(range(row, after))
            row = after
        return found

    def _first(self, key: bytes, start: int, end: int, rows_at: int) -> int:
        """Return the first of these rows, digests or sources, that begins with `key`, otherwise one that is not smaller."""
        if end - start > _LINEAR_MAX:
            return bisect_left(range(end), key, start, key=self.digest if rows_at == self._digests_at else self._source)
        first, last = rows_at + start * ROW, rows_at + end * ROW
        found = self._buffer.find(key, first, last)
        while found >= 0 and (found - first) % ROW:
            found = self._buffer.find(key, found + 1, last)
        return end if found < 0 else start + (found - first) // ROW

    def may_have(self, group: range, dataset: str) -> bool:
        """Return whether a group from `groups` is of this dataset; a hash collision gives a false positive."""
        return self._source(group[0])[8:12] == short_hash(dataset, 4)

    def at(self, group: range, moment: str) -> range:
        """Return the rows of a group from `groups` with exactly this time."""
        newest = self._source(group[-1])
        first = newest[:12] + order_bytes(moment, 0)
        if newest < first:  # most events are newer than all that is known
            return range(0)
        start = bisect_left(range(group.stop), first, group.start, key=self._source)
        last = newest[:12] + order_bytes(moment, TIE_MAX) + b"\xff" * 9
        return range(start, bisect_left(range(group.stop), last, start, key=self._source))

    def later_than(self, moment: str) -> Iterator[int]:
        """Iterate over the source rows with a later time, of any source."""
        self.check_all()
        key = int.from_bytes(order_bytes(moment, 0)[:8], "big")
        times = numbers_at(self._sources, ROW, 12)
        return (row for row, when in enumerate(times) if when > key) if max(times, default=0) > key else iter(())

    def latest_rows(self, after: str, until: str) -> Iterator[int]:
        """Iterate over the source rows after the one time and not after the other, of any source, the latest first.

        Only for an index that was checked whole.
        """
        first, last = (int.from_bytes(order_bytes(one, 0)[:8], "big") for one in (after, until))
        times = numbers_at(self._sources, ROW, 12)
        newest = max(times, default=0)
        if newest > last:
            newest = max((when for when in times if when <= last), default=0)
        if newest > first:
            yield times.index(newest)  # nearly always the answer, and sorting takes long
            some = (row for row, when in enumerate(times) if first < when <= last)
            yield from sorted(some, key=times.__getitem__, reverse=True)

    def named(self, row: int) -> Iterator[int]:
        """Yield the records that a source row may refer to; hashes collide, so the caller checks them (`is_of_time`)."""
        prefix = self._source(row)[24:]
        start, end = self._bucket(int.from_bytes(prefix[:4], "big") >> (32 - self._bits))
        number = self._first(prefix, start, end, self._digests_at)
        while number < end and self.digest(number).startswith(prefix):
            yield number
            number += 1

    def is_of_time(self, row: int, order: Order) -> bool:
        """Return whether a source row belongs to an observation with this order."""
        return self._source(row)[12:24] == order_bytes(*order)

    def _source(self, number: int) -> bytes:
        at = self._sources_at + number * ROW
        return self._buffer[at : at + ROW]

    def copy(self, covers: int, imported: bytes | memoryview | None) -> Iterator[bytes | memoryview]:
        """Yield the bytes of an index file with this content, in blocks. Damage keeps its old CRC, so it stays visible."""
        told = (len(imported), crc32(imported)) if imported is not None else ()
        head = self.head._replace(covers=covers, imported=told)
        yield _header(head, self.count, len(self._sources) // ROW)
        for part in (memoryview(self._buffer)[self._tables_at : self._tables_end], memoryview(imported or b"")):
            for at in range(0, len(part), disk.BLOCK_BYTES):
                yield part[at : at + disk.BLOCK_BYTES]

    def columns(self) -> Columns:
        """Return the content without copying it, for a merge to slice."""
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
