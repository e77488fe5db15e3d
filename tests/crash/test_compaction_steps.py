"""A crash before each of the eight steps of a compaction, in the middle of some, and before every call to the disk."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from manifestlog import DownloadManifestManager
from manifestlog.engines.filelog.canonical import files as base
from manifestlog.engines.filelog.compaction import steps as compactor
from manifestlog.engines.filelog.engine import FileEngine
from manifestlog.engines.filelog.history import keep
from manifestlog.engines.filelog.kept_index import keep_index
from manifestlog.engines.filelog.session import Session
from manifestlog.engines.reports import CompactionOutcome
from manifestlog.files import disk
from manifestlog.names import resolve
from support.children import children
from support.faults import before, die, die_before_call
from support.integrity import check_manifest, checked, load_canonical, segments, temporaries
from support.records import MANUAL, NAME, QUICK, checksum, make_record, metadata

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from support.children import Link, Start

MERGED = range(20)
WAITING = range(20, 35)
FORGOTTEN = 3
EXPECTED = {checksum(n) for n in (*MERGED, *WAITING)} - {checksum(FORGOTTEN)}


def _die_when(owner: Any, name: str, condition: Callable[..., bool]) -> None:
    before(owner, name, lambda *args, **_: die() if condition(*args) else None)


def _half_written() -> None:
    real = disk.append

    def append(fd: int, data: bytes) -> None:
        real(fd, data[: len(data) // 2])
        die()

    before(compactor._Compaction, "_write", lambda *_: setattr(disk, "append", append))


def _second_move() -> None:
    moved: list[str] = []

    def replace(_source: str, target: str) -> None:
        if "/history/" in target:
            moved.append(target)
        if len(moved) == 2:
            die()

    before(disk, "replace", replace)


POINTS: dict[str, Callable[[], None]] = {
    "before 1, the lock": lambda: before(Session, "compaction_lock", die),
    "before 2, the seal": lambda: before(compactor, "_seal_for_merge", die),
    "before 3, reading": lambda: before(compactor._Compaction, "_read", die),
    "before 4, merging": lambda: before(compactor._Compaction, "_write", die),
    "in 4, half a file": _half_written,
    "in 4, before the announcement": lambda: _die_when(
        compactor, "_log_base", lambda _, kind, *__: kind == "compacting"
    ),
    "before 5, the rename": lambda: before(compactor._Compaction, "_publish", die),
    "in 5, before the directory's sync": lambda: before(
        disk, "replace", lambda *_: before(disk, "sync_directory", die)
    ),
    "before 6, the index": lambda: before(base, "write_index", die),
    "in 6, before its rename": lambda: _die_when(disk, "replace", lambda _, target: target.endswith(".idx")),
    "before 7, saying so": lambda: _die_when(compactor, "_log_base", lambda _, kind, *__: kind == "compacted"),
    "before 8, moving": lambda: before(keep, "move", die),
    "in 8, one moved": _second_move,
    "in 8, before a directory is synced": lambda: before(
        keep, "move", lambda *_, **__: before(disk, "sync_directory", die)
    ),
    "in 8, before packing": lambda: before(keep, "tidy", die),
    "after 8": lambda: before(compactor._Compaction, "_report", die),
}


def prepare(path: Path) -> None:
    """A manifest with a canonical, an index, and two segments to merge."""
    with DownloadManifestManager(path, metadata(), options=QUICK) as manifest:
        manifest.add_many([make_record(n) for n in MERGED])
        manifest.compact()
    with DownloadManifestManager(path, options=replace(QUICK, segment_bytes_max=4_096)) as manifest:
        manifest.forget(checksum(FORGOTTEN))
        for number in WAITING:
            manifest.add(make_record(number))
    assert len(segments(path)) == 2


def crash(_link: Link, path: Path, arm: Callable[[], None]) -> None:
    with DownloadManifestManager(path, options=QUICK) as manifest:
        arm()
        manifest.compact()


def stored(path: Path) -> set[str]:
    with DownloadManifestManager(path, read_only=True) as manifest:
        return set(manifest)


@pytest.fixture(params=POINTS)
def crashed(request: pytest.FixtureRequest, path: Path, start: Start) -> Iterator[Path]:
    """The path of a manifest whose compactor died at that point; swept by a compaction before the last check."""
    prepare(path)
    child = start(crash, path, POINTS[request.param])
    assert child.join() == -9
    yield path
    with DownloadManifestManager(path, options=QUICK) as manifest:
        manifest.add(make_record(1_000_000))
        manifest.save()


def test_every_record_is_there_after_a_crash(crashed: Path) -> None:
    """A reader that opens the manifest finds what was acknowledged, neither more nor less."""
    assert stored(crashed) == EXPECTED


def test_every_event_is_there_once_after_a_crash(crashed: Path) -> None:
    """Wherever its segment is: live, or moved to the history."""
    with DownloadManifestManager(crashed, read_only=True) as manifest:
        found = [event.checksum for event in manifest.history(reverse=False)]
    assert found == [checksum(n) for n in (*MERGED, FORGOTTEN, *WAITING)]


def test_a_writer_finds_every_record_after_a_crash(crashed: Path) -> None:
    """Likewise one that opens it for writing."""
    with DownloadManifestManager(crashed, options=QUICK) as manifest:
        assert set(manifest) == EXPECTED


def test_the_canonical_is_valid_after_a_crash(crashed: Path) -> None:
    """It is the old one or the new one."""
    assert len(load_canonical(crashed)["records"]) in (len(MERGED), len(EXPECTED))


def test_writing_continues_after_a_crash(crashed: Path) -> None:
    """What is added after the crash is there at the next opening."""
    with DownloadManifestManager(crashed, options=QUICK) as manifest:
        manifest.add(make_record(500))
    assert stored(crashed) == EXPECTED | {checksum(500)}


def test_forgotten_stays_forgotten_after_a_crash(crashed: Path) -> None:
    """No merge brings a removed record back."""
    with DownloadManifestManager(crashed, options=QUICK) as manifest:
        manifest.save()
        assert not manifest.has_checksum(checksum(FORGOTTEN))


def test_the_next_compaction_completes_the_canonical(crashed: Path) -> None:
    """After it the plain file holds everything."""
    with DownloadManifestManager(crashed, options=QUICK) as manifest:
        manifest.save()
    assert set(load_canonical(crashed)["records"]) == EXPECTED


def test_the_next_compaction_removes_leftovers(crashed: Path) -> None:
    """After it only one segment is left, and nothing temporary."""
    with DownloadManifestManager(crashed, options=QUICK) as manifest:
        manifest.save()
    assert (len(segments(crashed)), temporaries(crashed.parent)) == (1, [])


def test_the_next_compaction_after_a_crash_leaves_an_index_that_fits(crashed: Path) -> None:
    """The compaction after a crash also mends the index, so that opening costs no scan."""
    with DownloadManifestManager(crashed, options=QUICK) as manifest:
        manifest.save()
    assert not base.open_base(resolve(crashed)).from_scan


def test_the_compaction_after_the_next_write_works(crashed: Path) -> None:
    """A compaction with something new to merge is an ordinary one again."""
    with DownloadManifestManager(crashed, options=QUICK) as manifest:
        manifest.save()
        manifest.add(make_record(501))
        assert manifest.compact().outcome is CompactionOutcome.COMPACTED


def _crash_at(link: Link, path: Path, number: int, options: Any) -> None:
    with DownloadManifestManager(path, options=options) as manifest:
        die_before_call(number)
        manifest.add(make_record(100))
        link.send("added")
        manifest.compact()


def _crash_creating(_link: Link, path: Path, number: int) -> None:
    die_before_call(number)
    with DownloadManifestManager(path, metadata(), options=MANUAL) as manifest:
        manifest.add(make_record(100))


@pytest.fixture
def twin(tmp_path: Path) -> Callable[[], Path]:
    """Makes a fresh copy of the prepared manifest, each in a directory of its own."""
    original = tmp_path / "original"
    original.mkdir()
    prepare(original / NAME)
    made = iter(range(10_000))

    def copy() -> Path:
        target = tmp_path / f"copy-{next(made)}"
        shutil.copytree(original, target)
        return target / NAME

    return copy


def test_a_crash_before_any_call_to_the_disk_loses_nothing(twin: Callable[[], Path]) -> None:
    """Die before the n-th change of the disk during an add and a compaction, for every n: it opens, complete."""
    number = 0
    status = -9
    while status == -9:
        number += 1
        path = twin()
        with children() as start:
            child = start(_crash_at, path, number, MANUAL)
            status = child.join()
            added = "added" in child.said()
        here = stored(path)
        assert here - {checksum(100)} == EXPECTED, number
        assert not added or checksum(100) in here, number
        load_canonical(path)
    assert number > 20


@pytest.mark.slow  # tests/simulation has every call in make test
def test_a_crash_before_any_call_to_the_disk_leaves_nothing_behind(twin: Callable[[], Path]) -> None:
    """Likewise for every n: the next compaction brings the directory back to one canonical and one segment."""
    number = 0
    status = -9
    while status == -9:
        number += 1
        path = twin()
        with children() as start:
            status = start(_crash_at, path, number, QUICK).join()
        with checked(path.parent), DownloadManifestManager(path, options=QUICK) as manifest:
            manifest.add(make_record(101))
            manifest.save()
    assert number > 20


def test_a_crash_while_creating_leaves_nothing_or_a_manifest(tmp_path: Path) -> None:
    """Die before the n-th change of the disk while a manifest is made: opening it again works, for every n."""
    number = 0
    status = -9
    while status == -9:
        number += 1
        path = tmp_path / f"new-{number}" / NAME
        path.parent.mkdir()
        with children() as start:
            status = start(_crash_creating, path, number).join()
        with DownloadManifestManager(path, metadata(), options=MANUAL) as manifest:
            manifest.add(make_record(100))
            manifest.save()
            assert list(manifest) == [checksum(100)]
        check_manifest(path)
    assert number > 5


def _reborn(link: Link, path: Path, pid: int) -> None:
    """Write as a process with the id of another: in a container every start has the same one."""
    os.getpid = lambda: pid
    if link.recv() == "die":
        _die_when(disk, "publish_new", lambda *_: True)
    with DownloadManifestManager(path, metadata(), options=QUICK) as manifest:
        manifest.add(make_record(200))


def test_a_process_with_the_id_of_one_that_died_can_write(path: Path, start: Start) -> None:
    """A temporary segment left by a process of the same id is in nobody's way."""
    DownloadManifestManager(path, metadata(), options=QUICK).close()
    _die_and_live(path, start)


