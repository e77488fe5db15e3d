"""What a stage costs an item: functions that do nothing, small commands, runs with nothing to do, and memory.

Functions run beside a pool of processes that records nothing, commands beside xargs, GNU make and luigi. Everything is a
process of its own, started anew for every sample.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from benchmarks import copies, harness, peers, stage_files, stage_work, step
from benchmarks.fetching import Run, peak_mb, started
from benchmarks.harness import Context, Measurement
from benchmarks.stage_work import JOBS

POOL = "ProcessPoolExecutor"
_EACH = {"nothing": "an event", "judged": "a record", "written": "a file and its record"}


def run(context: Context) -> Iterator[Measurement]:
    """Functions, then commands, then runs with nothing to do."""
    yield from _functions(context)
    yield from _files(context)
    yield from _nothing_pending(context)


# -- functions ---------------------------------------------------------------------------------------------------------


def _functions(context: Context) -> Iterator[Measurement]:
    many = context.pick(200, 10_000, 100_000)
    for durability, survives in peers.DURABILITIES.items():
        for kind, each in _EACH.items():
            count = many // 5 if kind == "written" else many
            place = context.directory / f"{count}-items"
            if not place.exists():
                step.run("stage_inputs", directory=place, count=count)
            found: dict[str, list[step.Found]] = {peers.REFERENCE: [], POOL: []}
            for turn in range(context.rounds_or(3)):
                for peer in harness.rotated(list(found), turn):
                    found[peer].append(_function(peer, place, kind, durability))
            harness.progress(f"{count:,} items, {each} each, {survives}: measured")
            for peer, samples in found.items():
                yield _result(f"a function in {JOBS} workers, {survives}", count, each, peer, samples)


def _function(peer: str, place: Path, kind: str, durability: str) -> step.Found:
    target, out = place / "run", place / "out"
    try:
        if peer == POOL:
            return step.run("pool", paths_of=place / "raw", kind=kind, durability=durability, output_dir=out)
        copies.begin(place / "manifests", target)
        return step.run("stage", directory=target, kind=kind, durability=durability, output_dir=out)
    finally:
        for path in (target, out):
            shutil.rmtree(path, ignore_errors=True)


def _result(table: str, count: int, each: str, peer: str, found: list[step.Found]) -> Measurement:
    return Measurement(
        table=table,
        case={"items": count, "each leaves": each},
        peer=peer,
        unit="items/s",
        more_is_better=True,
        samples=[count / one["seconds"] for one in found],
        extra={
            "seconds": median(one["seconds"] for one in found),
            "peak RSS MB": max(one["peak_mb"] for one in found),
            "rounds": len(found),
        },
        digest=harness.digest_of([found[0]["done"]]),
        headline=True,
    )


# -- commands ----------------------------------------------------------------------------------------------------------


def _files(context: Context) -> Iterator[Measurement]:
    entrants = stage_files.present()
    few, many = context.pick(10, 1_000, 1_000), context.pick(20, 1_000, 10_000)
    sizes = dict.fromkeys([(few, 100, "cp"), (many, 100, "cp"), (context.pick(4, 200, 200), 1_000_000, "gzip -9")])
    for files, size_bytes, command in sizes:
        case = stage_files.Case(
            files, size_bytes, command, context.directory / f"{files}x{size_bytes}", context.child_environment()
        )
        case.prepare()
        found: dict[str, list[stage_files.Sample]] = {peer: [] for peer in entrants}
        for turn in range(context.rounds_or(3)):
            for peer in harness.rotated(entrants, turn):
                found[peer].append(stage_files.sample(peer, case))
        shutil.rmtree(case.directory)
        harness.progress(f"{files:,} files, {command}: measured")
        for peer, samples in found.items():
            digest = harness.digest_of([samples[0].made])
            firsts = [one.first for one in samples]
            yield _program(
                f"a command for each file, {JOBS} at once, everything is new", case.shown, peer, firsts, digest
            )
            again = [one.again for one in samples if one.again is not None]
            if again:
                yield _program("a command for each file, nothing has changed", case.shown, peer, again, digest)


def _program(table: str, case: dict[str, harness.Cell], peer: str, found: list[Run], digest: str = "") -> Measurement:
    return Measurement(
        table=table,
        case=case,
        peer=peer,
        unit="ms",
        more_is_better=False,
        samples=[1e3 * one.seconds for one in found],
        extra={
            "processor ms": 1e3 * median(one.cpu_s for one in found),
            "peak RSS MB": peak_mb(found),
            "rounds": len(found),
        },
        digest=digest,
        headline=True,
    )


# -- nothing to do -----------------------------------------------------------------------------------------------------


def _nothing_pending(context: Context) -> Iterator[Measurement]:
    largest = context.pick(2_000, 100_000, 1_000_000)
    for count in (largest // 10, largest):
        place = context.directory / f"done-{count}"
        step.run("stage_done", directory=place, count=count, pending=0)
        config = place / "etl.config.json"
        one = {"from": stage_work.DOWNLOADS, "manifest": stage_work.MADE, "command": ["false"], "jobs": JOBS}
        told = {"etl_version": "1.0.0", "manifests_dir": ".", "data_dir": "data", "stages": [one]}
        config.write_text(json.dumps(told), encoding="utf-8")
        command = [sys.executable, "-m", "manifestlog", "run", str(config), "--quiet"]
        first, again = [], []
        for _ in range(context.rounds_or(5)):
            for look in place.glob("*.pending.json"):
                look.unlink()
            first.append(started(command, place, context.child_environment()))
            again.append(started(command, place, context.child_environment()))
        shutil.rmtree(place)
        for what, found in {"a first look": first, "nothing is new": again}.items():
            shown: dict[str, harness.Cell] = {"upstream records": count, "run": what}
            yield _program("a run with nothing pending", shown, peers.REFERENCE, found)


WORKLOAD = harness.Workload("stages: functions and commands for each of many files, beside xargs, make and luigi", run)

if __name__ == "__main__":
    raise SystemExit(harness.main([WORKLOAD]))
