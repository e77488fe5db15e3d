"""The manifest that the property tests open: whose it is, what is added, and options under which nothing happens by itself."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from manifestlog import Durability, ETLProcess, ManifestMetadata, ManifestOptions, ManifestRecord

if TYPE_CHECKING:
    from .model import Pair, Seen

T0 = datetime(2023, 1, 1, tzinfo=UTC)
META = ManifestMetadata(
    process=ETLProcess.EXTRACTOR, etl_version="1", root_dir=Path("/r"), ts_created=T0, ts_updated=T0
)


def options(*, segment_bytes_max: int, batch_records_max: int) -> ManifestOptions:
    """Options with these limits."""
    return ManifestOptions(
        durability=Durability.PROCESS_KILL,
        auto_compact=False,
        compact_on_close=False,
        segment_bytes_max=segment_bytes_max,
        batch_records_max=batch_records_max,
    )


def record_of(checksum: str, pair: Pair, event: Seen) -> ManifestRecord:
    """The record of a content that the model has seen."""
    return ManifestRecord(
        source_id=pair.source_id,
        dataset=pair.dataset,
        checksum=checksum,
        file_path=Path(event.path),
        file_size=7,
        etag=event.etag,
        ts_downloaded=T0 + timedelta(minutes=event.time),
        version="1",
    )
