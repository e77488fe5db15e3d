"""Merging the log's changes into a canonical: the new file's bytes and the new index, range by range.

Invariants:

- What did not change is copied as bytes, never parsed and never written anew.
- The work is proportional to the changes; copying the rest is the kernel's and the C library's.

It decides nothing: which changes, which metadata and where the bytes go is the compactor's business.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple
from zlib import crc32

from manifestlog.rows import Row
from manifestlog.storage import canonical, codec, disk
from manifestlog.storage.index import DIGEST, ROW, Columns, IndexDamagedError, source_rows

if TYPE_CHECKING:
    from manifestlog.storage.base import BaseFiles
    from manifestlog.storage.overlay import Overlay

_WRITE_BYTES = 1 << 20


class Change(NamedTuple):
    """One checksum of the log: its place in the old canonical, whether it is there, and its new record if any."""

    checksum: str
    position: int
    present: bool
    raw: bytes | None


@dataclass(slots=True)
class Writer:
    """A file being written in large pieces, with the length and CRC so far."""

    fd: int
    size: int = 0
    crc: int = 0
    _parts: list[bytes] = field(default_factory=list)
    _waiting: int = 0

    def write(self, data: bytes) -> None:
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


def plan(base: BaseFiles, overlay: Overlay) -> list[Change]:
    """The log's changes in canonical order, each with its place."""
    changes = []
    for checksum in sorted(overlay.entries):
        digest = bytes.fromhex(checksum)
        position = base.index.position(digest)
        present = position < base.index.count and base.index.digest(position) == digest
        raw, _ = overlay.entries[checksum]
        if present or raw is not None:
            changes.append(Change(checksum, position, present, raw))
    return changes


def records_after(base: BaseFiles, changes: list[Change]) -> int:
    """How many records the merged canonical holds."""
    return base.index.count + sum((c.raw is not None) - c.present for c in changes)


class _Merge:
    """One run over the old canonical: copies ranges, puts lines between them, keeps the index's columns in step."""

    def __init__(self, base: BaseFiles, out: Writer) -> None:
        self._base = base
        self._old = base.index.columns()
        self._out = out
        self._first = True
        self._digests: list[bytes | memoryview] = []
        self._offsets = array("Q")
        self._crcs = array("I")

    def _separate(self) -> None:
        if not self._first:
            self._out.write(canonical.BETWEEN)
        self._first = False

    def copy(self, start: int, end: int) -> None:
        """Records `start` to `end` of the old canonical, as they are."""
        if start == end:
            return
        self._separate()
        offsets = self._old.offsets[start : end + 1]
        shift = self._out.size - offsets[0]
        for block in self._base.canonical.blocks(offsets[0], offsets[-1] - len(canonical.BETWEEN)):
            self._out.write(block)
        self._offsets.extend(array("Q", map(shift.__add__, offsets[:-1])) if shift else offsets[:-1])
        self._crcs.extend(self._old.crcs[start:end])
        self._digests.append(memoryview(self._old.digests)[start * DIGEST : end * DIGEST])

    def put(self, checksum: str, raw: bytes) -> None:
        """One record of the log."""
        self._separate()
        self._offsets.append(self._out.size)
        self._crcs.append(crc32(raw))
        self._digests.append(bytes.fromhex(checksum))
        self._out.write(canonical.entry(checksum, raw))

    def columns(self, sources: bytes) -> Columns:
        # Where the records end, as a scan of the file will say: behind the last line, or at the end of an empty file.
        self._offsets.append(self._out.size + len(canonical.BETWEEN if self._crcs else canonical.EMPTY_FOOT))
        return Columns(b"".join(self._digests), self._offsets, self._crcs, sources)

    @property
    def sources(self) -> bytes | bytearray | memoryview:
        return self._old.sources


def write(base: BaseFiles, changes: list[Change], metadata: Row, out: Writer) -> Columns:
    """Write the merged canonical to `out`, and give its index columns.

    Raises `DamagedManifestError` when a record to be replaced is not what was written.
    """
    count = records_after(base, changes)
    out.write(canonical.head(metadata, empty=count == 0))
    run = _Merge(base, out)
    done = 0
    removed: list[bytes] = []
    added: list[bytes] = []
    for change in changes:
        run.copy(done, change.position)
        done = change.position + change.present
        if change.present:
            removed += source_rows(codec.loads(base.canonical.record(base.index.place(change.position))))
        if change.raw is not None:
            run.put(change.checksum, change.raw)
            added += source_rows(codec.loads(change.raw))
    run.copy(done, base.index.count)
    columns = run.columns(_splice(run.sources, removed, added))
    out.write(canonical.FOOT if count else canonical.EMPTY_FOOT)
    out.flush()
    return columns


def _splice(old: bytes | bytearray | memoryview, removed: list[bytes], added: list[bytes]) -> bytes:
    """Sorted rows without these and with those."""
    rows = memoryview(old)
    count = len(rows) // ROW
    parts: list[bytes | memoryview] = []
    done = 0
    for row, is_new in sorted([(row, False) for row in removed] + [(row, True) for row in added]):
        at = bisect_left(range(count), row, done, key=lambda i: bytes(rows[i * ROW : (i + 1) * ROW]))
        parts.append(rows[done * ROW : at * ROW])
        done = at
        if is_new:
            parts.append(row)
        elif rows[at * ROW : (at + 1) * ROW] == row:
            done = at + 1
        else:
            raise IndexDamagedError("a record's source is not in the index")
    parts.append(rows[done * ROW :])
    return b"".join(parts)
