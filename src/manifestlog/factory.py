"""Managers by name, for code that is told by its configuration which kind of manifest to open."""

from __future__ import annotations

import os
from typing import ClassVar

from manifestlog.errors import UnknownManifestTypeError
from manifestlog.manager import AbstractManifest, DownloadManifestManager, ProcessedManifestManager
from manifestlog.models import ManifestMetadata
from manifestlog.options import ManifestOptions


class ManifestFactory:
    """Makes managers; `"downloads"` and `"processed"` are known from the start."""

    _types: ClassVar[dict[str, type[AbstractManifest]]] = {
        "downloads": DownloadManifestManager,
        "processed": ProcessedManifestManager,
    }

    @classmethod
    def register_manifest_type(cls, name: str, manifest_class: type[AbstractManifest]) -> None:
        """Make `manifest_class` available as `name`.

        Raises `TypeError` for anything that is no manifest class, `ValueError` for a name that means another class.
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
        """Open the manifest at `path` as the kind that `name` stands for; the rest as the manager's constructor has it.

        Raises `UnknownManifestTypeError` (a `ValueError`) listing the known names.
        """
        try:
            manifest_class = cls._types[name]
        except KeyError:
            raise UnknownManifestTypeError(name, tuple(sorted(cls._types))) from None
        return manifest_class(path, metadata, options=options, read_only=read_only)
