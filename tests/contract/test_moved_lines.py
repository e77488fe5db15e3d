"""Lines that somebody has moved, taken out, doubled or put in: damage wherever an intact line would be lost with it.

Such a line tells by its CRC where it was written, and no crash moves one. What only a crash leaves stays no damage.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from typing import TYPE_CHECKING

import pytest

from manifestlog import DamagedManifestError, DownloadManifestManager, Durability, ManifestOptions, names
from manifestlog.engines.filelog.recovery.check import check
from manifestlog.engines.filelog.recovery.repair import repair
from support.engines import engine_of

from .builders import META, files_of, line_at, record, salt_of, segments_of, sha

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from manifestlog.engines.reports import RepairReport

DEFAULT = ManifestOptions(auto_compact=False, compact_on_close=False)
WEAKER = replace(DEFAULT, durability=Durability.PROCESS_KILL)
COUNT = 8
ALL = {sha(f"c{n}") for n in range(COUNT)}

Lines = list[bytes]


def _fill(directory: Path, options: ManifestOptions = DEFAULT) -> tuple[Path, Path, Lines]:
    """A manifest with eight records added one by one, its active segment, and that one's lines."""
    path = directory / "systems_download.manifest.json"
    with DownloadManifestManager(path, META, options=options) as manager:
        for number in range(COUNT):
            manager.add(record(f"c{number}", number))
    (active,) = segments_of(directory)
    return path, active, active.read_bytes().splitlines(keepends=True)


def _without(lines: Lines, at: int, count: int = 1) -> Lines:
    return [*lines[:at], *lines[at + count :]]


def _with(lines: Lines, at: int, line: bytes) -> Lines:
    return [*lines[:at], line, *lines[at:]]


def _swapped(lines: Lines, one: int, other: int) -> Lines:
    made = list(lines)
    made[one], made[other] = made[other], made[one]
    return made


def _inserted(lines: Lines) -> Iterator[tuple[str, Lines]]:
    """Everything by which no line is lost."""
    foreign = line_at(lines[1][: -len(',"crc":"00000000"}\n')], 12345, len(lines[0]))
    for at in range(1, len(lines)):
        yield f"an empty line before line {at}", _with(lines, at, b"\n")
        yield f"another segment's line before line {at}", _with(lines, at, foreign)
        yield f"line {at} twice", _with(lines, at, lines[at - 1])
    for one, other in combinations(range(1, len(lines)), 2):
        yield f"lines {one} and {other} swapped", _swapped(lines, one, other)
    yield "the first line is the last", [*lines[1:], lines[0]]
    yield "an empty line before the first", [b"\n", *lines]
    yield "no newline behind line 3", [*lines[:3], lines[3][:-1], *lines[4:]]


def _taken_out(lines: Lines) -> Iterator[tuple[str, Lines, set[str]]]:
    """Lines taken out before others, and the records that were in them."""
    for one, behind in combinations(range(1, len(lines)), 2):
        gone = {sha(f"c{n - 1}") for n in range(one, behind)}
        yield f"lines {one} to {behind} gone", _without(lines, one, behind - one), gone


def _every(lines: Lines) -> Iterator[tuple[str, Lines]]:
    yield from _inserted(lines)
    yield from ((what, made) for what, made, _ in _taken_out(lines))
    yield "the last line moved, and its newline gone", [*_without(lines, len(lines) - 2)[:-1], lines[-1][:-1]]


def _refused(path: Path) -> DamagedManifestError | None:
    try:
        DownloadManifestManager(path, META, options=DEFAULT).close()
    except DamagedManifestError as error:
        return error
    return None


def test_every_move_is_damage(tmp_path: Path) -> None:
    """An intact line behind it would be lost with what a crash has damaged."""
    _every_move_is_damage(tmp_path, DEFAULT)


def test_every_move_is_damage_in_the_weaker_modes(tmp_path: Path) -> None:
    """Whatever is said to be synced."""
    _every_move_is_damage(tmp_path, WEAKER)


def _every_move_is_damage(directory: Path, options: ManifestOptions) -> None:
    path, active, lines = _fill(directory, options)
    passed = []
    for what, made in _every(lines):
        active.write_bytes(b"".join(made))
        if _refused(path) is None:
            passed.append(what)
    assert passed == []


