"""Opening a manifest to read records from it.

It is apart from `target`, because models take longer to load than a question to the index takes to be answered.
"""

from pathlib import Path

from manifestlog.cli.settings import Settings
from manifestlog.manager import DownloadManifestManager
from manifestlog.model.models import ManifestRecord, paths_of


def open_to_read(settings: Settings, path: Path) -> DownloadManifestManager:
    """Open a manifest of any kind, writing nothing; works in a directory that is read-only."""
    return DownloadManifestManager(path, options=settings.options(), read_only=True)


def located(record: ManifestRecord, root: Path) -> ManifestRecord:
    """The record with its paths as they lead from anywhere; `cat` shows them as they are stored."""
    if all(path.is_absolute() for path in paths_of(record)):
        return record
    seen = tuple(one.model_copy(update={"file_path": root / one.file_path}) for one in record.also_seen)
    return record.model_copy(update={"file_path": root / record.file_path, "also_seen": seen})
