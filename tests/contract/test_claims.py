"""Claims: at most one holder, released with its block, its object or its process."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from manifestlog import DownloadManifestManager
from manifestlog.engines.filelog.claims import FileClaims
from manifestlog.names import CLAIMS_NAME

from .builders import META, QUIET, record, sha

if TYPE_CHECKING:
    from collections.abc import Iterator

    from manifestlog.engines.protocol import Claims
    from support.children import Link, Start

pytestmark = pytest.mark.every_engine


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A directory of data files."""
    found = tmp_path / "data"
    found.mkdir()
    return found


@pytest.fixture
def ours(manifest: DownloadManifestManager, data: Path) -> Iterator[Claims]:
    with manifest.claims(data) as claims:
        yield claims


@pytest.fixture
def theirs(manifest: DownloadManifestManager, data: Path) -> Iterator[Claims]:
    with manifest.claims(data) as claims:
        yield claims


def get(claims: Claims, name: str = "a", kind: str = "part") -> bool:
    with claims.claim(kind, name) as found:
        return found


def hold(link: Link, folder: Path, name: str) -> bool:
    """Child process: report whether the claim succeeded, and hold it until told."""
    with FileClaims(str(folder)) as claims, claims.claim("part", name) as found:
        link.send(found)
        link.recv()
    return found


def hold_and_fork(link: Link, folder: Path, name: str) -> None:
    """Child process that is killed while a program it started still runs."""
    with FileClaims(str(folder)) as claims, claims.claim("part", name) as found:
        # After its first message it has closed all inherited descriptors; its parent continues slightly earlier.
        command = ["sh", "-c", "echo started && exec sleep 100"]
        program = subprocess.Popen(command, stdout=subprocess.PIPE, close_fds=False)
        assert program.stdout is not None
        program.stdout.readline()
        link.send((found, program.pid))
        link.recv()


def wait_for(link: Link, folder: Path) -> str:
    """Child process: wait for a claim."""
    with FileClaims(str(folder)) as claims:
        link.send("waiting")
        with claims.claim("part", "a", wait_s=60.0) as found:
            return "mine" if found else "theirs"


def test_a_free_claim_succeeds(ours: Claims) -> None:
    assert get(ours)


def test_two_in_one_process_exclude_each_other(ours: Claims, theirs: Claims) -> None:
    with ours.claim("part", "a"):
        assert not get(theirs)


@pytest.mark.files_only
def test_two_processes_exclude_each_other(ours: Claims, data: Path, start: Start) -> None:
    with ours.claim("part", "a"):
        child = start(hold, data, "a")
        assert not child.receive()
        child.send("go")
        child.result()


@pytest.mark.files_only
def test_a_claim_of_another_process_is_respected(ours: Claims, data: Path, start: Start) -> None:
    child = start(hold, data, "a")
    assert (child.receive(), get(ours)) == (True, False)
    child.send("go")
    child.result()


def test_another_name_is_another_claim(ours: Claims, theirs: Claims) -> None:
    with ours.claim("part", "a"):
        assert get(theirs, "b")


def test_another_kind_is_another_claim(ours: Claims, theirs: Claims) -> None:
    with ours.claim("part", "a"):
        assert get(theirs, "a", "content")


def test_the_same_name_in_another_folder_is_another_claim(
    manifest: DownloadManifestManager, ours: Claims, data: Path
) -> None:
    (data / "other").mkdir()
    with ours.claim("part", "a"), manifest.claims(data / "other") as theirs:
        assert get(theirs)


def test_the_same_directory_through_a_link_is_the_same_claim(
    manifest: DownloadManifestManager, ours: Claims, data: Path
) -> None:
    (data / "link").symlink_to(data)
    with ours.claim("part", "a"), manifest.claims(data / "link") as theirs:
        assert not get(theirs)


def test_two_manifests_of_one_directory_share_its_claims(location: str | Path, ours: Claims, data: Path) -> None:
    other = re.sub("systems(?=_download)", "others", str(location))
    with ours.claim("part", "a"), DownloadManifestManager(other, META, options=QUIET) as second:
        assert other != str(location)
        with second.claims(data) as theirs:
            assert not get(theirs)


