"""Compactions of long logs, which a child process does beside the writers."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from cli.program import wait_until
from manifestlog import DownloadManifestManager, ManifestOptions
from manifestlog.engines.filelog.compaction import background, child
from manifestlog.engines.filelog.lock import FileLock
from support.engines import engine_of
from support.integrity import load_canonical
from support.records import checksum, make_record, metadata

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from typing import NoReturn

    from manifestlog.engines.filelog.session import Session
    from support.children import Link, Start

AT_ONCE = ManifestOptions(compact_log_bytes_min=1, compact_log_bytes_max=1)
BY_HAND = replace(AT_ONCE, auto_compact=False, compact_on_close=False)


@pytest.fixture(autouse=True)
def short_logs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give even the shortest log to a child."""
    monkeypatch.setattr(background, "CHILD_BYTES_MIN", 1)


@pytest.fixture
def no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process compact nothing itself."""

    def compact(_session: object) -> NoReturn:
        raise AssertionError("the thread was to compact")

    monkeypatch.setattr(background, "compact", compact)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The children that were started, by number of process."""
    found: list[int] = []
    real = child._start

    def start(session: Session) -> subprocess.Popen[bytes] | None:
        process = real(session)
        if process is not None:
            found.append(process.pid)
        return process

    monkeypatch.setattr(child, "_start", start)
    return found


@pytest.fixture
def quiet(open_manifest: Callable[..., DownloadManifestManager]) -> DownloadManifestManager:
    """A manifest with a record in its log, which is compacted by nobody."""
    manifest = open_manifest(BY_HAND)
    manifest.add(make_record(0))
    return manifest


def canonical(manifest: DownloadManifestManager) -> set[str]:
    return set(load_canonical(manifest.path)["records"])


def test_a_child_compacts(quiet: DownloadManifestManager) -> None:
    assert child.compact_in_child(engine_of(quiet).session)
    assert canonical(quiet) == {checksum(0)}


@pytest.mark.usefixtures("no_thread")
def test_a_long_log_is_compacted_by_a_child(open_manifest: Callable[..., DownloadManifestManager]) -> None:
    manifest = open_manifest(AT_ONCE)
    manifest.add(make_record(0))
    wait_until(lambda: checksum(0) in canonical(manifest))


@pytest.mark.usefixtures("no_thread")
def test_one_child_comes_after_the_other(open_manifest: Callable[..., DownloadManifestManager]) -> None:
    manifest = open_manifest(AT_ONCE)
    for number in range(3):
        manifest.add(make_record(number))
        wait_until(lambda number=number: checksum(number) in canonical(manifest))  # type: ignore[misc]
    assert len(canonical(manifest)) == 3


def test_a_child_is_waited_for(open_manifest: Callable[..., DownloadManifestManager], started: list[int]) -> None:
    """None stays as a zombie, nor after the manifest is closed."""
    manifest = open_manifest(AT_ONCE)
    manifest.add(make_record(0))
    wait_until(lambda: bool(started))
    manifest.close()
    with pytest.raises(ProcessLookupError):
        os.kill(started[0], 0)


