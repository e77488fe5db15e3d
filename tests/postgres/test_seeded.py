"""Each safeguard of a transaction, left out: a test that holds with it must notice."""

from __future__ import annotations

import secrets
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from cli.program import wait_until
from contract.builders import META, QUIET, record, sha
from manifestlog import (
    ClaimLostError,
    CursorError,
    DownloadManifestManager,
    EventKind,
    LockTimeoutError,
    ManifestError,
    ManifestExistsError,
    ManifestOptions,
    Verdict,
    following,
)
from manifestlog.engines.postgres import (
    connections,
    failures,
    leases,
    limits,
    loading,
    lookup,
    single,
    together,
    upkeep,
    values,
    writing,
)
from manifestlog.engines.postgres.history import History
from manifestlog.engines.postgres.operation import Writer
from manifestlog.engines.postgres.wire import numbered
from manifestlog.model import codec
from manifestlog.model.batches import encoded
from manifestlog.model.writes import Rewritten
from manifestlog.stages import runner
from support.children import PATIENCE_S

from .cutting import Cut, cutting
from .places import engine_of, opened
from .test_claims import who_has_written_hears_so_although_the_claim_is_lost_by_then
from .test_cut import cut_at, expected
from .test_taken_back import an_output_that_is_taken_back_before_its_run_ends_is_pending

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Executor

    from manifestlog.model.writes import TimeLookup

    from .cutting import Proxy
    from .places import Place


def a_second_try_answers_as_the_first(place: Place) -> None:
    with cutting(f"{place.server.folder}/.s.PGSQL.{place.server.port}") as proxy:
        messages, *right = expected(place, proxy, "a new content")
        assert list(cut_at(place, proxy, "a new content", messages, Cut.UNANSWERED)) == right


def sources_are_locked(place: Place) -> None:
    with DownloadManifestManager(place.url(), META) as manifest, place.connect() as other:
        other.execute("BEGIN")
        other.execute("SELECT * FROM manifestlog.lane FOR UPDATE")
        writers = [
            threading.Thread(target=lambda: manifest.add(record("a"))),
            threading.Thread(target=lambda: manifest.add_many([record("b"), record("c", 1)])),
            threading.Thread(target=lambda: manifest.add_many([record("d"), record("d", 1)])),
        ]
        for writer in writers:
            writer.start()
        writers[0].join(0.3)
        waiting = all(writer.is_alive() for writer in writers)
        other.execute("COMMIT")
        for writer in writers:
            writer.join()
        assert waiting


def alone(place: Place, **options: Any) -> DownloadManifestManager:
    """A manifest whose last two events are from its only client."""
    manifest = DownloadManifestManager(place.url(), META, options=ManifestOptions(**options))
    manifest.add(record("first", source="first"))
    manifest.add(record("second", 1, source="second"))
    assert engine_of(manifest).writer.limits.is_alone
    return manifest


def sources_are_locked_by_who_is_alone(place: Place) -> None:
    with alone(place) as manifest, place.connect() as other:
        other.execute("BEGIN")
        other.execute("SELECT * FROM manifestlog.lane FOR UPDATE")
        writer = threading.Thread(target=lambda: manifest.add(record("a")))
        writer.start()
        writer.join(0.3)
        waiting = writer.is_alive()
        other.execute("COMMIT")
        writer.join()
        assert waiting


def who_is_alone_sees_what_a_rival_adds_at_the_same_moment(place: Place) -> None:
    """The rival has the source, and adds to it, while the client waits for it."""
    with alone(place) as manifest, place.connect() as rival:
        raw, checksum, _ = encoded(record("rival's", source="s"), QUIET)
        seen = values.seen(codec.loads(raw))
        rival.execute("BEGIN")
        rival.execute("SELECT * FROM manifestlog.lane FOR UPDATE")
        heard: list[str] = []
        adds = threading.Thread(target=lambda: heard.append(manifest.add(record("a", 5, source="s")).verdict.value))
        adds.start()
        wait_until(lambda: waits_for_a_lock(place))
        manifest_id, digest = engine_of(manifest).id, bytes.fromhex(checksum)
        rival.execute("INSERT INTO manifestlog.content VALUES (%s, %s, %s)", (manifest_id, digest, raw))
        rival.execute(
            "INSERT INTO manifestlog.sighting (manifest_id, pair, ts, tie, checksum, source, dataset)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s)",
            (manifest_id, seen.pair, seen.ts, seen.tie, digest, seen.source, seen.dataset),
        )
        rival.execute("UPDATE manifestlog.feed SET seq = seq + 1, records = records + 1")
        rival.execute("COMMIT")
        adds.join()
        assert heard == ["changed"]


