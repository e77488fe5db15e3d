"""`changes`: every event after a cursor, once and in order, or a reset with a snapshot; never a hole."""

from __future__ import annotations

import asyncio
import itertools
import shutil
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, cast

import pytest

from manifestlog import (
    CursorError,
    DownloadManifestManager,
    Event,
    EventKind,
    HistoryReachError,
    ManifestClosedError,
    ManifestOptions,
    ReadOnlyError,
    maintenance,
)
from manifestlog.engines.filelog.history import keep
from support.damage import flip

from .builders import META, QUIET, record, sha

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from pathlib import Path

    from .conftest import Opener

pytestmark = pytest.mark.every_engine

OFF = ManifestOptions(durability=QUIET.durability, auto_compact=False, compact_on_close=False, history="off")


def contents(events: list[Event]) -> list[str | None]:
    return [event.checksum for event in events]


def kinds(events: list[Event]) -> list[EventKind]:
    return [event.kind for event in events]


# -- from where --------------------------------------------------------------------------------------------------------


def test_without_a_cursor_everything_comes(manifest: DownloadManifestManager) -> None:
    """The beginning is the first event that the manifest ever had."""
    manifest.add(record("a"))
    manifest.forget(sha("a"))
    assert kinds(list(manifest.changes())) == [EventKind.PUT, EventKind.FORGET]


def test_an_empty_manifest_has_no_changes(manifest: DownloadManifestManager) -> None:
    """Nothing happened: nothing comes."""
    assert list(manifest.changes()) == []


def test_the_present_cursor_leaves_out_what_was(manifest: DownloadManifestManager) -> None:
    """`manifest.cursor` means from now on."""
    manifest.add(record("a"))
    now = manifest.cursor
    manifest.add(record("b", source="other"))
    assert contents(list(manifest.changes(now))) == [sha("b")]


def test_the_cursor_of_each_event_continues_after_it(manifest: DownloadManifestManager) -> None:
    """Wherever a follower stops, the next one receives the rest."""
    for content in "abc":
        manifest.add(record(content, source=content))
    manifest.add_many(record(content, source=content) for content in "def")
    found = list(manifest.changes())
    rests = [contents(list(manifest.changes(event.cursor))) for event in found]
    assert rests == [contents(found[number:]) for number in range(1, 7)]


def test_a_batch_comes_as_one_event_for_each_record(manifest: DownloadManifestManager) -> None:
    """Followers see records, not lines."""
    manifest.add_many(record(content, source=content) for content in "abc")
    assert contents(list(manifest.changes())) == [sha("a"), sha("b"), sha("c")]


def test_a_cursor_at_the_start_of_the_history_is_fine(manifest: DownloadManifestManager) -> None:
    """The cursor of an empty manifest stays valid when something is added."""
    now = manifest.cursor
    manifest.add(record("a"))
    assert contents(list(manifest.changes(now))) == [sha("a")]


@pytest.mark.parametrize("cursor", ["", "junk", "7.7.7", "ffffffff.1.10.00000000", "\x1b[1m", "9" * 400])
def test_a_cursor_that_is_none_of_this_manifest_is_refused(manifest: DownloadManifestManager, cursor: str) -> None:
    """Neither another manifest's cursor nor any other text."""
    manifest.add(record("a"))
    with pytest.raises(CursorError):
        list(manifest.changes(cursor))


def test_a_cursor_ahead_of_the_manifest_is_refused(path: Path, tmp_path: Path, opener: Opener) -> None:
    """A manifest that was restored from an older copy does not pretend to know the cursor."""
    manifest = opener()
    manifest.add(record("a"))
    shutil.copytree(path.parent, tmp_path / "copy")
    manifest.add(record("b", source="other"))
    with (
        DownloadManifestManager(tmp_path / "copy" / path.name, options=QUIET) as older,
        pytest.raises(CursorError, match="ahead"),
    ):
        list(older.changes(manifest.cursor))


# -- waiting -----------------------------------------------------------------------------------------------------------


def test_waiting_ends_when_nothing_comes(manifest: DownloadManifestManager) -> None:
    """`wait_s` is how long the last event may be past."""
    began = time.monotonic()
    assert list(manifest.changes(wait_s=0.1)) == []
    assert time.monotonic() - began >= 0.1


def test_a_waiting_follower_sees_what_another_thread_adds(manifest: DownloadManifestManager) -> None:
    """It comes while the iterator waits."""
    changes = manifest.changes(manifest.cursor, wait_s=None)
    writer = threading.Thread(target=lambda: manifest.add(record("a")))
    writer.start()
    assert next(changes).checksum == sha("a")
    writer.join()


