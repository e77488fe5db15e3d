"""A disk that fails to sync, and one that is full: by injected errors, and really, by a limit on file sizes."""

from __future__ import annotations

import errno
import os
import resource
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING
from unittest import mock

import pytest

from cli.program import wait_until
from manifestlog import (
    DiskFullError,
    DownloadManifestManager,
    IndeterminateWriteError,
    ManifestError,
    ManifestOptions,
    names,
)
from manifestlog.engines.filelog.engine import FileEngine
from manifestlog.engines.filelog.log import segment as segment_module
from manifestlog.engines.filelog.log.segment import Segment
from manifestlog.files import disk
from support.engines import engine_of
from support.integrity import active_segment, load_canonical, puts, segments
from support.records import MANUAL, QUICK, checksum, make_record, metadata

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from support.children import Link, Start


class Syncs:
    """Stands in for `os.fdatasync`: notes every file synced, and fails on demand."""

    def __init__(self) -> None:
        self.failing = False
        self.seen: list[str] = []
        self._real = os.fdatasync

    def __call__(self, fd: int) -> None:
        self.seen.append(os.readlink(f"/proc/self/fd/{fd}"))
        if self.failing:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        self._real(fd)


@pytest.fixture
def syncs(monkeypatch: pytest.MonkeyPatch) -> Syncs:
    found = Syncs()
    monkeypatch.setattr(os, "fdatasync", found)
    return found


@pytest.fixture
def durable(open_manifest: Callable[..., DownloadManifestManager]) -> DownloadManifestManager:
    """A manifest in the default durability with one acknowledged record."""
    manifest = open_manifest(MANUAL)
    manifest.add(make_record(0))
    return manifest


@pytest.fixture
def failed(durable: DownloadManifestManager, syncs: Syncs) -> Path:
    """The segment whose sync has failed while record 1 was added; the disk works again."""
    segment = active_segment(durable.path)
    syncs.failing = True
    with pytest.raises(IndeterminateWriteError):
        durable.add(make_record(1))
    syncs.failing = False
    syncs.seen.clear()
    return segment


def test_a_failed_sync_is_reported(durable: DownloadManifestManager, syncs: Syncs) -> None:
    """`add` does not acknowledge what the disk did not."""
    syncs.failing = True
    with pytest.raises(IndeterminateWriteError, match="Input/output error"):
        durable.add(make_record(1))


def test_a_segment_whose_sync_failed_gets_no_more_records(durable: DownloadManifestManager, failed: Path) -> None:
    """Later records go into another segment."""
    before = puts(failed)
    durable.add(make_record(2))
    assert (puts(failed), puts(active_segment(durable.path))) == (before, [checksum(2)])


def test_a_segment_is_not_synced_again_after_a_failure(
    durable: DownloadManifestManager, failed: Path, syncs: Syncs
) -> None:
    """The kernel may call lost pages clean, so a second sync would prove nothing: neither by adds nor by a compaction."""
    durable.add(make_record(2))
    durable.add(make_record(0))
    durable.compact()
    assert os.fspath(failed) not in syncs.seen


def test_a_compaction_right_after_a_failed_sync_does_not_sync_again(
    durable: DownloadManifestManager, failed: Path, syncs: Syncs
) -> None:
    """Likewise when the compaction is the first thing that happens."""
    durable.compact()
    assert os.fspath(failed) not in syncs.seen


def test_a_record_added_again_after_a_failed_sync_is_durable(
    durable: DownloadManifestManager, failed: Path, syncs: Syncs
) -> None:
    """Adding it again, as the error advises, is acknowledged only with its bytes synced elsewhere."""
    durable.add(make_record(1))
    assert checksum(1) in puts(active_segment(durable.path))
    assert syncs.seen.count(os.fspath(failed)) == 0


def test_adding_works_after_a_failed_sync(durable: DownloadManifestManager, failed: Path) -> None:
    """What is acknowledged before and after the failure is there at the next opening."""
    assert failed.exists()
    durable.add(make_record(2))
    durable.close()
    with DownloadManifestManager(durable.path, read_only=True) as manifest:
        assert {checksum(0), checksum(2)} <= set(manifest)


