"""Fetch only what has changed, and keep each content once.

The three questions of a pipeline: what do we have of this source (state check), does anybody have this content
(deduplication), and what came of the download (completion). The second run fetches nothing:

    $ python state_check.py
    systems: new
    bodies: new
    systems-mirror: alias, kept as data/systems.json
    $ python state_check.py
    systems: unchanged
    bodies: unchanged
    systems-mirror: unchanged
"""

import hashlib
from datetime import UTC, datetime
from pathlib import Path

from manifestlog import (
    DownloadManifestManager,
    ETLProcess,
    ManifestMetadata,
    ManifestRecord,
    Verdict,
    manifest_path,
)

# What a server would have: the ETag and the body of each source. The mirror has a copy of the systems.
SERVER = {
    "systems": ('"v1"', b'["Sol", "Achenar"]'),
    "bodies": ('"v7"', b'["Earth", "Mars"]'),
    "systems-mirror": ('"m3"', b'["Sol", "Achenar"]'),
}


def ask(source_id: str, etag: str | None) -> tuple[str, bytes] | None:
    """Stands for a conditional request: None when the server has what we have (304 Not Modified)."""
    current, body = SERVER[source_id]
    return None if etag == current else (current, body)


def fetch(manifest: DownloadManifestManager, source_id: str) -> str:
    """What came of one source."""
    known = manifest.get_record_by_source(source_id, "galaxy")
    answer = ask(source_id, known.etag if known else None)
    if answer is None:
        return "unchanged"
    etag, body = answer
    checksum = hashlib.sha256(body).hexdigest()
    kept = manifest.get(checksum)
    path = manifest.locate(kept) if kept else Path("data", f"{source_id}.json").absolute()
    if kept is None:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(body)
    result = manifest.add(
        ManifestRecord(
            source_id=source_id,
            dataset="galaxy",
            checksum=checksum,
            file_path=manifest.stated(path),
            file_size=len(body),
            etag=etag,
            ts_downloaded=datetime.now(UTC),
            version=manifest.version,
        ),
        live=True,
    )
    return f"alias, kept as {result.record.file_path}" if result.verdict is Verdict.ALIAS else str(result.verdict)


def main() -> None:
    metadata = ManifestMetadata(process=ETLProcess.EXTRACTOR, etl_version="1.0.0", root_dir=Path(".."))
    with DownloadManifestManager(manifest_path("manifests", "galaxy", "download"), metadata) as manifest:
        for source_id in SERVER:
            print(f"{source_id}: {fetch(manifest, source_id)}")


if __name__ == "__main__":
    main()
