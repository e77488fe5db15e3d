"""The note of a replica: a small file beside the canonical that says which manifest it follows, and up to where it has come.

Invariants:

- The note is the old one or the new one, whatever crash. It is there before the canonical is, so no program ever writes
  into a replica that it takes for a manifest.
- A note that cannot be read still makes the manifest a replica.
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
        fd = disk.open_regular(paths.replica)
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
