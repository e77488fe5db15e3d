"""What `pending` costs an upstream record: at the first look, when nothing is new, and when ten records are.

Processor time, as `bench_list`. The peer is what a script does that has both files as JSON: read them, and take one set of
checksums from the other.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks import bench_list, harness, peers
from benchmarks.harness import Context, Measurement

_NEW = 10


def _outputs(count: int) -> Iterator[object]:
    for record in harness.make_records(0, count):
        yield record.model_copy(
            update={
                "checksum": hashlib.sha256(record.checksum.encode()).hexdigest(),
                "derived_from": (record.checksum,),
                "etag": None,
            }
        )


def _by_json(upstream: Path, outputs: Path) -> set[str]:
    rows: list[dict[str, dict[str, list[str]]]] = [
        json.loads(path.read_bytes())["records"] for path in (upstream, outputs)
    ]
    return set(rows[0]) - {one for row in rows[1].values() for one in row.get("derived_from", ())}


def run(context: Context) -> Iterator[Measurement]:
    """All but ten of the upstream's records have an output."""
    from manifestlog import DownloadManifestManager, ETLProcess, ManifestMetadata, ProcessedManifestManager

    count = context.pick(1_000, 50_000, 300_000)
    directory = context.directory / "pending"
    metadata = ManifestMetadata(process=ETLProcess.EXTRACTOR, etl_version="1.0.0", root_dir=Path("/srv/etl"))
    made = metadata.model_copy(update={"process": ETLProcess.TRANSFORMER})
    directory.mkdir()
    with (
        DownloadManifestManager(directory / "systems_download.manifest.json", metadata) as upstream,
        ProcessedManifestManager(directory / "systems_ingest.manifest.json", made) as outputs,
    ):
        upstream.add_many(harness.make_records(0, count))
        outputs.add_many(_outputs(count - _NEW))  # type: ignore[arg-type]  # copies of records
        upstream.save()
        outputs.save()
        number = count

        def first() -> None:
            outputs.__dict__.pop("_looks", None)
            list(outputs.pending(upstream))

        def again() -> None:
            list(outputs.pending(upstream))

        def with_new() -> None:
            nonlocal number
            upstream.add_many(harness.make_records(number, _NEW))
            number += _NEW
            list(outputs.pending(upstream))

        ways: dict[str, Callable[[], object]] = {
            "a first look": first,
            "nothing is new": again,
            "ten new records, their addition included": with_new,
        }
        by_json: Callable[[], object] = lambda: _by_json(upstream.path, outputs.path)  # noqa: E731
        cases = {what: {peers.REFERENCE: call, "json.loads": by_json} for what, call in ways.items()}
        yield from bench_list.measured(context, "pending", count, cases)


WORKLOAD = harness.Workload("pending: what a step has still to do", run)

if __name__ == "__main__":
    raise SystemExit(harness.main([WORKLOAD]))
