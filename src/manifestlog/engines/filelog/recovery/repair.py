"""Repairs a damaged manifest: rebuilds it from everything that is intact and moves the originals to quarantine.

::

    (1) take the compaction lock and the append lock
    (2) read everything; stop if nothing is damaged (if only the index is bad, rebuild it)
    (3) write the new canonical beside the old one, sync it, read it back
    (4) create the folder in `quarantine/`, copy the active segment and write the report into it, sync
    (5) mark the active segment's end; start the next segment, which says: only the new canonical is valid
    (6) move the segments into the folder, sync; remove the active one, whose copy is there; keep their intact events as
        a pack of the history
    (7) move the old canonical into the folder, sync; rename the new one to its name, sync
    (8) write the index

The state after a crash between the steps::

    ──(1)─(2)─(3)─(4)──────────┼──(5)──────────(6)──────────(7)──┼────(8)──
        as before: damaged     │  damaged: the log names a       │  repaired
        (and a file or folder  │  canonical that is not there;   │  (the next opening
        that the next repair   │  the next repair resumes at (6) │  scans once)
        reuses or removes)     │                                 │

Invariants:

- Nothing is deleted or edited: every original is in its place or in the folder, byte for byte, under its own name.
- Until (7) no process can open the manifest. Afterwards it holds everything that could be saved.
- The active segment is copied and marked, not moved. Processes that have it open check only whether it has grown. The
  mark makes it grow by an invalid line, so they look for the next segment, which makes them load the manifest again
  (`fold.begins_anew`). If it were moved, or marked later, a writer could still append to it.
- Segment numbers continue after the highest that any file names, including files in quarantine.
- Repairing a sound manifest changes nothing, so a second repair changes nothing.
- Damage of the history does not affect this repair: `repair_history` repairs it afterwards.

`check` finds the damage, and `reconcile` decides what can be saved. It never empties the quarantine: users do.
"""

from __future__ import annotations

import logging
import os
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from manifestlog.engines.filelog import checksums
from manifestlog.engines.filelog.canonical import files, scan, write
from manifestlog.engines.filelog.canonical.index import Head
from manifestlog.engines.filelog.canonical.scan import Canonical, Scanned
from manifestlog.engines.filelog.lock import FileLock
from manifestlog.engines.filelog.log import fold, wal
from manifestlog.engines.filelog.log.lines import CanonicalId, SegmentHeader, Summary
from manifestlog.engines.filelog.recovery import quarantine, reconcile, repair_history, salvage_log
from manifestlog.engines.filelog.recovery.check import check
from manifestlog.engines.filelog.recovery.salvage import Salvage
from manifestlog.engines.reports import DAMAGE, CheckReport, RepairOutcome, RepairReport
from manifestlog.errors import DamagedManifestError
from manifestlog.files import disk, publish
from manifestlog.model.rows import Row, utc_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from manifestlog.names import ManifestPaths

log = logging.getLogger(__name__)


class _New(NamedTuple):
    """The new canonical, still under a temporary name, and what the log will state about it."""

    path: str
    base: CanonicalId
    scanned: Scanned | None


def repair(paths: ManifestPaths, *, dry_run: bool = False, lock_timeout_s: float = 30.0) -> RepairReport:
    """Repair a damaged manifest; with `dry_run`, only report what it would do, without locks and without writing.

    On return the repaired manifest survives a power cut. Raises `ManifestNotFoundError`, `NewerFormatError` and
    `LockTimeoutError`; `HistoryUnavailableError`, with nothing changed, if this process cannot read the history; `DamagedManifestError`, with nothing changed, if neither records nor metadata are left; and
    `OSError`, after which the manifest is still damaged and another repair resumes.
    """
    found = check(paths)
    if not found.damaged and not _index_is_bad(paths, found):
        return quarantine.new_report(paths, found, None)
    if found.damaged:
        repair_history.refuse_unreadable(paths)
    if dry_run:
        return _dry_run(paths, found)
    with _alone(paths, lock_timeout_s):  # (1)
        report = _repair(paths)
    kept = f", the originals are in {report.quarantine}" if report.quarantine else ""
    log.info("%s: %s: %d records, %d losses%s", paths.canonical, report.outcome, report.records, len(report.lost), kept)
    return report


def _repair(paths: ManifestPaths) -> RepairReport:
    found = check(paths)  # (2)
    if _ledger_is_damaged(paths, found):
        report = _Repair(paths, found).run()
    else:
        report = quarantine.new_report(paths, found, None)
        if _index_is_bad(paths, found):
            files.sweep(paths)
            _write_index(paths)
            report.outcome = RepairOutcome.INDEX_REBUILT
    if found.damaged:
        repair_history.repair_history(paths, report)
    return report


