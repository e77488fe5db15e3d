"""Claims: at most one holder across all processes, released when it dies."""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from manifestlog.extract.claims import Claims
from manifestlog.extract.errors import ExtractError
from manifestlog.names import CLAIMS_NAME

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.children import Link, Start


@pytest.fixture
def ours(tmp_path: Path) -> Iterator[Claims]:
    with Claims(tmp_path) as claims:
        yield claims


@pytest.fixture
def theirs(tmp_path: Path) -> Iterator[Claims]:
    with Claims(tmp_path) as claims:
        yield claims


def get(claims: Claims, name: str = "a", kind: str = "part") -> bool:
    with claims.trying(kind, name) as found:
        return found


def hold(link: Link, folder: Path, name: str) -> bool:
    """Child process: report whether the claim succeeded, and hold it until told."""
    with Claims(folder) as claims, claims.trying("part", name) as found:
        link.send(found)
        link.recv()
    return found


def hold_and_fork(link: Link, folder: Path, name: str) -> None:
    """Child process that is killed while a program it started still runs."""
    with Claims(folder) as claims, claims.trying("part", name) as found:
        # After its first message it has closed all inherited descriptors; its parent continues slightly earlier.
        command = ["sh", "-c", "echo started && exec sleep 100"]
        program = subprocess.Popen(command, stdout=subprocess.PIPE, close_fds=False)
        assert program.stdout is not None
        program.stdout.readline()
        link.send((found, program.pid))
        link.recv()


def wait_for(link: Link, folder: Path) -> str:
    """Child process: wait for a claim."""
    with Claims(folder) as claims:
        link.send("waiting")
        with claims.waiting("part", "a"):
            return "mine"


def test_a_free_claim_succeeds(ours: Claims) -> None:
    assert get(ours)


def test_two_in_one_process_exclude_each_other(ours: Claims, theirs: Claims) -> None:
    with ours.trying("part", "a"):
        assert not get(theirs)


def test_two_processes_exclude_each_other(ours: Claims, tmp_path: Path, start: Start) -> None:
    with ours.trying("part", "a"):
        child = start(hold, tmp_path, "a")
        assert not child.receive()
        child.send("go")
        child.result()


def test_a_claim_of_another_process_is_respected(ours: Claims, tmp_path: Path, start: Start) -> None:
    child = start(hold, tmp_path, "a")
    assert (child.receive(), get(ours)) == (True, False)
    child.send("go")
    child.result()


def test_another_name_is_another_claim(ours: Claims, theirs: Claims) -> None:
    with ours.trying("part", "a"):
        assert get(theirs, "b")


def test_another_kind_is_another_claim(ours: Claims, theirs: Claims) -> None:
    with ours.trying("part", "a"):
        assert get(theirs, "a", "content")


def test_the_same_name_in_another_folder_is_another_claim(ours: Claims, tmp_path: Path) -> None:
    with ours.trying("part", "a"), Claims(tmp_path / "other") as theirs:
        assert get(theirs)


