"""The compacted part of a manifest: the canonical file together with the index that fits it.

Invariants:

- An index is used only with the very bytes that it was made for. Same size, modification time and inode: the same file.
  Only the same size: the file is read once, and the CRC decides, as a manifest that was copied or restored is no other one.
- Opening reads two headers. Only an index that is missing, stale or damaged makes it parse the whole canonical.

It does not know the log: whether this is the canonical that the log belongs to is asked there (`wal`).
"""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from manifestlog.storage import canonical, disk, index
from manifestlog.storage.canonical import Canonical
from manifestlog.storage.index import Head, Index, IndexDamagedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from manifestlog.naming import ManifestPaths
    from manifestlog.rows import Row
    from manifestlog.storage.columns import Columns, RowColumns

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class BaseFiles:
    """An open canonical and the index that fits it."""

    canonical: Canonical
    index: Index
    from_scan: bool
    """The index on the disk did not fit; this one is in memory."""
    adopted: bool = False
    """The index on the disk is of the same bytes, in another file; its header does not say so yet."""

    @property
    def metadata(self) -> Row:
        return self.index.head.metadata

    @property
    def canonical_bytes(self) -> int:
        return self.index.head.stamp.size

    @property
    def identity(self) -> tuple[int, str]:
        """(size, CRC) of the file on disk, as the log names it."""
        return self.index.head.stamp.size, self.index.head.crc

    @property
    def kept(self) -> bool:
        """Whether the next opening finds this index on the disk."""
        return not (self.from_scan or self.adopted)

    @property
    def foreign(self) -> bool:
        """Whether another tool wrote the file, so that the next compaction has to rewrite all of it."""
        return self.canonical.memory is not None


def open_base(paths: ManifestPaths, *, scan: bool = False) -> BaseFiles:
    """Open the canonical; with `scan`, do not trust the index on the disk.

    Raises `FileNotFoundError` without a canonical, `DamagedManifestError` for one that cannot be understood.
    """
    fd = disk.open_read(paths.canonical)
    source = Canonical(paths.canonical, fd)
    stamp = disk.stamp(fd)
    found = None if scan else Index.open(paths.index)
    if found is not None and found.head.stamp == stamp:
        return _with(source, found)
    if found is not None and _is_copy(source, stamp, found.head):
        log.info("%s: made for a file with the same content; adopted", paths.index)
        found.head = found.head._replace(stamp=stamp)
        return _with(source, found, adopted=True)
    if found is not None:
        log.info("%s: the index is of another canonical; scanning", paths.index)
    scanned = canonical.scan(source)
    head = Head(stamp, scanned.crc, 0, scanned.metadata)
    return BaseFiles(source, Index(b"".join(index.encode(scanned.columns, head))), from_scan=True)


def _is_copy(source: Canonical, stamp: disk.Stamp, head: Head) -> bool:
    """Whether the file has the bytes that this index is of; `stamp` is older than the look, so that a change shows in it."""
    return stamp.size == head.stamp.size and canonical.checksum(source, stamp.size) == head.crc


def _with(source: Canonical, found: Index, *, adopted: bool = False) -> BaseFiles:
    source.memory = found.imported
    return BaseFiles(source, found, from_scan=False, adopted=adopted)


def keep_index(paths: ManifestPaths, found: BaseFiles, covers: int) -> None:
    """Put the index in place that an opening has made or adopted; only under the compaction lock."""
    stamp = found.index.head.stamp
    if disk.path_stamp(paths.canonical) != stamp:
        return  # it was replaced or changed since it was read
    if _is_fit(Index.open(paths.index), stamp):
        return  # another opening was quicker
    _install(paths, paths.index, found.index.copy(covers, found.canonical.memory), disk.replace, like=paths.canonical)


def _is_fit(there: Index | None, stamp: disk.Stamp) -> bool:
    if there is None or there.head.stamp != stamp:
        return False
    try:
        there.check_all()
    except IndexDamagedError:
        return False
    return True


def write_index(paths: ManifestPaths, columns: Columns | RowColumns, head: Head) -> None:
    """Put a new index in place; only under the compaction lock."""
    _install(paths, paths.index, index.encode(columns, head), disk.replace, like=paths.canonical)


def create_canonical(paths: ManifestPaths, metadata: Row) -> None:
    """Write the skeleton of an empty manifest; raises `FileExistsError` when there is one already."""
    _install(paths, paths.canonical, [canonical.skeleton(metadata)], disk.publish_new)


def sweep(paths: ManifestPaths) -> None:
    """Remove unfinished files; only under both locks: then whoever left them is dead."""
    for path in paths.temporaries(disk.list_names(paths.directory)):
        disk.remove(path)


def _install(
    paths: ManifestPaths,
    target: str,
    parts: Iterable[bytes | memoryview],
    publish: Callable[[str, str], None],
    like: str | None = None,
) -> None:
    """Write a file whole and synced beside `target`, then give it that name."""
    temporary = paths.temporary(target)
    fd = disk.create(temporary, like=like)
    try:
        for part in parts:
            disk.append(fd, part)
            disk.rest()
        disk.sync_data(fd)
        publish(temporary, target)
        disk.sync_directory(paths.directory)
    except BaseException:
        with suppress(OSError):
            disk.remove(temporary)
        raise
    finally:
        disk.close(fd)
