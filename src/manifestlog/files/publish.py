"""How a file comes to its name: written whole beside it, synced, then renamed.

::

    (1) create it under a temporary name      a crash leaves an unfinished file, which a later writer removes
    (2) write it, sync it                     likewise
    (3) give it its name                      before: the old file or none; after: the whole new one
    (4) sync the directory                    from here on the name survives a power cut

Invariants:

- A file has its name only when all its bytes are on the disk.
- When anything fails before (4), the temporary file is removed, and the error is raised.

Which name, and what may rely on it, is the caller's business.
"""

from __future__ import annotations

from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, NamedTuple

from manifestlog.files import disk

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


@contextmanager
def unfinished(temporary: str, *, like: str | None = None) -> Iterator[int]:
    """A new file, open for the block and closed at its end; removed when the block fails.

    Its mode and group are those of `like`.
    """
    fd = disk.create(temporary, like=like)
    try:
        yield fd
    except BaseException:
        _discard(temporary)
        raise
    finally:
        disk.close(fd)


class Target(NamedTuple):
    """Where a file goes. `directory` is synced last; without it the name may be lost in a power cut until the caller does."""

    temporary: str
    path: str
    directory: str | None = None
    must_be_new: bool = False
    """Whether a file of that name is an error (`FileExistsError`), not replaced."""


def publish(target: Target, parts: Iterable[bytes | memoryview], *, like: str | None = None) -> None:
    """Steps (1) to (4): write a file whole and give it its name. Its mode and group are those of `like`."""
    with unfinished(target.temporary, like=like) as fd:
        _complete(fd, target, parts)


def publish_open(target: Target, parts: Iterable[bytes | memoryview], *, like: str | None = None) -> int:
    """The same for a file that the caller goes on with: give its descriptor."""
    fd = disk.create(target.temporary, like=like)
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
