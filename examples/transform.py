"""The step after the download: transform what is pending, and record what each output was made from.

The first run also makes two files to transform. The second one finds nothing to do:

    $ python transform.py
    upper-a.txt from a.txt
    upper-b.txt from b.txt
    $ python transform.py
    nothing is pending
"""

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from manifestlog import (
    DownloadManifestManager,
    ETLProcess,
    ManifestMetadata,
    ManifestRecord,
    ProcessedManifestManager,
    manifest_path,
)


@dataclass(frozen=True)
class File:
    """A file, as the source and as the event of its completion."""

    source_id: str
    dataset: str
    sha256: str
    file_path: Path
    file_size_bytes: int
    ts_download_completed: datetime
    etag: str | None = None


def written(name: str, dataset: str, text: str) -> File:
    body = text.encode()
    path = Path("data", name)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(body)
    return File(name, dataset, hashlib.sha256(body).hexdigest(), path, len(body), datetime.now(UTC))


def transform(inputs: DownloadManifestManager, outputs: ProcessedManifestManager, record: ManifestRecord) -> str:
    """Make one output, and register it with the input that it was made from."""
    text = inputs.locate(record).read_text("utf-8")
    output = written(f"upper-{record.source_id}", "upper", text.upper())
    outputs.add_output(output, output, derived_from=[record.checksum])
    return f"{output.source_id} from {record.source_id}"


def main() -> None:
    raw = ManifestMetadata(process=ETLProcess.EXTRACTOR, etl_version="1.0.0", root_dir=Path(".."))
    made = ManifestMetadata(process=ETLProcess.TRANSFORMER, etl_version="1.0.0", root_dir=Path(".."))
    with (
        DownloadManifestManager(manifest_path("manifests", "texts", "download"), raw) as inputs,
        ProcessedManifestManager(manifest_path("manifests", "texts", "upper"), made) as outputs,
    ):
        if not len(inputs):
            for name in ("a.txt", "b.txt"):
                file = written(name, "texts", f"text of {name}")
                inputs.add_from_event(file, file)
        pending = sorted(outputs.pending(inputs), key=lambda record: record.source_id)
        for record in pending:
            print(transform(inputs, outputs, record))
        if not pending:
            print("nothing is pending")


if __name__ == "__main__":
    main()
