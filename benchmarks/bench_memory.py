"""What a manifest takes of a process's own memory (RssAnon): opened, and after 1,000 lookups by checksum and by source.

Each sample is a process of its own; what the interpreter, the imports and the checksums to ask for take is taken off.
Memory that is backed by files (a mapped index) is the page cache's: the kernel takes it back when it needs it.
10 M is measured when `bench_scale` has built it before, in the same run.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from statistics import median

from benchmarks import bench_scale, harness, peers, step, writers
from benchmarks.harness import Context, Measurement

_LOOKUPS = 1_000
_PEERS = (peers.REFERENCE, "SQLite WAL")


def _places(context: Context) -> Iterator[tuple[int, dict[str, Path]]]:
    for size in (context.pick(1_000, 10_000, 10_000), context.pick(2_000, 1_000_000, 1_000_000)):
        yield size, writers.built(context, size, _PEERS)
    largest = bench_scale.sizes(context)[-1]
    if bench_scale.place(context, largest).exists():
        yield largest, {peers.REFERENCE: bench_scale.place(context, largest)}


def run(context: Context) -> Iterator[Measurement]:
    """Every size for every peer."""
    for size, places in _places(context):
        found: dict[str, list[step.Found]] = {name: [] for name in places}
        for turn in range(context.rounds_or(5)):
            for name in harness.rotated(list(places), turn):
                found[name].append(
                    step.run("memory", directory=places[name], peer=name, records=size, lookups=_LOOKUPS)
                )
        for name, samples in found.items():
            yield Measurement(
                table=f"own memory (RssAnon) after opening and {_LOOKUPS:,} lookups",
                case={"records": size},
                peer=name,
                unit="MB",
                more_is_better=False,
                samples=[one["grown_mb"] for one in samples],
                extra={
                    "after opening": median(one["open_mb"] for one in samples),
                    "peak RSS MB": max(one["peak_mb"] for one in samples),
                    "rounds": len(samples),
                },
                digest=harness.digest_of([samples[0]["known"]]),
                headline=True,
            )


WORKLOAD = harness.Workload("memory: what an open manifest takes of a process's own", run)

if __name__ == "__main__":
    raise SystemExit(harness.main([WORKLOAD]))
