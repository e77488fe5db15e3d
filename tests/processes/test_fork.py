"""Children by fork, spawn and forkserver, of a parent that has the manifest open and is busy with it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from manifestlog import DownloadManifestManager, ManifestOptions, Verdict
from manifestlog.engines.filelog.lock import FileLock
from manifestlog.files import disk
from support.children import Child
from support.records import MANUAL, QUICK, checksum, make_record, metadata

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.children import Link, Start

CHILDS = 1_000_000
"""Numbers of records that children add begin here."""


def add(_link: Link, manifest: DownloadManifestManager, number: int) -> Verdict:
    return manifest.add(make_record(number)).verdict


def add_and_wait(link: Link, manifest: DownloadManifestManager, number: int) -> None:
    manifest.add(make_record(number))
    link.send("added")
    link.recv()


def add_and_exec(_link: Link, manifest: DownloadManifestManager, number: int) -> None:
    manifest.add(make_record(number))
    os.execv(sys.executable, [sys.executable, "-c", "pass"])


def look_and_close(_link: Link, manifest: DownloadManifestManager, number: int) -> bool:
    with manifest:
        return manifest.has_checksum(checksum(number))


def test_a_forked_child_adds_with_its_parents_manager(manifest: DownloadManifestManager, start: Start) -> None:
    """Its record is there for the parent at once."""
    manifest.add(make_record(1))
    start(add, manifest, 2).result()
    assert set(manifest) == {checksum(1), checksum(2)}


def test_a_forked_child_knows_what_its_parent_added(manifest: DownloadManifestManager, start: Start) -> None:
    """Adding it again is a duplicate."""
    manifest.add(make_record(1))
    assert start(add, manifest, 1).result() == "duplicate"


def test_a_forked_child_sees_what_its_parent_adds_later(manifest: DownloadManifestManager, start: Start) -> None:
    """The two are two processes like any others."""
    child = start(wait_and_look, manifest, 1)
    manifest.add(make_record(1))
    child.send("look")
    assert child.result() is True


def wait_and_look(link: Link, manifest: DownloadManifestManager, number: int) -> bool:
    link.recv()
    return manifest.has_checksum(checksum(number))


@pytest.mark.parametrize("end", ["returns", "execs", "closes", "is killed"])
def test_a_parent_continues_after_its_child_has_ended(
    manifest: DownloadManifestManager, start: Start, end: str
) -> None:
    """However the child ends, the parent adds and reads as before."""
    manifest.add(make_record(1))
    if end == "is killed":
        child = start(add_and_wait, manifest, 2)
        child.receive()
        child.kill()
        assert child.join() == -signal.SIGKILL
    else:
        child = start({"returns": add, "execs": add_and_exec, "closes": look_and_close}[end], manifest, 2)
        assert child.join() == 0
    assert manifest.add(make_record(3)).verdict is Verdict.NEW
    assert {checksum(1), checksum(3)} <= set(manifest)


def test_a_child_survives_its_parent(path: Path, start: Start) -> None:
    """A grandchild goes on with the manager that its killed parent had opened."""
    parent = start(have_a_child, path)
    assert parent.receive() == "forked"
    parent.kill()
    parent.join()
    with DownloadManifestManager(path, options=QUICK) as manifest:
        assert manifest.add(make_record(1)).verdict is Verdict.NEW


def have_a_child(link: Link, path: Path) -> None:
    with DownloadManifestManager(path, metadata(), options=QUICK) as manifest:
        manifest.add(make_record(0))
        child = Child(add_and_wait, manifest, 2)
        child.receive()
        link.send("forked")
        link.recv()


def try_lock(_link: Link, path: Path) -> bool:
    lock = FileLock(str(path), 0.2)
    try:
        return lock.try_acquire()
    finally:
        lock.close()


def close_lock(_link: Link, lock: FileLock) -> None:
    lock.close()


def test_a_child_that_closes_an_inherited_lock_does_not_free_it(tmp_path: Path, start: Start) -> None:
    """The parent still holds it."""
    path = tmp_path / "x.lock"
    with FileLock(str(path), 1.0) as lock:
        start(close_lock, lock).join()
        assert start(try_lock, path).result() is False
    lock.close()


def add_during_fork(
    manifest: DownloadManifestManager, begin: Callable[[int], object], forks: int
) -> tuple[set[str], list[BaseException]]:
    """Have four threads add while `begin(n)` starts the n-th child; gives what was acknowledged, and the errors."""
    stop = threading.Event()
    acknowledged: set[str] = set()
    errors: list[BaseException] = []

    def work(thread: int) -> None:
        number = thread * 100_000
        while not stop.is_set():
            try:
                manifest.add(make_record(number))
            except BaseException as error:
                errors.append(error)
                return
            acknowledged.add(checksum(number))
            number += 1

    with ThreadPoolExecutor(4) as pool:
        working = [pool.submit(work, thread) for thread in range(4)]
        for number in range(forks):
            begin(number)
        stop.set()
        for future in working:
            future.result()
    return acknowledged, errors


@pytest.mark.parametrize(
    "options", [QUICK, MANUAL, ManifestOptions(compact_interval_s=0.2)], ids=["kill", "sync", "auto"]
)
def test_forking_while_threads_add_loses_nothing(
    open_manifest: Callable[..., DownloadManifestManager], start: Start, options: ManifestOptions
) -> None:
    """Thirty children, each adding a record, from a parent whose threads never stop: everything is there, no error."""
    manifest = open_manifest(options)
    children: list[Child] = []
    acknowledged, errors = add_during_fork(manifest, lambda n: children.append(start(add, manifest, CHILDS + n)), 30)
    verdicts = {child.result() for child in children}
    missing = (acknowledged | {checksum(CHILDS + n) for n in range(30)}) - set(manifest)
    assert (errors, verdicts, missing) == ([], {Verdict.NEW}, set())


def test_killing_children_of_a_busy_parent_affects_no_other_process(
    open_manifest: Callable[..., DownloadManifestManager], start: Start
) -> None:
    """Children killed right after their birth leave no lock and no loss behind."""
    manifest = open_manifest(QUICK)

    def begin(number: int) -> None:
        child = start(add_and_wait, manifest, CHILDS + number)
        child.kill()
        child.join()

    acknowledged, errors = add_during_fork(manifest, begin, 20)
    assert (errors, acknowledged - set(manifest)) == ([], set())


def add_and_compact(_link: Link, manifest: DownloadManifestManager, number: int) -> tuple[Verdict, str]:
    return manifest.add(make_record(number)).verdict, manifest.compact().outcome


def test_forking_in_the_middle_of_a_compaction_harms_neither(
    manifest: DownloadManifestManager, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The child adds, and is told that a compaction is running; the parent's goes on and ends."""
    manifest.add_many([make_record(n) for n in range(10)])
    in_the_middle, go_on = threading.Event(), threading.Event()
    real = disk.replace

    def replace(source: str, target: str) -> None:
        in_the_middle.set()
        assert go_on.wait(30)
        real(source, target)

    monkeypatch.setattr(disk, "replace", replace)
    with ThreadPoolExecutor(1) as pool:
        compaction = pool.submit(manifest.compact)
        assert in_the_middle.wait(30)
        answers = start(add_and_compact, manifest, CHILDS).result()
        go_on.set()
        merged = compaction.result().records_total
    assert (answers, merged) == ((Verdict.NEW, "already_running"), 10)
    assert len(manifest) == 11


