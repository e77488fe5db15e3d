"""Merges the log's changes into a canonical file: writes the new file and builds the new index, range by range.

Invariants:

- Unchanged records are copied as bytes; they are never parsed or encoded again.
- The work in Python is proportional to the changes; the kernel and the C library copy the rest.
- Memory does not grow with the old file: it is read once, in order and in blocks, and no index column is copied.
- Other threads of the process keep running: nothing here holds the GIL for much longer than a millisecond.

It makes no decisions: the compaction provides changes, metadata and the output.
"""

from __future__ import annotations

import sys
from array import array
from typing import TYPE_CHECKING, NamedTuple
from zlib import crc32

from manifestlog.engines.filelog.canonical.columns import RowColumns, Rows
from manifestlog.engines.filelog.canonical.index import IndexDamagedError
from manifestlog.engines.filelog.canonical.source_rows import source_rows
from manifestlog.files import disk
from manifestlog.model import codec, document
from manifestlog.model.rows import Row

if TYPE_CHECKING:
    from collections.abc import Iterator

    from manifestlog.engines.filelog.canonical.files import CanonicalFiles
    from manifestlog.engines.filelog.canonical.scan import Canonical
    from manifestlog.engines.filelog.canonical.write import Writer
    from manifestlog.engines.filelog.overlay import Overlay

_CHANGES_A_REST = 8
_OFFSETS_AT_ONCE = 1024
_ONES = b"\1\0\0\0\0\0\0\0" * _OFFSETS_AT_ONCE


class Change(NamedTuple):
    """One checksum of the log: its position in the old canonical, whether it is there, and its new record, if any."""

    checksum: str
    position: int
    present: bool
    raw: bytes | None


def plan(base: CanonicalFiles, overlay: Overlay) -> list[Change]:
    """Return the log's changes in canonical order, each with its position."""
    changes = []
    for number, checksum in enumerate(sorted(overlay.entries)):
        if number % (8 * _CHANGES_A_REST) == 0:
            disk.yield_gil()
        digest = bytes.fromhex(checksum)
        position = base.index.position(digest)
        present = position < base.index.count and base.index.digest(position) == digest
        raw, _ = overlay.entries[checksum]
        if present or raw is not None:
            changes.append(Change(checksum, position, present, raw))
    return changes


def records_after(base: CanonicalFiles, changes: list[Change]) -> int:
    """Return the number of records in the merged canonical."""
    return base.index.count + sum((c.raw is not None) - c.present for c in changes)


class _Old:
    """The old canonical, read once and in order; `crc` covers everything read so far."""

    def __init__(self, source: Canonical, end: int) -> None:
        self._blocks = source.blocks(0, end)
        self._block = memoryview(b"")
        self._start = 0
        self.crc = 0

    def _next(self) -> bool:
        block = next(self._blocks, None)
        if block is None:
            return False
        self._start += len(self._block)
        self._block = memoryview(block)
        self.crc = crc32(block, self.crc)
        return True

    def take(self, start: int, end: int) -> Iterator[memoryview]:
        """Yield the bytes from `start` to `end`, in increasing order over all calls; fewer only if the file has shrunk."""
        while start < end:
            piece = self._block[start - self._start : end - self._start]
            if piece:
                yield piece
                start += len(piece)
            elif not self._next():
                return

    def finish(self) -> None:
        """Read the rest of the file, to complete the CRC."""
        while self._next():
            pass


