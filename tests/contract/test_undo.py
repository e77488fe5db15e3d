"""`undo`: what was changed goes back to what it was, by new events, and never at the cost of a later change."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from manifestlog import (
    Change,
    CursorError,
    DownloadManifestManager,
    EventKind,
    HistoryReachError,
    ManifestError,
    ReadOnlyError,
    UndoConflictError,
)

from .builders import META, QUIET, T0, answers, record, sha
from .conftest import reopened
from .test_as_of import CHANGES, begin, everything, now

if TYPE_CHECKING:
    from pathlib import Path

    from manifestlog import Event

    from .conftest import Opener

pytestmark = pytest.mark.every_engine

SOURCE = SimpleNamespace(source_id="src", dataset="set")


@pytest.fixture
def manifest(opener: Opener) -> DownloadManifestManager:
    """Three contents, and a relative path."""
    found = opener()
    begin(found)
    return found


def held(manifest: DownloadManifestManager) -> object:
    """The records, byte by byte, and the root."""
    return list(manifest.snapshot().records()), manifest.metadata.root_dir


def last(manifest: DownloadManifestManager) -> Event:
    return next(manifest.history(reverse=True))


# -- to a time ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("merged", [False, True])
def test_everything_after_a_time_is_undone(manifest: DownloadManifestManager, change: str, *, merged: bool) -> None:
    moment, then = now(), held(manifest)
    CHANGES[change](manifest)
    if merged:
        manifest.save()
    manifest.undo(to=moment)
    assert held(manifest) == then


def test_all_changes_together_are_undone(manifest: DownloadManifestManager) -> None:
    moment, then = now(), held(manifest)
    for name, change in CHANGES.items():
        if "update" not in name:  # they change what others forget
            change(manifest)
    manifest.undo(to=moment)
    assert held(manifest) == then


def test_an_undo_survives_a_compaction_and_a_closing(manifest: DownloadManifestManager) -> None:
    moment, then = now(), held(manifest)
    manifest.forget(sha("a"))
    manifest.undo(to=moment)
    manifest.save()
    with reopened(manifest) as again:
        assert held(again) == then


def test_sources_are_answered_as_before(manifest: DownloadManifestManager) -> None:
    moment, then = now(), answers(manifest)
    manifest.add(record("x", 9))
    manifest.forget(sha("c"))
    manifest.undo(to=moment)
    assert answers(manifest)[-1] == then[-1]  # type: ignore[index]


def test_it_reports_what_it_changed(manifest: DownloadManifestManager) -> None:
    moment = now()
    manifest.add(record("x", 9))
    manifest.forget(sha("a"))
    manifest.add(record("c", 9, source="fifth"))
    done = manifest.undo(to=moment)
    assert {one.checksum: one.change for one in done.contents} == {
        sha("x"): Change.GONE,
        sha("a"): Change.ADDED,
        sha("c"): Change.CHANGED,
    }


def test_it_reports_the_metadata_that_it_changed(manifest: DownloadManifestManager) -> None:
    moment = now()
    manifest.relocate("/srv/etl", "/mnt/etl")
    assert manifest.undo(to=moment).metadata == {"root_dir": ("/mnt/etl", "/srv/etl")}


def test_nothing_to_undo_writes_nothing(manifest: DownloadManifestManager) -> None:
    cursor = manifest.cursor
    done = manifest.undo(to=now())
    assert (done.contents, done.metadata, done.run, manifest.cursor) == ([], {}, None, cursor)


def test_what_was_changed_back_is_left_alone(manifest: DownloadManifestManager) -> None:
    moment = now()
    manifest.add(record("x", 9))
    manifest.forget(sha("x"))
    assert manifest.undo(to=moment).contents == []


def test_the_past_is_still_there(manifest: DownloadManifestManager) -> None:
    before = now()
    manifest.forget(sha("a"))
    between, then = now(), everything(manifest)
    manifest.undo(to=before)
    assert everything(manifest.as_of(between)) == then


# -- one change --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", [name for name in CHANGES if "many" not in name and "batch" not in name])
def test_one_change_is_undone(manifest: DownloadManifestManager, change: str) -> None:
    then, begun = held(manifest), manifest.cursor
    CHANGES[change](manifest)
    events = list(manifest._engine.events_after(begun))
    for event in reversed(events):
        if event.is_change:
            manifest.undo(change=event.cursor, force=True)
    assert held(manifest) == then


def test_one_record_of_a_batch_is_undone(manifest: DownloadManifestManager) -> None:
    begun = manifest.cursor
    manifest.add_many([record("x", 9), record("y", 10), record("z", 11)])
    (second,) = (event for event in manifest._engine.events_after(begun) if event.checksum == sha("y"))
    manifest.undo(change=second.cursor)
    assert [name for name in "xyz" if sha(name) in manifest] == ["x", "z"]


def test_other_contents_keep_their_later_changes(manifest: DownloadManifestManager) -> None:
    manifest.forget(sha("a"))
    cursor = last(manifest).cursor
    manifest.add(record("x", 9))
    manifest.undo(change=cursor)
    assert (sha("a") in manifest, sha("x") in manifest) == (True, True)


def test_a_change_that_was_followed_by_another_is_refused(manifest: DownloadManifestManager) -> None:
    manifest.add(record("b", 9, etag='"1"'))
    cursor = last(manifest).cursor
    manifest.add(record("b", 10, etag='"2"'))
    with pytest.raises(
        UndoConflictError, match=f"{sha('b')} was changed again .* put with cursor {last(manifest).cursor}"
    ):
        manifest.undo(change=cursor)


def test_a_refused_undo_writes_nothing(manifest: DownloadManifestManager) -> None:
    manifest.add(record("b", 9, etag='"1"'))
    cursor = last(manifest).cursor
    manifest.add(record("b", 10, etag='"2"'))
    end = manifest.cursor
    with pytest.raises(UndoConflictError):
        manifest.undo(change=cursor)
    assert manifest.cursor == end


def test_force_reverses_the_later_changes_as_well(manifest: DownloadManifestManager) -> None:
    then = held(manifest)
    manifest.add(record("b", 9, etag='"1"'))
    cursor = last(manifest).cursor
    manifest.add(record("b", 10, etag='"2"'))
    manifest.undo(change=cursor, force=True)
    assert held(manifest) == then


def test_a_change_that_is_undone_already_is_left_alone(manifest: DownloadManifestManager) -> None:
    manifest.forget(sha("a"))
    cursor = last(manifest).cursor
    manifest.undo(change=cursor)
    assert manifest.undo(change=cursor).contents == []


def test_an_undo_that_was_undone_counts_as_a_later_change(manifest: DownloadManifestManager) -> None:
    manifest.forget(sha("a"))
    cursor = last(manifest).cursor
    manifest.undo(run=manifest.undo(change=cursor).run)
    with pytest.raises(UndoConflictError, match="by the event undo"):
        manifest.undo(change=cursor)


def test_an_interrupted_undo_is_completed_by_another(
    manifest: DownloadManifestManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    then = held(manifest)
    run = a_bad_run(manifest)

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(manifest._engine, "set_metadata", interrupted)
    with pytest.raises(KeyboardInterrupt):
        manifest.undo(run=run)
    monkeypatch.undo()
    manifest.undo(run=run)
    assert held(manifest) == then


def test_a_change_of_metadata_is_undone(manifest: DownloadManifestManager) -> None:
    manifest.relocate("/srv/etl", "/mnt/etl")
    (changed,) = manifest.history(kinds=[EventKind.META])
    manifest.undo(change=changed.cursor)
    assert str(manifest.metadata.root_dir) == "/srv/etl"


def test_a_later_change_of_the_same_metadata_is_a_conflict(manifest: DownloadManifestManager) -> None:
    manifest.relocate("/srv/etl", "/mnt/etl")
    manifest.relocate("/mnt/etl", "/opt/etl")
    first, _ = manifest.history(kinds=[EventKind.META])
    with pytest.raises(UndoConflictError, match="root_dir was changed again"):
        manifest.undo(change=first.cursor)


def test_an_event_that_changed_nothing_cannot_be_undone(manifest: DownloadManifestManager) -> None:
    manifest.fail(SOURCE, "no")
    with pytest.raises(ManifestError, match="is failed, which changes nothing"):
        manifest.undo(change=last(manifest).cursor)


@pytest.mark.parametrize("wrong", ["", "now", "x.1.2", "0"])
def test_no_cursor_of_an_event_is_an_error(manifest: DownloadManifestManager, wrong: str) -> None:
    with pytest.raises(CursorError):
        manifest.undo(change=wrong)


# -- a run -------------------------------------------------------------------------------------------------------------


def a_bad_run(manifest: DownloadManifestManager) -> str:
    with manifest.run("bad") as run:
        manifest.add(record("x", 9))
        manifest.add(record("b", 10, etag='"bad"'))
        manifest.add(record("b", 11, etag='"worse"'))
        manifest.add_many([record("y", 12), record("a", 13, source="other")])
        manifest.forget(sha("c"))
        manifest.relocate("/srv/etl", "/mnt/etl")
    return run.id


def test_a_run_is_undone_as_a_whole(manifest: DownloadManifestManager) -> None:
    then = held(manifest)
    run = a_bad_run(manifest)
    manifest.undo(run=run)
    assert held(manifest) == then


def test_changes_after_a_run_stay(manifest: DownloadManifestManager) -> None:
    run = a_bad_run(manifest)
    manifest.add(record("z", 20, source="later"))
    manifest.undo(run=run)
    assert (sha("z") in manifest, sha("x") in manifest) == (True, False)


def test_a_later_change_of_a_runs_content_is_a_conflict(manifest: DownloadManifestManager) -> None:
    run = a_bad_run(manifest)
    manifest.add(record("x", 20, source="later"))
    with pytest.raises(UndoConflictError, match=sha("x")):
        manifest.undo(run=run)


def test_a_change_of_others_during_the_run_is_a_conflict(manifest: DownloadManifestManager) -> None:
    with manifest.run("one") as run:
        manifest.add(record("b", 9, etag='"1"'))
        with manifest.run("two"):
            manifest.add(record("b", 10, etag='"2"'))
        manifest.add(record("b", 11, etag='"3"'))
    with pytest.raises(UndoConflictError):
        manifest.undo(run=run.id)


def test_a_run_that_changed_nothing_is_undone_by_nothing(manifest: DownloadManifestManager) -> None:
    with manifest.run("idle") as run:
        pass
    assert manifest.undo(run=run.id).contents == []


def test_an_unknown_run_is_named(manifest: DownloadManifestManager) -> None:
    with pytest.raises(ManifestError, match="has no run nightly"):
        manifest.undo(run="nightly")


# -- undoing an undo, and other circumstances --------------------------------------------------------------------------


def test_an_undo_is_undone_by_its_run(manifest: DownloadManifestManager) -> None:
    run = a_bad_run(manifest)
    then = held(manifest)
    undone = manifest.undo(run=run)
    assert undone.run is not None
    manifest.undo(run=undone.run)
    assert held(manifest) == then


def test_an_undo_of_an_undo_is_undone(manifest: DownloadManifestManager) -> None:
    then = held(manifest)
    run: str | None = a_bad_run(manifest)
    for _ in range(3):
        run = manifest.undo(run=run).run
    assert held(manifest) == then


def test_an_undo_to_a_time_is_undone_to_a_time(manifest: DownloadManifestManager) -> None:
    before = now()
    a_bad_run(manifest)
    after, then = now(), held(manifest)
    manifest.undo(to=before)
    manifest.undo(to=after)
    assert held(manifest) == then


def test_its_events_are_of_kind_undo_and_say_what_they_undid(manifest: DownloadManifestManager) -> None:
    manifest.forget(sha("a"))
    cursor = last(manifest).cursor
    manifest.undo(change=cursor)
    (event,) = manifest.history(kinds=[EventKind.UNDO])
    assert (event.checksum, event.details["undoes"]) == (sha("a"), f"change {cursor}")


def test_inside_a_run_it_belongs_to_the_run(manifest: DownloadManifestManager) -> None:
    manifest.forget(sha("a"))
    cursor = last(manifest).cursor
    with manifest.run("mend") as run:
        done = manifest.undo(change=cursor)
    (event,) = manifest.history(kinds=[EventKind.UNDO])
    assert (done.run, event.run) == (run.id, run.id)


@pytest.mark.parametrize("what", ["to", "change", "run"])
def test_a_dry_run_reports_the_same_and_writes_nothing(manifest: DownloadManifestManager, what: str) -> None:
    moment = now()
    with manifest.run("bad") as run:
        manifest.forget(sha("a"))
        choice = {"to": moment, "change": last(manifest).cursor, "run": run.id}[what]
    end = manifest.cursor
    planned = manifest.undo(**{what: choice}, dry_run=True)  # type: ignore[arg-type]
    assert manifest.cursor == end
    done = manifest.undo(**{what: choice})  # type: ignore[arg-type]
    assert (planned.contents, planned.run) == (done.contents, None)


def test_what_is_written_before_the_undo_counts(
    manifest: DownloadManifestManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another writer comes between the plan and its transaction."""
    moment, then = now(), held(manifest)
    engine = manifest._engine
    rewrite = engine.rewrite

    def late(*given: object, **more: object) -> None:
        manifest.add(record("late", 30, source="late"))
        rewrite(*given, **more)  # type: ignore[arg-type]

    manifest.add(record("x", 9))
    monkeypatch.setattr(engine, "rewrite", late)
    manifest.undo(to=moment)
    assert held(manifest) == then