def test_a_compaction_after_a_failed_sync_holds_everything(durable: DownloadManifestManager, failed: Path) -> None:
    """The new canonical is a new file, written and synced on its own."""
    assert failed.exists()
    durable.add(make_record(2))
    durable.save()
    assert {checksum(0), checksum(2)} <= set(load_canonical(durable.path)["records"])


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Let the disk be full after so many bytes of the next write."""

    def fill(room: int) -> None:
        real = disk.append

        def append(fd: int, data: bytes) -> None:
            if data[:room]:
                real(fd, data[:room])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(disk, "append", append)

    return fill


ROOMS = pytest.mark.parametrize("room", [0, 1, 17, 200])


@ROOMS
def test_a_full_disk_is_reported(manifest: DownloadManifestManager, full: Callable[[int], None], room: int) -> None:
    """`add` raises, and the error is an `OSError` with its number."""
    manifest.add(make_record(0))
    full(room)
    with pytest.raises(DiskFullError) as caught:
        manifest.add(make_record(1))
    assert caught.value.errno == errno.ENOSPC


@ROOMS
def test_a_full_disk_leaves_no_partial_line(
    manifest: DownloadManifestManager, full: Callable[[int], None], room: int
) -> None:
    """The segment is as it was."""
    manifest.add(make_record(0))
    segment = active_segment(manifest.path)
    before = segment.read_bytes()
    full(room)
    with pytest.raises(DiskFullError):
        manifest.add(make_record(1))
    assert segment.read_bytes() == before


@ROOMS
def test_writing_works_again_when_there_is_room(
    manifest: DownloadManifestManager, full: Callable[[int], None], monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    """The record that did not fit is `new` when it is added again, and everything earlier is there."""
    manifest.add(make_record(0))
    full(room)
    with pytest.raises(DiskFullError):
        manifest.add(make_record(1))
    monkeypatch.undo()
    assert (manifest.add(make_record(1)).verdict, len(manifest)) == ("new", 2)


def test_a_full_disk_during_a_compaction_changes_nothing(
    manifest: DownloadManifestManager, full: Callable[[int], None]
) -> None:
    """The canonical stays, reading works, and nothing temporary is left."""
    manifest.add(make_record(0))
    before = manifest.path.read_bytes()
    full(100)
    with pytest.raises((ManifestError, OSError)):
        manifest.compact()
    assert (manifest.path.read_bytes(), list(manifest)) == (before, [checksum(0)])


def test_a_write_that_fails_says_where_and_what_to_do(
    manifest: DownloadManifestManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel names no file when a write fails; the error does, and gives advice."""
    manifest.add(make_record(0))

    def fail(_fd: int, _data: bytes) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(disk, "append", fail)
    with pytest.raises(OSError, match="look for the cause in the system's log") as caught:
        manifest.add(make_record(1))
    monkeypatch.undo()
    assert (caught.value.errno, caught.value.filename) == (errno.EIO, os.fspath(manifest.path))


def limited(_link: Link, path: Path) -> tuple[list[str], set[str]]:
    """Add with the file size limited at every byte of the next line; gives what went wrong, and what was acknowledged."""
    wrong = []
    acknowledged = set()
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with DownloadManifestManager(path, metadata(), options=QUICK) as manifest:
        manifest.add(make_record(0))
        for room in range(300):
            segment = active_segment(path)
            before = segment.read_bytes()
            resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + room, hard))
            try:
                manifest.add(make_record(1 + room))
                wrong.append(f"room {room}: it fitted")
            except DiskFullError:
                pass
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
            if segment.read_bytes() != before:
                wrong.append(f"room {room}: something was written")
            if manifest.add(make_record(1 + room)).verdict != "new":
                wrong.append(f"room {room}: it is known")
            acknowledged.add(checksum(1 + room))
        if len(segments(path)) != 1:
            wrong.append("a segment was given up")
    return wrong, acknowledged


