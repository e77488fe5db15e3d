"""The directory `history/`: lists it, opens its files, and reports problems with it.

Invariants:

- A missing directory is an empty history. If the directory cannot be used for any other reason,
  `HistoryUnavailableError` is raised.
- Only a regular file is ever read; anything else with the name of a pack or a segment is damage.
- Every system error about the history gets its path and advice.

It knows no segments (`spans`), and moves nothing (`keep`).
"""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from manifestlog.errors import DamagedManifestError, DiskFullError, HistoryUnavailableError, ManifestError
from manifestlog.files import disk

if TYPE_CHECKING:
    from collections.abc import Iterator

    from manifestlog.names import ManifestPaths

_NO_FOLDER = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})
_NO_FILE = frozenset({errno.EISDIR, errno.ELOOP, errno.ENXIO})


def names(paths: ManifestPaths) -> list[str]:
    """Return the names of all files in the history; none if there is no such directory."""
    try:
        return disk.list_names(paths.history)
    except FileNotFoundError:
        return [] if os.path.basename(paths.history) not in disk.list_names(paths.directory) else _listed(paths)
    except OSError as error:
        raise HistoryUnavailableError(paths.history, error) from None


def _listed(paths: ManifestPaths) -> list[str]:
    """List the directory, which has a name: another process has just created it, or the name is a link to nothing."""
    try:
        return disk.list_names(paths.history)
    except FileNotFoundError:
        nothing = OSError(errno.ENOENT, "it is a symbolic link to nothing")
        raise HistoryUnavailableError(paths.history, nothing) from None


def names_if_any(paths: ManifestPaths) -> list[str]:
    """Return the names of all files in the history; none if something else than a directory is in its place."""
    try:
        return names(paths)
    except HistoryUnavailableError as error:
        if error.errno in _NO_FOLDER:
            return []
        raise


def make(paths: ManifestPaths) -> None:
    """Create the directory unless it is there. On return its name survives a power cut."""
    if not disk.exists(paths.history):
        names(paths)  # a link to nothing is in the way
        disk.make_directory(paths.history, mode_from=paths.directory)
        disk.sync_directory(paths.directory)


def open_file(path: str) -> int:
    """Open a file of the history; raises `FileNotFoundError`, and `DamagedManifestError` if it is no regular file."""
    try:
        return disk.open_read(path)
    except OSError as error:
        if error.errno in _NO_FILE:
            raise DamagedManifestError(path, 0, "it is not a regular file") from None
        raise


@contextmanager
def stated(paths: ManifestPaths) -> Iterator[None]:
    """Raise an error of the system as `HistoryUnavailableError`, and that of a full disk as `DiskFullError`."""
    try:
        yield
    except OSError as error:
        if isinstance(error, ManifestError):
            raise
        if error.errno in disk.FULL_ERRNOS:
            raise DiskFullError(paths.canonical, error) from error
        raise HistoryUnavailableError(os.fsdecode(error.filename or paths.history), error) from error
