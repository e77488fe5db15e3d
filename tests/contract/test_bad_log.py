"""A log that is damaged: an error with segment, offset and what lies beyond; or, behind what was synced, a crash's trace."""

from __future__ import annotations

import json
import logging
import re
import shutil
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from manifestlog import (
    DamagedManifestError,
    DownloadManifestManager,
    Durability,
    ManifestOptions,
    NewerFormatError,
    Verdict,
)
from support.engines import engine_of

from .builders import META, QUIET, answers, files_of, line_at, record, salt_of, segments_of, sha

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

DURABLE = ManifestOptions(durability=Durability.POWER_CUT, auto_compact=False, compact_on_close=False)
"""Each line states that the one before it is on the disk."""

ROTATING = replace(QUIET, segment_bytes_max=900)
"""A segment takes two or three records."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A place that nobody checks afterwards, since what lies there is damaged on purpose."""
    return tmp_path / "systems_download.manifest.json"


def _fill(path: Path, count: int, options: ManifestOptions = QUIET) -> list[Path]:
    with DownloadManifestManager(path, META, options=options) as manager:
        for number in range(count):
            manager.add(record(f"c{number}", number))
    return segments_of(path.parent)


def _answers(path: Path) -> object:
    with DownloadManifestManager(path, options=QUIET, read_only=True) as manager:
        return answers(manager)


def _keys(path: Path) -> list[str]:
    with DownloadManifestManager(path, options=QUIET, read_only=True) as manager:
        return list(manager)


def _refused(path: Path) -> DamagedManifestError:
    with pytest.raises(DamagedManifestError) as refused:
        DownloadManifestManager(path, META, options=QUIET).close()
    return refused.value


def _line_starts(data: bytes) -> list[int]:
    starts = [0]
    while (stop := data.find(b"\n", starts[-1])) >= 0 and stop + 1 < len(data):
        starts.append(stop + 1)
    return starts


def _flip(path: Path, place: int, bits: int = 0x01) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= bits
    path.write_bytes(data)


# -- flipped bytes -----------------------------------------------------------------------------------------------------


@pytest.mark.slow  # tests/damage has every byte in make test
@pytest.mark.parametrize("bits", [0x01, 0x20, 0x80, 0xFF])
def test_every_flipped_byte_of_a_sealed_segment_is_found(path: Path, bits: int) -> None:
    """No byte of a sealed segment can change unseen."""
    sealed = _fill(path, 4, ROTATING)[0]
    whole = sealed.read_bytes()
    missed = []
    for place in range(len(whole)):
        _flip(sealed, place, bits)
        try:
            _keys(path)
            missed.append(place)
        except (DamagedManifestError, NewerFormatError):
            pass
        sealed.write_bytes(whole)
    assert missed == []


@pytest.mark.slow  # tests/damage has every byte in make test
@pytest.mark.parametrize("bits", [0x01, 0xFF])
def test_every_flipped_byte_before_the_sync_mark_is_found(path: Path, bits: int) -> None:
    """In the active segment, nothing that is known to be on the disk can change unseen."""
    (active,) = _fill(path, 4, DURABLE)
    whole = active.read_bytes()
    known = _line_starts(whole)[-1]
    missed = []
    for place in range(known):
        _flip(active, place, bits)
        try:
            _keys(path)
            missed.append(place)
        except (DamagedManifestError, NewerFormatError):
            pass
        active.write_bytes(whole)
    assert missed == []


