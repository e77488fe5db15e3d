"""The time of the newest record: the latest observation of those that are there, whatever lies in log and file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from manifestlog.model.rows import utc_text

from .builders import at, record, sha

if TYPE_CHECKING:
    from manifestlog import DownloadManifestManager

pytestmark = pytest.mark.every_engine


def newest(manifest: DownloadManifestManager, until: float = 60) -> str | None:
    return manifest.snapshot().newest(utc_text(at(until))[:-1])


def minute(number: float) -> str:
    return utc_text(at(number))[:-1]


def test_an_empty_manifest_has_none(manifest: DownloadManifestManager) -> None:
    assert newest(manifest) is None


@pytest.mark.parametrize("merged", [False, True])
def test_the_latest_of_several_counts(manifest: DownloadManifestManager, merged: bool) -> None:
    manifest.add_many([record("a", 1), record("b", 3), record("c", 2)])
    if merged:
        manifest.compact()
    assert newest(manifest) == minute(3)


@pytest.mark.parametrize("merged", [False, True])
def test_what_is_later_than_asked_for_does_not_count(manifest: DownloadManifestManager, merged: bool) -> None:
    manifest.add_many([record("a", 1), record("b", 3)])
    if merged:
        manifest.compact()
    assert newest(manifest, until=2) == minute(1)


@pytest.mark.parametrize("merged", [False, True])
def test_nothing_until_then_is_none(manifest: DownloadManifestManager, merged: bool) -> None:
    manifest.add(record("a", 1))
    if merged:
        manifest.compact()
    assert newest(manifest, until=0) is None


def test_a_later_record_in_the_log_goes_before_the_file(manifest: DownloadManifestManager) -> None:
    manifest.add(record("a", 1))
    manifest.compact()
    manifest.add(record("b", 2))
    assert newest(manifest) == minute(2)


def test_an_earlier_record_in_the_log_does_not(manifest: DownloadManifestManager) -> None:
    manifest.add(record("a", 2))
    manifest.compact()
    manifest.add(record("b", 1, source="other"))
    assert newest(manifest) == minute(2)


def test_forgotten_records_do_not_count(manifest: DownloadManifestManager) -> None:
    manifest.add_many([record("a", 1), record("b", 3), record("c", 2)])
    manifest.compact()
    manifest.forget(sha("b"))
    manifest.forget(sha("c"))
    assert newest(manifest) == minute(1)


@pytest.mark.parametrize("merged", [False, True])
def test_the_same_content_from_another_source_counts(manifest: DownloadManifestManager, merged: bool) -> None:
    manifest.add_many([record("a", 1), record("a", 3, source="other")])
    if merged:
        manifest.compact()
    assert newest(manifest) == minute(3)
