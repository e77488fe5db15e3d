"""Several processes that open a manifest without an index that fits: one reads the whole canonical file, the others wait.

What holds the others up is bounded, and nothing depends on it: whoever has waited long enough reads as well.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING
from unittest import mock

import pytest

from contract.builders import META, QUIET, files_of, record
from manifestlog import DownloadManifestManager, ManifestOptions
from manifestlog.engines.filelog.canonical import turn
from manifestlog.engines.filelog.canonical.turn import Turn
from manifestlog.files import disk
from manifestlog.names import resolve
from support.engines import engine_of
from support.records import NAME

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.children import Link, Start

COUNT = 300
SIZE = 1 << 30
OPENERS = 6


@pytest.fixture(autouse=True)
def short_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take turns at the smallest file."""
    monkeypatch.setattr(turn, "BYTES_MIN", 1)


def made(path: Path) -> Path:
    """A manifest in whose canonical everything is, without an index."""
    with DownloadManifestManager(path, META, options=QUIET) as manager:
        manager.add_many([record(f"t{n:03}", n, source=f"s{n % 7}") for n in range(COUNT)])
        manager.save()
    index_of(path).rename(aside(path))
    return path


def index_of(path: Path) -> Path:
    return Path(resolve(path).index)


def aside(path: Path) -> Path:
    return path.with_name("aside")


@pytest.fixture
def unindexed(tmp_path: Path) -> Path:
    return made(tmp_path / NAME)


def has_scanned(path: Path, *, read_only: bool = False) -> bool:
    """Open it, and return whether the whole canonical was read."""
    with DownloadManifestManager(path, options=QUIET, read_only=read_only) as manager:
        assert len(manager) == COUNT
        return engine_of(manager).session._state.base.from_scan


def ours(path: Path) -> Turn:
    """A turn that has come, as another process has it: a lock belongs to an open file."""
    found = Turn(resolve(path))
    found.take(SIZE)
    assert found._ours
    return found


class Clock(SimpleNamespace):
    """In the place of `time`: each wait calls `meanwhile`, and takes no time."""

    def __init__(self, meanwhile: Callable[[], object]) -> None:
        super().__init__()
        self.now, self.waits, self.meanwhile = 0.0, 0, meanwhile

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.waits += 1
        assert self.waits < 10_000, "it waits for ever"
        self.meanwhile()


def opened_while_another_reads(path: Path, *, read_only: bool = False, ends: bool = True) -> None:
    """The index of another process comes while this one waits: this one reads no more than that."""
    made(path)
    other = ours(path)

    def publish() -> None:
        if aside(path).exists():
            aside(path).rename(index_of(path))
        if ends:
            other.end()

    with mock.patch.object(turn, "time", Clock(publish)):
        assert not has_scanned(path, read_only=read_only)
    other.end()


def opened_beside_a_stopped_reader(path: Path) -> None:
    """The one whose turn it is does nothing: the others wait for some time, and then read as well."""
    made(path)
    other, clock = ours(path), Clock(lambda: None)
    with mock.patch.object(turn, "time", clock):
        assert has_scanned(path)
    other.end()
    assert turn.PATIENCE_S <= clock.now < turn.PATIENCE_S + 1


def closed_behind_a_reader(path: Path) -> None:
    """Whoever has opened it lets the next one have its turn."""
    made(path)
    with DownloadManifestManager(path, options=QUIET):
        aside(path).unlink()
        with mock.patch.object(turn, "time", Clock(lambda: None)):
            ours(path).end()


@pytest.mark.parametrize("read_only", [False, True])
@pytest.mark.parametrize("ends", [False, True])
def test_who_waits_uses_the_index_that_comes(tmp_path: Path, read_only: bool, ends: bool) -> None:
    opened_while_another_reads(tmp_path / NAME, read_only=read_only, ends=ends)


def test_nobody_waits_for_long(tmp_path: Path) -> None:
    opened_beside_a_stopped_reader(tmp_path / NAME)


def test_a_turn_ends_with_the_opening(tmp_path: Path) -> None:
    closed_behind_a_reader(tmp_path / NAME)


