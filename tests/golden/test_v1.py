"""The committed directory of format 1 opens, and says exactly what was put into it."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from manifestlog import DownloadManifestManager, HistoryReachError, NewerFormatError, Verdict
from manifestlog.engines.filelog.log import lines
from support.records import MANUAL

V1 = Path(__file__).parent / "v1"
NAME = "systems_download.manifest.json"

COMPRESSED = "9da308c2e4bc33afa72df5c088b5fc5673c477f3ef21d6bdaa358393834f9804"
PLAIN = "a116c9ed46d6207734a43317d30fd88f52ac8634c37d904bbf4e41d865f90475"
SHARED = "a4d26868017c0ccffe2efe50944ef4211834660cca834c6e9f86dec6a88246fa"
BATCH_ONE = "53945b90d804e43b8b0c14cea96b89ce92a07dd12c3c17f691edbbbbdab771cd"
BATCH_TWO = "9db4fbc7588b158657020b249ef54ff40e13f88514391b68cbc6e473c486111d"
ODD = "9da3c8eb3442c06021b64c4aa800fc4ef5d545e02a48eea589c616dcd9bcaecc"

EXPECTED: dict[str, dict[str, Any]] = {
    COMPRESSED: {
        "source_id": "edsm",
        "dataset": "systems",
        "checksum": COMPRESSED,
        "file_path": "/moved",
        "file_size": 7,
        "etag": '"fixed"',
        "ts_downloaded": "2024-05-01T12:00:00Z",
        "version": "1.4.0",
    },
    PLAIN: {
        "source_id": "spansh",
        "dataset": "systems",
        "checksum": PLAIN,
        "file_path": "/srv/etl/raw/plain",
        "file_size": 1005,
        "etag": '"e2"',
        "ts_downloaded": "2024-05-01T12:05:00Z",
        "version": "1.4.0",
    },
    SHARED: {
        "source_id": "edsm",
        "dataset": "bodies",
        "checksum": SHARED,
        "file_path": "/srv/etl/raw/shared",
        "file_size": 1006,
        "etag": None,
        "ts_downloaded": "2024-05-01T12:03:00Z",
        "version": "1.4.0",
        "also_seen": [
            {
                "source_id": "spansh",
                "dataset": "systems",
                "file_path": "/srv/etl/raw/shared",
                "etag": '"e1"',
                "last_modified": "Wed, 01 May 2024 12:02:00 GMT",
                "ts_downloaded": "2024-05-01T12:02:00Z",
                "version": "1.4.0",
            }
        ],
    },
    BATCH_ONE: {
        "source_id": "batch",
        "dataset": "systems",
        "checksum": BATCH_ONE,
        "file_path": "/srv/etl/raw/batch one",
        "file_size": 1009,
        "etag": None,
        "ts_downloaded": "2024-05-01T12:08:00Z",
        "version": "1.4.0",
    },
    BATCH_TWO: {
        "source_id": "batch",
        "dataset": "systems",
        "checksum": BATCH_TWO,
        "file_path": "/srv/etl/raw/batch two",
        "file_size": 1009,
        "etag": None,
        "ts_downloaded": "2024-05-01T12:06:00Z",
        "version": "1.4.0",
        "derived_from": [PLAIN],
    },
    ODD: {
        "source_id": "ünï/cöde",
        "dataset": "systems",
        "checksum": ODD,
        "file_path": "/srv/etl/raw/Übergröße 🪐",
        "file_size": 1011,
        "etag": None,
        "ts_downloaded": "2024-05-01T12:07:00.000006Z",
        "version": "1.10.0",
    },
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A copy of the directory, for nobody to write in the original."""
    return Path(shutil.copytree(V1, tmp_path / "v1")) / NAME


def _records(path: Path, *, read_only: bool) -> dict[str, Any]:
    with DownloadManifestManager(path, read_only=read_only) as manager:
        return {checksum: record.model_dump(mode="json") for checksum, record in manager.records.items()}


def test_the_directory_is_whole() -> None:
    """Canonical, two sealed segments, an active one, an index: all committed."""
    assert sorted(file.name.removeprefix("systems_download.manifest.") for file in V1.iterdir()) == [
        "idx",
        "json",
        "wal-000002.jsonl",
        "wal-000003.jsonl",
        "wal-000004.jsonl",
    ]


@pytest.mark.parametrize("read_only", [True, False])
def test_it_opens_with_exactly_its_records(path: Path, *, read_only: bool) -> None:
    """Every record, field by field, and no other."""
    assert _records(path, read_only=read_only) == EXPECTED


