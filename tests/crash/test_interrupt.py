"""Ctrl-C in the middle of `add` and `compact`, at every point of the code that a real one can reach.

CPython runs signal handlers between two instructions, but not between any two: it looks for signals when a function
begins, when a loop goes round and after a call. Those are the points that are tried, one after the other.
"""

from __future__ import annotations

import dis
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any, Self

import pytest

from cli.program import wait_until
from manifestlog import DownloadManifestManager, LockTimeoutError, ManifestError
from manifestlog.engines.filelog.canonical import files
from manifestlog.engines.filelog.state import State
from manifestlog.files import system
from support.children import time_limit
from support.engines import engine_of
from support.integrity import checked
from support.records import MANUAL, NAME, QUICK, checksum, make_record, metadata

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from types import CodeType, FrameType

    from manifestlog.engines.filelog.log.lines import LogEntry
    from support.children import Child, Link, Start

# An interrupt in a generator that is being thrown away has nobody to reach; Python tells it as a warning.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

SHORT = replace(QUICK, lock_timeout_s=0.2)
NEIGHBOURS = 1_000_000
HANG_S = 20.0  # a busy disk may take seconds for one sync


@cache
def _signal_offsets(code: CodeType) -> frozenset[int]:
    """Offsets of a function's instructions before which a signal handler may run, its beginning apart."""
    found = set()
    after_call = False
    for instruction in dis.get_instructions(code):
        name = instruction.opname
        if after_call and name != "CACHE":
            found.add(instruction.offset)
        if name.startswith("JUMP_BACKWARD"):
            found.add(instruction.offset)
        if name != "CACHE":
            after_call = name.startswith("CALL")
    return frozenset(found)


class Interrupt:
    """Raises `KeyboardInterrupt` at the n-th point of what runs inside, in the library and what it calls."""

    def __init__(self, number: int) -> None:
        self.left = number
        self.where = ""

    def __enter__(self) -> Self:
        sys.settrace(self._begins)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)

    def _begins(self, frame: FrameType, _event: str, _arg: object) -> Callable[..., Any] | None:
        if frame.f_code is Interrupt.__exit__.__code__:
            return None
        self._count(frame)
        frame.f_trace_opcodes = True
        return self._inside

    def _inside(self, frame: FrameType, event: str, _arg: object) -> Callable[..., Any]:
        if event == "opcode" and frame.f_lasti in _signal_offsets(frame.f_code):
            self._count(frame)
        return self._inside

    def _count(self, frame: FrameType) -> None:
        self.left -= 1
        if self.left == 0:
            self.where = f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_qualname}"
            sys.settrace(None)
            raise KeyboardInterrupt


def serve(link: Link, path: Path) -> None:
    """Another process: adds the numbers that it is told, until it is told None."""
    with DownloadManifestManager(path, metadata(), options=SHORT) as manifest:
        link.send("ready")
        while (number := link.recv()) is not None:
            try:
                manifest.add(make_record(number))
            except LockTimeoutError as error:
                link.send(f"{type(error).__name__}")
            else:
                link.send("added")


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    """Checked as ever, but for descriptors: one opened right before Ctrl-C may be lost, and leftovers are swept late."""
    with checked(tmp_path / "manifests", descriptors=False) as path:
        yield path
        with DownloadManifestManager(path / NAME, options=SHORT) as manifest:
            manifest.add(make_record(9 * NEIGHBOURS))
            manifest.save()


@pytest.fixture
def neighbour(path: Path, start: Start) -> Child:
    """Another process with the same manifest open; ask for it before `manifest`, which it must not inherit."""
    child = start(serve, path)
    child.receive()
    return child


def add_there(neighbour: Child, number: int) -> None:
    """Let the other process add this one; it must be able to."""
    neighbour.send(number)
    assert neighbour.receive() == "added"


@contextmanager
def handling(handler: Callable[[], object]) -> Iterator[None]:
    """In this block, SIGUSR1 calls the handler."""
    before = signal.signal(signal.SIGUSR1, lambda *_: handler())
    try:
        yield
    finally:
        signal.signal(signal.SIGUSR1, before)