def test_a_child_process_of_another_program_inherits_no_descriptor(manifest: DownloadManifestManager) -> None:
    """What `subprocess` starts holds none of the manifest's files open."""
    manifest.add(make_record(1))
    script = "import os; print([os.readlink(f'/proc/self/fd/{n}') for n in os.listdir('/proc/self/fd') if int(n) > 2])"
    out = subprocess.run(
        [sys.executable, "-c", script.replace("os.readlink(", "os.path.realpath(")],
        capture_output=True, text=True, check=True, close_fds=False,
    ).stdout  # fmt: skip
    assert ".manifest." not in out


@pytest.mark.skipif(
    sys.version_info >= (3, 13),
    reason="from 3.13 on, Python counts threads after the hooks have put ours back: it warns of one that was not there",
)
def test_forking_with_idle_work_in_the_background_gives_no_warning(path: Path) -> None:
    """The library's own thread is not there while the process is copied; later Pythons warn of threads."""
    # A program of its own: under a parallel test runner this process has threads that are not ours.
    script = (
        "import os, sys, threading\n"
        "from manifestlog import DownloadManifestManager\n"
        "from support.records import make_record, metadata\n"
        "manifest = DownloadManifestManager(sys.argv[1], metadata())\n"
        "manifest.add(make_record(1))\n"
        "assert threading.active_count() == 2\n"
        "pid = os.fork()\n"
        "if pid == 0:\n"
        "    os._exit(0)\n"
        "os.waitpid(pid, 0)\n"
        "manifest.close()\n"
    )
    command = [sys.executable, "-W", "always", "-c", script, str(path)]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_background_work_continues_after_a_fork(open_manifest: Callable[..., DownloadManifestManager]) -> None:
    """The parent's thread is back when the child is born."""
    manifest = open_manifest(ManifestOptions())
    manifest.add(make_record(1))
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    assert "manifestlog" in {thread.name for thread in threading.enumerate()}


def add_pickled(manifest: DownloadManifestManager, number: int) -> None:
    with manifest:
        manifest.add(make_record(number))


def add_by_path(path: Path, number: int) -> None:
    with DownloadManifestManager(path, options=QUICK) as manifest:
        manifest.add(make_record(number))


METHODS = pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])


@METHODS
def test_a_child_process_adds_with_a_manager_handed_to_it(manifest: DownloadManifestManager, method: str) -> None:
    """Whatever the start method, the child's record is there for the parent."""
    manifest.add(make_record(1))
    assert _run(method, add_pickled, manifest, 2) == 0
    assert set(manifest) == {checksum(1), checksum(2)}


@METHODS
def test_a_child_process_adds_with_a_manager_of_its_own(manifest: DownloadManifestManager, method: str) -> None:
    """Likewise when it opens the manifest itself."""
    manifest.add(make_record(1))
    assert _run(method, add_by_path, manifest.path, 2) == 0
    assert set(manifest) == {checksum(1), checksum(2)}


def _run(method: str, target: Callable[..., None], *args: object) -> int | None:
    context = multiprocessing.get_context(method)
    process = context.Process(target=target, args=args)  # type: ignore[attr-defined]
    process.start()
    process.join(60)
    code: int | None = process.exitcode
    process.close()
    return code
