"""What a file's state means, and in which order files are looked at."""

from __future__ import annotations

import errno
import tracemalloc
from typing import TYPE_CHECKING, Any

import pytest

from manifestlog.audit import plan as verify
from manifestlog.audit.plan import NEVER, Expected, FileStat, FileState, Level, VerifyPlan, expected_files, judge

if TYPE_CHECKING:
    from collections.abc import Callable

    from manifestlog.model.rows import Row

FILE = Expected("/data/a", "a" * 64, 5)
GOOD = FileStat(size=5, checksum="a" * 64)


@pytest.mark.parametrize("level", Level)
@pytest.mark.parametrize("number", [errno.ENOENT, errno.ENOTDIR])
def test_a_file_that_does_not_exist_is_missing(level: Level, number: int) -> None:
    assert judge(FILE, FileStat(error=number, why="gone"), level) == (FileState.MISSING, "the file does not exist")


@pytest.mark.parametrize("level", Level)
@pytest.mark.parametrize("number", [errno.EACCES, errno.ELOOP, errno.EIO, errno.ENAMETOOLONG])
def test_a_file_that_cannot_be_examined_is_unreadable_with_a_reason(level: Level, number: int) -> None:
    assert judge(FILE, FileStat(error=number, why="because"), level) == (FileState.UNREADABLE, "because")


@pytest.mark.parametrize("level", Level)
def test_anything_but_a_regular_file_is_changed(level: Level) -> None:
    found = judge(FILE, FileStat(is_file=False, size=5), level)
    assert found is not None
    assert found.state is FileState.CHANGED


@pytest.mark.parametrize(
    ("level", "seen", "state"),
    [
        (Level.PRESENCE, FileStat(size=9), FileState.OK),
        (Level.SIZE, FileStat(size=9), FileState.CHANGED),
        (Level.FULL, FileStat(size=9), FileState.CHANGED),
        (Level.SIZE, FileStat(size=5), FileState.OK),
        (Level.SIZE, GOOD._replace(checksum="b" * 64), FileState.OK),
        (Level.FULL, GOOD._replace(checksum="b" * 64), FileState.CHANGED),
        (Level.FULL, GOOD, FileState.OK),
        (Level.FULL, FileStat(moved=True), FileState.CHANGED),
    ],
)
def test_each_level_compares_more(level: Level, seen: FileStat, state: FileState) -> None:
    found = judge(FILE, seen, level)
    assert found is not None
    assert found.state is state


def test_a_file_of_the_right_size_must_be_read_to_tell() -> None:
    assert judge(FILE, FileStat(size=5), Level.FULL) is None


def test_a_file_that_moved_is_not_reported_as_empty() -> None:
    found = judge(FILE, FileStat(moved=True), Level.FULL)
    assert found is not None
    assert found.reason == "it changed while it was read; verify it again when nothing writes to it"


@pytest.mark.parametrize("level", Level)
@pytest.mark.parametrize(
    "seen",
    [FileStat(error=errno.ENOENT), FileStat(error=errno.EIO, why="x"), FileStat(is_file=False), FileStat(moved=True)],
)
def test_every_other_state_has_a_reason(level: Level, seen: FileStat) -> None:
    found = judge(FILE, seen, level)
    assert found is not None
    assert bool(found.reason) == (found.state is not FileState.OK)


# -- which files -------------------------------------------------------------------------------------------------------


def _row(letter: str, path: str, second: int = 0, *others: tuple[str, int], tie: int = 0) -> Row:
    def seen(number: int, path: str, second: int) -> dict[str, Any]:
        when = f"2026-01-01T12:00:{second:02}Z"
        return {"source_id": f"s{number}", "dataset": "d", "file_path": path, "ts_downloaded": when}

    row = seen(0, path, second) | {"checksum": letter * 64, "file_size": 5}
    if tie:
        row["tie"] = tie
    if others:
        row["also_seen"] = [seen(number, *other) for number, other in enumerate(others, 1)]
    return row


def _paths(row: Row, root: str = "/root") -> list[str]:
    return [expected.path for _, expected in expected_files(row, root)]


def test_relative_paths_lie_below_the_root() -> None:
    assert _paths(_row("a", "data/x")) == ["/root/data/x"]


def test_absolute_paths_are_left_as_they_are() -> None:
    assert _paths(_row("a", "/data/x")) == ["/data/x"]


def test_every_path_of_a_record_counts() -> None:
    assert _paths(_row("a", "x", 3, ("y", 1), ("z", 2))) == ["/root/x", "/root/y", "/root/z"]


def test_a_path_that_two_sources_name_counts_once() -> None:
    assert _paths(_row("a", "x", 3, ("x", 1), ("/root/x", 2))) == ["/root/x"]


