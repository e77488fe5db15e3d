"""A standby: what it answers, and what its promotion takes back if it did not have everything yet."""

from __future__ import annotations

import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from cli.program import Program
from contract.builders import META, record, sha
from manifestlog import (
    CursorError,
    DownloadManifestManager,
    EventKind,
    IndeterminateWriteError,
    ManifestOptions,
    ServerError,
    Verdict,
    maintenance,
)
from manifestlog.mirroring import Mirror
from support.children import PATIENCE_S, time_limit
from support.postgres import DURABLE, FAST, serving

from .places import engine_of
from .test_promotion import standby

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from concurrent.futures import Future
    from pathlib import Path

    from support.postgres import Server

PATIENT = ManifestOptions(lock_timeout_s=120.0)


def both(primary: Server, second: Server) -> str:
    """The location of a manifest on whichever of them accepts writes."""
    hosts = f"127.0.0.1:{primary.port},127.0.0.1:{second.port}"
    return f"postgresql://postgres@{hosts}/postgres/systems_download?target_session_attrs=read-write"


def wait_until_it_has_everything(primary: Server) -> None:
    ask = "SELECT replay_lsn >= pg_current_wal_lsn() FROM pg_stat_replication"
    with time_limit(PATIENCE_S):
        while primary.administrator.execute(ask.encode()).fetchall() != [(True,)]:
            pass


# -- a standby that follows ----------------------------------------------------------------------------------------------


class Pair(NamedTuple):
    """A server with a manifest of one record, and one that follows it."""

    primary: Server
    second: Server


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    with serving(FAST) as primary, standby(primary) as second:
        second.start()
        with DownloadManifestManager(primary.url("systems_download"), META) as manifest:
            manifest.add(record("a"))
        wait_until_it_has_everything(primary)
        yield Pair(primary, second)


def test_a_standby_can_be_read(pair: Pair) -> None:
    with DownloadManifestManager(pair.second.url("systems_download"), read_only=True) as manifest:
        assert sha("a") in manifest


def test_a_standby_refuses_an_addition_in_one_line(pair: Pair) -> None:
    with DownloadManifestManager(pair.second.url("systems_download")) as manifest:
        with pytest.raises(ServerError, match="accepts no writes: name the primary") as found:
            manifest.add(record("b"))
        assert "\n" not in str(found.value)


def test_init_on_a_standby_says_so_in_one_line(pair: Pair, tmp_path: Path) -> None:
    found = Program(tmp_path).here("init", pair.second.url("others_download"))
    assert (found.code, found.err.count("\n"), "accepts no writes: name the primary" in found.err) == (1, 1, True)


def results(server: Server) -> dict[str, tuple[str, str]]:
    url = server.url("").replace("/?", "?")
    return {one.test: (one.status, one.found) for one in maintenance.diagnose(url)}


def test_doctor_names_a_standby(pair: Pair) -> None:
    found = results(pair.second)
    assert found["role"] == ("warning", "a standby: it accepts no writes, and answers with the past")
    assert found["standbys"][1] == "this is one; ask the primary"


def test_doctor_of_the_primary_says_how_far_each_is_behind(pair: Pair) -> None:
    status, text = results(pair.primary)["standbys"]
    assert (status, text.startswith("two (async), 0.")) == ("ok", True)


def test_doctor_says_when_additions_wait_for_a_standby_that_is_not_named(pair: Pair) -> None:
    reset = ("ALTER SYSTEM RESET synchronous_standby_names", "SELECT pg_reload_conf()")
    pair.primary.execute("ALTER SYSTEM SET synchronous_standby_names = 'three'", "SELECT pg_reload_conf()")
    try:
        with time_limit(PATIENCE_S):
            while results(pair.primary)["standbys"][0] != "failed":
                pass
    finally:
        pair.primary.execute(*reset)


# -- a promotion that takes something back -------------------------------------------------------------------------------


class Seen(NamedTuple):
    """What clients have seen of a promotion after which a record was gone that was acknowledged before."""

    known: bool
    records: int
    given_cursor: str
    """What somebody hears who begins with a cursor from before."""
    feed: list[EventKind]
    again: str
    feed_after: list[EventKind]
    cursor_after: list[EventKind]
    """What follows that cursor once there are as many events again."""
    mirror: tuple[list[str], int]


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    folder = tmp_path_factory.mktemp("replica")
    with serving(DURABLE) as primary, standby(primary) as second:
        second.start()
        url = both(primary, second)
        with (
            DownloadManifestManager(url, META, options=PATIENT) as manifest,
            Mirror(url, folder, options=PATIENT) as mirror,
        ):
            manifest.add(record("kept", source="kept"))
            wait_until_it_has_everything(primary)
            feed = manifest.feed()
            second.stop(signal.SIGINT)
            assert manifest.add(record("lost", source="lost")).verdict == "new"
            assert len(list(feed.new())) == 2
            mirror.update()
            cursor = manifest.cursor
            primary.kill()
            second.start()
            second.execute("SELECT pg_promote()")
            return _asked(manifest, mirror, feed, cursor)