@pytest.mark.slow  # tests/damage has every byte in make test
@pytest.mark.parametrize("bits", [0x01, 0xFF])
def test_a_flipped_byte_after_the_sync_mark_damages_its_own_line_only(
    path: Path, bits: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Damage that a crash explains is reported, and costs no line but the damaged one."""
    (active,) = _fill(path, 4, QUIET)
    whole = active.read_bytes()
    starts = [*_line_starts(whole), len(whole)]
    all_keys = [sha(f"c{n}") for n in range(4)]
    wrong = []
    for place in range(starts[1], len(whole)):
        caplog.clear()
        hit = sum(start <= place for start in starts) - 2
        _flip(active, place, bits)
        found = set(_keys(path))
        newline = whole[place : place + 1] == b"\n"
        expected = set(all_keys) if newline else set(all_keys) - {all_keys[hit]}
        # The last line without its newline may be one that is being written: nothing is reported yet.
        reported = "damaged" in caplog.text or hit == 3
        if found != expected or not reported:
            wrong.append(place)
        active.write_bytes(whole)
    assert wrong == []


def test_a_damaged_log_is_not_changed(path: Path) -> None:
    """A refused log stays byte for byte."""
    _flip(_fill(path, 6, ROTATING)[0], 500)
    before = files_of(path.parent)
    _refused(path)
    assert files_of(path.parent) == before


@pytest.mark.parametrize("act", [lambda m: m.save(), lambda m: m.compact()], ids=["save", "compact"])
def test_damage_that_appears_under_an_open_manager_is_never_merged(
    path: Path, act: Callable[[DownloadManifestManager], object]
) -> None:
    """A compaction reads the log again, and stops at damage with nothing changed."""
    with DownloadManifestManager(path, META, options=ROTATING) as manager:
        for number in range(6):
            manager.add(record(f"c{number}", number))
        before = path.read_bytes()
        _flip(segments_of(path.parent)[0], 500)
        with pytest.raises(DamagedManifestError):
            act(manager)
        assert path.read_bytes() == before


@pytest.fixture
def damaged(path: Path) -> DamagedManifestError:
    """The error of a sealed segment whose second line is damaged: a record before it, a batch of ten and one behind it."""
    with DownloadManifestManager(path, META, options=QUIET) as manager:
        manager.add(record("damaged", -1))
        manager.add_many(record(f"c{n}", n) for n in range(10))
        manager.add(record("last", 20))
        segment = segments_of(path.parent)[0]
        engine_of(manager).session.transact(lambda state: state.start_log().rotate())
    _flip(segment, _line_starts(segment.read_bytes())[1] + 100)
    return _refused(path)


def test_the_error_names_the_segments_file(damaged: DamagedManifestError) -> None:
    """The path is the segment's, not the canonical's."""
    assert damaged.path.endswith("systems_download.manifest.wal-000001.jsonl")


def test_the_error_has_the_lines_offset(damaged: DamagedManifestError, path: Path) -> None:
    """The offset is where the damaged line begins."""
    assert damaged.offset == _line_starts(segments_of(path.parent)[0].read_bytes())[1]


def test_the_message_names_the_segment(damaged: DamagedManifestError) -> None:
    """The message says which segment of the log."""
    assert "segment 1" in str(damaged)


def test_the_message_counts_the_good_records_beyond(damaged: DamagedManifestError) -> None:
    """The message says how many good records lie beyond: a batch of ten counts ten."""
    assert "11 good records" in str(damaged)


def test_a_sync_mark_never_points_beyond_its_own_line(path: Path) -> None:
    """A line knows of the disk only what was there before it: else a crash behind a rotation would be called damage."""
    _fill(path, 12, replace(DURABLE, segment_bytes_max=1200))
    wrong = []
    for segment in segments_of(path.parent):
        data = segment.read_bytes()
        for start, line in zip(_line_starts(data), data.splitlines(), strict=True):
            if json.loads(line).get("synced", 0) > start:
                wrong.append((segment.name, start))
    assert wrong == []


def test_a_hole_after_a_rotation_is_explained_by_a_crash(path: Path) -> None:
    """What was synced in one segment says nothing of the next: unsynced lines there may be lost to a power cut."""
    _fill(path, 4, DURABLE)
    with DownloadManifestManager(path, options=replace(QUIET, segment_bytes_max=1400)) as manager:
        for number in range(4, 7):
            manager.add(record(f"c{number}", number))
    active = segments_of(path.parent)[-1]
    lines = active.read_bytes().splitlines(keepends=True)
    lines[2] = bytes(len(lines[2]))
    active.write_bytes(b"".join(lines))
    assert _keys(path) == sorted(sha(f"c{n}") for n in (0, 1, 2, 3, 4, 6))


# -- torn tails --------------------------------------------------------------------------------------------------------

TAILS = {
    "half a line": b'{"op":"put","ts":"2026-01-01T00:00:00.000000Z","record":{"source_id":"s","da',
    "one byte": b"{",
    "NULs": bytes(4096),
    "noise": bytes(range(256)).replace(b"\n", b""),
    "noise with newlines": b"abc\n\n\ndef\n{}\n",
    "newlines": b"\n\n\n",
    "a line of another time": b'{"op":"forget","ts":"2026-01-01T00:00:00.000000Z","checksum":"%b","crc":"00000000"}\n'
    % sha("c0").encode(),
    "a wrong CRC and half a line": b'{"op":"put","crc":"00000000"}\n{"op":',
}


@pytest.mark.parametrize("tail", TAILS)
def test_a_torn_tail_opens(path: Path, tail: str) -> None:
    """What a crash left behind the last line takes no record away."""
    (active,) = _fill(path, 3)
    expected = _answers(path)
    active.write_bytes(active.read_bytes() + TAILS[tail])
    assert _answers(path) == expected


@pytest.mark.parametrize("tail", TAILS)
def test_a_torn_tail_is_reported(path: Path, tail: str, caplog: pytest.LogCaptureFixture) -> None:
    """The next writer says that there was one."""
    (active,) = _fill(path, 3)
    active.write_bytes(active.read_bytes() + TAILS[tail])
    with caplog.at_level(logging.WARNING, "manifestlog"):
        _fill(path, 4)
    assert active.name in caplog.text


@pytest.mark.parametrize("tail", TAILS)
def test_what_is_written_after_a_torn_tail_is_kept(path: Path, tail: str) -> None:
    """Writes after the recovery survive the next open."""
    (active,) = _fill(path, 3)
    active.write_bytes(active.read_bytes() + TAILS[tail])
    _fill(path, 5)
    assert _keys(path) == sorted(sha(f"c{n}") for n in range(5))


@pytest.mark.parametrize("tail", TAILS)
def test_a_torn_tail_stays_where_it_is(path: Path, tail: str) -> None:
    """No byte is taken away: the next segment goes on."""
    (active,) = _fill(path, 3)
    torn = active.read_bytes() + TAILS[tail]
    active.write_bytes(torn)
    _fill(path, 5)
    assert (active.read_bytes(), len(segments_of(path.parent))) == (torn, 2)


@pytest.mark.parametrize("tail", TAILS)
def test_a_torn_tail_is_compacted_away(path: Path, tail: str) -> None:
    """A compaction keeps the records and drops the junk."""
    (active,) = _fill(path, 3)
    active.write_bytes(active.read_bytes() + TAILS[tail])
    with DownloadManifestManager(path, options=QUIET) as manager:
        manager.save()
    assert set(json.loads(path.read_bytes())["records"]) == {sha(f"c{n}") for n in range(3)}


@pytest.mark.parametrize("tail", ["half a line", "NULs", "noise with newlines"])
def test_torn_tails_in_several_segments(path: Path, tail: str) -> None:
    """Three crashes in a row lose nothing that was acknowledged."""
    for number in range(1, 4):
        active = _fill(path, number)[-1]
        active.write_bytes(active.read_bytes() + TAILS[tail])
    assert _keys(path) == sorted(sha(f"c{n}") for n in range(3))


def test_cut_anywhere_the_active_segment_gives_an_earlier_moment(path: Path) -> None:
    """Cut at any byte behind its first line, the active segment holds the records whose lines are whole."""
    (active,) = _fill(path, 4)
    whole = active.read_bytes()
    starts = [*_line_starts(whole), len(whole)]
    wrong = []
    for length in range(starts[1], len(whole)):
        active.write_bytes(whole[:length])
        complete = sum(stop - 1 <= length for stop in starts[2:])  # a newline may be missing
        if _keys(path) != sorted(sha(f"c{n}") for n in range(complete)):
            wrong.append(length)
    assert wrong == []


def test_cut_within_its_first_line_a_segment_is_damaged(path: Path) -> None:
    """A segment gets its name when its first line is whole, so a shorter one is no crash's work."""
    (active,) = _fill(path, 1)
    whole = active.read_bytes()
    missed = []
    for length in range(_line_starts(whole)[1] - 1):
        active.write_bytes(whole[:length])
        try:
            _keys(path)
            missed.append(length)
        except DamagedManifestError:
            pass
    assert missed == []


def test_a_missing_newline_loses_nothing(path: Path) -> None:
    """A complete line with a right CRC is a record even if its newline is missing."""
    (active,) = _fill(path, 3)
    active.write_bytes(active.read_bytes()[:-1])
    assert _keys(path) == sorted(sha(f"c{n}") for n in range(3))


def test_writing_continues_after_a_missing_newline(path: Path) -> None:
    """After a line without its newline, the next record is kept too."""
    (active,) = _fill(path, 3)
    active.write_bytes(active.read_bytes()[:-1])
    _fill(path, 5)
    assert _keys(path) == sorted(sha(f"c{n}") for n in range(5))


@pytest.mark.parametrize("wrong", [b" ", b"\0", b"\r", b"{", b'"'])
@pytest.mark.parametrize("line", [1, 2, 3])
def test_a_wrong_newline_byte_is_reported(
    path: Path, caplog: pytest.LogCaptureFixture, wrong: bytes, line: int
) -> None:
    """A byte in a newline's place is told of."""
    (active,) = _fill(path, 4)
    data = bytearray(active.read_bytes())
    data[_line_starts(bytes(data))[line + 1] - 1 : _line_starts(bytes(data))[line + 1]] = wrong
    active.write_bytes(data)
    with caplog.at_level(logging.WARNING, "manifestlog"):
        _keys(path)
    assert active.name in caplog.text


# -- moved lines -------------------------------------------------------------------------------------------------------


@pytest.fixture
def sealed(path: Path) -> Path:
    """The first of several segments."""
    return _fill(path, 8, ROTATING)[0]


def _lines(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True)


def test_a_duplicated_line_in_a_sealed_segment_is_found(path: Path, sealed: Path) -> None:
    """A duplicated line is damage."""
    lines = _lines(sealed)
    sealed.write_bytes(b"".join([*lines[:2], *lines[1:]]))
    _refused(path)


def test_a_removed_line_in_a_sealed_segment_is_found(path: Path, sealed: Path) -> None:
    """A line that was taken out is damage."""
    lines = _lines(sealed)
    sealed.write_bytes(b"".join([lines[0], *lines[2:]]))
    _refused(path)


def test_two_swapped_lines_are_found(path: Path, sealed: Path) -> None:
    """Swapped lines are damage."""
    lines = _lines(sealed)
    sealed.write_bytes(b"".join([lines[0], lines[2], lines[1], *lines[3:]]))
    _refused(path)


@pytest.mark.usefixtures("sealed")
def test_a_line_of_another_segment_is_found(path: Path) -> None:
    """A line from another segment, at its own offset, is damage."""
    _, sealed, other_segment, *_ = segments_of(path.parent)
    lines, others = _lines(sealed), _lines(other_segment)
    offset, other = len(lines[0]), len(others[0])
    assert len(lines[1]) == len(others[1]), "the test wants lines of one length"
    sealed.write_bytes(lines[0] + others[1] + b"".join(lines[2:]))
    assert offset <= other
    _refused(path)


def test_a_line_of_another_manifest_is_found(path: Path, sealed: Path) -> None:
    """A line from the same place of another manifest is damage, although its length is the same."""
    other = path.with_name("other_download.manifest.json")
    with DownloadManifestManager(other, META, options=ROTATING) as manager:
        for number in range(8):
            manager.add(record(f"c{number}", number))
    foreign = _lines(path.with_name("other_download.manifest.wal-000001.jsonl"))
    lines = _lines(sealed)
    sealed.write_bytes(lines[0] + foreign[1] + b"".join(lines[2:]))
    _refused(path)


def test_a_duplicated_last_line_of_the_active_segment_changes_nothing(path: Path) -> None:
    """A stale line behind the end is no record: the same content is not written twice."""
    (active,) = _fill(path, 3)
    expected = _answers(path)
    active.write_bytes(active.read_bytes() + _lines(active)[-1])
    assert _answers(path) == expected


def test_bytes_after_a_seal_are_found(path: Path, sealed: Path) -> None:
    """Nothing may stand behind a segment's last line."""
    sealed.write_bytes(sealed.read_bytes() + b"x\n")
    _refused(path)


# -- moved files -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", [0, 1, 2])
def test_a_missing_segment_is_found(path: Path, sealed: Path, which: int) -> None:
    """A segment that is gone, from the front or from the middle, is damage."""
    segments_of(sealed.parent)[which].unlink()
    assert "missing" in _refused(path).reason


def test_swapped_segments_are_found(path: Path, sealed: Path) -> None:
    """Two segments with their names exchanged are damage."""
    second = segments_of(path.parent)[1]
    aside = sealed.with_suffix(".aside")
    sealed.rename(aside)
    second.rename(sealed)
    aside.rename(second)
    _refused(path)


def test_a_duplicated_segment_is_found(path: Path, sealed: Path) -> None:
    """A copy of a segment under the next free number is damage."""
    last = segments_of(path.parent)[-1]
    number = int(last.name[-12:-6])
    shutil.copy(last, last.with_name(last.name.replace(f"{number:06d}", f"{number + 1:06d}")))
    assert sealed.exists()
    _refused(path)


def test_a_segment_of_another_manifest_is_found(path: Path, sealed: Path) -> None:
    """A segment of a manifest of the same name, made at another time, is damage."""
    elsewhere = path.parent / "elsewhere" / path.name
    other = META.model_copy(update={"ts_created": META.ts_created.replace(year=2022)})
    with DownloadManifestManager(elsewhere, other, options=ROTATING) as manager:
        for number in range(8):
            manager.add(record(f"c{number}", number))
    shutil.copy(segments_of(elsewhere.parent)[0], sealed)
    _refused(path)


def test_a_segment_of_a_twin_is_found(path: Path, sealed: Path) -> None:
    """A segment of a manifest with the same name, birth and records is damage."""
    elsewhere = path.parent / "elsewhere" / path.name
    with DownloadManifestManager(elsewhere, META, options=ROTATING) as manager:
        for number in range(8):
            manager.add(record(f"c{number}", number))
    shutil.copy(segments_of(elsewhere.parent)[0], sealed)
    _refused(path)


def test_a_missing_canonical_beside_a_log_is_damage(path: Path, sealed: Path) -> None:
    """A canonical that is gone while its log is there is never made anew."""
    path.unlink()
    assert (_refused(path).path, sealed.exists(), path.exists()) == (str(path), True, False)


@pytest.fixture
def compacted(path: Path) -> bytes:
    """A manifest compacted twice; gives its canonical from between the two."""
    with DownloadManifestManager(path, META, options=QUIET) as manager:
        manager.add(record("a"))
        manager.save()
        between = path.read_bytes()
        manager.add(record("b", 1))
        manager.save()
    return between


def test_a_canonical_from_before_a_compaction_is_found(path: Path, compacted: bytes) -> None:
    """An old canonical that was brought back lacks records whose log is gone."""
    path.write_bytes(compacted)
    _refused(path)


def test_a_canonical_of_another_manifest_is_found(path: Path, compacted: bytes) -> None:
    """A canonical that is whole, but another's, is not the one that the log belongs to."""
    other = path.with_name("other_download.manifest.json")
    with DownloadManifestManager(other, META, options=QUIET) as manager:
        manager.add(record("z"))
        manager.save()
    shutil.copy(other, path)
    assert (_refused(path).path, len(compacted) > 0) == (str(path), True)


def test_a_canonical_edited_by_hand_is_found(path: Path, compacted: bytes) -> None:
    """An edit that keeps the JSON whole is seen all the same."""
    path.write_bytes(path.read_bytes().replace(b'"/raw/a"', b'"/raw/x"'))
    assert (_refused(path).path, len(compacted) > 0) == (str(path), True)


def test_a_lost_log_is_found(path: Path, compacted: bytes) -> None:
    """When every segment is gone, the index still knows that there was a log."""
    for segment in segments_of(path.parent):
        segment.unlink()
    assert ("log" in _refused(path).reason, len(compacted) > 0) == (True, True)


def test_the_canonical_alone_is_a_manifest(path: Path, tmp_path: Path, compacted: bytes) -> None:
    """A canonical copied away, as people do for a backup, opens by itself."""
    copy = tmp_path / "backup" / path.name
    copy.parent.mkdir()
    copy.write_bytes(compacted)
    assert _keys(copy) == [sha("a")]


# -- newer formats -----------------------------------------------------------------------------------------------------


def _newer(segment: Path, line: bytes) -> None:
    segment.write_bytes(line + segment.read_bytes().partition(b"\n")[2])


def test_a_newer_format_is_rejected_by_name(path: Path) -> None:
    """The version is looked at before any checksum."""
    (active,) = _fill(path, 1)
    _newer(active, active.read_bytes().partition(b"\n")[0].replace(b'"format":2', b'"format":3') + b"\n")
    with pytest.raises(NewerFormatError) as refused:
        _keys(path)
    assert (refused.value.found, refused.value.supported) == (3, 2)


def test_a_newer_format_may_have_another_layout(path: Path) -> None:
    """Of a newer first line nothing is asked but its kind and its format."""
    (active,) = _fill(path, 1)
    _newer(active, b'{"op":"open","format":7,"everything":"else"}\n')
    with pytest.raises(NewerFormatError):
        _keys(path)


def test_files_in_a_newer_format_are_not_changed(path: Path) -> None:
    """A refused newer log stays byte for byte, also for a writer."""
    (active,) = _fill(path, 1)
    _newer(active, b'{"op":"open","format":7,"everything":"else"}\n')
    before = files_of(path.parent)
    with pytest.raises(NewerFormatError):
        DownloadManifestManager(path, META, options=QUIET)
    assert files_of(path.parent) == before


def test_an_unknown_line_is_damage(path: Path) -> None:
    """A line with a right CRC that says nothing known is never passed over."""
    (active,) = _fill(path, 1)
    data = active.read_bytes()
    active.write_bytes(data + line_at(b'{"op":"merge","ts":"2026-01-01T00:00:00Z"', salt_of(data), len(data)))
    assert _refused(path).offset == len(data)


@pytest.mark.parametrize("body", [b'{"op":"put"', b'{"op":"forget","ts":"2026-01-01T00:00:00Z"', b'{"ts":1', b"[1"])
def test_a_line_of_the_wrong_shape_is_damage(path: Path, body: bytes) -> None:
    """A line with a right CRC whose members are missing is an error of ours, with its place."""
    (active,) = _fill(path, 1)
    data = active.read_bytes()
    active.write_bytes(data + line_at(body, salt_of(data), len(data)))
    assert _refused(path).offset == len(data)


def test_a_line_of_the_wrong_shape_in_the_history_of_a_lone_canonical_is_damage(path: Path) -> None:
    _fill(path, 2)
    with DownloadManifestManager(path, META, options=QUIET) as manager:
        manager.compact()
    for file in path.parent.glob(f"{path.name.removesuffix('.json')}.[wi]*"):
        file.unlink()  # the log and the index
    (kept,) = (file for file in (path.parent / "history").rglob("*.wal*") if file.is_file())
    data = kept.read_bytes()
    kept.write_bytes(data + line_at(b"[1", salt_of(data), len(data)))
    with (
        DownloadManifestManager(path, read_only=True) as manager,
        pytest.raises(DamagedManifestError, match="valid CRC"),
    ):
        manager.as_of(datetime(2000, 1, 1, tzinfo=UTC))


# -- the lines themselves ----------------------------------------------------------------------------------------------


@pytest.fixture
def spoken(path: Path) -> list[bytes]:
    """One line of every kind that a writer can make."""
    with DownloadManifestManager(path, META, options=QUIET) as manager:
        manager.add(record("a"))
        manager.add_many([record("b", 1), record("c", 2)])
        manager.forget(sha("b"))
    newer = META.model_copy(update={"etl_version": "2"})
    with DownloadManifestManager(path, newer, options=QUIET) as manager:
        first = segments_of(path.parent)[0]
        engine_of(manager).session.transact(lambda state: state.start_log().rotate())
    return _lines(first)


def test_the_kind_is_the_first_member(spoken: list[bytes]) -> None:
    """Every line begins with `"op"`."""
    kinds = [next(iter(json.loads(line).items())) for line in spoken]
    assert kinds == [("op", kind) for kind in ("open", "put", "batch", "forget", "meta", "seal")]


def test_open_carries_the_format(spoken: list[bytes]) -> None:
    """`open` says `"format":2`."""
    assert b'"format":2' in spoken[0]


def test_put_carries_its_record(spoken: list[bytes]) -> None:
    """The record is nested under `"record"`."""
    assert json.loads(spoken[1])["record"] == record("a").model_dump(mode="json")


def test_batch_carries_its_records(spoken: list[bytes]) -> None:
    """The records are nested under `"records"`."""
    assert [r["checksum"] for r in json.loads(spoken[2])["records"]] == [sha("b"), sha("c")]


def test_forget_carries_its_checksum(spoken: list[bytes]) -> None:
    """The tombstone says of which content."""
    assert json.loads(spoken[3])["checksum"] == sha("b")


def test_every_line_after_the_first_has_a_time(spoken: list[bytes]) -> None:
    """In UTC, always with six fractional digits; a seal says only what stands before it."""
    times = [json.loads(line)["ts"] for line in spoken[1:-1]]
    assert [re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", time) is not None for time in times] == [True] * 4


def test_the_last_member_is_the_crc(spoken: list[bytes]) -> None:
    """Every line ends with eight lower-case hex digits and a newline."""
    salt, offset, told = salt_of(spoken[0]), 0, []
    for line in spoken:
        told.append(line == line_at(line[: -len(',"crc":"00000000"}\n')], salt, offset))
        offset += len(line)
    assert told == [True] * 6


def test_an_upper_case_crc_is_wrong(path: Path) -> None:
    """CRCs are compared as bytes."""
    (active,) = _fill(path, 12)
    lines = _lines(active)
    number, line = next((n, ln) for n, ln in enumerate(lines) if n and ln[-11:-3].upper() != ln[-11:-3])
    lines[number] = line[:-11] + line[-11:-3].upper() + line[-3:]
    active.write_bytes(b"".join(lines))
    assert len(_keys(path)) == 11


def test_after_a_crash_in_the_middle_the_lines_around_are_kept(path: Path) -> None:
    """A hole behind everything known to be synced costs the records in it and no other."""
    (active,) = _fill(path, 6)
    lines = _lines(active)
    lines[3] = bytes(len(lines[3]))
    active.write_bytes(b"".join(lines))
    assert _keys(path) == sorted(sha(f"c{n}") for n in range(6) if n != 2)


def test_writing_continues_after_a_hole(path: Path) -> None:
    """A segment with a hole is fenced, and the log goes on."""
    (active,) = _fill(path, 6)
    lines = _lines(active)
    lines[3] = bytes(len(lines[3]))
    active.write_bytes(b"".join(lines))
    with DownloadManifestManager(path, options=QUIET) as manager:
        assert manager.add(record("c2", 2)).verdict is Verdict.CHANGED
    assert (_keys(path), len(segments_of(path.parent))) == (sorted(sha(f"c{n}") for n in range(6)), 2)


# -- a crash between a seal and its sync ---------------------------------------------------------------------------------


@pytest.fixture
def torn_seal(path: Path) -> tuple[Path, list[bytes]]:
    """A sealed segment without successor, nothing of it known to be synced, and its lines."""
    with DownloadManifestManager(path, META, options=QUIET) as manager:
        for number in range(4):
            manager.add(record(f"c{number}", number))
        engine_of(manager).session.transact(lambda state: state.start_log().rotate())
    first, second = segments_of(path.parent)
    second.unlink()
    return first, _lines(first)


def _hits(lines: list[bytes]) -> dict[str, bytes]:
    """What a power cut may have left of these lines."""
    return {
        "the seal's newline": b"".join(lines)[:-1] + b"\0",
        "a newline": b"".join([*lines[:2], lines[2][:-1] + b"\0", *lines[3:]]),
        "a line": b"".join([*lines[:2], bytes(len(lines[2])), *lines[3:]]),
    }


@pytest.mark.parametrize(("hit", "left"), [("the seal's newline", 4), ("a newline", 4), ("a line", 3)])
def test_a_hole_before_a_seal_is_explained_by_a_crash(
    path: Path, torn_seal: tuple[Path, list[bytes]], hit: str, left: int
) -> None:
    """It opens, goes on, opens again over the fence, and compacts."""
    segment, lines = torn_seal
    segment.write_bytes(_hits(lines)[hit])
    with DownloadManifestManager(path, options=QUIET) as manager:
        manager.add(record("on", 20))
    counts = [len(_keys(path))]
    with DownloadManifestManager(path, options=QUIET) as manager:
        manager.save()
    assert [*counts, len(_keys(path))] == [left + 1, left + 1]


@pytest.mark.parametrize("hit", ["the seal's newline", "a newline", "a line"])
def test_damage_after_the_fence_is_damage(path: Path, torn_seal: tuple[Path, list[bytes]], hit: str) -> None:
    """What a crash has damaged hides nothing that is damaged later, not even a newline."""
    segment, lines = torn_seal
    segment.write_bytes(_hits(lines)[hit])
    with DownloadManifestManager(path, options=QUIET) as manager:
        manager.add(record("on", 20))
    _flip(segment, sum(map(len, lines[:4])) - 1)
    assert _refused(path).path == str(segment)


def test_bytes_after_a_seal_without_successor_are_found(torn_seal: tuple[Path, list[bytes]], path: Path) -> None:
    """No crash writes behind a seal."""
    segment, lines = torn_seal
    segment.write_bytes(b"".join(lines) + b"x\n")
    _refused(path)


def test_relying_on_a_line_beside_a_hole_does_not_make_the_hole_damage(path: Path) -> None:
    """Answering "already there" syncs the segment; what the crash took from it is a crash's all the same."""
    (active,) = _fill(path, 6)
    lines = _lines(active)
    lines[3] = bytes(len(lines[3]))
    active.write_bytes(b"".join(lines)[:-1] + b"x")
    with DownloadManifestManager(path, options=DURABLE) as manager:
        assert manager.add(record("c1", 1)).verdict is Verdict.DUPLICATE
        assert manager.add(record("c1", 1)).verdict is Verdict.DUPLICATE
