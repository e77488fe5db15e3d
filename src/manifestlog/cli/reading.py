"""Opens a manifest to read its records.

Separate from `target`, because importing the models takes longer than a lookup in the index.
"""

import os
from datetime import UTC, datetime
from pathlib import Path

from manifestlog.cli import durations
from manifestlog.cli.settings import Settings
from manifestlog.managers import DownloadManifestManager
from manifestlog.model.models import ManifestRecord, paths_of
from manifestlog.model.rows import FIELDS, OBSERVED, REQUIRED, Row
from manifestlog.names import is_url

_RECORD = tuple(name for name in FIELDS if name != "tie")
_OBSERVATION = tuple(name for name in OBSERVED if name != "tie")
_PRINTED_AS_STORED = frozenset(_RECORD) - {"also_seen"}


def open_to_read(settings: Settings, path: str, as_of: str | None = None) -> DownloadManifestManager:
    """Open a manifest of any kind without writing, as it is or was; also works in a read-only directory."""
    return open_moment(settings, path, durations.as_of(as_of, datetime.now(UTC)))


def open_moment(settings: Settings, path: str, moment: datetime | None) -> DownloadManifestManager:
    """Open a manifest without writing, as it was at a time; None for now."""
    found = DownloadManifestManager(path, options=settings.options(), read_only=True)
    if moment is None:
        return found
    with found:
        return found.as_of(moment)


class Root:
    """The root of a manifest, for printing many rows. Prints what the model of a row has, with absolute paths."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._before = os.path.join(root, "")

    def locate(self, path: str) -> str:
        """Return `str(root / path)`, in a tenth of the time for a path that is in normal form."""
        if path[:1] in ("", ".") or path[-1] == "/" or "//" in path or "/." in path:
            return path if is_url(path) else str(self._root / path)
        return path if path[0] == "/" else self._before + path

    def prints_as_stored(self, row: Row) -> bool:
        """Return whether `printed` equals the row; false also for a row whose paths it would have to compare."""
        path = row["file_path"]
        usual = len(row) == len(REQUIRED) or row.keys() <= _PRINTED_AS_STORED
        return usual and path[:1] == "/" and self.locate(path) is path

    def printed(self, row: Row) -> Row:
        """Return the members that the model of a row has, with absolute paths."""
        found = {name: row[name] for name in _RECORD if name in row} | {"file_path": self.locate(row["file_path"])}
        if "also_seen" in row:
            found["also_seen"] = [
                {name: seen[name] for name in _OBSERVATION if name in seen}
                | {"file_path": self.locate(seen["file_path"])}
                for seen in row["also_seen"]
            ]
        return found


def located(record: ManifestRecord, root: Path) -> ManifestRecord:
    """Return the record with absolute paths. `cat` shows the stored paths."""
    if all(path.is_absolute() for path in paths_of(record)):
        return record
    seen = tuple(one.model_copy(update={"file_path": root / one.file_path}) for one in record.also_seen)
    return record.model_copy(update={"file_path": root / record.file_path, "also_seen": seen})