def test_a_real_limit_at_every_byte_of_a_line_leaves_no_half_of_it(path: Path, start: Start) -> None:
    """The kernel refuses the rest of a line, wherever: it is taken back, said, and fits when there is room again."""
    wrong, acknowledged = start(limited, path).result()
    assert wrong == []
    with DownloadManifestManager(path, read_only=True) as manifest:
        assert acknowledged <= set(manifest)


def limited_compaction(_link: Link, path: Path) -> list[int]:
    """Compact with the file size limited; gives the limits at which something other than an error came of it."""
    wrong = []
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with DownloadManifestManager(path, metadata(), options=QUICK) as manifest:
        for number in range(40):
            manifest.add(make_record(number))
        for limit in (0, 1, 500, 5_000, 10_000):
            before = path.read_bytes()
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
            try:
                manifest.compact()
                wrong.append(limit)
            except (ManifestError, OSError):
                pass
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
            if path.read_bytes() != before or len(manifest) != 40:
                wrong.append(limit)
        manifest.compact()
    return wrong


def test_a_compaction_under_a_real_limit_fails_cleanly(path: Path, start: Start) -> None:
    """It raises, changes nothing, and the next one with room succeeds."""
    assert start(limited_compaction, path).result() == []
    assert len(load_canonical(path)["records"]) == 40


def test_a_sync_after_a_failed_one_leaves_the_segment(durable: DownloadManifestManager) -> None:
    """Where the one who failed could not: the next first line says what was announced in it."""
    session = engine_of(durable).session
    wal = session._state.wal
    assert wal is not None
    wal.mark_sync_failed(wal.current)
    session.sync()
    assert (len(segments(durable.path)), wal.current.sync_failed) == (2, False)


class Errseq:
    """Stands in for `os.fdatasync`: the first call fails, when the segment has grown; then the lost pages are called clean."""

    def __init__(self, segment: Path) -> None:
        self.began = threading.Event()
        self.calls = 0
        self._segment, self._size = segment, segment.stat().st_size
        self._mutex = threading.Lock()

    def __call__(self, _fd: int) -> None:
        with self._mutex:
            self.calls += 1
            is_first = self.calls == 1
        if is_first:
            length = (self._segment.stat().st_size - self._size) * 2
            self.began.set()
            wait_until(lambda: self._segment.stat().st_size - self._size >= length)
            raise OSError(errno.EIO, os.strerror(errno.EIO))


def threads_at_a_failing_sync(path: Path) -> None:
    """Two threads rely on one sync, which fails: neither is told that its record is there."""
    with DownloadManifestManager(path, metadata(), options=MANUAL) as manifest:
        manifest.add(make_record(0))
        sync = Errseq(active_segment(path))

        def add(number: int) -> None:
            if number == 2:
                sync.began.wait(20)
            with suppress(IndeterminateWriteError):
                manifest.add(make_record(number))
                raise AssertionError(f"record {number} was acknowledged")

        with mock.patch.object(os, "fdatasync", sync), ThreadPoolExecutor(2) as pool:
            list(pool.map(add, (1, 2)))


def test_a_failed_sync_is_raised_in_every_thread_that_relies_on_it(path: Path) -> None:
    """The kernel reports it once to each open file, and threads share theirs."""
    threads_at_a_failing_sync(path)


