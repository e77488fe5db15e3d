"""Divides a body among several connections: which bytes have arrived, and which connection fetches which.

Invariants:

- Every byte belongs to at most one share. A share ends where the next one starts.
- Bytes that no connection fetches are assigned before a share is divided.
- A share is divided only if that is worth a request: each part has at least a MiB, and the whole would take longer than
  a second. So a fast server gets no requests for bytes that have almost arrived.
- Bytes that have arrived are never assigned again.

It does no I/O. Time is an argument, in seconds of any clock that runs evenly. Several threads share an object only
under a lock of their own.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

RANGE_BYTES_MIN = 1 << 20
"""A range that is not worth a request of its own if it is shorter."""
_SECONDS_MIN = 1.0
"""The same, if it arrives sooner."""


class Range(NamedTuple):
    """The bytes from `start` to before `end`."""

    start: int
    end: int

    @property
    def length(self) -> int:
        return self.end - self.start


@dataclass(slots=True, eq=False)
class Share:
    """What one connection fetches, in order; the bytes up to `position` have arrived."""

    start: int
    position: int
    end: int
    began: float

    @property
    def remaining(self) -> int:
        return self.end - self.position

    def is_divisible(self, now: float) -> bool:
        """Return whether other connections should fetch parts of the rest."""
        if self.remaining < 2 * RANGE_BYTES_MIN:
            return False
        arrived, seconds = self.position - self.start, max(now - self.began, 1e-3)
        if not arrived:
            return seconds > _SECONDS_MIN  # its request is on its way
        return self.remaining > arrived / seconds * _SECONDS_MIN


def merged(ranges: Iterable[Range]) -> list[Range]:
    """Return the ranges in order, without empty ones; those that touch or overlap are one."""
    found: list[Range] = []
    for one in sorted(one for one in ranges if one.length > 0):
        if found and one.start <= found[-1].end:
            found[-1] = Range(found[-1].start, max(found[-1].end, one.end))
        else:
            found.append(one)
    return found


def clipped(ranges: Iterable[Range], length: int) -> list[Range]:
    """Return the ranges as far as they lie before `length`."""
    return merged(Range(start, min(end, length)) for start, end in ranges)


def prefix_of(ranges: Iterable[Range]) -> int:
    """Return how many bytes from the beginning there are without a gap."""
    first = next(iter(merged(ranges)), Range(0, 0))
    return first.end if first.start == 0 else 0


class Division:
    """A body of `length` bytes, of which some may have arrived."""

    def __init__(self, length: int, arrived: Iterable[Range] = ()) -> None:
        self.length = length
        self._arrived = clipped(arrived, length)
        self._shares: list[Share] = []

    @property
    def arrived(self) -> list[Range]:
        """What has arrived, in order."""
        return merged([*self._arrived, *(Range(share.start, share.position) for share in self._shares)])

    @property
    def bytes_arrived(self) -> int:
        return sum(one.length for one in self.arrived)

    @property
    def is_complete(self) -> bool:
        return self.bytes_arrived == self.length

    def take_from(self, position: int, now: float) -> Share:
        """Give out the gap that starts at this position: a response sends it already."""
        return self._give_out(next(gap for gap in self._gaps() if gap.start == position), now)

    def has_work(self, now: float) -> bool:
        """Return whether `take` gives anything out."""
        return any(self._gaps()) or any(share.is_divisible(now) for share in self._shares)

    def take(self, now: float, count: int = 1) -> list[Share]:
        """Give out so many gaps, the largest first, and equal parts of the largest share; fewer if that is all."""
        gaps = sorted(self._gaps(), key=lambda gap: gap.length, reverse=True)[:count]
        found = [self._give_out(gap, now) for gap in gaps]
        divisible = [share for share in self._shares if share.is_divisible(now)]
        if len(found) < count and divisible:
            largest = max(divisible, key=lambda share: share.remaining)
            found += self._divide(largest, count - len(found), now)
        return found

    def _divide(self, share: Share, count: int, now: float) -> Iterator[Share]:
        """Give out so many equal parts of a share, which keeps the first one."""
        parts = min(1 + count, share.remaining // RANGE_BYTES_MIN)
        ends = [share.position + share.remaining * n // parts for n in range(1, parts + 1)]
        share.end = ends[0]
        for start, end in itertools.pairwise(ends):
            yield self._give_out(Range(start, end), now)

    def extend(self, share: Share, limit: int) -> bool:
        """Let a finished share go on, up to the byte where its response ends; return whether it can.

        It goes on into a gap, or into a share of which nothing has arrived: that server may never send it.
        """
        if (gap := next((gap for gap in self._gaps() if gap.start == share.end), None)) is not None:
            share.end, before = max(share.end, min(gap.end, limit)), share.end
            return share.end > before
        for other in self._shares:
            if other.start == other.position == share.end < other.end <= limit:
                share.end = other.start = other.position = other.end  # all of it: a request for the rest is on its way
                return True
        return False

    def end(self, share: Share) -> None:
        """Take a share back; what has not arrived is a gap again."""
        self._shares.remove(share)
        self._arrived = merged([*self._arrived, Range(share.start, share.position)])

    def _give_out(self, gap: Range, now: float) -> Share:
        share = Share(gap.start, gap.start, gap.end, now)
        self._shares.append(share)
        return share

    def _gaps(self) -> Iterator[Range]:
        """Yield what has neither arrived nor been given out."""
        position = 0
        for taken in merged([*self._arrived, *(Range(share.start, share.end) for share in self._shares)]):
            if position < taken.start:
                yield Range(position, taken.start)
            position = taken.end
        if position < self.length:
            yield Range(position, self.length)