def interrupt_all(act: Callable[[int], object], after: Callable[[int, str], None]) -> int:
    """Run `act(n)` with an interrupt at its n-th point, for n = 1, 2, 3, … until it completes; gives their number."""
    number = 0
    while True:
        number += 1
        interrupt = Interrupt(number)
        try:
            with interrupt:
                act(number)
        except KeyboardInterrupt:
            try:
                with time_limit(HANG_S):
                    after(number, interrupt.where)
            except TimeoutError as error:
                raise AssertionError(f"hangs after an interrupt at {interrupt.where}") from error
        else:
            return number


def test_an_interrupted_add_leaves_no_lock_behind(neighbour: Child, manifest: DownloadManifestManager) -> None:
    """Wherever Ctrl-C hits, another process can add at once."""
    held = []

    def after(number: int, where: str) -> None:
        neighbour.send(NEIGHBOURS + number)
        if neighbour.receive() != "added":
            held.append(where)
        manifest.add(make_record(2 * NEIGHBOURS + number))  # catches up, and frees a lock that is still held

    assert interrupt_all(lambda n: manifest.add(make_record(n)), after) > 50
    assert held == []


def test_a_manager_works_on_after_an_interrupted_add(manifest: DownloadManifestManager) -> None:
    """Wherever Ctrl-C hits, the same object takes the next record."""

    def after(number: int, _where: str) -> None:
        manifest.add(make_record(NEIGHBOURS + number))

    count = interrupt_all(lambda n: manifest.add(make_record(n)), after)
    assert {checksum(NEIGHBOURS + n) for n in range(1, count)} <= set(manifest)


def test_memory_agrees_with_the_log_after_an_interrupted_add(manifest: DownloadManifestManager) -> None:
    """Wherever Ctrl-C hits, the object answers as a fresh process does: the record is there for both or for none."""
    here = []

    def after(number: int, where: str) -> None:
        here.append((where, number, manifest.has_checksum(checksum(number)), len(manifest)))

    interrupt_all(lambda n: manifest.add(make_record(n)), after)
    manifest.close()
    with DownloadManifestManager(manifest.path, read_only=True) as fresh:
        wrong = [(where, n) for where, n, found, _ in here if fresh.has_checksum(checksum(n)) != found]
    assert wrong == []


def test_sources_agree_with_the_log_after_an_interrupted_add(manifest: DownloadManifestManager) -> None:
    """Wherever Ctrl-C hits, a lookup by source gives a record exactly when the lookup by checksum does."""
    wrong = []

    def after(number: int, where: str) -> None:
        record = make_record(number)
        if manifest.get_record_by_source(record.source_id) != manifest.get(record.checksum):
            wrong.append(where)

    interrupt_all(lambda n: manifest.add(make_record(n)), after)
    assert wrong == []


def test_what_others_wrote_is_known_after_an_interrupt_while_it_was_read(
    neighbour: Child, open_manifest: Callable[..., DownloadManifestManager]
) -> None:
    """Wherever Ctrl-C hits a durable `add` that reads others' lines before it asks for the lock, none of them is missed."""
    manifest = open_manifest(replace(MANUAL, lock_timeout_s=0.2))
    missed = []

    def after(number: int, where: str) -> None:
        if not manifest.has_checksum(checksum(NEIGHBOURS + number)):
            missed.append(where)
        add_there(neighbour, NEIGHBOURS + number + 1)

    add_there(neighbour, NEIGHBOURS + 1)
    assert interrupt_all(lambda n: manifest.add(make_record(n)), after) > 100
    assert missed == []


@pytest.mark.parametrize("known", [False, True], ids=["the log is loaded", "the log is followed"])
def test_a_signal_handler_may_add_while_what_others_wrote_is_read(
    neighbour: Child,
    open_manifest: Callable[..., DownloadManifestManager],
    monkeypatch: pytest.MonkeyPatch,
    known: bool,
) -> None:
    """It reads on, and writes, in the middle of the reading that it has interrupted; nothing is missed or there twice."""
    manifest, apply = open_manifest(MANUAL), State.apply
    if known:
        manifest.add(make_record(5))
    for number in (1, 2, 3):
        add_there(neighbour, number)

    def interrupted(state: State, segment: int, op: LogEntry) -> None:
        monkeypatch.setattr(State, "apply", apply)
        signal.raise_signal(signal.SIGUSR1)
        apply(state, segment, op)

    monkeypatch.setattr(State, "apply", interrupted)
    with handling(lambda: manifest.add(make_record(4))):
        manifest.add(make_record(5))
    manifest.close()
    with DownloadManifestManager(manifest.path, read_only=True) as fresh:
        assert set(fresh) == {checksum(number) for number in range(1, 6)}