def test_a_claim_ends_with_its_block(ours: Claims, theirs: Claims) -> None:
    assert (get(ours), get(theirs)) == (True, True)


def test_a_claim_ends_with_an_error_in_its_block(ours: Claims, theirs: Claims) -> None:
    with pytest.raises(KeyboardInterrupt), ours.claim("part", "a"):
        raise KeyboardInterrupt
    assert get(theirs)


def test_a_failed_claim_does_not_end_the_holders_claim(
    manifest: DownloadManifestManager, ours: Claims, theirs: Claims, data: Path
) -> None:
    with ours.claim("part", "a"):
        get(theirs)
        with manifest.claims(data) as others:
            assert not get(others)


def test_closing_ends_every_claim(manifest: DownloadManifestManager, theirs: Claims, data: Path) -> None:
    claims = manifest.claims(data)
    with ExitStack() as held:
        held.enter_context(claims.claim("part", "a"))
        claims.close()
        assert get(theirs)


def test_a_block_that_ends_after_closing_ends_no_claim_of_another(
    manifest: DownloadManifestManager, theirs: Claims, data: Path
) -> None:
    claims = manifest.claims(data)
    with ExitStack() as held, ExitStack() as block:
        block.enter_context(claims.claim("part", "a"))
        claims.close()
        held.enter_context(theirs.claim("part", "a"))
        block.close()
        with manifest.claims(data) as others:
            assert not get(others)


def test_closing_another_one_ends_no_claim(
    manifest: DownloadManifestManager, ours: Claims, theirs: Claims, data: Path
) -> None:
    with ours.claim("part", "a"):
        manifest.claims(data).close()
        assert not get(theirs)


def test_closing_twice_is_fine(manifest: DownloadManifestManager, data: Path) -> None:
    claims = manifest.claims(data)
    claims.close()
    claims.close()


@pytest.mark.files_only
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_process_has_no_claims(ours: Claims, data: Path, start: Start, number: signal.Signals) -> None:
    child = start(hold, data, "a")
    child.receive()
    child.kill(number)
    child.join()
    assert get(ours)


@pytest.mark.files_only
def test_a_claim_is_not_handed_down_to_started_programs(ours: Claims, data: Path, start: Start) -> None:
    child = start(hold_and_fork, data, "a")
    _, program = child.receive()
    child.kill()
    child.join()
    found = get(ours)
    os.kill(program, signal.SIGKILL)
    assert found


@pytest.mark.files_only
def test_a_claim_that_is_waited_for_comes_when_it_is_free(ours: Claims, data: Path, start: Start) -> None:
    with ours.claim("part", "a"):
        child = start(wait_for, data)
        assert child.receive() == "waiting"
    assert child.result() == "mine"


@pytest.mark.files_only
def test_a_claim_that_is_waited_for_comes_when_its_holder_is_killed(data: Path, start: Start) -> None:
    holder = start(hold, data, "a")
    holder.receive()
    waiter = start(wait_for, data)
    waiter.receive()
    holder.kill()
    assert waiter.result() == "mine"


@pytest.mark.files_only
def test_of_many_processes_one_gets_the_claim(data: Path, start: Start) -> None:
    children = [start(hold, data, "a") for _ in range(8)]
    assert sum(child.receive() for child in children) == 1


def test_of_several_the_free_ones_are_claimed(ours: Claims, theirs: Claims) -> None:
    with theirs.claim("part", "b"), ours.claim_many("part", ["a", "b", "c"]) as found:
        assert (set(found), get(theirs, "a")) == ({"a", "c"}, False)


def test_several_claims_end_with_their_block(ours: Claims, theirs: Claims) -> None:
    with ours.claim_many("part", ["a", "b"]):
        pass
    assert (get(theirs, "a"), get(theirs, "b")) == (True, True)


