"""The verdict table, row by row; each row in the log alone, after a compaction, and after reopening."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from manifestlog import DownloadManifestManager, ManifestRecord, Verdict

from .builders import at, meta, record, segments_of, sha
from .conftest import reopened

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .conftest import Opener

pytestmark = pytest.mark.every_engine


A, B = "alpha", "beta"

TABLE: dict[str, tuple[list[ManifestRecord], ManifestRecord, Verdict]] = {
    "new in an empty manifest": ([], record(A), Verdict.NEW),
    "new from a second source": ([record(A)], record(B, source="other"), Verdict.NEW),
    "new for the same source_id in another dataset": ([record(A)], record(B, dataset="other"), Verdict.NEW),
    "changed by a later event": ([record(A, 1)], record(B, 2), Verdict.CHANGED),
    "changed by an older event": ([record(A, 2)], record(B, 1), Verdict.CHANGED),
    "changed by an event at the same time": ([record(A, 1)], record(B, 1), Verdict.CHANGED),
    "duplicate, word for word": ([record(A, 1)], record(A, 1), Verdict.DUPLICATE),
    "duplicate at a later time": ([record(A, 1)], record(A, 2), Verdict.DUPLICATE),
    "duplicate by another version": ([record(A, 1)], record(A, 1, version="9"), Verdict.DUPLICATE),
    "duplicate of what the source had before, older": ([record(A, 1), record(B, 3)], record(A, 2), Verdict.DUPLICATE),
    "duplicate of what the source had before, same time": (
        [record(A, 1), record(B, 3)],
        record(A, 3),
        Verdict.DUPLICATE,
    ),
    "duplicate of what the source had before, with another ETag": (
        [record(A, 1), record(B, 3)],
        record(A, 2, etag="x"),
        Verdict.DUPLICATE,
    ),
    "duplicate of the loser of a tie": ([record(A, 1), record(B, 1)], record(A, 1), Verdict.DUPLICATE),
    "duplicate of the winner of a tie": ([record(A, 1), record(B, 1)], record(B, 1), Verdict.DUPLICATE),
    "duplicate in one of two datasets": (
        [record(A, 1), record(A, 1, dataset="other")],
        record(A, 1),
        Verdict.DUPLICATE,
    ),
    "duplicate in the earlier of two datasets": (
        [record(A, 1), record(A, 2, dataset="other")],
        record(A, 2),
        Verdict.DUPLICATE,
    ),
    "refreshed in the earlier of two datasets": (
        [record(A, 1), record(A, 2, dataset="other")],
        record(A, 2, etag="x"),
        Verdict.REFRESHED,
    ),
    "changed in the earlier of two datasets": (
        [record(A, 1), record(A, 2, dataset="other")],
        record(B, 3),
        Verdict.CHANGED,
    ),
    "refreshed by another ETag": ([record(A, 1)], record(A, 2, etag="x"), Verdict.REFRESHED),
    "refreshed by the loss of the ETag": ([record(A, 1, etag="x")], record(A, 2), Verdict.REFRESHED),
    "refreshed by another last_modified": ([record(A, 1)], record(A, 2, last_modified="x"), Verdict.REFRESHED),
    "refreshed by another path": ([record(A, 1)], record(A, 2, file_path="/elsewhere"), Verdict.REFRESHED),
    "refreshed at the same time": ([record(A, 1)], record(A, 1, etag="x"), Verdict.REFRESHED),
    "refreshed winner of a tie": ([record(A, 1), record(B, 1)], record(B, 1, etag="x"), Verdict.REFRESHED),
    "reverted": ([record(A, 1), record(B, 2)], record(A, 3), Verdict.REVERTED),
    "reverted after a tie": ([record(A, 1), record(B, 1)], record(A, 2), Verdict.REVERTED),
    "reverted to what came late and never was current": ([record(B, 2), record(A, 1)], record(A, 3), Verdict.REVERTED),
    "alias from another source": ([record(A, 1)], record(A, 2, source="other"), Verdict.ALIAS),
    "alias from an older event": ([record(A, 2)], record(A, 1, source="other"), Verdict.ALIAS),
    "alias in another dataset": ([record(A, 1)], record(A, 2, dataset="other"), Verdict.ALIAS),
    "alias from a source that has other content": (
        [record(A, 1), record(B, 1, source="other")],
        record(A, 2, source="other"),
        Verdict.ALIAS,
    ),
}


def _as_it_is(manager: DownloadManifestManager) -> DownloadManifestManager:
    return manager


def _compacted(manager: DownloadManifestManager) -> DownloadManifestManager:
    manager.save()
    return manager


def _reopened(manager: DownloadManifestManager) -> DownloadManifestManager:
    return reopened(manager)


def _compacted_and_reopened(manager: DownloadManifestManager) -> DownloadManifestManager:
    return _reopened(_compacted(manager))


@pytest.fixture(params=[_as_it_is, _compacted, _reopened, _compacted_and_reopened], ids=lambda f: f.__name__[1:])
def between(request: pytest.FixtureRequest) -> Callable[[DownloadManifestManager], DownloadManifestManager]:
    """What happens between the history and the event."""
    chosen: Callable[[DownloadManifestManager], DownloadManifestManager] = request.param
    return chosen


@pytest.mark.parametrize("row", TABLE)
def test_the_table_decides(
    manifest: DownloadManifestManager, between: Callable[..., DownloadManifestManager], row: str
) -> None:
    """Each row of the table is answered with its verdict."""
    history, event, expected = TABLE[row]
    for earlier in history:
        manifest.add(earlier)
    with between(manifest) as manager:
        assert manager.add(event).verdict is expected


@pytest.mark.parametrize("row", TABLE)
def test_a_batch_decides_alike(manifest: DownloadManifestManager, row: str) -> None:
    """`add_many` of history and event together gives the verdict that `add` would give."""
    history, event, expected = TABLE[row]
    one_by_one = [manifest.add(earlier).verdict for earlier in history]
    manifest.forget(sha(A))
    manifest.forget(sha(B))
    counts = manifest.add_many([*history, event])
    assert counts == {v: [*one_by_one, expected].count(v) for v in Verdict}


@pytest.mark.parametrize("row", [row for row in TABLE if TABLE[row][2] is Verdict.DUPLICATE])
def test_a_duplicate_appends_nothing(manifest: DownloadManifestManager, path: Path, row: str) -> None:
    """A duplicate leaves the log as it was."""
    history, event, _ = TABLE[row]
    for earlier in history:
        manifest.add(earlier)
    before = segments_of(path.parent)[-1].read_bytes()
    manifest.add(event)
    assert segments_of(path.parent)[-1].read_bytes() == before


@pytest.mark.parametrize("row", [row for row in TABLE if TABLE[row][2] is not Verdict.DUPLICATE])
def test_everything_else_appends_one_put(manifest: DownloadManifestManager, path: Path, row: str) -> None:
    """Any other verdict appends one `put` line."""
    history, event, _ = TABLE[row]
    for earlier in history:
        manifest.add(earlier)
    before = sum(s.read_bytes().count(b'{"op":"put"') for s in segments_of(path.parent))
    manifest.add(event)
    assert segments_of(path.parent)[-1].read_bytes().count(b'{"op":"put"') == before + 1


@pytest.mark.parametrize(
    ("row", "current"),
    [
        ("changed by a later event", B),
        ("changed by an older event", A),
        ("changed by an event at the same time", B),
        ("duplicate of what the source had before, older", B),
        ("duplicate of the loser of a tie", B),
        ("refreshed winner of a tie", B),
        ("reverted", A),
        ("reverted after a tie", A),
        ("alias from a source that has other content", A),
    ],
)
def test_the_current_record_afterwards(
    manifest: DownloadManifestManager, between: Callable[..., DownloadManifestManager], row: str, current: str
) -> None:
    """The latest event is the source's current record; on a tie the later in the log."""
    history, event, _ = TABLE[row]
    for each in [*history, event]:
        manifest.add(each)
    with between(manifest) as manager:
        found = manager.get_record_by_source("src", "set")
        assert found is not None
        assert found.checksum == sha(current)


