"""What it costs to bring the log into the canonical: `compact()` beside `cp` of that canonical, and a JSON manifest's save.

Every round begins with the same manifest and one record in a hundred in its log. All end on the disk: `compact()` syncs
canonical, index and directory and reads the canonical again; `cp` is followed by an `fsync` of its copy; the JSON
manifest, in memory already, is written to a temporary file, synced and renamed. What was dirty before is synced before.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks import copies, harness, peers, step, writers
from benchmarks.harness import Context, Measurement

CP = "cp, fsync"
JSON = "JSON rewrite"


@dataclass(frozen=True, slots=True)
class Case:
    """Manifests of one size, and a directory that a round may use."""

    records: int
    log_records: int
    places: dict[str, Path]
    directory: Path


def _compact(case: Case) -> step.Found:
    # Others may have added to this manifest, and left some of that in its log.
    step.run("compact", directory=case.directory)
    step.run("append", directory=case.directory, start=10 * case.records, count=case.log_records)
    os.sync()
    found = step.run("compact", directory=case.directory)
    if found["records_merged"] != case.log_records:
        raise harness.DifferentAnswersError(f"compact: {found}")
    (index,) = case.directory.glob("*.idx")
    return found | {"bytes": found["bytes_written"] + index.stat().st_size}


def _cp(case: Case) -> step.Found:
    (canonical,) = case.places[peers.REFERENCE].glob("*.manifest.json")
    os.sync()
    began = time.perf_counter()
    subprocess.run(["cp", canonical, case.directory / "copy"], check=True)
    fd = os.open(case.directory / "copy", os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)
    return {"seconds": time.perf_counter() - began, "bytes": canonical.stat().st_size}


def _save_json(case: Case) -> step.Found:
    os.sync()
    found = step.run("save_json", directory=case.directory, number=10 * case.records)
    return found | {"bytes": (case.directory / "manifest.json").stat().st_size}


_PEERS: dict[str, tuple[Callable[[Case], step.Found], str]] = {
    peers.REFERENCE: (_compact, peers.REFERENCE),
    CP: (_cp, peers.REFERENCE),
    JSON: (_save_json, JSON),
}
"""What is measured, and whose manifest it begins with."""


def _round(case: Case, peer: str) -> step.Found:
    measure, begins_with = _PEERS[peer]
    copies.begin(case.places[begins_with], case.directory)
    try:
        return measure(case)
    finally:
        shutil.rmtree(case.directory)


def _result(case: Case, peer: str, found: list[step.Found]) -> Measurement:
    def middle(key: str, factor: float) -> harness.Cell:
        return factor * median(one[key] for one in found) if key in found[0] else "-"

    return Measurement(
        table="the log into the canonical, durable",
        case={"records": case.records, "in the log": case.log_records},
        peer=peer,
        unit="s",
        more_is_better=False,
        samples=[one["seconds"] for one in found],
        extra={
            "MB written": middle("bytes", 1e-6),
            "peak RSS MB": middle("peak_mb", 1),
            "writers kept out, ms": middle("writer_pause_s", 1e3),
            "rounds": len(found),
        },
        headline=True,
    )


def run(context: Context) -> Iterator[Measurement]:
    """Each size, round by round, the peers in turns."""
    records = context.pick(2_000, 100_000, 1_000_000)
    places = writers.built(context, records, (peers.REFERENCE, JSON))
    case = Case(records, records // 100, places, context.directory / "compacted")
    found: dict[str, list[step.Found]] = {peer: [] for peer in _PEERS}
    for turn in range(context.rounds_or(5)):
        for peer in harness.rotated(list(found), turn):
            found[peer].append(_round(case, peer))
    for peer, samples in found.items():
        yield _result(case, peer, samples)


WORKLOAD = harness.Workload("compact: the log into the canonical beside cp and a JSON manifest's save", run)

if __name__ == "__main__":
    raise SystemExit(harness.main([WORKLOAD]))
