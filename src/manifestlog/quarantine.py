"""The folder of a repair in `quarantine/`: what is set aside there, and the report of it.

Invariants:

- A file in the folder that has a name of the manifest's is the original, byte for byte.
- A copy and a report are whole and synced before they have their names.
- A folder of a repair that died before it moved anything is used by the next one.

When which file goes there is decided by `repair`.
"""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING

from manifestlog.check import CheckReport, Finding
from manifestlog.errors import DamagedManifestError
from manifestlog.naming import REPORT, SUFFIX
from manifestlog.rows import Row, utc_text
from manifestlog.storage import codec, disk
from manifestlog.storage.lines import Base
from manifestlog.storage.salvage import Loss, Salvage

if TYPE_CHECKING:
    from collections.abc import Iterable

    from manifestlog.naming import ManifestPaths

_MARK = b"# set aside by a repair; it goes on in the next segment "
_MARK_EXTRA_MAX = 4096
_NUMBER_MAX = 2**32
"""A report is no more than text: no number beyond this is believed."""


class RepairOutcome(StrEnum):
    """How a call of `repair` ended.

    - `NOTHING_TO_DO`: the manifest is sound.
    - `INDEX_REBUILT`: the manifest is sound, and its index was made anew.
    - `REPAIRED`: what was intact was kept; the report lists what was lost.
    - `WOULD_REBUILD_INDEX`: a dry run; the index would be made anew.
    - `WOULD_REPAIR`: a dry run; the manifest would be repaired.
    """

    NOTHING_TO_DO = "nothing_to_do"
    INDEX_REBUILT = "index_rebuilt"
    REPAIRED = "repaired"
    WOULD_REBUILD_INDEX = "would_rebuild_index"
    WOULD_REPAIR = "would_repair"


@dataclass(slots=True)
class RepairReport:
    """What was found, what was lost with it, and what was kept. `notes` are damage by which nothing is lost."""

    manifest: str
    outcome: RepairOutcome = RepairOutcome.NOTHING_TO_DO
    findings: list[Finding] = field(default_factory=list)
    lost: list[Loss] = field(default_factory=list)
    notes: list[Loss] = field(default_factory=list)
    records: int = 0
    records_from_log: int = 0
    originals: list[str] = field(default_factory=list)
    quarantine: str | None = None


def next_number(paths: ManifestPaths, saved: Salvage) -> int:
    """The first segment number that none has had."""
    highest = saved.last_number
    for folder in folders(paths):
        highest = max([highest, _segment_written(folder), *paths.segment_numbers(disk.list_names(folder))])
    return highest + 1


def mark(path: str) -> None:
    """Make an open segment's end one that no line follows, whatever of it somebody has read."""
    fd = disk.open_append(path)
    try:
        # Of a length by chance: a file that was cut must not grow to just the length at which somebody stands.
        disk.append(fd, _MARK + b"." * secrets.randbelow(_MARK_EXTRA_MAX))
        disk.sync_data(fd)
    finally:
        disk.close(fd)


# -- the folder in quarantine ------------------------------------------------------------------------------------------


def folders(paths: ManifestPaths) -> list[str]:
    """What earlier repairs of this manifest have set aside, the latest last."""
    if not disk.exists(paths.quarantine):
        return []
    return paths.quarantine_folders(disk.list_names(paths.quarantine))


def make_folder(paths: ManifestPaths) -> str:
    """A folder for this repair: a new one, or one that a repair left which died before (5)."""
    disk.make_directory(paths.quarantine, like=paths.directory)
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
    disk.make_directory(folder, like=paths.directory)
    return folder


def _segment_written(folder: str) -> int:
    """The segment that this repair has started or was about to, as its report says; 0 when that tells nothing."""
    written = load_report(folder).get("written")
    segment = written.get("segment") if isinstance(written, dict) else None
    return segment if isinstance(segment, int) and 0 < segment < _NUMBER_MAX else 0


