"""Records, metadata and files for the contract tests."""

from __future__ import annotations

import hashlib
import json
import zlib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from manifestlog import (
    DownloadManifestManager,
    Durability,
    ETLProcess,
    ManifestMetadata,
    ManifestOptions,
    ManifestRecord,
    Observation,
)

T0 = datetime(2023, 1, 1, 12, tzinfo=UTC)
META = ManifestMetadata(
    process=ETLProcess.EXTRACTOR, etl_version="1.0.0", root_dir=Path("/srv/etl"), ts_created=T0, ts_updated=T0
)
QUIET = ManifestOptions(durability=Durability.PROCESS_KILL, auto_compact=False, compact_on_close=False)
"""Nothing happens unless the test asks for it."""


def sha(text: str) -> str:
    """The checksum of a content."""
    return hashlib.sha256(text.encode()).hexdigest()


def at(minute: float) -> datetime:
    """So many minutes after the beginning."""
    return T0 + timedelta(minutes=minute)


def record(
    content: str = "a", minute: float = 0, source: str = "src", dataset: str = "set", **more: Any
) -> ManifestRecord:
    """What `source` delivered `minute` minutes after the beginning."""
    fields: dict[str, Any] = {
        "source_id": source,
        "dataset": dataset,
        "checksum": sha(content),
        "file_path": Path("/raw") / content,
        "file_size": len(content) + 1,
        "ts_downloaded": at(minute),
        "version": "1.0.0",
    }
    return ManifestRecord(**fields | more)


def one_of_each() -> list[ManifestRecord]:
    """Return records that are new, duplicate, changed, refreshed, reverted and alias, in this order."""
    return [
        record("a", 1),
        record("a", 1),
        record("b", 2),
        record("b", 3, etag="x"),
        record("a", 4),
        record("a", 4, source="other"),
    ]


def meta(**changes: Any) -> ManifestMetadata:
    """The usual metadata with some fields changed."""
    return META.model_copy(update=changes)


def files_of(directory: Path) -> dict[str, bytes]:
    """Every file that holds data; locks are empty and come and go."""
    return {f.name: f.read_bytes() for f in sorted(directory.iterdir()) if f.is_file() and f.suffix != ".lock"}


def traces(manager: DownloadManifestManager) -> object:
    """Everything that a write could leave: files, or else answers and events."""
    if Path(manager.location.display).is_file():
        return files_of(manager.path.parent)
    return answers(manager), manager.cursor


def segments_of(directory: Path) -> list[Path]:
    """The log segments, oldest first."""
    return sorted(directory.glob("*.manifest.wal-*.jsonl"))


def line_at(body: bytes, salt: int, offset: int) -> bytes:
    """A log line with the CRC that it must have at this place: `body` is a JSON object without its closing brace."""
    crc = zlib.crc32(body, zlib.crc32(offset.to_bytes(8, "little"), salt))
    return body + b',"crc":"%08x"}\n' % crc


def salt_of(segment: bytes) -> int:
    """The salt that a segment's first line states."""
    return int(json.loads(segment.split(b"\n")[0])["salt"], 16)


def answers(manager: DownloadManifestManager) -> object:
    """Everything that a manifest can be asked, in one value."""
    records = dict(manager.records.items())
    seen: list[ManifestRecord | Observation] = list(records.values())
    seen += [other for each in records.values() for other in each.also_seen]
    sources = {(o.source_id, o.dataset) for o in seen}
    return (
        records,
        list(manager),
        len(manager),
        manager.metadata,
        {key: manager.get(key) for key in [*records, sha("unknown")]},
        {pair: manager.get_record_by_source(*pair) for pair in sources},
        {source: manager.get_record_by_source(source) for source, _ in sources},
    )
