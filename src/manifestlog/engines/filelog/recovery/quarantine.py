"""The quarantine folder of a repair: the original files and the repair's report.

Invariants:

- A file in the folder with a name of the manifest is the original, byte for byte.
- A copy or report is whole and synced before it gets its name.
- If a repair dies before it moves anything, the next repair reuses its folder.

`repair` decides which file goes there, and when.
"""

from __future__ import annotations

import os
import secrets
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from manifestlog.engines.filelog.log.lines import CanonicalId
from manifestlog.engines.filelog.recovery.salvage import Salvage
from manifestlog.engines.reports import CheckReport, Loss, RepairReport
from manifestlog.errors import DamagedManifestError
from manifestlog.files import disk, publish
from manifestlog.files.publish import Target
from manifestlog.model import codec
from manifestlog.model.rows import Row, utc_text
from manifestlog.names import REPORT, SUFFIX

if TYPE_CHECKING:
    from manifestlog.names import ManifestPaths

_MARK = b"# set aside by a repair; it goes on in the next segment "
_MARK_EXTRA_MAX = 4096
_NUMBER_MAX = 2**32
"""A report may be edited, so larger segment numbers in it are ignored."""


def next_number(paths: ManifestPaths, saved: Salvage) -> int:
    """Return the first segment number that was never used."""
    highest = saved.last_number
    for folder in folders(paths):
        highest = max([highest, _segment_written(folder), *paths.segment_numbers(disk.list_names(folder))])
    return highest + 1


def mark(path: str) -> None:
    """Append a mark to the active segment, so that no line can follow; on return it survives a power cut."""
    fd = disk.open_append(path)
    try:
        # Of random length: a file that was cut must not grow back to exactly the offset of one of its readers.
        disk.append(fd, _MARK + b"." * secrets.randbelow(_MARK_EXTRA_MAX))
        disk.sync_data(fd)
    finally:
        disk.close(fd)


# -- the quarantine folder ---------------------------------------------------------------------------------------------


def folders(paths: ManifestPaths) -> list[str]:
    """Return the quarantine folders of earlier repairs of this manifest, the latest last."""
    if not disk.exists(paths.quarantine):
        return []
    return paths.quarantine_folders(disk.list_names(paths.quarantine))


def make_folder(paths: ManifestPaths) -> str:
    """Return a folder for this repair: a new one, or that of a repair which died before (5)."""
    disk.make_directory(paths.quarantine, mode_from=paths.directory)
    for folder in folders(paths):
        if _is_unused(paths, folder):
            for name in disk.list_names(folder):
                if ".tmp-" in name:
                    disk.remove(os.path.join(folder, name))
            return folder
    number = 1
    moment = datetime.now(UTC)
    while disk.exists(folder := paths.quarantine_folder(moment, number)):
        number += 1
    disk.make_directory(folder, mode_from=paths.directory)
    return folder


def _segment_written(folder: str) -> int:
    """Return the segment that this repair started or was about to start, according to its report; 0 if unknown."""
    written = load_report(folder).get("written")
    segment = written.get("segment") if isinstance(written, dict) else None
    return segment if isinstance(segment, int) and 0 < segment < _NUMBER_MAX else 0


def _is_unused(paths: ManifestPaths, folder: str) -> bool:
    """Return whether it holds only what a repair writes before (5): its report, and copies of present files."""
    segment = _segment_written(folder)
    if segment and segment <= max(paths.segment_numbers(disk.list_names(paths.directory)), default=0):
        return False
    files = [name for name in disk.list_names(folder) if name != REPORT and ".tmp-" not in name]
    places = (paths.directory, paths.history)
    return all(any(_is_copied(os.path.join(p, name), os.path.join(folder, name)) for p in places) for name in files)


def _is_copied(path: str, target: str) -> bool:
    """Return whether `target` is a copy of the file at `path`, apart from a mark or part of one at the end of `path`."""
    if not disk.exists(path):
        return False
    fds = [disk.open_read(path), disk.open_read(target)]
    try:
        end = disk.size(fds[1])
        ours, theirs = (disk.blocks(fd, 0, end) for fd in fds)
        same = disk.size(fds[0]) >= end and all(a == b for a, b in zip(ours, theirs, strict=True))
        return same and _MARK.startswith(disk.read(fds[0], len(_MARK), end))
    finally:
        for fd in fds:
            disk.close(fd)


