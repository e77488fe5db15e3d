"""How long until a fresh process has its first answers: open, first `has_checksum`, first `get_record_by_source`.

Each sample is a process of its own. Importing is measured apart: it is the same whatever the manifest's size. The
manifests lie in the page cache, as those of a pipeline that runs all day do, and nobody is writing.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import harness, peers
from benchmarks.harness import Context, Measurement
from benchmarks.writers import built


def _once(name: str, directory: Path, size: int, environment: dict[str, str]) -> dict[str, Any]:
    dataset, source_id = harness.source_of(size // 3)
    checksum = harness.make_record(size // 2).checksum
    command = [sys.executable, "-m", "benchmarks.open_once", name, str(directory), checksum, source_id, dataset]
    done = subprocess.run(
        command, check=True, capture_output=True, text=True, env=environment, cwd=Path(__file__).parent.parent
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _result(name: str, size: int, found: list[dict[str, Any]]) -> Measurement:
    def middle(key: str, factor: float) -> float:
        return factor * median(float(one[key]) for one in found)

    return Measurement(
        table="open, has_checksum, get_record_by_source in a fresh process",
        case={"records": size},
        peer=name,
        unit="ms",
        more_is_better=False,
        samples=[1e3 * one["total_s"] for one in found],
        extra={
            "open ms": middle("open_s", 1e3),
            "has ms": middle("has_s", 1e3),
            "get ms": middle("get_s", 1e3),
            "import ms": middle("import_s", 1e3),
            "peak RSS MB": middle("peak_mb", 1),
            "grown MB": middle("grown_mb", 1),
            "rounds": len(found),
        },
        digest=harness.digest_of(one["answer"] for one in found[:1]),
        headline=True,
    )


def run(context: Context) -> Iterator[Measurement]:
    """Every size for every peer."""
    sizes = [context.pick(100, 1_000, 1_000), context.pick(1_000, 100_000, 100_000)]
    if context.scale != "quick":
        sizes.append(1_000_000)
    environment = context.child_environment()
    for size in sizes:
        places = built(context, size)
        found: dict[str, list[dict[str, Any]]] = {name: [] for name in places}
        rounds = context.rounds_or(7)
        for turn in range(rounds):
            for name in harness.rotated(list(places), turn):
                if turn >= 2 and size > 100_000 and peers.load(name).reads_everything:
                    continue
                found[name].append(_once(name, places[name], size, environment))
        for name, samples in found.items():
            yield _result(name, size, samples)


WORKLOAD = harness.Workload("open: a fresh process up to its first two answers", run)

if __name__ == "__main__":
    raise SystemExit(harness.main([WORKLOAD]))
