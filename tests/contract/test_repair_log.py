"""`repair` of a log that is damaged in any way: what comes back, and what is said of the rest."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from manifestlog import DownloadManifestManager
from support.damage import (
    ALL,
    FORGOTTEN,
    IN_CANONICAL,
    SMALL_SEGMENTS,
    contents,
    files,
    fill,
    flip,
    folder,
    line_of,
    mend,
    named,
    stored,
)
from support.integrity import puts, segments
from support.records import MANUAL, NAME, checksum, make_record


@pytest.fixture
def path(directory: Path) -> Path:
    return fill(directory / NAME)


def _puts(path: Path, kind: str) -> set[str]:
    return set(puts(files(path)[kind]))


@pytest.mark.parametrize("kind", ["sealed", "sealed too"])
def test_one_damaged_line_costs_one_record(path: Path, kind: str) -> None:
    victim = puts(files(path)[kind])[0]
    flip(files(path)[kind], line_of(files(path)[kind], victim).stop - 30)
    report = mend(path)
    assert (set(stored(path)), named(report)) == (ALL - {victim}, {victim})


def test_a_damaged_range_is_named_by_file_offset_and_length(path: Path) -> None:
    file = files(path)["sealed"]
    line = line_of(file, puts(file)[0])
    flip(file, line.stop - 30)
    (loss,) = mend(path).lost
    assert (Path(loss.file).name, loss.offset, loss.bytes) == (file.name, line.start, len(line) + 1)


def test_a_lost_forget_may_be_undone_and_the_report_says_so(path: Path) -> None:
    file = files(path)["sealed"]
    flip(file, line_of(file, '"op":"forget"').start + 10)
    (loss,) = mend(path).lost
    assert "had removed may reappear" in loss.meaning
    assert loss.checksums == [checksum(FORGOTTEN)]
    assert checksum(FORGOTTEN) in stored(path)


def test_a_damaged_line_in_the_active_segment_costs_one_record(path: Path) -> None:
    """In front of a sync mark: damage that no crash explains."""
    file = files(path)["active"]
    victim = puts(file)[0]
    with DownloadManifestManager(path, options=MANUAL) as manifest:
        manifest.add(make_record(50))
        manifest.add(make_record(51))
    flip(file, line_of(file, victim).stop - 30)
    report = mend(path)
    assert stored(path).keys() == (ALL | {checksum(50), checksum(51)}) - {victim}
    assert named(report) == {victim}


@pytest.mark.parametrize("kind", ["sealed", "sealed too", "active"])
@pytest.mark.parametrize("text", ['"op"', '"format"', '"salt":"', '"manifest"', '"crc"'])
def test_a_damaged_first_line_costs_nothing(path: Path, kind: str, text: str) -> None:
    """What was written behind it tells the salt."""
    file = files(path)[kind]
    if kind == "active":
        with DownloadManifestManager(path, options=MANUAL) as manifest:
            manifest.add(make_record(50))
    flip(file, file.read_bytes().index(text.encode()) + len(text))
    report = mend(path)
    assert report.lost == []
    assert stored(path).keys() >= ALL


def test_a_missing_first_line_costs_no_line_after_it(path: Path) -> None:
    file = files(path)["sealed"]
    first = line_of(file, '"op":"open"')
    data = bytearray(file.read_bytes())
    data[first.start : first.stop] = bytes(len(first))
    file.write_bytes(data)
    mend(path)
    assert stored(path).keys() == ALL


def test_damage_between_the_first_two_lines_costs_the_second_and_is_reported(path: Path) -> None:
    file = files(path)["active"]
    victim = puts(file)[0]
    with DownloadManifestManager(path, options=MANUAL) as manifest:
        manifest.add(make_record(50))
    data = bytearray(file.read_bytes())
    end = line_of(file, '"op":"open"').stop
    data[end - 5 : end + 30] = bytes(35)
    file.write_bytes(data)
    report = mend(path)
    assert (set(stored(path)), named(report)) == ((ALL | {checksum(50)}) - {victim}, {victim})


def test_a_damaged_seal_costs_nothing(path: Path) -> None:
    file = files(path)["sealed"]
    flip(file, line_of(file, '"op":"seal"').start + 12)
    report = mend(path)
    assert (set(stored(path)), report.lost) == (ALL, [])


def test_a_segment_full_of_zeros_is_reported_as_lost(path: Path) -> None:
    file = files(path)["sealed too"]
    gone = _puts(path, "sealed too")
    file.write_bytes(bytes(file.stat().st_size))
    report = mend(path)
    assert stored(path).keys() == ALL - gone
    assert file.name in {Path(loss.file).name for loss in report.lost}


@pytest.mark.parametrize("kind", ["sealed", "sealed too"])
def test_a_missing_segment_is_reported_as_lost(path: Path, kind: str) -> None:
    file, gone = files(path)[kind], _puts(path, kind)
    file.unlink()
    report = mend(path)
    assert stored(path).keys() - {checksum(FORGOTTEN)} == ALL - gone
    assert [Path(loss.file).name for loss in report.lost] == [file.name]


def test_a_missing_log_is_reported_as_lost(path: Path) -> None:
    for file in segments(path).values():
        file.unlink()
    report = mend(path)
    assert stored(path).keys() == {checksum(n) for n in IN_CANONICAL}
    assert report.lost


def test_a_cut_segment_costs_what_stood_behind_the_cut(path: Path) -> None:
    file = files(path)["sealed"]
    victim = puts(file)[-1]
    file.write_bytes(file.read_bytes()[: line_of(file, victim).start])
    report = mend(path)
    assert stored(path).keys() == ALL - {victim}
    assert "truncated" in report.lost[0].meaning


def test_swapped_segments_are_put_in_order(path: Path) -> None:
    one, other = files(path)["sealed"], files(path)["sealed too"]
    kept = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(kept)
    report = mend(path)
    assert (set(stored(path)), report.lost) == (ALL, [])


def test_a_segment_in_anothers_place_costs_that_one(path: Path) -> None:
    gone = _puts(path, "sealed too")
    shutil.copyfile(files(path)["sealed"], files(path)["sealed too"])
    report = mend(path)
    assert stored(path).keys() == ALL - gone
    assert "missing" in report.lost[0].meaning


def test_another_manifests_segment_is_left_out(path: Path, tmp_path: Path) -> None:
    other = fill(tmp_path / "other" / NAME)
    gone = _puts(path, "sealed too")
    shutil.copyfile(files(other)["sealed too"], files(path)["sealed too"])
    report = mend(path)
    assert stored(path).keys() == ALL - gone
    assert any("left out" in note.meaning for note in report.notes)


def test_a_last_segment_replaced_by_another_manifests_keeps_the_rest(path: Path, tmp_path: Path) -> None:
    other = fill(tmp_path / "other" / NAME)
    gone = _puts(path, "active")
    shutil.copyfile(files(other)["active"], files(path)["active"])
    mend(path)
    assert stored(path).keys() == ALL - gone


def test_a_duplicated_line_costs_at_most_the_lines_after_it(path: Path) -> None:
    file = files(path)["sealed"]
    behind = puts(file)
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join([*lines[:2], lines[1], *lines[2:]]))
    report = mend(path)
    assert stored(path).keys() >= ALL - set(behind)
    assert named(report) >= ALL - stored(path).keys()


def test_damage_in_what_the_canonical_holds_costs_nothing(path: Path) -> None:
    """A covered segment that a dead compactor has left, and something else that makes a repair worth it."""
    covered = {file: file.read_bytes() for file in segments(path).values()}
    with DownloadManifestManager(path, options=SMALL_SEGMENTS) as manifest:
        manifest.save()
        for number in range(50, 60):
            manifest.add(make_record(number))
    for file, data in covered.items():
        file.write_bytes(data)
        flip(file, len(data) // 2)
    report = mend(path)
    assert report.lost == []
    assert stored(path).keys() == ALL | {checksum(n) for n in range(50, 60)}


def test_all_damage_at_once_is_named(path: Path) -> None:
    victims = {puts(files(path)[kind])[0] for kind in ("sealed", "sealed too")} | {checksum(0)}
    for kind in ("sealed", "sealed too"):
        flip(files(path)[kind], line_of(files(path)[kind], puts(files(path)[kind])[0]).stop - 30)
    flip(path, line_of(path, checksum(0)).start + 100)
    report = mend(path)
    assert (set(stored(path)), named(report)) == (ALL - victims, victims)


def test_the_quarantine_keeps_every_original_file(path: Path) -> None:
    flip(files(path)["sealed"], 3)
    files(path)["active"].write_bytes(b"junk")
    before = {name: data for name, data in contents(path).items() if "/" not in name and not name.endswith(".idx")}
    mend(path)
    assert {f.name: f.read_bytes() for f in folder(path).iterdir() if f.name != "report.json"} == before
