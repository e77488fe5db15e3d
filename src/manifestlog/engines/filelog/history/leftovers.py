"""Moves the history of an earlier manifest aside before a new manifest gets its name.

Otherwise a segment of the new manifest would replace one of the old, and a pack of the old would hide segments of the
new.

Invariants:

- No complete file is removed: the files go to `quarantine/`, under their own names. Unfinished packs are deleted.
- Files of a manifest that exists stay. If another process creates a manifest meanwhile, the compaction lock keeps it
  out, or this one notices it.
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

from manifestlog.engines.filelog import history_folder
from manifestlog.engines.filelog.history import keep
from manifestlog.engines.filelog.lock import FileLock
from manifestlog.engines.filelog.recovery import quarantine
from manifestlog.files import disk

if TYPE_CHECKING:
    from manifestlog.names import ManifestPaths

log = logging.getLogger(__name__)


def set_aside(paths: ManifestPaths, lock_timeout_s: float) -> None:
    """Move what an earlier manifest of this name has left in `history/` to quarantine, unless the manifest exists."""
    left = _left(paths)
    if not left:
        return
    lock = FileLock(paths.compact_lock, lock_timeout_s, mode_from=os.path.join(paths.history, left[0]))
    try:
        with lock:
            if not disk.exists(paths.canonical):
                keep.sweep(paths, left)  # nobody needs what was never finished
                _move(paths, _left(paths))
    finally:
        lock.close()


def _left(paths: ManifestPaths) -> list[str]:
    names = history_folder.names_if_any(paths)
    return sorted(name for name in names if name.startswith(f"{paths.name}.manifest."))


def _move(paths: ManifestPaths, left: list[str]) -> None:
    if not left:
        return
    folder = quarantine.make_folder(paths)
    for name in left:
        disk.replace(os.path.join(paths.history, name), os.path.join(folder, name))
    disk.sync_directory(folder)
    disk.sync_directory(paths.history)
    log.warning("%s: an earlier manifest of this name has left its history; it is in %s now", paths.canonical, folder)
