"""What simulations share: where the manifest lies, its records, and what must be true of every disk."""

from __future__ import annotations

import json
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from manifestlog import DownloadManifestManager, ETLProcess, ManifestMetadata, ManifestOptions, ManifestRecord, manager
from support import records
from support.records import EPOCH, MANUAL, NAME

from .disk import SimDisk

if TYPE_CHECKING:
    from manifestlog.open_managers import OpenManagers

    from .machine import Machine

DIRECTORY = "/sim/manifests"
PATH = f"{DIRECTORY}/{NAME}"

make_record = cache(records.make_record)
"""As `support.records.make_record`, each made once."""


@cache
def metadata(version: str = "1.0.0") -> ManifestMetadata:
    """Metadata with fixed times: the real clock must not show."""
    return ManifestMetadata(
        process=ETLProcess.EXTRACTOR,
        etl_version=version,
        root_dir=Path("/srv/etl"),
        ts_created=EPOCH,
        ts_updated=EPOCH,
    )


def new_disk() -> SimDisk:
    """A disk with the manifests' directory, which is there durably."""
    return SimDisk(DIRECTORY)


def open_manifest(
    options: ManifestOptions = MANUAL, *, read_only: bool = False, version: str = "1.0.0"
) -> DownloadManifestManager:
    """Open, or create, the manifest in the running process; there it is held once, however often it is opened.

    So whoever closes it closes it, also in a forked child, where those are not who held it in the parent.
    """
    found = DownloadManifestManager(
        PATH, None if read_only else metadata(version), options=options, read_only=read_only
    )
    managers: OpenManagers = vars(manager)["open_managers"]  # the simulation puts its own there
    entry = managers.get(found.location.key)
    assert entry is not None
    entry.holders = 1
    return found


def contents(machine: Machine, disk: SimDisk, *, write: bool = True) -> dict[str, ManifestRecord]:
    """Boot with this disk (it is used up), open, read every record, and with `write` add, compact and read again.

    So it fails for a disk that cannot be opened, read, written to or compacted; `check_files` is done at each stage.
    """
    machine.boot(disk)
    with open_manifest() as manifest:
        found = dict(manifest.records.items())
        assert len(manifest) == len(found)
        if not write:
            return found
        extra = make_record(999_983)
        manifest.add(extra)
        manifest.compact()
        check_files(disk, compacted=True)
        assert dict(manifest.records.items()) == found | {extra.checksum: extra}
    return found


def check_files(disk: SimDisk, *, compacted: bool = False) -> None:
    """The canonical, if there is one, is a complete skeleton; with `compacted`, nothing is left lying about."""
    files = disk.files()
    canonical = files.get(PATH)
    if canonical is not None:
        _check_canonical(canonical)
    if compacted:
        assert canonical is not None
        assert [path for path in files if ".tmp-" in path] == []
        aside = ("/history/", "/quarantine/")
        assert len([path for path in files if ".wal-" in path and not any(name in path for name in aside)]) == 1


def check_last_line(disk: SimDisk) -> None:
    """What was just written is a line by itself, for any reader of JSON lines, whatever a crash has left before it."""
    path = max(path for path in disk.files() if path.endswith(".jsonl") and "/history/" not in path)
    *_, line, end = disk.files()[path].split(b"\n")
    assert end == b"", f"{path} does not end with a newline"
    assert json.loads(line)["op"] == "put"
    assert b'{"op":"seal"' not in disk.files()[path], f"{path} goes on behind its seal"


@lru_cache(maxsize=64)  # most of a run's disks have one of a few canonicals
def _check_canonical(data: bytes) -> None:
    document = json.loads(data)
    assert list(document) == ["metadata", "records"]
    assert document["metadata"]["total_records"] == len(document["records"])
    assert list(document["records"]) == sorted(document["records"])
    assert all(key == record["checksum"] for key, record in document["records"].items())