def test_a_thread_that_waited_for_a_sync_is_spared_its_own(
    durable: DownloadManifestManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of three threads the first syncs alone, the second for the third as well."""
    segment, real = active_segment(durable.path), os.fdatasync
    length = segment.stat().st_size
    began, calls = threading.Event(), []

    def sync(fd: int) -> None:
        calls.append(fd)
        if len(calls) == 1:
            one = segment.stat().st_size - length
            began.set()
            wait_until(lambda: segment.stat().st_size >= length + 3 * one)
        real(fd)

    def add(number: int) -> None:
        if number > 1:
            began.wait(20)
        durable.add(make_record(number))

    monkeypatch.setattr(os, "fdatasync", sync)
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(add, (1, 2, 3)))
    assert len(calls) == 2


class Interrupted:
    """Stands in for `os.fdatasync`: the main thread's first call is interrupted by a signal, before it or after it."""

    def __init__(self, handler: Callable[[], object], *, before: bool = False, nested_fails: bool = False) -> None:
        self._handler, self._before, self._nested_fails = handler, before, nested_fails
        self._real, self._calls = os.fdatasync, 0

    def __call__(self, fd: int) -> None:
        self._calls += threading.current_thread() is threading.main_thread()
        if self._calls != 1:
            if self._nested_fails:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
        elif self._before:
            self._interrupt()
        self._real(fd)
        if self._calls == 1 and not self._before:
            self._interrupt()

    def _interrupt(self) -> None:
        before = signal.signal(signal.SIGUSR1, lambda *_: self._handler())
        signal.raise_signal(signal.SIGUSR1)
        signal.signal(signal.SIGUSR1, before)


def test_a_signal_handler_may_add_in_the_middle_of_a_sync(
    durable: DownloadManifestManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It interrupts a thread that has its turn, and takes it once more."""
    monkeypatch.setattr(os, "fdatasync", Interrupted(lambda: durable.add(make_record(2))))
    durable.add(make_record(1))
    assert set(durable) == {checksum(n) for n in range(3)}


def test_a_signal_handler_may_close_in_the_middle_of_a_sync(
    durable: DownloadManifestManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was under way is told as far as it has come."""
    monkeypatch.setattr(os, "fdatasync", Interrupted(durable.close))
    assert durable.add(make_record(1)).verdict == "new"


def test_a_handler_that_waits_for_a_waiting_thread_times_out(
    open_manifest: Callable[..., DownloadManifestManager], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Closing ends the compaction that is under way, which syncs, too."""
    manifest, waiting = open_manifest(ManifestOptions(compact_interval_s=0.2)), threading.Event()
    monkeypatch.setattr(segment_module, "_TURN_S", 0.2)
    manifest.add(make_record(0))
    real = Segment._take_turn

    def take_turn(segment: Segment) -> None:
        if threading.current_thread() is not threading.main_thread():
            waiting.set()
        real(segment)

    def handler() -> None:
        engine_of(manifest).session.log_is_long = True
        engine_of(manifest).background.after_write()
        waiting.wait(20)
        manifest.close()

    monkeypatch.setattr(Segment, "_take_turn", take_turn)
    monkeypatch.setattr(os, "fdatasync", Interrupted(handler))
    assert manifest.add(make_record(1)).verdict == "new"


def interrupted_by_a_failing_sync(path: Path) -> None:
    """A signal handler syncs and is told of a failure; the sync that it has interrupted would succeed."""
    with DownloadManifestManager(path, metadata(), options=MANUAL) as manifest:
        manifest.add(make_record(0))

        def handler() -> None:
            with suppress(IndeterminateWriteError):
                manifest.add(make_record(2))
                raise AssertionError("the handler's record was acknowledged")

        sync = Interrupted(handler, before=True, nested_fails=True)
        with mock.patch.object(os, "fdatasync", sync), suppress(IndeterminateWriteError):
            manifest.add(make_record(1))
            raise AssertionError("the interrupted record was acknowledged")


def test_a_failure_in_a_signal_handler_also_counts_for_the_interrupted_call(path: Path) -> None:
    """The kernel has reported it, and will not do so again."""
    interrupted_by_a_failing_sync(path)


def but_for_its_newline(path: Path) -> None:
    """All of a line but its newline fits; others read it, and then comes another line of that length."""
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with DownloadManifestManager(path, metadata(), options=QUICK) as manifest:
        ends = []
        for number in range(3):
            manifest.add(make_record(number))
            ends.append(active_segment(path).stat().st_size)
        other = FileEngine(names.resolve(path), QUICK, read_only=True)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2 * ends[2] - ends[1] - 1, hard))
        try:
            assert manifest.add(make_record(3)).verdict == "new"
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        assert other.has(checksum(3))
        manifest.add(make_record(4))
        assert [other.has(checksum(n)) for n in range(5)] == [True] * 5
        other.session.close()


def test_a_line_that_fits_but_for_its_newline_counts(path: Path, start: Start) -> None:
    """Others accept it as soon as they read it: it cannot be taken back any more."""
    start(lambda _link: but_for_its_newline(path)).result()
