"""Moves the history of an earlier manifest aside before a new manifest gets its name.

Otherwise a segment of the new manifest would replace one of the old, and a pack of the old would hide segments of the
new.

A killed copy leaves a history, too. The next copy of the same source replaces it::

    a copy         names its packs, is killed ✗                            there is no canonical file
    the next copy  writes its packs under temporary names
                   compares each pack that it finds with its own pack of this name:
                     its own begins with all events of the other           the other stays until it is replaced
                     anything else                                         the other goes to quarantine
                   names its packs, then its canonical file

The comparison comes before the first new name: after that, a pack of another manifest would be gone. A crash among the
names leaves packs of both copies, and the copy after them has the events of each in its own pack of that name.

Invariants:

- No complete file of another manifest is removed: it goes to `quarantine/`, under its own name. Unfinished packs are
  deleted.
- A pack is replaced only if the new pack of its name has all its events.
- Files of a manifest that exists stay. If another process creates a manifest meanwhile, the compaction lock keeps it
  out, or this one notices it.
"""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from typing import TYPE_CHECKING

from manifestlog.engines.filelog import history_folder
from manifestlog.engines.filelog.history import keep, writing
from manifestlog.engines.filelog.history.listing import beyond
from manifestlog.engines.filelog.history.pack import Pack
from manifestlog.engines.filelog.lock import FileLock
from manifestlog.engines.filelog.recovery import quarantine
from manifestlog.errors import ManifestError
from manifestlog.files import disk

if TYPE_CHECKING:
    from collections.abc import Sequence

    from manifestlog.names import ManifestPaths

log = logging.getLogger(__name__)


def set_aside(paths: ManifestPaths, lock_timeout_s: float) -> None:
    """Move what is left in `history/` under this name to quarantine, unless the manifest exists."""
    if left := _left(paths):
        lock = FileLock(paths.compact_lock, lock_timeout_s, mode_from=os.path.join(paths.history, left[0]))
        try:
            with lock:
                if not disk.exists(paths.canonical):
                    keep.sweep(paths, left)  # nobody needs what was never finished
                    move(paths, _left(paths))
        finally:
            lock.close()
    elif disk.is_directory(paths.history):
        _sync(paths)


def _sync(paths: ManifestPaths) -> None:
    """Sync what was set aside earlier: whoever did that may have died before, and the files would be back."""
    for folder in (paths.history, *quarantine.folders(paths)):
        with suppress(PermissionError):
            disk.sync_directory(folder)


def in_the_way(paths: ManifestPaths, ts_created: str, packs: Sequence[tuple[str, str]]) -> list[str]:
    """Return the files in `history/` that must go before these packs get their names: all but those of an earlier try.

    Each pack is its temporary name and its name. Only under the compaction lock.
    """
    coming = {os.path.basename(path): temporary for temporary, path in packs}
    temporaries = set(map(os.path.basename, coming.values()))
    names = [name for name in _left(paths) if name not in temporaries]
    if disk.exists(paths.canonical):
        names = sorted(beyond(paths, names, 0))  # its followers stay
    return [name for name in names if not (name in coming and _is_repeated(paths, ts_created, name, coming[name]))]


def _is_repeated(paths: ManifestPaths, ts_created: str, name: str, temporary: str) -> bool:
    """Return whether the new pack under a temporary name begins with every event of the one that has its name."""
    (numbers,) = paths.pack_ranges([name])
    try:
        there = Pack(os.path.join(paths.history, name))
        there.refuse_foreign(paths.name, ts_created, numbers)
        return writing.begins_with(Pack(temporary), there)
    except ManifestError:  # it is damaged, newer, or of another manifest
        return False


def move(paths: ManifestPaths, names: list[str]) -> None:
    """Move these files of `history/` to quarantine. Only under the compaction lock."""
    if not names:
        return
    folder = quarantine.make_folder(paths)
    for name in names:
        disk.replace(os.path.join(paths.history, name), os.path.join(folder, name))
    _sync(paths)
    log.warning(
        "%s: an earlier manifest of this name, or a copy that was not finished, has left its history; it is in %s now",
        paths.canonical,
        folder,
    )


def _left(paths: ManifestPaths) -> list[str]:
    names = history_folder.names_if_any(paths)
    return sorted(name for name in names if name.startswith(f"{paths.name}.manifest."))