def who_is_alone_is_answered_although_two_waits_took_longer_than_one_may(place: Place) -> None:
    """The client waits for its source, then for the end of the log, and each of them for less than its limit."""
    with alone(place, lock_timeout_s=1.0) as manifest, place.connect() as first, place.connect() as second:
        first.execute("BEGIN")
        first.execute("SELECT * FROM manifestlog.lane FOR UPDATE")
        second.execute("BEGIN")
        second.execute("UPDATE manifestlog.feed SET seq = seq + 1")
        with ThreadPoolExecutor(1) as threads:
            began = time.monotonic()
            added = threads.submit(manifest.add, record("a", 5))
            wait_until(lambda: time.monotonic() > began + 0.6)
            first.execute("COMMIT")
            wait_until(lambda: time.monotonic() > began + 1.2)
            second.execute("COMMIT")
            assert added.exception() is None
            assert added.result().verdict is Verdict.NEW


def _free_lanes(place: Place) -> int:
    with place.connect() as connection:
        return len(connection.execute("SELECT FROM manifestlog.lane FOR UPDATE SKIP LOCKED").fetchall())


@contextmanager
def _stopping(place: Place, lock_timeout_s: float) -> Iterator[tuple[Proxy, DownloadManifestManager, Executor]]:
    """A client behind a proxy that can stop it, and a thread for the call in which it stops; at the end it goes on.

    That call fails, or a second try within its time succeeds: either is right.
    """
    with cutting(f"{place.server.folder}/.s.PGSQL.{place.server.port}") as proxy, ExitStack() as opening:
        opening.enter_context(pytest.MonkeyPatch.context()).setattr(connections, "_IDLE_S_MIN", 0.0)
        client = opening.enter_context(opened(place.tcp_url(port=proxy.port), lock_timeout_s=lock_timeout_s))
        if engine_of(client).pool.call(lambda slot: slot.server_version) < 170000:
            pytest.skip("a version of PostgreSQL that limits no transactions")
        thread = opening.enter_context(ThreadPoolExecutor(1))
        opening.callback(proxy.over.set)
        yield proxy, client, thread


def a_client_that_stops_inside_a_message_loses_its_locks(place: Place) -> None:
    """Idle it is not, as the server sees it: it waits for the rest of the message, and would for ever."""
    with (
        opened(place.url(), lock_timeout_s=6.0) as other,
        _stopping(place, lock_timeout_s=2.0) as (proxy, stopped, thread),
    ):
        stopped.add(record("before"))
        engine_of(stopped).writer.note(99, 1)  # as if others wrote
        proxy.stall(3)  # it has begun, and locked its source
        thread.submit(stopped.add, record("stopped", 5))
        assert proxy.stalled.wait(PATIENCE_S)
        wait_until(lambda: _free_lanes(place) < values.LANES)
        try:
            assert other.add(record("other", 6)).verdict == "changed"
        except LockTimeoutError as error:
            raise AssertionError from error


def _loses_all_lanes(place: Place, statement: str, act: Callable[[DownloadManifestManager], object]) -> None:
    """Stop inside this statement of what has the locks of all sources."""
    with _stopping(place, lock_timeout_s=1.0) as (proxy, stopped, thread):
        stopped.add_many([record("a"), record("b", 1, source="other")])
        proxy.stall_in(numbered(statement))
        thread.submit(act, stopped)
        assert proxy.stalled.wait(PATIENCE_S)
        wait_until(lambda: _free_lanes(place) == values.LANES, seconds=10)


