"""How long a writer may have to wait because of a compaction: the longest additions beside one, and without one.

A process adds records as fast as it can, un-synced, while the whole manifest is compacted: in a thread of its own, or by
another process. What counts is the time from the end of one addition to the end of the next, for all that touch the
compaction; it holds the making of a record (some 15 µs) in every case. `none` lasts as long as the compaction beside it.
Every sample begins with the same manifest and one record in a hundred in its log.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from benchmarks import copies, harness, peers, step, writers
from benchmarks.harness import Context, Measurement

NONE = "none"
SAME = "in a thread"
OTHER = "in another process"


def _sample(context: Context, place: Path, records: int, mode: str, seconds: float) -> step.Found:
    directory = context.directory / "paused"
    copies.begin(place, directory)
    try:
        return step.run(
            "pause", directory=directory, start=10 * records, log_records=records // 100, mode=mode, seconds=seconds
        )
    finally:
        shutil.rmtree(directory)


def _result(records: int, mode: str, found: list[step.Found], without: list[step.Found]) -> Measurement:
    def middle(key: str, samples: list[step.Found]) -> float:
        return median(float(one[key]) for one in samples) / 1e3

    beyond = middle("p99.9", found) - middle("p99.9", without)
    return Measurement(
        table="one addition after the other beside a compaction",
        case={"records": records, "compaction": mode},
        peer=peers.REFERENCE,
        unit="p99.9 ms",
        more_is_better=False,
        samples=[one["p99.9"] / 1e3 for one in found],
        extra={
            "beyond none": "-" if mode == NONE else beyond,
            "p50 ms": middle("p50", found),
            "p99 ms": middle("p99", found),
            "longest ms": max(one["max"] for one in found) / 1e3,
            "seconds": median(one["seconds"] for one in found),
            "adds/s": median(one["adds"] / one["seconds"] for one in found),
            "rounds": len(found),
        },
    )


def run(context: Context) -> Iterator[Measurement]:
    """Round by round: beside a thread, beside a process, alone for as long."""
    records = context.pick(2_000, 100_000, 1_000_000)
    place = writers.built(context, records, (peers.REFERENCE,))[peers.REFERENCE]
    found: dict[str, list[step.Found]] = {NONE: [], SAME: [], OTHER: []}
    for turn in range(context.rounds_or(5)):
        for mode in harness.rotated([SAME, OTHER], turn):
            found[mode].append(_sample(context, place, records, mode, 0.0))
        seconds = max(found[mode][-1]["seconds"] for mode in (SAME, OTHER))
        found[NONE].append(_sample(context, place, records, NONE, seconds))
    for mode, samples in found.items():
        yield _result(records, mode, samples, found[NONE])


WORKLOAD = harness.Workload("pause: the longest addition beside a compaction", run)

if __name__ == "__main__":
    raise SystemExit(harness.main([WORKLOAD]))
