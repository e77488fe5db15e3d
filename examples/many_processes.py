"""Four processes share one manifest, without a server and without a lock of your own.

Each process registers the same hundred contents. Exactly one of them is told that a content is new:

    $ python many_processes.py
    400 additions by 4 processes
    100 new
    300 duplicate
    100 records
"""

import hashlib
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

from manifestlog import (
    DownloadManifestManager,
    ETLProcess,
    ManifestMetadata,
    ManifestOptions,
    ManifestRecord,
    manifest_path,
)

PATH = manifest_path("manifests", "numbers", "download")
METADATA = ManifestMetadata(process=ETLProcess.EXTRACTOR, etl_version="1.0.0", root_dir=Path(".."))
# Without options an acknowledged record survives a power cut; `Durability` names what is faster.
OPTIONS = ManifestOptions(lock_timeout_s=60)
PROCESSES = 4


def register(_: int) -> Counter[str]:
    """What one process is told. It opens the manifest by itself: a manager belongs to its process."""
    verdicts: Counter[str] = Counter()
    with DownloadManifestManager(PATH, METADATA, options=OPTIONS) as manifest:
        for number in range(100):
            body = str(number).encode()
            record = ManifestRecord(
                source_id=f"number-{number}",
                dataset="numbers",
                checksum=hashlib.sha256(body).hexdigest(),
                file_path=Path("data", f"{number}.txt"),
                file_size=len(body),
                ts_downloaded=datetime(2026, 1, 1, tzinfo=UTC),
                version=manifest.version,
            )
            verdicts[manifest.add(record).verdict] += 1
    return verdicts


def main() -> None:
    with ProcessPoolExecutor(PROCESSES) as pool:
        total = sum(pool.map(register, range(PROCESSES)), Counter())
    print(f"{total.total()} additions by {PROCESSES} processes")
    for verdict, count in sorted(total.items(), reverse=True):
        print(count, verdict)
    with DownloadManifestManager(PATH, read_only=True) as manifest:
        print(len(manifest), "records")


if __name__ == "__main__":  # worker processes may import this file again
    main()
