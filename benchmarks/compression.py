"""How small and how fast the history's lines become by gzip and by Zstandard, in blocks as packs have them.

It times the processor, not the clock, so that other programs disturb it little.

    python -m benchmarks.compression
"""

from __future__ import annotations

import argparse
import gzip
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks import harness
from manifestlog import DownloadManifestManager, Durability, ETLProcess, ManifestMetadata, ManifestOptions
from manifestlog.engines.filelog.history import compression
from manifestlog.engines.filelog.history.pack import BLOCK_BYTES

Compress = Callable[[bytes], bytes]


def lines(directory: Path, count: int) -> list[bytes]:
    """Return the log lines of so many additions of new content."""
    options = ManifestOptions(durability=Durability.PROCESS_KILL, auto_compact=False, compact_on_close=False)
    metadata = ManifestMetadata(process=ETLProcess.EXTRACTOR, etl_version="1.0.0", root_dir=directory)
    with DownloadManifestManager(directory / "galaxy_download.manifest.json", metadata, options=options) as manifest:
        for record in harness.make_records(0, count):
            manifest.add(record)
    segments = sorted(directory.glob("*.jsonl"))
    return [line for path in segments for line in path.read_bytes().splitlines(keepends=True) if b'"op":"put"' in line]


def blocks(found: list[bytes]) -> list[bytes]:
    """Return the lines in blocks of about the size of a pack's."""
    each = max(1, BLOCK_BYTES * len(found) // sum(map(len, found)))
    return [b"".join(found[at : at + each]) for at in range(0, len(found), each)]


def compressors() -> dict[str, Compress]:
    """Return each way of compressing, by its name."""
    zstd = compression._zstd()
    found: dict[str, Compress] = {}
    for level in (1, 6):
        found[f"gzip, level {level}"] = partial(gzip.compress, compresslevel=level)
    for level in (1, 3, 19):
        found[f"Zstandard, level {level}"] = partial(zstd.compress, level=level)
    found["Zstandard, as packs have it"] = compression.compress
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=200_000)
    count = parser.parse_args().lines
    with tempfile.TemporaryDirectory() as directory:
        found = lines(Path(directory), count)
    some = blocks(found)
    rows = [["way", "bytes an event", "µs an event"]]
    for name, compress in compressors().items():
        began = time.process_time()
        size = sum(len(compress(block)) for block in some)
        took_us = 1e6 * (time.process_time() - began)
        rows.append([name, f"{size / count:.1f}", f"{took_us / count:.2f}"])
    harness.print_rows(f"{count:,} lines of {sum(map(len, found)) // count} bytes", rows)


if __name__ == "__main__":
    main()
