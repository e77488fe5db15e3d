"""Which parts earlier runs have left: found by single looks, or by a list of the directory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from extract.builders import source
from extract.running import pattern
from manifestlog.extract import Result
from manifestlog.extract.places import leftovers
from manifestlog.extract.places.leftovers import Leftovers
from support import answers

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from extract.running import Here
    from manifestlog.extract import ETLSource
    from support.badserver import BadServer, Exchange, Step

LOOKS = leftovers._LOOKS_MIN
BODY, OTHER = pattern(900), pattern(800, 1)


def looked(directory: Path, number: int = LOOKS) -> Leftovers:
    """What knows the directory after so many looks at parts that are not there."""
    found = Leftovers()
    for count in range(number):
        found.may_have(directory / f"{count}.gone.part")
    return found


# -- the list ----------------------------------------------------------------------------------------------------------


def test_the_first_looks_are_left_to_the_caller(tmp_path: Path) -> None:
    assert looked(tmp_path, LOOKS - 1).may_have(tmp_path / "a.part")


@pytest.mark.parametrize("name", ["a.part", "a.part.json"])
def test_what_is_listed_may_be_there(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    assert looked(tmp_path).may_have(tmp_path / "a.part")


def test_what_is_not_listed_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "b.part").touch()
    assert not looked(tmp_path).may_have(tmp_path / "a.part")


def test_a_directory_that_is_missing_has_no_parts(tmp_path: Path) -> None:
    assert not looked(tmp_path / "missing").may_have(tmp_path / "missing" / "a.part")


def test_a_file_in_place_of_a_directory_is_left_to_the_caller(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert looked(tmp_path / "file").may_have(tmp_path / "file" / "a.part")


def test_a_large_directory_is_not_listed_for_a_few_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leftovers, "_ENTRIES_A_LOOK", 1)
    for number in range(LOOKS + 1):
        (tmp_path / f"{number}.json").touch()
    assert looked(tmp_path).may_have(tmp_path / "a.part")


def test_a_large_directory_is_listed_for_many_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leftovers, "_ENTRIES_A_LOOK", 1)
    for number in range(LOOKS + 1):
        (tmp_path / f"{number}.json").touch()
    assert not looked(tmp_path, 2 * LOOKS).may_have(tmp_path / "a.part")


# -- in a run ----------------------------------------------------------------------------------------------------------


def behind_a_list(here: Here, bad: BadServer, *steps: Step) -> Callable[[], Result]:
    """Return what fetches a known source that takes these steps, in a run that has listed its directory before."""
    known = [unchanged(bad, number) for number in range(LOOKS)]
    last = source(bad.script("/last", answers.whole(BODY[:10], '"old"')), source_id="last", dataset="systems")
    here.run(*known, last)
    bad.script("/last", *steps)
    return lambda: here.run(*known, last).outcomes[-1].result  # it is the smallest, and so comes last


def unchanged(bad: BadServer, number: int) -> ETLSource:
    url = bad.script(f"/{number}", answers.whole(pattern(100, number), '"e"'))
    return source(url, source_id=str(number), dataset="systems")


def resumed_behind_a_list(here: Here, bad: BadServer) -> None:
    run = behind_a_list(here, bad, answers.cut_at(400, BODY, '"new"'), answers.whole(BODY, '"new"'))
    assert run() is Result.CHANGED
    assert [asked.headers.get("range") for asked in bad.asked("/last")] == [None, None, "bytes=400-"]


def test_an_attempt_finds_what_the_one_before_has_left(here: Here, bad: BadServer) -> None:
    resumed_behind_a_list(here, bad)


def left_meanwhile(here: Here, bad: BadServer) -> None:
    def another_run_breaks_off(exchange: Exchange) -> None:
        bad.script("/last", answers.cut_at(400, BODY, '"new"'), answers.whole(BODY, '"new"'))
        here.fetch(bad.url + "/last", source_id="last", retries=0)
        answers.whole(BODY, '"new"')(exchange)

    run = behind_a_list(here, bad, another_run_breaks_off)
    assert run() is Result.CHANGED
    assert here.body("last") == BODY
    assert [name for name in here.files if ".part" in name] == []


def test_what_another_run_leaves_after_the_list_is_found_under_the_claim(here: Here, bad: BadServer) -> None:
    left_meanwhile(here, bad)