def test_a_tie_is_kept_through_a_batch_line(opener: Opener) -> None:
    """Of two contents at one time in one batch, the later one is current, also after a compaction."""
    manager = opener()
    manager.add_many([record(A, 1), record(B, 1)])
    manager.save()
    found = manager.get_record_by_source("src")
    assert found is not None
    assert found.checksum == sha(B)


@pytest.mark.parametrize("contents", [(A, B), (B, A), ("c", "d"), ("d", "c"), ("e", "f"), ("f", "e")])
def test_a_tie_across_datasets_goes_to_the_later_in_the_log(
    manifest: DownloadManifestManager, between: Callable[..., DownloadManifestManager], contents: tuple[str, str]
) -> None:
    """Without a dataset, two datasets at one time are told apart by their order in the log."""
    first, second = contents
    manifest.add(record(first, 1, dataset=first))
    manifest.add(record(second, 1, dataset=second))
    with between(manifest) as manager:
        found = manager.get_record_by_source("src")
        assert found is not None
        assert found.checksum == sha(second)


@pytest.mark.parametrize("datasets", [("a", "b"), ("b", "a")])
def test_a_refresh_wins_a_tie_across_datasets(
    manifest: DownloadManifestManager, between: Callable[..., DownloadManifestManager], datasets: tuple[str, str]
) -> None:
    """A refresh at the time of another dataset's record is the later in the log, so it answers for the source."""
    one, other = datasets
    manifest.add(record(A, 0, dataset=one))
    manifest.add(record(B, 1, dataset=other))
    manifest.add(record(A, 1, dataset=one, etag="x"))
    with between(manifest) as manager:
        found = manager.get_record_by_source("src")
        assert found is not None
        assert found.dataset == one


