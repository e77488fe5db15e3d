"""Managers that are closed at the end of a test, whatever happened in it."""

from __future__ import annotations

import inspect
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

import psycopg
import pytest

from manifestlog import DownloadManifestManager, ManifestMetadata, ManifestOptions
from manifestlog.engines.protocol import Capability
from support.integrity import check_manifest

from .builders import META, QUIET

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.postgres import Server


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


ENGINES = ("files", "memory", "postgres")
"""Every engine is held to the tests that need no files; a new one is added here."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run the tests of a module marked `every_engine` on each engine, but for those that look at files themselves."""
    marked = metafunc.definition.get_closest_marker("every_engine")
    looks_at_files = "path" in inspect.signature(metafunc.function).parameters
    if marked and "opener" in metafunc.fixturenames and not looks_at_files:
        files_only = metafunc.definition.get_closest_marker("files_only")
        metafunc.parametrize("engine", ENGINES[:1] if files_only else ENGINES, indirect=True)


@pytest.fixture
def engine(request: pytest.FixtureRequest) -> str:
    """Which engine keeps the test's manifest."""
    return getattr(request, "param", ENGINES[0])


@pytest.fixture
def location(engine: str, path: Path, request: pytest.FixtureRequest) -> Iterator[str | Path]:
    """Where the test's manifest is."""
    name = path.name.partition(".")[0]
    if engine == "postgres":
        server: Server = request.getfixturevalue("postgres_server")
        yield server.url(name)
        set_aside(server)
    else:
        yield path if engine == "files" else f"{engine}:{name}"


def set_aside(server: Server) -> None:
    """Give the manifests of a test other names: the next test begins without any, at no cost."""
    with suppress(psycopg.errors.UndefinedTable):
        server.administrator.execute(
            "UPDATE manifestlog.manifest SET name = 'old' || manifest_id WHERE name NOT LIKE 'old%'"
        )


@pytest.fixture
def opener(location: str | Path) -> Iterator[Opener]:
    """Opens managers, and closes them when the test is over."""
    opened: list[DownloadManifestManager] = []
    usual_path = location

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


def reopened(manager: DownloadManifestManager) -> DownloadManifestManager:
    """The manifest closed and opened again, where it outlives its manager; else as it is."""
    if Capability.DURABLE not in manager.capabilities:
        return manager
    manager.close()
    return DownloadManifestManager(manager.location.display, options=QUIET)


@pytest.fixture
def manifest(opener: Opener) -> DownloadManifestManager:
    """A fresh manifest."""
    return opener()
