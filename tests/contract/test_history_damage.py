"""Damage in the history is found, never touches the records, and costs no more of the history than it must."""

from __future__ import annotations

import json
import os
import shutil
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING
from unittest import mock

import pytest

from manifestlog import (
    DamagedManifestError,
    DownloadManifestManager,
    Durability,
    HistoryReachError,
    NewerFormatError,
    names,
)
from manifestlog.engines.filelog import checksums
from manifestlog.engines.filelog.history import keep, pack
from manifestlog.engines.filelog.recovery.check import check
from manifestlog.engines.filelog.recovery.repair import repair
from manifestlog.engines.reports import RepairOutcome
from manifestlog.files import disk
from manifestlog.options import parse_history
from support.damage import flip
from support.records import MANUAL, NAME, checksum, make_record, metadata

if TYPE_CHECKING:
    from pathlib import Path

    from manifestlog.engines.reports import CheckReport

PACKED = 4
"""So many segments are in the pack,"""
LOOSE = 3
"""and so many behind it."""


@pytest.fixture
def path(directory: Path) -> Path:
    return make(directory / NAME)


def make(path: Path) -> Path:
    """A manifest with a pack, segments behind it, and a live log."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with DownloadManifestManager(path, metadata(), options=MANUAL) as manifest:
        for number in range(PACKED + LOOSE):
            manifest.add(make_record(number))
            manifest.compact()
            if number == PACKED - 1:
                _pack_all(path)
        manifest.add(make_record(100))
    assert len(list((path.parent / "history").iterdir())) == 1 + LOOSE
    return path


def told_beside_crash_damage(path: Path) -> None:
    """Lines that nobody had synced, of which a power cut took one: the next writer has fenced them off."""
    weak = replace(MANUAL, durability=Durability.PROCESS_KILL)
    with DownloadManifestManager(path, metadata(), options=weak) as manifest:
        for number in range(3):
            manifest.add(make_record(number))
    flip(path.with_name(NAME.replace(".json", ".wal-000001.jsonl")), _place_of(path, checksum(1)))
    with DownloadManifestManager(path, metadata(), options=weak) as manifest:
        manifest.add(make_record(3))
        assert [event.checksum for event in manifest.history()] == [checksum(n) for n in (0, 2, 3)]


def _place_of(path: Path, text: str) -> int:
    return path.with_name(NAME.replace(".json", ".wal-000001.jsonl")).read_bytes().index(text.encode())


def test_what_a_crash_has_left_in_a_live_segment_is_no_damage_of_the_history(tmp_path: Path) -> None:
    told_beside_crash_damage(tmp_path / NAME)


def _pack_all(path: Path) -> None:
    created = json.loads(path.read_bytes())["metadata"]["ts_created"]
    keep.tidy(names.resolve(path), created, parse_history("forever"), keep.NO_FLOOR, segments_max=1)


def _pack(path: Path) -> Path:
    (found,) = (path.parent / "history").glob("*.zst")
    return found


def _loose(path: Path, index: int = 0) -> Path:
    return sorted((path.parent / "history").glob("*.jsonl"))[index]


def _damage_line(path: Path) -> Path:
    """In the first kept segment, the line that adds a content."""
    found = _loose(path)
    flip(found, found.read_bytes().find(b'{"op":"put"') + 50)
    return found


def _check(path: Path) -> CheckReport:
    return check(names.resolve(path))


def _damage(path: Path) -> list[tuple[str, int | None]]:
    return [(os.path.basename(f.file), f.offset) for f in _check(path).findings if f.level == "damage"]


def _contents(path: Path) -> list[str]:
    """The contents that the events add, in order."""
    with DownloadManifestManager(path, read_only=True) as manifest:
        return [event.checksum for event in manifest.history(reverse=False) if event.checksum]


def _mended(path: Path) -> None:
    """Repair, and check that the records are all there and a second repair finds nothing."""
    report = repair(names.resolve(path))
    assert report.outcome is RepairOutcome.REPAIRED
    assert [f for f in _check(path).findings if f.level == "damage"] == []
    assert repair(names.resolve(path)).outcome is RepairOutcome.NOTHING_TO_DO
    with DownloadManifestManager(path, read_only=True) as manifest:
        assert len(manifest) == PACKED + LOOSE + 1


ALL = [checksum(n) for n in (*range(PACKED + LOOSE), 100)]


# -- check -------------------------------------------------------------------------------------------------------------


def test_a_sound_history_is_counted(path: Path) -> None:
    report = _check(path)
    assert (report.findings, report.history_packs, report.history_segments) == ([], 1, LOOSE)


def test_every_bit_of_a_pack_counts(path: Path) -> None:
    found = _pack(path)
    whole = found.read_bytes()
    for offset in range(0, len(whole), 2):
        flip(found, offset, offset % 8)
        assert [name for name, _ in _damage(path)] == [found.name], offset
        found.write_bytes(whole)


def test_every_bit_of_a_kept_segment_counts(path: Path) -> None:
    found = _loose(path)
    whole = found.read_bytes()
    for offset in range(0, len(whole), 3):
        flip(found, offset, offset % 6)
        try:
            assert [name for name, _ in _damage(path)] == [found.name], offset
        except NewerFormatError:
            assert b'"format":2' in whole[offset - 10 : offset + 10]
        found.write_bytes(whole)


def test_damage_is_named_by_file_and_offset(path: Path) -> None:
    found = _loose(path)
    line = found.read_bytes().find(b'{"op":"put"')
    flip(found, line + 50)
    assert _damage(path) == [(found.name, line)]


def test_a_cut_segment_is_damage(path: Path) -> None:
    found = _loose(path)
    found.write_bytes(found.read_bytes()[:-1])
    assert len(_damage(path)) == 1


def test_a_cut_at_a_line_is_damage(directory: Path) -> None:
    cut_at_a_line(directory / NAME)


def cut_at_a_line(path: Path) -> None:
    found = _loose(make(path))
    found.write_bytes(b"".join(found.read_bytes().splitlines(keepends=True)[:-1]))
    assert len(_damage(path)) == 1


@pytest.mark.parametrize("index", [0, 1, 2])
def test_a_missing_segment_is_damage(path: Path, index: int) -> None:
    found = _loose(path, index)
    found.unlink()
    assert _damage(path) == [(found.name, None)]


def test_a_missing_pack_at_the_beginning_is_a_history_that_was_cut(path: Path) -> None:
    _pack(path).unlink()
    assert _damage(path) == []


def test_a_pack_of_another_manifest_is_damage(path: Path, tmp_path: Path) -> None:
    other = _other(tmp_path)
    shutil.copy(other, _pack(path))
    assert "another manifest" in _check(path).findings[0].meaning


def test_a_pack_of_another_manifest_is_not_read(directory: Path) -> None:
    read_with_a_foreign_pack(directory / NAME)


def read_with_a_foreign_pack(path: Path) -> None:
    shutil.copy(_other(make(path).parent), _pack(path))
    try:
        found = _contents(path)
    except DamagedManifestError:
        pass
    else:
        raise AssertionError(f"it was read: {found}")


def test_a_line_behind_the_end_of_a_kept_segment_does_not_count(directory: Path) -> None:
    """Somebody wrote it after the segment was closed, and nobody acknowledged it."""
    written_behind_the_end(directory / NAME)


def written_behind_the_end(path: Path) -> None:
    found = _loose(make(path))
    data = found.read_bytes()
    salt = int(json.loads(data.partition(b"\n")[0])["salt"], 16)
    body = data[data.find(b'{"op":"put"') :].partition(b"\n")[0][: -checksums.CRC_TAIL]
    found.write_bytes(data + checksums.seal_line(body, salt, len(data)))
    assert _damage(path) == []
    assert _contents(path) == ALL


def _other(tmp_path: Path) -> Path:
    """The pack of another manifest, with the same segments."""
    packer = pack.Packer("systems_download", "2020-01-01T00:00:00Z")
    found = tmp_path / "other"
    found.write_bytes(packer.footer([pack.lost_segment(n) for n in range(1, PACKED + 1)]))
    return found


def test_a_pack_under_another_range_is_damage(path: Path) -> None:
    _pack(path).rename(_pack(path).with_name("systems_download.manifest.history-000001-000003.jsonl.zst"))
    assert "its name says" in _check(path).findings[0].meaning


def test_a_pack_of_a_newer_format_is_refused_by_name(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pack, "FORMAT", 0)
    with pytest.raises(NewerFormatError):
        _check(path)


def test_leftovers_are_notes(path: Path) -> None:
    first, last = 1, PACKED
    with_name = _pack(path).with_name
    shutil.copy(_loose(path), with_name("systems_download.manifest.wal-000002.jsonl"))
    with_name(f"systems_download.manifest.history-{first:06d}-{last:06d}.jsonl.zst.tmp-9-0a").write_bytes(b"x")
    assert [f.level for f in _check(path).findings] == ["note", "note"]


# -- the live ledger ---------------------------------------------------------------------------------------------------


def test_damage_of_the_history_does_not_keep_a_manifest_from_being_opened_and_written(path: Path) -> None:
    flip(_pack(path), 40)
    flip(_loose(path), 40)
    with DownloadManifestManager(path, options=MANUAL) as manifest:
        manifest.add(make_record(101))
        manifest.compact()
        assert len(manifest) == PACKED + LOOSE + 2


# -- packing -----------------------------------------------------------------------------------------------------------


def test_a_damaged_segment_is_not_packed(directory: Path) -> None:
    """Its damage is still found afterwards."""
    packed_beside_damage(directory / NAME)


def packed_beside_damage(path: Path) -> None:
    found = _damage_line(make(path))
    _pack_all(path)
    assert [name for name, _ in _damage(path)] == [found.name]


def test_a_pack_that_does_not_read_back_replaces_nothing(directory: Path) -> None:
    packed_onto_a_disk_that_lies(directory / NAME)


def packed_onto_a_disk_that_lies(path: Path) -> None:
    """The bytes of a block are other ones on the disk than those that were written."""
    make(path)
    before = _contents(path)
    real = disk.append

    def append(fd: int, data: bytes | memoryview) -> None:
        whole = bytes(data)
        real(fd, whole[:20] + bytes([whole[20] ^ 1]) + whole[21:] if whole.startswith(b"\x28\xb5\x2f\xfd") else whole)

    with mock.patch.object(disk, "append", append), suppress(DamagedManifestError):
        _pack_all(path)
    assert _contents(path) == before


# -- repair ------------------------------------------------------------------------------------------------------------


def test_a_damaged_segment_costs_its_damaged_line_only(path: Path) -> None:
    _damage_line(path)
    _mended(path)
    assert _contents(path) == [c for c in ALL if c != checksum(PACKED)]


def test_a_damaged_segment_is_in_quarantine(directory: Path) -> None:
    repaired_with_originals(directory / NAME)


def repaired_with_originals(path: Path) -> None:
    found = _damage_line(make(path))
    data = found.read_bytes()
    folder = repair(names.resolve(path)).quarantine
    assert folder is not None
    with open(os.path.join(folder, found.name), "rb") as file:
        assert file.read() == data


def test_the_report_names_what_is_lost(path: Path) -> None:
    found = _damage_line(path)
    report = repair(names.resolve(path))
    assert [os.path.basename(loss.file) for loss in report.lost] == [found.name]
    assert f"segment {PACKED + 1}" in report.lost[0].meaning
    assert report.quarantine is not None
    with open(os.path.join(report.quarantine, "report.json"), encoding="utf-8") as file:
        assert len(json.load(file)["lost"]) == 1


def test_a_dry_run_says_the_same_and_changes_nothing(path: Path) -> None:
    _damage_line(path)
    before = {p: p.read_bytes() for p in path.parent.rglob("*") if p.is_file()}
    report = repair(names.resolve(path), dry_run=True)
    assert (report.outcome, len(report.lost)) == (RepairOutcome.WOULD_REPAIR, 1)
    assert {p: p.read_bytes() for p in path.parent.rglob("*") if p.is_file()} == before


def test_a_pack_with_a_damaged_footer_keeps_its_lines(path: Path) -> None:
    found = _pack(path)
    flip(found, found.stat().st_size - 30)
    _mended(path)
    assert _contents(path) == ALL


def test_a_pack_with_a_damaged_block_loses_that_block(path: Path) -> None:
    flip(_pack(path), 40)
    _mended(path)
    assert _contents(path) == ALL[PACKED:]


def test_a_missing_segment_is_lost_and_the_rest_is_read(path: Path) -> None:
    _loose(path).unlink()
    _mended(path)
    assert _contents(path) == [c for c in ALL if c != checksum(PACKED)]


def test_no_answer_about_an_earlier_time_crosses_what_was_lost(directory: Path) -> None:
    asked_beyond_lost_lines(directory / NAME)


def asked_beyond_lost_lines(path: Path) -> None:
    make(path)
    with DownloadManifestManager(path, read_only=True) as manifest:
        moment = next(iter(manifest.history(reverse=False))).time
    _damage_line(path)
    _mended(path)
    with DownloadManifestManager(path, read_only=True) as manifest:
        try:
            found = manifest.as_of(moment)
        except HistoryReachError:
            return
    raise AssertionError(f"it gave an answer: {found}")


def test_a_repaired_history_is_packed_again(path: Path) -> None:
    _damage_line(path)
    _mended(path)
    _pack_all(path)
    assert len(list((path.parent / "history").iterdir())) == 2
    assert len(_contents(path)) == len(ALL) - 1
    assert _damage(path) == []


# -- a repair of the ledger --------------------------------------------------------------------------------------------


def test_the_events_of_the_live_log_stay_in_the_history_when_the_ledger_is_repaired(directory: Path) -> None:
    repaired_ledger_keeps_events(directory / NAME)


def repaired_ledger_keeps_events(path: Path) -> None:
    make(path)
    flip(path, 400)
    report = repair(names.resolve(path))
    assert report.outcome is RepairOutcome.REPAIRED
    assert _damage(path) == []
    assert _contents(path) == ALL


def test_ledger_and_history_are_repaired_at_once(path: Path) -> None:
    flip(path, 400)
    flip(_pack(path), 40)
    repair(names.resolve(path))
    assert _damage(path) == []
    assert _contents(path) == ALL[PACKED:]


def test_a_compaction_lists_the_history_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may have thousands of files, of other manifests as well."""
    listed: list[str] = []
    list_names = disk.list_names

    def noted(directory: str) -> list[str]:
        listed.append(directory)
        return list_names(directory)

    with DownloadManifestManager(path, options=MANUAL) as manager:
        manager.add(make_record(999))
        monkeypatch.setattr(disk, "list_names", noted)
        manager.compact()
    assert listed.count(str(path.parent / "history")) == 1