def _relocate(manifest: DownloadManifestManager) -> None:
    manifest.relocate("/raw", "/srv/raw")


def a_correction_that_stops_when_it_has_its_locks_loses_them(place: Place) -> None:
    _loses_all_lanes(place, writing._METADATA, _relocate)


def a_correction_that_stops_while_it_plans_loses_its_locks(place: Place) -> None:
    _loses_all_lanes(place, lookup.BODY, _relocate)


def a_correction_that_stops_while_it_writes_loses_its_locks(place: Place) -> None:
    _loses_all_lanes(place, writing._LOG, _relocate)


def a_change_of_metadata_that_stops_while_it_writes_loses_its_locks(place: Place) -> None:
    _loses_all_lanes(place, writing._METADATA_IS, lambda manifest: manifest.relocate("/srv/etl", "/srv/new"))


def a_copy_that_stops_while_it_catches_up_loses_its_locks(place: Place) -> None:
    with DownloadManifestManager("memory:systems_download", META) as source:
        source.add(record("c", 2))
        events = list(source.history())
    _loses_all_lanes(place, writing._REPLAYED, lambda copy: engine_of(copy).replay(events, copy.cursor))


def a_correction_that_goes_on_keeps_its_locks(place: Place) -> None:
    """It asks for longer than one statement may take, and then writes."""

    def plan(known: TimeLookup) -> Rewritten:
        deadline, number = time.monotonic() + 1.5, 0
        while time.monotonic() < deadline:
            known.row(sha(f"unknown {number}"))
            number += 1
        return Rewritten([encoded(record("a", 1), QUIET)])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(connections, "_IDLE_S_MIN", 0.0)
        patch.setattr(limits, "RENEW_S", 0.1)
        with opened(place.url(), lock_timeout_s=0.5) as manifest:  # so all of it may take a second
            manifest.add(record("a"))
            try:
                engine_of(manifest).rewrite(plan, EventKind.RELOCATE)
            except ManifestError as error:
                raise AssertionError from error
            assert [event.kind for event in manifest.history()] == [EventKind.PUT, EventKind.RELOCATE]


def _flushed(place: Place) -> int:
    """Up to which event some writer has noted that all are on disk."""
    with place.connect() as connection:
        ((found,),) = connection.execute("SELECT coalesce(max(flushed), 0) FROM manifestlog.writer").fetchall()
    return int(found)


def _written_without_waiting(place: Place, *write: Callable[[DownloadManifestManager], object]) -> None:
    """Do this as a client whose answers wait for no disk."""
    with DownloadManifestManager(place.url(), META, options=QUIET) as manifest:
        for one in write:
            one(manifest)


def a_duplicate_is_on_disk(place: Place) -> None:
    _written_without_waiting(place, lambda m: m.add(record("a")), lambda m: m.add(record("b", 1)))
    with DownloadManifestManager(place.url(), META, options=ManifestOptions()) as manifest:
        assert manifest.add(record("a")).verdict is Verdict.DUPLICATE
        assert _flushed(place) == 1


def a_duplicate_whose_event_was_cut_is_on_disk(place: Place) -> None:
    options = replace(QUIET, history="off")
    with DownloadManifestManager(place.url(), META, options=options) as manifest:
        manifest.add(record("a"))
        manifest.compact()
    with DownloadManifestManager(place.url(), META, options=ManifestOptions()) as manifest:
        assert manifest.add(record("a")).verdict is Verdict.DUPLICATE
        assert _flushed(place) == 1


UPDATE = {"checksum": sha("a"), "etag": '"u"', "file_path": "/u", "file_size": 9}
AGAIN: dict[str, tuple[Callable[[DownloadManifestManager], object], int]] = {
    "an update": (lambda m: m.update(sha("a"), UPDATE), 3),
    "a forget": (lambda m: m.forget(sha("b")), 3),
    "metadata": (lambda m: engine_of(m).set_metadata({"etl_version": "9"}), 3),
    "a sync": (DownloadManifestManager.sync, 2),
}
"""What has nothing to write if somebody else has done it before, and up to which event that needs to be on disk."""


