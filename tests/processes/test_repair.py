"""Processes that have a manifest open while it is repaired: they load again, or say clearly that it is damaged."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from manifestlog import DamagedManifestError, DownloadManifestManager, Verdict
from support.damage import ALL, contents, files, fill, flip, folder, line_of, mend, stored
from support.integrity import active_segment, puts, segments
from support.records import MANUAL, NAME, QUICK, checksum, make_record, metadata

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from support.children import Link, Start

NEW = 100


@pytest.fixture
def path(directory: Path) -> Path:
    return fill(directory / NAME)


def _in_canonical(path: Path) -> None:
    flip(path, line_of(path, checksum(0)).start + 100)


def _in_sealed(path: Path) -> None:
    file = files(path)["sealed"]
    flip(file, line_of(file, puts(file)[0]).stop - 30)


def _in_first_line_of_active(path: Path) -> None:
    flip(files(path)["active"], 40)


def _active_cut(path: Path) -> None:
    file = files(path)["active"]
    file.write_bytes(file.read_bytes()[:-1])


def _active_torn(path: Path) -> None:
    with files(path)["active"].open("ab") as file:
        file.write(b'{"op":"put"')
    _in_canonical(path)


def _canonical_missing(path: Path) -> None:
    path.unlink()


DAMAGE = [_in_canonical, _in_sealed, _in_first_line_of_active, _active_torn, _canonical_missing]


def _writer(link: Link, path: Path) -> object:
    """Open and written to before the repair; again after it."""
    with DownloadManifestManager(path, options=MANUAL) as manifest:
        link.send(len(manifest))
        link.recv()
        return manifest.add(make_record(NEW)).verdict


def _reader(link: Link, path: Path) -> object:
    with DownloadManifestManager(path, read_only=True) as manifest:
        link.send(len(manifest))
        link.recv()
        return set(manifest)


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_writer_that_had_it_open_writes_where_others_read(
    path: Path, start: Start, damage: Callable[[Path], None]
) -> None:
    writer = start(_writer, path)
    writer.receive()
    damage(path)
    mend(path)
    kept = contents(folder(path))
    writer.send("go on")
    assert writer.result() is Verdict.NEW
    assert checksum(NEW) in stored(path)
    assert contents(folder(path)) == kept


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_reader_that_had_it_open_sees_what_is_left(path: Path, start: Start, damage: Callable[[Path], None]) -> None:
    reader = start(_reader, path)
    reader.receive()
    damage(path)
    mend(path)
    reader.send("go on")
    assert reader.result() == stored(path).keys()


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_writer_that_slept_over_repair_and_compaction_loads_again(
    path: Path, start: Start, damage: Callable[[Path], None]
) -> None:
    writer = start(_writer, path)
    writer.receive()
    damage(path)
    mend(path)
    with DownloadManifestManager(path, options=MANUAL) as manifest:
        manifest.add(make_record(NEW + 1))
        manifest.save()
    writer.send("go on")
    assert writer.result() is Verdict.NEW
    assert {checksum(NEW), checksum(NEW + 1)} < stored(path).keys()


def _believer(link: Link, path: Path) -> object:
    """Knows a record that the repair then loses."""
    with DownloadManifestManager(path, options=MANUAL) as manifest:
        link.send(manifest.has_checksum(checksum(0)))
        link.recv()
        return manifest.add(make_record(0)).verdict


def test_a_lost_record_is_new_even_for_a_process_that_knew_it(path: Path, start: Start) -> None:
    """Not a duplicate from memory, which would leave it lost."""
    believer = start(_believer, path)
    assert believer.receive()
    _in_canonical(path)
    mend(path)
    believer.send("go on")
    assert believer.result() is Verdict.NEW
    assert stored(path).keys() == ALL


def _stuck(link: Link, path: Path) -> object:
    with DownloadManifestManager(path, options=MANUAL) as manifest:
        link.send(len(manifest))
        link.recv()
        try:
            return manifest.add(make_record(NEW)).verdict
        except DamagedManifestError as error:
            return str(error)


def test_a_writer_whose_segment_was_cut_gets_an_error_or_loads_again(path: Path, start: Start) -> None:
    """The file is shorter than what it has read: an error that names it, and nothing written."""
    writer = start(_stuck, path)
    writer.receive()
    _active_cut(path)
    _in_canonical(path)
    mend(path)
    kept = contents(folder(path))
    writer.send("go on")
    answer = writer.result()
    assert answer is Verdict.NEW or "shorter" in answer
    assert (checksum(NEW) in stored(path)) == (answer is Verdict.NEW)
    assert contents(folder(path)) == kept


def _busy(link: Link, path: Path, number: int) -> object:
    """Add until told to stop; gives what was acknowledged."""
    added = []
    with DownloadManifestManager(path, options=QUICK) as manifest:
        link.send("ready")
        while not link.poll():
            try:
                manifest.add(make_record(number))
            except DamagedManifestError:
                continue
            added.append(number)
            number += 1
    return added


def test_what_busy_writers_add_around_a_repair_is_there(directory: Path, start: Start) -> None:
    """Before it, while they wait for the lock, and after it: what was acknowledged, the repair has or comes after it."""
    path = directory / NAME
    with DownloadManifestManager(path, metadata(), options=QUICK) as manifest:
        manifest.add_many([make_record(n) for n in range(20)])
        manifest.save()
    writers = [start(_busy, path, 1000 * number) for number in range(1, 4)]
    for writer in writers:
        writer.receive()
    for number in range(3):
        flip(path, line_of(path, checksum(number)).start + 100)
        mend(path)
    for writer in writers:
        writer.send("stop")
    added = [number for writer in writers for number in writer.result()]
    assert {checksum(n) for n in (*range(3, 20), *added)} <= stored(path).keys()


def test_the_active_segment_in_its_place_is_the_new_one(path: Path) -> None:
    before = max(segments(path))
    _in_canonical(path)
    mend(path)
    assert active_segment(path) == segments(path)[before + 1]
