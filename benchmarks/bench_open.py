"""How long until a fresh process has its first answers: open, first `has_checksum`, first `get_record_by_source`.

Each sample is a process of its own. Importing is measured apart: it is the same whatever the manifest's size. The
manifests lie in the page cache, as those of a pipeline that runs all day do, and nobody is writing.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any
from zlib import crc32

from benchmarks import bench_list, harness, peers
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
    yield from _reading(context)
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


# -- what reads the whole file -----------------------------------------------------------------------------------------


def _needs_reading(directory: Path, kept: list[str]) -> Path:
    """Return a copy of the manifest in `directory` of which only these files, by their endings, were copied."""
    copy = directory.parent / f"{directory.name}-copy"
    shutil.rmtree(copy, ignore_errors=True)
    copy.mkdir()
    for file in directory.glob("*.manifest.*"):
        if file.name.endswith(tuple(kept)):
            shutil.copyfile(file, copy / file.name)
    return copy / bench_list.NAME


def _foreign(canonical: Path) -> None:
    """Write the manifest as another tool does: indented, in the order of its paths."""
    found = json.loads(canonical.read_bytes())
    rows = sorted(found["records"].items(), key=lambda pair: str(pair[1]["file_path"]))
    canonical.write_text(json.dumps(found | {"records": dict(rows)}, indent=4))


def _open(path: Path, *, read_only: bool) -> None:
    from manifestlog import DownloadManifestManager

    DownloadManifestManager(path, read_only=read_only).close()


def _crc(path: Path) -> None:
    with path.open("rb") as file:
        crc = 0
        while block := file.read(1 << 20):
            crc = crc32(block, crc)


def _json(path: Path) -> None:
    with path.open() as file:
        json.load(file)


def _reading(context: Context) -> Iterator[Measurement]:
    """Opening a copy, a manifest without an index, and another tool's, for the first time and once more."""
    count = context.pick(1_000, 50_000, 300_000)
    place = context.directory / "reading"
    place.mkdir()
    bench_list.prepare(place, count)
    samples: dict[tuple[str, str], list[float]] = {}
    _open(place / bench_list.NAME, read_only=True)  # imports what it needs
    for _ in range(context.rounds_or(5)):
        for what, kept in {
            "copied": [".json", ".idx", ".jsonl"],
            "no index": [".json", ".jsonl"],
            "foreign": [".json"],
        }.items():
            path = _needs_reading(place, kept)
            if what == "foreign":
                _foreign(path)
            calls = {
                (what, peers.REFERENCE): lambda path=path: _open(path, read_only=False),
                (f"{what}, once more", peers.REFERENCE): lambda path=path: _open(path, read_only=False),
                (what, "CRC-32 of the file"): lambda path=path: _crc(path),
                (what, "json.load"): lambda path=path: _json(path),
            }
            for key, call in calls.items():
                samples.setdefault(key, []).append(bench_list.cpu_us(call, count))
    for (what, peer), found in samples.items():
        yield Measurement(
            table="open what must be read whole",
            case={"what": what, "records": count},
            peer=peer,
            unit="µs CPU a record",
            more_is_better=False,
            samples=found,
        )


WORKLOAD = harness.Workload("open: a fresh process up to its first two answers", run)

if __name__ == "__main__":
    raise SystemExit(harness.main([WORKLOAD]))
