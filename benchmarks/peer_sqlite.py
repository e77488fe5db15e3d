"""SQLite in WAL mode as a peer: one table, the checksum its primary key, an index for the latest record of a source.

`synchronous=FULL` syncs the log at every commit and so survives a power cut; `NORMAL` survives a process kill.
Everything else is SQLite's default, the checkpoint every 1,000 pages included.
"""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, ClassVar, Self

from benchmarks.peers import POWER_CUT, Fields, Peer, batches, fields, verdict

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from manifestlog import ManifestRecord

_TIMEOUT_S = 60.0
_COLUMNS = ", ".join(Fields._fields)
_TABLE = """
CREATE TABLE records (
    source_id TEXT NOT NULL,
    dataset TEXT NOT NULL,
    checksum TEXT NOT NULL PRIMARY KEY,
    file_path TEXT NOT NULL,
    file_size INTEGER NOT NULL,
    etag TEXT,
    ts_downloaded TEXT NOT NULL,
    version TEXT NOT NULL
)
"""
_INDEX = "CREATE INDEX by_source ON records (source_id, dataset, ts_downloaded)"
_INSERT = f"INSERT OR REPLACE INTO records ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
_HAS = "SELECT 1 FROM records WHERE checksum = ?"
_KNOWN = f"SELECT {_COLUMNS} FROM records WHERE checksum = ?"
_CURRENT = f"SELECT {_COLUMNS} FROM records WHERE source_id = ? AND dataset = ? ORDER BY ts_downloaded DESC LIMIT 1"


class SqlitePeer(Peer):
    """A database file."""

    adds_many: ClassVar[bool] = True

    def __init__(self, connection: sqlite3.Connection) -> None:
        """Wrap an open connection."""
        self._connection = connection

    @classmethod
    def version(cls) -> str:
        return f"SQLite {sqlite3.sqlite_version}"

    @classmethod
    def _connect(cls, directory: Path) -> sqlite3.Connection:
        connection = sqlite3.connect(directory / "manifest.db", timeout=_TIMEOUT_S, isolation_level=None)
        connection.execute("PRAGMA journal_mode=WAL")
        return connection

    @classmethod
    def fill(cls, directory: Path, records: Iterable[ManifestRecord]) -> None:
        connection = cls._connect(directory)
        connection.execute("PRAGMA synchronous=OFF")
        connection.execute("PRAGMA cache_size=-1000000")
        connection.execute("BEGIN")
        connection.execute(_TABLE)
        connection.executemany(_INSERT, map(fields, records))
        connection.execute(_INDEX)
        connection.execute("COMMIT")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.close()

    @classmethod
    def open(cls, directory: Path, durability: str, *, shared: bool) -> Self:  # noqa: ARG003 -- it always is
        connection = cls._connect(directory)
        connection.execute(f"PRAGMA synchronous={'FULL' if durability == POWER_CUT else 'NORMAL'}")
        return cls(connection)

    @classmethod
    def settle(cls, directory: Path) -> None:
        connection = cls._connect(directory)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.close()

    def add(self, record: ManifestRecord) -> str:
        event = fields(record)
        execute = self._connection.execute
        execute("BEGIN IMMEDIATE")
        try:
            known = self._one(_KNOWN, event.checksum)
            current = self._one(_CURRENT, event.source_id, event.dataset)
            word = verdict(event, known, current)
            if word != "duplicate":
                execute(_INSERT, event)
            execute("COMMIT")
        except BaseException:
            execute("ROLLBACK")
            raise
        return word

    def add_many(self, records: Iterable[ManifestRecord], batch_records: int) -> None:
        execute = self._connection.execute
        for batch in batches(records, batch_records):
            execute("BEGIN IMMEDIATE")
            try:
                self._connection.executemany(_INSERT, map(fields, batch))
                execute("COMMIT")
            except BaseException:
                execute("ROLLBACK")
                raise

    def _one(self, query: str, *values: str) -> Fields | None:
        row = self._connection.execute(query, values).fetchone()
        return None if row is None else Fields._make(row)

    def has(self, checksum: str) -> bool:
        return self._connection.execute(_HAS, (checksum,)).fetchone() is not None

    def get_by_source(self, source_id: str, dataset: str) -> Fields | None:
        return self._one(_CURRENT, source_id, dataset)

    def close(self) -> None:
        self._connection.close()
