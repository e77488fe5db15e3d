"""Managers that are closed at the end of a test, whatever happened in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import pytest

from manifestlog import DownloadManifestManager, ManifestMetadata, ManifestOptions
from support.integrity import check_manifest

from .builders import META, QUIET

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Opener(Protocol):
    """Opens the test's manifest; every argument may be left out."""

    def __call__(
        self,
        metadata: ManifestMetadata | None = ...,
        *,
        options: ManifestOptions | None = ...,
        read_only: bool = ...,
        path: Path | None = ...,
    ) -> DownloadManifestManager: ...


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    """A directory for manifests; when the test is over, everything in it is sound."""
    found = tmp_path / "manifests"
    found.mkdir()
    yield found
    for canonical in sorted(found.glob("*.manifest.json")):
        check_manifest(canonical)


@pytest.fixture
def opener(path: Path) -> Iterator[Opener]:
    """Opens managers, and closes them when the test is over."""
    opened: list[DownloadManifestManager] = []
    usual_path = path

    def open_one(
        metadata: ManifestMetadata | None = META,
        *,
        options: ManifestOptions | None = QUIET,
        read_only: bool = False,
        path: Path | None = None,
    ) -> DownloadManifestManager:
        manager = DownloadManifestManager(path or usual_path, metadata, options=options, read_only=read_only)
        opened.append(manager)
        return manager

    yield open_one
    for manager in opened:
        manager.close()


@pytest.fixture
def manifest(opener: Opener) -> DownloadManifestManager:
    """A fresh manifest."""
    return opener()