def test_a_tie_is_decided_once_for_a_long_line_of_contents(manifest: DownloadManifestManager) -> None:
    """Twenty contents of one source at one time: the last one written is current, through three compactions."""
    for number in range(20):
        manifest.add(record(f"content {number}", 1))
        if number % 7 == 6:
            manifest.save()
    found = manifest.get_record_by_source("src")
    assert found is not None
    assert found.checksum == sha("content 19")


@pytest.mark.parametrize("contents", [(A, B), (B, A)])
def test_a_tie_below_the_current_record_is_kept(
    manifest: DownloadManifestManager, between: Callable[..., DownloadManifestManager], contents: tuple[str, str]
) -> None:
    """Two late contents of one time: when the newest is forgotten, the later in the log of the two is current."""
    first, second = contents
    manifest.add(record("newest", 2))
    manifest.add(record(first, 1))
    manifest.add(record(second, 1))
    manifest.forget(sha("newest"))
    with between(manifest) as manager:
        found = manager.get_record_by_source("src")
        assert found is not None
        assert found.checksum == sha(second)


def test_a_duplicate_keeps_the_time_of_the_record(manifest: DownloadManifestManager) -> None:
    """What a duplicate brings is not stored, its time neither."""
    manifest.add(record(A, 1))
    manifest.add(record(A, 2))
    found = manifest.get(sha(A))
    assert found is not None
    assert found.ts_downloaded == at(1)


def test_a_refresh_replaces_the_observation(manifest: DownloadManifestManager) -> None:
    """After a refresh the source's record is the event, word for word."""
    manifest.add(record(A, 1, etag="old"))
    event = record(A, 2, etag="new", file_path="/new", last_modified="now", version="2")
    manifest.add(event)
    assert manifest.get_record_by_source("src") == event


def test_a_refresh_keeps_no_old_observation(manifest: DownloadManifestManager) -> None:
    """One source that delivers one content twice was seen once."""
    manifest.add(record(A, 1, etag="old"))
    assert manifest.add(record(A, 2, etag="new")).record.also_seen == ()


