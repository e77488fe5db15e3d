"""`add_many` and what its iterable does meanwhile: an engine may fetch a batch before the last one is recorded."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from manifestlog import AddManyStoppedError, EventKind, Verdict

from .builders import QUIET, record, sha

if TYPE_CHECKING:
    from collections.abc import Iterator

    from manifestlog import DownloadManifestManager, ManifestRecord

    from .conftest import Opener

pytestmark = pytest.mark.every_engine


@pytest.fixture
def manifest(opener: Opener) -> DownloadManifestManager:
    """Batches of two."""
    return opener(options=replace(QUIET, batch_records_max=2))


def test_the_iterable_may_use_the_manifest(manifest: DownloadManifestManager) -> None:
    """It adds and looks up between any two records."""

    def records() -> Iterator[ManifestRecord]:
        for number in range(7):
            manifest.add(record(f"own {number}", number, source="own"))
            assert manifest.has_checksum(sha(f"own {number}"))
            yield record(f"c{number}", number)

    assert manifest.add_many(records())[Verdict.CHANGED] == 6
    assert len(manifest) == 14


def test_the_iterable_may_add_many(manifest: DownloadManifestManager) -> None:
    def records(depth: int) -> Iterator[ManifestRecord]:
        for number in range(5):
            if depth:
                manifest.add_many(records(depth - 1))
            yield record(f"{depth} {number}", number, source=f"s{depth}")

    manifest.add_many(records(2))
    assert len(manifest) == 15


def test_a_run_that_the_iterable_begins_has_its_records(manifest: DownloadManifestManager) -> None:
    def records() -> Iterator[ManifestRecord]:
        with manifest.run("fetch"):
            for number in range(4):
                yield record(f"c{number}", number)

    manifest.add_many(records())
    puts = list(manifest.history(kinds=[EventKind.PUT]))
    assert len({event.run for event in puts} - {None}) == 1
    assert len(puts) == 4


def test_what_landed_before_an_error_of_the_iterable_is_counted(manifest: DownloadManifestManager) -> None:
    def records() -> Iterator[ManifestRecord]:
        for number in range(5):
            yield record(f"c{number}", number, source=f"s{number}")
        raise OSError("gone")

    with pytest.raises(AddManyStoppedError) as stopped:
        manifest.add_many(records())
    assert (stopped.value.landed[Verdict.NEW], len(manifest)) == (4, 4)


def test_batches_with_known_and_unknown_contents_have_each_verdict(manifest: DownloadManifestManager) -> None:
    """As one after the other."""
    given = [
        record("a", 1),
        record("b", 2),
        record("a", 1),
        record("c", 3),
        record("a", 9, source="other"),
        record("a", 9),
    ]
    found = manifest.add_many([*given, *(record(f"d{n}", 20 + n) for n in range(4))])
    assert {verdict.value: count for verdict, count in found.items() if count} == {
        "new": 1,
        "changed": 6,
        "duplicate": 1,
        "alias": 1,
        "reverted": 1,
    }
