"""How many additions a second a server takes from how many clients, and what a client costs it.

Each client is a manifest of its own, open in a thread with one connection; some processes share them. What it shows is
the server: where it ends, and that more clients than that only wait. Not a comparison.

    PYTHONPATH=tests python -m benchmarks.postgres_clients [--clients 1,8,32,100] [--seconds 5] [--batch 1]
"""

from __future__ import annotations

import argparse
import multiprocessing
import threading
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from benchmarks import harness
from benchmarks.bench_postgres import METADATA, NAME
from manifestlog import DownloadManifestManager, ManifestOptions
from manifestlog.engines.postgres import driver
from manifestlog.model.batches import encoded
from support.postgres import DURABLE, Server, serving

if TYPE_CHECKING:
    from manifestlog.engines.postgres.engine import PostgresEngine

PROCESSES = 4
OPTIONS = ManifestOptions()


def client(engine: PostgresEngine, first: int, batch: int, until: float, spans: list[float]) -> None:
    """Add until it is time."""
    number = first
    while time.monotonic() < until:
        records = [encoded(one, OPTIONS) for one in harness.make_records(number, batch)]
        number += batch
        began = time.perf_counter()
        engine.add_batch(records) if batch > 1 else engine.add(records[0])
        spans.append(time.perf_counter() - began)


def process(url: str, start: int, clients: int, batch: int, seconds: float) -> list[float]:
    """Run so many clients in this process; return how long each of their calls took."""
    engines = [driver.open(driver.locate(url), None, OPTIONS, read_only=False) for _ in range(clients)]
    spans: list[float] = []
    until = time.monotonic() + seconds
    threads = [
        threading.Thread(target=client, args=(engine, start + 1_000_000 * place, batch, until, spans))
        for place, engine in enumerate(engines)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for engine in engines:
        engine.close()
    return spans


def backend_mb(server: Server) -> float:
    """What one idle connection takes of the server's memory, in MB: a session that has added and looked up."""
    with DownloadManifestManager(server.url(NAME), METADATA) as manifest:
        for one in harness.make_records(900_000_000, 20):
            manifest.add(one)
            manifest.get(one.checksum)
        with server.connect() as connection:
            ask = "SELECT pid FROM pg_stat_activity WHERE application_name = 'manifestlog'"
            ((pid,),) = connection.execute(ask).fetchall()
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description="How many additions a second a server takes.")
    parser.add_argument("--clients", default="1,8,32,100")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--batch", type=int, default=1)
    given = parser.parse_args()
    with serving(DURABLE) as server:
        DownloadManifestManager(server.url(NAME), METADATA).close()
        print(f"an idle connection takes {backend_mb(server):.1f} MB of the server")
        for turn, clients in enumerate(map(int, given.clients.split(","))):
            processes = min(PROCESSES, clients)
            shares = [clients // processes + (place < clients % processes) for place in range(processes)]
            firsts = [100_000_000 * turn + 30_000_000 * place for place in range(processes)]
            arguments = [
                (server.url(NAME), *one, given.batch, given.seconds) for one in zip(firsts, shares, strict=True)
            ]
            with multiprocessing.get_context("spawn").Pool(processes) as pool:
                spans = [span for some in pool.starmap(process, arguments) for span in some]
            rate = given.batch * len(spans) / given.seconds
            tail = harness.percentile(spans, 99)
            print(f"{clients:>5} clients {rate:>9,.0f}/s   p50 {1e3 * median(spans):.1f} ms, p99 {1e3 * tail:.1f} ms")


if __name__ == "__main__":
    main()