def an_answer_that_writes_nothing_is_on_disk(place: Place) -> None:
    for name, (act, number) in AGAIN.items():
        place.execute("DROP SCHEMA IF EXISTS manifestlog CASCADE")
        _written_without_waiting(place, lambda m: m.add(record("a")), lambda m: m.add(record("b", 1)), act)
        with DownloadManifestManager(place.url()) as manifest:
            act(manifest)
            assert (name, _flushed(place), len(list(manifest.history()))) == (name, number, number)


def _all_is_on_disk(connection: psycopg.Connection[Any]) -> bool:
    asked = connection.execute("SELECT pg_current_wal_flush_lsn() >= pg_current_wal_insert_lsn()").fetchall()
    return asked == [(True,)]


def an_acknowledged_addition_is_on_disk(place: Place) -> None:
    """Alone, the commit waits for that; among others, what follows it."""
    with DownloadManifestManager(place.url(), META) as manifest, place.connect() as other:
        for number in range(4):
            manifest.add(record(f"c{number}", number))
            assert _all_is_on_disk(other)
            manifest.add_many([record(f"d{number}", number, source="x"), record(f"e{number}", number, source="y")])
            assert _all_is_on_disk(other)


def a_new_manifest_is_on_disk(place: Place) -> None:
    with place.connect() as other, DownloadManifestManager(place.url(), META):
        assert _all_is_on_disk(other)


def a_follower_is_on_disk(place: Place) -> None:
    with DownloadManifestManager(place.url(), META) as manifest, place.connect() as other:
        for number in range(4):
            manifest.register_follower(f"f{number}", manifest.cursor)
            assert _all_is_on_disk(other)
            manifest.remove_follower(f"f{number}")
            assert _all_is_on_disk(other)


def a_batch_is_planned_anew_if_it_does_not_fit(place: Place) -> None:
    """Its plans were made for sources that have nothing at that time."""
    with DownloadManifestManager(place.url(), META) as manifest:
        manifest.add(record("a", 1, source="other"))
        found = manifest.add_each([record("b", 2), record("c", 1, source="other")])
        assert [one.verdict.value for one in found] == ["new", "changed"]
        assert sorted(row.get("tie", 0) for row in manifest.rows()) == [0, 0, 1]


def a_content_that_a_rival_adds_at_the_same_moment_is_known(place: Place) -> None:
    """A batch of unknown contents waits for the rival, and is then planned anew."""
    with DownloadManifestManager(place.url(), META) as manifest, place.connect() as rival:
        raw, _, _ = encoded(record("a", source="rival"), QUIET)
        rival.execute("BEGIN")
        rival.execute(
            "INSERT INTO manifestlog.content SELECT max(manifest_id), %s, %s FROM manifestlog.manifest",
            (bytes.fromhex(sha("a")), raw),
        )
        heard: list[str] = []

        def add() -> None:
            try:
                heard.extend(str(one.verdict) for one in manifest.add_each([record("a", 1), record("b", 2)]))
            except ManifestError as error:
                heard.append(str(error))

        adds = threading.Thread(target=add)
        adds.start()
        with place.connect() as watch:
            while not watch.execute("SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'").fetchall():
                assert adds.is_alive()
        rival.execute("COMMIT")
        adds.join()
        assert heard == ["alias", "changed"]


def a_content_that_is_forgotten_between_two_locks_is_claimed(place: Place) -> None:
    """Two writers that both see it gone must not both have it new."""
    with DownloadManifestManager(place.url(), META) as manifest:
        manifest.add(record("a"))
        lock = writing.Transaction._lock_known
        claimed: list[set[str]] = []

        def forget_first(tx: Any, given: dict[str, bytes]) -> None:
            if not claimed:
                claimed.append(set())
                place.execute("DELETE FROM manifestlog.content", "DELETE FROM manifestlog.sighting")
            lock(tx, given)
            claimed.append(set(tx._claimed))

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(writing.Transaction, "_lock_known", forget_first)
            manifest.add_many([record("a", 5), record("b", 6, source="other")])
        assert sha("a") in claimed[-1]


