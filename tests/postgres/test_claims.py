"""Claims across hosts: one holder, gone with its process, and lost by whoever is stopped; with session locks and without."""

from __future__ import annotations

import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from cli.program import wait_until
from contract.builders import record, sha
from manifestlog import ClaimLostError, DownloadManifestManager, Verdict
from manifestlog.engines.postgres.claims import PostgresClaims
from manifestlog.engines.postgres.connections import Pool
from manifestlog.engines.postgres.keeper import Keeper
from manifestlog.engines.postgres.presence import are_real
from support.children import PATIENCE_S

from .cutting import Cut, cutting
from .places import engine_of, opened
from .test_cut import begun

if TYPE_CHECKING:
    import psycopg

    from manifestlog.engines.postgres.slots import Slot
    from support.children import Link, Start

    from .places import Place

LEASE_S = 0.6


def claims_of(manifest: DownloadManifestManager, lease_s: float = 60.0, *, real: bool = True) -> PostgresClaims:
    """A worker's claims, as one of a process of its own, on a server whose session locks are real or not."""
    engine = engine_of(manifest)
    engine.pool.session_locks = real
    return PostgresClaims(Keeper(engine.pool, engine.id, lease_s), "/data")


def hold(link: Link, url: str, *, real: bool, lease_s: float = 60.0) -> str:
    """Child process: report whether the claim succeeded, hold it until told, and then register something."""
    with opened(url) as manifest, claims_of(manifest, lease_s, real=real) as claims:
        try:
            with claims.claim("part", "a") as found:
                link.send(found)
                link.recv()
                with claims.fence():
                    return str(manifest.add(record("theirs")).verdict)
        except ClaimLostError:
            return "lost"


def hold_and_start_a_program(link: Link, url: str) -> None:
    """Child process that is killed while a program that it started still runs."""
    with opened(url) as manifest, claims_of(manifest) as claims, claims.claim("part", "a"):
        program = subprocess.Popen(
            ["sh", "-c", "echo started && exec sleep 100"], stdout=subprocess.PIPE, close_fds=False
        )
        assert program.stdout is not None
        program.stdout.readline()
        link.send(program.pid)
        link.recv()


def test_the_locks_of_this_server_are_real(manifest: DownloadManifestManager) -> None:
    assert are_real(engine_of(manifest).pool)


