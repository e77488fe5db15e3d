"""Prepares the manifest for a run: creates it if needed, and checks it before any file is hashed.

Invariants:

- This module only reads an existing manifest. The workers change its metadata when they open it.
- The root changes only if no recorded path depends on the previous root.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from manifestlog import names
from manifestlog.errors import ManifestNotFoundError, MetadataConflictError
from manifestlog.factory import fresh_metadata
from manifestlog.manager import AbstractManifest
from manifestlog.managers import DownloadManifestManager
from manifestlog.model import roots
from manifestlog.model.models import ManifestMetadata
from manifestlog.model.rows import observations
from manifestlog.options import ManifestOptions


class Target(NamedTuple):
    """An existing manifest. `metadata` is set only if it must change; `version` is for the new records."""

    metadata: ManifestMetadata | None
    version: str
    created: bool


def prepare(path: str, options: ManifestOptions | None, etl_version: str | None, root_dir: str | None) -> Target:
    """Check the manifest, or create it. Raises `MetadataConflictError` if recorded paths depend on another root."""
    root = None if root_dir is None else os.path.abspath(root_dir)
    stated = None if root is None else _stated(root, path)
    created = False
    try:
        with DownloadManifestManager(path, options=options, read_only=True) as found:
            stored = found.metadata
            if root is not None:
                _check_root(found, root)
    except ManifestNotFoundError:
        made = fresh_metadata(path, etl_version=etl_version, root_dir=stated)
        with DownloadManifestManager(path, made, options=options) as manifest:  # of several processes, one creates it
            stored = manifest.metadata
        created = True
    metadata = None
    if etl_version is not None or stated is not None:
        changes = {"etl_version": etl_version or stored.etl_version, "root_dir": Path(stated or stored.root_dir)}
        metadata = stored.model_copy(update=changes)
    return Target(metadata, etl_version or stored.etl_version, created)


def _stated(root: str, path: str) -> str:
    """Return a root as the metadata state it: relative to the manifest's directory, if it has one."""
    return root if names.is_url(path) else roots.rooted(root, names.resolve(path).directory)


def _check_root(found: AbstractManifest, root: str) -> None:
    """Raise `MetadataConflictError` if records have paths relative to another root."""
    if str(found.root) != root and any(
        not roots.is_absolute(seen["file_path"]) for row in found.rows() for seen in observations(row)
    ):
        raise MetadataConflictError(found.location.display, "root_dir", str(found.root), root)
