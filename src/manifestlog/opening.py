"""Opening a manifest: find or create it, and bring its metadata up to its opener's.

Invariants:

- A manifest is created only where nothing is: a damaged or headless one is an error, never a fresh start.
- Of several processes that create one manifest at once, one does and the others open it.
- Who had to read the canonical whole leaves an index behind, unless it is a reader, may not, or another is at it.
- Where locks or renames may not do what they promise, it is said once a process and directory; nothing is refused.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING

from manifestlog import mounts, roots
from manifestlog.errors import ManifestNotFoundError, MetadataConflictError
from manifestlog.rows import Row, utc_text
from manifestlog.session import explain
from manifestlog.storage import base, disk
from manifestlog.store import Store

if TYPE_CHECKING:
    from manifestlog.models import ManifestMetadata
    from manifestlog.naming import ManifestPaths
    from manifestlog.options import ManifestOptions
    from manifestlog.storage.state import State

log = logging.getLogger(__name__)

_FOREIGN_BYTES_MIN = 1 << 14


def open_store(
    paths: ManifestPaths, metadata: ManifestMetadata | None, options: ManifestOptions, *, read_only: bool
) -> tuple[Store, str]:
    """(the opened store, the version that its opener stamps records with)."""
    try:
        store = _open_or_create(paths, metadata, options, read_only=read_only)
    except OSError as error:
        if not read_only:
            explain(paths.canonical, error)
        raise
    try:
        look_around(paths)
        version = _adopt(store, metadata)
        keep_index(store)
        return store, version
    except BaseException:
        store.session.close()
        raise


def _open_or_create(
    paths: ManifestPaths, metadata: ManifestMetadata | None, options: ManifestOptions, *, read_only: bool
) -> Store:
    try:
        return Store(paths, options, read_only=read_only)
    except ManifestNotFoundError:
        if metadata is None or read_only:
            raise
    _create(paths, metadata)
    return Store(paths, options, read_only=read_only)


def keep_index(store: Store) -> None:
    """Leave the index behind that this opening had to make or adopt, so that the next one need not; never waits or fails."""

    def look(state: State) -> tuple[base.BaseFiles, int] | None:
        covers = state.wal.covered_by(state.base.identity) if state.wal is not None else 0
        # An empty manifest has nothing to look up, so creating one leaves one file; a small one of another tool is left alone.
        small = _FOREIGN_BYTES_MIN if state.base.foreign else 0
        needless = not state.base.index.count or state.base.canonical_bytes < small
        return None if state.base.kept or needless else (state.base, covers)

    if store.session.read_only or store.session.read(look) is None:
        return
    try:
        with store.session.alone_compacting(wait=False) as alone:
            # Whoever compacts writes an index, too.
            if alone and (found := store.session.read(look)) is not None:
                base.keep_index(store.paths, *found)
    except OSError as error:
        log.info("%s: no index is left behind (%s)", store.paths.index, error)


def look_around(paths: ManifestPaths) -> None:
    """Warn of a network file system, and of a canonical that has a second name; never fails."""
    with suppress(OSError):
        _warn_of_network(paths.directory, disk.device(paths.directory))
        if disk.links(paths.canonical) > 1:
            _warn_of_links(paths)


@lru_cache(maxsize=1024)
def _warn_of_network(directory: str, device: int) -> None:
    if not mounts.may_be_remote(device):
        return
    found = mounts.file_system(disk.mount_table(), device, directory)
    if mounts.kind(found) is mounts.Kind.NETWORK:
        log.warning(
            "%s: on a network file system (%s), where locks may not hold between machines and a sync may not reach a disk;"
            " keep the manifest on a local disk of the machine that writes it and copy it from there"
            " (`manifestlog doctor` tests the folder)",
            directory,
            found,
        )


def _warn_of_links(paths: ManifestPaths) -> None:
    # Whoever creates a manifest gives it its name by a link, so for a moment there are two; a crash may leave them.
    inode = disk.path_stamp(paths.canonical)
    for left in paths.temporaries(disk.list_names(paths.directory)):
        found = disk.path_stamp(left)
        if found is not None and inode is not None and found.inode == inode.inode:
            return
    links = disk.links(paths.canonical)
    if links > 1:
        log.warning(
            "%s: the file has %d names (hard links): the next compaction replaces this one only, the others keep what is"
            " there now; open it by this name only, and back it up with a copy",
            paths.canonical,
            links,
        )


def _create(paths: ManifestPaths, metadata: ManifestMetadata) -> None:
    disk.make_directory(paths.directory)
    # Created by somebody else meanwhile, and perhaps even compacted, which sweeps unfinished files away.
    with suppress(FileExistsError, FileNotFoundError):
        base.create_canonical(paths, metadata_row(metadata) | {"total_records": 0})
        log.info("%s: created", paths.canonical)


def metadata_row(metadata: ManifestMetadata) -> Row:
    """The metadata as it stands in the canonical file."""
    return {
        "process": metadata.process.value,
        "etl_version": metadata.etl_version,
        "root_dir": str(metadata.root_dir),
        "total_records": metadata.total_records,
        "ts_created": utc_text(metadata.ts_created),
        "ts_updated": utc_text(metadata.ts_updated),
    }


def _adopt(store: Store, metadata: ManifestMetadata | None) -> str:
    stored = store.metadata()
    if metadata is None:
        return str(stored["etl_version"])
    if metadata.process.value != stored["process"]:
        raise MetadataConflictError(store.paths.canonical, "process", stored["process"], metadata.process.value)
    changes = {}
    if is_newer(metadata.etl_version, stored["etl_version"]):
        changes["etl_version"] = metadata.etl_version
    root_dir = root_to_adopt(store, str(metadata.root_dir))
    if root_dir is not None:
        changes["root_dir"] = root_dir
    if changes and not store.session.read_only:
        store.set_metadata(changes)
        log.info(
            "%s: %s", store.paths.canonical, ", ".join(f"{name} is {value} now" for name, value in changes.items())
        )
    return metadata.etl_version


def root_to_adopt(store: Store, given: str) -> str | None:
    """The root_dir to take over from an opener; None when it means the stored one, or would lead relative paths elsewhere."""
    stored, folder = str(store.metadata()["root_dir"]), store.paths.directory
    if roots.root_of(given, folder) == roots.root_of(stored, folder):
        return None
    if not store.has_relative_path():
        return given
    log.warning(
        "%s: root_dir stays %s, not %s, because relative paths of its records begin there; if the files have moved, run"
        " `manifestlog relocate`",
        store.paths.canonical,
        stored,
        given,
    )
    return None


def difference(
    store: Store, version: str, metadata: ManifestMetadata | None, options: ManifestOptions | None, *, read_only: bool
) -> str | None:
    """In what a manifest that is open, by an opener of this version, differs from what is asked for; None: in nothing."""
    if options is not None and options != store.options:
        return f"options ({store.options})"
    if read_only != store.session.read_only:
        return f"read_only ({store.session.read_only})"
    if metadata is not None and (field := _other_metadata(store, version, metadata)):
        return f"metadata ({field})"
    return None


def _other_metadata(store: Store, version: str, given: ManifestMetadata) -> str | None:
    stored = store.metadata()
    pairs = {
        "process": (given.process.value, stored["process"]),
        "root_dir": (root_to_adopt(store, str(given.root_dir)) or stored["root_dir"], stored["root_dir"]),
        "etl_version": (given.etl_version, version),
    }
    return next((name for name, (one, other) in pairs.items() if one != other), None)


def is_newer(version: str, stored: str) -> bool:
    """Whether `version` replaces `stored`: dotted numbers compare as numbers, anything else is newer when different."""
    numbers = [_numbers(version), _numbers(stored)]
    if None in numbers:
        return version != stored
    given, known = (n or () for n in numbers)
    width = max(len(given), len(known))
    return given + (0,) * (width - len(given)) > known + (0,) * (width - len(known))


def _numbers(version: str) -> tuple[int, ...] | None:
    parts = version.split(".")
    if not all(part.isascii() and part.isdigit() for part in parts):
        return None
    return tuple(int(part) for part in parts)
