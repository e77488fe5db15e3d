"""Claims across hosts: one holder, gone with its process, and lost by whoever is stopped; on locks and on leases."""

from __future__ import annotations

import signal
import subprocess
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from contract.builders import record, sha
from manifestlog import ClaimLostError, DownloadManifestManager
from manifestlog.engines.postgres.claims import PostgresClaims
from manifestlog.engines.postgres.session_locks import are_real

from .places import engine_of, opened

if TYPE_CHECKING:
    from support.children import Link, Start

    from .places import Place

LEASE_S = 0.6


def claims_of(manifest: DownloadManifestManager, lease_s: float = 60.0, *, real: bool = True) -> PostgresClaims:
    """A worker's claims, kept by session locks or by leases."""
    pool = engine_of(manifest).pool
    pool.session_locks = real
    return PostgresClaims(pool, "/data", lease_s)


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
    monkeypatch.setattr("manifestlog.engines.postgres.session_locks._LOCK", "SELECT %s::bigint IS NOT NULL")
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
