"""Repairs the history: what is intact of a damaged file becomes a pack, and the original goes to quarantine.

::

    (1) copy every damaged file to the folder in `quarantine/`, with the report; sync
    (2) for each damaged file and each gap: write a pack of what is intact, read it back, rename it into place, sync
    (3) remove the damaged segment files that such a pack holds now

Invariants:

- The live ledger is not touched, and what is intact of the history stays in it, at its own offsets.
- A segment with missing lines says so (`Kept.lost`), so no answer about an earlier time is guessed across it.
- A crash between the steps leaves damage that the next repair finds, or a leftover that the next compaction removes.
- After it `check` finds no damage, so a second repair changes nothing.

`check_history` finds the damage. The caller holds both locks.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from manifestlog.engines.filelog import checksums
from manifestlog.engines.filelog.canonical import files
from manifestlog.engines.filelog.history import compression
from manifestlog.engines.filelog.history.pack import BLOCK_BYTES, Kept, Pack, Packer, Piece, grouped, lost_segment
from manifestlog.engines.filelog.history.spans import Segments, header, kept_of
from manifestlog.engines.filelog.log import framing, lines
from manifestlog.engines.filelog.recovery import quarantine
from manifestlog.engines.filelog.recovery.check_history import HistoryCheck, Part, Reading, parts, read_packed
from manifestlog.engines.reports import CheckReport, Loss, RepairOutcome, RepairReport
from manifestlog.errors import DamagedManifestError
from manifestlog.files import disk, publish

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from manifestlog.names import ManifestPaths

_FRAME_MAGIC = b"\x28\xb5\x2f\xfd"
_FRAME_BYTES_MAX = 64 << 20


class Saved(NamedTuple):
    """What is intact of a file: its segments in order, and their lines; `pieces` can be read once."""

    kept: list[Kept]
    pieces: Iterable[list[Piece]]


def write_pack(paths: ManifestPaths, ts_created: str, saved: Saved) -> None:
    """Write a pack of this; on return it is read back and survives a power cut."""
    path = paths.pack(saved.kept[0].number, saved.kept[-1].number)
    packer = Packer(paths.name, ts_created)

    def blocks() -> Iterator[bytes]:
        for pieces in saved.pieces:
            yield packer.block(pieces)
        yield packer.footer(saved.kept)

    target = publish.Target(paths.temporary(path), path, paths.history)
    publish.publish(target, blocks(), mode_from=paths.canonical)
    for damage in Pack(path).damaged_blocks():
        raise damage


def save_gap(first: int, last: int) -> Saved:
    """Return what is left of segments that are missing: that they were there."""
    return Saved([lost_segment(number) for number in range(first, last + 1)], [])


# -- a segment file ----------------------------------------------------------------------------------------------------


def save_file(path: str, identity: tuple[str, str], number: int, declared: lines.Summary | None) -> Saved:
    """Return what is intact of a segment file; `declared` is what its successor states about it."""
    fd = disk.open_read(path)
    try:
        found = Reading(header(fd, path, *identity, number), path)
        end = found.kept.length if declared is None else min(found.kept.length, declared.length)
        found.take(framing.pieces(disk.blocks(fd, 0, end), found.kept.salt), 0, end)
    except DamagedManifestError:
        return save_gap(number, number)
    finally:
        disk.close(fd)
    lost = bool(found.damage) if declared is None else not found.fits(declared)
    kept = found.kept._replace(length=found.length, lost=lost)
    return Saved([kept], grouped(_lines_of(path, kept)))


def _lines_of(path: str, kept: Kept) -> Iterator[Piece]:
    fd = disk.open_read(path)
    try:
        found = framing.pieces(disk.blocks(fd, 0, kept.length), kept.salt)
        yield from _joined(kept.number, found)
    finally:
        disk.close(fd)


def _joined(number: int, found: Iterable[framing.Piece]) -> Iterator[Piece]:
    """Join adjacent intact lines to pieces of less than a block."""
    start = end = 0
    waiting: list[bytes] = []
    for piece in found:
        if piece.line is None:
            continue
        if waiting and (piece.offset != end or end - start > BLOCK_BYTES // 4):
            yield Piece(number, start, b"".join(waiting))
            waiting = []
        start = start if waiting else piece.offset
        waiting.append(piece.line + b"\n" * piece.terminated)
        end = piece.end
    if waiting:
        yield Piece(number, start, b"".join(waiting))


# -- a pack ------------------------------------------------------------------------------------------------------------


def save_pack(path: str, identity: tuple[str, str], first: int, last: int) -> Saved:
    """Return what is intact of a pack: its intact blocks, also if its footer is damaged."""
    try:
        pack = Pack(path)
    except DamagedManifestError:
        return _save_blocks(path, identity, first, last)
    try:
        pack.refuse_foreign(*identity, (first, last))
    except DamagedManifestError:
        return save_gap(first, last)
    return Saved(_checked([read_packed(pack, kept) for kept in pack.segments]), _intact(pack))


def _checked(found: list[Reading]) -> list[Kept]:
    """Mark the segments that are not what their successors state."""
    kept = [one.kept for one in found]
    for number, (one, following) in enumerate(zip(found, kept[1:], strict=False)):
        declared = following.previous
        if declared is not None and not following.anew and not one.fits(declared):
            kept[number] = kept[number]._replace(lost=True)
    return kept


def _intact(pack: Pack) -> Iterator[list[Piece]]:
    for number in range(len(pack.blocks)):
        try:
            yield pack.pieces(number)
        except DamagedManifestError:
            continue


def _save_blocks(path: str, identity: tuple[str, str], first: int, last: int) -> Saved:
    """Return the intact lines of a pack without its footer: each follows from its segment's first line."""
    found: dict[int, Reading] = {}
    for pieces in _unlisted(path, identity, found):
        for piece in pieces:
            reading = found[piece.segment]
            end = piece.start + len(piece.data)
            reading.take(framing.split(piece.data, piece.start, reading.kept.salt), piece.start, end)
    numbers = range(first, last + 1)
    kept = _checked([found.get(number) or Reading(lost_segment(number), path) for number in numbers])
    kept[-1] = kept[-1]._replace(lost=True)  # nothing here says where it ended
    return Saved([one._replace(length=found[one.number].length) if one.number in found else one for one in kept],
                 (some for some in _unlisted(path, identity, {}) if some))  # fmt: skip


