"""A fetch of your own: export a database table, and register the file with `add_from_event`.

Any object with the right attributes is a source or an event, so a pipeline's own classes fit. The table changes between
the second and the third export:

    $ python custom_fetch.py
    new: data/orders-5bc8b8cd9c6e.csv
    duplicate: data/orders-5bc8b8cd9c6e.csv
    changed: data/orders-47084f1f1514.csv
"""

import csv
import hashlib
import os
import sqlite3
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from manifestlog import AddResult, DownloadManifestManager, ETLProcess, ManifestMetadata, manifest_path


@dataclass(frozen=True)
class Table:
    """A source: who it is."""

    source_id: str
    dataset: str


@dataclass(frozen=True)
class Export:
    """An event: what came, and when."""

    sha256: str
    file_path: Path
    file_size_bytes: int
    ts_download_completed: datetime
    etag: str | None = None


def export(database: sqlite3.Connection, manifest: DownloadManifestManager, table: Table) -> AddResult:
    """Write the table into a file, and register it unless its content is there already."""
    part = Path("data", f"{table.source_id}.part").absolute()
    with part.open("w", newline="") as file:
        csv.writer(file).writerows(database.execute(f"SELECT * FROM {table.source_id} ORDER BY id"))  # noqa: S608 -- ours
        file.flush()
        os.fsync(file.fileno())
    body = part.read_bytes()
    checksum = hashlib.sha256(body).hexdigest()
    known = manifest.get(checksum)
    if known:
        path = manifest.locate(known)
        part.unlink()
    else:
        path = part.with_name(f"{table.source_id}-{checksum[:12]}.csv")
        part.rename(path)  # first the file under its name, then its record
    event = Export(checksum, manifest.stated(path), len(body), datetime.now(UTC))
    return manifest.add_from_event(table, event)


def main() -> None:
    orders = Table("orders", "shop")
    Path("data").mkdir(exist_ok=True)
    metadata = ManifestMetadata(process=ETLProcess.EXTRACTOR, etl_version="1.0.0", root_dir=Path(".."))
    with DownloadManifestManager(manifest_path("manifests", "shop", "export"), metadata) as manifest:
        database = sqlite3.connect(":memory:")
        database.execute("CREATE TABLE orders (id INTEGER, item TEXT)")
        database.execute("INSERT INTO orders VALUES (1, 'tea')")
        for number in range(3):
            if number == 2:
                database.execute("INSERT INTO orders VALUES (2, 'cups')")
            result = export(database, manifest, orders)
            print(f"{result.verdict}: {result.record.file_path}")
        database.close()


if __name__ == "__main__":
    main()
