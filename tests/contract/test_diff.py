"""`diff`: what differs between two manifests, or between two times of one."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from manifestlog import Change, Diff, DownloadManifestManager, diff

from .builders import META, QUIET, meta, record, sha

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from .conftest import Opener

pytestmark = pytest.mark.every_engine


@pytest.fixture
def manifest(opener: Opener) -> DownloadManifestManager:
    """Two contents of one source, and one that two sources have."""
    found = opener()
    found.add_many([record("a", 0, etag='"a"'), record("b", 1), record("c", 2, source="third")])
    found.add(record("c", 3, source="fourth"))
    return found


def since(manifest: DownloadManifestManager, *changes: Callable[[], object]) -> Diff:
    """What these changes make different."""
    time.sleep(0.001)
    moment = datetime.now(UTC)
    time.sleep(0.001)
    for change in changes:
        change()
    return diff(manifest.as_of(moment), manifest)


def contents(found: Diff) -> list[tuple[Change, str]]:
    return [(one.change, one.checksum) for one in found.contents()]


def sources(found: Diff) -> list[tuple[Change, str]]:
    return [(one.change, one.source_id) for one in found.sources()]


def test_nothing_differs_without_a_change(manifest: DownloadManifestManager) -> None:
    found = since(manifest)
    assert (bool(found), contents(found), sources(found), found.metadata) == (False, [], [], {})


def test_a_new_content_of_a_new_source_is_added(manifest: DownloadManifestManager) -> None:
    found = since(manifest, lambda: manifest.add(record("x", source="new")))
    assert (contents(found), sources(found)) == ([(Change.ADDED, sha("x"))], [(Change.ADDED, "new")])


def test_a_new_content_of_a_known_source_changes_the_source(manifest: DownloadManifestManager) -> None:
    (source,) = since(manifest, lambda: manifest.add(record("x", 9))).sources()
    assert source.before is not None
    assert source.after is not None
    assert (source.change, source.before.checksum, source.after.checksum) == (Change.CHANGED, sha("b"), sha("x"))


def test_an_older_content_changes_no_source(manifest: DownloadManifestManager) -> None:
    found = since(manifest, lambda: manifest.add(record("x", -9)))
    assert (contents(found), sources(found)) == ([(Change.ADDED, sha("x"))], [])


def test_a_refreshed_content_names_what_changed(manifest: DownloadManifestManager) -> None:
    (source,) = since(manifest, lambda: manifest.add(record("b", 9, etag='"new"'))).sources()
    assert source.members == ("etag", "ts_downloaded")


def test_a_reverted_source_is_named_once(manifest: DownloadManifestManager) -> None:
    found = since(manifest, lambda: manifest.add(record("a", 9)))
    assert sources(found) == [(Change.CHANGED, "src")]


def test_an_alias_adds_a_source(manifest: DownloadManifestManager) -> None:
    found = since(manifest, lambda: manifest.add(record("a", 9, source="other")))
    assert (contents(found), sources(found)) == ([(Change.CHANGED, sha("a"))], [(Change.ADDED, "other")])


def test_another_alias_does_not_change_the_sources_that_were_there(manifest: DownloadManifestManager) -> None:
    found = since(manifest, lambda: manifest.add(record("c", 9, source="fifth")))
    assert sources(found) == [(Change.ADDED, "fifth")]


def test_a_forgotten_content_is_gone_with_each_of_its_sources(manifest: DownloadManifestManager) -> None:
    found = since(manifest, lambda: manifest.forget(sha("c")))
    assert contents(found) == [(Change.GONE, sha("c"))]
    assert sources(found) == [(Change.GONE, "fourth"), (Change.GONE, "third")]


def test_a_source_that_falls_back_to_an_older_content_is_changed(manifest: DownloadManifestManager) -> None:
    (source,) = since(manifest, lambda: manifest.forget(sha("b"))).sources()
    assert source.after is not None
    assert (source.change, source.after.checksum) == (Change.CHANGED, sha("a"))


def test_a_source_with_several_changed_contents_is_named_once(manifest: DownloadManifestManager) -> None:
    found = since(manifest, *(lambda c=c, n=n: manifest.add(record(c, n)) for n, c in enumerate("xyz", 9)))
    assert (len(contents(found)), sources(found)) == (3, [(Change.CHANGED, "src")])


def test_what_was_changed_and_changed_back_is_the_same(manifest: DownloadManifestManager) -> None:
    assert not since(manifest, lambda: manifest.add(record("x")), lambda: manifest.forget(sha("x")))


def test_a_change_of_the_root_is_a_difference(manifest: DownloadManifestManager) -> None:
    found = since(manifest, lambda: manifest.relocate("/srv", "/mnt"))
    assert (bool(found), found.metadata) == (True, {"root_dir": ("/srv/etl", "/mnt/etl")})


def test_later_writes_change_no_answer(manifest: DownloadManifestManager) -> None:
    found = since(manifest, lambda: manifest.add(record("x", source="new")))
    manifest.forget(sha("x"))
    assert contents(found) == [(Change.ADDED, sha("x"))]


def test_a_compaction_in_between_makes_no_difference(manifest: DownloadManifestManager) -> None:
    found = since(manifest, lambda: manifest.forget(sha("b")), manifest.save, lambda: manifest.add(record("x", 9)))
    assert sorted(contents(found)) == sorted([(Change.GONE, sha("b")), (Change.ADDED, sha("x"))])


# -- two manifests: files only -----------------------------------------------------------------------------------------


@pytest.fixture
def other(directory: Path) -> Iterator[DownloadManifestManager]:
    """Another manifest."""
    with DownloadManifestManager(directory / "bodies_download.manifest.json", META, options=QUIET) as found:
        yield found


@pytest.mark.files_only
def test_two_manifests_with_the_same_records_are_the_same(
    manifest: DownloadManifestManager, other: DownloadManifestManager
) -> None:
    other.add_many(manifest.records.values())
    other.save()
    assert not diff(manifest, other)


@pytest.mark.files_only
def test_what_only_the_first_has_is_gone(manifest: DownloadManifestManager, other: DownloadManifestManager) -> None:
    other.add_many(one for one in manifest.records.values() if one.checksum != sha("a"))
    assert contents(diff(manifest, other)) == [(Change.GONE, sha("a"))]


@pytest.mark.files_only
def test_both_directions_are_opposites(manifest: DownloadManifestManager, other: DownloadManifestManager) -> None:
    other.add(record("x", 9))
    there, back = diff(manifest, other), diff(other, manifest)
    opposite: dict[Change, Any] = {Change.ADDED: Change.GONE, Change.GONE: Change.ADDED, Change.CHANGED: Change.CHANGED}
    assert [(opposite[change], name) for change, name in contents(there)] == contents(back)
    assert sorted((opposite[change], name) for change, name in sources(there)) == sorted(sources(back))


@pytest.mark.files_only
def test_manifests_of_different_code_differ_in_their_metadata(
    manifest: DownloadManifestManager, directory: Path
) -> None:
    with DownloadManifestManager(directory / "b_download.manifest.json", meta(etl_version="2"), options=QUIET) as other:
        assert diff(manifest, other).metadata == {"etl_version": ("1.0.0", "2")}


def test_two_times_are_compared_as_two_manifests_are(path: Path) -> None:
    """The short way, by what the log names, and the long way, by all records, find the same."""
    with DownloadManifestManager(path, META, options=QUIET) as manifest:
        manifest.add_many([record("a"), record("b", 1), record("c", 2, source="third")])
        manifest.save()
        time.sleep(0.001)
        moment = datetime.now(UTC)
        manifest.add(record("x", 9))
        manifest.forget(sha("c"))
        before, after = manifest.as_of(moment).snapshot(), manifest.snapshot()
        manifest.save()
        assert before.may_differ(after) is not None
        assert before.may_differ(manifest.snapshot()) is None
        assert contents(Diff(before, after)) == contents(Diff(before, manifest.snapshot()))