def _unlisted(path: str, identity: tuple[str, str], found: dict[int, Reading]) -> Iterator[list[Piece]]:
    """Yield the lines of every frame, by the segment whose first line came last; note the segments in `found`."""
    current: Kept | None = None
    offset = 0
    for data in _frames(path):
        pieces: list[Piece] = []
        for line in data.splitlines(keepends=True):
            opening = lines.decode_header(line.rstrip(b"\n"), path) if line.startswith(b'{"op":"open"') else None
            if opening is not None and (opening.manifest, opening.ts_created) == identity:
                current, offset = kept_of(opening, 0), 0
                found[current.number] = Reading(current, path, packed=True)
            if current is None or not checksums.line_is_intact(line.rstrip(b"\n"), current.salt, offset):
                current = None  # lines are missing, and with them the offset of the next
                continue
            pieces.append(Piece(current.number, offset, line))
            offset += len(line)
        yield _merged(pieces)


def _merged(pieces: list[Piece]) -> list[Piece]:
    """Join pieces that follow each other in a segment."""
    found: list[list[Piece]] = []
    for piece in pieces:
        last = found[-1][-1] if found else None
        if last is not None and (last.segment, last.start + len(last.data)) == (piece.segment, piece.start):
            found[-1].append(piece)
        else:
            found.append([piece])
    return [some[0]._replace(data=b"".join(piece.data for piece in some)) for some in found]


def _frames(path: str) -> Iterator[bytes]:
    """Yield the data of every frame that can be read."""
    fd = disk.open_read(path)
    try:
        data = disk.read(fd, disk.size(fd), 0)
    finally:
        disk.close(fd)
    position = 0
    while (position := data.find(_FRAME_MAGIC, position)) >= 0:
        try:
            size = compression.frame_size(memoryview(data)[position:])
            yield compression.decompress(data[position : position + size], _FRAME_BYTES_MAX)
            position += size
        except ValueError:
            position += len(_FRAME_MAGIC)


# -- all of it ---------------------------------------------------------------------------------------------------------


def repair_history(paths: ManifestPaths, report: RepairReport) -> None:
    """Repair the history of a manifest whose ledger is sound, steps (1) to (3); add to the report of its repair."""
    repair = _find(paths)
    if not repair.needed:
        return
    folder = report.quarantine or quarantine.make_folder(paths)
    report.lost += repair.losses()
    report.originals += repair.originals
    report.outcome, report.quarantine = RepairOutcome.REPAIRED, folder
    quarantine.write_report(paths, folder, report, quarantine.written(folder), paths.canonical)
    repair.run(folder)


def note_losses(paths: ManifestPaths, report: RepairReport) -> None:
    """Add what a repair of the history would lose, without changing anything."""
    repair = _find(paths)
    report.lost += repair.losses()
    report.originals += repair.originals


def _find(paths: ManifestPaths) -> _HistoryRepair:
    created = str(files.open_base(paths).metadata["ts_created"])
    found = HistoryCheck(paths, created, CheckReport(paths.canonical))
    found.run()
    return _HistoryRepair(paths, created, found)


