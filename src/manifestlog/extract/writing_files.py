"""Opens files for writing, creates their directories, and makes their names durable."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from manifestlog.extract.errors import ExtractError


def write_at(fd: int, data: bytes | memoryview, position: int, path: Path) -> None:
    """Write all of the data at a position of an open file."""
    view = memoryview(data)
    try:
        while view:
            size = os.pwrite(fd, view, position)
            view, position = view[size:], position + size
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None  # the system call does not know the path


def open_part(path: Path, *, anew: bool) -> int:
    """Open a file for writing, creating it and its directory when they are missing; with `anew`, a new file."""
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | (os.O_EXCL if anew else 0)
    while True:
        try:
            return os.open(path, flags, 0o666)
        except FileExistsError:
            path.unlink(missing_ok=True)
        except (FileNotFoundError, NotADirectoryError):
            make_directory(path.parent)


def sync_directories(directories: Iterable[Path]) -> None:
    """Make the names in these directories durable."""
    for directory in directories:
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def make_directory(directory: Path) -> None:
    """Create a directory and its parents, durably."""
    if directory.is_dir():
        return
    missing = [path for path in (directory, *directory.parents) if not path.exists()]
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise _directory_error(directory) from None
    sync_directories(path.parent for path in reversed(missing))


def _directory_error(directory: Path) -> ExtractError:
    """Return the error that says why this directory cannot be created."""
    for path in (directory, *directory.parents):
        if path.is_symlink() and not path.exists():
            return ExtractError("the link is dangling; create the directory it names, or remove the link", str(path))
        if path.exists() and not path.is_dir():
            return ExtractError("a file is in place of a directory; move it away, or choose another name", str(path))
    return ExtractError("the directory cannot be created; run extract again", str(directory))
