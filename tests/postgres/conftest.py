"""An empty database for each test, as a place for manifests."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from contract.builders import META
from manifestlog import DownloadManifestManager, ManifestOptions
from manifestlog.open_managers import open_managers

from .places import Place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.postgres import Server


@pytest.fixture(scope="session")
def database(postgres_server: Server) -> str:
    """A database that the tests of a worker use one after the other."""
    postgres_server.execute("CREATE DATABASE places")
    return "places"


@pytest.fixture
def place(postgres_server: Server, database: str) -> Iterator[Place]:
    """An empty database."""
    found = Place(postgres_server, database)
    try:
        yield found
        open_managers._close_all()  # a failed test's manager would answer the next test, for a schema that is gone
    finally:
        found.execute("DROP SCHEMA IF EXISTS manifestlog CASCADE")


@pytest.fixture
def opener(place: Place) -> Iterator[Callable[..., DownloadManifestManager]]:
    """Opens the manifest of this test; managers are closed when it is over."""
    with ExitStack() as opened:

        def open_one(url: str | None = None, **more: Any) -> DownloadManifestManager:
            given: dict[str, Any] = {"metadata": META, "options": ManifestOptions(lock_timeout_s=120.0)} | more
            return opened.enter_context(DownloadManifestManager(url or place.url(), **given))

        yield open_one


@pytest.fixture
def manifest(opener: Callable[..., DownloadManifestManager]) -> DownloadManifestManager:
    """A new manifest."""
    return opener()
