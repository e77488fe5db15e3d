"""Repair: a new generation of a damaged manifest from everything that is intact; the originals are set aside.

::

    (1) take the compaction lock and the append lock
    (2) read everything; stop here when nothing is damaged (a bad index alone is made anew)
    (3) write the new canonical beside the old one, sync, read it again
    (4) make the folder in `quarantine/`, copy the active segment and write the report into it, sync
    (5) mark the active segment's end; start the next segment, which says: only the new canonical counts
    (6) move the segments into the folder, sync; the active one, whose copy is there, goes
    (7) move the old canonical into the folder, sync; rename the new one to its name, sync
    (8) write the index

What a crash between them leaves::

    ──(1)─(2)─(3)─(4)──────────┼──(5)──────────(6)──────────(7)──┼────(8)──
        as before: damaged     │  damaged: the log names a       │  repaired
        (and a file or folder  │  canonical that is not there;   │  (reading scans once)
        that the next repair   │  the next repair goes on at (6) │
        takes over or removes) │                                 │

Invariants:

- Nothing is deleted or edited: an original is in its place or in the folder, byte for byte, under its own name.
- Until (7) nobody can open the manifest; after it, it holds everything that could be saved.
- The active segment is copied, not moved, because of those who have it open at its end: they look only whether it has
  grown. The mark makes it grow by what is no line, so they look for the next segment, and that one sends them to load
  again (`wal.begins_anew`). Moved, or marked later, it would take the next line of a writer that knows nothing.
- Segment numbers go on behind the highest that anything tells of, those in quarantine included.
- A repair of a manifest that is sound, and so a second repair, changes nothing.

What is damaged is told by `check`, what can be saved by `storage.weigh`. Not undone here: the quarantine is people's.
"""

from __future__ import annotations

import logging
import os
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from manifestlog import quarantine
from manifestlog.check import CheckReport, check
from manifestlog.errors import DamagedManifestError
from manifestlog.quarantine import RepairOutcome, RepairReport
from manifestlog.rows import Row, utc_text
from manifestlog.storage import base, canonical, codec, disk, merge, salvage_log, wal, weigh
from manifestlog.storage.canonical import Canonical, Scanned
from manifestlog.storage.index import Head
from manifestlog.storage.lines import Base, Opening, Summary
from manifestlog.storage.lock import FileLock
from manifestlog.storage.salvage import Salvage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from manifestlog.naming import ManifestPaths

log = logging.getLogger(__name__)


class _New(NamedTuple):
    """The new generation: its canonical, still under another name, and the segment that follows it."""

    path: str
    told: Base
    scanned: Scanned | None


def repair(paths: ManifestPaths, *, dry_run: bool = False, lock_timeout_s: float = 30.0) -> RepairReport:
    """Mend a damaged manifest; with `dry_run`, say what would be done, without a lock and without writing.

    On return the new generation is durable. Raises `ManifestNotFoundError`, `NewerFormatError`, `LockTimeoutError`,
    `DamagedManifestError` with nothing changed when not one record and no metadata is left, and `OSError` with the manifest as damaged as before, or on its way: repair again.
    """
    found = check(paths)
    if not found.damaged and not _index_is_bad(paths, found):
        return quarantine.new_report(paths, found, None)
    if dry_run:
        return _dry_run(paths, found)
    with _alone(paths, lock_timeout_s):  # (1)
        report = _repair(paths)
    kept = f", the originals are in {report.quarantine}" if report.quarantine else ""
    log.info("%s: %s: %d records, %d losses%s", paths.canonical, report.outcome, report.records, len(report.lost), kept)
    return report


def _repair(paths: ManifestPaths) -> RepairReport:
    found = check(paths)  # (2)
    if found.damaged:
        return _Repair(paths, found).run()
    report = quarantine.new_report(paths, found, None)
    if _index_is_bad(paths, found):
        base.sweep(paths)
        _write_index(paths)
        report.outcome = RepairOutcome.INDEX_REBUILT
    return report


