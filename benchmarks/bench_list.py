"""What reading a whole manifest costs a record: models, rows, columns, Arrow, `cat` and `list`, beside JSON and SQLite.

Processor time of one process, so that another program on the machine does not count. All read the same records, from the
page cache, and throw them away; the command line's part leaves out its start.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import harness, peers
from benchmarks.harness import Context, Measurement

if TYPE_CHECKING:
    from manifestlog import DownloadManifestManager

NAME = "systems_download.manifest.json"
_COLUMNS = ("source_id", "dataset", "checksum", "file_path", "file_size", "etag", "ts_downloaded", "version")


def _drop(found: Iterable[object]) -> None:
    deque(found, maxlen=0)


def _command_line(*arguments: str) -> Callable[[], None]:
    def call() -> None:
        from manifestlog.cli import app

        with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
            app.main(arguments)

    return call


def _orjson(path: Path) -> None:
    import orjson

    orjson.loads(path.read_bytes())


def _json(path: Path) -> None:
    with path.open() as file:
        json.load(file)


def _sqlite(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as database:
        _drop(database.execute("SELECT * FROM records ORDER BY checksum"))


def prepare(directory: Path, count: int) -> Path:
    """Write these records into a manifest, and into a database beside it."""
    from manifestlog import DownloadManifestManager, ETLProcess, ManifestMetadata

    path = directory / NAME
    metadata = ManifestMetadata(process=ETLProcess.EXTRACTOR, etl_version="1.0.0", root_dir=Path("/srv/etl"))
    with DownloadManifestManager(path, metadata) as manifest:
        manifest.add_many(harness.make_records(0, count))
    with contextlib.closing(sqlite3.connect(directory / "records.sqlite")) as database, database:
        database.execute(f"CREATE TABLE records ({', '.join(_COLUMNS)}, PRIMARY KEY (checksum)) WITHOUT ROWID")
        rows = json.loads(path.read_bytes())["records"].values()
        database.executemany(
            f"INSERT INTO records VALUES ({', '.join('?' * 8)})", [[*row.values()][:8] for row in rows]
        )
    return path


def _ways(manifest: DownloadManifestManager, path: Path) -> dict[str, dict[str, Callable[[], object]]]:
    """What is compared, by case."""
    others: dict[str, Callable[[], object]] = {
        "json.load": lambda: _json(path),
        "orjson.loads": lambda: _orjson(path),
        "SQLite SELECT": lambda: _sqlite(path.parent / "records.sqlite"),
    }
    ours: dict[str, Callable[[], object]] = {
        "records.values()": lambda: _drop(manifest.records.values()),
        "rows()": lambda: _drop(manifest.rows()),
        "column_batches()": lambda: _drop(manifest.column_batches()),
        "cat": _command_line("cat", str(path)),
        "list": _command_line("list", str(path)),
        "list --jsonl": _command_line("list", "--jsonl", str(path)),
    }
    if importlib.util.find_spec("pyarrow") is not None:
        ours["arrow_batches()"] = lambda: _drop(manifest.arrow_batches())
    return {what: {peers.REFERENCE: call, **others} for what, call in ours.items()}


def cpu_us(call: Callable[[], object], count: int) -> float:
    """Microseconds of processor time a record."""
    began = time.process_time()
    call()
    return 1e6 * (time.process_time() - began) / count


def measured(
    context: Context, table: str, count: int, ways: dict[str, dict[str, Callable[[], object]]]
) -> Iterator[Measurement]:
    """Time each way of each case, round by round; what does not depend on the case is timed once a round."""
    calls = {
        (peer if peer != peers.REFERENCE else what): call for what, way in ways.items() for peer, call in way.items()
    }
    samples: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()  # imports what it needs
    for turn in range(context.rounds_or(5)):
        for name in harness.rotated(list(calls), turn):
            samples[name].append(cpu_us(calls[name], count))
    for what, way in ways.items():
        for peer in way:
            yield Measurement(
                table=table,
                case={"what": what, "records": count},
                peer=peer,
                unit="µs CPU a record",
                more_is_better=False,
                samples=samples[what if peer == peers.REFERENCE else peer],
            )


def run(context: Context) -> Iterator[Measurement]:
    """Every way to read everything."""
    from manifestlog import DownloadManifestManager

    count = context.pick(1_000, 50_000, 300_000)
    directory = context.directory / "list"
    directory.mkdir()
    path = prepare(directory, count)
    with DownloadManifestManager(path, read_only=True) as manifest:
        yield from measured(context, "read a whole manifest", count, _ways(manifest, path))


WORKLOAD = harness.Workload("list: reading a whole manifest", run)

if __name__ == "__main__":
    raise SystemExit(harness.main([WORKLOAD]))
