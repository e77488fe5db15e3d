"""`add_each`: one atomic write, and an answer for each record."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from manifestlog import DownloadManifestManager, EventKind, RecordRejectedError, Verdict

from .builders import QUIET, at, files_of, one_of_each, record, segments_of, sha
from .test_verdicts import TABLE, A, B

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import Opener

pytestmark = pytest.mark.every_engine


def test_every_record_has_its_verdict_in_order(manifest: DownloadManifestManager) -> None:
    """Each record is decided as if the records before it had been added."""
    found = manifest.add_each(one_of_each())
    assert [one.verdict.value for one in found] == ["new", "duplicate", "changed", "refreshed", "reverted", "alias"]


@pytest.mark.parametrize("row", TABLE)
def test_it_decides_as_add_does(manifest: DownloadManifestManager, row: str) -> None:
    """History and event together get the verdicts and records that `add` gives one after the other."""
    history, event, _ = TABLE[row]
    one_by_one = [manifest.add(one) for one in (*history, event)]
    manifest.forget(sha(A))
    manifest.forget(sha(B))
    assert manifest.add_each([*history, event]) == one_by_one


def test_the_record_is_that_of_its_own_source(manifest: DownloadManifestManager) -> None:
    """A content from two sources is answered to each with its own path."""
    mine, other = record("a", 1), record("a", 2, source="other", file_path="/raw/elsewhere")
    assert [one.record.source_id for one in manifest.add_each([mine, other])] == ["src", "other"]


def test_nothing_is_answered_with_nothing(manifest: DownloadManifestManager) -> None:
    assert manifest.add_each([]) == []


def test_it_is_one_line(manifest: DownloadManifestManager, path: Path) -> None:
    """All records go into one line of the log, which is there whole or not at all."""
    manifest.add_each([record(f"c{n}") for n in range(50)])
    lines = [line for one in segments_of(path.parent) for line in one.read_bytes().splitlines()]
    assert [line[:13] for line in lines] == [b'{"op":"open",', b'{"op":"batch"']


def test_duplicates_write_nothing(manifest: DownloadManifestManager, path: Path) -> None:
    manifest.add(record("a"))
    before = files_of(path.parent)
    manifest.add_each([record("a"), record("a", 5)])
    assert files_of(path.parent) == before


def test_each_event_has_its_attempt(manifest: DownloadManifestManager) -> None:
    """The history keeps what was said of each record, and nothing of another one."""
    manifest.add_each(
        [record("a", 1), record("b", 2), record("c", 3)], attempts=[{"status": 200}, None, {"seconds": 1.5}]
    )
    puts = manifest.history(kinds=[EventKind.PUT])
    assert {event.checksum: (event.status, event.seconds) for event in puts} == {
        sha("a"): (200, None),
        sha("b"): (None, None),
        sha("c"): (None, 1.5),
    }


def test_each_event_has_the_run(manifest: DownloadManifestManager) -> None:
    """Inside a run, every record of the batch belongs to it, with or without an attempt."""
    with manifest.run("fetch") as run:
        manifest.add_each([record("a", 1), record("b", 2)], attempts=[{"status": 200}, None])
    assert [event.run for event in manifest.history(kinds=[EventKind.PUT])] == [run.id, run.id]


def test_live_records_follow_their_sources_current_one(manifest: DownloadManifestManager) -> None:
    """With a clock behind, a live record is moved past the current one, and past those before it in the batch."""
    manifest.add(record("a", 10))
    found = manifest.add_each([record("b", 1), record("c", 2)], live=True)
    assert at(10) < found[0].record.ts_downloaded < found[1].record.ts_downloaded


def test_without_live_the_time_stays(manifest: DownloadManifestManager) -> None:
    manifest.add(record("a", 10))
    assert manifest.add_each([record("b", 1)])[0].record.ts_downloaded == at(1)


def test_a_rejected_record_writes_nothing(opener: Opener) -> None:
    """One record over the limit, and none of them is added."""
    manager = opener(options=replace(QUIET, record_bytes_max=600))
    with pytest.raises(RecordRejectedError):
        manager.add_each([record("a"), record("c", source="s" * 600)])
    assert len(manager) == 0


def test_a_record_that_grows_too_large_writes_nothing(opener: Opener) -> None:
    """A record that is rejected only when it is merged with the known one stops all of them."""
    manager = opener(options=replace(QUIET, record_bytes_max=900))
    manager.add(record("a", source="s" * 300))
    with pytest.raises(RecordRejectedError):
        manager.add_each([record("b"), record("a", 1, source="t" * 300)])
    assert list(manager) == [sha("a")]


@pytest.mark.parametrize("limit", [{"batch_records_max": 2}, {"batch_bytes_max": 500}])
def test_more_than_one_batch_is_refused(opener: Opener, limit: dict[str, int]) -> None:
    """What does not fit one line is refused, since it would not be one write."""
    manager = opener(options=replace(QUIET, **limit))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="one batch"):
        manager.add_each([record("a"), record("b"), record("c")])
    assert len(manager) == 0


def test_attempts_of_another_number_are_refused(manifest: DownloadManifestManager) -> None:
    with pytest.raises(ValueError, match="2 attempts for 1 records"):
        manifest.add_each([record("a")], attempts=[None, None])


def test_an_unknown_member_of_an_attempt_is_refused(manifest: DownloadManifestManager) -> None:
    with pytest.raises(ValueError, match="an attempt has no size"):
        manifest.add_each([record("a")], attempts=[{"size": 1}])


def test_verdicts_survive_a_reload(manifest: DownloadManifestManager, opener: Opener, path: Path) -> None:
    """Another opening reads the events of the batch as they were answered."""
    manifest.add_each([record("a", 1), record("b", 2)], attempts=[{"status": 200}, {"status": 206}])
    manifest.close()
    again = opener(path=path)
    found = [(event.verdict, event.status) for event in again.history(kinds=[EventKind.PUT])]
    assert found == [(Verdict.NEW, 200), (Verdict.CHANGED, 206)]
