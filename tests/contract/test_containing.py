"""A search over all records for a text: it finds what reading all of them finds, and misses no damage."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING
from unittest import mock

import pytest

from manifestlog import DamagedManifestError, DownloadManifestManager
from manifestlog.engines.filelog.canonical import reading
from support.records import NAME

from .builders import META, QUIET, record, sha

if TYPE_CHECKING:
    from collections.abc import Iterator

COUNT = 50


@pytest.fixture(autouse=True, params=[1, 5_000, 1 << 20], ids=["one record", "a few", "all"])
def searched(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """How many records a search looks at together."""
    monkeypatch.setattr(reading, "_SEARCHED_BYTES", request.param)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Records in the canonical, of which the log replaces one and forgets one, and one in the log."""
    path = tmp_path / NAME
    with DownloadManifestManager(path, META, options=QUIET) as manager:
        manager.add_many(
            record(str(n), n, source=f"s{n % 5}", derived_from=(sha(f"in {n % 7}"),)) for n in range(COUNT)
        )
        manager.save()
        manager.update(sha("3"), {"checksum": sha("3"), "etag": "e", "file_path": "/new/place", "file_size": 1})
        manager.forget(sha("4"))
        manager.add(record("log", 99, source="s1", derived_from=(sha("in 1"),)))
    return path


@pytest.fixture
def manager(path: Path) -> Iterator[DownloadManifestManager]:
    with DownloadManifestManager(path, options=QUIET, read_only=True) as manager:
        yield manager


TEXTS = {
    "an input": [sha("in 1").encode()],
    "two inputs": [sha("in 1").encode(), sha("in 2").encode()],
    "a content": [sha("7").encode()],
    "a content that was forgotten": [sha("4").encode()],
    "a place that was changed": [b'"/raw/3"'],
    "the new place": [b"/new/place"],
    "nothing that is there": [b"nowhere"],
    "what each has": [b'"version"'],
    "no text": [],
}


@pytest.mark.parametrize("name", TEXTS)
def test_it_finds_what_reading_all_records_finds(manager: DownloadManifestManager, name: str) -> None:
    snapshot = manager.snapshot()
    expected = [(key, raw) for key, raw in snapshot.records() if any(text in raw for text in TEXTS[name])]
    assert sorted(snapshot.containing(TEXTS[name])) == expected


def test_it_searches_another_tools_file(path: Path) -> None:
    document = json.loads(path.read_bytes())
    for other in path.parent.glob("*.manifest.*"):
        other.unlink()
    path.write_text(json.dumps(document, indent=4))
    for _ in range(2):  # converted, and then from the index
        with DownloadManifestManager(path, options=QUIET) as manager:
            assert [key for key, _ in manager.snapshot().containing([b'"/raw/7"'])] == [sha("7")]


def searched_beside_damage(path: Path) -> None:
    """In a record that nobody asks for."""
    with DownloadManifestManager(path, META, options=QUIET) as manager:
        manager.add_many(record(str(n), n) for n in range(COUNT))
        manager.save()
        snapshot = manager.snapshot()
        data = path.read_bytes()
        path.write_bytes(data.replace(b"/raw/7", b"/raw/8"))  # the same file: no index of another one
        found = None
        with mock.patch.object(reading, "_SEARCHED_BYTES", 1), suppress(DamagedManifestError):
            found = list(snapshot.containing([b"/raw/9"]))
        path.write_bytes(data)
    assert found is None


def test_damage_in_another_record_is_found(tmp_path: Path) -> None:
    searched_beside_damage(tmp_path / NAME)


@pytest.mark.parametrize("place", ['"s2"', sha("in 3"), '"metadata"', ': {"source_id"', "}\n}\n"])
def test_damage_is_found_wherever_it_is(manager: DownloadManifestManager, path: Path, place: str) -> None:
    """In a record that would have been found, in another one, and between records."""
    snapshot = manager.snapshot()
    data = bytearray(path.read_bytes())
    data[data.index(place.encode()) + 1] ^= 1
    with path.open("r+b") as file:
        file.write(data)
    with pytest.raises(DamagedManifestError):
        list(snapshot.containing([sha("in 1").encode()]))


def test_an_empty_manifest_has_nothing(tmp_path: Path) -> None:
    with DownloadManifestManager(tmp_path / NAME, META, options=QUIET) as manager:
        assert list(manager.snapshot().containing([b"a"])) == []