def test_closing_the_manifest_ends_the_waiting_with_an_error(manifest: DownloadManifestManager) -> None:
    """A closed manager answers nothing."""
    changes = manifest.changes(wait_s=None)
    threading.Timer(0.05, manifest.close).start()
    with pytest.raises(ManifestClosedError):
        next(changes)


def test_the_asynchronous_form_returns_the_same(manifest: DownloadManifestManager) -> None:
    """The same events, the same end."""
    for content in "abc":
        manifest.add(record(content, source=content))

    async def collect() -> list[Event]:
        return [event async for event in manifest.achanges(wait_s=0.05)]

    assert asyncio.run(collect()) == list(manifest.changes())


def test_other_tasks_run_while_the_asynchronous_form_waits(manifest: DownloadManifestManager) -> None:
    """The task that adds the record is one of them."""

    async def both() -> Event:
        changes = manifest.achanges(manifest.cursor, wait_s=None)
        adding = asyncio.get_running_loop().call_later(0.03, manifest.add, record("a"))
        found = await anext(changes)
        adding.cancel()
        await cast("AsyncGenerator[Event, None]", changes).aclose()
        return found

    assert asyncio.run(both()).checksum == sha("a")


# -- compactions, packs, copies ----------------------------------------------------------------------------------------


def test_compactions_do_not_disturb_a_follower(path: Path, opener: Opener) -> None:
    """Whether a segment is live or in the history is all one to it."""
    manifest = opener()
    changes = manifest.changes(wait_s=0.0)
    seen = []
    for number in range(6):
        manifest.add(record(str(number), source=str(number)))
        manifest.compact()
    seen = contents(list(changes))
    assert seen == [sha(str(number)) for number in range(6)]


