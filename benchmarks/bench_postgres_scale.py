"""What many records cost in PostgreSQL: additions, look-ups and an export at 10,000 records and at many more.

One server has a database of each size, which the engine loads as it loads a copy. Then the sizes take turns in every round,
and each figure is compared with that of the smallest in the same round. At last, each is read whole. With `--tuned`, the
server is started again with more memory and with rarer checkpoints, and the rounds are repeated with each.
Records look like ours. Their checksums are spread evenly, and come in another order than their events, as hashes do.

    PYTHONPATH=tests python -m benchmarks.bench_postgres_scale [--records 10000,1000000,10000000] [--tuned]
"""

from __future__ import annotations

import argparse
import hashlib
import signal
import time
from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from statistics import median
from typing import TYPE_CHECKING, Any

from benchmarks import harness
from benchmarks.bench_postgres import METADATA, NAME
from manifestlog import DownloadManifestManager, ManifestOptions
from manifestlog.engines.protocol import Image
from manifestlog.engines.registry import driver_for
from manifestlog.model import codec
from manifestlog.model.events import Event, EventKind
from manifestlog.model.models import metadata_row
from support.postgres import DURABLE, Server, serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

TABLES = ("content", "sighting", "log")
SETTINGS = {**DURABLE, "max_wal_size": "8GB", "shared_buffers": "1GB"}
TUNED = {
    "6 GB of shared_buffers": {"shared_buffers": "6GB"},
    "and a checkpoint an hour": {"checkpoint_timeout": "1h", "max_wal_size": "100GB"},
    "and compressed pages in the log": {"wal_compression": "pglz"},
}
"""What a server may be given, each in addition to those before it."""
_EPOCH = datetime(2020, 1, 1, tzinfo=UTC)
_PRIME = 7_368_787
_AT_ONCE = 2000
Figures = dict[str, list[float]]


@dataclass(frozen=True)
class Made:
    """Records that are made as they are read: a snapshot, as far as a load asks for one."""

    count: int

    def __len__(self) -> int:
        return self.count

    @property
    def metadata(self) -> dict[str, Any]:
        return metadata_row(METADATA) | {"total_records": self.count}

    def checksum(self, rank: int) -> str:
        """The checksum with this place among all."""
        return f"{rank * (2**64 // self.count):016x}{hashlib.sha256(b'%d' % rank).hexdigest()[16:]}"

    def row(self, number: int, checksum: str) -> dict[str, Any]:
        return {
            "source_id": f"filler_bodies_{number:08d}",
            "dataset": "filler",
            "checksum": checksum,
            "file_path": f"/srv/etl/data/filler/2020/01/{checksum[16:28]}_galaxy_part.json.gz",
            "file_size": number + 1,
            "etag": f'"{checksum[20:32]}-{number:x}"',
            "ts_downloaded": f"{_EPOCH + timedelta(seconds=number):%Y-%m-%dT%H:%M:%SZ}",
            "version": "1.0.0",
        }

    def batches(self) -> Iterator[list[tuple[str, bytes]]]:
        """By checksum."""
        for first in range(0, self.count, _AT_ONCE):
            some = range(first, min(first + _AT_ONCE, self.count))
            ranked = ((rank * _PRIME % self.count, self.checksum(rank)) for rank in some)
            yield [(checksum, codec.dumps(self.row(number, checksum))) for number, checksum in ranked]

    def events(self) -> Iterator[Event]:
        """By time."""
        back = pow(_PRIME, -1, self.count)
        for number in range(self.count):
            checksum = self.checksum(number * back % self.count)
            ts = f"{_EPOCH + timedelta(seconds=number):%Y-%m-%dT%H:%M:%S}.000000Z"
            yield Event("", ts, EventKind.PUT, checksum, self.row(number, checksum), {})

    def image(self) -> Image:
        return Image(self.metadata, self, "", self.events(), self.count, None)  # type: ignore[arg-type] # as far as asked


def database(count: int) -> str:
    return f"of_{count}"


def load(server: Server, count: int) -> None:
    """Make this many records, and say what that took."""
    server.execute(f"CREATE DATABASE {database(count)}")
    url = server.url(NAME, database(count))
    driver = driver_for(url)
    before = wal(server)
    took = span(lambda: driver.load(driver.locate(url), Made(count).image(), ManifestOptions()).close())
    server.execute("CHECKPOINT", database=database(count))
    harness.say(
        f"{count:,} records loaded in {took:.0f} s ({count / took:,.0f} a second),"
        f" WAL: {(wal(server) - before) / count:,.0f} bytes a record"
    )
    for table in TABLES:
        harness.say(f"  {table}: {', '.join(sizes(server, count, table))}")


def wal(server: Server) -> int:
    ((found,),) = server.administrator.execute("SELECT pg_current_wal_lsn() - '0/0'::pg_lsn").fetchall()
    return int(found)


