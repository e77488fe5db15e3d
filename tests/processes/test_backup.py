"""Backups as the guide describes them, taken while processes write and another one compacts without a pause."""

from __future__ import annotations

import mmap
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cli.program import Program
from manifestlog import DamagedManifestError, DownloadManifestManager, HistoryReachError, copy_manifest
from manifestlog.engines.filelog.recovery.check import check
from manifestlog.names import resolve
from support.engines import engine_of
from support.integrity import check_manifest, load_canonical
from support.packages import program
from support.records import NAME, QUICK, checksum, make_record, metadata

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.children import Link, Start

WRITERS = 2
STRIDE = 1_000_000
"""Writer `w` adds the records from `w * STRIDE` on."""
TRIES = 200
HISTORY = "history"


PER_BACKUP = 60
"""How many records each writer adds a backup, so that the manifest stays small enough for hundreds of them."""
PACE_S = 0.001


def _acknowledged(counts: mmap.mmap, writer: int) -> int:
    return int.from_bytes(counts[writer * 8 : writer * 8 + 8], "little")


def _go_on(counts: mmap.mmap, backups: int) -> None:
    """Let the writers write for so many backups in all."""
    counts[WRITERS * 8 : WRITERS * 8 + 8] = (backups * PER_BACKUP).to_bytes(8, "little")


def _write(_link: object, path: Path, counts: mmap.mmap, writer: int) -> None:
    with DownloadManifestManager(path, metadata(), options=QUICK) as manifest:
        for number in range(STRIDE):
            while number >= _acknowledged(counts, WRITERS):
                if counts[-1]:
                    return
                time.sleep(PACE_S)
            time.sleep(PACE_S)
            manifest.add(make_record(writer * STRIDE + number))
            counts[writer * 8 : writer * 8 + 8] = (number + 1).to_bytes(8, "little")


def _compact(_link: object, path: Path, counts: mmap.mmap) -> int:
    compactions = 0
    with DownloadManifestManager(path, metadata(), options=QUICK) as manifest:
        while not counts[-1]:
            compactions += manifest.compact().outcome == "compacted"
    return compactions


@pytest.fixture
def busy(path: Path, start: Start) -> Iterator[mmap.mmap]:
    """A manifest under two writers and a compactor; gives how many records each writer has had acknowledged."""
    DownloadManifestManager(path, metadata(), options=QUICK).close()
    counts = mmap.mmap(-1, WRITERS * 8 + 8 + 1)
    _go_on(counts, 1)
    children = [start(_write, path, counts, writer) for writer in range(WRITERS)]
    compactor = start(_compact, path, counts)
    while not all(_acknowledged(counts, writer) for writer in range(WRITERS)):
        os.sched_yield()
    yield counts
    counts[-1:] = b"\1"
    for child in children:
        child.result()
    assert compactor.result() > 0


def _files(path: Path) -> list[Path]:
    """What a shell makes of `NAME.manifest.json NAME.manifest.wal-*`: the canonical first, then the log in its order."""
    return [path, *sorted(path.parent.glob(f"{path.name.removesuffix('json')}wal-*"))]


def _history(path: Path) -> list[Path]:
    """What a shell makes of `history/NAME.*`, once the log has been copied."""
    return sorted((path.parent / HISTORY).glob(f"{path.name.removesuffix('manifest.json')}*"))


def _by_python(path: Path, target: Path) -> bool:
    (target / HISTORY).mkdir()
    try:
        for file in _files(path):
            shutil.copy2(file, target)
        for file in _history(path):
            shutil.copy2(file, target / HISTORY)
    except FileNotFoundError:  # compacted away under our hands
        return False
    return True


def _by_cp(path: Path, target: Path) -> bool:
    (target / HISTORY).mkdir()
    return _cp(_files(path), target) and _cp(_history(path), target / HISTORY)


def _cp(files: list[Path], target: Path) -> bool:
    return subprocess.run(["cp", "-p", *files, target], stderr=subprocess.DEVNULL, check=False).returncode == 0


def _by_tar(path: Path, target: Path) -> bool:
    command = ["tar", "-C", str(path.parent), "--sort=name", "--exclude=*.lock", "--exclude=*.tmp-*", "-cf", "-", "."]
    made = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
    subprocess.run(["tar", "-C", target, "-xf", "-"], input=made.stdout, check=True)
    return made.returncode == 0


def _by_rsync(path: Path, target: Path) -> bool:
    command = [
        program("rsync", "rsync"),
        "-a",
        "--exclude=*.lock",
        "--exclude=*.tmp-*",
        f"{path.parent}/",
        f"{target}/",
    ]
    return subprocess.run(command, stderr=subprocess.DEVNULL, check=False).returncode == 0


