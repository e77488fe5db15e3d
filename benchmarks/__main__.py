"""All benchmarks, one after another, and a summary: `python -m benchmarks [--quick | --full] [--json FILE]`."""

from __future__ import annotations

from benchmarks import (
    bench_add_many,
    bench_append,
    bench_compact,
    bench_distance,
    bench_extract,
    bench_history,
    bench_import,
    bench_list,
    bench_lookup,
    bench_memory,
    bench_open,
    bench_pause,
    bench_pending,
    bench_scale,
    bench_segments,
    bench_slow_host,
    bench_stage,
    bench_verify,
    harness,
)

if __name__ == "__main__":
    benchmarks = (
        bench_import,
        bench_open,
        bench_append,
        bench_add_many,
        bench_lookup,
        bench_list,
        bench_pending,
        bench_compact,
        bench_pause,
        bench_history,
        bench_scale,  # before the memory of what it builds
        bench_memory,
        bench_extract,
        bench_distance,
        bench_segments,
        bench_slow_host,
        bench_verify,
        bench_stage,
    )
    raise SystemExit(harness.main([one.WORKLOAD for one in benchmarks], summary=True))