def test_it_opens_without_its_index(path: Path) -> None:
    """The index is derived."""
    path.with_name("systems_download.manifest.idx").unlink()
    assert _records(path, read_only=True) == EXPECTED


def test_its_metadata_are_those_of_its_last_opener(path: Path) -> None:
    """The `meta` line counts."""
    with DownloadManifestManager(path, read_only=True) as manager:
        assert (manager.metadata.etl_version, manager.metadata.total_records) == ("1.10.0", 6)


@pytest.mark.parametrize(
    ("source", "dataset", "checksum"),
    [
        ("edsm", None, SHARED),
        ("edsm", "systems", COMPRESSED),
        ("spansh", None, PLAIN),
        ("batch", None, BATCH_ONE),
        ("ünï/cöde", "systems", ODD),
        ("eddb", None, None),
        ("torn", None, None),
    ],
)
def test_its_sources_are_found(path: Path, source: str, dataset: str | None, checksum: str | None) -> None:
    """Lookups by source go through log and canonical; what was forgotten or torn is not there."""
    with DownloadManifestManager(path, read_only=True) as manager:
        found = manager.get_record_by_source(source, dataset)
    assert (found and found.checksum) == checksum


def test_it_compacts_to_exactly_its_records(path: Path) -> None:
    """A compaction by this version loses nothing, unknown members included."""
    with DownloadManifestManager(path) as manager:
        manager.save()
    compression = {"compression": {"kind": "zstd", "level": 3}}
    assert json.loads(path.read_bytes())["records"] == EXPECTED | {
        COMPRESSED: EXPECTED[COMPRESSED] | compression,
        BATCH_TWO: EXPECTED[BATCH_TWO] | {"tie": 1},
    }


def test_it_can_be_written_to(path: Path) -> None:
    """A write behind its torn tail is kept."""
    with DownloadManifestManager(path) as manager:
        known = manager.records[PLAIN]
        assert manager.add(known.model_copy(update={"source_id": "tomorrow"})).verdict is Verdict.ALIAS
    assert set(_records(path, read_only=True)) == set(EXPECTED)


def test_its_first_write_upgrades_it_and_leaves_its_segments_as_they_were(tmp_path: Path) -> None:
    upgraded(tmp_path)


def upgraded(directory: Path) -> None:
    """Lines of format 2 are in segments of format 2 only, so that an older program refuses them by number."""
    path = Path(shutil.copytree(V1, directory / "v1")) / NAME
    segment = path.with_name("systems_download.manifest.wal-000004.jsonl")
    torn = segment.read_bytes()
    segment.write_bytes(torn[: torn.rindex(b"\n") + 1])  # so that the next line could be written here
    before = {file.name: file.read_bytes() for file in path.parent.glob("*.wal-*")}
    with DownloadManifestManager(path, options=MANUAL) as manager:
        assert manager.forget(PLAIN)
    for name, data in before.items():
        assert path.with_name(name).read_bytes().startswith(data)
        assert b"forget" not in path.with_name(name).read_bytes()[len(data) :]
    newest = path.with_name("systems_download.manifest.wal-000005.jsonl").read_bytes()
    assert newest.startswith(b'{"op":"open","format":2,')
    assert b'{"op":"forget"' in newest


def test_a_program_of_format_1_refuses_it_by_number_after_that(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with DownloadManifestManager(path, options=MANUAL) as manager:
        manager.forget(PLAIN)
    monkeypatch.setattr(lines, "FORMAT", 1)
    with pytest.raises(NewerFormatError, match=r"format 2 is newer than the newest supported format \(1\)"):
        DownloadManifestManager(path, read_only=True)


def test_reading_it_changes_no_byte(path: Path) -> None:
    before = {file.name: file.read_bytes() for file in path.parent.iterdir()}
    _records(path, read_only=True)
    assert {file.name: file.read_bytes() for file in path.parent.iterdir()} == before


def test_its_history_begins_with_the_first_segment_of_format_2(path: Path) -> None:
    """Of the lines before it nothing says what was there earlier."""
    with DownloadManifestManager(path, options=MANUAL) as manager:
        manager.forget(PLAIN)
        with pytest.raises(HistoryReachError):
            manager.as_of(datetime(2024, 5, 1, 12, 30, tzinfo=UTC))
        assert next(event.checksum for event in manager.history()) == PLAIN


def test_its_covered_segments_move_to_the_history(path: Path) -> None:
    with DownloadManifestManager(path, options=MANUAL) as manager:
        manager.compact()
    assert "systems_download.manifest.wal-000003.jsonl" in [file.name for file in (path.parent / "history").iterdir()]