def test_a_short_log_starts_no_child(
    open_manifest: Callable[..., DownloadManifestManager], started: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Merging a few records takes less time than starting a process."""
    monkeypatch.undo()
    manifest = open_manifest(AT_ONCE)
    manifest.add(make_record(0))
    wait_until(lambda: checksum(0) in canonical(manifest))
    assert started == []


def test_without_the_option_the_thread_compacts(
    open_manifest: Callable[..., DownloadManifestManager], started: list[int]
) -> None:
    manifest = open_manifest(replace(AT_ONCE, compact_in_child=False))
    manifest.add(make_record(0))
    wait_until(lambda: checksum(0) in canonical(manifest))
    assert started == []


@pytest.mark.parametrize("executable", ["", None, "/usr/sbin/an_application", "/nowhere/python3"])
def test_the_thread_compacts_where_no_python_can_be_started(
    open_manifest: Callable[..., DownloadManifestManager], executable: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", executable)
    manifest = open_manifest(AT_ONCE)
    manifest.add(make_record(0))
    wait_until(lambda: checksum(0) in canonical(manifest))


def test_a_frozen_application_is_not_started_again(
    quiet: DownloadManifestManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its executable is the application itself."""
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    assert not child.compact_in_child(engine_of(quiet).session)


def test_the_thread_compacts_where_no_child_can_import_the_package(
    open_manifest: Callable[..., DownloadManifestManager], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child, "_PROGRAM", "raise ImportError")
    manifest = open_manifest(AT_ONCE)
    manifest.add(make_record(0))
    wait_until(lambda: checksum(0) in canonical(manifest))


def test_what_a_module_prints_in_the_child_is_nothing_to_the_parent(
    quiet: DownloadManifestManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child, "_PROGRAM", f"print('hello'); print('[1, 2]'); {child._PROGRAM}")
    assert child.compact_in_child(engine_of(quiet).session)


def kill_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kill each child as soon as it is ready."""
    real = child._send

    def send(process: subprocess.Popen[bytes], word: bytes) -> None:
        process.kill()
        real(process, word)

    monkeypatch.setattr(child, "_send", send)


def test_a_killed_child_leaves_the_work_to_the_thread(
    open_manifest: Callable[..., DownloadManifestManager], monkeypatch: pytest.MonkeyPatch
) -> None:
    kill_soon(monkeypatch)
    manifest = open_manifest(AT_ONCE)
    manifest.add(make_record(0))
    wait_until(lambda: checksum(0) in canonical(manifest))


def test_the_thread_compacts_after_a_killed_child(
    quiet: DownloadManifestManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    kill_soon(monkeypatch)
    engine_of(quiet).background._compact_if_due()
    assert canonical(quiet) == {checksum(0)}


def be_a_child(_link: Link, directory: str, name: str) -> None:
    """In a forked process, so that it runs this process's code; nobody says anything to it."""
    sys.argv = ["-c", directory, name, "{}"]
    with open(os.devnull) as sys.stdin, open(os.devnull, "w") as sys.stdout:
        child.main()


def test_a_child_that_is_told_nothing_compacts_nothing(quiet: DownloadManifestManager, start: Start) -> None:
    paths = engine_of(quiet).session.paths
    start(be_a_child, paths.directory, paths.name).result()
    assert canonical(quiet) == set()


def test_a_child_whose_parent_is_gone_before_it_begins_does_nothing(quiet: DownloadManifestManager) -> None:
    """The end of its input says so."""
    before = quiet.path.read_bytes()
    process = child._start(engine_of(quiet).session)
    assert process is not None
    process.communicate()
    assert (process.returncode, quiet.path.read_bytes()) == (0, before)


def test_a_child_whose_parent_dies_during_the_compaction_finishes_it(quiet: DownloadManifestManager) -> None:
    """Nobody reads what it says any more."""
    process = child._start(engine_of(quiet).session)
    assert process is not None
    assert child._repeat(process)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdout.close()
    child._send(process, b"go\n")
    process.stdin.close()
    process.wait(30)
    assert canonical(quiet) == {checksum(0)}


def test_a_child_that_is_told_nothing_ends(quiet: DownloadManifestManager, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even if somebody keeps its input open."""
    impatient = child._PROGRAM.replace("main()", "main.__globals__.update(_PATIENCE_S=1); main()")
    monkeypatch.setattr(child, "_PROGRAM", impatient)
    process = child._start(engine_of(quiet).session)
    assert process is not None
    with process:
        assert process.wait(30) == -signal.SIGALRM


def test_ctrl_c_is_not_for_the_child(quiet: DownloadManifestManager) -> None:
    """A terminal signals the process group of its program."""
    process = child._start(engine_of(quiet).session)
    assert process is not None
    with process:
        assert os.getpgid(process.pid) == process.pid


@pytest.fixture
def busy(quiet: DownloadManifestManager) -> Iterator[None]:
    """Somebody else's compaction: its lock, through a descriptor of its own."""
    lock = FileLock(engine_of(quiet).session.paths.compact_lock, 1.0)
    with lock:
        yield
    lock.close()


@pytest.mark.usefixtures("busy")
def test_no_child_is_started_during_a_compaction(quiet: DownloadManifestManager, started: list[int]) -> None:
    """Nor does the caller compact."""
    assert (child.compact_in_child(engine_of(quiet).session), started) == (True, [])


def test_while_a_child_starts_nobody_else_starts_one(
    quiet: DownloadManifestManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each would find the lock taken only after it has started."""
    taken: list[bool] = []
    paths, real = engine_of(quiet).session.paths, child._start

    def start(session: Session) -> subprocess.Popen[bytes] | None:
        other = FileLock(paths.compact_lock, 0.0)
        taken.append(not other.try_acquire())
        other.close()
        return real(session)

    monkeypatch.setattr(child, "_start", start)
    child.compact_in_child(engine_of(quiet).session)
    assert taken == [True]


def test_what_a_child_logs_is_logged_here(quiet: DownloadManifestManager, caplog: pytest.LogCaptureFixture) -> None:
    """Under the same name and level."""
    with caplog.at_level(logging.INFO, logger="manifestlog"):
        child.compact_in_child(engine_of(quiet).session)
    told = [(record.name, record.levelno) for record in caplog.records if "1 records merged" in record.getMessage()]
    assert told == [("manifestlog.engines.filelog.compaction.steps", logging.INFO)]


def test_a_child_runs_nothing_of_the_environment(
    quiet: DownloadManifestManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a `sitecustomize` nor what else starts with every Python."""
    (tmp_path / "sitecustomize.py").write_text("import os; os._exit(3)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert child.compact_in_child(engine_of(quiet).session)


def test_a_child_has_the_options_of_its_parent(path: Path) -> None:
    """Otherwise a history that is not to be kept would be kept."""
    options = ManifestOptions(
        auto_compact=False, compact_on_close=False, history="off", compact_interval_s=float("inf")
    )
    with DownloadManifestManager(path, metadata(), options=options) as manifest:
        manifest.add(make_record(0))
        child.compact_in_child(engine_of(manifest).session)
    assert not (path.parent / "history").exists()


def add_unguarded(link: Link, path: Path) -> None:
    """A program that compacts in a child while its own `__main__` has no guard."""
    program = f"""
import sys
sys.path[:] = {sys.path!r}
print("ran", flush=True)
from pathlib import Path
from manifestlog import DownloadManifestManager, ManifestOptions
from manifestlog.engines.filelog.compaction import child
from support.records import make_record, metadata
with DownloadManifestManager(Path({str(path)!r}), metadata(), options=ManifestOptions(auto_compact=False)) as manifest:
    manifest.add(make_record(0))
    print(child.compact_in_child(manifest._engine.session))
"""
    link.send(subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout)


def test_a_program_without_a_guard_does_not_run_twice(path: Path, start: Start) -> None:
    """`multiprocessing` would import its `__main__` again."""
    assert start(add_unguarded, path).receive() == "ran\nTrue\n"


def add_steadily(link: Link, path: Path) -> None:
    background.CHILD_BYTES_MIN = 1
    with DownloadManifestManager(path, metadata(), options=replace(AT_ONCE, compact_on_close=False)) as manifest:
        for number in range(10**6):
            manifest.add(make_record(number))
            link.send(number)


@pytest.mark.parametrize("records", [1, 20, 200])
def test_a_kill_of_the_parent_loses_no_record(path: Path, start: Start, records: int) -> None:
    """Its children finish, or have done nothing."""
    writer = start(add_steadily, path)
    last = [writer.receive() for _ in range(records)][-1]
    os.kill(writer.pid, signal.SIGKILL)
    writer.join()
    with DownloadManifestManager(path) as manifest:
        assert all(manifest.has_checksum(checksum(number)) for number in range(last + 1))


def fork_beside_a_child(link: Link, path: Path) -> None:
    background.CHILD_BYTES_MIN = 1
    with DownloadManifestManager(path, metadata(), options=AT_ONCE) as manifest:
        for number in range(20):
            manifest.add(make_record(number))
            if not os.fork():
                manifest.add(make_record(1000 + number))
                os._exit(0)
            os.wait()
    with DownloadManifestManager(path) as manifest:
        link.send(len(manifest.records))


def test_a_fork_beside_a_child_harms_neither(path: Path, start: Start) -> None:
    """Parent and forked child go on writing."""
    assert start(fork_beside_a_child, path).receive() == 40