def test_locks_that_are_granted_to_everybody_are_not(
    manifest: DownloadManifestManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As some servers do that speak the same language."""
    monkeypatch.setattr("manifestlog.engines.postgres.presence._LOCK", "SELECT %s::bigint IS NOT NULL")
    assert not are_real(engine_of(manifest).pool)


@pytest.mark.parametrize("real", [True, False])
def test_of_many_processes_one_gets_the_claim(
    place: Place, manifest: DownloadManifestManager, start: Start, real: bool
) -> None:
    del manifest
    children = [start(lambda link: hold(link, place.url(), real=real)) for _ in range(6)]
    assert sum(child.receive() for child in children) == 1
    for child in children:
        child.kill()


@pytest.mark.parametrize("real", [True, False])
def test_a_claim_is_free_after_its_block(manifest: DownloadManifestManager, real: bool) -> None:
    with claims_of(manifest, real=real) as one, claims_of(manifest, real=real) as other:
        with one.claim("part", "a") as first, other.claim("part", "a") as refused:
            pass
        with other.claim("part", "a") as after:
            assert (first, refused, after) == (True, False, True)


def test_a_killed_process_has_no_claims(place: Place, manifest: DownloadManifestManager, start: Start) -> None:
    child = start(lambda link: hold(link, place.url(), real=True))
    assert child.receive()
    child.kill()
    with claims_of(manifest) as claims, claims.claim("part", "a", wait_s=30.0) as found:
        assert found


def test_a_claim_is_not_handed_down_to_started_programs(
    place: Place, manifest: DownloadManifestManager, start: Start
) -> None:
    child = start(hold_and_start_a_program, place.url())
    program = child.receive()
    with ExitStack() as stack:
        stack.callback(subprocess.run, ["kill", "-9", str(program)], check=True)
        child.kill()
        child.join()
        with claims_of(manifest) as claims, claims.claim("part", "a", wait_s=30.0) as found:
            assert found


@pytest.mark.parametrize("real", [True, False])
def test_who_is_stopped_loses_the_claim_and_cannot_register(
    place: Place, manifest: DownloadManifestManager, start: Start, real: bool
) -> None:
    child = start(lambda link: hold(link, place.url(), real=real, lease_s=LEASE_S))
    assert child.receive()
    child.kill(signal.SIGSTOP)
    with claims_of(manifest, LEASE_S, real=real) as claims:
        with claims.claim("part", "a", wait_s=30.0) as found, claims.fence():
            assert found
            manifest.add(record("ours"))
        child.send("go on")
        child.kill(signal.SIGCONT)
        assert child.result() == "lost"
    assert list(manifest) == [sha("ours")]


@pytest.mark.parametrize("real", [True, False])
def test_who_holds_the_claim_registers(
    place: Place, manifest: DownloadManifestManager, start: Start, real: bool
) -> None:
    child = start(lambda link: hold(link, place.url(), real=real))
    assert child.receive()
    child.send("go on")
    assert (child.result(), list(manifest)) == ("new", [sha("theirs")])


@pytest.mark.parametrize("real", [True, False])
def test_a_claim_is_renewed_while_its_process_works(manifest: DownloadManifestManager, real: bool) -> None:
    with (
        claims_of(manifest, LEASE_S, real=real) as one,
        claims_of(manifest, real=real) as other,
        one.claim("part", "a"),
        other.claim("part", "a", wait_s=3 * LEASE_S) as found,
    ):
        assert not found


def test_a_directory_at_a_url_is_the_same_everywhere(manifest: DownloadManifestManager) -> None:
    with manifest.claims("s3://bucket/raw") as claims:
        assert claims.display == "s3://bucket/raw"


# -- one process -------------------------------------------------------------------------------------------------------


def end_sessions_of_claims(place: Place) -> None:
    place.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND pid <> pg_backend_pid()"
    )


def take_over(place: Place, what: str) -> None:
    """As by a worker of another host, after a lease."""
    place.execute(f"UPDATE manifestlog.claim SET token = token + 1, owner = '\\x00' WHERE what = '{what}'")


def test_a_session_that_is_lost_costs_no_claim_that_nobody_has_taken(
    place: Place, manifest: DownloadManifestManager
) -> None:
    with manifest.claims("/data") as claims, claims.claim("part", "a"):
        end_sessions_of_claims(place)
        with claims.fence():
            assert manifest.add(record("a")).verdict is Verdict.NEW


def test_the_session_that_shows_a_process_is_begun_anew(place: Place, manifest: DownloadManifestManager) -> None:
    with claims_of(manifest, LEASE_S) as one, claims_of(manifest) as other, one.claim("part", "a"):
        end_sessions_of_claims(place)
        wait_until(lambda: sessions_of_claims(place) == 1)
        with other.claim("part", "a") as found:
            assert not found


def test_a_process_is_seen_again_once_the_server_has_ended_its_lost_session(
    place: Place, manifest: DownloadManifestManager
) -> None:
    """The network may end a session for its client only. Until the server notices, that session has the lock."""
    with (
        claims_of(manifest, LEASE_S) as one,
        claims_of(manifest) as other,
        one.claim("part", "a"),
        ThreadPoolExecutor(1) as threads,
        place.connect() as lost,
    ):
        presence, before = one._keeper._presence, session_of(one)
        assert presence is not None
        assert before is not None
        waits = threads.submit(lost.execute, "SELECT pg_advisory_lock(%s::bigint)", (presence.number,))
        wait_until(lambda: sessions_of_claims(place) == 2)
        place.execute(f"SELECT pg_terminate_backend({before.info.backend_pid})")
        waits.result(PATIENCE_S)
        now = wait_until(lambda: (found := session_of(one)) is not before and found)
        lost.close()
        wait_until(lambda: sessions_with_the_lock(place) == [now.info.backend_pid])
        with other.claim("part", "a") as found:
            assert not found


def test_an_error_of_the_server_does_not_end_the_session_that_shows_a_process(
    place: Place, manifest: DownloadManifestManager
) -> None:
    """In the moment without it, others would take over what the process claims."""
    with claims_of(manifest) as one, one.claim("part", "a"):
        presence, before = one._keeper._presence, session_of(one)
        assert presence is not None
        assert before is not None
        calls: list[Slot] = []

        def fails_once(slot: Slot) -> None:
            calls.append(slot)
            if len(calls) == 1:
                slot.rows("SELECT 1 / 0")

        presence.call(fails_once)
        assert (session_of(one), len(calls)) == (before, 2)
        assert sessions_with_the_lock(place) == [before.info.backend_pid]


def session_of(claims: PostgresClaims) -> psycopg.Connection[Any] | None:
    """The session that shows the process of these claims."""
    presence = claims._keeper._presence
    slot = None if presence is None else presence._slot
    return None if slot is None else slot.connection


def sessions_with_the_lock(place: Place) -> list[int]:
    asked = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted"
    with place.connect() as connection:
        return [int(pid) for (pid,) in connection.execute(asked).fetchall()]


def sessions_of_claims(place: Place) -> int:
    with place.connect() as connection:
        ((count,),) = connection.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'").fetchall()
    return int(count)


def test_the_workers_of_a_process_need_one_session(place: Place, manifest: DownloadManifestManager) -> None:
    with ExitStack() as opened:
        for number in range(10):
            claims = opened.enter_context(manifest.claims("/data"))
            assert opened.enter_context(claims.claim("part", str(number)))
        assert sessions_of_claims(place) == 1


def test_without_a_worker_there_is_no_session(place: Place, manifest: DownloadManifestManager) -> None:
    with manifest.claims("/data") as claims, claims.claim("part", "a"):
        pass
    wait_until(lambda: sessions_of_claims(place) == 0)


@pytest.mark.parametrize("first", [True, False])
def test_a_host_whose_session_locks_are_real_and_one_whose_are_not_exclude_each_other(
    manifest: DownloadManifestManager, first: bool
) -> None:
    """Such as one that goes through a pooler."""
    with (
        claims_of(manifest, real=first) as one,
        one.claim("part", "a"),
        claims_of(manifest, real=not first) as other,
        other.claim("part", "a") as found,
    ):
        assert not found


def test_what_is_given_back_while_a_worker_writes_is_not_lost(manifest: DownloadManifestManager) -> None:
    """Threads may share the claims of a worker."""
    with manifest.claims("/data") as claims, claims.claim("part", "a"), ExitStack() as held:
        held.enter_context(claims.claim("part", "b"))
        with claims.fence():
            held.close()
            assert manifest.add(record("a")).verdict is Verdict.NEW
        with manifest.claims("/data") as others, others.claim("part", "b") as found:
            assert found


def test_a_fence_around_the_claims_of_several_workers_misses_none(
    place: Place, manifest: DownloadManifestManager
) -> None:
    with (
        manifest.claims("/data") as ours,
        manifest.claims("/data") as theirs,
        ours.claim("part", "a"),
        theirs.claim("part", "b"),
    ):
        take_over(place, "b")
        with pytest.raises(ClaimLostError), ours.fence(theirs):
            manifest.add(record("a"))
        with ours.fence():
            assert manifest.add(record("a")).verdict is Verdict.NEW


def who_has_written_hears_so_although_the_claim_is_lost_by_then(place: Place) -> None:
    """The answer to the first try was lost, and the second one must not say that nothing was written."""
    pause = Pool._pause

    def lose_the_claim(pool: Pool, *given: Any) -> None:
        take_over(place, "a")
        pause(pool, *given)

    with (
        cutting(f"{place.server.folder}/.s.PGSQL.{place.server.port}") as proxy,
        begun(place, proxy) as manifest,
        manifest.claims("/data") as claims,
        claims.claim("part", "a"),
        claims.fence(),
        pytest.MonkeyPatch.context() as patch,
    ):
        for number in range(2):  # the second one has all statements prepared
            proxy.arm(0, Cut.BEFORE)
            manifest.add(record(f"x{number}", number, source=f"s{number}"))
        patch.setattr(Pool, "_pause", lose_the_claim)
        proxy.arm(proxy.messages - 1, Cut.UNANSWERED)
        assert (manifest.add(record("z", 9, source="z")).verdict, proxy.cuts) == (Verdict.NEW, 1)