def _by_cat(path: Path, target: Path) -> bool:
    done = Program(path.parent).here("cat", path)
    assert done.code == 0, done.err
    (target / path.name).write_text(done.out, encoding="utf-8")
    return True


WAYS: dict[str, Callable[[Path, Path], bool]] = {
    "python": _by_python,
    "cp": _by_cp,
    "tar": _by_tar,
    "rsync": _by_rsync,
    "cat": _by_cat,
}
DOSES = [3, pytest.param(75, marks=pytest.mark.slow)]


def _back_up(way: str, path: Path, place: Path, number: int) -> Path:
    """As the guide says: copy into an empty folder and check; again when the copying complains or the copy is not sound."""
    for attempt in range(TRIES):
        target = place / f"{number}-{attempt}"
        target.mkdir()
        complete = WAYS[way](path, target)
        copy = target / path.name
        damaged = _damaged_files(copy) if copy.exists() else set()
        if any(file.parent != target / HISTORY for file in damaged):
            # A copy whose records are told to be bad is refused by whoever opens it, too.
            with pytest.raises(DamagedManifestError):
                DownloadManifestManager(copy, read_only=True)
        elif complete and not damaged:
            return copy
        shutil.rmtree(target)
    raise AssertionError(f"no sound copy in {TRIES} tries")


def _damaged_files(copy: Path) -> set[Path]:
    return {Path(one.file) for one in check(resolve(copy)).findings if one.level == "damage"}


def _tells(copy: Path, before: list[int]) -> bool:
    """Whether the copy's history has an event for each of these additions."""
    with DownloadManifestManager(copy, read_only=True) as manifest:
        told = {event.checksum for event in manifest.history()}
    return told.issuperset(checksum(writer * STRIDE + n) for writer, count in enumerate(before) for n in range(count))


def _holds(copy: Path, before: list[int]) -> bool:
    with DownloadManifestManager(copy, read_only=True) as manifest:
        return all(
            manifest.has_checksum(checksum(writer * STRIDE + number))
            for writer, count in enumerate(before)
            for number in range(count)
        )


@pytest.mark.parametrize("dose", DOSES)
@pytest.mark.parametrize("way", WAYS)
def test_a_backup_holds_what_was_acknowledged_before_it_began(
    busy: mmap.mmap, path: Path, tmp_path: Path, way: str, dose: int
) -> None:
    for number in range(dose):
        _go_on(busy, number + 2)
        before = [_acknowledged(busy, writer) for writer in range(WRITERS)]
        copy = _back_up(way, path, tmp_path, number)
        assert _holds(copy, before)
        assert way == "cat" or _tells(copy, before)
        load_canonical(copy)  # its log may end in a line that was being written
        shutil.rmtree(copy.parent)


@pytest.mark.parametrize("way", WAYS)
def test_a_restored_backup_continues(busy: mmap.mmap, path: Path, tmp_path: Path, way: str) -> None:
    """It takes records, is compacted, and is sound afterwards."""
    copy = _back_up(way, path, tmp_path, 0)
    with DownloadManifestManager(copy, metadata(), options=QUICK) as manifest:
        total = len(manifest)
        assert manifest.add(make_record(5 * STRIDE)).verdict == "new"
        manifest.compact()
        assert len(manifest) == total + 1
    check_manifest(copy)
    assert check(resolve(copy)).findings == []


# -- restoring ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def two_moments(path: Path, tmp_path: Path) -> Path:
    """A manifest, and a copy of all its files from before its last compaction; gives the copy."""
    with DownloadManifestManager(path, metadata(), options=QUICK) as manifest:
        manifest.add(make_record(0))
        manifest.compact()
        manifest.add(make_record(1))
        older = tmp_path / "older"
        shutil.copytree(path.parent, older)
        manifest.compact()
        manifest.add(make_record(2))
    return older


def test_all_files_of_one_moment_are_a_manifest(path: Path, two_moments: Path) -> None:
    shutil.rmtree(path.parent)
    shutil.copytree(two_moments, path.parent)
    with DownloadManifestManager(path, read_only=True) as manifest:
        assert list(manifest) == sorted([checksum(0), checksum(1)])


def test_the_index_of_a_copy_is_as_good_as_the_original(path: Path, two_moments: Path) -> None:
    """It belongs to the bytes that it was made for."""
    copy = two_moments / path.name
    assert check(resolve(copy)).findings == []
    with DownloadManifestManager(copy, read_only=True) as manifest:
        assert not engine_of(manifest).session._state.base.from_scan


def test_the_index_of_another_canonical_is_rebuilt(path: Path, two_moments: Path) -> None:
    """It belongs to the bytes that it was made for."""
    copy = two_moments / path.name
    shutil.copy(resolve(path).index, resolve(copy).index)
    assert ["made for another canonical" in one.meaning for one in check(resolve(copy)).findings] == [True]
    with DownloadManifestManager(copy, metadata(), options=QUICK) as manifest:
        manifest.compact()
    assert check(resolve(copy)).findings == []


