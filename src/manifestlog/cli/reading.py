"""Opens a manifest to read its records.

Separate from `target`, because importing the models takes longer than a look-up in the index.
"""

from pathlib import Path

from manifestlog.cli.settings import Settings
from manifestlog.managers import DownloadManifestManager
from manifestlog.model.models import ManifestRecord, paths_of


def open_to_read(settings: Settings, path: Path) -> DownloadManifestManager:
    """Open a manifest of any kind without writing; also works in a read-only directory."""
    return DownloadManifestManager(path, options=settings.options(), read_only=True)


def located(record: ManifestRecord, root: Path) -> ManifestRecord:
    """Return the record with absolute paths. `cat` shows the stored paths."""
    if all(path.is_absolute() for path in paths_of(record)):
        return record
    seen = tuple(one.model_copy(update={"file_path": root / one.file_path}) for one in record.also_seen)
    return record.model_copy(update={"file_path": root / record.file_path, "also_seen": seen})
