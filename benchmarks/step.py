"""One step of a benchmark in a process of its own, so that its memory is its own: `python -m benchmarks.step NAME JSON`.

It prints a line of JSON: what the step found, its seconds, the peak of its memory. A step gets a manifestlog directory,
as `ManifestlogPeer.fill` makes one, unless it says otherwise.
"""

from __future__ import annotations

import gc
import hashlib
import itertools
import json
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import harness, peers, stage_work
from benchmarks.open_once import memory_mb

if TYPE_CHECKING:
    from manifestlog import DownloadManifestManager

_NEVER_S = 86_400.0
Found = dict[str, Any]


def run(name: str, environment: dict[str, str] | None = None, **arguments: object) -> Found:
    """Run a step as a process of its own, and give what it says."""
    command = [sys.executable, "-m", "benchmarks.step", name, json.dumps(arguments, default=str)]
    root = Path(__file__).parent.parent
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=root, env=environment)
    found: Found = json.loads(done.stdout)
    return found


def checksum_of(number: int) -> str:
    """The checksum of record `number`, without the record."""
    return hashlib.sha256(b"%d:%d" % (harness.SEED, number)).hexdigest()


def open_manifest(directory: Path) -> DownloadManifestManager:
    """The manifest of a directory, made if there is none; it compacts only when it is told to."""
    from manifestlog import (
        DownloadManifestManager,
        Durability,
        ETLProcess,
        ManifestMetadata,
        ManifestOptions,
        manifest_path,
    )

    metadata = ManifestMetadata(process=ETLProcess.EXTRACTOR, etl_version="1.0.0", root_dir=Path("/srv/etl"))
    options = ManifestOptions(
        durability=Durability.PROCESS_KILL,
        auto_compact=False,
        compact_on_close=False,
        compact_interval_s=_NEVER_S,
    )
    return DownloadManifestManager(manifest_path(directory, "bench", "download"), metadata, options=options)


# -- the steps ---------------------------------------------------------------------------------------------------------


def build(directory: str, start: int, count: int, slice_records: int) -> Found:
    """Add records by `add_many`, and `save` after each slice. Making the records is not counted."""
    Path(directory).mkdir(parents=True, exist_ok=True)
    add_s: list[float] = []
    save_s: list[float] = []
    with open_manifest(Path(directory)) as manifest:
        for first in range(start, start + count, slice_records):
            records = list(harness.make_records(first, min(slice_records, start + count - first)))
            gc.collect()
            began = time.perf_counter()
            manifest.add_many(records)
            added = time.perf_counter()
            del records
            manifest.save()
            add_s.append(added - began)
            save_s.append(time.perf_counter() - added)
            harness.progress(f"{first + slice_records:,} records: add_many {add_s[-1]:.1f} s, save {save_s[-1]:.1f} s")
    return {"add_s": add_s, "save_s": save_s}


def append(directory: str, start: int, count: int) -> Found:
    """Leave records in the log."""
    with open_manifest(Path(directory)) as manifest:
        manifest.add_many(harness.make_records(start, count))
    return {}


def compact(directory: str) -> Found:
    """Merge the log into the canonical: the report of it, and when it began and ended, by the machine's clock."""
    with open_manifest(Path(directory)) as manifest:
        began_ns = time.monotonic_ns()
        report = manifest.compact()
        ended_ns = time.monotonic_ns()
    return asdict(report) | {"began_ns": began_ns, "ended_ns": ended_ns}


def save_json(directory: str, number: int) -> Found:
    """One addition to the JSON manifest, which is one save of all of it."""
    opened = peers.load("JSON rewrite").open(Path(directory), peers.POWER_CUT, shared=False)
    record = harness.make_record(number)
    gc.collect()
    began = time.perf_counter()
    opened.add(record)
    return {"seconds": time.perf_counter() - began}


