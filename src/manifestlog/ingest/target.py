"""The manifest that files are registered in: made where it is missing, looked at before anything is hashed.

Invariants:

- An existing manifest is only read here; what shall change in its metadata, the workers change as they open it.
- A root is stated only where no recorded path would lead elsewhere by it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from manifestlog import names
from manifestlog.errors import ManifestNotFoundError, MetadataConflictError
from manifestlog.factory import fresh_metadata
from manifestlog.manager import AbstractManifest, DownloadManifestManager
from manifestlog.model import roots
from manifestlog.model.models import ManifestMetadata, paths_of
from manifestlog.options import ManifestOptions


class Target(NamedTuple):
    """A manifest that is there; `metadata` only where it shall change, `version` for the records to come."""

    metadata: ManifestMetadata | None
    version: str
    created: bool


def prepare(path: Path, options: ManifestOptions | None, etl_version: str | None, root_dir: str | None) -> Target:
    """Look at the manifest, or make it; raises `MetadataConflictError` for another root than its paths begin at."""
    root = None if root_dir is None else os.path.abspath(root_dir)
    stated = None if root is None else roots.rooted(root, names.resolve(path).directory)
    created = False
    try:
        with DownloadManifestManager(path, options=options, read_only=True) as found:
            stored = found.metadata
            if root is not None:
                _check_root(found, root)
    except ManifestNotFoundError:
        made = fresh_metadata(path, etl_version=etl_version, root_dir=stated)
        with DownloadManifestManager(path, made, options=options) as manifest:  # of several who try at once, one does
            stored = manifest.metadata
        created = True
    metadata = None
    if etl_version is not None or stated is not None:
        changes = {"etl_version": etl_version or stored.etl_version, "root_dir": Path(stated or stored.root_dir)}
        metadata = stored.model_copy(update=changes)
    return Target(metadata, etl_version or stored.etl_version, created)


def _check_root(found: AbstractManifest, root: str) -> None:
    """Raise when relative paths begin at another folder already."""
    if str(found.root) != root and any(
        not seen.is_absolute() for record in found.records.values() for seen in paths_of(record)
    ):
        raise MetadataConflictError(str(found.path), "root_dir", str(found.root), root)
