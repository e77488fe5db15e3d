"""The sizes of the recorded contents of a run's sources, because the run starts with the largest.

It looks up each source, or reads the whole manifest if that takes less time.
"""

from __future__ import annotations

from collections.abc import Collection

from manifestlog.extract.config.source import ETLSource
from manifestlog.managers import DownloadManifestManager

_RECORDS_A_QUESTION = 4
"""As many records are read in order in the time of one question, at least."""

Pair = tuple[str, str]


def known_sizes(manifest: DownloadManifestManager, sources: Collection[ETLSource]) -> dict[Pair, int]:
    """Return the size of the latest content of each source, by source_id and dataset; nothing for one without a record."""
    if len(manifest) <= _RECORDS_A_QUESTION * len(sources):
        return _all_sizes(manifest)
    pairs = ((source.source_id, source.dataset) for source in sources)
    records = ((pair, manifest.get_record_by_source(*pair)) for pair in pairs)
    return {pair: record.file_size for pair, record in records if record is not None}


def _all_sizes(manifest: DownloadManifestManager) -> dict[Pair, int]:
    found: dict[Pair, tuple[str, int]] = {}
    for row in manifest.rows():
        for seen in (row, *row.get("also_seen", ())):
            pair, newer = (seen["source_id"], seen["dataset"]), (seen["ts_downloaded"], row["file_size"])
            found[pair] = max(found.get(pair, newer), newer)
    return {pair: size for pair, (_, size) in found.items()}
