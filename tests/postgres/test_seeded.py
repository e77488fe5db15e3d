"""Each safeguard of a transaction, left out: a test that holds with it must notice."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from contract.builders import META, QUIET, record, sha
from manifestlog import ClaimLostError, DownloadManifestManager, ManifestOptions, Verdict
from manifestlog.engines.postgres import session_locks, single, upkeep, writing
from manifestlog.engines.postgres.claims import PostgresClaims

from .cutting import Cut, cutting
from .places import engine_of
from .test_cut import cut_at, expected

if TYPE_CHECKING:
    from collections.abc import Callable

    from .places import Place


def a_second_try_answers_as_the_first(place: Place) -> None:
    with cutting(f"{place.server.folder}/.s.PGSQL.{place.server.port}") as proxy:
        messages, *right = expected(place, proxy, "a new content")
        assert list(cut_at(place, proxy, "a new content", messages - 1, Cut.UNANSWERED)) == right


def sources_are_locked(place: Place) -> None:
    with DownloadManifestManager(place.url(), META) as manifest, place.connect() as other:
        other.execute("BEGIN")
        other.execute("SELECT * FROM manifestlog.lane FOR UPDATE")
        writers = [
            threading.Thread(target=lambda: manifest.add(record("a"))),
            threading.Thread(target=lambda: manifest.add_many([record("b"), record("c")])),
        ]
        for writer in writers:
            writer.start()
        writers[0].join(0.3)
        waiting = all(writer.is_alive() for writer in writers)
        other.execute("COMMIT")
        for writer in writers:
            writer.join()
        assert waiting


def a_duplicate_is_on_disk(place: Place) -> None:
    with DownloadManifestManager(place.url(), META, options=QUIET) as manifest:
        manifest.add(record("a"))
        manifest.add(record("b", 1))
    with DownloadManifestManager(place.url(), META, options=ManifestOptions()) as manifest:
        assert manifest.add(record("a")).verdict is Verdict.DUPLICATE
        with place.connect() as connection:
            ((flushed,),) = connection.execute("SELECT max(flushed) FROM manifestlog.writer").fetchall()
        assert flushed == 1


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
        engine = engine_of(manifest)
        with PostgresClaims(engine.pool, "/data") as claims, claims.claim("part", "a"):
            place.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND pid <> pg_backend_pid()"
            )
            with pytest.raises(ClaimLostError), claims.fence():
                manifest.add(record("a"))
        assert len(manifest) == 0


SCENARIOS: dict[str, Callable[[Place], None]] = {
    scenario.__name__.replace("_", " "): scenario
    for scenario in (
        a_second_try_answers_as_the_first,
        sources_are_locked,
        a_duplicate_is_on_disk,
        a_content_that_is_forgotten_between_two_locks_is_claimed,
        who_lost_a_claim_cannot_write,
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


BREAKS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "a second try answers as the first": lambda p: p.setattr(writing.Transaction, "first_try", _without_asking),
    "sources are locked": lambda p: (
        p.setattr(single, "LANE", writing.LANE.replace("FOR UPDATE", "")),
        p.setattr(writing, "LANES", writing.LANES.replace("FOR UPDATE", "")),
    )[0],
    "a duplicate is on disk": lambda p: p.setattr(upkeep, "confirm", lambda *_: None),
    "a content that is forgotten between two locks is claimed": lambda p: p.setattr(
        writing.Transaction, "_lock_known", _known_only
    ),
    "who lost a claim cannot write": lambda p: p.setattr(
        session_locks.SessionLocks, "fenced", lambda _: pytest.MonkeyPatch.context()
    ),
}


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_it_holds(place: Place, scenario: str) -> None:
    SCENARIOS[scenario](place)


@pytest.mark.slow
@pytest.mark.parametrize("scenario", BREAKS)
def test_without_its_safeguard_it_does_not(place: Place, scenario: str, monkeypatch: pytest.MonkeyPatch) -> None:
    BREAKS[scenario](monkeypatch)
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        SCENARIOS[scenario](place)