def test_a_conflict_that_comes_before_the_undo_is_seen(
    manifest: DownloadManifestManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest.add(record("b", 9, etag='"1"'))
    cursor = last(manifest).cursor
    engine = manifest._engine
    rewrite = engine.rewrite

    def late(*given: object, **more: object) -> None:
        manifest.add(record("b", 10, etag='"2"'))
        rewrite(*given, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(engine, "rewrite", late)
    with pytest.raises(UndoConflictError):
        manifest.undo(change=cursor)
    monkeypatch.undo()
    assert (manifest.records[sha("b")].etag, manifest.add(record("x")).verdict) == ('"2"', "changed")


def test_what_another_thread_writes_during_an_undo_is_no_part_of_its_run(
    manifest: DownloadManifestManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = a_bad_run(manifest)
    engine = manifest._engine
    rewrite = engine.rewrite

    def beside(*given: object, **more: object) -> None:
        manifest.add(record("w", 50, source="w"))
        rewrite(*given, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(engine, "rewrite", beside)
    undone = manifest.undo(run=run)
    monkeypatch.undo()
    manifest.undo(run=undone.run)
    assert sha("w") in manifest


def test_an_undo_among_other_writers_loses_none_of_theirs(manifest: DownloadManifestManager) -> None:
    run = a_bad_run(manifest)
    stop = threading.Event()
    added: list[str] = []

    def write() -> None:
        while not stop.is_set():
            manifest.add(record(name := f"w{len(added)}", 50, source=name))
            added.append(sha(name))

    writer = threading.Thread(target=write)
    writer.start()
    for _ in range(5):
        run = manifest.undo(run=run).run or ""
    stop.set()
    writer.join()
    assert all(one in manifest for one in added)


@pytest.mark.parametrize("wrong", [{}, {"to": T0, "run": "r"}, {"change": "1", "run": "r"}])
def test_exactly_one_choice_is_asked_for(manifest: DownloadManifestManager, wrong: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="exactly one"):
        manifest.undo(**wrong)  # type: ignore[arg-type]


def test_a_time_before_the_history_is_out_of_reach(manifest: DownloadManifestManager) -> None:
    with pytest.raises(HistoryReachError, match="reaches back to"):
        manifest.undo(to=T0 - timedelta(days=1))


def test_a_time_in_the_future_is_a_value_error(manifest: DownloadManifestManager) -> None:
    with pytest.raises(ValueError, match="in the future"):
        manifest.undo(to=datetime.now(UTC) + timedelta(hours=1))


def test_the_past_cannot_be_undone(manifest: DownloadManifestManager) -> None:
    with pytest.raises(ManifestError, match="one moment"):
        manifest.as_of(now()).undo(to=T0)


def test_a_relocation_in_a_run_carries_its_id(manifest: DownloadManifestManager) -> None:
    with manifest.run("move") as run:
        manifest.relocate("/raw", "/moved")
    assert {event.run for event in manifest.history(kinds=[EventKind.RELOCATE])} == {run.id}


@pytest.mark.files_only
def test_a_read_only_manager_plans_and_does_not_undo(opener: Opener) -> None:
    with opener() as manifest:
        manifest.add(record("a"))
        manifest.forget(sha("a"))
        cursor = last(manifest).cursor
    reader = opener(None, read_only=True)
    assert len(reader.undo(change=cursor, dry_run=True).contents) == 1
    with pytest.raises(ReadOnlyError):
        reader.undo(change=cursor)


def test_what_the_history_has_lost_cannot_be_undone(path: Path, directory: Path) -> None:
    with DownloadManifestManager(path, META, options=QUIET) as manifest:
        with manifest.run("bad") as run:
            manifest.add(record("a"))
            manifest.save()
            manifest.add(record("b", 1))
        manifest.save()
        min((directory / "history").glob("*.jsonl")).unlink()
        with pytest.raises(HistoryReachError, match="the begin of the run"):
            manifest.undo(run=run.id)
