"""A manifest of format 1 says nothing of what was before: it is out of reach, never guessed."""

from __future__ import annotations

import shutil
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from manifestlog import DownloadManifestManager, HistoryReachError
from support.records import MANUAL, NAME, make_record

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def manifest(tmp_path: Path) -> Iterator[DownloadManifestManager]:
    """The manifest of format 1, opened and not yet written."""
    shutil.copytree(Path(__file__).parent / "v1", tmp_path / "v1")
    with DownloadManifestManager(tmp_path / "v1" / NAME, options=MANUAL) as found:
        yield found


def now() -> datetime:
    time.sleep(0.001)
    found = datetime.now(UTC)
    time.sleep(0.001)
    return found


def test_nothing_is_in_reach_before_the_first_write(manifest: DownloadManifestManager) -> None:
    with pytest.raises(HistoryReachError):
        manifest.as_of(now())


def test_the_time_before_the_first_write_is_out_of_reach(manifest: DownloadManifestManager) -> None:
    moment = now()
    manifest.add(make_record(99))
    with pytest.raises(HistoryReachError):
        manifest.as_of(moment)


@pytest.mark.parametrize("merged", [False, True])
def test_the_time_since_the_first_write_is_in_reach(manifest: DownloadManifestManager, *, merged: bool) -> None:
    manifest.add(make_record(99))
    moment, then = now(), list(manifest.snapshot().records())
    manifest.forget(make_record(99).checksum)
    if merged:
        manifest.save()
    assert list(manifest.as_of(moment).snapshot().records()) == then


def test_a_change_of_format_1_cannot_be_undone(manifest: DownloadManifestManager) -> None:
    manifest.add(make_record(99))
    first = next(event for event in manifest.history() if event.is_change)
    with pytest.raises(HistoryReachError, match="the change at"):
        manifest.undo(change=first.cursor)
