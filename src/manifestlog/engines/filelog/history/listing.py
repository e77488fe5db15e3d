"""Lists the segments of a manifest, and the files that contain them.

Invariants:

- Live segments are listed before the history, because segments only move in that direction: so none is missed.
- Only files that a compaction can have put there count. A file with a number of the live log, or a later one, is a
  stray.

It opens no files.
"""

from __future__ import annotations

import os
import sys
from bisect import bisect_right
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from manifestlog.engines.filelog import history_folder
from manifestlog.files import disk

if TYPE_CHECKING:
    from collections.abc import Iterable

    from manifestlog.names import ManifestPaths


class Listing(NamedTuple):
    """Which segments are there, and where."""

    files: dict[int, str]
    packs: list[tuple[int, int]]
    """First and last segment of each pack, without packs that a larger one replaces."""
    strays: list[str]
    """The files of the history that claim a number of the live log, or a later one: no compaction put them there."""
    begin: int = sys.maxsize
    """The first segment of the live log; no pack is read for it or a later one."""

    @classmethod
    def of(cls, paths: ManifestPaths) -> Listing:
        """List the segments: first the live ones, then the history, because segments only move that way."""
        live = {number: paths.segment(number) for number in paths.segment_numbers(_names(paths.directory))}
        names = history_folder.names(paths)
        return cls.among(paths, live, names)

    @classmethod
    def among(cls, paths: ManifestPaths, live: dict[int, str], names: list[str]) -> Listing:
        """Return the listing of these live segments and these names in the history, which were listed in this order."""
        strays = _strays(paths, names, live)
        begin = log_begin(live) if strays else sys.maxsize
        # A pack that reaches into the live log, as in a copy that was made meanwhile, counts for what is before that.
        partly = [
            os.path.basename(paths.pack(*a))
            for a in paths.pack_ranges(names)
            if a[0] < begin <= a[1] <= max(live, default=0)
        ]
        found = packs(paths, [name for name in names if name not in strays or name in partly])._replace(begin=begin)
        numbers = [n for n in paths.segment_numbers(names) if os.path.basename(paths.kept_segment(n)) not in strays]
        kept = {n: paths.kept_segment(n) for n in numbers if found.pack_of(n) is None}
        return found._replace(files=kept | live, strays=[os.path.join(paths.history, name) for name in sorted(strays)])

    def pack_of(self, number: int) -> tuple[int, int] | None:
        """Return the pack that holds this segment, or None."""
        place = bisect_right(self.packs, (number, number)) - 1
        for first, last in self.packs[max(0, place) : place + 2]:
            if first <= number <= last and number < self.begin:
                return first, last
        return None

    def has(self, number: int) -> bool:
        """Return whether this segment is there."""
        return number in self.files or self.pack_of(number) is not None

    def units(self) -> list[tuple[int, int]]:
        """Return the first and last segment of each pack, and each segment file that no pack holds, in order."""
        alone = [(number, number) for number in self.files if self.pack_of(number) is None]
        return sorted([*((first, min(last, self.begin - 1)) for first, last in self.packs), *alone])


def packs(paths: ManifestPaths, names: list[str]) -> Listing:
    """List only the packs among these names, without those that a larger one replaces."""
    ranges = paths.pack_ranges(names)
    largest = [a for a in ranges if not any(b[0] <= a[0] and a[1] <= b[1] and a != b for b in ranges)]
    return Listing({}, largest, [])


def _strays(paths: ManifestPaths, names: list[str], live: Iterable[int]) -> set[str]:
    """Return the names with a number of the live log, or a later one. Segments leave the log oldest first, so none is in both."""
    if not beyond(paths, names, log_begin(live)):
        return set()
    # Perhaps a compaction has moved segments since the live ones were listed.
    return beyond(paths, names, log_begin(paths.segment_numbers(_names(paths.directory))))


def beyond(paths: ManifestPaths, names: list[str], begin: int) -> set[str]:
    """Return the names with this number or a later one."""
    last = {os.path.basename(paths.kept_segment(number)): number for number in paths.segment_numbers(names)}
    last |= {os.path.basename(paths.pack(*pack)): pack[1] for pack in paths.pack_ranges(names)}
    return {name for name, number in last.items() if number >= begin}


def log_begin(live: Iterable[int]) -> int:
    """Return the first of the live segments that lead to the active one without a gap; beyond all numbers if there is none."""
    numbers = set(live)
    number = max(numbers, default=sys.maxsize)  # without a log, nothing says where the history ends
    while number - 1 in numbers:
        number -= 1
    return number


def _names(directory: str) -> list[str]:
    with suppress(FileNotFoundError):
        return disk.list_names(directory)
    return []
