"""`repair` keeps what is intact, sets the originals aside, says what is lost, and leaves alone what is sound."""

from __future__ import annotations

import errno
import json
import os
from typing import TYPE_CHECKING

import pytest

from manifestlog import DownloadManifestManager, LockTimeoutError, ManifestNotFoundError, names
from manifestlog.engines.filelog.lock import FileLock
from manifestlog.engines.filelog.recovery.check import check
from manifestlog.engines.filelog.recovery.repair import repair
from manifestlog.engines.reports import RepairOutcome
from manifestlog.files import disk
from support.damage import ALL, FORGOTTEN, contents, files, fill, flip, folder, line_of, mend, stored
from support.integrity import active_segment, segments
from support.records import MANUAL, NAME, checksum, make_record

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def path(directory: Path) -> Path:
    return fill(directory / NAME)


def _damage(path: Path) -> None:
    """In the canonical: the newest of its records that the log does not name."""
    flip(path, line_of(path, checksum(0)).start + 100)


# -- nothing to do -----------------------------------------------------------------------------------------------------


def test_a_sound_manifest_is_reported_as_sound(path: Path) -> None:
    assert mend(path).outcome is RepairOutcome.NOTHING_TO_DO


def test_a_sound_manifest_is_not_touched(path: Path) -> None:
    before = {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in path.parent.rglob("*") if p.is_file()}
    mend(path)
    assert {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in path.parent.rglob("*") if p.is_file()} == before


def test_a_torn_tail_is_left_to_the_next_writer(path: Path) -> None:
    with active_segment(path).open("ab") as file:
        file.write(b'{"op":"put","ts"')
    before = contents(path)
    assert mend(path).outcome is RepairOutcome.NOTHING_TO_DO
    assert contents(path) == before
    with DownloadManifestManager(path, options=MANUAL) as manifest:
        manifest.add(make_record(100))


def test_a_missing_manifest_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ManifestNotFoundError):
        mend(tmp_path / NAME)


def test_a_second_repair_changes_nothing(path: Path) -> None:
    _damage(path)
    mend(path)
    before = contents(path)
    assert mend(path).outcome is RepairOutcome.NOTHING_TO_DO
    assert contents(path) == before


def test_a_dry_run_writes_nothing(path: Path) -> None:
    _damage(path)
    before = {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in path.parent.rglob("*") if p.is_file()}
    assert mend(path, dry_run=True).outcome is RepairOutcome.WOULD_REPAIR
    assert {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in path.parent.rglob("*") if p.is_file()} == before
    mend(path)


def test_a_dry_run_says_what_the_repair_then_does(path: Path) -> None:
    _damage(path)
    told, done = mend(path, dry_run=True), mend(path)
    assert (told.records, told.lost, told.originals) == (done.records, done.lost, done.originals)


# -- the index ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [0, 20, -1], ids=["magic", "header", "last byte"])
def test_a_damaged_index_is_rebuilt_and_nothing_is_lost(path: Path, at: int) -> None:
    index = files(path)["index"]
    flip(index, at)
    report = mend(path)
    assert (report.outcome, report.lost) == (RepairOutcome.INDEX_REBUILT, [])
    assert stored(path).keys() == ALL


def test_a_damaged_index_is_no_reason_for_a_quarantine(path: Path) -> None:
    flip(files(path)["index"], -1)
    mend(path)
    assert not (path.parent / "quarantine").exists()


# -- the quarantine ----------------------------------------------------------------------------------------------------


def test_the_originals_are_in_quarantine_byte_for_byte(path: Path) -> None:
    _damage(path)
    originals = {file.name: file.read_bytes() for kind, file in files(path).items() if kind != "index"}
    mend(path)
    assert {f.name: f.read_bytes() for f in folder(path).iterdir() if f.name != names.REPORT} == originals


def test_the_report_says_what_was_lost_and_kept(path: Path) -> None:
    _damage(path)
    mend(path)
    report = json.loads((folder(path) / names.REPORT).read_text("utf-8"))
    (lost,) = report["lost"]
    assert (lost["file"], lost["checksums"]) == (NAME, [checksum(0)])
    assert lost["offset"] <= line_of(folder(path) / NAME, checksum(0)).start < lost["offset"] + lost["bytes"]
    assert report["kept"]["records"] == len(ALL) - 1


