"""All benchmarks, one after another, and a summary: `python -m benchmarks [--quick | --full] [--json FILE]`."""

from __future__ import annotations

from benchmarks import bench_append, bench_import, bench_open, harness

if __name__ == "__main__":
    raise SystemExit(harness.main([b.WORKLOAD for b in (bench_import, bench_open, bench_append)], summary=True))
