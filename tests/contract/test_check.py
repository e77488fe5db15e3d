"""`check` finds every damage, and nothing in what is sound."""

from __future__ import annotations

import shutil
import tracemalloc
from array import array
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from manifestlog import DownloadManifestManager, ManifestNotFoundError, NewerFormatError, names
from manifestlog.engines.filelog.canonical import index, scan
from manifestlog.engines.filelog.canonical.columns import Columns
from manifestlog.engines.filelog.canonical.scan import Canonical
from manifestlog.engines.filelog.recovery.check import check
from manifestlog.engines.reports import DAMAGE, NOTE, CheckReport
from manifestlog.files import disk
from support.integrity import active_segment, segments
from support.records import MANUAL, NAME, make_record, metadata

OPTIONS = replace(MANUAL, segment_bytes_max=1500)
STEP = 3
"""`make test` tries every third byte; `make test-slow` tries every bit of every byte."""


def _fill(path: Path, first: int, count: int, *, save: bool = False) -> None:
    with DownloadManifestManager(path, metadata(), options=OPTIONS) as manifest:
        for number in range(first, first + count):
            manifest.add(make_record(number))
        if save:
            manifest.save()


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    """A canonical with its index, two sealed segments behind it and an active one; a test may damage all of them."""
    path = tmp_path / "sound" / NAME
    _fill(path, 0, 3, save=True)
    _fill(path, 3, 7)
    assert len(segments(path)) == 3
    return path


def _check(path: Path) -> CheckReport:
    return check(names.resolve(path))


def _flipped(path: Path, file: Path, offset: int, bit: int) -> CheckReport:
    data = bytearray(file.read_bytes())
    data[offset] ^= 1 << bit
    file.write_bytes(data)
    report = _check(path)
    data[offset] ^= 1 << bit
    file.write_bytes(data)
    return report


def _files(path: Path) -> dict[str, Path]:
    order = ["sealed", "sealed too", "active"]
    return {
        "canonical": path,
        "index": Path(names.resolve(path).index),
        **dict(zip(order, segments(path).values(), strict=True)),
    }


def test_a_sound_manifest_has_no_findings(sound: Path) -> None:
    assert _check(sound).findings == []


def test_it_counts_what_it_has_read(sound: Path) -> None:
    report = _check(sound)
    assert (report.records, report.segments) == (3, 3)


def test_it_writes_nothing(sound: Path) -> None:
    before = _files_and_times(sound.parent)
    _check(sound)
    assert _files_and_times(sound.parent) == before


def _files_and_times(directory: Path) -> dict[Path, tuple[bytes, int]]:
    return {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in directory.rglob("*") if p.is_file()}


@pytest.mark.parametrize("kind", ["canonical", "sealed", "sealed too"])
def test_one_bit_anywhere_is_damage(sound: Path, kind: str) -> None:
    file = _files(sound)[kind]
    missed = [at for at in range(0, file.stat().st_size, STEP) if not _flipped(sound, file, at, at % 8).damaged]
    assert missed == []


@pytest.mark.parametrize("kind", ["active", "index"])
def test_one_bit_anywhere_is_found_at_least(sound: Path, kind: str) -> None:
    """The tail may have been torn by a crash, and an index is only ever made anew."""
    file = _files(sound)[kind]
    if kind == "index":
        # Writing the canonical back would make every index stale; here only the index is touched.
        assert _check(sound).findings == []
    missed = [at for at in range(0, file.stat().st_size, STEP) if not _flipped(sound, file, at, at % 8).findings]
    assert missed == []


def _is_found(sound: Path, file: Path, at: int, bit: int) -> bool:
    data = file.read_bytes()
    try:
        return bool(_flipped(sound, file, at, bit).findings)
    except NewerFormatError:
        file.write_bytes(data)
        return True  # the format's number itself, which is looked at before any checksum


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["canonical", "sealed", "sealed too", "active", "index"])
def test_every_bit_of_every_byte(sound: Path, kind: str) -> None:
    file = _files(sound)[kind]
    missed = [(at, bit) for at in range(file.stat().st_size) for bit in range(8) if not _is_found(sound, file, at, bit)]
    assert missed == []


@pytest.mark.parametrize("kind", ["canonical", "sealed", "sealed too"])
def test_a_cut_at_any_length_is_damage(sound: Path, kind: str) -> None:
    file = _files(sound)[kind]
    data = file.read_bytes()
    missed = []
    for length in range(0, len(data), STEP):
        file.write_bytes(data[:length])
        if not _check(sound).damaged:
            missed.append(length)
    assert missed == []


def test_a_torn_tail_is_a_note(sound: Path) -> None:
    with active_segment(sound).open("ab") as file:
        file.write(b'{"op":"put","ts":"2024')
    (finding,) = _check(sound).findings
    assert (finding.level, "unfinished" in finding.meaning) == (NOTE, True)


def test_a_fenced_tail_is_not_damage(sound: Path) -> None:
    with active_segment(sound).open("ab") as file:
        file.write(b'{"op":"put","ts":"2024')
    _fill(sound, 50, 1)
    assert not _check(sound).damaged


@pytest.mark.parametrize("kind", ["sealed", "sealed too"])
def test_a_missing_segment_is_damage(sound: Path, kind: str) -> None:
    _files(sound)[kind].unlink()
    assert _check(sound).damaged


def test_a_missing_canonical_is_damage(sound: Path) -> None:
    sound.unlink()
    assert _check(sound).damaged


def test_a_missing_log_is_damage(sound: Path) -> None:
    for segment in segments(sound).values():
        segment.unlink()
    assert _check(sound).damaged


