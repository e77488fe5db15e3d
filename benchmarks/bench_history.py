"""What the history costs, and how fast it answers: events written, kept, searched, read, and an earlier time.

The manifest of this table is one stream of additions, compacted after each tenth. `beside` is what a user would do without
a history: `grep` over the same lines as plain text, `zstdcat`'s work (decompressing them), or no run at all. Every number of
bytes is that of the files in `history/`.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import harness
from benchmarks.harness import Context, Measurement
from manifestlog import (
    DownloadManifestManager,
    Durability,
    ETLProcess,
    ManifestMetadata,
    ManifestOptions,
)

OPTIONS = ManifestOptions(durability=Durability.PROCESS_KILL, auto_compact=False, compact_on_close=False)
WITHOUT, WITH = "without a run", "in a run"
GREP, FILES = "grep of plain text", "manifestlog"


@dataclass(frozen=True, slots=True)
class Stream:
    """A manifest that was written as a stream, and what its compactions took."""

    path: Path
    events: int
    bytes: int
    compact_s: list[float]
    add_s: list[float]


def _open(path: Path) -> DownloadManifestManager:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    metadata = ManifestMetadata(
        process=ETLProcess.EXTRACTOR, etl_version="1.0.0", root_dir=path.parent, ts_created=now, ts_updated=now
    )
    return DownloadManifestManager(path, metadata, options=OPTIONS)


def _write(directory: Path, events: int) -> Stream:
    """Add so many records in ten parts, each followed by a compaction; every other part in a run."""
    directory.mkdir()
    path = directory / "galaxy_download.manifest.json"
    compact_s: list[float] = []
    add_s: list[float] = []
    with _open(path) as manifest:
        for part in range(10):
            records = list(harness.make_records(part * events // 10, events // 10))
            began = time.perf_counter()
            for record in records:
                manifest.add(record)
            add_s.append((time.perf_counter() - began) / len(records))
            compact_s.append(manifest.compact().seconds / len(records))
    size = sum(file.stat().st_size for file in (directory / "history").iterdir())
    return Stream(path, events, size, compact_s, add_s)


def _adds(context: Context, events: int) -> Iterator[Measurement]:
    """Additions with and without a run, in turns, in two manifests of the same records."""
    found: dict[str, list[float]] = {WITHOUT: [], WITH: []}
    for turn in range(context.rounds_or(5)):
        for peer in harness.rotated(list(found), turn):
            directory = context.directory / f"add-{turn}-{peer.replace(' ', '-')}"
            directory.mkdir()
            records = list(harness.make_records(0, events))
            with _open(directory / "galaxy_download.manifest.json") as manifest:
                began = time.perf_counter()
                if peer == WITH:
                    with manifest.run("nightly"):
                        _add(manifest, records, {"url": "https://galaxy.example/dumps/part", "status": 200})
                else:
                    _add(manifest, records, None)
                found[peer].append((time.perf_counter() - began) / events * 1e6)
            shutil.rmtree(directory)
    for peer, samples in found.items():
        yield Measurement("an addition, un-synced", {"records": events}, peer, "us", False, samples)


def _add(manifest: DownloadManifestManager, records: list[Any], attempt: dict[str, Any] | None) -> None:
    for record in records:
        manifest.add(record, attempt=attempt)


def _timed(rounds: int, ask: Callable[[], object]) -> list[float]:
    samples = []
    for _ in range(rounds):
        began = time.perf_counter()
        ask()
        samples.append((time.perf_counter() - began) * 1e3)
    return samples


def _plain(stream: Stream, manifest: DownloadManifestManager) -> Path:
    """Write every event as a line of plain text, for `grep`."""
    path = stream.path.parent / "plain.txt"
    with path.open("w") as file:
        for event in manifest.history():
            file.write(f"{event.ts} {event.kind} {event.source_id} {event.checksum} {event.row}\n")
    return path


def _grep(path: Path, text: str) -> int:
    return sum(text in line for line in path.open())


def _questions(context: Context, stream: Stream) -> Iterator[Measurement]:
    rounds = context.rounds_or(5)
    case: dict[str, harness.Cell] = {"events": stream.events, "bytes an event": round(stream.bytes / stream.events, 1)}
    _, source_id = harness.source_of(stream.events // 3)
    with _open(stream.path) as manifest:
        plain = _plain(stream, manifest)
        last_part = next(e for n, e in enumerate(manifest.history(reverse=True)) if n == stream.events // 20)
        asked: list[tuple[str, str, Callable[[], object]]] = [
            ("events of one source", FILES, lambda: len(list(manifest.history(source_id=source_id)))),
            ("events of one source", GREP, lambda: _grep(plain, source_id)),
            ("all events", FILES, lambda: sum(1 for _ in manifest.history())),
            ("all events", GREP, lambda: _grep(plain, "no such text")),
            (
                "a look at 5 % of the events ago",
                FILES,
                lambda: len(list(manifest.as_of(last_part.ts).snapshot().checksums())),
            ),
        ]
        for table, peer, ask in asked:
            samples = _timed(rounds, ask)
            extra: dict[str, harness.Cell] = {}
            if table == "all events":
                extra["events a second"] = round(stream.events / median(samples) * 1e3)
            yield Measurement(table, case, peer, "ms", False, samples, extra=extra, headline=True)


def _sizes(stream: Stream) -> Iterator[Measurement]:
    case: dict[str, harness.Cell] = {"events": stream.events}
    yield Measurement(
        "a compaction, with moving and packing the history",
        case,
        FILES,
        "us an event",
        False,
        [1e6 * one for one in stream.compact_s],
        extra={"bytes an event": round(stream.bytes / stream.events, 1), "add, us": 1e6 * median(stream.add_s)},
        headline=True,
    )


def run(context: Context) -> Iterator[Measurement]:
    """One stream of events, then additions with and without a run."""
    events = context.pick(5_000, 200_000, 10_000_000)
    stream = _write(context.directory / "history", events)
    os.sync()
    yield from _sizes(stream)
    yield from _questions(context, stream)
    yield from _adds(context, context.pick(500, 20_000, 50_000))


WORKLOAD = harness.Workload("history: what events cost, and how fast they answer", run)

if __name__ == "__main__":
    raise SystemExit(harness.main([WORKLOAD]))