def test_a_signal_handler_may_not_add_while_its_thread_waits_with_the_lock(manifest: DownloadManifestManager) -> None:
    """Another thread reads at that moment. The handler would release the lock for the call that it has interrupted."""
    session, refused = engine_of(manifest).session, list[ManifestError]()
    reading, handled = threading.Event(), threading.Event()

    def handler() -> None:
        handled.set()
        try:
            manifest.add(make_record(2))
        except ManifestError as error:
            refused.append(error)

    def read(_state: State) -> None:
        reading.set()
        wait_until(lambda: system.lock_holder(session.paths.append_lock))
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)
        assert handled.wait(HANG_S)

    with handling(handler), ThreadPoolExecutor(1) as threads:
        reader = threads.submit(session.read, read)
        assert reading.wait(HANG_S)
        manifest.add(make_record(1))
        reader.result(HANG_S)
    assert [str(error).partition(";")[0].endswith("while its thread was writing") for error in refused] == [True]


def test_an_interrupted_batch_is_there_whole_or_not_at_all(manifest: DownloadManifestManager) -> None:
    """Wherever Ctrl-C hits `add_many`, no half of a batch is there."""
    halves = []

    def batch(number: int) -> list[int]:
        return [number * 10 + n for n in range(3)]

    def after(number: int, where: str) -> None:
        if len({checksum(n) in manifest for n in batch(number)}) > 1:
            halves.append(where)

    interrupt_all(lambda n: manifest.add_many([make_record(m) for m in batch(n)]), after)
    assert halves == []


@pytest.fixture
def filled(open_manifest: Callable[..., DownloadManifestManager]) -> DownloadManifestManager:
    """A manifest with records in the canonical, which gives up on a lock that is held soon."""
    manifest = open_manifest(SHORT)
    manifest.add_many([make_record(n) for n in range(20)])
    manifest.compact()
    return manifest


def compact_interrupted(manifest: DownloadManifestManager, after: Callable[[int, str], None]) -> None:
    """Interrupt compactions that have something to do at every point."""
    added = iter(range(100, 10**6))

    def check(number: int, where: str) -> None:
        after(number, where)
        manifest.save()  # so that every compaction has the same to do, and the same number of points
        manifest.add(make_record(next(added)))

    manifest.add(make_record(next(added)))
    interrupt_all(lambda _: manifest.compact(), check)


def test_an_interrupted_compaction_leaves_no_lock_behind(neighbour: Child, filled: DownloadManifestManager) -> None:
    """Wherever Ctrl-C hits a compaction, another process can add at once."""
    held = []

    def after(number: int, where: str) -> None:
        neighbour.send(NEIGHBOURS + number)
        if neighbour.receive() != "added":
            held.append(where)

    compact_interrupted(filled, after)
    filled.save()
    assert held == []


def test_after_an_interrupted_compaction_all_records_are_there_and_the_next_one_runs(
    filled: DownloadManifestManager,
) -> None:
    """Wherever Ctrl-C hits a compaction."""
    lost, stuck = [], []

    def after(number: int, where: str) -> None:
        if len(filled) != 20 + number:
            lost.append(where)
        if filled.compact().outcome == "already_running":
            stuck.append(where)

    compact_interrupted(filled, after)
    filled.save()
    assert (lost, stuck) == ([], [])


@pytest.mark.parametrize("wait", [False, True])
def test_a_signal_handler_may_not_compact_between_two_steps_of_a_compaction(
    filled: DownloadManifestManager, monkeypatch: pytest.MonkeyPatch, wait: bool
) -> None:
    """The log would name a canonical that is not there any more."""
    write_index = files.write_index

    def handler() -> None:
        filled.add(make_record(31))
        with suppress(ManifestError):
            filled.save() if wait else filled.compact()

    def interrupted(*given: Any) -> None:
        monkeypatch.setattr(files, "write_index", write_index)
        signal.raise_signal(signal.SIGUSR1)
        write_index(*given)

    filled.add(make_record(30))
    with handling(handler):
        monkeypatch.setattr(files, "write_index", interrupted)
        filled.compact()
    filled.close()
    with DownloadManifestManager(filled.path, read_only=True) as fresh:
        assert len(fresh) == 22
