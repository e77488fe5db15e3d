"""The manifest that the property tests open: whose it is, and options under which nothing happens by itself."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from manifestlog import Durability, ETLProcess, ManifestMetadata, ManifestOptions

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
