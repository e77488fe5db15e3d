"""What a manifest in PostgreSQL costs, beside the same work done by hand with psycopg, one round trip each.

By hand there are two ways: a bare table of checksums with an index by source, and the same tables as ours (content,
sightings, log, with their indexes), filled by one statement without verdicts, events' details or operation numbers. COPY
goes into a bare table with these two indexes, and into a bare table with all the indexes that ours have. Clients are
processes, or threads of one process, by hand with a connection each.
Server and clients share the machine, and loopback has no network. Every way takes its turn in every round, and a ratio is
the median of those of the rounds.

    PYTHONPATH=tests python -m benchmarks.bench_postgres [--only add,threads,add_many,look]
"""

from __future__ import annotations

import argparse
import multiprocessing
import threading
import time
from collections import defaultdict
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import psycopg

from benchmarks import harness
from manifestlog import DownloadManifestManager, ETLProcess, ManifestMetadata, ManifestOptions, ManifestRecord
from support.postgres import DURABLE, Server, serving

if TYPE_CHECKING:
    from collections.abc import Callable

NAME = "galaxy_download"
METADATA = ManifestMetadata(process=ETLProcess.EXTRACTOR, etl_version="1.0.0", root_dir=Path("/raw"))
BARE = (
    "CREATE TABLE bare (checksum bytea PRIMARY KEY, source_id text, dataset text, ts timestamptz, body bytea)",
    "CREATE INDEX ON bare (source_id, dataset, ts)",
    "CREATE TABLE copied (LIKE bare INCLUDING INDEXES)",
    "CREATE TABLE c (m int, checksum bytea, body bytea, PRIMARY KEY (m, checksum))",
    """CREATE TABLE s (m int, pair bytea, ts bigint, tie bigint, checksum bytea, source bytea, dataset bytea,
        PRIMARY KEY (m, pair, ts, tie, checksum))""",
    "CREATE INDEX ON s (m, source, ts)",
    "CREATE INDEX ON s (m, ts)",
    """CREATE TABLE l (m int, seq bigserial, ts timestamptz DEFAULT now(), checksum bytea, source bytea, body bytea,
        PRIMARY KEY (m, seq))""",
    "CREATE INDEX ON l (m, checksum, seq)",
    "CREATE INDEX ON l (m, source, seq)",
    """CREATE TABLE wide (m int, seq bigint, ts bigint, kind text, checksum bytea, source bytea, pair bytea, seen bigint,
        tie bigint, dataset bytea, body bytea, PRIMARY KEY (m, checksum))""",
    "CREATE INDEX ON wide (m, pair, seen, tie, checksum)",
    "CREATE INDEX ON wide (m, source, seen)",
    "CREATE INDEX ON wide (m, (seen / 1000000))",
    "CREATE INDEX ON wide (m, seq)",
    "CREATE INDEX ON wide (m, checksum, seq)",
    "CREATE INDEX ON wide (m, source, seq)",
)
_WIDE = ["int4", "int8", "int8", "text", "bytea", "bytea", "bytea", "int8", "int8", "bytea", "bytea"]
INSERT = """INSERT INTO bare (checksum, source_id, dataset, ts, body) VALUES (%b, %s, %s, %s, %b)
    ON CONFLICT DO NOTHING RETURNING 1"""
BY_SOURCE = "SELECT body FROM bare WHERE source_id = %s AND dataset = %s ORDER BY ts DESC LIMIT 1"
INSERT_ALL = """WITH won AS (INSERT INTO c VALUES (1, %b, %b) ON CONFLICT DO NOTHING RETURNING checksum, body),
    seen AS (INSERT INTO s SELECT 1, %b, %s, 0, checksum, %b, %b FROM won),
    logged AS (INSERT INTO l (m, checksum, source, body) SELECT 1, checksum, %b, body FROM won)
    SELECT 1 FROM won"""
Rates = dict[str, list[float]]


def body(record: ManifestRecord) -> bytes:
    return record.model_dump_json().encode()


