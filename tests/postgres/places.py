"""Where a test's manifests are, and how others than the test get at them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from contract.builders import META
from manifestlog import DownloadManifestManager, ManifestOptions

if TYPE_CHECKING:
    import psycopg

    from manifestlog.engines.postgres.engine import PostgresEngine
    from support.postgres import Server

NAME = "systems_download"


class Place(NamedTuple):
    """A database for manifests."""

    server: Server
    database: str

    def url(self, name: str = NAME, **parameters: str) -> str:
        return self.server.url(name, self.database, **parameters)

    def tcp_url(self, name: str = NAME, **parameters: Any) -> str:
        return self.server.tcp_url(name, self.database, **parameters)

    def connect(self) -> psycopg.Connection[Any]:
        """A connection beside the manifest's own."""
        return self.server.connect(self.database)

    def execute(self, *statements: str) -> None:
        self.server.execute(*statements, database=self.database)


def opened(url: str, **options: Any) -> DownloadManifestManager:
    """A manager of this process for the manifest at a URL, for children."""
    return DownloadManifestManager(url, META, options=ManifestOptions(**{"lock_timeout_s": 120.0, **options}))


def engine_of(manager: DownloadManifestManager) -> PostgresEngine:
    """The engine of an open manager."""
    return manager._engine  # type: ignore[return-value] # its location says that it is one