def test_packing_does_not_disturb_a_follower(path: Path, opener: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cursor made before the segments were packed is valid after it."""
    monkeypatch.setattr(keep, "SEGMENTS_MAX", 3)
    manifest = opener()
    cursors = [manifest.cursor]
    for number in range(8):
        manifest.add_many([record(str(number), source=str(number)), record(f"{number}b", source=f"{number}b")])
        cursors += [event.cursor for event in manifest.changes(cursors[-1])]
        manifest.compact()
    rests = [len(list(manifest.changes(cursor))) for cursor in cursors]
    assert rests == list(range(16, -1, -1))


def test_a_cursor_is_valid_in_a_copy_of_the_folder(path: Path, tmp_path: Path, opener: Opener) -> None:
    """Backup and restore keep followers."""
    manifest = opener()
    manifest.add(record("a"))
    cursor = manifest.cursor
    manifest.compact()
    manifest.add(record("b", source="other"))
    shutil.copytree(path.parent, tmp_path / "copy")
    with DownloadManifestManager(tmp_path / "copy" / path.name, options=QUIET) as copy:
        assert contents(list(copy.changes(cursor))) == [sha("b")]


# -- resets ------------------------------------------------------------------------------------------------------------


def _cut(opener: Opener) -> tuple[DownloadManifestManager, str]:
    """A manifest without history, and a cursor before its first record."""
    manifest = opener(options=OFF)
    manifest.add(record("a"))
    cursor = next(manifest.changes()).cursor
    manifest.add(record("b", source="other"))
    manifest.compact()
    return manifest, cursor


@pytest.mark.parametrize("age", ["999999d", "999999999999w"])
def test_an_age_that_reaches_back_beyond_all_times_cuts_nothing(opener: Opener, age: str) -> None:
    manifest = opener(options=replace(OFF, history=age))
    manifest.add(record("a"))
    manifest.compact()
    assert contents(list(manifest.changes())) == [sha("a")]


def test_a_cut_history_is_said_by_a_reset_and_a_snapshot(path: Path, opener: Opener) -> None:
    """Never a hole: the follower gets everything that is there now."""
    manifest, cursor = _cut(opener)
    found = list(manifest.changes(cursor))
    assert kinds(found) == [EventKind.RESET, EventKind.SNAPSHOT, EventKind.SNAPSHOT]


def test_the_snapshot_holds_the_present_records(path: Path, opener: Opener) -> None:
    """Each with its whole row."""
    manifest, cursor = _cut(opener)
    rows = [event.row for event in manifest.changes(cursor) if event.kind is EventKind.SNAPSHOT]
    assert rows == list(manifest.snapshot().rows())


def test_after_the_snapshot_the_follower_goes_on(path: Path, opener: Opener) -> None:
    """With the events after that moment."""
    manifest, cursor = _cut(opener)
    last = list(manifest.changes(cursor))[-1]
    manifest.add(record("c", source="third"))
    assert contents(list(manifest.changes(last.cursor))) == [sha("c")]


def test_a_follower_that_stops_inside_a_snapshot_starts_it_again(path: Path, opener: Opener) -> None:
    """The cursor of an unfinished snapshot is the old one."""
    manifest, cursor = _cut(opener)
    begun = list(itertools.islice(manifest.changes(cursor), 2))
    assert kinds(list(manifest.changes(begun[-1].cursor)))[0] is EventKind.RESET


def test_an_empty_manifest_with_a_cut_history_is_a_reset_alone(path: Path, opener: Opener) -> None:
    """The cursor of that reset is the present."""
    manifest, cursor = _cut(opener)
    manifest.forget(sha("a"))
    manifest.forget(sha("b"))
    manifest.compact()
    (reset,) = manifest.changes(cursor)
    assert list(manifest.changes(reset.cursor)) == []


def test_from_the_beginning_of_a_cut_history_is_a_reset(path: Path, opener: Opener) -> None:
    """The first events are gone."""
    manifest, _ = _cut(opener)
    assert kinds(list(manifest.changes()))[0] is EventKind.RESET


def test_a_repair_is_a_reset(path: Path, opener: Opener) -> None:
    """What stands in quarantine is no history."""
    manifest = opener()
    manifest.add(record("a"))
    cursor = manifest.cursor
    manifest.add(record("b", source="other"))
    manifest.add(record("c", source="third"))
    manifest.close()
    segment = next(path.parent.glob("*.wal-*.jsonl"))
    flip(segment, 10)
    maintenance.repair(path)
    with DownloadManifestManager(path, options=QUIET) as repaired:
        assert kinds(list(repaired.changes(cursor)))[0] is EventKind.RESET


def test_a_line_that_was_replaced_by_another_is_a_reset(path: Path, opener: Opener) -> None:
    """A power cut took what the follower saw, and something else was written there."""
    manifest = opener()
    manifest.add(record("a"))
    manifest.close()
    (segment,) = path.parent.glob("*.wal-*.jsonl")
    before = segment.read_bytes()
    with opener() as manifest:
        manifest.add(record("b", source="other"))
        cursor = manifest.cursor
    segment.write_bytes(before)
    with opener() as manifest:
        manifest.add(record("c", source="other"))
        manifest.add(record("d", source="fourth"))
        found = list(manifest.changes(cursor))
    assert found[0].kind is EventKind.RESET


# -- registered followers ----------------------------------------------------------------------------------------------


def test_a_registration_is_kept_by_its_name(manifest: DownloadManifestManager) -> None:
    """It says how far the follower has come."""
    manifest.register_follower("mirror", manifest.cursor)
    assert manifest.followers()["mirror"].cursor == manifest.cursor


def test_registering_again_replaces_the_cursor(manifest: DownloadManifestManager) -> None:
    """A follower has one position."""
    manifest.register_follower("mirror", manifest.cursor)
    manifest.add(record("a"))
    manifest.register_follower("mirror", manifest.cursor)
    assert [found.cursor for found in manifest.followers().values()] == [manifest.cursor]


def test_a_registration_can_be_removed(manifest: DownloadManifestManager) -> None:
    """Then the history waits for it no more."""
    manifest.register_follower("mirror", manifest.cursor)
    assert (manifest.remove_follower("mirror"), manifest.followers()) == (True, {})


def test_removing_an_unknown_follower_says_so(manifest: DownloadManifestManager) -> None:
    """It was not there."""
    assert not manifest.remove_follower("mirror")


@pytest.mark.parametrize("name", ["", "a/b", "..", "a b", "x" * 65, "-x", "é"])
def test_a_follower_needs_a_plain_name(manifest: DownloadManifestManager, name: str) -> None:
    """It becomes part of a file's name."""
    with pytest.raises(ValueError, match="name of a follower"):
        manifest.register_follower(name, manifest.cursor)


@pytest.mark.parametrize("age", ["", "30", "1GiB", "forever", "off", "0d", "99999w"])
def test_a_registration_needs_an_age(manifest: DownloadManifestManager, age: str) -> None:
    """Not a size, not for ever."""
    with pytest.raises(ValueError, match="age such as 30d"):
        manifest.register_follower("mirror", manifest.cursor, keep=age)


def test_a_registration_needs_a_cursor_of_this_manifest(manifest: DownloadManifestManager) -> None:
    """Another one would keep nothing."""
    with pytest.raises(CursorError):
        manifest.register_follower("mirror", "junk")


def test_a_read_only_manager_registers_nothing(path: Path, opener: Opener) -> None:
    """It writes nothing at all."""
    opener().close()
    manifest = opener(None, read_only=True)
    with pytest.raises(ReadOnlyError):
        manifest.register_follower("mirror", manifest.cursor)


def _after(opener: Opener, prepare: Callable[[DownloadManifestManager, str], object]) -> list[EventKind]:
    """What a follower sees after compactions that keep no history, with this done before them."""
    manifest = opener(options=OFF)
    manifest.add(record("a"))
    cursor = manifest.cursor
    prepare(manifest, cursor)
    for content in "bcd":
        manifest.add(record(content, source=content))
        manifest.compact()
    return kinds(list(manifest.changes(cursor)))


def test_what_a_registered_follower_needs_is_kept_although_the_history_is_off(path: Path, opener: Opener) -> None:
    """Its floor is above the option."""
    found = _after(opener, lambda manifest, cursor: manifest.register_follower("mirror", cursor))
    assert found == [EventKind.PUT] * 3


def test_without_a_registration_it_is_not_kept(path: Path, opener: Opener) -> None:
    """The option says so."""
    assert _after(opener, lambda *_: None)[0] is EventKind.RESET


def test_a_registration_whose_time_is_over_keeps_nothing(path: Path, opener: Opener) -> None:
    """A follower that never comes back does not fill the disk."""

    def expired(manifest: DownloadManifestManager, cursor: str) -> None:
        found = manifest.register_follower("mirror", cursor, keep="1h")
        past = (datetime.now(UTC) - timedelta(hours=2)).isoformat()
        manifest._engine.set_follower(found._replace(ts=past))

    assert _after(opener, expired)[0] is EventKind.RESET


def test_a_registration_that_moves_on_releases_the_history(path: Path, opener: Opener) -> None:
    """What it has seen is cut at the next compaction."""
    manifest = opener(options=OFF)
    manifest.register_follower("mirror", manifest.cursor)
    for content in "abc":
        manifest.add(record(content, source=content))
        manifest.compact()
    kept = list((path.parent / "history").glob("*.wal-*"))
    manifest.register_follower("mirror", manifest.cursor)
    manifest.add(record("d", source="d"))
    manifest.compact()
    assert len(list((path.parent / "history").glob("*.wal-*"))) < len(kept)


def test_a_damaged_registration_keeps_everything(path: Path, opener: Opener) -> None:
    """Nothing is cut on a guess."""

    def damage(manifest: DownloadManifestManager, cursor: str) -> None:
        manifest.register_follower("mirror", cursor)
        next((path.parent / "history").glob("*.follower-*")).write_bytes(b"junk")

    assert _after(opener, damage) == [EventKind.PUT] * 3


def test_check_names_a_damaged_registration(path: Path, opener: Opener) -> None:
    """It is no damage: no record and no event is affected."""
    manifest = opener()
    manifest.register_follower("mirror", manifest.cursor)
    file = next((path.parent / "history").glob("*.follower-*"))
    file.write_bytes(b"junk")
    (found,) = maintenance.check(path).findings
    assert (found.level, found.file) == ("note", str(file))


def test_a_registration_of_a_follower_survives_the_manager(path: Path, opener: Opener) -> None:
    """It is a file."""
    manifest = opener()
    manifest.register_follower("mirror", manifest.cursor)
    manifest.close()
    assert list(opener(None).followers()) == ["mirror"]


def test_an_earlier_time_has_no_changes(manifest: DownloadManifestManager) -> None:
    """One moment has no history."""
    manifest.add(record("a"))
    with pytest.raises(Exception, match="one moment"):
        list(manifest.as_of(datetime.now(UTC)).changes())


def test_the_engine_says_when_a_cursor_is_out_of_reach(path: Path, opener: Opener) -> None:
    """`changes` turns that into a reset."""
    manifest, cursor = _cut(opener)
    with pytest.raises(HistoryReachError):
        manifest._engine.events_after(cursor)


def test_metadata_are_unchanged_by_following(path: Path, opener: Opener) -> None:
    """Following only reads."""
    manifest = opener()
    list(manifest.changes())
    assert manifest.metadata == META