def test_several_claims_that_are_waited_for_come_when_they_are_free(ours: Claims, theirs: Claims) -> None:
    with ExitStack() as held:
        held.enter_context(theirs.claim_many("part", ["a", "b"]))
        threading.Timer(0.05, held.pop_all().close).start()
        with ours.claim_many("part", ["b", "c"], wait_s=60.0) as found:
            assert set(found) == {"b", "c"}


def test_no_claims_at_all_are_fine(ours: Claims) -> None:
    with ours.claim_many("part", []) as found:
        assert not found


def test_who_holds_the_claims_writes_inside_their_fence(
    manifest: DownloadManifestManager, ours: Claims, theirs: Claims
) -> None:
    with ours.claim("part", "a"), theirs.claim("part", "b"), ours.fence(theirs):
        manifest.add(record("a"))
    assert sha("a") in manifest


@pytest.mark.parametrize("name", ["", "ä", "\0", "\udcff", "x" * 10_000])
def test_any_name_can_be_claimed(ours: Claims, theirs: Claims, name: str) -> None:
    with ours.claim("part", name) as found:
        assert (found, get(theirs, name)) == (True, False)


def test_many_claims_are_held_at_once(ours: Claims, theirs: Claims) -> None:
    with ExitStack() as held:
        found = [held.enter_context(ours.claim("part", str(number))) for number in range(1000)]
        assert (all(found), any(get(theirs, str(number)) for number in range(1000))) == (True, False)


@pytest.mark.files_only
def test_nothing_is_written(ours: Claims, data: Path) -> None:
    get(ours)
    assert [(path.name, path.stat().st_size) for path in data.iterdir()] == [(CLAIMS_NAME, 0)]


@pytest.mark.files_only
def test_a_leftover_claims_file_blocks_no_process(data: Path, start: Start) -> None:
    for _ in range(3):
        child = start(hold, data, "a")
        assert child.receive()
        child.kill()
        child.join()
    assert [path.name for path in data.iterdir()] == [CLAIMS_NAME]


def test_waiting_for_a_claim_ends_without_it(ours: Claims, theirs: Claims) -> None:
    with ours.claim("part", "a"), theirs.claim("part", "a", wait_s=0.02) as found:
        assert not found


def test_a_claim_that_another_thread_releases_comes(ours: Claims, theirs: Claims) -> None:
    with ExitStack() as held:
        held.enter_context(ours.claim("part", "a"))
        threading.Timer(0.05, held.pop_all().close).start()
        with theirs.claim("part", "a", wait_s=60.0) as found:
            assert found


def test_skips_are_counted_until_they_are_cleared(ours: Claims, theirs: Claims) -> None:
    counts = [len(theirs.record_skip("a")), len(theirs.record_skip("a")), len(theirs.record_skip("b"))]
    ours.clear_skips("a")
    assert (counts, len(theirs.record_skip("a")), len(theirs.record_skip("b"))) == ([1, 2, 1], 1, 2)


def test_clearing_no_skips_is_fine(ours: Claims) -> None:
    ours.clear_skips("a")
    assert len(ours.record_skip("a")) == 1


def test_messages_can_name_the_claims(ours: Claims, data: Path) -> None:
    assert ours.display.startswith(str(data))


def test_who_holds_which_claims_can_be_seen(manifest: DownloadManifestManager, ours: Claims, data: Path) -> None:
    with ours.claim("part", "a"), ours.claim("other", "b"):
        found = manifest._engine.holders(str(data), "part", ["a", "b"])
    expected = [] if not manifest.is_shared else [(socket.gethostname(), os.getpid(), "part", "a")]
    assert [(one.host, one.pid, one.kind, one.name) for one in found] == expected


def test_nobody_holds_what_was_given_back(manifest: DownloadManifestManager, ours: Claims, data: Path) -> None:
    get(ours)
    assert manifest._engine.holders(str(data), "part", ["a"]) == []


@pytest.mark.files_only
def test_to_look_who_holds_claims_creates_no_file(manifest: DownloadManifestManager, data: Path) -> None:
    assert manifest._engine.holders(str(data), "part", ["a"]) == []
    assert list(data.iterdir()) == []
