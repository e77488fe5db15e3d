"""Opening a manifest to read records from it.

It is apart from `target`, because models take longer to load than a question to the index takes to be answered.
"""

from pathlib import Path

from manifestlog.cli.settings import Settings
from manifestlog.manager import DownloadManifestManager


def open_to_read(settings: Settings, path: Path) -> DownloadManifestManager:
    """Open a manifest of any kind, writing nothing; works in a directory that is read-only."""
    return DownloadManifestManager(path, options=settings.options(), read_only=True)
