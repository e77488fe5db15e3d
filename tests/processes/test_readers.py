"""Readers that were open before another process compacted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from manifestlog import DownloadManifestManager
from support.records import QUICK, checksum, make_record, metadata

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.children import Link, Start

OLD = range(10)
NEW = range(10, 20)
FORGOTTEN = 3
EXPECTED = {n for n in (*OLD, *NEW) if n != FORGOTTEN}


def create(_link: Link, path: Path) -> None:
    with DownloadManifestManager(path, metadata(), options=QUICK) as manifest:
        manifest.add_many([make_record(n) for n in OLD])


def change_and_compact(_link: Link, path: Path, times: int) -> None:
    with DownloadManifestManager(path, options=QUICK) as manifest:
        for number in NEW:
            manifest.add(make_record(number))
        manifest.forget(checksum(FORGOTTEN))
        for _ in range(times):
            assert manifest.compact().outcome == "compacted"
            manifest.add(make_record(OLD[0], source="another source"))
            manifest.forget(checksum(1_000))
            manifest.add(make_record(1_000))
            manifest.forget(checksum(1_000))


@pytest.fixture(params=[(times, read_only) for times in (1, 3) for read_only in (True, False)], ids=str)
def reader(request: pytest.FixtureRequest, path: Path, start: Start) -> Iterator[DownloadManifestManager]:
    """A manager that looked at the manifest before another process changed and compacted it, so many times."""
    times, read_only = request.param
    start(create, path).result()
    child_first = start(wait_then_change, path, times)
    with DownloadManifestManager(path, options=QUICK, read_only=read_only) as manifest:
        assert len(manifest) == len(OLD)
        child_first.send("go")
        child_first.result()
        yield manifest


def wait_then_change(link: Link, path: Path, times: int) -> None:
    link.recv()
    change_and_compact(link, path, times)


def test_it_finds_every_record(reader: DownloadManifestManager) -> None:
    """Those that it knew and those that were added."""
    assert {n for n in range(30) if reader.has_checksum(checksum(n))} == EXPECTED


def test_it_lists_every_record(reader: DownloadManifestManager) -> None:
    """An iteration agrees."""
    assert list(reader) == sorted(checksum(n) for n in EXPECTED)


def test_it_counts_every_record(reader: DownloadManifestManager) -> None:
    """So does its length."""
    assert len(reader) == len(EXPECTED)


def test_it_reads_records_from_the_new_canonical(reader: DownloadManifestManager) -> None:
    """What it hydrates is what was added."""
    assert [reader.get(checksum(n)) for n in NEW] == [make_record(n) for n in NEW]


def test_it_finds_records_by_source(reader: DownloadManifestManager) -> None:
    """The index by source is the new one, too."""
    assert [reader.get_record_by_source(f"source-{n}") for n in NEW] == [make_record(n) for n in NEW]


def test_it_misses_what_was_forgotten(reader: DownloadManifestManager) -> None:
    """A record that it knew and another process forgot is gone."""
    assert reader.get(checksum(FORGOTTEN)) is None


def test_an_iteration_keeps_its_own_moment(path: Path, start: Start) -> None:
    """One that was begun before the compaction ends with what there was at its beginning."""
    start(create, path).result()
    other = start(wait_then_change, path, 2)
    with DownloadManifestManager(path, options=QUICK, read_only=True) as manifest:
        records = iter(manifest.records.values())
        found = [next(records)]
        other.send("go")
        other.result()
        found += records
    assert sorted(r.checksum for r in found) == sorted(checksum(n) for n in OLD)