def _ledger_is_damaged(paths: ManifestPaths, found: CheckReport) -> bool:
    """Return whether there is damage outside of the history."""
    return any(one.level == DAMAGE and os.path.dirname(one.file) != paths.history for one in found.findings)


@contextmanager
def _alone(paths: ManifestPaths, timeout_s: float) -> Iterator[None]:
    """Block compactions and writers, taking the two locks in the usual order."""
    # A restored backup may lack its lock files: new ones copy the mode and group of the existing files.
    segments = map(paths.segment, reversed(paths.segment_numbers(disk.list_names(paths.directory))))
    mode_from = next(filter(disk.exists, (paths.canonical, *segments)), None)
    compacting = FileLock(paths.compact_lock, timeout_s, mode_from=mode_from)
    appending = FileLock(paths.append_lock, timeout_s, mode_from=mode_from)
    try:
        with compacting, appending:
            yield
    finally:
        appending.close()
        compacting.close()


def _dry_run(paths: ManifestPaths, found: CheckReport) -> RepairReport:
    if not found.damaged:
        report = quarantine.new_report(paths, found, None)
        report.outcome = RepairOutcome.WOULD_REBUILD_INDEX
        return report
    unfinished = _unfinished(paths)
    if not _ledger_is_damaged(paths, found):
        report = quarantine.new_report(paths, found, None)
        repair_history.note_losses(paths, report)
    elif unfinished is not None:
        report = quarantine.stored_report(paths, unfinished.folder, found)
    else:
        saved = reconcile.salvage_all(paths)
        report = quarantine.new_report(paths, found, saved)
        _count(paths, saved, report)
    report.outcome = RepairOutcome.WOULD_REPAIR
    return report


# -- the steps ---------------------------------------------------------------------------------------------------------


class _Repair:
    """One repair, under both locks."""

    def __init__(self, paths: ManifestPaths, found: CheckReport) -> None:
        self._paths = paths
        self._found = found

    def run(self) -> RepairReport:
        unfinished = _unfinished(self._paths)
        if unfinished is not None:
            # The interrupted repair may have died before this sync. Without it, a power cut after moving a segment could
            # remove the new segment's name, and the next repair would not find the moved segment's records.
            disk.sync_directory(self._paths.directory)
            report = quarantine.stored_report(self._paths, unfinished.folder, self._found)
            return self._finish(report, unfinished.folder, unfinished.new)
        files.sweep(self._paths)
        saved = reconcile.salvage_all(self._paths)
        report = quarantine.new_report(self._paths, self._found, saved)
        new = self._write(saved, report)  # (3)
        folder = self._set_up(saved, report, new.base)  # (4)
        self._start_segment(saved, new.base)  # (5)
        return self._finish(report, folder, new)

    def _finish(self, report: RepairReport, folder: str, new: _New) -> RepairReport:
        self._move_segments(folder, new.base)  # (6)
        repair_history.keep_events(self._paths, folder)
        self._swap_canonical(folder, new)  # (7)
        files.sweep(self._paths)
        _write_index(self._paths, new)  # (8)
        report.outcome, report.quarantine = RepairOutcome.REPAIRED, folder
        return report

    def _write(self, saved: Salvage, report: RepairReport) -> _New:
        count = _count(self._paths, saved, report)
        # The time of the repair makes these bytes differ from the old canonical's, so the log can tell the two apart.
        metadata = saved.metadata | {"total_records": count, "ts_updated": utc_text(datetime.now(UTC))}
        temporary = self._paths.temporary(self._paths.canonical)
        with publish.unfinished(temporary, mode_from=saved.files[-1]) as fd:
            base = _written(fd, saved, metadata, quarantine.next_number(self._paths, saved) - 1)
            disk.sync_data(fd)
            scanned = _read_again(temporary, base, count)
            # The name must be on the disk before (5) declares this canonical the only valid one.
            disk.sync_directory(self._paths.directory)
        return _New(temporary, base, scanned)

    def _set_up(self, saved: Salvage, report: RepairReport, base: CanonicalId) -> str:
        folder = quarantine.make_folder(self._paths)
        report.quarantine = folder
        mode_from = saved.files[-1]
        if saved.segments:
            active = self._paths.segment(saved.segments[-1])
            quarantine.copy(active, os.path.join(folder, os.path.basename(active)))
        quarantine.write_report(self._paths, folder, report, base, mode_from)
        for directory in (folder, self._paths.quarantine, self._paths.directory):
            disk.sync_directory(directory)
        return folder

    def _start_segment(self, saved: Salvage, base: CanonicalId) -> None:
        if saved.segments:
            quarantine.mark(self._paths.segment(saved.segments[-1]))
        previous = Summary(base.covers, 0, 0, checksums.hex_crc(0)) if base.covers else None
        created = saved.metadata["ts_created"]
        wal.create_segment(self._paths, created, previous, (base,), saved.files[-1]).unpin()

    def _move_segments(self, folder: str, base: CanonicalId) -> None:
        paths = self._paths
        for number in paths.segment_numbers(disk.list_names(paths.directory)):
            if number > base.covers:
                continue
            aside = os.path.join(folder, os.path.basename(paths.segment(number)))
            if disk.exists(aside):
                disk.remove(paths.segment(number))  # the active one, with our mark: (4) has copied it
            else:
                disk.replace(paths.segment(number), aside)
        disk.sync_directory(folder)
        disk.sync_directory(paths.directory)

    def _swap_canonical(self, folder: str, new: _New) -> None:
        paths = self._paths
        if disk.exists(paths.canonical):
            disk.replace(paths.canonical, os.path.join(folder, os.path.basename(paths.canonical)))
            # After a crash here there is no canonical, which is damage. Without these syncs a power cut could keep the
            # new one's rename and lose the old one's move into the folder.
            disk.sync_directory(folder)
            disk.sync_directory(paths.directory)
        disk.replace(new.path, paths.canonical)
        disk.sync_directory(paths.directory)


