"""The canonical file: its bytes, and its way back from anybody's JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from manifestlog.engines.filelog.canonical import scan
from manifestlog.engines.filelog.canonical.index import Head, Index, encode
from manifestlog.engines.filelog.canonical.scan import Canonical
from manifestlog.errors import DamagedManifestError
from manifestlog.files import disk
from manifestlog.model import codec, document
from manifestlog.model.rows import Row

from .builders import row, sha

if TYPE_CHECKING:
    from pathlib import Path

METADATA: Row = {
    "process": "extractor",
    "etl_version": "1.0.0",
    "root_dir": "/srv/etl/manifests",
    "total_records": 0,
    "ts_created": "2023-01-01T12:00:00Z",
    "ts_updated": "2023-01-01T12:00:00Z",
}

SKELETON = b"""{
    "metadata": {
        "process": "extractor",
        "etl_version": "1.0.0",
        "root_dir": "/srv/etl/manifests",
        "total_records": 0,
        "ts_created": "2023-01-01T12:00:00Z",
        "ts_updated": "2023-01-01T12:00:00Z"
    },
    "records": {}
}
"""


def _render(*rows: Row) -> bytes:
    ordered = sorted((r["checksum"], codec.dumps(r)) for r in rows)
    return document.render(METADATA | {"total_records": len(rows)}, ordered)


def test_an_empty_manifest_is_the_skeleton() -> None:
    """Byte for byte."""
    assert document.skeleton(METADATA) == SKELETON


def test_two_records_lie_as_in_the_design() -> None:
    """One record a line, sorted, four spaces a level."""
    first, second = sorted([row("a"), row("b")], key=lambda r: str(r["checksum"]))
    assert _render(row("a"), row("b")) == (
        SKELETON.replace(b'"total_records": 0', b'"total_records": 2').replace(
            b'"records": {}',
            b'"records": {\n        "%b": %b,\n        "%b": %b\n    }'
            % (first["checksum"].encode(), codec.dumps(first), second["checksum"].encode(), codec.dumps(second)),
        )
    )


def test_json_reads_it() -> None:
    """Any JSON reader does."""
    rows = {sha(c): row(c) for c in "abc"}
    assert json.loads(_render(*rows.values())) == {"metadata": METADATA | {"total_records": 3}, "records": rows}


def test_the_metadata_lies_as_json_would_indent_it() -> None:
    """Also with nested unknown members."""
    metadata = METADATA | {"owner": {"team": "data", "who": ["a", "b"]}, "none": {}}
    expected = json.dumps({"metadata": metadata, "records": {}}, indent=4, ensure_ascii=False) + "\n"
    assert document.skeleton(metadata) == expected.encode()


def _scan(path: Path) -> tuple[scan.Scanned, Index, Canonical]:
    source = Canonical(str(path), disk.open_read(str(path)))
    scanned = scan.scan(source)
    head = Head(disk.stamp(source.fd), scanned.crc, 0, scanned.metadata)
    return scanned, Index(b"".join(encode(scanned.columns, head))), source


@pytest.mark.parametrize("count", [0, 1, 2, 100])
def test_what_is_rendered_is_scanned(tmp_path: Path, count: int) -> None:
    """Every record is found at its place, its bytes as they were."""
    path = tmp_path / "a_b.manifest.json"
    rows = {sha(f"c{n}"): row(f"c{n}", source=f"s{n}") for n in range(count)}
    path.write_bytes(_render(*rows.values()))
    _, found, source = _scan(path)
    records = {c: codec.loads(source.record(found.place(n))) for n, c in enumerate(found.checksums())}
    assert records == rows


def test_the_scanned_metadata_are_those_written(tmp_path: Path) -> None:
    """In their order."""
    path = tmp_path / "a_b.manifest.json"
    path.write_bytes(_render(row("a")))
    assert list(_scan(path)[0].metadata.items()) == list((METADATA | {"total_records": 1}).items())


def test_our_own_layout_is_not_held_in_memory(tmp_path: Path) -> None:
    """Records are read from the file."""
    path = tmp_path / "a_b.manifest.json"
    path.write_bytes(_render(*(row(f"c{n}") for n in range(10))))
    assert _scan(path)[2].memory is None


@pytest.mark.parametrize("indent", [None, 0, 2, 3, 4])
def test_any_layout_becomes_ours(tmp_path: Path, indent: int | None) -> None:
    """Another tool's file, in memory, has the bytes that ours would have."""
    path = tmp_path / "a_b.manifest.json"
    rows = [row(f"c{n}", source=f"s{n}") for n in range(10)]
    document = {"records": {r["checksum"]: r for r in rows}, "metadata": METADATA | {"total_records": 10}}
    path.write_text(json.dumps(document, indent=indent))
    assert bytes(_scan(path)[2].memory or b"") == _render(*rows)


def test_two_keys_that_differ_in_case_are_one_content(tmp_path: Path) -> None:
    """Their observations are joined."""
    path = tmp_path / "a_b.manifest.json"
    one, other = row("a", 1), row("a", 2, source="other", checksum=sha("a").upper())
    document = {"metadata": METADATA, "records": {sha("a"): one, sha("a").upper(): other}}
    path.write_text(json.dumps(document))
    _, found, source = _scan(path)
    record = codec.loads(source.record(found.place(0)))
    assert (found.count, record["source_id"], record["also_seen"][0]["source_id"]) == (1, "other", "src")


def test_a_record_that_changed_on_disk_is_found_when_it_is_read(tmp_path: Path) -> None:
    """A record is compared with the CRC that the index keeps."""
    path = tmp_path / "a_b.manifest.json"
    path.write_bytes(_render(row("a")))
    _, found, source = _scan(path)
    path.write_bytes(path.read_bytes().replace(b"/raw/a", b"/raw/x"))
    with pytest.raises(DamagedManifestError, match="from what was written"):
        source.record(found.place(0))


@pytest.mark.parametrize("text", ["{}", "}", '"', "\\", '": {"', '    "records": {', "\u2028", "x" * 70_000])
def test_odd_text_in_the_metadata_is_no_end(tmp_path: Path, text: str) -> None:
    """A root directory may be called anything."""
    path = tmp_path / "a_b.manifest.json"
    metadata = METADATA | {"root_dir": text, "total_records": 1}
    path.write_bytes(document.render(metadata, [(sha("a"), codec.dumps(row("a")))]))
    assert _scan(path)[0].metadata == metadata