@pytest.mark.parametrize("what", ["of another manifest", "empty"])
def test_a_compaction_keeps_segments_beside_a_pack_that_does_not_hold_them(path: Path, what: str) -> None:
    pack_path = _pack(path)
    foreign = make(path.parent / "other" / NAME)
    loose = path.parent / "new" / NAME
    with DownloadManifestManager(loose, metadata(), options=MANUAL) as manifest:
        for number in range(2):
            manifest.add(make_record(number))
            manifest.compact()
        kept = sorted((loose.parent / "history").iterdir())
        beside = loose.parent / "history" / pack_path.name
        beside.write_bytes(_pack(foreign).read_bytes() if what == "of another manifest" else b"")
        manifest.add(make_record(2))
        manifest.compact()
        assert all(file.exists() for file in kept)


@pytest.mark.parametrize("history", ["90d", "1KiB", "off"])
def test_a_damaged_pack_stops_no_compaction_that_cuts_the_history(path: Path, history: str) -> None:
    _pack(path).write_bytes(b"no pack")
    with DownloadManifestManager(path, options=replace(MANUAL, history=history)) as manifest:
        manifest.add(make_record(300))
        manifest.compact()
    assert checksum(300) in path.read_text(encoding="utf-8")
    assert not list(path.parent.glob("*.wal-000001.jsonl"))


