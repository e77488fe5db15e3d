"""Opening a manifest: find or create it, and bring its metadata up to its opener's.

Invariants:

- A manifest is created only where nothing is: a damaged or headless one is an error, never a fresh start.
- Of several processes that create one manifest at once, one does and the others open it.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from manifestlog.errors import ManifestNotFoundError, MetadataConflictError
from manifestlog.models import ManifestMetadata
from manifestlog.rows import Row, utc_text
from manifestlog.session import explain
from manifestlog.storage import base, disk
from manifestlog.store import Store

if TYPE_CHECKING:
    from manifestlog.naming import ManifestPaths
    from manifestlog.options import ManifestOptions


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
        return store, _adopt(store, metadata)
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


def _create(paths: ManifestPaths, metadata: ManifestMetadata) -> None:
    disk.make_directory(paths.directory)
    # Created by somebody else meanwhile, and perhaps even compacted, which sweeps unfinished files away.
    with suppress(FileExistsError, FileNotFoundError):
        base.create_canonical(paths, metadata_row(metadata) | {"total_records": 0})


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
    if str(metadata.root_dir) != stored["root_dir"]:
        changes["root_dir"] = str(metadata.root_dir)
    if changes and not store.session.read_only:
        store.set_metadata(changes)
    return metadata.etl_version


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