def test_new_files_have_the_mode_of_the_old_ones(path: Path) -> None:
    for file in files(path).values():
        file.chmod(0o640)
    _damage(path)
    mend(path)
    new = [path, active_segment(path), files_index(path), folder(path) / names.REPORT]
    assert {file.stat().st_mode & 0o777 for file in new} == {0o640}


def files_index(path: Path) -> Path:
    return path.with_suffix(".idx")


def test_the_folder_has_the_mode_of_the_directory(path: Path) -> None:
    path.parent.chmod(0o770)
    _damage(path)
    mend(path)
    assert {p.stat().st_mode & 0o777 for p in (folder(path), folder(path).parent)} == {0o770}


def test_a_second_damage_gets_a_folder_of_its_own(path: Path) -> None:
    for number in (0, 1):
        flip(path, line_of(path, checksum(number)).start + 100)
        mend(path)
    assert len(list((path.parent / "quarantine").iterdir())) == 2


def test_a_quarantine_on_another_file_system_is_rejected_before_any_change(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = disk.replace

    def replace(source: str, target: str) -> None:
        if os.path.dirname(source) != os.path.dirname(target):
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), source)
        real(source, target)

    _damage(path)
    before = {file: file.read_bytes() for file in files(path).values()}
    monkeypatch.setattr(disk, "replace", replace)
    with pytest.raises(OSError, match="cross-device"):
        mend(path)
    assert {file: file.read_bytes() for file in files(path).values()} == before
    monkeypatch.undo()
    mend(path)
    assert len(list((path.parent / "quarantine").iterdir())) == 1


def test_a_failed_write_leaves_the_manifest_unchanged(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    _damage(path)
    before = contents(path)
    monkeypatch.setattr(disk, "append", full)
    with pytest.raises(OSError, match="No space"):
        mend(path)
    assert contents(path) == before
    monkeypatch.undo()
    mend(path)


# -- the new generation ------------------------------------------------------------------------------------------------


def test_check_finds_nothing_after_a_repair(path: Path) -> None:
    _damage(path)
    mend(path)
    assert check(names.resolve(path)).findings == []


def test_the_log_continues_after_the_highest_number(path: Path) -> None:
    last = max(segments(path))
    _damage(path)
    mend(path)
    assert list(segments(path)) == [last + 1]


def test_a_number_that_only_a_report_names_is_not_reused(path: Path) -> None:
    _damage(path)
    mend(path)
    (last,) = segments(path)
    segments(path)[last].unlink()
    files_index(path).unlink()
    flip(path, line_of(path, checksum(1)).start + 100)
    mend(path)
    assert list(segments(path)) == [last + 1]


def test_writing_and_compacting_continue_after_a_repair(path: Path) -> None:
    _damage(path)
    mend(path)
    with DownloadManifestManager(path, options=MANUAL) as manifest:
        manifest.add(make_record(100))
        manifest.save()
    assert stored(path).keys() == (ALL - {checksum(0)}) | {checksum(100)}


def test_a_forget_in_the_log_is_kept(path: Path) -> None:
    _damage(path)
    mend(path)
    assert checksum(FORGOTTEN) not in stored(path)


def test_a_lost_record_can_be_added_again(path: Path) -> None:
    _damage(path)
    mend(path)
    with DownloadManifestManager(path, options=MANUAL) as manifest:
        manifest.add(make_record(0))
    assert stored(path).keys() == ALL


# -- locks -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lock", ["append_lock", "compact_lock"])
def test_a_held_lock_is_a_timeout(path: Path, lock: str) -> None:
    _damage(path)
    paths = names.resolve(path)
    held = FileLock(getattr(paths, lock), 1.0)
    with held, pytest.raises(LockTimeoutError):
        repair(paths, lock_timeout_s=0.05)
    held.close()
    mend(path)