def test_a_missing_index_is_not_damage(sound: Path) -> None:
    _files(sound)["index"].unlink()
    assert _check(sound).findings == []


def _swap(one: Path, other: Path) -> None:
    kept = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(kept)


def test_swapped_segments_are_damage(sound: Path) -> None:
    _swap(_files(sound)["sealed"], _files(sound)["sealed too"])
    assert _check(sound).damaged


@pytest.mark.parametrize("kind", ["canonical", "sealed", "active"])
def test_a_file_of_another_manifest_is_damage(sound: Path, tmp_path: Path, kind: str) -> None:
    other = tmp_path / "other" / NAME
    _fill(other, 100, 3, save=True)
    _fill(other, 103, 7)
    shutil.copyfile(_files(other)[kind], _files(sound)[kind])
    assert _check(sound).damaged


def test_an_older_canonical_is_damage(sound: Path) -> None:
    older = sound.read_bytes()
    with DownloadManifestManager(sound, options=OPTIONS) as manifest:
        manifest.save()
    sound.write_bytes(older)
    assert _check(sound).damaged


def test_a_doubled_line_is_damage(sound: Path) -> None:
    file = _files(sound)["sealed"]
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join([*lines[:2], lines[1], *lines[2:]]))
    assert _check(sound).damaged


def test_all_damage_is_reported_not_only_the_first(sound: Path) -> None:
    for kind in ("sealed", "sealed too"):
        file = _files(sound)[kind]
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 1
        file.write_bytes(data)
    damaged = {Path(f.file).name for f in _check(sound).findings if f.level == DAMAGE}
    assert damaged >= {_files(sound)["sealed"].name, _files(sound)["sealed too"].name}


def _rotated(rows: bytearray) -> bytearray:
    """The first two source rows with each other's checksums: the same bytes in all, at other places."""
    rows[24:32], rows[56:64] = rows[56:64], rows[24:32]
    return rows


def _add(column: object, number: int, more: int) -> None:
    assert isinstance(column, array)
    column[number] += more


LIES: dict[str, Callable[[Columns], None]] = {
    "the CRC of a record": lambda columns: _add(columns.crcs, 0, -1),
    "the place of a record": lambda columns: _add(columns.offsets, 1, 1),
    "the end": lambda columns: _add(columns.offsets, -1, 1),
    "a checksum": lambda columns: setattr(columns, "digests", bytes(columns.digests[:-1]) + b"?"),
    "a source": lambda columns: setattr(columns, "sources", bytes(columns.sources[:-1]) + b"?"),
    "whose checksum is whose": lambda columns: setattr(columns, "sources", _rotated(bytearray(columns.sources))),
    "a source twice": lambda columns: setattr(columns, "sources", bytes(columns.sources[:32]) + bytes(columns.sources)),
    "a source less": lambda columns: setattr(columns, "sources", columns.sources[32:]),
}


@pytest.mark.parametrize("lie", LIES)
def test_an_index_that_differs_from_the_canonical_is_damage(sound: Path, lie: str) -> None:
    """Right in itself, with the canonical's stamp, and wrong: no bit flip, but a bug would look like this."""
    source = Canonical(str(sound), disk.open_read(str(sound)))
    scanned = scan.scan(source)
    LIES[lie](scanned.columns)
    stamp = disk.path_stamp(str(sound))
    assert stamp is not None
    head = index.Head(stamp, scanned.crc, 0, scanned.metadata)
    _files(sound)["index"].write_bytes(b"".join(index.encode(scanned.columns, head)))
    assert _check(sound).damaged


def _peak_bytes(path: Path, count: int) -> int:
    with DownloadManifestManager(path, metadata(), options=replace(MANUAL, batch_records_max=100)) as manifest:
        manifest.add_many(map(make_record, range(count)))
        manifest.save()
        manifest.add_many(map(make_record, range(count, 2 * count)))
    tracemalloc.start()
    try:
        assert _check(path).records == count
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_does_not_grow_with_the_manifest(tmp_path: Path) -> None:
    small, large = (_peak_bytes(tmp_path / f"of-{count}" / NAME, count) for count in (6_000, 24_000))
    assert large < 1.2 * small


def test_a_missing_manifest_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ManifestNotFoundError):
        _check(tmp_path / NAME)


def test_writers_may_continue(path: Path, open_manifest: Callable[..., DownloadManifestManager]) -> None:
    manifest = open_manifest()
    for number in range(50):
        manifest.add(make_record(number))
        if number % 10 == 9:
            manifest.compact()
        assert not check(names.resolve(path)).damaged


def test_an_emptied_manifest_has_no_findings(tmp_path: Path) -> None:
    """The index that a compaction writes for no records is the one that the canonical asks for."""
    path = tmp_path / NAME
    with DownloadManifestManager(path, metadata(), options=MANUAL) as manifest:
        manifest.add(make_record(1))
        manifest.save()
        manifest.forget(make_record(1).checksum)
        manifest.save()
    assert _check(path).findings == []


def test_a_compaction_that_ends_while_the_canonical_is_read_is_not_damage(
    path: Path, open_manifest: Callable[..., DownloadManifestManager], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The segments that were listed before are gone by then."""
    manifest, real = open_manifest(), scan.fold
    manifest.add(make_record(1))

    def fold(*args: Any) -> Any:
        found = real(*args)
        monkeypatch.undo()
        manifest.compact()
        return found

    monkeypatch.setattr(scan, "fold", fold)
    report = check(names.resolve(path))
    assert (report.damaged, report.records) == (False, 1)