def who_lost_a_claim_cannot_write(place: Place) -> None:
    with DownloadManifestManager(place.url(), META) as manifest:
        with manifest.claims("/data") as claims, claims.claim("part", "a"):
            taken_over(place)
            with pytest.raises(ClaimLostError), claims.fence():
                manifest.add(record("a"))
            with pytest.raises(ClaimLostError), claims.fence():
                manifest.add_each([record("a"), record("b")])
        assert len(manifest) == 0


def nobody_takes_a_claim_over_while_its_holder_writes(place: Place) -> None:
    with (
        DownloadManifestManager(place.url(), META) as manifest,
        place.connect() as other,
        manifest.claims("/data") as claims,
        claims.claim("part", "a"),
    ):
        other.execute("BEGIN")
        other.execute("SELECT * FROM manifestlog.lane FOR UPDATE")

        def write() -> None:
            with claims.fence():
                manifest.add(record("a"))

        writer = threading.Thread(target=write)
        writer.start()
        wait_until(lambda: waits_for_a_lock(place))
        taking = threading.Thread(target=taken_over, args=(place,))
        taking.start()
        taking.join(0.3)
        waits = taking.is_alive()
        other.execute("COMMIT")
        writer.join()
        taking.join()
        assert (waits, len(manifest)) == (True, 1)


def a_claim_that_somebody_had_in_between_is_lost(place: Place) -> None:
    """Also for the worker that gets it again."""
    with (
        DownloadManifestManager(place.url(), META) as manifest,
        manifest.claims("/data") as claims,
        claims.claim("part", "a"),
    ):
        taken_over(place)
        place.execute("DELETE FROM manifestlog.claim")
        with pytest.raises(ClaimLostError), claims.claim("part", "a"):
            pass


def only_what_a_worker_holds_is_renewed(place: Place) -> None:
    with (
        DownloadManifestManager(place.url(), META) as manifest,
        engine_of(manifest).claims("/data") as claims,
        claims.claim("part", "a"),
        claims.kept() as held,
    ):
        taken_over(place)
        before = expiry(place)
        engine_of(manifest).pool.call(lambda slot: leases.renew(slot, held, 1))
        assert expiry(place) == before


def expiry(place: Place) -> list[Any]:
    with place.connect() as connection:
        return connection.execute("SELECT expires FROM manifestlog.claim").fetchall()


def taken_over(place: Place) -> None:
    """As by another host, after a lease."""
    place.execute("UPDATE manifestlog.claim SET token = token + 1, owner = '\\x00'")


def waits_for_a_lock(place: Place) -> bool:
    with place.connect() as connection:
        found = connection.execute("SELECT count(*) FROM pg_locks WHERE NOT granted").fetchone()
    return found is not None and found[0] > 0


def a_copy_fills_no_manifest_with_records(place: Place) -> None:
    with (
        DownloadManifestManager("memory:systems_download", META) as source,
        DownloadManifestManager(place.url(), META) as manifest,
    ):
        source.add(record("a"))
        manifest.add(record("b"))
        before = list(manifest)
        image = source._engine.image()._replace(events=iter(()), events_total=0, reach="2023-01-01T00:00:00.000000Z")
        engine = engine_of(manifest)
        with suppress(ManifestError):
            loading.load(engine.pool, image)
        assert list(manifest) == before


def nothing_is_replayed_after_other_events(place: Place) -> None:
    with DownloadManifestManager(place.url(), META) as manifest:
        expected = manifest.cursor
        manifest.add(record("a"))
        events = list(manifest.history())
        manifest.forget(sha("a"))
        with suppress(ManifestExistsError):
            engine_of(manifest).replay(events, expected)
        assert len(manifest) == 0