def test_a_file_is_claimed_by_one_name_through_any_link_to_the_directory(ours: Claims, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    with Claims(tmp_path / "link") as theirs:
        assert ours.name_of(tmp_path / "systems" / "a") == theirs.name_of(tmp_path / "link" / "systems" / "a")


def test_a_file_is_claimed_by_one_name_through_any_dataset(ours: Claims, tmp_path: Path) -> None:
    (tmp_path / "bodies").symlink_to("systems")
    assert ours.name_of(tmp_path / "systems" / "a") == ours.name_of(tmp_path / "bodies" / "a")


def test_a_file_that_is_a_link_is_claimed_by_its_own_name(ours: Claims, tmp_path: Path) -> None:
    (tmp_path / "b").symlink_to("a")
    assert ours.name_of(tmp_path / "a") != ours.name_of(tmp_path / "b")


def test_files_of_one_name_in_two_datasets_are_claimed_by_two(ours: Claims, tmp_path: Path) -> None:
    assert ours.name_of(tmp_path / "systems" / "a") != ours.name_of(tmp_path / "bodies" / "a")


def test_a_claim_ends_with_its_block(ours: Claims, theirs: Claims) -> None:
    assert (get(ours), get(theirs)) == (True, True)


def test_a_claim_ends_with_an_error_in_its_block(ours: Claims, theirs: Claims) -> None:
    with pytest.raises(KeyboardInterrupt), ours.trying("part", "a"):
        raise KeyboardInterrupt
    assert get(theirs)


def test_who_did_not_get_a_claim_does_not_end_it(ours: Claims, theirs: Claims, tmp_path: Path) -> None:
    with ours.trying("part", "a"):
        get(theirs)
        with Claims(tmp_path) as others:
            assert not get(others)


def test_closing_ends_every_claim(theirs: Claims, tmp_path: Path) -> None:
    claims = Claims(tmp_path)
    with ExitStack() as held:
        held.enter_context(claims.trying("part", "a"))
        held.pop_all()
    claims.close()
    assert get(theirs)


def test_closing_another_one_ends_no_claim(ours: Claims, theirs: Claims, tmp_path: Path) -> None:
    with ours.trying("part", "a"):
        Claims(tmp_path).close()
        assert not get(theirs)


def test_closing_twice_is_fine(tmp_path: Path) -> None:
    claims = Claims(tmp_path)
    claims.close()
    claims.close()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_process_has_no_claims(ours: Claims, tmp_path: Path, start: Start, number: signal.Signals) -> None:
    child = start(hold, tmp_path, "a")
    child.receive()
    child.kill(number)
    child.join()
    assert get(ours)


def test_a_claim_is_not_handed_down_to_started_programs(ours: Claims, tmp_path: Path, start: Start) -> None:
    child = start(hold_and_fork, tmp_path, "a")
    _, program = child.receive()
    child.kill()
    child.join()
    found = get(ours)
    os.kill(program, signal.SIGKILL)
    assert found


def test_a_claim_that_is_waited_for_comes_when_it_is_free(ours: Claims, tmp_path: Path, start: Start) -> None:
    with ours.trying("part", "a"):
        child = start(wait_for, tmp_path)
        assert child.receive() == "waiting"
    assert child.result() == "mine"


def test_a_claim_that_is_waited_for_comes_when_its_holder_is_killed(tmp_path: Path, start: Start) -> None:
    holder = start(hold, tmp_path, "a")
    holder.receive()
    waiter = start(wait_for, tmp_path)
    waiter.receive()
    holder.kill()
    assert waiter.result() == "mine"


def test_waiting_ends_some_day(ours: Claims, theirs: Claims, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("manifestlog.extract.claims._WAIT_S", 0.0)
    with ours.trying("part", "a"), pytest.raises(ExtractError, match="claimed by another"), theirs.waiting("part", "a"):
        pass


def test_of_many_processes_one_gets_the_claim(tmp_path: Path, start: Start) -> None:
    children = [start(hold, tmp_path, "a") for _ in range(8)]
    assert sum(child.receive() for child in children) == 1


@pytest.mark.parametrize("name", ["", "ä", "\0", "\udcff", "x" * 10_000])
def test_any_name_can_be_claimed(ours: Claims, theirs: Claims, name: str) -> None:
    with ours.trying("part", name) as found:
        assert (found, get(theirs, name)) == (True, False)


def test_many_claims_are_held_at_once(ours: Claims, theirs: Claims) -> None:
    with ExitStack() as held:
        found = [held.enter_context(ours.trying("part", str(number))) for number in range(1000)]
        assert (all(found), any(get(theirs, str(number)) for number in range(1000))) == (True, False)


def test_nothing_is_written(ours: Claims, tmp_path: Path) -> None:
    get(ours)
    assert [(path.name, path.stat().st_size) for path in tmp_path.iterdir()] == [(CLAIMS_NAME, 0)]


def test_a_leftover_claims_file_blocks_no_process(tmp_path: Path, start: Start) -> None:
    for _ in range(3):
        child = start(hold, tmp_path, "a")
        assert child.receive()
        child.kill()
        child.join()
    assert [path.name for path in tmp_path.iterdir()] == [CLAIMS_NAME]
