"""Records by number: the same number always gives the same record."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from pathlib import Path

from manifestlog import Durability, ETLProcess, ManifestMetadata, ManifestOptions, ManifestRecord

NAME = "systems_download.manifest.json"
EPOCH = datetime(2024, 1, 1, tzinfo=UTC)

QUICK = ManifestOptions(durability=Durability.PROCESS_KILL, auto_compact=False, compact_on_close=False)
"""No syncs, and no compaction but the asked for."""

MANUAL = ManifestOptions(auto_compact=False, compact_on_close=False)
"""The default durability, and no compaction but the asked for."""


def metadata() -> ManifestMetadata:
    """Metadata that fits every test's manifest."""
    return ManifestMetadata(process=ETLProcess.EXTRACTOR, etl_version="1.0.0", root_dir=Path("/srv/etl"))


def checksum(number: int) -> str:
    """The checksum of record `number`."""
    return hashlib.sha256(b"%d" % number).hexdigest()


def make_record(number: int, *, source: str | None = None, dataset: str = "systems") -> ManifestRecord:
    """Record `number`: its content, its time and, unless given, its source follow from the number."""
    return ManifestRecord(
        source_id=source or f"source-{number}",
        dataset=dataset,
        checksum=checksum(number),
        file_path=Path(f"/srv/etl/raw/{number}.json.gz"),
        file_size=number + 1,
        etag=f'"{number:x}"',
        ts_downloaded=EPOCH + timedelta(seconds=number),
        version="1.0.0",
    )