class _HistoryRepair:
    """One repair of the history."""

    def __init__(self, paths: ManifestPaths, ts_created: str, found: HistoryCheck) -> None:
        self._paths = paths
        self._identity = (paths.name, ts_created)
        self._found = found

    @property
    def needed(self) -> bool:
        return bool(self._found.damaged or self._found.gaps)

    @property
    def originals(self) -> list[str]:
        """The names of the files that go to quarantine."""
        return sorted(map(os.path.basename, self._found.damaged))

    def losses(self) -> Iterator[Loss]:
        """Yield what cannot be saved, file by file."""
        for part, saved in self._all():
            numbers = [kept.number for kept in saved.kept if kept.lost]
            if numbers:
                path = part.path or self._paths.kept_segment(part.first)
                yield Loss(
                    path, None, None, f"events of {_named(numbers)}; they are history, no record is affected", []
                )

    def run(self, folder: str) -> None:
        """Write back what is intact, with the originals in this folder."""
        for path in sorted(self._found.damaged):
            quarantine.copy(path, os.path.join(folder, os.path.basename(path)))
        for directory in (folder, self._paths.quarantine, self._paths.directory):
            disk.sync_directory(directory)
        for part, saved in self._all():
            if saved.kept:
                write_pack(self._paths, self._identity[1], saved)
            if part.path and not (part.packed and saved.kept):
                disk.remove(part.path)
        disk.sync_directory(self._paths.history)

    def _all(self) -> Iterator[tuple[Part, Saved]]:
        for part in parts(self._paths):
            if part.path not in self._found.damaged:
                continue
            if part.packed:
                yield from self._of_pack(part)
            else:
                declared = self._declared(part.first)
                yield part, save_file(part.path, self._identity, part.first, declared)
        for first, last in self._found.gaps:
            yield Part(first, last, ""), save_gap(first, last)

    def _of_pack(self, part: Part) -> Iterator[tuple[Part, Saved]]:
        """Yield what replaces a pack. One that says nothing must not stand for segments that are there, or still to come."""
        saved = save_pack(part.path, self._identity, part.first, part.last)
        files, end = self._beside()
        missing = [n for n in range(part.first, min(part.last + 1, end)) if n not in files]
        if len(missing) == len(saved.kept) or not all(kept.lost for kept in saved.kept):
            yield part, saved
            return
        for first, last in _runs(missing):
            yield Part(first, last, ""), save_gap(first, last)
        yield part, Saved([], [])

    def _beside(self) -> tuple[set[int], int]:
        """Return the segments that have files of their own, and the number of the active one."""
        live = self._paths.segment_numbers(disk.list_names(self._paths.directory))
        return {*live, *self._paths.segment_numbers(disk.list_names(self._paths.history))}, max(live, default=0)

    def _declared(self, number: int) -> lines.Summary | None:
        """Return what the next segment states about this one, if it can be read."""
        segments = Segments(self._paths, self._identity[1], None)
        if not segments.has(number + 1):
            return None
        try:
            following = segments.opening(number + 1)
        except DamagedManifestError:
            return None
        return None if following.anew else following.previous


def keep_events(paths: ManifestPaths, folder: str) -> None:
    """Keep the intact events of the segments that a repair of the ledger has moved to this folder, as packs."""
    there = paths.segment_numbers(disk.list_names(folder))
    if not there:
        return
    if not disk.exists(paths.history):
        disk.make_directory(paths.history, mode_from=paths.directory)
        disk.sync_directory(paths.directory)
    held = {number for part in parts(paths) if not part.live for number in range(part.first, part.last + 1)}
    first = max((number for number in held if number < there[0]), default=there[0] - 1) + 1
    run: list[int] = []
    for number in range(first, there[-1] + 2):
        if number not in held and number <= there[-1]:
            run.append(number)
        elif run:
            _keep_run(paths, folder, run)
            run = []


def _keep_run(paths: ManifestPaths, folder: str, run: list[int]) -> None:
    """Write a pack of these segments in the folder; of one that is missing there nothing is left."""
    saved: list[Saved] = []
    created = ""
    for number in run:
        path, following = (os.path.join(folder, os.path.basename(paths.segment(n))) for n in (number, number + 1))
        opening, declared = _opening(path), _opening(following)
        if opening is None or (opening.manifest, opening.segment) != (paths.name, number):
            saved.append(save_gap(number, number))
        else:
            created = opening.ts_created
            saved.append(save_file(path, (paths.name, created), number, declared and declared.previous))
    if created:
        kept = [one for some in saved for one in some.kept]
        write_pack(paths, created, Saved(kept, (pieces for some in saved for pieces in some.pieces)))


def _opening(path: str) -> lines.SegmentHeader | None:
    if not disk.exists(path):
        return None
    fd = disk.open_read(path)
    try:
        return lines.decode_header(disk.read(fd, disk.BLOCK_BYTES, 0).partition(b"\n")[0], path)
    finally:
        disk.close(fd)


def _named(numbers: list[int]) -> str:
    """Return `segment 3` or `segments 3 to 5, 9` for sorted numbers."""
    named = ", ".join(str(a) if a == b else f"{a} to {b}" for a, b in _runs(numbers))
    return f"segment {named}" if len(numbers) == 1 else f"segments {named}"


def _runs(numbers: list[int]) -> list[tuple[int, int]]:
    """Return the first and last of each run of sorted numbers without a gap."""
    found: list[tuple[int, int]] = []
    for number in numbers:
        if found and found[-1][1] == number - 1:
            found[-1] = (found[-1][0], number)
        else:
            found.append((number, number))
    return found
