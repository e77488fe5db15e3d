"""What ten times as many records cost: build, open, look up, compact, check at 1 M and 10 M, for manifestlog alone.

Each step is a process of its own, with the peak of its memory beside its time. The manifest is built by `add_many` and
a `save` after each million; making the records is not counted. Only with `--full` (10 M take 10 GB of disk while they
are compacted, and minutes), and with `--quick` at tiny sizes.

The large manifest stays until the end of the run, for the benchmark of memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from statistics import median

from benchmarks import bench_open, harness, step
from benchmarks.harness import Context, Measurement
from benchmarks.peers import REFERENCE

LOG_RECORDS = 10_000


def place(context: Context, records: int) -> Path:
    """Where the manifest of this size is, once it was built."""
    return context.directory / f"scale-{records}"


def sizes(context: Context) -> list[int]:
    return [context.pick(2_000, 0, 1_000_000), context.pick(20_000, 0, 10_000_000)]


def _row(
    step_name: str, records: int, unit: str, samples: Iterable[float], *, seconds: float, peak_mb: float
) -> Measurement:
    return Measurement(
        table=f"one manifest of many records: {unit}",
        case={"step": step_name, "records": records},
        peer=REFERENCE,
        unit=unit,
        more_is_better=False,
        samples=list(samples),
        extra={"seconds": seconds, "peak RSS MB": peak_mb},
    )


_RECORD = "µs a record"
_CALL = "µs a call"


def _build(context: Context, records: int) -> Iterator[Measurement]:
    """Rows of building; no rows for what was built before."""
    slice_records = context.pick(2_000, 0, 1_000_000)
    if not place(context, records).exists():
        found = step.run(
            "build", directory=place(context, records), start=0, count=records, slice_records=slice_records
        )
        for what in ("add", "save"):
            each = [1e6 * seconds / slice_records for seconds in found[f"{what}_s"]]
            seconds = sum(found[f"{what}_s"])
            name = f"build: {'add_many' if what == 'add' else 'save'}"
            mean = 1e6 * seconds / records
            yield _row(name, records, _RECORD, [mean], seconds=seconds, peak_mb=found["peak_mb"])
            harness.progress(f"{name}, {records:,} records, µs a record by slice: {[round(one, 1) for one in each]}")


def _cold(context: Context, records: int) -> Iterator[Measurement]:
    environment = context.child_environment()
    found = [
        bench_open._once(REFERENCE, place(context, records), records, environment) for _ in range(context.rounds_or(7))
    ]
    each = [1e6 * one["total_s"] for one in found]
    peak = max(one["peak_mb"] for one in found)
    yield _row("open, has, get in a new process", records, _CALL, each, seconds=median(each) / 1e6, peak_mb=peak)


def _look_up(context: Context, records: int) -> Iterator[Measurement]:
    count = context.pick(500, 0, 50_000)
    found = step.run(
        "look_up", directory=place(context, records), records=records, count=count, rounds=context.rounds_or(5)
    )
    for what in ("has, hit", "has, miss", "get by source"):
        for turn, each in (("first time", [found[what]["first"]]), ("again", found[what]["again"])):
            seconds = median(each) * count / 1e6
            yield _row(f"{what}, {turn}", records, _CALL, each, seconds=seconds, peak_mb=found["peak_mb"])


def _compact(context: Context, records: int) -> Iterator[Measurement]:
    """10,000 more records each time; the manifest grows by less than a tenth."""
    count = context.pick(200, 0, LOG_RECORDS)
    found = []
    for turn in range(context.rounds_or(3)):
        step.run("append", directory=place(context, records), start=records + turn * count, count=count)
        found.append(step.run("compact", directory=place(context, records)))
    each = [1e6 * one["seconds"] / one["records_total"] for one in found]
    seconds = median(one["seconds"] for one in found)
    peak = max(one["peak_mb"] for one in found)
    yield _row(f"compact {count:,} more", records, _RECORD, each, seconds=seconds, peak_mb=peak)


def _check(context: Context, records: int) -> Iterator[Measurement]:
    found = step.run("check", directory=place(context, records))
    if found["damaged"] or found["records"] < records:
        raise harness.DifferentAnswersError(f"check of {records:,} records: {found}")
    each = 1e6 * found["seconds"] / found["records"]
    yield _row("check", records, _RECORD, [each], seconds=found["seconds"], peak_mb=found["peak_mb"])


def run(context: Context) -> Iterator[Measurement]:
    """Every step at both sizes."""
    if context.scale == "default":
        harness.progress("left out: only with --full")
        return
    small: dict[str, Measurement] = {}
    found: list[Measurement] = []
    for records in sizes(context):
        for one in (_build, _cold, _look_up, _compact, _check):
            for result in one(context, records):
                smaller = small.setdefault(str(result.case["step"]), result)
                result.extra["cost / at the small size"] = result.times_slower_than(smaller)
                found.append(result)
            harness.progress(f"{records:,} records: {one.__name__.lstrip('_')}")
    yield from sorted(found, key=lambda one: list(small).index(str(one.case["step"])))


WORKLOAD = harness.Workload("scale: ten times as many records", run)

if __name__ == "__main__":
    raise SystemExit(harness.main([WORKLOAD]))
