"""What one of many records costs: a million of them into an empty manifest, in batches, in two durability classes.

In each round one process makes the records, once for all; from it a process of its own is forked for every peer, which
opens an empty manifest and adds them. So every peer begins with the same memory and nothing of the others', and making
the records is not measured. Each batch is durable before the next begins.

manifestlog decides a verdict for each record, as it always does. Here the others need not: SQLite does `INSERT OR
REPLACE` by `executemany`, LMDB `putmulti` of sorted keys, RocksDB a `WriteBatch`, JSON lines one write.

A round of a million records takes minutes, so there are two of them; the normal run has five, of a tenth as many.
"""

from __future__ import annotations

import gc
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import harness, peers
from benchmarks.harness import Context, Measurement
from benchmarks.open_once import memory_mb
from benchmarks.writers import Writers

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from manifestlog import ManifestRecord

BATCH_RECORDS = 10_000
Job = tuple[str, str, Path]
"""Peer, durability, directory of an empty manifest."""
Found = dict[str, Any]


def _forked(function: Callable[..., Found], *arguments: object) -> Found:
    """What a function gives, called in a child that has our memory and goes away."""
    answer, question = os.pipe()
    child = os.fork()
    if not child:
        status = 1
        try:
            os.write(question, json.dumps(function(*arguments)).encode())
            status = 0
        finally:
            os._exit(status)
    os.close(question)
    with os.fdopen(answer, "rb") as pipe:
        found = pipe.read()
    if os.waitpid(child, 0)[1]:
        raise ChildProcessError(f"{function.__name__}{arguments[1:]}")
    return dict(json.loads(found))


def _add_many(records: list[ManifestRecord], job: Job) -> Found:
    name, durability, directory = job
    before = memory_mb()
    opened = peers.load(name).open(directory, durability, shared=False)
    kept = peers.load(name).reorganised(directory)
    began = time.perf_counter()
    opened.add_many(records, BATCH_RECORDS)
    seconds = time.perf_counter() - began
    after = memory_mb()
    compacted = peers.load(name).reorganised(directory) != kept
    asked = records[:: max(len(records) // 100, 1)]
    answers = [opened.get_by_source(one.source_id, one.dataset) for one in asked]
    answer = [opened.has(one.checksum) for one in asked], [one and peers.fields(one) for one in answers]
    opened.close()
    grown = after["peak_mb"] - before["peak_mb"]
    return {"seconds": seconds, "grown_mb": grown, "compacted": compacted, "answer": harness.digest_of(answer)}


def _round(_: Connection[Any, Any], count: int, jobs: list[Job]) -> list[Found]:
    """All peers once."""
    records = list(harness.make_records(0, count))
    gc.collect()
    gc.freeze()  # nobody has to walk through them in search of garbage
    found = []
    for job in jobs:
        directory = job[2]
        directory.mkdir()
        _forked(_empty, job)
        one = _forked(_add_many, records, job)
        found.append(one | {"disk_mb": harness.disk_mb(directory)})
        shutil.rmtree(directory)
        os.sync()  # what one leaves to write is not written while the next is measured
    return found


def _empty(job: Job) -> Found:
    peers.load(job[0]).fill(job[2], [])
    return {}


def _result(count: int, name: str, durability: str, found: list[Found]) -> Measurement:
    compacted = sum(one["compacted"] for one in found)
    return Measurement(
        table=f"add_many into an empty manifest, {peers.DURABILITIES[durability]}",
        case={"records": count},
        peer=name,
        unit="µs a record",
        more_is_better=False,
        samples=[1e6 * one["seconds"] / count for one in found],
        extra={
            "seconds": harness.middle(one["seconds"] for one in found),
            "peak RSS grown MB": harness.middle(one["grown_mb"] for one in found),
            "MB on disk": harness.middle(one["disk_mb"] for one in found),
            "compacted beside": f"{compacted} of {len(found)}" if name == peers.REFERENCE else "-",
            "rounds": len(found),
        },
        digest=harness.digest_of(sorted({one["answer"] for one in found})),
        headline=True,
    )


def run(context: Context) -> Iterator[Measurement]:
    """Every peer that has a way of its own for many."""
    count = context.pick(1_000, 100_000, 1_000_000)
    names = [name for name in context.peers if peers.load(name).adds_many]
    cases = [(name, durability) for durability in peers.DURABILITIES for name in names]
    found: dict[tuple[str, str], list[Found]] = {case: [] for case in cases}
    for turn in range(context.rounds_or(2 if context.scale == "full" else 5)):
        harness.progress(f"{count:,} records, round {turn + 1}")
        order = harness.rotated(cases, turn)
        jobs: list[Job] = [(*case, context.directory / "many") for case in order]
        with Writers(1) as maker:
            for case, one in zip(order, maker.ask(0, _round, count, jobs), strict=True):
                found[case].append(one)
    for (name, durability), samples in found.items():
        yield _result(count, name, durability, samples)


WORKLOAD = harness.Workload("add_many: one of many records into an empty manifest", run)

if __name__ == "__main__":
    raise SystemExit(harness.main([WORKLOAD]))