def by_ours(url: str, records: list[ManifestRecord]) -> float:
    with DownloadManifestManager(url, METADATA) as manifest:
        began = time.perf_counter()
        for record in records:
            manifest.add(record)
        return time.perf_counter() - began


def by_hand(dsn: str, records: list[ManifestRecord]) -> float:
    with psycopg.connect(dsn, autocommit=True, prepare_threshold=0) as connection, connection.cursor() as cursor:
        began = time.perf_counter()
        for one in records:
            given = (bytes.fromhex(one.checksum), one.source_id, one.dataset, one.ts_downloaded, body(one))
            cursor.execute(INSERT, given).fetchall()
        return time.perf_counter() - began


def by_hand_into_all(dsn: str, records: list[ManifestRecord]) -> float:
    with psycopg.connect(dsn, autocommit=True, prepare_threshold=0) as connection, connection.cursor() as cursor:
        began = time.perf_counter()
        for one in records:
            source, micros = one.source_id.encode()[:16], int(one.ts_downloaded.timestamp() * 1e6)
            given = (bytes.fromhex(one.checksum), body(one), source, micros, source, one.dataset.encode(), source)
            cursor.execute(INSERT_ALL, given).fetchall()
        return time.perf_counter() - began


class Numbers:
    """Records that nobody has added yet."""

    def __init__(self) -> None:
        self._next = 0

    def take(self, count: int) -> list[ManifestRecord]:
        self._next += count
        return list(harness.make_records(self._next - count, count))


def together(
    work: Callable[[str, list[ManifestRecord]], float], where: str, shares: list[list[ManifestRecord]]
) -> float:
    """The additions a second of so many processes."""
    with multiprocessing.get_context("fork").Pool(len(shares)) as pool:
        spans = pool.starmap(work, [(where, share) for share in shares])
    return sum(map(len, shares)) / max(spans)


def adds(server: Server, numbers: Numbers, clients: int, count: int, rates: Rates) -> None:
    dsn = f"host={server.folder} port={server.port} user=postgres dbname=postgres"
    ways = {"by hand, one table": (by_hand, dsn), "by hand, all tables": (by_hand_into_all, dsn)}
    for name, (work, where) in {**ways, "manifestlog": (by_ours, server.url(NAME))}.items():
        rates[f"add, {clients} clients: {name}"].append(
            together(work, where, [numbers.take(count) for _ in range(clients)])
        )


def threads(server: Server, numbers: Numbers, clients: int, count: int, rates: Rates) -> None:
    dsn = f"host={server.folder} port={server.port} user=postgres dbname=postgres"
    with DownloadManifestManager(server.url(NAME), METADATA):  # which all threads use
        ways = {"by hand, one table": (by_hand, dsn), "by hand, all tables": (by_hand_into_all, dsn)}
        for name, (work, where) in {**ways, "manifestlog": (by_ours, server.url(NAME))}.items():
            shares = [numbers.take(count) for _ in range(clients)]
            each = [threading.Thread(target=work, args=(where, share)) for share in shares]
            began = time.perf_counter()
            for thread in each:
                thread.start()
            for thread in each:
                thread.join()
            rates[f"add, {clients} threads: {name}"].append(clients * count / (time.perf_counter() - began))


def batches(server: Server, numbers: Numbers, count: int, rates: Rates) -> None:
    options = ManifestOptions(batch_records_max=1000)
    with DownloadManifestManager(server.url(NAME), METADATA, options=options) as manifest:
        records = numbers.take(count)
        rates["add_many, 1,000 a batch: manifestlog"].append(_rate(count, lambda: manifest.add_many(records)))
    with server.connect() as connection:
        for name, copy in (("two indexes", _copy), ("all indexes", _copy_wide)):
            records = numbers.take(count)
            rates[f"add_many, 1,000 a batch: COPY, {name}"].append(_rate(count, lambda: copy(connection, records)))  # noqa: B023 -- called at once


