"""Finds moved lines: intact lines of a segment that are not at the offset where they were written.

No crash moves a line; an edit of the file does. A line's CRC is seeded with its offset, and a CRC can be run backwards.
So an intact line reveals its original offset, even after other lines were removed, duplicated or inserted.

Invariants:

- A line counts as moved if it is JSON and its CRC fits the segment's salt at a plausible offset: not before its own
  `synced` mark, and within twice the file's size or that mark (at least 64 KiB). Any bytes fit some offset below 4 GiB,
  so one damaged line in 65,000 would pass, in a segment of 8 MiB one in 250. But a line that a crash damaged is not JSON.
- Two lines moved by the same distance prove no more than one: lines of another segment, whose salt differs in a few
  bits, look the same.
- A moved line is a *copy* if the same bytes are still at its original offset: nothing is lost with it.

It reads a descriptor and makes no decisions: readers of segments decide what a moved line means.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from manifestlog.engines.filelog import checksums
from manifestlog.engines.filelog.log import framing
from manifestlog.files import disk
from manifestlog.model import codec

if TYPE_CHECKING:
    from collections.abc import Iterator


_REACH_MIN = 64 << 10


class Moved(NamedTuple):
    """An intact line at offset `place` that was written at offset `origin`."""

    place: int
    origin: int
    line: bytes

    def describe(self) -> str:
        return f"lines are not where they were written: the one at byte {self.place} belongs at byte {self.origin}"


class Search:
    """Finds moved lines in the damaged ranges of one segment; fastest if called in the order of the ranges."""

    def __init__(self, fd: int, salt: int) -> None:
        self._fd = fd
        self._salt = salt
        self._shift = 0

    def within(self, start: int, end: int) -> Iterator[Moved]:
        """Yield every moved line between these offsets; the range must contain no line that is in its place."""
        reach = disk.size(self._fd)
        for at, line, synced in _candidates(disk.read(self._fd, end - start, start)):
            origin = self._origin(start + at, line)
            if synced <= origin <= max(_REACH_MIN, 2 * reach, 2 * synced):
                self._shift = origin - start - at
                yield Moved(start + at, origin, line)

    def lost_within(self, start: int, end: int) -> Iterator[Moved]:
        """Yield the moved lines that are not copies: skipping them would lose them."""
        return (moved for moved in self.within(start, end) if not self._is_copy(moved))

    def records_beyond(self, start: int) -> int:
        """Return the number of records in the intact lines after `start`, moved or not."""
        data = disk.read(self._fd, disk.size(self._fd) - start, start)
        found: dict[int, int] = {}
        position = start
        for piece in framing.split(data, start, self._salt):
            position = piece.end
            if piece.line is not None:
                found[piece.offset] = records_in(piece.line)
            else:
                found |= {one.origin: records_in(one.line) for one in self.lost_within(piece.offset, piece.end)}
        found |= {one.origin: records_in(one.line) for one in self.lost_within(position, start + len(data))}
        return sum(found.values())

    def _origin(self, place: int, line: bytes) -> int:
        # Where lines were removed or inserted, all later lines have moved by the same number of bytes.
        origin = place + self._shift
        if self._shift and origin >= 0 and checksums.line_is_intact(line, self._salt, origin):
            return origin
        return checksums.written_at(line, self._salt)

    def _is_copy(self, moved: Moved) -> bool:
        return disk.read(self._fd, len(moved.line), moved.origin) == moved.line


def _candidates(data: bytes) -> Iterator[tuple[int, bytes, int]]:
    """Yield each possible whole line: its position in `data`, its bytes, and its `synced` mark."""
    for start, ends in framing.possible_lines(data):
        for end in ends:
            members = _parsed(data[start:end])
            if members is not None:
                yield start, data[start:end], members.get("synced", 0)
                break


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        members = codec.loads(line)
    except ValueError:
        return None
    return members if isinstance(members, dict) and type(members.get("synced", 0)) is int else None


def records_in(line: bytes) -> int:
    """Return the number of records in an intact line; 0 if it is a forged one, which no session would accept."""
    members = _parsed(line) or {}
    batch = members.get("records")
    return (len(batch) if isinstance(batch, list) else 0) + ("record" in members)
