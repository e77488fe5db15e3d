"""The last stages of the demo: load each CSV file exactly once, into DuckDB and into SQLite, and look at what is there.

    warehouse.py count
    warehouse.py row SOURCE

Where duckdb is not installed, only SQLite is loaded.
"""

from __future__ import annotations

import csv
import sqlite3
import sys
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from manifestlog.loading import once
from manifestlog.stages import loaded, nothing

if TYPE_CHECKING:
    from manifestlog.stages import Loaded, Nothing
    from manifestlog.stages.items import Item

HAS_DUCKDB = find_spec("duckdb") is not None
DUCKDB, SQLITE = "galaxy.duckdb", "galaxy.sqlite"
FILES = (DUCKDB, SQLITE) if HAS_DUCKDB else (SQLITE,)
TABLE = """CREATE TABLE IF NOT EXISTS rows (
    dataset VARCHAR, source VARCHAR, downloaded VARCHAR, checksum VARCHAR, id BIGINT, name VARCHAR, updated VARCHAR
)"""
FROM_CSV = """INSERT INTO rows SELECT ?, ?, ?, ?, id, name, updated
    FROM read_csv(?, header=true, auto_detect=false, columns={'id': 'BIGINT', 'name': 'VARCHAR', 'updated': 'VARCHAR'})"""


def load_duckdb(item: Item) -> Loaded | Nothing:
    """Load a file into DuckDB."""
    return _load(item, DUCKDB) if HAS_DUCKDB else nothing("duckdb is not installed")


def load_sqlite(item: Item) -> Loaded | Nothing:
    """Load a file into SQLite."""
    return _load(item, SQLITE)


def _load(item: Item, file: str) -> Loaded | Nothing:
    """Load a file: its rows take the place of those of earlier files of its source."""
    warehouse = opened(file)
    (newest,) = warehouse.execute("SELECT max(downloaded) FROM rows WHERE source = ?", [item.source_id]).fetchone()
    if newest is not None and newest > item.ts:
        return nothing("a later file of this source is loaded")
    rows = None  # unknown if they were loaded before a kill
    with once(warehouse, item, stage="load", version="1") as is_first:
        if is_first:
            warehouse.execute("DELETE FROM rows WHERE source = ?", [item.source_id])
            rows = _insert(item, file, [item.dataset, item.source_id, item.ts, item.checksum])
    return loaded(rows, file)


@cache
def opened(file: str) -> Any:
    """Open a warehouse, once in each process."""
    if file == SQLITE:
        connection: Any = sqlite3.connect(SQLITE)
        connection.execute(TABLE)
        connection.execute("CREATE INDEX IF NOT EXISTS by_source ON rows (source)")
    else:
        import duckdb  # noqa: PLC0415 -- an extra

        connection = duckdb.connect(DUCKDB)
        connection.execute(TABLE)
    return connection


def _insert(item: Item, file: str, own: list[str]) -> int:
    """Insert the rows of a file; return their number."""
    if file == DUCKDB:
        return int(opened(DUCKDB).execute(FROM_CSV, [*own, str(item.path)]).fetchone()[0])
    with item.path.open(encoding="utf-8", newline="") as lines:
        rows = [[*own, *row] for row in list(csv.reader(lines))[1:]]
    opened(SQLITE).executemany("INSERT INTO rows VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
    return len(rows)


def main(what: str, *sources: str) -> None:
    if what == "count":
        for file in FILES:
            found = opened(file).execute("SELECT count(*), count(DISTINCT checksum) FROM rows").fetchone()
            print("{}: {:,} rows of {:,} files".format(file, *found))
    else:
        query = "SELECT * FROM rows WHERE source = ? ORDER BY id LIMIT 1"
        print("\t".join(map(str, opened(FILES[0]).execute(query, sources).fetchone())))


if __name__ == "__main__":
    main(*sys.argv[1:])