def _plan(*rows: Row, verified: Callable[[Expected], int] = lambda _: NEVER) -> VerifyPlan:
    by_checksum = {row["checksum"]: row for row in rows}
    plan = VerifyPlan(by_checksum.get, "/root")
    plan.fill((by_checksum[checksum] for checksum in sorted(by_checksum)), verified)
    return plan


def _order(plan: VerifyPlan) -> list[str]:
    return [expected.path.removeprefix("/root/") for expected in plan]


def test_the_oldest_verification_comes_first_and_none_before_that() -> None:
    rows = [_row(letter, letter) for letter in "abcdef"]
    moments = {"/root/a": 30, "/root/c": 10, "/root/d": 20}
    plan = _plan(*rows, verified=lambda expected: moments.get(expected.path, NEVER))
    assert _order(plan) == ["b", "e", "f", "c", "d", "a"]


def test_paths_of_one_record_have_their_own_turns() -> None:
    moments = {"/root/x": 30, "/root/y": 10}
    plan = _plan(_row("a", "x", 3, ("y", 1)), _row("b", "z"), verified=lambda e: moments.get(e.path, 20))
    assert _order(plan) == ["y", "z", "x"]


def test_a_path_is_compared_with_its_latest_record() -> None:
    plan = _plan(_row("a", "x", 9), _row("b", "x", 3), _row("c", "x", 5), _row("d", "y"))
    assert [(one.path, one.checksum[0]) for one in plan] == [("/root/x", "a"), ("/root/y", "d")]
    assert plan.superseded == 2


def test_between_equal_times_the_tie_decides() -> None:
    plan = _plan(_row("a", "x", 3, tie=1), _row("b", "x", 3))
    assert [one.checksum[0] for one in plan] == ["a"]


def test_a_record_that_lost_one_path_keeps_the_others() -> None:
    plan = _plan(_row("a", "x", 1, ("y", 1)), _row("b", "x", 2))
    assert sorted((one.path, one.checksum[0]) for one in plan) == [("/root/x", "b"), ("/root/y", "a")]


def test_the_bytes_are_those_of_what_is_planned() -> None:
    assert _plan(_row("a", "x", 9), _row("b", "x", 3), _row("c", "y")).total_bytes == 10


def _held_by_a_plan(count: int) -> int:
    """Bytes of a plan of so many files."""

    def fetch(checksum: str) -> Row:
        return _row("a", f"/data/{checksum}") | {"checksum": checksum}

    plan = VerifyPlan(fetch, "/root")
    tracemalloc.start()
    try:
        plan.fill((fetch(f"{number:064x}") for number in range(count)), lambda _: NEVER)
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert len(plan) == count
    return held


def test_a_large_plan_grows_by_less_than_100_bytes_a_file() -> None:
    assert (_held_by_a_plan(100_000) - _held_by_a_plan(50_000)) / 50_000 < 100


def test_the_first_files_of_a_plan_take_less_than_20_megabytes() -> None:
    count = 50_000
    assert _held_by_a_plan(count) - 100 * count < 20_000_000


def test_the_files_of_a_large_plan_come_as_those_of_a_small_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether they were kept, or are read again."""
    rows = [_row(letter, letter) for letter in LETTERS]
    whole = list(_plan(*rows))
    monkeypatch.setattr(verify, "_KEPT_FILES_MAX", 5)
    assert list(_plan(*rows)) == whole


# -- samples -----------------------------------------------------------------------------------------------------------

LETTERS = "0123456789abcdef"


def _sampled(count: int, seed: int, verified: Callable[[Expected], int] = lambda _: NEVER) -> list[str]:
    plan = _plan(*(_row(letter, letter) for letter in LETTERS), verified=verified)
    plan.sample(count, seed)
    assert len(plan) == min(count, len(LETTERS))
    return _order(plan)


def test_the_same_seed_chooses_the_same_files() -> None:
    assert _sampled(5, 1) == _sampled(5, 1)


def test_the_same_seed_chooses_the_same_files_whatever_was_verified_since() -> None:
    later = _sampled(5, 1, lambda expected: ord(expected.path[-1]) % 7)
    assert sorted(later) == sorted(_sampled(5, 1))


def test_every_file_is_chosen_by_some_seed() -> None:
    assert {path for seed in range(50) for path in _sampled(2, seed)} == set(LETTERS)


def test_a_sample_is_looked_at_in_the_plan_s_order() -> None:
    found = _sampled(7, 3, lambda expected: -ord(expected.path[-1]))
    assert found == sorted(found, reverse=True)


def test_a_sample_of_more_than_all_is_all() -> None:
    assert len(_sampled(99, 1)) == len(LETTERS)