def test_an_older_event_does_not_take_back_the_newest_etag(manifest: DownloadManifestManager) -> None:
    """The next conditional request carries the newest ETag, whatever order events arrive in."""
    manifest.add(record(A, 2, etag="new"))
    manifest.add(record(A, 1, etag="old"))
    found = manifest.get_record_by_source("src")
    assert found is not None
    assert found.etag == "new"


def test_an_alias_keeps_the_earlier_source(
    manifest: DownloadManifestManager, between: Callable[..., DownloadManifestManager]
) -> None:
    """The earlier source of a content still finds it, with its own path, ETag and time."""
    mine = record(A, 1, etag="mine", file_path="/mine")
    manifest.add(mine)
    manifest.add(record(A, 2, source="other", etag="other", file_path="/other"))
    with between(manifest) as manager:
        found = manager.get_record_by_source("src")
        assert found is not None
        assert found.model_copy(update={"also_seen": ()}) == mine


def test_an_alias_is_stored_once(manifest: DownloadManifestManager) -> None:
    """Two sources of one content make one record."""
    manifest.add(record(A, 1))
    manifest.add(record(A, 2, source="other"))
    assert list(manifest) == [sha(A)]


def test_the_latest_observation_is_in_the_records_own_fields(manifest: DownloadManifestManager) -> None:
    """A record shows who delivered it last."""
    manifest.add(record(A, 1))
    manifest.add(record(A, 2, source="other"))
    found = manifest.get(sha(A))
    assert found is not None
    assert found.source_id == "other"


def test_an_older_alias_goes_to_also_seen(manifest: DownloadManifestManager) -> None:
    """An alias from before does not take the place of the latest observation."""
    manifest.add(record(A, 2))
    manifest.add(record(A, 1, source="other"))
    found = manifest.get(sha(A))
    assert found is not None
    assert [seen.source_id for seen in found.also_seen] == ["other"]


def test_the_answer_holds_the_record_as_its_source_sees_it(manifest: DownloadManifestManager) -> None:
    """The record in the answer has the event's own source in front, although another was later."""
    manifest.add(record(A, 2))
    answer = manifest.add(record(A, 1, source="other", file_path="/other"))
    assert (answer.record.source_id, str(answer.record.file_path)) == ("other", "/other")


def test_the_answer_to_a_duplicate_holds_what_is_stored(manifest: DownloadManifestManager) -> None:
    """A duplicate is answered with the stored record, not with the event."""
    stored = manifest.add(record(A, 1)).record
    assert manifest.add(record(A, 2, version="9")).record == stored


def test_upper_case_is_the_same_content(manifest: DownloadManifestManager) -> None:
    """`AB…` and `ab…` are one content."""
    manifest.add(record(A))
    assert manifest.add(record(A, checksum=sha(A).upper())).verdict is Verdict.DUPLICATE


def test_a_verdict_is_its_word() -> None:
    """`Verdict` is a string enumeration of the six words."""
    assert [str(v) for v in Verdict] == ["new", "duplicate", "refreshed", "alias", "changed", "reverted"]


def test_an_answer_unpacks_to_verdict_and_record(manifest: DownloadManifestManager) -> None:
    """`AddResult` is (verdict, record)."""
    verdict, stored = manifest.add(record(A))
    assert (verdict, stored) == (Verdict.NEW, record(A))


def test_the_canonical_alone_remembers_ties(opener: Opener, path: Path, tmp_path: Path) -> None:
    """A canonical copied away without its log still knows which of two records at one time is current."""
    manager = opener(meta(etl_version="2"))
    manager.add_many([record(A, 1), record(B, 1), record("c", 1)])
    manager.save()
    copy = tmp_path / "copy" / path.name
    copy.parent.mkdir()
    copy.write_bytes(path.read_bytes())
    found = opener(None, path=copy).get_record_by_source("src")
    assert found is not None
    assert found.checksum == sha("c")