def _is_unused(paths: ManifestPaths, folder: str) -> bool:
    """Whether nothing is in it but what a repair writes before (5): its report, and the copy of a segment that is here."""
    segment = _segment_written(folder)
    if segment and segment <= max(paths.segment_numbers(disk.list_names(paths.directory)), default=0):
        return False
    files = [name for name in disk.list_names(folder) if name != REPORT and ".tmp-" not in name]
    return all(_is_copied(os.path.join(paths.directory, name), os.path.join(folder, name)) for name in files)


def _is_copied(path: str, target: str) -> bool:
    """Whether the file at `path` is what was copied to `target`, but for a mark at its end, or the half of one."""
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
    """Copy a file, unless its copy is there; whole and synced before it has its name."""
    if disk.exists(target):
        return
    fd = disk.open_read(path)
    try:
        temporary = f"{target}.tmp-{os.getpid()}-{secrets.token_hex(4)}"
        _write_new(target, temporary, disk.blocks(fd, 0, disk.size(fd)), path)
    finally:
        disk.close(fd)
    if not _is_copied(path, target):
        raise DamagedManifestError(target, 0, "the copy does not read back as it was written")


def _write_new(target: str, temporary: str, parts: Iterable[bytes], like: str) -> None:
    fd = disk.create(temporary, like=like)
    try:
        for part in parts:
            disk.append(fd, part)
        disk.sync_data(fd)
        disk.replace(temporary, target)
    except BaseException:
        with suppress(OSError):
            disk.remove(temporary)
        raise
    finally:
        disk.close(fd)


def new_report(paths: ManifestPaths, found: CheckReport, saved: Salvage | None) -> RepairReport:
    """What `check` has found, and what can be saved."""
    report = RepairReport(paths.canonical, findings=found.findings, records=found.records if saved is None else 0)
    if saved is not None:
        report.lost, report.notes = saved.lost, saved.notes
        report.originals = [os.path.basename(path) for path in saved.files]
    return report


def write_report(paths: ManifestPaths, folder: str, report: RepairReport, told: Base, like: str) -> None:
    """Put the report into the folder, whole and synced; `told` is the new canonical.

    It is renamed from beside the manifest: where that fails, because `quarantine` is on another file system, moving the
    originals would fail, too, and then it would be too late.
    """
    temporary = paths.temporary(paths.canonical)
    _write_new(os.path.join(folder, REPORT), temporary, [_as_json(report, told)], like)


def _as_json(report: RepairReport, told: Base) -> bytes:
    lost = [loss._asdict() | {"file": os.path.basename(loss.file)} for loss in report.lost]
    notes = [note._asdict() | {"file": os.path.basename(note.file)} for note in report.notes]
    found = [finding._asdict() | {"file": os.path.basename(finding.file)} for finding in report.findings]
    kept = {"records": report.records, "from_canonical": report.records - report.records_from_log}
    document = asdict(report) | {"findings": found, "lost": lost, "notes": notes}
    for name in ("outcome", "quarantine", "records", "records_from_log"):
        del document[name]
    document |= {"kept": kept | {"from_log": report.records_from_log}, "ts": utc_text(datetime.now(UTC))}
    document["manifest"] = os.path.basename(report.manifest).removesuffix(SUFFIX)
    document["written"] = {"canonical": {"size": told.size, "crc": told.crc}, "segment": told.covers + 1}
    return codec.dumps_indented(document, 0) + b"\n"


def load_report(folder: str) -> Row:
    """The report in a folder; empty when there is none that can be read."""
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
    """What the interrupted repair was about to say."""
    row = load_report(folder)
    report = new_report(paths, found, None)
    report.lost = [Loss(**loss) for loss in row["lost"]]
    report.notes = [Loss(**note) for note in row["notes"]]
    report.records, report.records_from_log = row["kept"]["records"], row["kept"]["from_log"]
    report.originals, report.quarantine = row["originals"], folder
    return report