def _asked(manifest: DownloadManifestManager, mirror: Mirror, feed: Any, cursor: str) -> Seen:
    known, records = manifest.has_checksum(sha("lost")), len(manifest)
    try:
        given = str([event.kind for event in manifest.changes(cursor)])
    except CursorError as error:
        given = str(error)
    first = [event.kind for event in feed.new()]
    again = manifest.add(record("lost", source="lost")).verdict
    after = [event.kind for event in feed.new()]
    manifest.add(record("more", source="more"))
    later = [event.kind for event in manifest.changes(cursor)]
    mirror.update()
    with DownloadManifestManager(mirror.report.replica, read_only=True) as replica:
        mirrored = sorted(replica), mirror.report.comparisons
    return Seen(known, records, given, first, str(again), after, later, mirrored)


def test_what_the_standby_did_not_have_is_gone(seen: Seen) -> None:
    assert (seen.known, seen.records) == (False, 1)


def test_it_can_be_added_again_as_if_for_the_first_time(seen: Seen) -> None:
    """The number of the lost write is not taken for that of this one."""
    assert seen.again == "new"


def test_a_cursor_of_a_lost_event_is_refused(seen: Seen) -> None:
    assert "is ahead of this manifest" in seen.given_cursor


def test_a_follower_that_has_seen_a_lost_event_begins_again(seen: Seen) -> None:
    assert seen.feed == [EventKind.RESET, EventKind.SNAPSHOT]


def test_afterwards_it_misses_nothing(seen: Seen) -> None:
    assert seen.feed_after == [EventKind.PUT]


def test_a_cursor_of_a_lost_event_is_never_taken_for_that_of_a_later_one(seen: Seen) -> None:
    assert seen.cursor_after[0] == EventKind.RESET


def test_a_mirror_that_had_the_lost_record_is_as_the_new_server(seen: Seen) -> None:
    assert seen.mirror == (sorted(map(sha, ("kept", "lost", "more"))), 1)


# -- a standby that additions wait for -----------------------------------------------------------------------------------


@contextmanager
def away() -> Iterator[Server]:
    """A server with a manifest of one record, whose commits wait for a standby that is not there."""
    with serving(DURABLE) as primary:
        with DownloadManifestManager(primary.url("systems_download"), META) as manifest:
            manifest.add(record("a"))
        primary.execute("ALTER SYSTEM SET synchronous_standby_names = 'two'")
        primary.stop(signal.SIGINT)
        primary.start()
        yield primary


def waiting(primary: Server) -> set[int]:
    """The server's processes that wait for the standby."""
    asked = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
    return {pid for (pid,) in primary.administrator.execute(asked).fetchall()}


def end_the_wait(primary: Server) -> set[int]:
    """End the session that waits, once there is one; return its process."""
    with time_limit(PATIENCE_S):
        while not (found := waiting(primary)):
            pass
        for pid in found:
            primary.administrator.execute("SELECT pg_terminate_backend(%s)", (pid,))
        while waiting(primary) & found:
            pass
    return found


def answer_without_the_standby(primary: Server, added: Future[Any], ended: Collection[int] = ()) -> Any:
    """Return what an addition answers before it waits for the standby; None if it waits. Then let nobody wait any more."""
    with time_limit(PATIENCE_S):
        while not (added.done() or waiting(primary).difference(ended)):
            pass
    answer = added.result() if added.done() else None
    primary.execute("ALTER SYSTEM RESET synchronous_standby_names", "SELECT pg_reload_conf()")
    return answer


@pytest.mark.parametrize("alone", [True, False], ids=["alone", "among others"])
def test_an_addition_that_loses_its_connection_while_it_waits_for_a_standby_waits_again(alone: bool) -> None:
    with (
        away() as primary,
        ThreadPoolExecutor(1) as threads,
        DownloadManifestManager(primary.url("systems_download"), META, options=PATIENT) as manifest,
    ):
        engine_of(manifest).writer._alone = alone
        added = threads.submit(manifest.add, record("b", source="other"))
        ended = end_the_wait(primary)
        assert answer_without_the_standby(primary, added, ended) is None
        assert added.result(PATIENCE_S).verdict is Verdict.NEW


def test_a_duplicate_waits_for_a_standby_that_its_first_writer_did_not_wait_for() -> None:
    """The session of that one has ended while it waited, so others see what it has written."""
    with away() as primary, ThreadPoolExecutor(1) as threads:
        url = primary.url("systems_download")
        with DownloadManifestManager(url, META, options=ManifestOptions(lock_timeout_s=0.0)) as manifest:
            engine_of(manifest).writer._alone = True
            lost = threads.submit(manifest.add, record("b", source="other"))
            end_the_wait(primary)
            assert isinstance(lost.exception(PATIENCE_S), IndeterminateWriteError)
        with DownloadManifestManager(url, META, options=PATIENT) as manifest:
            added = threads.submit(manifest.add, record("b", source="other"))
            assert answer_without_the_standby(primary, added) is None
            assert added.result(PATIENCE_S).verdict is Verdict.DUPLICATE
