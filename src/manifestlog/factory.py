"""Creates managers by name, for code that reads the kind from a configuration, and builds the metadata of new
manifests.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import ClassVar

from manifestlog import names
from manifestlog.errors import UnknownManifestTypeError
from manifestlog.manager import AbstractManifest
from manifestlog.managers import DownloadManifestManager, ProcessedManifestManager
from manifestlog.model.models import ETLProcess, ManifestMetadata
from manifestlog.options import ManifestOptions


class ManifestFactory:
    """Creates managers by name. The names `"downloads"` and `"processed"` are built in."""

    _types: ClassVar[dict[str, type[AbstractManifest]]] = {
        "downloads": DownloadManifestManager,
        "processed": ProcessedManifestManager,
    }

    @classmethod
    def register_manifest_type(cls, name: str, manifest_class: type[AbstractManifest]) -> None:
        """Make `manifest_class` available as `name`.

        Raises `TypeError` if it is not a manifest class, and `ValueError` if the name already means another class.
        """
        if not (isinstance(manifest_class, type) and issubclass(manifest_class, AbstractManifest)):
            raise TypeError(f"expected a subclass of AbstractManifest, got {manifest_class!r}")
        known = cls._types.get(name)
        if known is not None and known is not manifest_class:
            raise ValueError(f"manifest type {name!r} is already {known.__name__}")
        cls._types[name] = manifest_class

    @classmethod
    def get_manifest_manager(
        cls,
        name: str,
        path: str | os.PathLike[str],
        metadata: ManifestMetadata | None = None,
        *,
        options: ManifestOptions | None = None,
        read_only: bool = False,
    ) -> AbstractManifest:
        """Open the manifest at `path` with the class registered as `name`; the other arguments go to its constructor.

        Raises `UnknownManifestTypeError` (a `ValueError`), which lists the known names.
        """
        try:
            manifest_class = cls._types[name]
        except KeyError:
            raise UnknownManifestTypeError(name, tuple(sorted(cls._types))) from None
        return manifest_class(path, metadata, options=options, read_only=read_only)


DEFAULT_ETL_VERSION = "1.0.0"


class UnrecordableFolderError(ValueError):
    """A directory whose name is not UTF-8, so that a manifest in it cannot record its own path."""

    def __init__(self, directory: str) -> None:
        super().__init__(
            f"{directory}: the directory's name is not UTF-8, so a manifest cannot record it: choose another directory"
        )


def fresh_metadata(
    path: str | os.PathLike[str],
    process: ETLProcess | None = None,
    etl_version: str | None = None,
    root_dir: str | None = None,
) -> ManifestMetadata:
    """Return the metadata for a new manifest at `path`. The root is the manifest's directory unless `root_dir` is given.

    Raises `UnrecordableFolderError`, and `ValueError` for a bad file name.
    """
    directory = names.resolve(path).directory if names.is_path(path) else os.getcwd()
    try:
        directory.encode()
    except UnicodeEncodeError:
        raise UnrecordableFolderError(directory) from None
    return ManifestMetadata(
        process=process or ETLProcess.EXTRACTOR,
        etl_version=etl_version or DEFAULT_ETL_VERSION,
        root_dir=Path(root_dir or directory),
    )
