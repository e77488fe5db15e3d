"""The note of a replica: a small file beside the canonical file that names the followed manifest and the position
reached.

Invariants:

- Even after a crash, the note is the old one or the new one. It exists before the canonical file does, so no program
  ever mistakes a replica for a manifest that it may write to.
- Even with an unreadable note, the manifest counts as a replica.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from typing import TYPE_CHECKING

from manifestlog.copy_errors import ReplicaError
from manifestlog.engines.protocol import Replica
from manifestlog.files import disk, publish

if TYPE_CHECKING:
    from manifestlog.names import ManifestPaths

_BYTES_MAX = 16_384
_UNREADABLE = Replica("another manifest, which its note no longer names", "", "", "")


def read(paths: ManifestPaths) -> Replica | None:
    """Return the note; None for a manifest that is no replica."""
    try:
        fd = disk.open_read(paths.replica)
    except FileNotFoundError:
        return None
    except OSError:
        # Of a directory that nobody may search, the opening itself says what is wrong.
        return _UNREADABLE if os.path.lexists(paths.replica) else None
    try:
        members = json.loads(disk.read(fd, _BYTES_MAX, 0))
        return Replica(*(str(members[name]) for name in Replica._fields))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return _UNREADABLE
    finally:
        disk.close(fd)


def refuse_writer(paths: ManifestPaths) -> None:
    """Raise `ReplicaError` if this is a replica."""
    found = read(paths)
    if found is not None:
        raise ReplicaError(paths.canonical, found.source)


def write(paths: ManifestPaths, replica: Replica) -> None:
    """Replace the note, or make it. On return it survives a power cut."""
    disk.make_directory(paths.directory)
    for left in paths.temporaries(disk.list_names(paths.directory)):
        if left.startswith(f"{paths.replica}.tmp-"):
            with suppress(FileNotFoundError):
                disk.remove(left)
    target = publish.Target(paths.temporary(paths.replica), paths.replica, paths.directory)
    publish.publish(target, [json.dumps(replica._asdict()).encode() + b"\n"], mode_from=paths.canonical)