@pytest.mark.parametrize("kept", ["json", "wal"])
def test_files_of_two_moments_are_told_apart(path: Path, two_moments: Path, tmp_path: Path, kept: str) -> None:
    """An old canonical beside a new log, and a new canonical beside an old log."""
    mixed = tmp_path / "mixed"
    shutil.copytree(path.parent if kept == "wal" else two_moments, mixed)
    if kept == "wal":
        shutil.copy(two_moments / path.name, mixed)
    else:
        shutil.copy(path, mixed)
    assert check(resolve(mixed / NAME)).damaged
    with pytest.raises(DamagedManifestError):
        DownloadManifestManager(mixed / NAME, read_only=True)


@pytest.fixture
def restored(path: Path, two_moments: Path) -> Path:
    """An older canonical alone, beside the history of a later moment."""
    shutil.copy(two_moments / path.name, path)
    for segment in _files(path)[1:]:
        segment.unlink()
    return path


def test_a_canonical_restored_beside_its_history_replaces_none_of_it(path: Path, restored: Path) -> None:
    """The log begins anew behind the history, whose events stay readable."""
    assert restored == path
    before = {file.name: file.read_bytes() for file in _history(path)}
    with DownloadManifestManager(path, metadata(), options=QUICK) as manifest:
        manifest.add(make_record(3))
        manifest.compact()
        assert {checksum(0), checksum(3)} <= {event.checksum for event in manifest.history()}
    assert before.items() < {file.name: file.read_bytes() for file in _history(path)}.items()
    assert check(resolve(path)).findings == []


def _add(link: Link, path: Path, number: int) -> str:
    link.recv()
    with DownloadManifestManager(path, metadata(), options=QUICK) as manifest:
        return manifest.add(make_record(number)).verdict


def test_a_canonical_restored_beside_its_history_answers_for_no_time_of_the_newer_one(restored: Path) -> None:
    """What the history says of that time, its records do not show: an answer would be of two moments."""
    with DownloadManifestManager(restored, read_only=True) as manifest:
        first, last = manifest.history(reverse=False)
        with pytest.raises(HistoryReachError):
            manifest.as_of(first.time)
        assert (manifest.reach, list(manifest.as_of(last.time))) == (last.time, [checksum(0)])


def test_a_canonical_restored_beside_its_history_is_out_of_reach_once_its_log_begins_anew(restored: Path) -> None:
    with DownloadManifestManager(restored, metadata(), options=QUICK) as manifest:
        before = manifest.reach
        manifest.add(make_record(3))
        with pytest.raises(HistoryReachError):
            manifest.as_of(before)


def test_nothing_comes_after_a_canonical_that_was_restored_beside_its_history(restored: Path) -> None:
    """The events of the newer state are no changes of this one."""
    with DownloadManifestManager(restored, read_only=True) as manifest:
        assert list(engine_of(manifest).events_after(manifest.cursor)) == []


def test_a_copy_of_a_canonical_restored_beside_its_history_reaches_back_as_far(restored: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy" / NAME
    with DownloadManifestManager(restored, read_only=True) as manifest:
        reach = engine_of(manifest).image().reach
        copy_manifest(restored, copy)
        assert reach == engine_of(manifest).reach()
    with DownloadManifestManager(copy, read_only=True) as copied, pytest.raises(HistoryReachError):
        copied.as_of(copied.metadata.ts_created)


def test_who_has_opened_a_canonical_restored_beside_its_history_sees_the_first_line_of_its_new_log(
    restored: Path, start: Start
) -> None:
    """The log does not begin with segment 1 there."""
    writer = start(_add, restored, 3)
    with DownloadManifestManager(restored, read_only=True) as reader:
        before = len(reader)
        writer.send("go")
        assert writer.result() == "new"
        assert len(reader) == before + 1


def test_the_output_of_cat_is_a_manifest_by_itself(path: Path, two_moments: Path, tmp_path: Path) -> None:
    del two_moments
    alone = tmp_path / "alone"
    alone.mkdir()
    _by_cat(path, alone)
    with DownloadManifestManager(alone / NAME, read_only=True) as manifest:
        assert len(manifest) == 3
    assert check(resolve(alone / NAME)).findings == []


def test_a_canonical_whose_log_went_under_the_copy_looks_sound(path: Path, two_moments: Path, tmp_path: Path) -> None:
    """Why the copying itself must not have complained: an older canonical alone is a whole manifest of its moment."""
    alone = tmp_path / "alone"
    alone.mkdir()
    shutil.copy(two_moments / path.name, alone)
    assert not check(resolve(alone / NAME)).damaged