@contextmanager
def _alone(paths: ManifestPaths, timeout_s: float) -> Iterator[None]:
    """Keep compactors and writers out, in the order in which everybody takes these locks."""
    # For the same users as what is there: a backup that was restored may have come without its locks.
    segments = map(paths.segment, reversed(paths.segment_numbers(disk.list_names(paths.directory))))
    like = next(filter(disk.exists, (paths.canonical, *segments)), None)
    compacting = FileLock(paths.compact_lock, timeout_s, like=like)
    appending = FileLock(paths.append_lock, timeout_s, like=like)
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
    if unfinished is not None:
        report = quarantine.stored_report(paths, unfinished.folder, found)
    else:
        saved = weigh.look(paths)
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
            # Who was killed behind the new segment's birth may not have come to this: were a segment moved first, a power
            # cut could take the new one's name, and the next repair would look for records without the one that was moved.
            disk.sync_directory(self._paths.directory)
            report = quarantine.stored_report(self._paths, unfinished.folder, self._found)
            return self._finish(report, unfinished.folder, unfinished.new)
        base.sweep(self._paths)
        saved = weigh.look(self._paths)
        report = quarantine.new_report(self._paths, self._found, saved)
        new = self._write(saved, report)  # (3)
        folder = self._set_up(saved, report, new.told)  # (4)
        self._start_segment(saved, new.told)  # (5)
        return self._finish(report, folder, new)

    def _finish(self, report: RepairReport, folder: str, new: _New) -> RepairReport:
        self._move_segments(folder, new.told)  # (6)
        self._swap_canonical(folder, new)  # (7)
        base.sweep(self._paths)
        _write_index(self._paths, new)  # (8)
        report.outcome, report.quarantine = RepairOutcome.REPAIRED, folder
        return report

    def _write(self, saved: Salvage, report: RepairReport) -> _New:
        count = _count(self._paths, saved, report)
        # The time of the repair makes these bytes others than the old canonical's, so that the log tells the two apart.
        metadata = saved.metadata | {"total_records": count, "ts_updated": utc_text(datetime.now(UTC))}
        temporary = self._paths.temporary(self._paths.canonical)
        like = saved.files[-1]
        fd = disk.create(temporary, like=like)
        try:
            told = _written(fd, saved, metadata, quarantine.next_number(self._paths, saved) - 1)
            disk.sync_data(fd)
            scanned = _read_again(temporary, told, count)
            # Here, because its name must be on the disk before (5) says that nothing else counts.
            disk.sync_directory(self._paths.directory)
        except BaseException:
            with suppress(OSError):
                disk.remove(temporary)
            raise
        finally:
            disk.close(fd)
        return _New(temporary, told, scanned)

    def _set_up(self, saved: Salvage, report: RepairReport, told: Base) -> str:
        folder = quarantine.make_folder(self._paths)
        report.quarantine = folder
        like = saved.files[-1]
        if saved.segments:
            active = self._paths.segment(saved.segments[-1])
            quarantine.copy(active, os.path.join(folder, os.path.basename(active)))
        quarantine.write_report(self._paths, folder, report, told, like)
        for directory in (folder, self._paths.quarantine, self._paths.directory):
            disk.sync_directory(directory)
        return folder

    def _start_segment(self, saved: Salvage, told: Base) -> None:
        if saved.segments:
            quarantine.mark(self._paths.segment(saved.segments[-1]))
        previous = Summary(told.covers, 0, 0, codec.hex_crc(0)) if told.covers else None
        created = saved.metadata["ts_created"]
        wal.create_segment(self._paths, created, previous, (told,), saved.files[-1]).unpin()

    def _move_segments(self, folder: str, told: Base) -> None:
        paths = self._paths
        for number in paths.segment_numbers(disk.list_names(paths.directory)):
            if number > told.covers:
                continue
            aside = os.path.join(folder, os.path.basename(paths.segment(number)))
            if disk.exists(aside):
                disk.remove(paths.segment(number))  # the active one, with our mark: its copy is there since (4)
            else:
                disk.replace(paths.segment(number), aside)
        disk.sync_directory(folder)
        disk.sync_directory(paths.directory)

    def _swap_canonical(self, folder: str, new: _New) -> None:
        paths = self._paths
        if disk.exists(paths.canonical):
            disk.replace(paths.canonical, os.path.join(folder, os.path.basename(paths.canonical)))
            # Crash here: no canonical, which is damage. Without these syncs the new one could come to its name while
            # the old one's way into the folder is forgotten.
            disk.sync_directory(folder)
            disk.sync_directory(paths.directory)
        disk.replace(new.path, paths.canonical)
        disk.sync_directory(paths.directory)