def a_feed_whose_last_events_were_taken_back_begins_again(place: Place) -> None:
    """As by the promotion of a standby that did not have them."""
    with DownloadManifestManager(place.url(), META) as manifest:
        manifest.add(record("a"))
        feed = manifest.feed()
        before = [event.kind for event in feed.new()]
        for table in ("log", "content", "sighting"):
            place.execute(f"DELETE FROM manifestlog.{table}")
        place.execute("UPDATE manifestlog.feed SET seq = 0, records = 0")
        try:
            assert (before, [event.kind for event in feed.new()]) == ([EventKind.PUT], [EventKind.RESET])
        except CursorError as error:
            raise AssertionError from error


SCENARIOS: dict[str, Callable[[Place], None]] = {
    scenario.__name__.replace("_", " "): scenario
    for scenario in (
        a_second_try_answers_as_the_first,
        sources_are_locked,
        sources_are_locked_by_who_is_alone,
        who_is_alone_sees_what_a_rival_adds_at_the_same_moment,
        who_is_alone_is_answered_although_two_waits_took_longer_than_one_may,
        a_client_that_stops_inside_a_message_loses_its_locks,
        a_correction_that_stops_when_it_has_its_locks_loses_them,
        a_correction_that_stops_while_it_plans_loses_its_locks,
        a_correction_that_stops_while_it_writes_loses_its_locks,
        a_change_of_metadata_that_stops_while_it_writes_loses_its_locks,
        a_copy_that_stops_while_it_catches_up_loses_its_locks,
        a_correction_that_goes_on_keeps_its_locks,
        a_duplicate_is_on_disk,
        a_duplicate_whose_event_was_cut_is_on_disk,
        an_answer_that_writes_nothing_is_on_disk,
        an_acknowledged_addition_is_on_disk,
        a_new_manifest_is_on_disk,
        a_follower_is_on_disk,
        a_batch_is_planned_anew_if_it_does_not_fit,
        a_content_that_a_rival_adds_at_the_same_moment_is_known,
        a_content_that_is_forgotten_between_two_locks_is_claimed,
        who_lost_a_claim_cannot_write,
        nobody_takes_a_claim_over_while_its_holder_writes,
        a_claim_that_somebody_had_in_between_is_lost,
        only_what_a_worker_holds_is_renewed,
        who_has_written_hears_so_although_the_claim_is_lost_by_then,
        a_copy_fills_no_manifest_with_records,
        nothing_is_replayed_after_other_events,
        a_feed_whose_last_events_were_taken_back_begins_again,
        an_output_that_is_taken_back_before_its_run_ends_is_pending,
    )
}


def _without_asking(tx: writing.Transaction) -> None:
    """Begin a second try as if there had been none."""
    with tx.slot.script():
        tx._begin()


def _known_only(tx: writing.Transaction, given: dict[str, bytes]) -> None:
    left = given.keys() - tx._claimed
    if left:
        tx.lock_contents(left)


def _asking_the_fence_first(tx: writing.Transaction) -> None:
    if not tx._begun:
        tx._begun = True
        tx.slot.send(writing.BEGIN)
        limits.settle(tx.slot, tx.limits)
        writing.check_claims(tx.slot, tx.limits)


