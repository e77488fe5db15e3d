"""Followers see every event once, in one order, without a hole, whatever order transactions begin in."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from contract.builders import record, sha
from manifestlog import CursorError, HistoryReachError, Verdict
from manifestlog.engines.postgres.values import LANES, lane_of

from .places import engine_of, opened

if TYPE_CHECKING:
    from collections.abc import Callable

    from manifestlog import DownloadManifestManager
    from support.children import Link, Start

    from .places import Place

SOURCES = {lane_of(f"s{number}", LANES): f"s{number}" for number in range(100)}
"""A source in each lane."""


def test_a_writer_that_sleeps_before_its_commit_leaves_no_hole(place: Place, manifest: DownloadManifestManager) -> None:
    """It has its number already. Whoever commits meanwhile waits for it: its number would be the next one."""
    manifest.add(record("a", source=SOURCES[0]))
    feed = manifest.feed()
    seen = [event.checksum for event in feed.new()]
    with place.connect() as sleeper:
        sleeper.execute("BEGIN")
        sleeper.execute("UPDATE manifestlog.feed SET seq = seq + 1, ts = ts + 1")
        sleeper.execute(
            "INSERT INTO manifestlog.log (manifest_id, seq, ts, kind, details)"
            " SELECT manifest_id, seq, ts, 'failed', '{\"error\":\"slow\"}' FROM manifestlog.feed"
        )
        writer = threading.Thread(target=lambda: manifest.add(record("b", source=SOURCES[1])))
        writer.start()
        assert list(feed.new()) == []
        sleeper.execute("COMMIT")
    writer.join()
    assert [*seen, *(event.checksum or event.error for event in feed.new())] == [sha("a"), "slow", sha("b")]


def test_a_writer_that_thinks_holds_up_no_other_source(place: Place, manifest: DownloadManifestManager) -> None:
    with place.connect() as thinker:
        thinker.execute("BEGIN")
        thinker.execute("SELECT * FROM manifestlog.lane WHERE lane = 3 FOR UPDATE")
        assert manifest.add(record("a", source=SOURCES[4])).verdict is Verdict.NEW


def test_a_writer_that_thinks_holds_up_its_own_source(
    place: Place, opener: Callable[..., DownloadManifestManager]
) -> None:
    manifest = opener()
    with place.connect() as thinker:
        thinker.execute("BEGIN")
        thinker.execute("SELECT * FROM manifestlog.lane WHERE lane = 3 FOR UPDATE")
        writer = threading.Thread(target=lambda: manifest.add(record("a", source=SOURCES[3])))
        writer.start()
        writer.join(0.2)
        assert writer.is_alive()
        thinker.execute("COMMIT")
    writer.join()
    assert len(manifest) == 1


def fill(link: Link, url: str, number: int) -> dict[str, int]:
    """Child process: add what the others add, and something of its own; return how often it heard each verdict."""
    heard: dict[str, int] = {}
    with opened(url) as manifest:
        link.send("ready")
        link.recv()
        for each in range(30):
            for content, source in ((f"common {each}", f"source {number}"), (f"own {number} {each}", f"s{number}")):
                verdict = manifest.add(record(content, each, source=source)).verdict
                heard[verdict] = heard.get(verdict, 0) + 1
    return heard


def test_of_eight_processes_one_wins_each_content_and_a_follower_misses_nothing(
    place: Place, manifest: DownloadManifestManager, start: Start
) -> None:
    children = [start(fill, place.url(), number) for number in range(8)]
    for child in children:
        child.receive()
    feed, seen = manifest.feed(), []
    for child in children:
        child.send("go")
    while any(child.status is None and not child.link.poll() for child in children):
        seen += list(feed.new())
    heard = [child.result() for child in children]
    seen += list(feed.new())
    firsts = sum(one.get("new", 0) + one.get("changed", 0) for one in heard)
    written = sum(sum(one.values()) - one.get("duplicate", 0) for one in heard)
    assert (firsts, len(manifest), len(seen), written) == (270, 270, 480, 480)
    assert [event.cursor for event in seen] == [event.cursor for event in manifest.history()]


def test_a_cursor_of_an_event_that_a_crash_took_back_is_out_of_reach(
    place: Place, manifest: DownloadManifestManager
) -> None:
    """Another event has its number now."""
    manifest.add(record("a"))
    manifest.add(record("b", 1))
    place.execute("UPDATE manifestlog.log SET ts = ts + 5 WHERE seq = 1")
    with pytest.raises(HistoryReachError):
        engine_of(manifest).events_after(next(iter(manifest.history())).cursor.rpartition(".")[0] + ".1")


def test_a_cursor_ahead_of_the_end_is_refused(place: Place, manifest: DownloadManifestManager) -> None:
    """As after a restore from an older backup."""
    manifest.add(record("a"))
    cursor = manifest.cursor
    place.execute("UPDATE manifestlog.feed SET seq = 0")
    with pytest.raises(CursorError, match="ahead"):
        list(manifest.changes(cursor))


def test_a_missing_event_is_damage(place: Place, manifest: DownloadManifestManager) -> None:
    manifest.add_many(record(content, source=content) for content in "abc")
    place.execute("DELETE FROM manifestlog.log WHERE seq = 2")
    with pytest.raises(Exception, match="the event 2 is missing"):
        list(manifest.changes())
