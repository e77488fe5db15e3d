"""The compacted part of a manifest: the canonical file together with its index.

Invariants:

- An index is used only with the bytes for which it was built. If size, modification time and inode match, the file is
  the same. If only the size matches, the file may have been copied or restored: it is read once, and its CRC decides.
- Opening reads two headers. It parses the whole canonical file only if the index is missing, stale or damaged.
- If another process is already reading the whole file, this process waits and uses its index (`turn`).

It does not know the log; the log decides whether it belongs to this canonical file (`wal`).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from manifestlog.engines.filelog.canonical import index, scan as scanning
from manifestlog.engines.filelog.canonical.index import Head, Index, IndexDamagedError
from manifestlog.engines.filelog.canonical.scan import Canonical
from manifestlog.files import disk, publish
from manifestlog.files.publish import Target
from manifestlog.model import document

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from manifestlog.engines.filelog.canonical.columns import Columns, RowColumns
    from manifestlog.engines.filelog.canonical.turn import Turn
    from manifestlog.model.rows import Row
    from manifestlog.names import ManifestPaths

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CanonicalFiles:
    """An open canonical file and its index."""

    canonical: Canonical
    index: Index
    from_scan: bool
    """Whether the index was built in memory, because the one on disk does not fit."""
    adopted: bool = False
    """Whether the index on disk was built for the same bytes in another file, which its header still names."""

    @property
    def metadata(self) -> Row:
        return self.index.head.metadata

    @property
    def canonical_bytes(self) -> int:
        return self.index.head.stamp.size

    @property
    def rewrite_bytes(self) -> int:
        """How many bytes it takes to write both files again."""
        return self.canonical_bytes + self.index.size

    @property
    def identity(self) -> tuple[int, str]:
        """(size in bytes, CRC) of the file on disk, which identify it in the log."""
        return self.index.head.stamp.size, self.index.head.crc

    @property
    def kept(self) -> bool:
        """Whether the next opening finds this index on disk."""
        return not (self.from_scan or self.adopted)

    @property
    def foreign(self) -> bool:
        """Whether another tool wrote the file, so that the next compaction must rewrite all of it."""
        return self.canonical.memory is not None


def open_base(paths: ManifestPaths, *, scan: bool = False, turn: Turn | None = None) -> CanonicalFiles:
    """Open the canonical; with `scan`, ignore the index on disk. With a `turn`, it is read only once that has come.

    Raises `FileNotFoundError` if there is no canonical, and `DamagedManifestError` if it cannot be parsed.
    """
    fd = disk.open_read(paths.canonical)
    source = Canonical(paths.canonical, fd)
    stamp = disk.stamp(fd)
    found = None if scan else Index.open(paths.index)
    if found is not None and found.head.stamp == stamp:
        return _with(source, found)
    if turn is not None and turn.take(stamp.size):
        return open_base(paths, turn=turn)
    if found is not None and _is_copy(source, stamp, found.head):
        log.info("%s: index adopted (the canonical was copied or restored with the same content)", paths.index)
        found.head = found.head._replace(stamp=stamp)
        return _with(source, found, adopted=True)
    if found is not None:
        log.info("%s: index ignored (it belongs to another canonical); reading the whole canonical", paths.index)
    scanned = scanning.scan(source)
    head = Head(stamp, scanned.crc, 0, scanned.metadata)
    return CanonicalFiles(source, Index(b"".join(index.encode(scanned.columns, head))), from_scan=True)


def _is_copy(source: Canonical, stamp: disk.Stamp, head: Head) -> bool:
    """Return whether the file has the bytes of this index; `stamp` is taken before reading, so it reveals a change."""
    return stamp.size == head.stamp.size and scanning.checksum(source, stamp.size) == head.crc


def _with(source: Canonical, found: Index, *, adopted: bool = False) -> CanonicalFiles:
    source.memory = found.imported
    return CanonicalFiles(source, found, from_scan=False, adopted=adopted)


def keep_index(paths: ManifestPaths, found: CanonicalFiles, covers: int) -> None:
    """Publish the index that an opening built or adopted; only under the compaction lock."""
    stamp = found.index.head.stamp
    if disk.path_stamp(paths.canonical) != stamp:
        return  # the canonical was replaced or changed since it was read
    if _is_fit(Index.open(paths.index), stamp):
        return  # another opening was faster
    for path in paths.temporaries(disk.list_names(paths.directory)):
        if path.startswith(f"{paths.index}.tmp-"):
            disk.remove(path)  # its writer is dead: an index is written only under this lock
    if covers:
        disk.sync_directory(paths.directory)  # it says that there is a log, whose creator may have died before this
    _install_index(paths, found.index.copy(covers, found.canonical.memory))


def _is_fit(there: Index | None, stamp: disk.Stamp) -> bool:
    if there is None or there.head.stamp != stamp:
        return False
    try:
        there.check_all()
    except IndexDamagedError:
        return False
    return True


def write_index(paths: ManifestPaths, columns: Columns | RowColumns, head: Head) -> None:
    """Publish a new index; only under the compaction lock. On return it survives a power cut."""
    _install_index(paths, index.encode(columns, head))


def create_canonical(paths: ManifestPaths, metadata: Row) -> None:
    """Create the canonical file of an empty manifest; raises `FileExistsError` if it exists.

    On return it survives a power cut.
    """
    target = Target(paths.temporary(paths.canonical), paths.canonical, paths.directory, must_be_new=True)
    publish.publish(target, [document.skeleton(metadata)])


def sweep(paths: ManifestPaths) -> None:
    """Remove unfinished files; only under both locks, which prove that their writers are dead."""
    for path in paths.temporaries(disk.list_names(paths.directory)):
        disk.remove(path)


def _install_index(paths: ManifestPaths, parts: Iterable[bytes | memoryview]) -> None:
    target = Target(paths.temporary(paths.index), paths.index, paths.directory)
    publish.publish(target, _resting(parts), mode_from=paths.canonical)


def _resting(parts: Iterable[bytes | memoryview]) -> Iterator[bytes | memoryview]:
    """Yield the parts, and let other threads run after each."""
    for part in parts:
        yield part
        disk.yield_gil()
