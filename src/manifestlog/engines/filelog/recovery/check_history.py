"""Checks the history for damage: every kept segment, every pack, and that each follows from the one before it.

Invariants:

- Every bit is checked: the blocks and the footer of a pack by their CRCs, a segment file line by line up to its valid
  end.
- Each segment is compared with what its successor states about it, across packs, kept and live segments.
- Memory does not grow with the history: one pack is open at a time, and only a summary of each segment is kept.
- Damage here never loses a record: the canonical file contains the records of these segments.

It changes nothing. A note is a leftover, or an invalid event. Lines that an earlier repair could not save no longer
count as damage (`Kept.lost`).
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, NamedTuple
from zlib import crc32

from manifestlog import progress
from manifestlog.engines.filelog import checksums, history_folder
from manifestlog.engines.filelog.history import followers, keep
from manifestlog.engines.filelog.history.changes import describe_unreadable
from manifestlog.engines.filelog.history.listing import Listing, beyond, log_begin
from manifestlog.engines.filelog.history.pack import Kept, Pack, lost_segment
from manifestlog.engines.filelog.history.spans import header
from manifestlog.engines.filelog.log import framing, lines
from manifestlog.errors import DamagedManifestError, HistoryUnavailableError
from manifestlog.files import disk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from manifestlog.engines.reports import CheckReport
    from manifestlog.names import ManifestPaths

CANNOT_READ = "the history cannot be read here; no record is affected; `repair` needs what is missing, too"
ADVICE = "; this is history, no record is affected; `repair` keeps what is intact"


@dataclass(slots=True)
class Reading:
    """What was read of one segment; its lines are not kept."""

    kept: Kept
    file: str
    packed: bool = False
    length: int = 0
    count: int = 0
    chain: int = 0
    end: int = 0
    damage: list[framing.Piece] = field(default_factory=list)

    def take(self, pieces: Iterable[framing.Piece], start: int, end: int) -> None:
        """Count these lines of the range; the rest of it, and what is between it and the lines before it, is damage."""
        self._lose_until(start)
        for piece in pieces:
            if piece.line is not None:
                self._lose_until(piece.offset)
                self.length = self.end = piece.end
                self.count += 1
                self.chain = crc32(checksums.line_crc(piece.line), self.chain)
        self._lose_until(end)

    def _lose_until(self, offset: int) -> None:
        if offset > self.end:
            self.damage = framing.with_damage(self.damage, [framing.Piece(self.end, offset, None)])
            self.end = offset

    def fits(self, declared: lines.Summary) -> bool:
        """Return whether it is what its successor states."""
        found = lines.summarise(self.kept.number, self.length, self.count, self.chain, self.damage)
        return lines.matches(declared, found, self.damage)


class Part(NamedTuple):
    """A file with segments, and the first and last of them, as its name says."""

    first: int
    last: int
    path: str
    packed: bool = False
    live: bool = False


class HistoryCheck:
    """One pass over the history of a manifest."""

    def __init__(self, paths: ManifestPaths, ts_created: str | None, report: CheckReport) -> None:
        self._paths = paths
        self._identity = (paths.name, ts_created)
        self._report = report
        self._last: Reading | None = None
        self.damaged: set[str] = set()
        """The files with damage."""
        self.strays: list[str] = []
        """The files that are not of this log."""
        self.gaps: list[tuple[int, int]] = []
        """The first and the last of the segments that are missing, for each gap."""

    def run(self) -> None:
        """Report everything that is wrong. Raises `NewerFormatError`, and `FileNotFoundError` if a file goes meanwhile."""
        try:
            history_folder.names(self._paths)
        except HistoryUnavailableError as error:
            self._report.damage(self._paths.history, None, f"{error.cause.strerror}; {CANNOT_READ}")
            return
        self._report_strays()
        expected = 0
        found = parts(self._paths)
        for number, part in enumerate(found):
            progress.tell("checking", part.path, number, len(found))
            if expected and part.first > expected and not self._begins_anew(part):
                self.gaps.append((expected, part.first - 1))
                many = (
                    f"segments {expected} to {part.first - 1} are"
                    if part.first - 1 > expected
                    else f"segment {expected} is"
                )
                self._damage(self._paths.kept_segment(expected), None, f"{many} missing from the history", gap=True)
                self._follow(None)
            expected = part.last + 1
            for reading in self._readings(part):
                self._follow(reading.kept)
                self._last = reading
        self._follow(None)
        self._note_leftovers()

    def _report_strays(self) -> None:
        paths = self._paths
        if not Listing.of(paths).strays:
            return
        live = paths.segment_numbers(disk.list_names(paths.directory))
        names = history_folder.names(paths)
        log = [number for number in live if number == live[-1] or not keep.holds(paths, number, names)]
        for name in sorted(beyond(paths, names, log_begin(log))):
            path = os.path.join(paths.history, name)
            self.strays.append(path)
            self._report.damage(path, None, f"{keep.BEYOND}; no record is affected; `repair` sets it aside")

    def _note_leftovers(self) -> None:
        paths, note = self._paths, self._report.note
        names = history_folder.names(paths)
        for path in paths.history_temporaries(names):
            note(path, None, "unfinished file of a process that died; a later compaction removes it")
        found = Listing.of(paths)
        twice = [(paths.kept_segment(number), number) for number in paths.segment_numbers(names)]
        twice += [(paths.pack(*one), one[0]) for one in paths.pack_ranges(names) if one not in found.packs]
        for path, number in twice:
            pack = found.pack_of(number)
            if pack is None or path in found.strays:
                continue
            if paths.pack(*pack) in self.damaged:
                note(path, None, "a pack that is damaged should hold the same; `repair` keeps this")
            else:
                note(path, None, "a pack holds the same; the next compaction removes it")
        for path, meaning in followers.invalid(paths):
            note(path, None, meaning)

    def _damage(self, path: str, offset: int | None, meaning: str, *, gap: bool = False) -> None:
        if not gap:
            self.damaged.add(path)
        self._report.damage(path, offset, meaning + ADVICE)

    # -- the chain -----------------------------------------------------------------------------------------------------

    def _begins_anew(self, part: Part) -> bool:
        """Return whether a repair started this segment, so that none before it is missing."""
        try:
            if part.packed:
                return Pack(part.path).segments[0].anew
            return self._opening(part).anew
        except DamagedManifestError:
            return False

    def _opening(self, part: Part) -> Kept:
        fd = history_folder.open_file(part.path)
        try:
            return header(fd, part.path, *self._identity, part.first)
        finally:
            disk.close(fd)

    def _follow(self, kept: Kept | None) -> None:
        """Compare the segment before this one with what this one states about it; None: no segment does."""
        last, self._last = self._last, None
        if last is None or last.kept.lost:
            return
        declared = None if kept is None or kept.anew else kept.previous
        if declared is None or declared.segment != last.kept.number:
            if last.packed or not last.damage:
                return  # nothing says more about it
        elif last.fits(declared):
            return
        if not last.damage or last.packed:
            self._damage(last.file, None if last.packed else last.length, f"segment {last.kept.number} has lost lines")
            return
        for piece in last.damage:
            count = piece.end - piece.offset
            self._damage(last.file, piece.offset, f"{count} bytes of a segment are not what was written")

    # -- one file ------------------------------------------------------------------------------------------------------

    def _readings(self, part: Part) -> Iterator[Reading]:
        """Read a file, segment by segment; report its damage. Of a live segment only the first line is read."""
        try:
            if part.packed:
                yield from self._of_pack(part)
            elif part.live:
                yield Reading(self._opening(part)._replace(lost=True), part.path)
            else:
                yield self._of_file(part)
        except DamagedManifestError as error:
            if not part.live:
                self._damage(error.path, error.offset, error.reason)
            yield Reading(lost_segment(part.last), part.path)
        except FileNotFoundError:
            raise
        except OSError as error:
            if not part.live:
                self._report.damage(part.path, None, f"{error.strerror}; {CANNOT_READ}")
            yield Reading(lost_segment(part.last), part.path)

    def _of_file(self, part: Part) -> Reading:
        self._report.history_segments += 1
        fd = history_folder.open_file(part.path)
        try:
            found = Reading(header(fd, part.path, *self._identity, part.first), part.path)
            end = self._valid_end(part.first, found.kept.length)
            pieces = framing.pieces(progress.over(disk.blocks(fd, 0, end), part.path, end), found.kept.salt)
            found.take(self._noting_events(part, part.first, pieces), 0, end)
        finally:
            disk.close(fd)
        return found

    def _noting_events(self, part: Part, number: int, pieces: Iterable[framing.Piece]) -> Iterator[framing.Piece]:
        """Yield the lines of this segment, and note what is not valid in their events."""
        for piece in pieces:
            meaning = None if piece.line is None else describe_unreadable(piece.line)
            if meaning is not None and part.packed:
                self._report.note(part.path, None, f"segment {number} at byte {piece.offset}: {meaning}")
            elif meaning is not None:
                self._report.note(part.path, piece.offset, meaning)
            yield piece

    def _valid_end(self, number: int, length: int) -> int:
        """Return how much of a segment its successor counts: bytes after that are junk of a crash."""
        found = Listing.of(self._paths)
        path = found.files.get(number + 1)
        with suppress(DamagedManifestError):
            if path is not None:
                following = self._opening(Part(number + 1, number + 1, path))
            elif (pack := found.pack_of(number + 1)) is not None:
                following = Pack(self._paths.pack(*pack)).segments[0]
            else:
                return length
            if following.previous is not None and not following.anew:
                return min(length, following.previous.length)
        return length

    def _of_pack(self, part: Part) -> Iterator[Reading]:
        self._report.history_packs += 1
        pack = Pack(part.path)
        pack.refuse_foreign(*self._identity, (part.first, part.last))
        for error in pack.damaged_blocks():
            self._damage(part.path, error.offset, error.reason)
        for kept in pack.segments:
            yield read_packed(pack, kept, partial(self._noting_events, part, kept.number))


def read_packed(
    pack: Pack, kept: Kept, seen: Callable[[Iterable[framing.Piece]], Iterable[framing.Piece]] = iter
) -> Reading:
    """Read one segment of a pack, its lines through `seen`; one with lines in damaged blocks counts as lost."""
    found = Reading(kept, pack.path, packed=True)
    for block in pack.of_segment[kept.number]:
        try:
            pieces = pack.pieces(block)
        except DamagedManifestError:
            found.kept = kept._replace(lost=True)
            continue
        for segment, start, data in pieces:
            if segment == kept.number:
                found.take(seen(framing.split(data, start, kept.salt)), start, start + len(data))
    return found


def parts(paths: ManifestPaths) -> list[Part]:
    """Return the files of all segments, in order."""
    found = Listing.of(paths)
    packs = [Part(*one, path, packed=True) for one in found.packs if (path := paths.pack(*one)) not in found.strays]
    files = [Part(n, n, path, live=path == paths.segment(n)) for n, path in found.files.items()]
    return sorted(packs + files)
