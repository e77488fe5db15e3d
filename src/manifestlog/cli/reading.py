"""Opens a manifest to read its records.

Separate from `target`, because importing the models takes longer than a look-up in the index.
"""

from datetime import UTC, datetime
from pathlib import Path

from manifestlog.cli import durations
from manifestlog.cli.settings import Settings
from manifestlog.managers import DownloadManifestManager
from manifestlog.model.models import ManifestRecord, paths_of


def open_to_read(settings: Settings, path: Path, as_of: str | None = None) -> DownloadManifestManager:
    """Open a manifest of any kind without writing, as it is or was; also works in a read-only directory."""
    return open_moment(settings, path, durations.as_of(as_of, datetime.now(UTC)))


def open_moment(settings: Settings, path: Path, moment: datetime | None) -> DownloadManifestManager:
    """Open a manifest without writing, as it was at a time; None for now."""
    found = DownloadManifestManager(path, options=settings.options(), read_only=True)
    if moment is None:
        return found
    with found:
        return found.as_of(moment)


def located(record: ManifestRecord, root: Path) -> ManifestRecord:
    """Return the record with absolute paths. `cat` shows the stored paths."""
    if all(path.is_absolute() for path in paths_of(record)):
        return record
    seen = tuple(one.model_copy(update={"file_path": root / one.file_path}) for one in record.also_seen)
    return record.model_copy(update={"file_path": root / record.file_path, "also_seen": seen})
