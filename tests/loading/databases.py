"""Real databases to load into, each by one way of opening a connection to it.

Invariants:

- A database is new, has one table `prices`, and is gone with its test.
- `connect` works in a child process as well, also while others are connected, but for DuckDB: it has one process at a time.
"""

from __future__ import annotations

import sqlite3
import sys
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import duckdb
import pg8000.dbapi
import psycopg
from psycopg.rows import dict_row

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from support.postgres import Server

CREATE = "CREATE TABLE prices (checksum VARCHAR(64), version VARCHAR(20), number INTEGER)"
ROWS = 5
"""Of each content."""
_DATABASE = "warehouse"
"""In PostgreSQL; each test begins with it empty."""


@dataclass(frozen=True)
class Database:
    """One database, and one way to it."""

    connect: Callable[[], Any]
    mark: str
    """What stands for a value in a statement."""

    def execute(self, connection: Any, statement: str, *values: object) -> Any:
        cursor = connection if hasattr(connection, "execute") else connection.cursor()
        answer = cursor.execute(statement.replace("?", self.mark), list(values))
        return cursor if answer is None else answer

    def insert(self, connection: Any, checksum: str, version: str = "1", rows: range = range(ROWS)) -> None:
        """What a user's code does."""
        for number in rows:
            self.execute(connection, "INSERT INTO prices VALUES (?, ?, ?)", checksum, version, number)

    def prices(self, checksum: str | None = None) -> list[tuple[str, str, int]]:
        """What is there, as another connection sees it."""
        with closing(self.connect()) as connection:
            rows = self.execute(connection, "SELECT checksum, version, number FROM prices ORDER BY 1, 2, 3").fetchall()
            plain = [tuple(row.values()) if isinstance(row, dict) else tuple(row) for row in rows]
            return [row for row in plain if checksum in (None, row[0])]


def expected(checksum: str, version: str = "1") -> list[tuple[str, str, int]]:
    """The rows of a content that is loaded, once."""
    return [(checksum, version, number) for number in range(ROWS)]


def _dicts(cursor: sqlite3.Cursor, row: tuple[object, ...]) -> dict[str, object]:
    return {column[0]: value for column, value in zip(cursor.description, row, strict=True)}


def _sqlite_with_dicts(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path)
    connection.row_factory = _dicts
    return connection


_SQLITE: dict[str, Callable[[Path], sqlite3.Connection]] = {
    "sqlite": sqlite3.connect,
    "sqlite-none": lambda path: sqlite3.connect(path, isolation_level=None),
    "sqlite-dicts": _sqlite_with_dicts,
}
if sys.version_info >= (3, 12):
    _SQLITE |= {
        "sqlite-autocommit": lambda path: sqlite3.connect(path, autocommit=True),
        "sqlite-pep249": lambda path: sqlite3.connect(path, autocommit=False),
    }
WAYS = (*_SQLITE, "duckdb", "psycopg", "psycopg-autocommit", "psycopg-dicts", "pg8000")
KINDS = ("sqlite", "duckdb", "psycopg", "pg8000")
"""One way to each; the last one stands for any other driver that keeps to PEP 249."""
SHARED = ("sqlite", "psycopg", "pg8000")
"""Those that several processes open at once."""


@contextmanager
def database(kind: str, folder: Path, server: Callable[[], Server]) -> Iterator[Database]:
    """A new database."""
    if kind in _SQLITE:
        path = folder / "warehouse.sqlite"
        found = Database(lambda: _SQLITE[kind](path), "?")
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA synchronous=OFF").execute("PRAGMA journal_mode=WAL")
            connection.execute(CREATE)
        yield found
    elif kind == "duckdb":
        found = Database(lambda: duckdb.connect(folder / "warehouse.duckdb"), "?")
        with closing(found.connect()) as connection:
            connection.execute(CREATE)
        yield found
    else:
        yield from _in_postgres(kind, server())


def _in_postgres(kind: str, server: Server) -> Iterator[Database]:
    with suppress(psycopg.errors.DuplicateDatabase):
        server.execute(f"CREATE DATABASE {_DATABASE}")
    server.execute(
        "DROP SCHEMA public CASCADE",
        "CREATE SCHEMA public",
        "GRANT USAGE ON SCHEMA public TO PUBLIC",
        CREATE,
        database=_DATABASE,
    )
    given: dict[str, Any] = {"host": str(server.folder), "port": server.port, "user": "postgres", "dbname": _DATABASE}
    ways: dict[str, Callable[[], Any]] = {
        "psycopg": lambda: psycopg.connect(**given),
        "psycopg-autocommit": lambda: psycopg.connect(autocommit=True, **given),
        "psycopg-dicts": lambda: psycopg.connect(row_factory=dict_row, **given),
        "pg8000": lambda: pg8000.dbapi.connect(
            "postgres", database=_DATABASE, unix_sock=f"{server.folder}/.s.PGSQL.{server.port}"
        ),
    }
    yield Database(ways[kind], "%s")
