"""The columns of an index as they are built: rows cut out by slices, their buckets, the buckets' CRCs.

Invariants:

- A column that is merged from an old one is never copied as a whole: it is cut out of both in blocks of bounded size.
- Nothing here holds the GIL for long: whoever works through a column rests now and then.

It does not know what a row says, or how an index file is laid out (`index`).
"""

from __future__ import annotations

import sys
from array import array
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from struct import Struct
from typing import TYPE_CHECKING, NamedTuple, Union
from zlib import crc32

from manifestlog.files import disk

if TYPE_CHECKING:
    from collections.abc import Iterator

DIGEST = 32
ROW = 32
_OFFSET = 8
_CRC = 4

_BLOCK_ROWS = 4096
_ROWS_PER_BUCKET = 32
_BUCKETS_AT_ONCE = 64
_BUCKETS_A_REST = 512
_PLACE = Struct("<II")

Buffer = bytes | bytearray | memoryview
Numbers = Union["array[int]", memoryview]


class Rows:
    """Rows of one width: those of `old`, with some left out and others put between.

    `edit` is called from the front to the back. It costs some 60 bytes an edit and copies nothing.
    """

    def __init__(self, old: Buffer | Numbers, width: int) -> None:
        self._old = memoryview(old).cast("B")
        self._count = self._old_count = len(self._old) // width
        self.width = width
        self._new = bytearray()
        # Of each edit: the row that it stands before in the old column and in this one, how many new rows came before
        # its own, and how many old ones it leaves out. Edits with no row between them are one.
        self._positions, self._at, self._before, self._dropped = (array("Q") for _ in range(4))

    def __len__(self) -> int:
        return self._count

    def edit(self, position: int, *, drop: bool, row: bytes | None) -> None:
        """At `position` of the old column, leave out its row, put in a new one, or both."""
        if self._positions and position == self._positions[-1] + self._dropped[-1]:
            self._dropped[-1] += drop
        else:
            self._positions.append(position)
            self._at.append(position + self._count - self._old_count)
            self._before.append(len(self._new) // self.width)
            self._dropped.append(drop)
        if row is not None:
            self._new += row
        self._count += (row is not None) - drop

    def cut(self, start: int, end: int) -> bytes | memoryview:
        """The bytes of these rows."""
        parts: list[Buffer] = []
        number = bisect_right(self._at, start)
        row = position = start
        if number:
            row += self._put(number - 1, start, end, parts)
            position = self._old_row(number - 1, row)
        while number < len(self._at) and self._at[number] < end:
            parts.append(self._old[position * self.width : self._positions[number] * self.width])
            row = self._at[number]
            row += self._put(number, row, end, parts)
            position = self._old_row(number, row)
            number += 1
        rest = self._old[position * self.width : (position + end - row) * self.width]
        return b"".join((*parts, rest)) if parts else rest

    def _put(self, number: int, start: int, end: int, parts: list[Buffer]) -> int:
        """Take what lies between these rows of the new ones of an edit; gives how many."""
        skipped = start - self._at[number]
        first = self._before[number] + skipped
        count = min(self._before[number] + self._new_rows(number) - first, end - start)
        if count <= 0:
            return 0
        parts.append(self._new[first * self.width : (first + count) * self.width])
        return count

    def _new_rows(self, number: int) -> int:
        after = self._before[number + 1] if number + 1 < len(self._before) else len(self._new) // self.width
        return after - self._before[number]

    def _old_row(self, number: int, row: int) -> int:
        """The old row that stands at `row`, behind the new ones of an edit."""
        behind = row - self._at[number] - self._new_rows(number)
        return self._positions[number] + self._dropped[number] + behind

    def blocks(self, start: int, end: int) -> Iterator[bytes | memoryview]:
        """The bytes of these rows, in blocks of bounded size."""
        for first in range(start, end, _BLOCK_ROWS):
            yield self.cut(first, min(first + _BLOCK_ROWS, end))


def numbers_at(rows: memoryview, width: int, place: int) -> array[int]:
    """Of each row, the big-endian u64 at this place. Eight slices: a hundredth of the time of a loop over the rows."""
    found = bytearray(len(rows) // width * 8)
    for byte in range(8):
        found[7 - byte if sys.byteorder == "little" else byte :: 8] = bytes(rows[place + byte :: width])
    return array("Q", bytes(found))


@dataclass(slots=True)
class Columns:
    """The index's content, in canonical order; `offsets` has one more, behind the last line."""

    digests: Buffer
    offsets: Numbers
    crcs: Numbers
    sources: Buffer

    @property
    def count(self) -> int:
        return len(self.crcs)

    def as_rows(self) -> RowColumns:
        """The same, to be cut and edited."""
        return RowColumns(
            Rows(self.digests, DIGEST), Rows(self.offsets, _OFFSET), Rows(self.crcs, _CRC), Rows(self.sources, ROW)
        )


class RowColumns(NamedTuple):
    """The index's content as rows."""

    digests: Rows
    offsets: Rows
    crcs: Rows
    sources: Rows


@dataclass(slots=True)
class Table:
    """Rows cut into buckets by their first bits: the columns of an index's section, ready to be written."""

    bounds: array[int]
    checks: array[int]
    columns: tuple[Rows, ...]


def tables(columns: RowColumns) -> tuple[Table, Table]:
    """The records' and the sources' section."""
    digests, offsets, crcs, sources = columns
    bounds, source_bounds = bounds_of(digests), bounds_of(sources)
    return (
        Table(bounds, record_checks(bounds, digests, offsets, crcs), (digests, offsets, crcs)),
        Table(source_bounds, source_checks(source_bounds, sources), (sources,)),
    )


def bits_for(count: int) -> int:
    """By how many bits so many rows are cut into buckets."""
    return min((count // _ROWS_PER_BUCKET).bit_length(), 24)


def bounds_of(keys: Rows) -> array[int]:
    """First row of each bucket, and the end."""
    bits = bits_for(len(keys))
    bounds = array("I", [0])
    for first in range(0, len(keys), _BLOCK_ROWS):
        block = memoryview(keys.cut(first, min(first + _BLOCK_ROWS, len(keys))))
        # The first four bytes of each row as numbers, without a step of Python for each.
        heads = array("I", block.cast("I")[:: keys.width // 4].tobytes())
        if _LITTLE:
            heads.byteswap()
        low = 0
        for bucket in range(len(bounds), (heads[-1] >> (32 - bits)) + 1):
            low = bisect_left(heads, bucket << (32 - bits), low, min(low + 4 * _ROWS_PER_BUCKET, len(heads)))
            if low < len(heads) and heads[low] >> (32 - bits) < bucket:
                low = bisect_left(heads, bucket << (32 - bits), low)
            bounds.append(first + low)
        disk.yield_gil()
    bounds.extend([len(keys)] * ((1 << bits) + 1 - len(bounds)))
    return bounds


_LITTLE = array("I", [1]).tobytes()[0] == 1


def record_checks(bounds: Numbers, digests: Rows, offsets: Rows, crcs: Rows) -> array[int]:
    """A CRC for each bucket, over all that a lookup in it uses: with a bucket's offsets goes the one behind it."""
    checks = _place_checks(bounds)
    _go_on(checks, bounds, digests, 0)
    _go_on(checks, bounds, offsets, 1)
    _go_on(checks, bounds, crcs, 0)
    return checks


def source_checks(bounds: Numbers, sources: Rows) -> array[int]:
    """A CRC for each bucket of source rows."""
    checks = _place_checks(bounds)
    _go_on(checks, bounds, sources, 0)
    return checks


def place_check(start: int, end: int) -> int:
    """Where the CRC of a bucket begins: with the rows that it is of."""
    return crc32(_PLACE.pack(start, end))


def _place_checks(bounds: Numbers) -> array[int]:
    checks = array("I")
    for first in range(0, len(bounds) - 1, _BUCKETS_A_REST):
        some = bounds[first : first + _BUCKETS_A_REST + 1]
        checks.extend(map(place_check, some[:-1], some[1:]))
        disk.yield_gil()
    return checks


def _go_on(checks: array[int], bounds: Numbers, column: Rows, beyond: int) -> None:
    """Continue each bucket's CRC over a column; `beyond` rows of the next bucket belong to it as well."""
    width = column.width
    for first in range(0, len(checks), _BUCKETS_AT_ONCE):
        last = min(first + _BUCKETS_AT_ONCE, len(checks))
        base, end = bounds[first], bounds[last] + beyond
        if end - base > _BLOCK_ROWS:  # a source with very many records: all are in one bucket
            for bucket in range(first, last):
                for block in column.blocks(bounds[bucket], bounds[bucket + 1] + beyond):
                    checks[bucket] = crc32(block, checks[bucket])
        else:
            view = memoryview(column.cut(base, end))
            start = 0
            for bucket in range(first, last):
                stop = (bounds[bucket + 1] - base) * width
                checks[bucket] = crc32(view[start : stop + beyond * width], checks[bucket])
                start = stop
        if first % _BUCKETS_A_REST == 0:
            disk.yield_gil()


def record_check(digests: memoryview, offsets: memoryview, crcs: memoryview, start: int, end: int) -> int:
    """The CRC of a bucket of records."""
    check = crc32(digests[start * DIGEST : end * DIGEST], place_check(start, end))
    return crc32(crcs[start:end], crc32(offsets[start : end + 1], check))


def source_check(rows: memoryview, start: int, end: int) -> int:
    """The CRC of a bucket of source rows."""
    return crc32(rows[start * ROW : end * ROW], place_check(start, end))


def rows_add_up(found: Iterator[bytes], rows: int, total: int) -> bool:
    """Whether these rows are sorted, so many, and their hashes have this sum."""
    before = b""
    for row in found:
        if row < before:
            return False
        before = row
        total -= hash(row)
        rows -= 1
    return rows == total == 0
