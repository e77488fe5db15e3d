"""A manifest that was copied, restored or moved has the index of another file: its size and CRC tell whether it fits.

One pass over the canonical decides, once; whoever may write keeps the index, whoever may not leaves everything alone.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from contract.builders import META, QUIET, answers, files_of, record, segments_of, sha
from manifestlog import DamagedManifestError, DownloadManifestManager
from manifestlog.engines.filelog.lock import FileLock
from manifestlog.engines.filelog.recovery.check import check
from manifestlog.engines.filelog.recovery.repair import repair
from manifestlog.engines.reports import RepairOutcome
from manifestlog.names import resolve
from support.engines import engine_of
from support.integrity import check_manifest
from support.records import NAME

if TYPE_CHECKING:
    from collections.abc import Callable

    from manifestlog.engines.filelog.canonical.files import CanonicalFiles
    from support.children import Link, Start

COUNT = 300


def _open(path: Path, *, read_only: bool = False) -> DownloadManifestManager:
    return DownloadManifestManager(path, options=QUIET, read_only=read_only)


def _base(manager: DownloadManifestManager) -> CanonicalFiles:
    return engine_of(manager).session._state.base


def _made(folder: Path, prefix: str = "c") -> Path:
    """A manifest with records in the canonical, and some in the log."""
    path = folder / NAME
    with DownloadManifestManager(path, META, options=QUIET) as manager:
        manager.add_many([record(f"{prefix}{n:03}", n, source=f"s{n % 7}") for n in range(COUNT)])
        manager.save()
        manager.add(record(f"{prefix}-log", 999))
        manager.forget(sha(f"{prefix}003"))
    return path


@pytest.fixture
def original(tmp_path: Path) -> Path:
    return _made(tmp_path / "original")


def _copied(path: Path) -> Path:
    target = path.parent.with_name("copied")
    shutil.copytree(path.parent, target, copy_function=shutil.copyfile)  # as `cp -r` does it: other inodes, other times
    return target / path.name


def _moved_between_disks(path: Path) -> Path:
    target = path.parent.with_name("moved")
    shutil.copytree(path.parent, target)  # with their times, as `mv` and `rsync -a` do it
    shutil.rmtree(path.parent)
    return target / path.name


def _touched(path: Path) -> Path:
    os.utime(path, (1, 1))
    return path


def _without_index(path: Path) -> Path:
    Path(resolve(path).index).unlink()
    return path


def _with_broken_index(path: Path) -> Path:
    Path(resolve(path).index).write_bytes(b"junk")
    return path


def _of_another_tool(path: Path) -> Path:
    """The records of the canonical, indented and in another order, and no log."""
    document = json.loads(path.read_bytes())
    document["records"] = dict(reversed(document["records"].items()))
    target = path.parent.with_name("foreign") / path.name
    target.parent.mkdir()
    target.write_text(json.dumps(document, indent=4))
    return target


ADOPTED = [_copied, _moved_between_disks, _touched]
SCANNED = [_without_index, _with_broken_index, _of_another_tool]
Make = "Callable[[Path], Path]"


@pytest.mark.parametrize("make", ADOPTED)
def test_an_index_of_the_same_bytes_is_adopted(original: Path, make: Callable[[Path], Path]) -> None:
    """Nothing is scanned at the first opening."""
    with _open(make(original)) as manager:
        assert not _base(manager).from_scan


@pytest.mark.parametrize("make", [*ADOPTED, *SCANNED])
def test_the_first_opening_leaves_an_index_that_fits(original: Path, make: Callable[[Path], Path]) -> None:
    path = make(original)
    _open(path).close()
    with _open(path, read_only=True) as manager:
        assert _base(manager).kept


@pytest.mark.parametrize("make", [*ADOPTED, *SCANNED])
def test_the_answers_are_those_of_a_scan(original: Path, make: Callable[[Path], Path]) -> None:
    path = make(original)
    told = []
    for _ in range(2):
        with _open(path) as manager:
            told.append(answers(manager))
    Path(resolve(path).index).unlink()
    with _open(path, read_only=True) as manager:
        assert _base(manager).from_scan
        assert told == [answers(manager)] * 2


@pytest.mark.parametrize("make", [*ADOPTED, *SCANNED])
def test_a_reader_writes_nothing(original: Path, make: Callable[[Path], Path]) -> None:
    path = make(original)
    before = files_of(path.parent)
    with _open(path, read_only=True) as manager:
        assert len(manager) >= COUNT - 1
    assert files_of(path.parent) == before


@pytest.mark.parametrize("make", [*ADOPTED, *SCANNED])
def test_what_is_compacted_from_it_is_sound(original: Path, make: Callable[[Path], Path]) -> None:
    path = make(original)
    _open(path).close()
    with _open(path) as manager:
        manager.add(record("later", 1000))
        expected = answers(manager)
        manager.save()
        found = answers(manager)
    assert found[:3] == expected[:3]  # type: ignore[index]
    assert check(resolve(path)).findings == []
    check_manifest(path)


def test_another_tools_file_is_not_changed(original: Path) -> None:
    path = _of_another_tool(original)
    before = path.read_bytes()
    _open(path).close()
    assert path.read_bytes() == before


@pytest.mark.parametrize("make", [_copied, _touched, _of_another_tool])
def test_check_accepts_the_index_that_was_left(original: Path, make: Callable[[Path], Path]) -> None:
    path = make(original)
    _open(path).close()
    assert [found for found in check(resolve(path)).findings if found.file == resolve(path).index] == []


def test_check_accepts_the_index_of_a_copy(original: Path) -> None:
    path = resolve(_copied(original))
    assert [found for found in check(path).findings if found.file == path.index] == []


def test_check_finds_a_copys_index_that_differs(original: Path) -> None:
    path = resolve(_copied(original))
    data = bytearray(Path(path.index).read_bytes())
    data[-40] ^= 1
    Path(path.index).write_bytes(data)
    assert [found.file for found in check(path).findings if "damaged" in found.meaning] == [path.index]


def test_adopting_a_damaged_bucket_does_not_hide_the_damage(original: Path) -> None:
    """It keeps the CRC that tells of it."""
    path = _copied(original)
    with _open(path, read_only=True) as manager:
        expected = answers(manager)
        digest = bytes.fromhex(max(manager))
    index = Path(resolve(path).index)
    index.write_bytes(index.read_bytes().replace(digest, digest[:-1] + bytes([digest[-1] ^ 1])))
    _open(path).close()
    with _open(path) as manager:
        assert answers(manager) == expected


def test_a_damaged_bucket_that_was_read_is_rebuilt_on_closing(original: Path) -> None:
    with _open(original) as manager:
        digest = bytes.fromhex(max(manager))
    index = Path(resolve(original).index)
    index.write_bytes(index.read_bytes().replace(digest, digest[:-1] + bytes([digest[-1] ^ 1])))
    with _open(original) as manager:
        list(manager)
    assert [found for found in check(resolve(original)).findings if found.file == resolve(original).index] == []


def test_no_flipped_bit_in_the_index_of_another_tools_file_gives_a_wrong_answer(original: Path) -> None:
    flips_behind_another_tools_file(original.parent / "x" / NAME)


def flips_behind_another_tools_file(path: Path) -> None:
    foreign = _of_another_tool(_made(path.parent))
    _open(foreign).close()
    index = Path(resolve(foreign).index)
    sound = index.read_bytes()
    with _open(foreign, read_only=True) as manager:
        expected = answers(manager)
    for at in range(3, len(sound), len(sound) // 60):
        index.write_bytes(sound[:at] + bytes([sound[at] ^ 4]) + sound[at + 1 :])
        with _open(foreign, read_only=True) as manager:
            assert answers(manager) == expected, at


# -- what is not the same file -----------------------------------------------------------------------------------------


def _exchanged(path: Path, prefix: str) -> Path:
    """A manifest beside the index of another one, whose canonical has the same length."""
    one, other = _made(path.parent / "one", "a"), _made(path.parent / "other", prefix)
    for each in (one, other):
        document = json.loads(each.read_bytes())
        size = each.stat().st_size
        assert len(document["records"]) == COUNT
        for segment in segments_of(each.parent):
            segment.unlink()
    assert size == one.stat().st_size
    shutil.copyfile(resolve(one).index, resolve(other).index)
    return other


def another_of_the_same_size(path: Path) -> None:
    other = _exchanged(path, "b")
    with _open(other) as manager:
        assert [manager.has_checksum(sha(f"{prefix}007")) for prefix in "ab"] == [False, True]


def another_of_the_same_time(path: Path) -> None:
    other = _exchanged(path, "b")
    time_ns = (path.parent / "one" / NAME).stat().st_mtime_ns
    os.utime(other, ns=(time_ns, time_ns))
    with _open(other) as manager:
        assert [manager.has_checksum(sha(f"{prefix}007")) for prefix in "ab"] == [False, True]


def changed_while_it_is_adopted(path: Path) -> None:
    """The canonical changes between the look at it and the keeping of the index: the next opening sees the change."""
    copy = _copied(_made(path.parent / "made"))
    holder = FileLock(resolve(copy).compact_lock, 1)
    assert holder.try_acquire()
    manager = _open(copy)
    holder.close()
    data = bytearray(copy.read_bytes())
    data[-COUNT] ^= 1
    with copy.open("r+b") as file:
        file.write(data)
    os.utime(copy, (5, 5))
    manager.close()
    try:
        _open(copy).close()
    except DamagedManifestError:
        return
    raise AssertionError("an index vouches for a canonical that nobody has read")


def kept_beside_a_compaction(path: Path) -> None:
    """While another process has the compaction lock nobody writes an index, and nobody waits."""
    copy = _copied(_made(path.parent / "made"))
    before = Path(resolve(copy).index).read_bytes()
    holder = FileLock(resolve(copy).compact_lock, 1)
    assert holder.try_acquire()
    _open(copy).close()
    assert Path(resolve(copy).index).read_bytes() == before
    holder.close()


@pytest.mark.parametrize(
    "scenario",
    [
        another_of_the_same_size,
        another_of_the_same_time,
        changed_while_it_is_adopted,
        kept_beside_a_compaction,
        flips_behind_another_tools_file,
    ],
)
def test_adopting_is_careful(tmp_path: Path, scenario: Callable[[Path], None]) -> None:
    """Each is also what a seeded bug has to meet."""
    scenario(tmp_path / "here" / NAME)


def test_every_changed_byte_of_a_copy_is_found(original: Path) -> None:
    """As in place without an index: the log knows its canonical."""
    copy = _copied(original)
    sound = copy.read_bytes()
    for at in range(0, len(sound), len(sound) // 40):
        copy.write_bytes(sound[:at] + bytes([sound[at] ^ 1]) + sound[at + 1 :])
        with pytest.raises(DamagedManifestError):
            _open(copy, read_only=True)


def test_an_index_that_could_not_be_written_on_opening_is_written_on_closing(original: Path) -> None:
    copy = _copied(original)
    holder = FileLock(resolve(copy).compact_lock, 1)
    assert holder.try_acquire()
    manager = _open(copy)
    holder.close()
    manager.close()
    with _open(copy, read_only=True) as reader:
        assert _base(reader).kept


# -- a copy without its log --------------------------------------------------------------------------------------------


def _copied_without_log(path: Path) -> Path:
    copy = _copied(path)
    for segment in segments_of(copy.parent):
        segment.unlink()
    return copy


@pytest.mark.parametrize("read_only", [True, False])
def test_a_copy_of_canonical_and_index_alone_opens(original: Path, read_only: bool) -> None:
    """It is a whole manifest, as it would be without the index."""
    with _open(_copied_without_log(original), read_only=read_only) as manager:
        assert len(manager) == COUNT


def test_a_copy_without_its_log_says_so(original: Path, caplog: pytest.LogCaptureFixture) -> None:
    copy = _copied_without_log(original)
    with caplog.at_level(logging.WARNING), _open(copy, read_only=True):
        assert "without its log" in caplog.text


def test_check_says_that_a_copy_came_without_its_log(original: Path) -> None:
    report = check(resolve(_copied_without_log(original)))
    assert [finding.meaning for finding in report.findings if "without its log" in finding.meaning]
    assert not report.damaged


def test_a_copy_without_its_log_continues_with_one_of_its_own(original: Path) -> None:
    copy = _copied_without_log(original)
    with _open(copy) as manager:
        manager.add(record("later", 1000))
    with _open(copy) as manager:
        assert len(manager) == COUNT + 1


def test_repair_leaves_a_copy_unchanged(original: Path) -> None:
    assert repair(resolve(_copied(original))).outcome is RepairOutcome.NOTHING_TO_DO


# -- many at once ------------------------------------------------------------------------------------------------------


def _look(link: Link, path: Path) -> tuple[int, Any]:
    link.recv()
    with _open(path) as manager:
        return len(manager), manager.get(sha("c007"))


def test_many_processes_that_open_a_copy_at_once_all_answer(original: Path, start: Start) -> None:
    copy = _copied(original)
    children = [start(_look, copy) for _ in range(8)]
    for child in children:
        child.send("go")
    assert {child.result() for child in children} == {(COUNT, record("c007", 7, source="s0"))}
    with _open(copy, read_only=True) as manager:
        assert _base(manager).kept