def pause(directory: str, start: int, log_records: int, mode: str, seconds: float) -> Found:
    """Add without end while a compaction runs (or for as many seconds): µs from one addition to the next."""
    ended = threading.Event()
    span: Found = {}
    with open_manifest(Path(directory)) as manifest:
        manifest.add_many(harness.make_records(start, log_records))

        def beside() -> None:
            span["began_ns"] = time.monotonic_ns()
            if mode == "in a thread":
                manifest.compact()
            elif mode == "in another process":
                span.update(run("compact", directory=directory))
            else:
                time.sleep(seconds)
            span.setdefault("ended_ns", time.monotonic_ns())
            ended.set()

        thread = threading.Thread(target=beside)
        gc.collect()
        thread.start()
        times = [time.monotonic_ns()]
        for number in itertools.count(start + log_records):
            manifest.add(harness.make_record(number))
            times.append(time.monotonic_ns())
            if ended.is_set():
                break
        thread.join()
    gaps = [
        (after - before) / 1e3
        for before, after in itertools.pairwise(times)
        if after >= span["began_ns"] and before <= span["ended_ns"]
    ]
    found = {f"p{percent}": harness.percentile(gaps, percent) for percent in (50, 99, 99.9)}
    lasted_s = (span["ended_ns"] - span["began_ns"]) / 1e9
    return found | {"max": max(gaps), "adds": len(gaps), "seconds": lasted_s}


def check(directory: str) -> Found:
    """Read all of it and say what is wrong."""
    from manifestlog import manifest_path, names
    from manifestlog.engines.filelog.recovery import check as checking

    began = time.perf_counter()
    report = checking.check(names.resolve(manifest_path(Path(directory), "bench", "download")))
    return {"seconds": time.perf_counter() - began, "records": report.records, "damaged": report.damaged}


def look_up(directory: str, records: int, count: int) -> Found:
    """Lookups all over the manifest, of hits, misses and records by source: the same ones twice.

    The first time they touch what this process has not touched, and check it.
    """
    chance = random.Random(harness.SEED)
    numbers = [chance.randrange(records) for _ in range(count)]
    questions: dict[str, list[tuple[str, ...]]] = {
        "has, hit": [(checksum_of(number),) for number in numbers],
        "has, miss": [(hashlib.sha256(b"%d" % number).hexdigest(),) for number in numbers],
        "get by source": [harness.source_of(number)[::-1] for number in numbers],
    }
    found: Found = {}
    with open_manifest(Path(directory)) as manifest:
        ask: dict[str, Callable[..., object]] = {
            "has, hit": manifest.has_checksum,
            "has, miss": manifest.has_checksum,
            "get by source": manifest.get_record_by_source,
        }
        for what, asked in questions.items():
            found[what] = {turn: _timed(ask[what], asked) for turn in ("first time", "again")}
    return found


def _timed(ask: Callable[..., object], questions: Sequence[tuple[str, ...]]) -> float:
    began = time.perf_counter()
    for one in questions:
        ask(*one)
    return time.perf_counter() - began


def memory(directory: str, peer: str, records: int, lookups: int) -> Found:
    """What opening any peer's manifest and looking things up adds to the memory that is backed by no file."""
    kind = peers.load(peer)
    chance = random.Random(harness.SEED)
    numbers = [chance.randrange(records) for _ in range(lookups)]
    before = memory_mb()["anon_mb"]
    opened = kind.open(Path(directory), peers.POWER_CUT, shared=False)
    after_open = memory_mb()["anon_mb"]
    known = 0
    for number in numbers:
        dataset, source_id = harness.source_of(number)
        known += opened.has(checksum_of(number)) and opened.get_by_source(source_id, dataset) is not None
    found = {"open_mb": after_open - before, "grown_mb": memory_mb()["anon_mb"] - before, "known": known}
    opened.close()
    return found


STEPS: dict[str, Callable[..., Found]] = {
    "build": build,
    "append": append,
    "compact": compact,
    "save_json": save_json,
    "pause": pause,
    "check": check,
    "look_up": look_up,
    "memory": memory,
    "stage_inputs": stage_work.inputs,
    "stage_done": stage_work.done,
    "stage_saved": stage_work.saved,
    "stage": stage_work.stage,
    "pending": stage_work.pending,
    "pool": stage_work.pool,
}


def main(name: str, arguments: str) -> None:
    """Run one step and say what it took."""
    began = time.perf_counter()
    found = STEPS[name](**json.loads(arguments))
    sys.stdout.write(json.dumps({"wall_s": time.perf_counter() - began} | memory_mb() | found) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