def sizes(server: Server, count: int, table: str) -> list[str]:
    """The bytes a record of a table and of each of its indexes."""
    with server.connect(database(count)) as connection:
        found = connection.execute(
            "SELECT relname, pg_relation_size(oid) FROM pg_class WHERE oid = %s::regclass"
            " OR oid IN (SELECT indexrelid FROM pg_index WHERE indrelid = %s::regclass) ORDER BY relkind DESC, relname",
            [f"manifestlog.{table}"] * 2,
        ).fetchall()
    return [f"{name} {size / count:,.0f}" for name, size in found] + [f"{sum(s for _, s in found) / 1e9:.2f} GB in all"]


def span(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def each(work: Callable[[Any], object], items: Iterable[Any]) -> float:
    """The median time of one call, in microseconds."""
    return 1e6 * median(span(lambda: work(one)) for one in items)  # noqa: B023 -- called at once


def measure(server: Server, count: int, calls: int, turn: int) -> dict[str, float]:
    """What calls cost in this round in a manifest of this size."""
    first = turn * 11 * calls
    ours = list(harness.make_records(first, calls))
    many = list(harness.make_records(first + calls, 10 * calls))
    made = Made(count)
    known = [made.checksum((turn + count * number // calls) % count) for number in range(calls)]
    numbers = [count * number // calls for number in range(calls)]
    with DownloadManifestManager(
        server.url(NAME, database(count)), METADATA, options=ManifestOptions(batch_records_max=1000)
    ) as manifest:
        manifest.has_checksum(known[0])
        return {
            "add, µs": each(manifest.add, ours),
            "add_many, µs a record": 1e6 * span(lambda: manifest.add_many(many)) / len(many),
            "has_checksum, µs": each(manifest.has_checksum, known),
            "get, µs": each(manifest.get, known),
            "by source, µs": each(
                lambda number: manifest.get_record_by_source(f"filler_bodies_{number:08d}", "filler"), numbers
            ),
        }


def export(server: Server, count: int) -> float:
    """How many records a second can be read in order."""
    with DownloadManifestManager(server.url(NAME, database(count)), METADATA) as manifest:
        snapshot = manifest.snapshot()
        return len(snapshot) / span(lambda: sum(len(some) for some in snapshot.batches()))


def restart(server: Server, more: Mapping[str, str], counts: Iterable[int]) -> None:
    """Start the server again with more settings, and read all indexes into its memory."""
    server.execute("CHECKPOINT")
    server.stop(signal.SIGINT)
    server.settings = {**server.settings, **more}
    server.start()
    for count in counts:
        server.execute(
            "CREATE EXTENSION IF NOT EXISTS pg_prewarm",
            "SELECT pg_prewarm(indexrelid) FROM pg_index WHERE indrelid::regclass::text LIKE 'manifestlog.%'",
            database=database(count),
        )


def rounds(server: Server, counts: list[int], calls: int, turns: range) -> dict[int, Figures]:
    """What calls cost in each of these rounds, by size."""
    found: dict[int, Figures] = {count: defaultdict(list) for count in counts}
    for turn in turns:
        for count in harness.rotated(counts, turn):
            for name, value in measure(server, count, calls, turn).items():
                found[count][name].append(value)
    return found


def say(found: dict[int, Figures], title: str) -> None:
    """Say what calls cost, and how many times as much as with the fewest records."""
    small = next(iter(found.values()))
    harness.say(f"{title:<34}" + "".join(f" {count:>20,}" for count in found))
    for name, base in small.items():
        cells = (
            f"{median(figures[name]):,.0f} ({median(a / b for a, b in zip(figures[name], base, strict=True)):.2f} x)"
            for figures in found.values()
        )
        harness.say(f"{name:<34}" + "".join(f" {cell:>20}" for cell in cells))


def main() -> None:
    parser = argparse.ArgumentParser(description="What many records cost in PostgreSQL.")
    parser.add_argument("--records", default="10000,1000000")
    parser.add_argument("--calls", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--tuned", action="store_true", help="also with more memory and rarer checkpoints")
    given = parser.parse_args()
    counts = [int(one) for one in given.records.split(",")]
    with serving(SETTINGS) as server:
        for count in counts:
            load(server, count)
        say(rounds(server, counts, given.calls, range(given.rounds)), "median of the rounds")
        for number, (title, more) in enumerate(TUNED.items() if given.tuned else (), 1):
            restart(server, more, counts)
            turns = range(number * given.rounds, (number + 1) * given.rounds)
            say(rounds(server, counts, given.calls, turns), title)
        for count in counts:
            harness.say(f"{count:,} records: {export(server, count):,.0f} a second exported")


if __name__ == "__main__":
    main()
