"""Lines of a segment that stand elsewhere than where they were written: what no crash does.

A line's CRC begins with its offset, and a CRC can be run backwards. So a line that is intact tells where it was written,
wherever it stands now: behind a line that somebody took out, doubled or put in, or in the place of another.

Invariants:

- A line counts as moved if it is JSON, and its CRC fits the segment's salt at an offset where it can have been: not before
  its own `synced` mark, and within twice what the file, or that mark, reaches (or 64 KiB). Any bytes fit some offset below
  4 GiB, so one damaged line in 65,000 passes for moved, in a segment of 8 MiB one in 250. But a crash leaves none that is JSON.
- Two lines that were moved just as far prove no more than one: so do those of another segment, whose salt differs in some bits.
- A moved line is a *copy* when the same bytes stand where it was written: nothing is lost with it.

It reads a descriptor, and decides nothing: what a moved line means is for those who read segments.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from manifestlog.engines.filelog import checksums
from manifestlog.engines.filelog.log import framing
from manifestlog.files import disk
from manifestlog.model import codec

if TYPE_CHECKING:
    from collections.abc import Iterator


_REACH_MIN = 64 << 10


class Moved(NamedTuple):
    """An intact line that stands at `place`, and was written at `origin`."""

    place: int
    origin: int
    line: bytes

    def describe(self) -> str:
        return f"lines are not where they were written: the one at byte {self.place} belongs at byte {self.origin}"


class Search:
    """Looks for moved lines in the damaged stretches of one segment, best in the order in which they lie there."""

    def __init__(self, fd: int, salt: int) -> None:
        self._fd = fd
        self._salt = salt
        self._shift = 0

    def within(self, start: int, end: int) -> Iterator[Moved]:
        """Every moved line between these offsets, where no line stands that is in its place."""
        reach = disk.size(self._fd)
        for at, line, synced in _candidates(disk.read(self._fd, end - start, start)):
            origin = self._origin(start + at, line)
            if synced <= origin <= max(_REACH_MIN, 2 * reach, 2 * synced):
                self._shift = origin - start - at
                yield Moved(start + at, origin, line)

    def lost_within(self, start: int, end: int) -> Iterator[Moved]:
        """The same without copies: lines that would be lost if they were passed over."""
        return (moved for moved in self.within(start, end) if not self._is_copy(moved))

    def records_beyond(self, start: int) -> int:
        """How many records the intact lines behind `start` hold, whether they stand in their places or not."""
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
        # What stands behind one place where lines were taken out or put in, was moved by the same number of bytes.
        origin = place + self._shift
        if self._shift and origin >= 0 and checksums.line_is_intact(line, self._salt, origin):
            return origin
        return checksums.written_at(line, self._salt)

    def _is_copy(self, moved: Moved) -> bool:
        return disk.read(self._fd, len(moved.line), moved.origin) == moved.line


def _candidates(data: bytes) -> Iterator[tuple[int, bytes, int]]:
    """What looks like a whole line, its place in `data`, and its `synced` mark."""
    starts = [found.start() for found in framing.LINE_START.finditer(data)]
    for start, stop in pairwise([*starts, len(data)]):
        ends = [found.end() for found in framing.LINE_END.finditer(data, start, stop)]
        for end in ends[:-5:-1]:
            members = _parsed(data[start:end])
            if members is not None:
                yield start, data[start:end], members.get("synced", 0)
                break


def _parsed(line: bytes) -> dict[str, int] | None:
    try:
        members = codec.loads(line)
    except ValueError:
        return None
    return members if isinstance(members, dict) and type(members.get("synced", 0)) is int else None


def records_in(line: bytes) -> int:
    """How many records an intact line holds."""
    members = codec.loads(line)
    return len(members.get("records", ())) + ("record" in members)