def test_a_longer_file_is_waited_for_longer(tmp_path: Path) -> None:
    path = made(tmp_path / NAME)
    other, clock, second = ours(path), Clock(lambda: None), Turn(resolve(path))
    with mock.patch.object(turn, "time", clock):
        assert not second.take(SIZE)
    other.end()
    second.end()
    assert clock.now > SIZE / turn.BYTES_PER_S


def test_a_turn_that_fails_ends(unindexed: Path) -> None:
    unindexed.write_bytes(b"{")
    with pytest.raises(Exception, match="JSON"):
        DownloadManifestManager(unindexed, options=QUIET)
    ours(unindexed).end()


def test_a_reader_takes_no_lock(unindexed: Path) -> None:
    with DownloadManifestManager(unindexed, options=QUIET, read_only=True):
        ours(unindexed).end()


def test_a_reader_that_waits_leaves_no_file(unindexed: Path) -> None:
    Path(resolve(unindexed).compact_lock).unlink()
    before = files_of(unindexed.parent)
    assert has_scanned(unindexed, read_only=True)
    assert files_of(unindexed.parent) == before


def test_an_index_that_fits_is_used_whoever_reads(unindexed: Path) -> None:
    """It is no lock on the manifest."""
    aside(unindexed).rename(index_of(unindexed))
    other, clock = ours(unindexed), Clock(lambda: None)
    with mock.patch.object(turn, "time", clock):
        assert not has_scanned(unindexed)
    other.end()
    assert clock.waits == 0


def test_where_byte_locks_hinder_the_others_everybody_reads(unindexed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = ours(unindexed)
    monkeypatch.setattr(disk, "BYTE_LOCKS_ARE_APART", False)
    assert has_scanned(unindexed)
    other.end()


# -- other processes ---------------------------------------------------------------------------------------------------


def look(link: Link, path: Path, read_only: bool) -> bool:
    link.recv()
    return has_scanned(path, read_only=read_only)


def test_of_many_processes_one_reads(unindexed: Path, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turn, "PATIENCE_S", 60.0)  # on a busy machine the first may come to its end late
    children = [start(look, unindexed, False) for _ in range(OPENERS)]
    for child in children:
        child.send("go")
    assert sum(child.result() for child in children) == 1


def test_readers_beside_a_writer_all_answer(unindexed: Path, start: Start) -> None:
    children = [start(look, unindexed, number > 0) for number in range(OPENERS)]
    for child in children:
        child.send("go")
    assert {type(child.result()) for child in children} == {bool}


def keep_a_turn(link: Link, path: Path) -> None:
    other = ours(path)
    link.send("ours")
    signal.pause()
    other.end()


def test_nobody_waits_for_the_dead(unindexed: Path, start: Start) -> None:
    child, clock = start(keep_a_turn, unindexed), Clock(lambda: None)
    assert child.receive() == "ours"
    child.kill()
    child.join()
    with mock.patch.object(turn, "time", clock):
        assert has_scanned(unindexed)
    assert clock.waits == 0


def fork_and_end(link: Link, path: Path) -> None:
    other = ours(path)
    if not (pid := os.fork()):
        signal.pause()
        os._exit(0)
    other.end()
    link.send(pid)


def test_a_forked_child_keeps_no_turn(unindexed: Path, start: Start) -> None:
    """It has a copy of the descriptor, and the lock belongs to both."""
    pid = start(fork_and_end, unindexed).receive()
    ours(unindexed).end()
    os.kill(pid, signal.SIGKILL)


def test_a_compaction_lets_openers_wait_for_its_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between its two renames the old index is there, and it does not fit."""
    path, held = tmp_path / NAME, []
    with DownloadManifestManager(path, META, options=ManifestOptions(auto_compact=False)) as manager:
        manager.add(record("one", 1))
        manager.compact()
        manager.add(record("two", 2))
        real = disk.sync_directory

        def sync_directory(directory: str) -> None:
            real(directory)
            stamp, other = disk.path_stamp(str(path)), Turn(resolve(path))
            other._open()
            held.append((stamp, not other._try()))
            other.end()

        before = disk.path_stamp(str(path))
        monkeypatch.setattr(disk, "sync_directory", sync_directory)
        manager.compact()
        monkeypatch.undo()
    assert [found for stamp, found in held if stamp != before][:2] == [True, True]
