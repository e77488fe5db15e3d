"""A crash before each of the eight steps of a repair, in the middle of some, and before every call to the disk."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from manifestlog import DamagedManifestError, DownloadManifestManager, names
from manifestlog.engines.filelog.canonical import files as base, scan
from manifestlog.engines.filelog.lock import FileLock
from manifestlog.engines.filelog.log import wal
from manifestlog.engines.filelog.recovery import quarantine, reconcile, repair as repairing
from manifestlog.engines.filelog.recovery.check import check
from manifestlog.engines.reports import RepairOutcome
from manifestlog.files import disk
from support.children import children
from support.damage import ALL, contents, files, fill, flip, folder, line_of, mend, named, stored
from support.faults import before, die, die_before_call
from support.integrity import puts
from support.records import MANUAL, NAME, QUICK, checksum, make_record

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.children import Link, Start

LOST = {checksum(0)}
NEW = 100
_Repair = repairing._Repair


def _die_when(owner: Any, name: str, condition: Callable[..., bool]) -> None:
    before(owner, name, lambda *args, **_: die() if condition(*args) else None)


def _half_written(owner: Any, name: str) -> None:
    real = disk.append

    def append(fd: int, data: bytes | memoryview) -> None:
        real(fd, data[: min(20, len(data) // 2)])
        die()

    before(owner, name, lambda *_: setattr(disk, "append", append))


def _second(owner: Any, name: str, condition: Callable[..., bool]) -> None:
    seen: list[object] = []

    def look(*args: object, **_: object) -> None:
        if condition(*args):
            seen.append(args)
        if len(seen) == 2:
            die()

    before(owner, name, look)


POINTS: dict[str, Callable[[], None]] = {
    "before 1, the locks": lambda: before(FileLock, "__enter__", die),
    "before 2, reading": lambda: before(reconcile, "salvage_all", die),
    "before 3, the new canonical": lambda: before(_Repair, "_write", die),
    "in 3, half a file": lambda: _half_written(repairing, "_written"),
    "in 3, before it is read again": lambda: before(scan, "scan", die),
    "before 4, the folder": lambda: before(_Repair, "_set_up", die),
    "in 4, before the copy": lambda: before(quarantine, "copy", die),
    "in 4, before the report": lambda: before(quarantine, "write_report", die),
    "before 5, the new segment": lambda: before(_Repair, "_start_segment", die),
    "in 5, half a mark": lambda: _half_written(quarantine, "mark"),
    "in 5, the end is marked": lambda: before(wal, "create_segment", die),
    "before 6, moving the segments": lambda: before(_Repair, "_move_segments", die),
    "in 6, one is moved": lambda: _second(disk, "replace", lambda source, _: source.endswith(".jsonl")),
    "in 6, before the active one goes": lambda: before(disk, "remove", die),
    "before 7, the canonical": lambda: before(_Repair, "_swap_canonical", die),
    "in 7, the old one is moved": lambda: _second(
        disk, "replace", lambda *arguments: any(n.endswith(NAME) for n in arguments)
    ),
    "before 8, the index": lambda: before(base, "write_index", die),
    "in 8, before its rename": lambda: _die_when(disk, "replace", lambda _, target: target.endswith(".idx")),
}


def _break(path: Path) -> dict[str, bytes]:
    """Damage in the canonical and in the log; gives the originals."""
    flip(path, line_of(path, checksum(0)).start + 100)
    file = files(path)["sealed"]
    flip(file, line_of(file, '"op":"seal"').start + 12)
    return {file.name: file.read_bytes() for kind, file in files(path).items() if kind != "index"}


def _crash(_link: Link, path: Path, arm: Callable[[], None]) -> None:
    arm()
    mend(path)


def _opens(path: Path) -> set[str] | None:
    """What a reader finds; None when it is told of damage."""
    try:
        with DownloadManifestManager(path, read_only=True) as manifest:
            return set(manifest)
    except DamagedManifestError:
        return None


def _set_aside(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder(path).iterdir() if file.name != names.REPORT}


@pytest.fixture(params=POINTS)
def crashed(request: pytest.FixtureRequest, directory: Path, start: Start) -> tuple[Path, dict[str, bytes]]:
    """The path of a manifest whose repair died at that point, and the damaged originals."""
    path = fill(directory / NAME)
    originals = _break(path)
    assert start(_crash, path, POINTS[request.param]).join() == -9
    return path, originals


def _finish(path: Path) -> None:
    mend(path)
    assert stored(path).keys() == ALL - LOST


def test_after_a_crash_the_manifest_is_damaged_or_repaired(crashed: tuple[Path, dict[str, bytes]]) -> None:
    """Nobody ever sees less than what could be saved."""
    path, _ = crashed
    assert _opens(path) in (None, ALL - LOST)
    _finish(path)


def test_check_and_readers_agree_after_a_crash(crashed: tuple[Path, dict[str, bytes]]) -> None:
    path, _ = crashed
    assert check(names.resolve(path)).damaged == (_opens(path) is None)
    _finish(path)


def test_the_next_repair_finishes_the_job(crashed: tuple[Path, dict[str, bytes]]) -> None:
    path, _ = crashed
    mend(path)
    assert stored(path).keys() == ALL - LOST


def test_the_next_repair_says_what_was_lost(crashed: tuple[Path, dict[str, bytes]]) -> None:
    path, _ = crashed
    report = mend(path)
    assert report.outcome is RepairOutcome.INDEX_REBUILT or named(report) == LOST


def test_the_originals_are_in_one_folder_after_the_next_repair(crashed: tuple[Path, dict[str, bytes]]) -> None:
    path, originals = crashed
    mend(path)
    assert _set_aside(path) == originals


def test_a_repair_after_the_next_changes_nothing(crashed: tuple[Path, dict[str, bytes]]) -> None:
    path, _ = crashed
    mend(path)
    done = contents(path)
    assert mend(path).outcome is RepairOutcome.NOTHING_TO_DO
    assert contents(path) == done


def test_a_dry_run_after_a_crash_says_what_the_next_repair_does(crashed: tuple[Path, dict[str, bytes]]) -> None:
    path, _ = crashed
    before_it = contents(path)
    told = mend(path, dry_run=True)
    assert contents(path) == before_it
    done = mend(path)
    assert (told.records, told.lost) == (done.records, done.lost)


# -- before every call -------------------------------------------------------------------------------------------------


@pytest.fixture
def twin(tmp_path: Path) -> Callable[[], Path]:
    """Makes a fresh copy of the damaged manifest, each in a directory of its own."""
    path = fill(tmp_path / "original" / NAME)
    _break(path)
    made = iter(range(10_000))

    def copy() -> Path:
        target = tmp_path / f"copy-{next(made)}"
        shutil.copytree(path.parent, target)
        return target / NAME

    return copy


def _repair_until(_link: Link, path: Path, number: int) -> None:
    die_before_call(number)
    mend(path)


def _originals(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for kind, file in files(path).items() if kind != "index"}


@pytest.mark.slow  # tests/simulation has every call in make test
def test_a_crash_before_any_call_to_the_disk_loses_nothing(twin: Callable[[], Path]) -> None:
    """Die before the n-th change of the disk, for every n: damaged or repaired, and the next repair ends it."""
    number = 0
    status = -9
    while status == -9:
        number += 1
        path = twin()
        originals = _originals(path)
        with children() as start:
            status = start(_repair_until, path, number).join()
        assert _opens(path) in (None, ALL - LOST), number
        mend(path)
        assert stored(path).keys() == ALL - LOST, number
        assert _set_aside(path) == originals, number
    assert number > 25


@pytest.mark.slow
def test_a_crash_inside_the_repair_after_a_crash_loses_nothing(twin: Callable[[], Path]) -> None:
    """Likewise for every n, and in the repair after it every third m, another third for each n."""
    number, first = 0, -9
    while first == -9:
        number += 1
        again, second = number % 3 - 2, -9
        while second == -9:
            again += 3
            path = twin()
            originals = _originals(path)
            with children() as start:
                first = start(_repair_until, path, number).join()
                second = start(_repair_until, path, again).join()
            assert _opens(path) in (None, ALL - LOST), (number, again)
            mend(path)
            assert stored(path).keys() == ALL - LOST, (number, again)
            assert _set_aside(path) == originals, (number, again)


def _sleeper(link: Link, path: Path) -> object:
    with DownloadManifestManager(path, options=QUICK) as manifest:
        link.send(len(manifest))
        link.recv()
        try:
            return manifest.add(make_record(NEW)).verdict.value
        except DamagedManifestError:
            return "damaged"


@pytest.mark.slow  # tests/simulation has every call in make test
def test_a_writer_after_a_crash_gets_an_error_or_its_record_is_kept(twin: Callable[[], Path], tmp_path: Path) -> None:
    """It had the manifest open before the damage. What it is told is written, the next repair finds."""
    sound = fill(tmp_path / "sound" / NAME)
    number = 0
    status = -9
    answers = set()
    while status == -9:
        number += 1
        path = tmp_path / f"slept-{number}" / NAME
        shutil.copytree(sound.parent, path.parent)
        with children() as start:
            writer = start(_sleeper, path)
            writer.receive()
            _break(path)
            status = start(_repair_until, path, number).join()
            writer.send("go on")
            answers.add(answer := writer.result())
        mend(path)
        expected = (ALL - LOST) | ({checksum(NEW)} if answer == "new" else set())
        assert stored(path).keys() == expected, (number, answer)
    assert answers == {"new", "damaged"}


def test_writing_continues_after_a_crash_and_a_repair(crashed: tuple[Path, dict[str, bytes]]) -> None:
    path, _ = crashed
    mend(path)
    with DownloadManifestManager(path, options=MANUAL) as manifest:
        manifest.add(make_record(NEW))
        manifest.save()
    assert stored(path).keys() == (ALL - LOST) | {checksum(NEW)}


def test_the_damage_in_these_tests_is_real(directory: Path) -> None:
    path = fill(directory / NAME)
    _break(path)
    assert named(mend(path)) == LOST
    assert not puts(next(iter(path.parent.glob("*.jsonl"))))
