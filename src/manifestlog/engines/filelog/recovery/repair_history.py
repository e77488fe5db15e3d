"""Repairs the history: packs the intact parts of a damaged file, and moves the original to quarantine.

::

    (1) copy every damaged file to the folder in `quarantine/`, with the report, and move what is not of this log or is
        no file there; sync
    (2) for each damaged file and each gap: write a pack of what is intact, read it back, rename it into place, sync
    (3) remove the damaged segment files that such a pack holds now, and what a repair before this one left unfinished

Invariants:

- The live ledger is not changed, and intact lines stay in the history, at their own offsets.
- A segment with missing lines is marked as such (`Kept.lost`), so no answer about an earlier time is guessed across it.
- A crash between the steps leaves damage that the next repair finds, or a leftover that the next repair or compaction
  removes.
- After a repair, `check` finds no damage, so a second repair changes nothing.

`check_history` finds the damage, `salvage_history` reads the intact parts. The caller holds both locks.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from manifestlog.engines.filelog import history_folder
from manifestlog.engines.filelog.canonical import files
from manifestlog.engines.filelog.history import keep
from manifestlog.engines.filelog.history.keep import BEYOND
from manifestlog.engines.filelog.history.pack import Pack, Packer
from manifestlog.engines.filelog.history.spans import Segments, header
from manifestlog.engines.filelog.log import lines
from manifestlog.engines.filelog.recovery import quarantine
from manifestlog.engines.filelog.recovery.check_history import HistoryCheck, Part, parts
from manifestlog.engines.filelog.recovery.salvage_history import Saved, is_file, only, save_file, save_gap, save_pack
from manifestlog.engines.reports import CheckReport, Loss, RepairOutcome, RepairReport
from manifestlog.errors import DamagedManifestError
from manifestlog.files import disk, publish

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from manifestlog.names import ManifestPaths

GAP_MAX = 100_000
"""Where more segments are missing, what is before them is set aside."""


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


def refuse_unreadable(paths: ManifestPaths) -> None:
    """Raise `HistoryUnavailableError` unless this process can read all of the history; nothing was changed yet."""
    with history_folder.stated(paths):
        for part in parts(paths):
            with suppress(DamagedManifestError, FileNotFoundError):
                disk.close(history_folder.open_file(part.path))


def repair_history(paths: ManifestPaths, report: RepairReport) -> None:
    """Repair the history of a manifest whose ledger is sound, steps (1) to (3); add to the report of its repair."""
    repair = _find(paths)
    if not repair.needed:
        return
    folder = report.quarantine or quarantine.make_folder(paths)
    report.lost += repair.losses()
    report.notes += repair.notes()
    report.originals += repair.originals
    report.outcome, report.quarantine = RepairOutcome.REPAIRED, folder
    quarantine.write_report(paths, folder, report, quarantine.written(folder), paths.canonical)
    repair.run(folder)


def note_losses(paths: ManifestPaths, report: RepairReport) -> None:
    """Add what a repair of the history would lose, without changing anything."""
    repair = _find(paths)
    report.lost += repair.losses()
    report.notes += repair.notes()
    report.originals += repair.originals


def _find(paths: ManifestPaths) -> _HistoryRepair:
    created = str(files.open_base(paths).metadata["ts_created"])
    found = HistoryCheck(paths, created, CheckReport(paths.canonical))
    found.run()
    return _HistoryRepair(paths, created, found)


def _begin(ranges: Iterable[tuple[int, int]]) -> int:
    """Return where a history begins of which so many segments are missing that nobody believes they were there."""
    return max((last + 1 for first, last in ranges if last - first >= GAP_MAX), default=0)


class _HistoryRepair:
    """One repair of the history."""

    def __init__(self, paths: ManifestPaths, ts_created: str, found: HistoryCheck) -> None:
        self._paths = paths
        self._identity = (paths.name, ts_created)
        self._strays = found.strays
        there = [part for part in parts(paths) if not part.live]
        begin = _begin([*found.gaps, *((p.first, p.last) for p in there if p.path in found.damaged)])
        self._older = [part for part in there if part.last < begin]
        self._gaps = [gap for gap in found.gaps if gap[0] >= begin]
        self._damaged = found.damaged - {part.path for part in self._older}

    @property
    def needed(self) -> bool:
        return bool(self._damaged or self._gaps or self._aside)

    @property
    def _aside(self) -> list[str]:
        """The files that go to quarantine with nothing in their place."""
        return self._strays + [part.path for part in self._older]

    @property
    def originals(self) -> list[str]:
        """The names of the files that go to quarantine."""
        return sorted(map(os.path.basename, [*self._damaged, *self._aside]))

    def notes(self) -> Iterator[Loss]:
        """Yield what is set aside and was no part of this history."""
        for path in self._strays:
            yield Loss(path, None, None, f"{BEYOND}; it is set aside as it is", [])

    def losses(self) -> Iterator[Loss]:
        """Yield what cannot be saved, file by file."""
        for part in self._older:
            many = _named([part.first] if part.first == part.last else [part.first, part.last])
            why = f"more than {GAP_MAX:,} segments are missing behind them, so they are set aside as they are"
            yield Loss(part.path, None, None, f"events of {many}; {why}; no record is affected", [])
        for part, saved in self._all():
            numbers = [kept.number for kept in saved.kept if kept.lost]
            if numbers:
                path = part.path or self._paths.kept_segment(part.first)
                yield Loss(
                    path, None, None, f"events of {_named(numbers)}; they are history, no record is affected", []
                )

    def run(self, folder: str) -> None:
        """Write back what is intact, with the originals in this folder."""
        saving = list(self._all())  # what is set aside is not listed any more
        aside = {*self._aside, *(path for path in self._damaged if not is_file(path))}
        for path in sorted({*self._damaged, *aside}):
            target = os.path.join(folder, os.path.basename(path))
            if path in aside:
                disk.replace(path, target)
            else:
                quarantine.copy(path, target)
        for directory in (folder, self._paths.history, self._paths.quarantine, self._paths.directory):
            disk.sync_directory(directory)
        for part, saved in saving:
            if saved.kept:
                write_pack(self._paths, self._identity[1], saved)
            if part.path and not (part.packed and saved.kept):
                disk.remove(part.path)
        keep.sweep(self._paths, history_folder.names(self._paths))
        disk.sync_directory(self._paths.history)

    def _all(self) -> Iterator[tuple[Part, Saved]]:
        for part in parts(self._paths):
            if part.path not in self._damaged:
                continue
            if part.packed:
                yield from self._of_pack(part)
            else:
                declared = self._declared(part.first)
                yield part, save_file(part.path, self._identity, part.first, declared)
        for first, last in self._gaps:
            yield Part(first, last, ""), save_gap(first, last)

    def _of_pack(self, part: Part) -> Iterator[tuple[Part, Saved]]:
        """Yield what replaces a pack. It must not stand for segments that are whole beside it."""
        beside = self._beside(part)
        if not beside:
            yield part, save_pack(part.path, self._identity, part.first, part.last)
            return
        for first, last in _runs([n for n in range(part.first, part.last + 1) if n not in beside]):
            saved = save_pack(part.path, self._identity, part.first, part.last)
            yield Part(first, last, ""), only(saved, first, last)
        yield part, Saved([], [])

    def _beside(self, part: Part) -> set[int]:
        """Return the segments of a pack that other files hold whole."""
        paths = self._paths
        names = history_folder.names(paths)
        live = paths.segment_numbers(disk.list_names(paths.directory))
        found = {number for number in live if part.first <= number <= part.last}
        for number in paths.segment_numbers(names):
            if part.first <= number <= part.last and self._is_whole(number):
                found.add(number)
        for first, last in paths.pack_ranges(names):
            smaller = part.first <= first and last <= part.last and (first, last) != (part.first, part.last)
            if smaller and keep.is_sound(paths, self._identity[1], (first, last)):
                found.update(range(first, last + 1))
        return found

    def _is_whole(self, number: int) -> bool:
        saved = save_file(self._paths.kept_segment(number), self._identity, number, self._declared_by_file(number + 1))
        return not saved.kept[0].lost

    def _declared_by_file(self, number: int) -> lines.Summary | None:
        """Return what a segment file states about the one before it, if it is there."""
        for path in (self._paths.segment(number), self._paths.kept_segment(number)):
            with suppress(FileNotFoundError, DamagedManifestError):
                fd = history_folder.open_file(path)
                try:
                    following = header(fd, path, *self._identity, number)
                finally:
                    disk.close(fd)
                return None if following.anew else following.previous
        return None

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
    keep.sweep(paths, history_folder.names(paths))


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