def test_a_repair_sets_a_pack_of_another_manifest_aside_and_keeps_the_segments_beside_it(path: Path) -> None:
    new = path.parent / "new" / NAME
    with DownloadManifestManager(new, metadata(), options=MANUAL) as manifest:
        for number in range(2):
            manifest.add(make_record(number))
            manifest.compact()
    shutil.copy(_pack(path), new.parent / "history")
    repair(names.resolve(new))
    with DownloadManifestManager(new, options=MANUAL) as manifest:
        for number in range(2, 6):
            manifest.add(make_record(number))
            manifest.compact()
        assert [event.checksum for event in manifest.history()] == list(map(checksum, range(6)))


def test_a_new_manifest_in_the_place_of_a_deleted_one_begins_its_own_history(path: Path) -> None:
    delete_all_but_its_history(path)
    with DownloadManifestManager(path, metadata(), options=MANUAL) as manifest:
        manifest.add(make_record(200))
        manifest.compact()
        manifest.add(make_record(201))
        assert [event.checksum for event in manifest.history()] == [checksum(200), checksum(201)]


def test_the_history_of_a_deleted_manifest_is_set_aside_byte_for_byte(path: Path) -> None:
    before = {file.name: file.read_bytes() for file in (path.parent / "history").iterdir()}
    delete_all_but_its_history(path)
    DownloadManifestManager(path, metadata(), options=MANUAL).close()
    (folder,) = (path.parent / "quarantine").iterdir()
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before


def delete_all_but_its_history(path: Path) -> None:
    """As a person does who deletes a manifest by the pattern of its name."""
    for file in path.parent.glob(path.name.replace(".json", ".*")):
        file.unlink()