def _copy(connection: psycopg.Connection[Any], records: list[ManifestRecord]) -> None:
    for first in range(0, len(records), 1000):
        with connection.cursor().copy("COPY copied FROM STDIN (FORMAT binary)") as copy:
            copy.set_types(["bytea", "text", "text", "timestamptz", "bytea"])
            for one in records[first : first + 1000]:
                copy.write_row((bytes.fromhex(one.checksum), one.source_id, one.dataset, one.ts_downloaded, body(one)))


def _copy_wide(connection: psycopg.Connection[Any], records: list[ManifestRecord]) -> None:
    for first in range(0, len(records), 1000):
        with connection.cursor().copy("COPY wide FROM STDIN (FORMAT binary)") as copy:
            copy.set_types(_WIDE)
            for seq, one in enumerate(records[first : first + 1000], first):
                source, dataset = one.source_id.encode(), one.dataset.encode()
                micros = int(one.ts_downloaded.timestamp() * 1e6)
                keys = (bytes.fromhex(one.checksum), source[-16:], source[-16:], micros, 0, dataset)
                copy.write_row((1, seq, micros, "put", *keys, body(one)))


def looks(server: Server, numbers: Numbers, count: int, rates: Rates) -> None:
    records = numbers.take(count)
    by_hand(f"host={server.folder} port={server.port} user=postgres dbname=postgres", records)
    with DownloadManifestManager(server.url(NAME), METADATA) as manifest, server.connect() as connection:
        manifest.add_many(records)
        connection.prepare_threshold = 0
        cursor = connection.cursor(binary=True)

        def ask(statement: str, *given: object) -> list[tuple[Any, ...]]:
            return cursor.execute(statement.encode(), given).fetchall()

        keys = [one.checksum for one in records]
        ways: dict[str, Callable[[], object]] = {
            "has_checksum: manifestlog": lambda: [manifest.has_checksum(key) for key in keys],
            "has_checksum: SELECT by hand": lambda: [
                ask("SELECT 1 FROM bare WHERE checksum = %b", bytes.fromhex(key)) for key in keys
            ],
            "by source: manifestlog": lambda: [manifest.get_record_by_source(o.source_id, o.dataset) for o in records],
            "by source: SELECT by hand": lambda: [ask(BY_SOURCE, o.source_id, o.dataset) for o in records],
            "by source: SELECT by hand, and a record": lambda: [
                ManifestRecord.model_validate_json(ask(BY_SOURCE, o.source_id, o.dataset)[0][0]) for o in records
            ],
        }
        for name, work in ways.items():
            rates[name].append(_rate(count, work))


def _rate(count: int, work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return count / (time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description="What a manifest in PostgreSQL costs.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--only", default="add,threads,add_many,look")
    given = parser.parse_args()
    rates: Rates = defaultdict(list)
    parts: dict[str, Callable[[Server, Numbers], None]] = {
        "add": lambda server, numbers: adds(server, numbers, 1, given.count, rates),
        "add_8": lambda server, numbers: adds(server, numbers, 8, given.count // 2, rates),
        "threads": lambda server, numbers: threads(server, numbers, 8, given.count // 2, rates),
        "add_many": lambda server, numbers: batches(server, numbers, 10 * given.count, rates),
        "look": lambda server, numbers: looks(server, numbers, 2 * given.count, rates),
    }
    with serving(DURABLE) as server:
        server.execute(*BARE)
        DownloadManifestManager(server.url(NAME), METADATA).close()
        numbers = Numbers()
        for _ in range(given.rounds):
            for name, part in parts.items():
                if name.partition("_8")[0] in given.only.split(","):
                    part(server, numbers)
    for name, found in rates.items():
        work, _, who = name.partition(": ")
        beside = [own / other for own, other in zip(rates[f"{work}: manifestlog"], found, strict=True)]
        spread = f"{min(found):,.0f} to {max(found):,.0f}"
        ratio = "" if who == "manifestlog" else f"manifestlog is {median(beside):.2f} x as fast"
        print(f"{name:<48} {median(found):>9,.0f}/s   {spread:<20} {ratio}")


if __name__ == "__main__":
    main()