def _without_a_limit(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(writing, "with_first_lock", lambda _, given: ("lock_timeout", given.lock))
    patch.setattr(writing, "renew", lambda *_: None)


class _AnyCursor(str):
    """A cursor that is whatever is expected."""

    __slots__ = ()
    __hash__ = str.__hash__

    def __ne__(self, other: object) -> bool:
        return False


BREAKS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "a second try answers as the first": lambda p: p.setattr(writing.Transaction, "first_try", _without_asking),
    "sources are locked": lambda p: (
        p.setattr(writing, "LANE", writing.LANE.replace("FOR UPDATE", "")),
        p.setattr(writing, "LANES", writing.LANES.replace("FOR UPDATE", "")),
    )[0],
    "sources are locked by who is alone": lambda p: p.setattr(
        single, "_ALONE", tuple(one.replace("FOR UPDATE", "") for one in single._ALONE)
    ),
    "a client that stops inside a message loses its locks": _without_a_limit,
    "a correction that stops when it has its locks loses them": _without_a_limit,
    "a correction that stops while it plans loses its locks": _without_a_limit,
    "a correction that stops while it writes loses its locks": _without_a_limit,
    "a change of metadata that stops while it writes loses its locks": _without_a_limit,
    "a copy that stops while it catches up loses its locks": _without_a_limit,
    "a correction that goes on keeps its locks": lambda p: p.setattr(writing, "renew", lambda *_: None),
    "who is alone sees what a rival adds at the same moment": lambda p: p.setattr(
        single, "_ALONE", tuple(one.replace("WHEN t.seq = f.seq + 1 AND", "WHEN true OR") for one in single._ALONE)
    ),
    "who is alone is answered although two waits took longer than one may": lambda p: p.setattr(
        failures, "is_stale", lambda _: False
    ),
    "an acknowledged addition is on disk": lambda p: p.setattr(limits.Limits, "level", "off"),
    "a new manifest is on disk": lambda p: p.setattr(connections.Pool, "commit_level", lambda *_: "off"),
    "a follower is on disk": lambda p: p.setattr(connections.Pool, "commit_level", lambda *_: "off"),
    "a batch is planned anew if it does not fit": lambda p: p.setattr(
        together, "_STATEMENT", together._STATEMENT.replace("AS fits", "OR true AS fits")
    ),
    "a content that a rival adds at the same moment is known": lambda p: p.setattr(
        psycopg.errors, "UniqueViolation", psycopg.errors.CheckViolation
    ),
    "a duplicate is on disk": lambda p: p.setattr(upkeep, "confirm", lambda *_: None),
    "a duplicate whose event was cut is on disk": lambda p: p.setattr(
        upkeep, "_UNFLUSHED", upkeep._UNFLUSHED.replace("max(f.cut_seq)", "0")
    ),
    "an answer that writes nothing is on disk": lambda p: p.setattr(Writer, "confirm", lambda *_: None),
    "a content that is forgotten between two locks is claimed": lambda p: p.setattr(
        writing.Transaction, "_lock_known", _known_only
    ),
    "a copy fills no manifest with records": lambda p: p.setattr(loading._Load, "_take_over", lambda *_: None),
    "nothing is replayed after other events": lambda p: p.setattr(History, "cursor_of", lambda *_: _AnyCursor()),
    "who lost a claim cannot write": lambda p: p.setattr(
        writing, "_FENCED", "SELECT %s, set_config(%s, %s, true), %b::bytea[], %s::bigint[]"
    ),
    "nobody takes a claim over while its holder writes": lambda p: p.setattr(
        writing, "_FENCED", writing._FENCED.replace("FOR SHARE OF c", "")
    ),
    "a claim that somebody had in between is lost": lambda p: p.setattr(secrets, "randbits", lambda _: 1),
    "only what a worker holds is renewed": lambda p: p.setattr(
        leases, "_RENEW", leases._RENEW.replace("AND c.token = h.token", "")
    ),
    "who has written hears so although the claim is lost by then": lambda p: p.setattr(
        writing.Transaction, "_begin", _asking_the_fence_first
    ),
    "a feed whose last events were taken back begins again": lambda p: p.setattr(
        following.ChangeFeed, "_is_ours", property(lambda _: False, lambda *_: None), raising=False
    ),
    "an output that is taken back before its run ends is pending": lambda p: p.setattr(
        runner._StageRun, "_believes_reports", True
    ),
}


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_it_holds(place: Place, scenario: str) -> None:
    SCENARIOS[scenario](place)


@pytest.mark.slow
@pytest.mark.parametrize("scenario", BREAKS)
def test_without_its_safeguard_it_does_not(place: Place, scenario: str, monkeypatch: pytest.MonkeyPatch) -> None:
    BREAKS[scenario](monkeypatch)
    with pytest.raises((AssertionError, pytest.fail.Exception, ClaimLostError)):
        SCENARIOS[scenario](place)
