"""What ten times as many records cost: build, open, look up, compact, check at 1 M and 10 M, for manifestlog alone.

Each step is a process of its own, with the peak of its memory beside its time. The manifest is built by `add_many` and
a `save` after each million; making the records is not counted. Only with `--full` (10 M take 10 GB of disk while they
are compacted, and minutes), and with `--quick` at tiny sizes. The sizes take turns where a step is short.

The large manifest stays until the end of the run, for the benchmark of memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import NamedTuple

from benchmarks import bench_open, harness, peers, step
from benchmarks.harness import Context, Measurement

LOG_RECORDS = 10_000
_RECORD = "µs a record"
_CALL = "µs a call"


class Sample(NamedTuple):
    """What one run of a step gave: the cost of one record or call, the seconds of all, the peak of the memory."""

    name: str
    unit: str
    cost: float
    seconds: float
    peak_mb: float


def place(context: Context, records: int) -> Path:
    """Where the manifest of this size is, once it was built."""
    return context.directory / f"scale-{records}"


def sizes(context: Context) -> list[int]:
    return [context.pick(2_000, 0, 1_000_000), context.pick(20_000, 0, 10_000_000)]


# -- the steps ---------------------------------------------------------------------------------------------------------


def _build(context: Context, records: int, _: int) -> Iterator[Sample]:
    slice_records = context.pick(2_000, 0, 1_000_000)
    found = step.run("build", directory=place(context, records), start=0, count=records, slice_records=slice_records)
    for what, name in (("add_s", "build: add_many"), ("save_s", "build: save")):
        seconds = sum(found[what])
        yield Sample(name, _RECORD, 1e6 * seconds / records, seconds, found["peak_mb"])


def _cold(context: Context, records: int, _: int) -> Iterator[Sample]:
    found = bench_open._once(peers.REFERENCE, place(context, records), records, context.child_environment())
    seconds = found["total_s"]
    yield Sample("open, has, get in a new process", _CALL, 1e6 * seconds, seconds, found["peak_mb"])


def _look_up(context: Context, records: int, _: int) -> Iterator[Sample]:
    count = context.pick(500, 0, 20_000)
    found = step.run("look_up", directory=place(context, records), records=records, count=count)
    for what in ("has, hit", "has, miss", "get by source"):
        for turn in ("first time", "again"):
            seconds = found[what][turn]
            yield Sample(f"{what}, {turn}", _CALL, 1e6 * seconds / count, seconds, found["peak_mb"])


def _compact(context: Context, records: int, turn: int) -> Iterator[Sample]:
    """A little more each time: the manifest grows by less than a tenth."""
    count = context.pick(50, 0, LOG_RECORDS)
    step.run("append", directory=place(context, records), start=records + turn * count, count=count)
    found = step.run("compact", directory=place(context, records))
    cost = 1e6 * found["seconds"] / found["records_total"]
    yield Sample(f"compact {count:,} more", _RECORD, cost, found["seconds"], found["peak_mb"])


def _check(context: Context, records: int, _: int) -> Iterator[Sample]:
    found = step.run("check", directory=place(context, records))
    if found["damaged"] or found["records"] < records:
        raise harness.DifferentAnswersError(f"check of {records:,} records: {found}")
    yield Sample("check", _RECORD, 1e6 * found["seconds"] / found["records"], found["seconds"], found["peak_mb"])


_STEPS: tuple[tuple[Callable[[Context, int, int], Iterator[Sample]], int], ...] = (
    (_build, 1),
    (_cold, 7),
    (_look_up, 5),
    (_compact, 3),
    (_check, 1),
)
"""In this order, and how often."""


# -- all of it ---------------------------------------------------------------------------------------------------------


def _result(records: int, samples: list[Sample], at_small_size: list[Sample]) -> Measurement:
    cost = median(one.cost for one in samples)
    return Measurement(
        table=f"one manifest of many records: {samples[0].unit}",
        case={"step": samples[0].name, "records": records},
        peer=peers.REFERENCE,
        unit=samples[0].unit,
        more_is_better=False,
        samples=[one.cost for one in samples],
        extra={
            "seconds": median(one.seconds for one in samples),
            "peak RSS MB": max(one.peak_mb for one in samples),
            "cost / at the small size": f"{cost / median(one.cost for one in at_small_size):.2f} x",
            "rounds": len(samples),
        },
    )


def run(context: Context) -> Iterator[Measurement]:
    """Every step at both sizes."""
    if context.scale == "default":
        harness.progress("left out: only with --full")
        return
    found: dict[str, dict[int, list[Sample]]] = {}
    for measure, rounds in _STEPS:
        for turn in range(1 if rounds == 1 else context.rounds_or(rounds)):
            for records in harness.rotated(sizes(context), turn):
                for sample in measure(context, records, turn):
                    found.setdefault(sample.name, {}).setdefault(records, []).append(sample)
        harness.progress(f"done: {measure.__name__.lstrip('_')}")
    small = sizes(context)[0]
    for by_size in found.values():
        for records, samples in by_size.items():
            yield _result(records, samples, by_size[small])


WORKLOAD = harness.Workload("scale: ten times as many records", run)

if __name__ == "__main__":
    raise SystemExit(harness.main([WORKLOAD]))