def test_a_process_with_the_id_of_one_that_died_can_create(path: Path, start: Start) -> None:
    """A temporary canonical left by a process of the same id is in nobody's way either."""
    _die_and_live(path, start)


def _die_and_live(path: Path, start: Start) -> None:
    pid = os.getpid()
    for order, status in (("die", -9), ("live", 0)):
        child = start(_reborn, path, pid)
        child.send(order)
        assert child.join() == status
    with DownloadManifestManager(path, options=QUICK) as manifest:
        manifest.save()
        assert list(manifest) == [checksum(200)]


def _merged(_link: Link, path: Path) -> None:
    with DownloadManifestManager(path, options=QUICK) as manifest:
        manifest.compact()
        manifest.add(make_record(999))


def test_an_opening_that_two_compactions_overtake_is_no_damage(path: Path, start: Start) -> None:
    """The first has finished, and the second has died before it said so: the file that was opened is known no more."""
    prepare(path)
    engine = FileEngine(resolve(path), QUICK, read_only=False)
    assert start(_merged, path).join() == 0
    assert start(crash, path, POINTS["before 7, saying so"]).join() == -9
    keep_index(engine.session)
    assert {found for found in (*EXPECTED, checksum(999)) if engine.has(found)} == {*EXPECTED, checksum(999)}
    engine.close()
