"""Publishing a file: write it whole under a temporary name, sync it, then rename it.

::

    (1) create it under a temporary name      after a crash: an unfinished file, which a later writer removes
    (2) write it, sync it                     after a crash: the same
    (3) give it its name                      before: the old file or none; after: the whole new file
    (4) sync the directory                    after this step the name survives a power cut

Invariants:

- A file gets its name only after all its bytes are on the disk.
- If a step before (4) fails, the temporary file is removed and the error is raised.

The caller chooses the name and decides what may rely on it.
"""

from __future__ import annotations

from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, NamedTuple

from manifestlog.files import disk

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


@contextmanager
def unfinished(temporary: str, *, mode_from: str | None = None) -> Iterator[int]:
    """Create a new file for the block. Close it at the end; remove it if the block fails.

    The file takes its mode and group from `mode_from`.
    """
    fd = disk.create(temporary, mode_from=mode_from)
    try:
        yield fd
    except BaseException:
        _discard(temporary)
        raise
    finally:
        disk.close(fd)


class Target(NamedTuple):
    """Where a file goes. `directory` is synced last; without one, the caller must sync it, or a power cut may lose the name."""

    temporary: str
    path: str
    directory: str | None = None
    must_be_new: bool = False
    """Raise `FileExistsError` if the name is taken, instead of replacing that file."""


def publish(target: Target, parts: Iterable[bytes | memoryview], *, mode_from: str | None = None) -> None:
    """Publish a file: steps (1) to (4). It takes its mode and group from `mode_from`.

    On return its bytes survive a power cut; its name too, if the target has a directory. Raises `OSError`.
    """
    with unfinished(target.temporary, mode_from=mode_from) as fd:
        _complete(fd, target, parts)


def publish_open(target: Target, parts: Iterable[bytes | memoryview], *, mode_from: str | None = None) -> int:
    """Publish a file like `publish`, but keep it open and return its descriptor."""
    fd = disk.create(target.temporary, mode_from=mode_from)
    try:
        _complete(fd, target, parts)
    except BaseException:
        _discard(target.temporary)
        disk.close(fd)
        raise
    return fd


def _complete(fd: int, target: Target, parts: Iterable[bytes | memoryview]) -> None:
    for part in parts:
        disk.append(fd, part)
    disk.sync_data(fd)
    if target.must_be_new:
        disk.publish_new(target.temporary, target.path)
    else:
        disk.replace(target.temporary, target.path)
    if target.directory is not None:
        disk.sync_directory(target.directory)


def _discard(temporary: str) -> None:
    with suppress(OSError):
        disk.remove(temporary)
