"""What the stages of `bench_stage` do for an item, what they begin with, and one run: each is a step (`benchmarks.step`).

A pool of processes does the same work and records nothing: the least that any tool takes.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import harness, peers
from benchmarks.open_once import memory_mb

if TYPE_CHECKING:
    from collections.abc import Iterator

    from manifestlog import ETLProcess, ManifestMetadata, ManifestRecord
    from manifestlog.stages import Item, Judgement, Stage

JOBS = 4
DOWNLOADS, MADE = "bench_download", "bench_processing"
CHUNK = 256
"""As many items as a stage gives a worker at once."""
INPUTS_EACH = 1_000
"""Files in a directory."""
Found = dict[str, Any]


# -- the work ----------------------------------------------------------------------------------------------------------


def nothing(_: Item) -> None:
    """Do nothing: one event says so."""


def judged(_: Item) -> Judgement:
    """Do nothing, and judge: one record of the input."""
    from manifestlog.stages import valid

    return valid()


def written(item: Item) -> bytes:
    """Write 64 bytes: one file, and its record."""
    return item.checksum.encode()


def _pooled(kind: str, directory: str, path: str, *, synced: bool) -> int:
    """Do for a file what the function of this name does, in a pool."""
    if kind != written.__name__:
        return 1
    fd = os.open(os.path.join(directory, os.path.basename(path)), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    os.write(fd, hashlib.sha256(path.encode()).hexdigest().encode())
    if synced:
        os.fdatasync(fd)
    os.close(fd)
    return 1


# -- the inputs --------------------------------------------------------------------------------------------------------


def _metadata(process: ETLProcess) -> ManifestMetadata:
    from manifestlog import ManifestMetadata

    return ManifestMetadata(process=process, etl_version="1.0.0", root_dir=Path("/"))


def inputs(directory: str, count: int) -> Found:
    """Write this many small files, and a manifest of them."""
    from manifestlog import DownloadManifestManager, ETLProcess, ManifestRecord, manifest_path

    root, when = Path(directory), datetime(2026, 1, 1, tzinfo=UTC)

    def records() -> Iterator[ManifestRecord]:
        for number in range(count):
            text = f"{number:020}".encode()
            path = root / "raw" / f"{number // INPUTS_EACH:04}" / f"{number:08}.txt"
            if number % INPUTS_EACH == 0:
                path.parent.mkdir(parents=True)
            path.write_bytes(text)
            yield ManifestRecord(
                source_id=path.stem, dataset=path.parent.name, checksum=hashlib.sha256(text).hexdigest(),
                file_path=path, file_size=len(text), ts_downloaded=when, version="1.0.0",
            )  # fmt: skip

    path = manifest_path(root / "manifests", *DOWNLOADS.split("_"))
    with DownloadManifestManager(path, _metadata(ETLProcess.EXTRACTOR)) as manifest:
        manifest.add_many(records())
    return {}


def done(directory: str, count: int, pending: int) -> Found:
    """Make the manifests of a stage that has this many upstream records, and has done all but a few; without files."""
    from manifestlog import DownloadManifestManager, ETLProcess, ProcessedManifestManager, manifest_path

    def outputs() -> Iterator[ManifestRecord]:
        for record in harness.make_records(0, count - pending):
            own = {"checksum": hashlib.sha256(record.checksum.encode()).hexdigest(), "etag": None, "version": "1.0.0"}
            yield record.model_copy(update=own | {"derived_from": (record.checksum,)})

    upstream, made = (manifest_path(Path(directory), *name.split("_")) for name in (DOWNLOADS, MADE))
    with DownloadManifestManager(upstream, _metadata(ETLProcess.EXTRACTOR)) as manifest:
        manifest.add_many(harness.make_records(0, count))
    with ProcessedManifestManager(made, _metadata(ETLProcess.TRANSFORMER)) as processed:
        processed.add_many(outputs())
    return {}


def saved(directory: str) -> Found:
    """Merge the logs of both manifests, so that a look reads files."""
    from manifestlog import DownloadManifestManager, ProcessedManifestManager, manifest_path

    upstream, made = (manifest_path(Path(directory), *name.split("_")) for name in (DOWNLOADS, MADE))
    with DownloadManifestManager(upstream) as manifest, ProcessedManifestManager(made) as processed:
        manifest.save()
        processed.save()
    return {}


# -- one run -----------------------------------------------------------------------------------------------------------


def _stage(kind: str, output_dir: str, rerun: str) -> Stage:
    from manifestlog.stages import FunctionWork, Rerun, Stage

    work = FunctionWork(f"{__name__}:{kind}")
    return Stage(DOWNLOADS, MADE, work, jobs=JOBS, output_dir=Path(output_dir), rerun=Rerun(rerun))


def stage(directory: str, kind: str, durability: str, output_dir: str, rerun: str = "version") -> Found:
    """Run a stage over everything that is pending."""
    from manifestlog import Durability, ManifestOptions
    from manifestlog.stages import run_stage

    found = _stage(kind, output_dir, rerun)
    began = time.perf_counter()
    report = run_stage(found, Path(directory), options=ManifestOptions(durability=Durability(durability)))
    return {"seconds": time.perf_counter() - began, "done": report.done}


def pending(directory: str, kind: str, output_dir: str, rerun: str) -> Found:
    """Ask what is pending for a stage that has kept no look."""
    from manifestlog.stages import pending_items

    for look in Path(directory).glob("*.pending.json"):
        look.unlink()
    found, before = _stage(kind, output_dir, rerun), memory_mb()["peak_mb"]
    began = time.perf_counter()
    count = len(pending_items(found, Path(directory)))
    return {"seconds": time.perf_counter() - began, "before_mb": before, "pending": count}


def pool(paths_of: str, kind: str, durability: str, output_dir: str) -> Found:
    """Do the same in a pool of processes."""
    os.makedirs(output_dir, exist_ok=True)
    paths: Sequence[str] = [*chain.from_iterable(map(_names, sorted(Path(paths_of).iterdir())))]
    work = partial(_pooled, kind, output_dir, synced=durability == peers.POWER_CUT)
    began = time.perf_counter()
    with ProcessPoolExecutor(JOBS) as executor:
        count = sum(executor.map(work, paths, chunksize=CHUNK))
    return {"seconds": time.perf_counter() - began, "done": count}


def _names(directory: Path) -> list[str]:
    return sorted(map(str, directory.iterdir()))
