"""What one record costs a PostgreSQL server: bytes in each table and index, bytes of WAL, processor time.

An addition is measured twice: right after a checkpoint, when the first change of each page puts the whole page into the
WAL, and without such images. With `--partitions`, the tables with records and events are partitioned by manifest, one
partition for each of so many manifests: what that would cost.

    PYTHONPATH=tests python -m benchmarks.postgres_costs [--records 100000] [--partitions 0]
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import harness
from benchmarks.bench_postgres import METADATA, NAME
from manifestlog import DownloadManifestManager, ManifestOptions
from support.postgres import DURABLE, Server, serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from manifestlog import ManifestRecord

TABLES = ("content", "sighting", "log")
SIZES = """
    SELECT relname, CASE relkind WHEN 'i' THEN pg_relation_size(oid) ELSE pg_table_size(oid) END FROM pg_class
    WHERE relnamespace = 'manifestlog'::regnamespace AND relkind IN ('r', 'i') AND relname ~ '^(content|sighting|log)'
    ORDER BY relname"""


def partition(server: Server, manifests: int) -> None:
    """Partition the tables, which are empty, for so many manifests."""
    with server.connect() as connection:
        ((ours,),) = connection.execute("SELECT manifest_id FROM manifestlog.manifest").fetchall()
        for table in (f"manifestlog.{name}" for name in TABLES):
            statements = [
                f"CREATE TABLE {table}_new (LIKE {table} INCLUDING ALL) PARTITION BY LIST (manifest_id)",
                f"DROP TABLE {table} CASCADE",
                f"ALTER TABLE {table}_new RENAME TO {table.partition('.')[2]}",
                *(
                    f"CREATE TABLE {table}_{number} PARTITION OF {table} FOR VALUES IN ({number})"
                    for number in range(ours, ours + manifests)
                ),
            ]
            for statement in statements:
                connection.execute(statement.encode())


class Meter:
    """What one session of the server has used: WAL in bytes, processor time in microseconds."""

    def __init__(self, server: Server) -> None:
        self.connection = server.connect()
        ask = "SELECT pid FROM pg_stat_activity WHERE application_name = 'manifestlog'"
        ((self._pid,),) = self.connection.execute(ask).fetchall()

    def read(self) -> tuple[float, float]:
        ((wal,),) = self.connection.execute("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn").fetchall()
        return float(wal), int(Path(f"/proc/{self._pid}/schedstat").read_text(encoding="ascii").split()[0]) / 1000

    def show(self, name: str, count: int, work: Callable[[], object]) -> None:
        before = self.read()
        work()
        wal, busy = ((after - was) / count for after, was in zip(self.read(), before, strict=True))
        print(f"{name:<40} {wal:>9,.0f} bytes of WAL {busy:>8,.0f} µs of a core")


def run(server: Server, count: int, calls: int) -> None:
    options = ManifestOptions(batch_records_max=1000)
    with DownloadManifestManager(server.url(NAME), METADATA, options=options) as manifest:
        manifest.add_many(harness.make_records(0, 1000))
        meter, numbers = Meter(server), iter(range(1000, 1 << 60))

        def records(count: int) -> Iterator[ManifestRecord]:
            return (harness.make_record(next(numbers)) for _ in range(count))

        def add() -> None:
            for one in records(calls):
                manifest.add(one)

        meter.show("add_many, 1,000 a batch", count, lambda: manifest.add_many(records(count)))
        sizes: dict[str, int] = dict(meter.connection.execute(SIZES).fetchall())
        add()
        meter.connection.execute("CHECKPOINT")
        meter.show("add, after a checkpoint", calls, add)
        for statement in ("ALTER SYSTEM SET full_page_writes = off", "SELECT pg_reload_conf()", "CHECKPOINT"):
            meter.connection.execute(statement.encode())
        meter.show("add, without images of pages", calls, add)
        known = [one.checksum for one in harness.make_records(1000, calls)]
        ours = list(harness.make_records(1000, calls))
        meter.show("has_checksum", calls, lambda: [manifest.has_checksum(one) for one in known])
        look: Any = manifest.get_record_by_source
        meter.show("by source", calls, lambda: [look(one.source_id, one.dataset) for one in ours])
        total = sum(sizes.values())
        for name, size in sizes.items():
            if size > total / 1000:
                print(f"{name:<40} {size / (count + 1000):>9,.0f} bytes a record")
        print(f"{'all':<40} {total / (count + 1000):>9,.0f} bytes a record")


def main() -> None:
    parser = argparse.ArgumentParser(description="What one record costs a PostgreSQL server.")
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--calls", type=int, default=500)
    parser.add_argument("--partitions", type=int, default=0)
    given = parser.parse_args()
    settings = {**DURABLE, "max_wal_size": "16GB", "shared_buffers": "512MB", "max_locks_per_transaction": "1024"}
    del settings["full_page_writes"]  # which is on, unless ALTER SYSTEM says otherwise
    with serving(settings) as server:
        DownloadManifestManager(server.url(NAME), METADATA).close()
        if given.partitions:
            partition(server, given.partitions)
        run(server, given.records, given.calls)


if __name__ == "__main__":
    main()
