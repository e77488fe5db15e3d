"""A manifest with something in every kind of file, and what tests of damage do to it and ask about it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from manifestlog import DownloadManifestManager, ManifestRecord, names
from manifestlog.engines.filelog.recovery.check import check
from manifestlog.engines.filelog.recovery.repair import repair
from support.integrity import segments
from support.records import MANUAL, checksum, make_record, metadata

if TYPE_CHECKING:
    from manifestlog.engines.reports import RepairReport

SMALL_SEGMENTS = replace(MANUAL, segment_bytes_max=1500)
IN_CANONICAL = range(6)
IN_LOG = range(6, 13)
FORGOTTEN = 2
"""In the canonical, and forgotten in the first segment behind it."""
ALL = {checksum(n) for n in (*IN_CANONICAL, *IN_LOG)} - {checksum(FORGOTTEN)}


def fill(path: Path) -> Path:
    """A canonical with its index, two sealed segments behind it and an active one."""
    with DownloadManifestManager(path, metadata(), options=SMALL_SEGMENTS) as manifest:
        manifest.add_many([make_record(n) for n in IN_CANONICAL])
        manifest.save()
    with DownloadManifestManager(path, options=SMALL_SEGMENTS) as manifest:
        manifest.forget(checksum(FORGOTTEN))
        for number in IN_LOG:
            manifest.add(make_record(number))
    assert len(segments(path)) == 3
    return path


def files(path: Path) -> dict[str, Path]:
    """The files of a filled manifest by their part."""
    order = ["sealed", "sealed too", "active"]
    named = dict(zip(order, segments(path).values(), strict=True))
    return {"canonical": path, "index": Path(names.resolve(path).index), **named}


def contents(path: Path) -> dict[str, bytes]:
    """Every file of a manifest but its locks, and all of its quarantine."""
    found = [p for p in sorted(path.parent.rglob("*")) if p.is_file() and p.suffix != ".lock"]
    return {str(p.relative_to(path.parent)): p.read_bytes() for p in found}


def flip(file: Path, offset: int, bit: int = 0) -> None:
    data = bytearray(file.read_bytes())
    data[offset] ^= 1 << bit
    file.write_bytes(data)


def line_of(file: Path, text: str, *, last: bool = False) -> range:
    """Where the first (or last) line with this text stands in a file, its newline left out."""
    data = file.read_bytes()
    at = data.rindex(text.encode()) if last else data.index(text.encode())
    start = data.rfind(b"\n", 0, at) + 1
    end = data.find(b"\n", at)
    return range(start, end if end >= 0 else len(data))


def mend(path: Path, *, dry_run: bool = False) -> RepairReport:
    return repair(names.resolve(path), dry_run=dry_run)


def stored(path: Path) -> dict[str, ManifestRecord]:
    """What a reader finds, after `check` has found nothing."""
    found = check(names.resolve(path)).findings
    assert found == [], "\n".join(map(str, found))
    with DownloadManifestManager(path, read_only=True) as manifest:
        return dict(manifest.records.items())


def folder(path: Path) -> Path:
    """The one folder that a repair has made."""
    (found,) = (path.parent / "quarantine").iterdir()
    return found


def named(report: RepairReport) -> set[str]:
    """The checksums that the report calls lost."""
    return {checksum for loss in report.lost for checksum in loss.checksums}
