"""The last stage of the demo: load each CSV file into a warehouse exactly once, and look at what is there.

    warehouse.py count
    warehouse.py row SOURCE

It is a DuckDB database where duckdb is installed, else one of SQLite.
"""

from __future__ import annotations

import csv
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
FILE = "galaxy.duckdb" if HAS_DUCKDB else "galaxy.sqlite"
TABLE = """CREATE TABLE IF NOT EXISTS rows (
    dataset VARCHAR, source VARCHAR, downloaded VARCHAR, checksum VARCHAR, id BIGINT, name VARCHAR, updated VARCHAR
)"""
FROM_CSV = """INSERT INTO rows SELECT ?, ?, ?, ?, id, name, updated
    FROM read_csv(?, header=true, auto_detect=false, columns={'id': 'BIGINT', 'name': 'VARCHAR', 'updated': 'VARCHAR'})"""


@cache
def warehouse() -> Any:
    """Open the warehouse, once in each process."""
    if HAS_DUCKDB:
        import duckdb  # noqa: PLC0415 -- an extra

        connection: Any = duckdb.connect(FILE)
    else:
        import sqlite3  # noqa: PLC0415 -- only in place of the other

        connection = sqlite3.connect(FILE)
    connection.execute(TABLE)
    return connection


def load(item: Item) -> Loaded | Nothing:
    """Load a file: its rows take the place of those of earlier files of its source."""
    (newest,) = warehouse().execute("SELECT max(downloaded) FROM rows WHERE source = ?", [item.source_id]).fetchone()
    if newest is not None and newest > item.ts:
        return nothing("a later file of this source is loaded")
    rows = None  # unknown if they were loaded before a kill
    with once(warehouse(), item, stage="load", version="1") as is_first:
        if is_first:
            warehouse().execute("DELETE FROM rows WHERE source = ?", [item.source_id])
            rows = _insert(item, [item.dataset, item.source_id, item.ts, item.checksum])
    return loaded(rows, FILE)


def _insert(item: Item, own: list[str]) -> int:
    """Insert the rows of a file; return their number."""
    if HAS_DUCKDB:
        return int(warehouse().execute(FROM_CSV, [*own, str(item.path)]).fetchone()[0])
    with item.path.open(encoding="utf-8", newline="") as file:
        rows = [[*own, *row] for row in list(csv.reader(file))[1:]]
    warehouse().executemany("INSERT INTO rows VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
    return len(rows)


def main(what: str, *sources: str) -> None:
    if what == "count":
        found = warehouse().execute("SELECT count(*), count(DISTINCT checksum) FROM rows").fetchone()
        print("{:,} rows of {:,} files".format(*found))
    else:
        query = "SELECT * FROM rows WHERE source = ? ORDER BY id LIMIT 1"
        print("\t".join(map(str, warehouse().execute(query, sources).fetchone())))


if __name__ == "__main__":
    main(*sys.argv[1:])
