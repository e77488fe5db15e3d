"""What many records cost in PostgreSQL: additions, look-ups and an export at 10,000 records and at many more.

The server fills its tables by itself, before their indexes are made: records that look like ours, with other hashes of
their sources. What is measured then is done as in any manifest. Sizes are those of the tables with their indexes.

    PYTHONPATH=tests python -m benchmarks.bench_postgres_scale [--records 1000000]
"""

from __future__ import annotations

import argparse
import hashlib
import time
from statistics import median
from typing import TYPE_CHECKING, Any

from benchmarks import harness
from benchmarks.bench_postgres import METADATA, NAME
from manifestlog import DownloadManifestManager, ManifestOptions
from support.postgres import DURABLE, Server, serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

SMALL = 10_000
TABLES = ("content", "sighting", "log")
_BODY = """convert_to(format('{"source_id":"filler_%s","dataset":"filler","checksum":"%s","file_path":"/srv/etl/data/filler/%s.gz",'
    '"file_size":%s,"etag":"\\"%s\\"","ts_downloaded":"2020-01-01T00:00:00Z","version":"1.0.0"}',
    n, encode(sha256(n::text::bytea), 'hex'), md5(n::text), n + 1, left(md5(n::text), 16)), 'UTF8')"""
FILL = (
    f"INSERT INTO manifestlog.content SELECT 1, sha256(n::text::bytea), {_BODY} FROM generate_series(1, {{count}}) n",
    """INSERT INTO manifestlog.sighting SELECT 1, decode(md5(n::text), 'hex'), 1577836800000000 + n, 0, sha256(n::text::bytea),
        decode(md5('s' || n), 'hex'), 'filler' FROM generate_series(1, {count}) n""",
    f"""INSERT INTO manifestlog.log SELECT 1, n, 1577836800000000 + n, 'put', sha256(n::text::bytea), decode(md5('s' || n), 'hex'),
        NULL, {_BODY}, NULL FROM generate_series(1, {{count}}) n""",
    "UPDATE manifestlog.feed SET seq = {count}, records = {count}, ts = 1577836800000000 + {count}",
)
"""Order: contents, sightings, events, and the end of the log."""


def fill(server: Server, count: int) -> None:
    """Make this many records in a manifest that has none."""
    with server.connect() as connection:
        made = connection.execute(
            "SELECT schemaname, tablename, indexname, indexdef, conname FROM pg_indexes LEFT JOIN pg_constraint"
            " ON conname = indexname WHERE schemaname = 'manifestlog' AND tablename = ANY(%s)",
            (list(TABLES),),
        ).fetchall()
        with connection.transaction():  # one transaction with TRUNCATE writes no WAL, if wal_level is minimal
            connection.execute(f"TRUNCATE {', '.join(f'manifestlog.{one}' for one in TABLES)}".encode())
            for _, table, index, _, constraint in made:
                what = f"ALTER TABLE manifestlog.{table} DROP CONSTRAINT" if constraint else "DROP INDEX manifestlog."
                connection.execute(f"{what} {index}".replace(". ", ".").encode())
            for statement in FILL:
                connection.execute(statement.replace("{count}", str(count)).encode())
            for _, table, index, definition, constraint in made:
                connection.execute(definition.encode())
                if constraint:
                    connection.execute(
                        f"ALTER TABLE manifestlog.{table} ADD CONSTRAINT {index} PRIMARY KEY USING INDEX {index}".encode()
                    )
        connection.execute(b"ANALYZE")
        connection.execute(b"CHECKPOINT")


def span(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def each(work: Callable[[Any], object], items: Iterable[Any]) -> float:
    """The median time of one call, in microseconds."""
    return 1e6 * median(span(lambda: work(one)) for one in items)  # noqa: B023 -- called at once


def measured(server: Server, count: int, calls: int) -> dict[str, float]:
    """What the calls cost in a manifest that has this many records, and one that is added to it."""
    options = ManifestOptions(batch_records_max=1000)
    found: dict[str, float] = {}
    with DownloadManifestManager(server.url(NAME), METADATA, options=options) as manifest:
        ours = list(harness.make_records(0, calls))
        known = [hashlib.sha256(b"%d" % (count * number // calls + 1)).hexdigest() for number in range(calls)]
        found["add, µs"] = each(manifest.add, ours)
        many = list(harness.make_records(calls, 10 * calls))
        found["add_many, µs a record"] = 1e6 * span(lambda: manifest.add_many(many)) / len(many)
        found["has_checksum, µs"] = each(manifest.has_checksum, known)
        found["get, µs"] = each(manifest.get, known)
        found["by source, µs"] = each(lambda one: manifest.get_record_by_source(one.source_id, one.dataset), ours)
        snapshot = manifest.snapshot()
        found["export, records/s"] = len(snapshot) / span(lambda: sum(len(some) for some in snapshot.batches()))
    with server.connect() as connection:
        sizes = " + ".join(f"pg_total_relation_size('manifestlog.{one}')" for one in TABLES)
        ((total, records),) = connection.execute(f"SELECT {sizes}, records FROM manifestlog.feed".encode()).fetchall()
    found["bytes a record"] = total / records
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="What many records cost in PostgreSQL.")
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--calls", type=int, default=1000)
    given = parser.parse_args()
    found: dict[int, dict[str, float]] = {}
    settings = {
        **DURABLE,
        "wal_level": "minimal",
        "max_wal_senders": "0",
        "max_wal_size": "8GB",
        "shared_buffers": "1GB",
    }
    for count in (SMALL, given.records):
        with serving({**settings, "maintenance_work_mem": "512MB"}) as server:
            DownloadManifestManager(server.url(NAME), METADATA).close()
            print(f"{count:,} records made in {span(lambda: fill(server, count)):.0f} s")  # noqa: B023 -- called at once
            found[count] = measured(server, count, given.calls)
    for name, small in found[SMALL].items():
        large = found[given.records][name]
        print(f"{name:<24} {small:>12,.0f} {large:>12,.0f}   {large / small:.2f} x")


if __name__ == "__main__":
    main()