class _Merge:
    """One pass over the old canonical: copies ranges, inserts lines between them and updates the index columns."""

    def __init__(self, base: CanonicalFiles, out: Writer) -> None:
        columns, memory = base.index.columns(), base.canonical.memory
        rows = columns.as_rows()
        self.old = _Old(base.canonical, base.canonical_bytes if memory is None else len(memory))
        self._places = memoryview(columns.offsets)
        self._out = out
        self._first = True
        self._digests = rows.digests
        self._offsets = array("Q")
        self._crcs = rows.crcs

    def _separate(self) -> None:
        if not self._first:
            self._out.write(document.BETWEEN)
        self._first = False

    def copy(self, start: int, end: int) -> None:
        """Copy records `start` to `end` of the old canonical unchanged."""
        if start == end:
            return
        self._separate()
        first, last = self._places[start], self._places[end]
        shift = self._out.size - first
        for block in self.old.take(first, last - len(document.BETWEEN)):
            self._out.write(block)
        for at in range(start, end, _OFFSETS_AT_ONCE):
            self._offsets.frombytes(_shifted(self._places[at : min(at + _OFFSETS_AT_ONCE, end)], shift))

    def change(self, change: Change) -> None:
        """Drop a record of the old canonical, insert one of the log, or both."""
        digest = crc = None
        if change.raw is not None:
            self._separate()
            self._offsets.append(self._out.size)
            self._out.write(document.entry(change.checksum, change.raw))
            digest, crc = bytes.fromhex(change.checksum), crc32(change.raw).to_bytes(4, sys.byteorder)
        self._digests.edit(change.position, drop=change.present, row=digest)
        self._crcs.edit(change.position, drop=change.present, row=crc)

    def columns(self, sources: Rows) -> RowColumns:
        """Return the columns of the new index, after reading the rest of the old file for its CRC."""
        self.old.finish()
        # The end of the records, as a scan of the file finds it: after the last line, or at the end of an empty file.
        self._offsets.append(self._out.size + len(document.BETWEEN if self._offsets else document.EMPTY_FOOT))
        return RowColumns(self._digests, Rows(self._offsets, 8), self._crcs, sources)


def _shifted(offsets: memoryview, shift: int) -> bytes:
    """Add `shift` to each offset, as one long number: a third of the time of a loop, and no offset overflows."""
    size = 8 * len(offsets)
    each = int.from_bytes(_ONES[:size], "little")
    return (int.from_bytes(offsets.tobytes(), sys.byteorder) + each * shift).to_bytes(size, sys.byteorder)


class Merged(NamedTuple):
    """The result of a merge: the columns of the new index, and the CRC of the old file as it was read."""

    columns: RowColumns
    old_crc: int


def write(base: CanonicalFiles, changes: list[Change], metadata: Row, out: Writer) -> Merged:
    """Write the merged canonical to `out`; it is not synced.

    Raises `DamagedManifestError` if a record to be replaced is damaged. The caller checks the rest of the old file by
    the returned CRC.
    """
    count = records_after(base, changes)
    out.write(document.head(metadata, empty=count == 0))
    run = _Merge(base, out)
    done = 0
    sources: list[tuple[bytes, bool]] = []
    for number, change in enumerate(changes):
        run.copy(done, change.position)
        done = change.position + change.present
        if change.present:
            raw = base.canonical.record(base.index.place(change.position))
            sources += [(row, False) for row in source_rows(codec.loads(raw))]
        if change.raw is not None:
            sources += [(row, True) for row in source_rows(codec.loads(change.raw))]
        run.change(change)
        if number % _CHANGES_A_REST == 0:
            disk.yield_gil()
    run.copy(done, base.index.count)
    columns = run.columns(_splice(base, sources))
    out.write(document.foot(empty=count == 0))
    out.flush()
    return Merged(columns, run.old.crc)


def _splice(base: CanonicalFiles, changes: list[tuple[bytes, bool]]) -> Rows:
    """Return the source rows, with the rows marked true inserted and those marked false dropped."""
    spliced = base.index.columns().as_rows().sources
    changes.sort()
    done = 0
    for number, (row, is_new) in enumerate(changes):
        at, found = base.index.source_position(row, done)
        if not is_new and not found:
            raise IndexDamagedError("a record's source is not in the index")
        spliced.edit(at, drop=not is_new, row=row if is_new else None)
        done = at + (not is_new)  # a dropped row may be inserted again, and then comes after its old position
        if number % (8 * _CHANGES_A_REST) == 0:
            disk.yield_gil()
    return spliced
