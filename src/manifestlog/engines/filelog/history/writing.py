"""Writes the history of a copy: the events of another manifest as lines of segments of this one, each segment in a
pack.

Invariants:

- A segment has everything that a session would have written, from its first line to its seal. So every reader of a
  history can read it.
- A pack is read back before anything relies on it. Memory holds one block of it, and its key table.

The packs keep temporary names, until the caller that loads the manifest renames them.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, NamedTuple

from manifestlog.engines.filelog import checksums
from manifestlog.engines.filelog.history.pack import BLOCK_BYTES, BYTES_MAX, Pack, Packer, Piece
from manifestlog.engines.filelog.history.spans import kept_of
from manifestlog.engines.filelog.log import lines
from manifestlog.engines.filelog.log.lines import CanonicalId, SegmentHeader, Summary
from manifestlog.engines.filelog.log.segment import Tail
from manifestlog.files import disk, publish

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from manifestlog.engines.filelog.log.lines import LogEntry
    from manifestlog.names import ManifestPaths

_HEADER, _SEAL = b'{"op":"open",', b'{"op":"seal",'


class Packs(NamedTuple):
    """Packs under temporary names."""

    files: list[tuple[str, str]]
    """The temporary name and the name of each."""
    last: Summary | None
    """What the next segment has to say about the last one; None if there is none."""


def write(
    paths: ManifestPaths, ts_created: str, base: CanonicalId, first: int, entries: Iterable[LogEntry], bytes_max: int
) -> Packs:
    """Write these lines as segments from this number on, each of about `bytes_max` at most; sync the packs."""
    files: list[tuple[str, str]] = []
    previous = Summary(first - 1, 0, 0, checksums.hex_crc(0)) if first > 1 else None
    waiting = iter(entries)
    entry = next(waiting, None)
    while entry is not None:
        number = previous.segment + 1 if previous else 1
        header = SegmentHeader(paths.name, ts_created, number, secrets.randbits(32), previous, (base,))
        path = paths.pack(number, number)
        temporary = paths.temporary(path)
        with publish.unfinished(temporary, mode_from=paths.canonical) as fd:
            segment = _Segment(fd, header)
            while entry is not None and not segment.is_full(min(bytes_max, BYTES_MAX)):
                segment.add(lines.encode(entry, 0))
                entry = next(waiting, None)
            previous = segment.finish()
        files.append((temporary, path))
        for damage in Pack(temporary).damaged_blocks():
            raise damage
    return Packs(files, previous if files else None)


def begins_with(pack: Pack, other: Pack) -> bool:
    """Return whether a pack begins with every event of another one, if both are as `write` makes them.

    Raises `DamagedManifestError`.
    """
    bodies, others = _bodies(pack), _bodies(other)
    if not all(next(some, b"").startswith(_HEADER) for some in (bodies, others)):
        return False
    for body in others:
        if body.startswith(_SEAL):
            return next(others, None) is None
        if body != next(bodies, None):
            return False
    return False  # it has no end


def _bodies(pack: Pack) -> Iterator[bytes]:
    """Yield the lines without their CRCs, which differ from one segment to another."""
    for number in range(len(pack.blocks)):
        for piece in pack.pieces(number):
            yield from (line[: -checksums.CRC_TAIL] for line in piece.data.split(b"\n")[:-1])


class _Segment:
    """A segment that is being written as a pack."""

    def __init__(self, fd: int, header: SegmentHeader) -> None:
        self._fd = fd
        self._header = header
        self._packer = Packer(header.manifest, header.ts_created)
        self._waiting: list[bytes] = []
        self._packed = 0
        self.tail = Tail()
        self._take(lines.header_line(header))

    def is_full(self, bytes_max: int) -> bool:
        """Return whether it has so many bytes. One event fits in any case, however long the first line is."""
        return self.tail.lines > 1 and self.tail.length >= bytes_max

    def add(self, body: bytes) -> None:
        """Add a line with this body."""
        self._take(checksums.seal_line(body, self._header.salt, self.tail.length))

    def _take(self, line: bytes) -> None:
        self.tail = self.tail.after(line[:-1], self.tail.length + len(line), terminated=True)
        self._waiting.append(line)
        if self.tail.length - self._packed >= BLOCK_BYTES:
            self._pack()

    def _pack(self) -> None:
        block = self._packer.block([Piece(self._header.segment, self._packed, b"".join(self._waiting))])
        disk.append(self._fd, block)
        self._waiting, self._packed = [], self.tail.length
        disk.yield_gil()

    def _summary(self) -> Summary:
        tail = self.tail
        return lines.summarise(self._header.segment, tail.length, tail.lines, tail.chain, ())

    def finish(self) -> Summary:
        """Seal the segment, end the pack, sync it; return what the next segment has to say about it."""
        self.add(lines.seal_body(self._summary()))
        if self._waiting:
            self._pack()
        disk.append(self._fd, self._packer.footer([kept_of(self._header, self.tail.length)]))
        disk.sync_data(self._fd)
        return self._summary()