def test_check_finds_every_move(tmp_path: Path) -> None:
    path, active, lines = _fill(tmp_path)
    passed = []
    for what, made in _every(lines):
        active.write_bytes(b"".join(made))
        if not check(names.resolve(path)).damaged:
            passed.append(what)
    assert passed == []


def test_a_rejected_move_changes_no_file(tmp_path: Path) -> None:
    """Nothing is fenced off, and nothing compacted away."""
    path, active, lines = _fill(tmp_path)
    active.write_bytes(b"".join(_without(lines, 3)))
    before = files_of(tmp_path)
    _refused(path)
    assert files_of(tmp_path) == before


def test_a_move_under_an_open_manager_is_not_compacted_away(tmp_path: Path) -> None:
    """It has read all lines; the compaction reads them again."""
    path, active, lines = _fill(tmp_path)
    with DownloadManifestManager(path, META, options=DEFAULT) as manager:
        active.write_bytes(b"".join(_swapped(lines, 2, 5)))
        with pytest.raises(DamagedManifestError):
            manager.compact()
    assert [*active.read_bytes().splitlines(keepends=True)][: len(lines)] == _swapped(lines, 2, 5)


@pytest.mark.parametrize("at", range(1, COUNT))
def test_the_error_says_file_and_offset_and_how_many_good_records_lie_beyond(tmp_path: Path, at: int) -> None:
    path, active, lines = _fill(tmp_path)
    active.write_bytes(b"".join(_without(lines, at)))
    error = _refused(path)
    assert error is not None
    assert (error.path, error.offset, error.exit_code) == (str(active), sum(map(len, lines[:at])), 12)
    assert f"{COUNT - at} good records follow" in error.reason


def test_the_error_counts_good_records_in_their_places_and_elsewhere(tmp_path: Path) -> None:
    path, active, lines = _fill(tmp_path)
    active.write_bytes(b"".join(_swapped(lines, 2, 5)))
    assert f"{COUNT - 1} good records follow" in str(_refused(path))


@pytest.mark.parametrize("body", [b"[1", b'{"op"', b'{"op":"batch","records":7', b'{"synced":"x","record":1'])
def test_a_line_that_no_session_would_accept_counts_as_no_good_record(tmp_path: Path, body: bytes) -> None:
    path, active, lines = _fill(tmp_path)
    moved = b"".join(_without(lines, 3))
    active.write_bytes(moved + line_at(body, salt_of(moved), len(moved)))
    assert f"{COUNT - 3} good records follow" in str(_refused(path))


def test_the_finding_of_check_counts_good_records_too(tmp_path: Path) -> None:
    path, active, lines = _fill(tmp_path)
    active.write_bytes(b"".join(_without(lines, 2)))
    (finding,) = check(names.resolve(path)).findings
    assert (finding.file, finding.offset) == (str(active), len(lines[0] + lines[1]))
    assert f"{COUNT - 2} good records" in finding.meaning


def _mended(path: Path) -> tuple[RepairReport, set[str]]:
    report = repair(names.resolve(path))
    with DownloadManifestManager(path, read_only=True) as manager:
        return report, set(manager)


def test_a_repair_keeps_every_line_of_those_that_were_moved_and_loses_nothing(tmp_path: Path) -> None:
    _, _, whole = _fill(tmp_path / "sample")
    wrong = []
    for number in range(len(list(_inserted(whole)))):
        path, active, lines = _fill(tmp_path / f"{number}")
        what, made = list(_inserted(lines))[number]
        active.write_bytes(b"".join(made))
        report, kept = _mended(path)
        if (kept, report.lost) != (ALL, []):
            wrong.append((what, len(kept), report.lost))
    assert wrong == []


def test_a_repair_keeps_every_line_that_was_not_taken_out(tmp_path: Path) -> None:
    _, _, whole = _fill(tmp_path / "sample")
    wrong = []
    for number in range(len(list(_taken_out(whole)))):
        path, active, lines = _fill(tmp_path / f"{number}")
        what, made, gone = list(_taken_out(lines))[number]
        active.write_bytes(b"".join(made))
        report, kept = _mended(path)
        (loss,) = report.lost
        if (kept, loss.bytes) != (ALL - gone, sum(map(len, lines)) - sum(map(len, made))):
            wrong.append((what, len(kept), loss))
    assert wrong == []


