"""An independent reader of a manifest's files: what must be true of them whenever nobody is in the middle of anything.

It knows the formats from the documents, and shares no code with the engine, lookups apart (which it checks).
"""

from __future__ import annotations

import gc
import json
import os
import re
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zlib import crc32

from manifestlog import DownloadManifestManager

if TYPE_CHECKING:
    from collections.abc import Iterator

    from manifestlog import ManifestRecord, Observation

SIX_FIELDS = ["process", "etl_version", "root_dir", "total_records", "ts_created", "ts_updated"]
SUFFIX = ".manifest.json"
_CRC_TAIL = len(b',"crc":"00000000"}')

Json = dict[str, Any]


def load_canonical(path: Path) -> Json:
    """Parse the canonical file with nothing but `json`, and check its shape."""
    with path.open(encoding="utf-8") as file:
        document: Json = json.load(file, object_pairs_hook=_no_repeats)
    assert list(document) == ["metadata", "records"]
    records = document["records"]
    assert list(document["metadata"]) == SIX_FIELDS
    assert document["metadata"]["total_records"] == len(records)
    assert list(records) == sorted(records)
    assert all(key == record["checksum"] for key, record in records.items())
    return document


def _no_repeats(pairs: list[tuple[str, Any]]) -> Json:
    found = dict(pairs)
    assert len(found) == len(pairs), "a key stands twice"
    return found


def segments(canonical: Path) -> dict[int, Path]:
    """The log segments of a manifest, by number."""
    stem = canonical.name.removesuffix(SUFFIX)
    pattern = re.compile(re.escape(stem) + r"\.manifest\.wal-(\d+)\.jsonl")
    found = {int(match[1]): path for path in canonical.parent.iterdir() if (match := pattern.fullmatch(path.name))}
    return dict(sorted(found.items()))


def active_segment(canonical: Path) -> Path:
    """The segment with the highest number."""
    return list(segments(canonical).values())[-1]


def temporaries(directory: Path) -> list[Path]:
    """What somebody was in the middle of writing."""
    return sorted(path for path in directory.iterdir() if ".tmp-" in path.name)


def log_lines(path: Path, end: int | None = None) -> list[Json]:
    """The lines of a segment up to `end`, every CRC checked; a last line may lack its newline."""
    data = path.read_bytes()[:end]
    opening = json.loads(data.partition(b"\n")[0])
    salt = int(opening["salt"], 16)
    found = []
    offset = 0
    for line in data.split(b"\n"):
        if line:
            body, tail = line[:-_CRC_TAIL], line[-_CRC_TAIL:]
            crc = crc32(body, crc32(offset.to_bytes(8, "little"), salt))
            assert tail == b',"crc":"%08x"}' % crc, f"{path.name}: wrong CRC at offset {offset}"
            found.append(json.loads(line))
        offset += len(line) + 1
    return found


def puts(path: Path) -> list[str]:
    """The checksums that a segment's lines add, in order."""
    found = []
    for line in log_lines(path):
        rows = line["records"] if line["op"] == "batch" else [line["record"]] if line["op"] == "put" else []
        found += [row["checksum"] for row in rows]
    return found


def check_log(canonical: Path) -> None:
    """Every CRC is right, every segment follows its predecessor, and the log knows the canonical."""
    found = segments(canonical)
    if not found:
        return
    openings: dict[int, Json] = {}
    for number, path in found.items():
        with path.open("rb") as file:
            openings[number] = json.loads(file.readline())
        assert openings[number]["segment"] == number
    last = max(found)
    bases = []
    for number, path in found.items():
        told = openings[number + 1]["previous"] if number < last else None
        lines = log_lines(path, told["length"] if told else None)
        if told is not None:
            chain = 0
            for line in lines:
                chain = crc32(line["crc"].encode(), chain)
            assert told == {**told, "segment": number, "lines": len(lines), "chain": f"{chain:08x}"}
        assert [line["op"] for line in lines].count("open") == 1
        assert "seal" not in [line["op"] for line in lines[:-1]]
        bases += [line["base"] for line in lines if line["op"] in ("compacting", "compacted")]
    bases += [base for opening in openings.values() for base in opening["bases"]]
    data = canonical.read_bytes()
    covers = [b["covers"] for b in bases if (b["size"], b["crc"]) == (len(data), f"{crc32(data):08x}")]
    assert covers, "the log does not know this canonical"
    assert set(range(max(covers) + 1, last + 1)) <= set(found), "a segment is missing"


def check_lookups(canonical: Path) -> None:
    """Every lookup of a fresh read-only manager agrees with a dict made by iterating."""
    with DownloadManifestManager(canonical, read_only=True) as manager:
        records = dict(manager.records.items())
        assert len(manager) == len(records) == manager.metadata.total_records
        assert list(manager) == sorted(records)
        latest: dict[tuple[str, str], datetime] = {}
        for key, record in records.items():
            assert manager.get(key) == record
            assert manager.has_checksum(key)
            assert key in manager
            sightings: list[ManifestRecord | Observation] = [record, *record.also_seen]
            for seen in sightings:
                pair = (seen.source_id, seen.dataset)
                latest[pair] = max(latest.get(pair, seen.ts_downloaded), seen.ts_downloaded)
        for (source, dataset), moment in latest.items():
            current = manager.get_record_by_source(source, dataset)
            assert current is not None
            assert (current.source_id, current.dataset, current.ts_downloaded) == (source, dataset, moment)


def check_manifest(canonical: Path) -> None:
    """Everything that must be true of one manifest that nobody is writing."""
    load_canonical(canonical)
    check_log(canonical)
    check_lookups(canonical)


def file_descriptors() -> dict[int, str]:
    """This process's descriptors of files on disk."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue
        if target.startswith("/") and not target.startswith(("/dev/", "/proc/")):
            found[int(name)] = target
    return found


@contextmanager
def checked(directory: Path, *, descriptors: bool = True) -> Iterator[Path]:
    """A directory for manifests; on leaving it is clean, everything in it is sound, and no descriptor stays open."""
    directory.mkdir(parents=True, exist_ok=True)
    before = file_descriptors()
    gc.freeze()  # what the collection below need not look through: a third of the time of all tests
    yield directory
    for canonical in sorted(directory.glob("*" + SUFFIX)):
        check_manifest(canonical)
    assert temporaries(directory) == []
    if not descriptors:
        return
    gc.collect()
    inside = os.fspath(directory)
    leaked = {fd: target for fd, target in file_descriptors().items() if before.get(fd) != target}
    assert [t for t in leaked.values() if t.startswith(inside)] == []