def _count(paths: ManifestPaths, saved: Salvage, report: RepairReport) -> int:
    """How many records are left. An empty manifest with made-up metadata in a ruin's place would be no repair."""
    for _, _, is_from_log in saved.records():
        report.records += 1
        report.records_from_log += is_from_log
    if not report.records and "process" in saved.made_up:
        reason = "nothing can be saved of it: restore it from a backup, or put its files aside and begin anew"
        raise DamagedManifestError(paths.canonical, 0, reason)
    return report.records


def _written(fd: int, saved: Salvage, metadata: Row, covers: int) -> Base:
    out = merge.Writer(fd)
    out.write(canonical.head(metadata, empty=not metadata["total_records"]))
    first = True
    for checksum, raw, _ in saved.records():
        if not first:
            out.write(canonical.BETWEEN)
        out.write(canonical.entry(checksum, raw))
        first = False
    out.write(canonical.EMPTY_FOOT if first else canonical.FOOT)
    out.flush()
    return Base(out.size, codec.hex_crc(out.crc), covers)


def _read_again(path: str, told: Base, count: int) -> Scanned:
    source = Canonical(path, disk.open_read(path))
    scanned = canonical.scan(source)
    read = disk.size(source.fd), scanned.crc, scanned.columns.count
    if read != (told.size, told.crc, count) or source.memory is not None:
        raise DamagedManifestError(path, 0, "the new canonical does not read back as it was written")
    return scanned


# -- going on where a repair was interrupted --------------------------------------------------------------------------


class _Unfinished(NamedTuple):
    folder: str
    new: _New


def _unfinished(paths: ManifestPaths) -> _Unfinished | None:
    """A repair that died between (5) and (7): its segment is there, and its canonical under another name."""
    names = disk.list_names(paths.directory)
    numbers = paths.segment_numbers(names)
    opening = salvage_log.read(paths.segment(numbers[-1]), numbers[-1]).opening if numbers else None
    if opening is None or len(opening.bases) != 1:
        return None
    told = opening.bases[0]
    for folder in quarantine.folders(paths):
        if not _is_of(folder, told, opening):
            continue
        for path in paths.temporaries(names):
            if path.startswith(paths.canonical) and _is_file(path, told):
                return _Unfinished(folder, _New(path, told, None))
    return None


def _is_of(folder: str, told: Base, opening: Opening) -> bool:
    report = quarantine.load_report(folder)
    written = {"canonical": {"size": told.size, "crc": told.crc}, "segment": opening.segment}
    return report.get("written") == written and told.covers == opening.segment - 1


def _is_file(path: str, told: Base) -> bool:
    source = Canonical(path, disk.open_read(path))
    size = disk.size(source.fd)
    return size == told.size and canonical.checksum(source, size) == told.crc


# -- the index ---------------------------------------------------------------------------------------------------------


def _index_is_bad(paths: ManifestPaths, found: CheckReport) -> bool:
    return any(finding.file == paths.index for finding in found.findings)


def _write_index(paths: ManifestPaths, new: _New | None = None) -> None:
    """Make the index anew; not for another tool's layout, which has none before the next compaction."""
    stamp = disk.path_stamp(paths.canonical)
    if new is not None and new.scanned is not None and stamp is not None:
        head = Head(stamp, new.told.crc, new.told.covers, new.scanned.metadata)
        base.write_index(paths, new.scanned.columns, head)
        return
    found = base.open_base(paths, scan=True)
    if not found.foreign:
        covers = new.told.covers if new is not None else _covered_by(paths, found.identity)
        base.write_index(paths, found.index.columns(), found.index.head._replace(covers=covers))


def _covered_by(paths: ManifestPaths, identity: tuple[int, str]) -> int:
    numbers = paths.segment_numbers(disk.list_names(paths.directory))
    bases = salvage_log.read(paths.segment(numbers[-1]), numbers[-1]).bases if numbers else []
    return next((base.covers for base in reversed(bases) if (base.size, base.crc) == identity), 0)