def test_a_repair_without_the_first_line_keeps_all_behind_it(tmp_path: Path) -> None:
    """All have moved by the same number of bytes: that and the salt are found together."""
    path, active, lines = _fill(tmp_path)
    active.write_bytes(b"".join(lines[1:]))
    assert _mended(path)[1] == ALL


def _forgets(directory: Path) -> tuple[Path, Path, Lines]:
    """Added, forgotten, and something else behind it."""
    path = directory / "systems_download.manifest.json"
    with DownloadManifestManager(path, META, options=DEFAULT) as manager:
        manager.add(record("gone", 0))
        manager.forget(sha("gone"))
        manager.add(record("here", 1))
    (active,) = segments_of(directory)
    return path, active, active.read_bytes().splitlines(keepends=True)


def test_a_repair_takes_lines_in_the_order_in_which_they_were_written(tmp_path: Path) -> None:
    """A record that was forgotten does not come back because its line stands behind that."""
    path, active, lines = _forgets(tmp_path)
    active.write_bytes(b"".join([lines[0], b"x" * (len(lines[1]) - 1) + b"\n", *lines[2:], lines[1]]))
    assert _mended(path)[1] == {sha("here")}


def test_a_repair_takes_a_doubled_line_once(tmp_path: Path) -> None:
    path, active, lines = _forgets(tmp_path)
    active.write_bytes(b"".join(_with(lines, 3, lines[1])))
    assert _mended(path)[1] == {sha("here")}


def test_moved_lines_of_a_sealed_segment_are_damage_that_a_repair_mends(tmp_path: Path) -> None:
    path, active, lines = _fill(tmp_path)
    with DownloadManifestManager(path, options=DEFAULT) as manager:
        engine_of(manager).session.transact(lambda state: state.start_log().rotate())
    lines = active.read_bytes().splitlines(keepends=True)
    active.write_bytes(b"".join(_swapped(lines, 2, 5)))
    assert _refused(path) is not None
    report, kept = _mended(path)
    assert (kept, report.lost) == (ALL, [])


# -- what is no damage -------------------------------------------------------------------------------------------------


def test_a_copy_after_all_other_lines_is_not_damage(tmp_path: Path) -> None:
    """The line itself is where it was written, so nothing is lost with its copy."""
    path, active, lines = _fill(tmp_path)
    wrong = []
    for at in range(1, len(lines)):
        active.write_bytes(b"".join([*lines, lines[at]]))
        with DownloadManifestManager(path, read_only=True) as manager:
            if set(manager) != ALL or check(names.resolve(path)).damaged:
                wrong.append(at)
    assert wrong == []


def test_unsynced_lines_after_a_power_cut_are_not_damage(tmp_path: Path) -> None:
    """Cut anywhere; any blocks of 64 bytes behind the first line as NULs, or as what lay there before."""
    path, active, lines = _fill(tmp_path, WEAKER)
    whole, first = b"".join(lines), len(lines[0])
    left = [whole[:cut] for cut in range(first, len(whole), 7)]
    for start in range(first, len(whole) - 64, 64):
        left += [whole[:start] + fill + whole[start + 64 :] for fill in (bytes(64), b"old bytes" * 7 + b"\n")]
        left.append(whole[:start] + bytes(len(whole) - start))
    wrong = []
    for number, data in enumerate(left):
        active.write_bytes(data)
        if check(names.resolve(path)).damaged:
            wrong.append(number)
        with DownloadManifestManager(path, read_only=True) as manager:
            wrong += [number] * (not set(manager) <= ALL)
    assert wrong == []


def test_a_damaged_line_is_not_taken_for_a_moved_one(tmp_path: Path) -> None:
    """Behind all that is known to be synced, each bit of it is a crash's, also where the line stays valid JSON."""
    path, active, lines = _fill(tmp_path, WEAKER)
    start = sum(map(len, lines[:5]))
    wrong = []
    for place in range(start, start + len(lines[5]) - 1):
        data = bytearray(b"".join(lines))
        data[place] ^= 1
        active.write_bytes(data)
        wrong += [place] * (_reads_less(path) is None)
    # One bit in millions of others fits an offset in the file by chance.
    assert len(wrong) <= 1


def _reads_less(path: Path) -> set[str] | None:
    try:
        with DownloadManifestManager(path, read_only=True) as manager:
            return set(manager)
    except DamagedManifestError:
        return None
