"""Somebody holds the append lock and does not let go."""

from __future__ import annotations

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from manifestlog import DownloadManifestManager, LockTimeoutError
from manifestlog.files import disk
from support.faults import before
from support.records import QUICK, checksum, make_record, metadata

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.children import Child, Link, Start

TIMEOUT_S = 0.3


def stop_in_the_middle(link: Link, path: Path) -> None:
    """Stop as with Ctrl-Z in the middle of an add, before its bytes are written."""
    with DownloadManifestManager(path, options=QUICK) as manifest:

        def stop(*_: object) -> None:
            link.send("stopping")
            signal.raise_signal(signal.SIGSTOP)

        before(disk, "append", stop)
        manifest.add(make_record(1))


@pytest.fixture
def stopped(path: Path, start: Start) -> Iterator[Child]:
    """A process that was stopped while it held the append lock."""
    with DownloadManifestManager(path, metadata(), options=QUICK) as manifest:
        manifest.add(make_record(0))
    child = start(stop_in_the_middle, path)
    assert child.receive() == "stopping"
    os.waitid(os.P_PID, child.pid, os.WSTOPPED | os.WNOWAIT)
    yield child
    if child.status is None:
        child.kill(signal.SIGCONT)
        child.join()


@contextmanager
def resuming(path: Path, stopped: Child) -> Iterator[DownloadManifestManager]:
    """A manager of little patience; the stopped process goes on before it is closed, which takes the lock, too."""
    with DownloadManifestManager(path, options=replace(QUICK, lock_timeout_s=TIMEOUT_S)) as manifest:
        try:
            yield manifest
        finally:
            stopped.kill(signal.SIGCONT)
            stopped.join()


def failure(manifest: DownloadManifestManager) -> LockTimeoutError:
    with pytest.raises(LockTimeoutError) as caught:
        manifest.add(make_record(2))
    return caught.value


def test_add_gives_up_in_time(path: Path, stopped: Child) -> None:
    """It waits about as long as the options say."""
    with resuming(path, stopped) as manifest:
        began = time.monotonic()
        failure(manifest)
        waited = time.monotonic() - began
    assert TIMEOUT_S <= waited < TIMEOUT_S + 1.0


def test_the_error_names_the_lock_file(path: Path, stopped: Child) -> None:
    """So that one can see what is locked."""
    with resuming(path, stopped) as manifest:
        assert failure(manifest).path == str(path).replace(".json", ".lock")


def test_the_error_names_the_holder(path: Path, stopped: Child) -> None:
    """So that one can see who to ask."""
    with resuming(path, stopped) as manifest:
        assert f"process {stopped.pid}" in str(failure(manifest))


def test_reading_needs_no_lock(path: Path, stopped: Child) -> None:
    """Lookups answer while somebody holds the append lock."""
    with resuming(path, stopped) as manifest:
        assert manifest.has_checksum(checksum(0))


def test_adding_works_when_the_holder_continues(path: Path, stopped: Child) -> None:
    """After the holder has finished its own add, both records are there."""
    with resuming(path, stopped) as manifest:
        failure(manifest)
        stopped.kill(signal.SIGCONT)
        stopped.join()
        manifest.add(make_record(2))
        assert {checksum(1), checksum(2)} <= set(manifest)


def test_adding_works_when_the_holder_is_killed(path: Path, stopped: Child) -> None:
    """The kernel frees the lock of a dead process."""
    with resuming(path, stopped) as manifest:
        stopped.kill()
        stopped.join()
        manifest.add(make_record(2))
        assert set(manifest) == {checksum(0), checksum(2)}


def test_many_threads_give_up_in_time(path: Path, stopped: Child) -> None:
    """They do not queue up, each to wait after the one before: nobody waits longer than for a thread and a process."""
    with resuming(path, stopped) as manifest:

        def wait(_number: int) -> float:
            began = time.monotonic()
            failure(manifest)
            return time.monotonic() - began

        with ThreadPoolExecutor(12) as pool:
            longest = max(pool.map(wait, range(12)))
    assert longest < 2 * TIMEOUT_S + 1.0


def test_the_timeout_applies_to_other_processes(path: Path) -> None:
    """Threads of one process take turns all the same: whoever is ahead waits for nobody, and is soon through."""
    options = replace(QUICK, lock_timeout_s=0)
    with DownloadManifestManager(path, metadata(), options=options) as manifest, ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda number: manifest.add(make_record(number)).verdict, range(2_000)))
    assert set(found) == {"new"}
