"""A process that is stopped while it holds a lock: what the others are told, who is not disturbed, how it goes on.

Holds of the README and the error's docstring that `LockTimeoutError` names the file, the seconds, who holds it and what to
do; that a second compactor returns at once; that reading takes no lock. What an `add` is told when another `add` is stopped
stands in `tests/processes/test_lock_timeout.py`; here are the other calls, the compaction lock and the command line.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import replace
from io import StringIO
from typing import TYPE_CHECKING

import pytest

from manifestlog import AddManyStoppedError, DownloadManifestManager, LockTimeoutError
from manifestlog.cli.app import main
from manifestlog.files import disk
from support.faults import before
from support.integrity import load_canonical
from support.records import QUICK, checksum, make_record, metadata

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from support.children import Child, Link, Start

IMPATIENT = replace(QUICK, lock_timeout_s=0.3)
COUNT = 10
LOCKS = {"append": ".lock", "compaction": ".compact.lock"}


def hold(link: Link, path: Path, lock: str) -> str:
    """Stop with this lock in hand: in the middle of an add, or right before a compaction's rename."""

    def stop() -> None:
        link.send("stopping")
        signal.raise_signal(signal.SIGSTOP)

    with DownloadManifestManager(path, options=QUICK) as manifest:
        if lock == "append":
            before(disk, "append", lambda *_: stop())
            return manifest.add(make_record(100)).verdict
        before(disk, "replace", lambda _, target: stop() if target.endswith(".json") else None)
        return manifest.compact().outcome


def held(path: Path, start: Start, lock: str) -> Child:
    with DownloadManifestManager(path, metadata(), options=QUICK) as manifest:
        manifest.add_many([make_record(n) for n in range(COUNT)])
    child = start(hold, path, lock)
    assert child.receive() == "stopping"
    os.waitid(os.P_PID, child.pid, os.WSTOPPED | os.WNOWAIT)
    return child


@contextmanager
def going_on(child: Child) -> Iterator[None]:
    """On leaving, the stopped process goes on, as closing a manager takes the lock, too."""
    try:
        yield
    finally:
        child.kill(signal.SIGCONT)
        child.join()


CALLS: dict[str, tuple[str, Callable[[DownloadManifestManager], object]]] = {
    "add": ("append", lambda m: m.add(make_record(50))),
    "update": ("append", lambda m: m.update(checksum(1), make_record(1).model_dump())),
    "forget": ("append", lambda m: m.forget(checksum(1))),
    "compact": ("append", lambda m: m.compact()),
    "save": ("compaction", lambda m: m.save()),
}


@pytest.mark.parametrize("call", CALLS)
def test_a_call_that_needs_the_lock_gives_up_in_time(path: Path, start: Start, call: str) -> None:
    """It says which file, how many seconds, which process, and what to do; and all is well when that one goes on."""
    lock, act = CALLS[call]
    child = held(path, start, lock)
    with DownloadManifestManager(path, options=IMPATIENT) as manifest, going_on(child):
        began = time.monotonic()
        with pytest.raises(LockTimeoutError) as caught:
            act(manifest)
        waited = time.monotonic() - began
        error = caught.value
        assert error.path == str(path).replace(".json", LOCKS[lock])
        parts = (
            error.path,
            "within 0.3 s",
            f"process {child.pid} (",
            "wait for that process or end it",
            "lock-timeout",
        )
        assert [part for part in parts if part not in str(error)] == []
        assert 0.3 <= waited < 3.0
        child.kill(signal.SIGCONT)
        assert child.result() in ("new", "compacted")
        act(manifest)


def test_a_batch_reports_what_was_added_if_the_lock_is_not_obtained(path: Path, start: Start) -> None:
    """`add_many` stops with the cause, and nothing has landed."""
    child = held(path, start, "append")
    with DownloadManifestManager(path, options=IMPATIENT) as manifest, going_on(child):
        with pytest.raises(AddManyStoppedError) as caught:
            manifest.add_many([make_record(n) for n in range(50, 60)])
        assert (type(caught.value.cause), sum(caught.value.landed.values())) == (LockTimeoutError, 0)


@pytest.mark.parametrize("lock", LOCKS)
@pytest.mark.parametrize("read_only", [False, True])
def test_a_stopped_holder_disturbs_no_reader(path: Path, start: Start, lock: str, *, read_only: bool) -> None:
    """Whoever opens and reads then finds everything, at once."""
    child = held(path, start, lock)
    with DownloadManifestManager(path, options=IMPATIENT, read_only=read_only) as manifest, going_on(child):
        began = time.monotonic()
        assert list(manifest) == sorted(checksum(n) for n in range(COUNT))
        assert manifest.get(checksum(3)) == make_record(3)
        assert time.monotonic() - began < 0.3  # nothing waited for a lock


def test_a_stopped_compactor_disturbs_no_writer(path: Path, start: Start) -> None:
    """Writing goes on, a second compaction says that one is running, and the first one ends well."""
    child = held(path, start, "compaction")
    with DownloadManifestManager(path, options=IMPATIENT) as manifest:
        with going_on(child):
            verdicts = [manifest.add(make_record(n)).verdict for n in range(50, 60)]
            assert (set(verdicts), manifest.compact().outcome) == ({"new"}, "already_running")
        assert manifest.compact().outcome == "compacted"
        assert (
            set(load_canonical(path)["records"])
            == set(manifest)
            == {checksum(n) for n in (*range(COUNT), *range(50, 60))}
        )


def program(path: Path, *arguments: str) -> tuple[int, str]:
    said = StringIO()
    with redirect_stdout(said), redirect_stderr(said):
        code = main(["--dir", str(path.parent), *arguments])
    return code, said.getvalue()


@pytest.mark.parametrize("verb", ["forget", "add"])
def test_the_program_ends_with_11(path: Path, start: Start, tmp_path: Path, verb: str) -> None:
    """Lock not obtained: its exit code, and the line that says who holds it."""
    child = held(path, start, "append")
    (tmp_path / "raw.csv").write_text("1,2,3")
    what = checksum(1) if verb == "forget" else str(tmp_path / "raw.csv")
    with going_on(child):
        code, said = program(path, "--lock-timeout", "0.3", verb, "systems_download", what)
    assert (code, f"process {child.pid}" in said) == (11, True), said


def test_the_program_says_that_a_compaction_is_running(path: Path, start: Start) -> None:
    """`compact` beside a stopped compactor says so, and waits for nothing."""
    child = held(path, start, "compaction")
    with going_on(child):
        began = time.monotonic()
        _, said = program(path, "compact", "systems_download")
        assert time.monotonic() - began < 5.0
    assert "another process is compacting" in said


def test_a_killed_holder_no_longer_holds_the_lock(path: Path, start: Start) -> None:
    """A stopped process that is killed leaves both locks free and its work to the next."""
    for lock, others in (("append", [50]), ("compaction", [50, 51])):
        if lock == "append":
            child = held(path, start, lock)
        else:
            child = start(hold, path, lock)
            assert child.receive() == "stopping"
        child.kill()
        child.join()
        with DownloadManifestManager(path, options=IMPATIENT) as manifest:
            manifest.add(make_record(others[-1]))
            assert set(manifest) == {checksum(n) for n in (*range(COUNT), *others)}
    with DownloadManifestManager(path, options=IMPATIENT) as manifest:
        assert manifest.compact().outcome == "compacted"
