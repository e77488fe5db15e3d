"""The registrations of followers: one small file each in `history/`, replaced as a whole.

Invariants:

- Even after a crash, a registration is the old one or the new one. Two followers never write to each other's file.
- If a file cannot be read, the whole history is kept until the file is replaced or removed: nothing is cut on a guess.

It decides which events the history must keep (`floor`); `keep` cuts.
"""

from __future__ import annotations

import json
import logging
from contextlib import suppress
from typing import TYPE_CHECKING

from manifestlog.engines.filelog import history_folder
from manifestlog.engines.filelog.history import reading
from manifestlog.errors import CursorError, DamagedManifestError, ReadOnlyError
from manifestlog.files import disk, publish
from manifestlog.model.followers import Follower, follower

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from manifestlog.names import ManifestPaths

log = logging.getLogger(__name__)

_BYTES_MAX = 4096
_TRIES = 3


def read_all(paths: ManifestPaths) -> list[Follower]:
    """Return the registrations, by name; those that cannot be read are left out with a warning."""
    return [found for _, found in _read(paths) if found is not None]


def _read(paths: ManifestPaths) -> list[tuple[str, Follower | None]]:
    found: list[tuple[str, Follower | None]] = []
    for name in _names(paths):
        try:
            found.append((name, _read_one(paths.follower(name), name)))
        except FileNotFoundError:
            continue  # it was removed meanwhile
        except ValueError as error:
            log.warning("%s: %s", paths.follower(name), error)
            found.append((name, None))
    return found


def _names(paths: ManifestPaths) -> list[str]:
    return paths.follower_names(history_folder.names(paths))


def _read_one(path: str, name: str) -> Follower:
    """Return the registration in a file; raises `ValueError` with what is wrong and what to do."""
    try:
        members = json.loads(_content(path))
        return follower(name, *(str(members[member]) for member in Follower._fields[1:]))
    except FileNotFoundError:
        raise
    except (DamagedManifestError, OSError, ValueError, KeyError, TypeError, OverflowError) as error:
        why = error.reason if isinstance(error, DamagedManifestError) else getattr(error, "strerror", None) or error
        advice = "the whole history is kept until the follower registers again, or the file is removed"
        raise ValueError(f"not a valid registration of a follower ({why}): {advice}") from None


def _content(path: str) -> bytes:
    fd = history_folder.open_file(path)
    try:
        return disk.read(fd, _BYTES_MAX, 0)
    finally:
        disk.close(fd)


def invalid(paths: ManifestPaths) -> Iterator[tuple[str, str]]:
    """Yield the path of each file that is no valid registration, and what is wrong with it."""
    for name in _names(paths):
        with suppress(FileNotFoundError):
            try:
                _read_one(paths.follower(name), name)
            except ValueError as error:
                yield paths.follower(name), str(error)


def write(paths: ManifestPaths, registered: Follower, *, read_only: bool) -> None:
    """Store a registration in place of the one with this name. On return it survives a power cut."""
    _refuse_if(paths, read_only)
    with history_folder.stated(paths):
        history_folder.make(paths)
        _publish(paths, registered)


def _publish(paths: ManifestPaths, registered: Follower) -> None:
    path = paths.follower(registered.name)
    data = json.dumps(registered._asdict()).encode() + b"\n"
    for attempt in range(_TRIES):
        _sweep(paths, registered.name)
        try:
            target = publish.Target(paths.temporary(path), path, paths.history)
            publish.publish(target, [data], mode_from=paths.canonical)
        except FileNotFoundError:  # another process of this follower took the file for one that a crash had left
            if attempt == _TRIES - 1:
                raise
        else:
            return


def _sweep(paths: ManifestPaths, name: str) -> None:
    """Remove what a killed process of this follower has left unfinished."""
    for left in paths.follower_temporaries(name, history_folder.names(paths)):
        with suppress(FileNotFoundError):
            disk.remove(left)


def remove(paths: ManifestPaths, name: str, *, read_only: bool) -> bool:
    """Remove a registration; return whether it existed."""
    _refuse_if(paths, read_only)
    with history_folder.stated(paths):
        if name not in _names(paths):
            return False
        _sweep(paths, name)
        disk.remove(paths.follower(name))
    return True


def _refuse_if(paths: ManifestPaths, read_only: bool) -> None:  # noqa: FBT001 -- one question
    if read_only:
        raise ReadOnlyError(paths.canonical)


def floor(paths: ManifestPaths, ts_created: str, now: datetime) -> int | None:
    """Return the first segment that a registered follower still needs, or None if none needs any."""
    tag = reading.tag_of(paths.name, ts_created)
    needed: list[int] = []
    for _, found in _read(paths):
        if found is None:
            needed.append(0)
        elif found.needed_until > now:
            with suppress(CursorError):  # of another manifest that had this name
                needed.append(reading.parse_cursor(found.cursor, tag, paths.canonical).segment)
    return min(needed, default=None)