def copy(path: str, target: str) -> None:
    """Copy a file unless the copy exists. The copy is whole and synced before it gets its name.

    Raises `DamagedManifestError` if the copy reads back differently.
    """
    if disk.exists(target):
        return
    fd = disk.open_read(path)
    try:
        temporary = f"{target}.tmp-{os.getpid()}-{secrets.token_hex(4)}"
        publish.publish(Target(temporary, target), disk.blocks(fd, 0, disk.size(fd)), mode_from=path)
    finally:
        disk.close(fd)
    if not _is_copied(path, target):
        raise DamagedManifestError(target, 0, "the copy reads back differently; the disk may be failing")


def new_report(paths: ManifestPaths, found: CheckReport, saved: Salvage | None) -> RepairReport:
    """Create a report from the findings of `check` and, if given, the salvage."""
    report = RepairReport(paths.canonical, findings=found.findings, records=found.records if saved is None else 0)
    if saved is not None:
        report.lost, report.notes = saved.lost, saved.notes
        report.originals = [os.path.basename(path) for path in saved.files]
    return report


def write_report(
    paths: ManifestPaths, folder: str, report: RepairReport, base: CanonicalId | None, mode_from: str
) -> None:
    """Write the report into the folder, whole and synced; `base` is the new canonical, None if there is none.

    The report is written beside the manifest and renamed into the folder. If `quarantine` is on another file system,
    this fails now, and not later when the originals are moved.
    """
    target = Target(paths.temporary(paths.canonical), os.path.join(folder, REPORT))
    publish.publish(target, [_as_json(report, base)], mode_from=mode_from)


def _as_json(report: RepairReport, base: CanonicalId | None) -> bytes:
    lost = [loss._asdict() | {"file": os.path.basename(loss.file)} for loss in report.lost]
    notes = [note._asdict() | {"file": os.path.basename(note.file)} for note in report.notes]
    found = [finding._asdict() | {"file": os.path.basename(finding.file)} for finding in report.findings]
    kept = {"records": report.records, "from_canonical": report.records - report.records_from_log}
    document = asdict(report) | {"findings": found, "lost": lost, "notes": notes}
    for name in ("outcome", "quarantine", "records", "records_from_log"):
        del document[name]
    document |= {"kept": kept | {"from_log": report.records_from_log}, "ts": utc_text(datetime.now(UTC))}
    document["manifest"] = os.path.basename(report.manifest).removesuffix(SUFFIX)
    if base is not None:
        document["written"] = {"canonical": {"size": base.size, "crc": base.crc}, "segment": base.covers + 1}
    return codec.dumps_indented(document, 0) + b"\n"


def written(folder: str) -> CanonicalId | None:
    """Return the canonical that a repair has written, according to its report in this folder."""
    found = load_report(folder).get("written")
    if not found:
        return None
    return CanonicalId(found["canonical"]["size"], found["canonical"]["crc"], found["segment"] - 1)


def load_report(folder: str) -> Row:
    """Return the report in a folder; empty if it is missing or unreadable."""
    try:
        fd = disk.open_read(os.path.join(folder, REPORT))
    except FileNotFoundError:
        return {}
    try:
        report = codec.loads(disk.read(fd, disk.size(fd), 0))
    except ValueError:
        return {}
    finally:
        disk.close(fd)
    return report if isinstance(report, dict) else {}


def stored_report(paths: ManifestPaths, folder: str, found: CheckReport) -> RepairReport:
    """Return the report that the interrupted repair had stored."""
    row = load_report(folder)
    report = new_report(paths, found, None)
    report.lost = [Loss(**loss) for loss in row["lost"]]
    report.notes = [Loss(**note) for note in row["notes"]]
    report.records, report.records_from_log = row["kept"]["records"], row["kept"]["from_log"]
    report.originals, report.quarantine = row["originals"], folder
    return report
