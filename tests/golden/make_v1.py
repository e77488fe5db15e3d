"""Makes `v1/`, a manifest directory of format 1: run once, when the format was new; its bytes are what is kept.

Never run it over a directory that was released: a test that its own library wrote yesterday proves nothing about last year.
A later format gets a `v2/` beside it, with a script of its own.

    python tests/golden/make_v1.py DIRECTORY
"""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

from manifestlog import (
    DownloadManifestManager,
    Durability,
    ETLProcess,
    ManifestMetadata,
    ManifestOptions,
    ManifestRecord,
)
from support.engines import engine_of

NAME = "systems_download.manifest.json"
T0 = datetime(2024, 5, 1, 12, tzinfo=UTC)
META = ManifestMetadata(
    process=ETLProcess.EXTRACTOR, etl_version="1.4.0", root_dir=Path("/srv/etl"), ts_created=T0, ts_updated=T0
)
OPTIONS = ManifestOptions(durability=Durability.POWER_CUT, auto_compact=False, compact_on_close=False)


def sha(text: str) -> str:
    """The checksum of a content."""
    return sha256(text.encode()).hexdigest()


def record(content: str, minute: float, source: str, **more: Any) -> ManifestRecord:
    """What `source` delivered."""
    fields: dict[str, Any] = {
        "source_id": source,
        "dataset": "systems",
        "checksum": sha(content),
        "file_path": Path("/srv/etl/raw") / content,
        "file_size": 1000 + len(content),
        "ts_downloaded": T0 + timedelta(minutes=minute),
        "version": "1.4.0",
    }
    return ManifestRecord(**fields | more)


def rotate(manager: DownloadManifestManager) -> None:
    """Seal the active segment, and start the next."""
    engine_of(manager).session.transact(lambda state: state.start_log().rotate())


def make(directory: Path) -> None:
    """A canonical that a compaction wrote, two sealed segments, an active one with a torn tail, an index."""
    directory.mkdir()
    path = directory / NAME
    old = record("compressed", 0, "edsm").model_dump(mode="json") | {"compression": {"kind": "zstd", "level": 3}}
    head = META.model_dump(mode="json") | {"total_records": 1}
    path.write_text(json.dumps({"records": {old["checksum"].upper(): old}, "metadata": head}, indent=2))
    with DownloadManifestManager(path, META, options=OPTIONS) as manager:
        manager.add(record("plain", 1, "spansh"))
        manager.add(record("shared", 2, "spansh", etag='"e1"', last_modified="Wed, 01 May 2024 12:02:00 GMT"))
        manager.add(record("shared", 3, "edsm", dataset="bodies"))
        manager.add(record("forgotten in the log", 4, "eddb"))
        manager.save()
        manager.add(record("plain", 5, "spansh", etag='"e2"'))
        manager.forget(sha("forgotten in the log"))
        rotate(manager)
        manager.add_many(
            [record("batch one", 6, "batch"), record("batch two", 6, "batch", derived_from=(sha("plain"),))]
        )
        rotate(manager)
    newer = META.model_copy(update={"etl_version": "1.10.0"})
    with DownloadManifestManager(path, newer, options=OPTIONS) as manager:
        manager.add(record("Übergröße 🪐", 7.0000001, "ünï/cöde", version="1.10.0"))
        manager.add(record("batch one", 8, "batch"))
        manager.update(
            sha("compressed"), {"checksum": sha("compressed"), "etag": '"fixed"', "file_path": "/moved", "file_size": 7}
        )
    with max(directory.glob("*.wal-*.jsonl")).open("ab") as active:
        active.write(b'{"op":"put","ts":"2024-05-01T13:00:00.000000Z","record":{"source_id":"torn","data')
    for lock in directory.glob("*.lock"):
        lock.unlink()


if __name__ == "__main__":
    make(Path(sys.argv[1]))