def _count(paths: ManifestPaths, saved: Salvage, report: RepairReport) -> int:
    """Count the surviving records. Raise rather than replace the manifest with an empty one and invented metadata."""
    for _, _, is_from_log in saved.records():
        report.records += 1
        report.records_from_log += is_from_log
    if not report.records and "process" in saved.made_up:
        reason = "nothing can be saved; restore it from a backup, or move its files away and create a new manifest"
        raise DamagedManifestError(paths.canonical, 0, reason)
    return report.records


def _written(fd: int, saved: Salvage, metadata: Row, covers: int) -> CanonicalId:
    out = write.write(fd, metadata, ((checksum, raw) for checksum, raw, _ in saved.records()))
    return CanonicalId(out.size, checksums.hex_crc(out.crc), covers)


def _read_again(path: str, base: CanonicalId, count: int) -> Scanned:
    source = Canonical(path, disk.open_read(path))
    scanned = scan.scan(source)
    read = disk.size(source.fd), scanned.crc, scanned.columns.count
    if read != (base.size, base.crc, count) or source.memory is not None:
        raise DamagedManifestError(path, 0, "the new canonical does not read back as it was written")
    return scanned


# -- resuming an interrupted repair -----------------------------------------------------------------------------------


class _Unfinished(NamedTuple):
    folder: str
    new: _New


def _unfinished(paths: ManifestPaths) -> _Unfinished | None:
    """Find a repair that died between (5) and (7): its segment exists, and its canonical has a temporary name."""
    names = disk.list_names(paths.directory)
    numbers = paths.segment_numbers(names)
    opening = salvage_log.read(paths.segment(numbers[-1]), numbers[-1]).opening if numbers else None
    if opening is None or len(opening.bases) != 1:
        return None
    base = opening.bases[0]
    for folder in quarantine.folders(paths):
        if not _is_of(folder, base, opening):
            continue
        for path in paths.temporaries(names):
            if path.startswith(paths.canonical) and _is_file(path, base):
                return _Unfinished(folder, _New(path, base, None))
    return None


def _is_of(folder: str, base: CanonicalId, opening: SegmentHeader) -> bool:
    report = quarantine.load_report(folder)
    written = {"canonical": {"size": base.size, "crc": base.crc}, "segment": opening.segment}
    return report.get("written") == written and base.covers == opening.segment - 1


def _is_file(path: str, base: CanonicalId) -> bool:
    source = Canonical(path, disk.open_read(path))
    size = disk.size(source.fd)
    return size == base.size and scan.checksum(source, size) == base.crc


# -- the index ---------------------------------------------------------------------------------------------------------


def _index_is_bad(paths: ManifestPaths, found: CheckReport) -> bool:
    return any(finding.file == paths.index for finding in found.findings)


def _write_index(paths: ManifestPaths, new: _New | None = None) -> None:
    """Rebuild the index, except for another tool's layout, which gets one at the next compaction."""
    stamp = disk.path_stamp(paths.canonical)
    if new is not None and new.scanned is not None and stamp is not None:
        head = Head(stamp, new.base.crc, new.base.covers, new.scanned.metadata)
        files.write_index(paths, new.scanned.columns, head)
        return
    found = files.open_base(paths, scan=True)
    if not found.foreign:
        covers = new.base.covers if new is not None else _covered_by(paths, found.identity)
        files.write_index(paths, found.index.columns(), found.index.head._replace(covers=covers))


def _covered_by(paths: ManifestPaths, identity: tuple[int, str]) -> int:
    numbers = paths.segment_numbers(disk.list_names(paths.directory))
    bases = salvage_log.read(paths.segment(numbers[-1]), numbers[-1]).bases if numbers else ()
    return fold.covered_by(bases, identity) or 0
