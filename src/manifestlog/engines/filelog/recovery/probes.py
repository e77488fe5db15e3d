"""Tests a directory for everything that a manifest relies on: locks between processes, renames, links, syncs, file
times.

Invariants:

- The probes use the same calls as the engine (`disk`, `lock`).
- The second process is a real one, with its own descriptors, and is really killed.

`doctor` creates and removes the directory.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from typing import Any

from manifestlog.engines.filelog.lock import FileLock
from manifestlog.engines.reports import ProbeResult, ProbeStatus
from manifestlog.files import disk
from manifestlog.workers.pool import is_daemonic

PATIENCE_S = 10.0
CLOCK_SLACK_S = 2.0
_RENAMES = 200
_RENAMES_S = 0.3
_SYNCS = 50
_SYNCS_S = 2.0
_GRANULARITY_S = 2.5
_LINE = b"x" * 299 + b"\n"
_WHOLE = 64 << 10
"""Size in bytes of the file that is replaced while it is read."""
_LOCK = "lock"
_SLOW_SYNC_S = 0.02
_NO_SYNC_S = 20e-6


def run_probes(place: str) -> Iterator[ProbeResult]:
    """Run all probes, in a directory that no other process uses."""
    yield from _with_second_process(place)
    probes = {
        "hard links": _hard_links,
        "directory sync": _directory_sync,
        "sync cost": _sync_cost,
        "file times": _clock,
    }
    for name, probe in probes.items():
        yield from _guarded(name, probe, place)


def _guarded(name: str, test: Callable[[str], ProbeResult], place: str) -> Iterator[ProbeResult]:
    try:
        yield test(place)
    except OSError as error:
        yield ProbeResult(
            name, ProbeStatus.FAILED, f"{error.strerror or error}", "keep manifests on another file system"
        )


# -- probes with two processes -----------------------------------------------------------------------------------------


class _SecondError(Exception):
    """The second process failed, with the reason."""


class _Second:
    """The second process, which executes one order after the other."""

    def __init__(self, place: str) -> None:
        context = multiprocessing.get_context("spawn")
        self.link, theirs = context.Pipe()
        self._theirs = theirs
        self._process = context.Process(target=_follow_orders, args=(theirs, place), daemon=True)

    def start(self) -> None:
        """Start it. The caller must always call `kill`, even if a signal raises here."""
        # Ctrl-C goes to the whole process group. Only this process handles it, and then kills the second one, which
        # inherits the blocked signals. If this process died before it sent the start data, the second one would print
        # a traceback. Start the tracker first, because starting it unblocks both signals.
        resource_tracker.ensure_running()
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
        try:
            self._process.start()
        finally:
            self._theirs.close()
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def ask(self, order: str) -> Any:
        with suppress(OSError):
            self.link.send(order)
        return self.receive()

    def receive(self) -> Any:
        if not self.link.poll(PATIENCE_S):
            raise _SecondError(f"the file system did not answer the second process within {PATIENCE_S:g} s")
        try:
            answer = self.link.recv()
        except (EOFError, OSError):
            raise _SecondError("the second process died") from None
        if isinstance(answer, OSError):
            raise _SecondError(f"{answer.strerror or answer}")
        return answer

    def kill(self) -> None:
        if self._process.pid is not None:
            self._process.kill()
            self._process.join()


def _follow_orders(link: Connection[Any, Any], place: str) -> None:
    lock = FileLock(os.path.join(place, _LOCK), 0)
    shared = disk.open_lock(os.path.join(place, "shared"))
    orders: dict[str, Callable[[], object]] = {
        "lock": lock.try_acquire,
        "unlock": lock.release,
        "share": lambda: disk.lock_shared(shared),
        "watch": lambda: _watch(link, os.path.join(place, "replaced")),
    }
    with suppress(EOFError, OSError):  # the first process has ended
        while True:
            order = link.recv()
            try:
                answer = orders[order]()
            except OSError as error:
                answer = error
            link.send(answer)


def _watch(link: Connection[Any, Any], path: str) -> tuple[int, int, int]:
    """Read the file until a message arrives; return the number of reads, of missing files and of partial files."""
    reads = missing = half = 0
    while not (reads and link.poll()):
        try:
            fd = disk.open_read(path)
        except FileNotFoundError:
            missing += 1
            data = b""
        else:
            data = disk.read(fd, _WHOLE + 1, 0)
            disk.close(fd)
            half += data != data[:1] * _WHOLE
        reads += 1
        if reads == 1:
            link.send("watching")
    link.recv()
    return reads, missing, half


def _with_second_process(place: str) -> Iterator[ProbeResult]:
    if is_daemonic():
        found = "not tested: this process is daemonic, and Python does not let it start a second process"
        yield ProbeResult("locks exclude", ProbeStatus.WARNING, found, "run `manifestlog doctor` as a separate program")
        return
    second = _Second(place)
    try:
        second.start()
        # In this order: the last one kills it.
        for name, test in (("atomic rename", _rename), ("locks exclude", _exclusion), ("locks end", _lock_ends)):
            try:
                yield test(second, place)
            except (_SecondError, OSError) as error:
                advice = "keep manifests on a local disk: without this, processes destroy each other's records"
                yield ProbeResult(name, ProbeStatus.FAILED, str(error), advice)
    finally:
        second.kill()
        second.link.close()


def _exclusion(second: _Second, place: str) -> ProbeResult:
    test, advice = (
        "locks exclude",
        "keep manifests on a local disk; here two writers would destroy each other's records",
    )
    ours = FileLock(os.path.join(place, _LOCK), PATIENCE_S)
    try:
        if not second.ask("lock"):
            return ProbeResult(test, ProbeStatus.FAILED, "a free lock cannot be taken", advice)
        if ours.try_acquire():
            return ProbeResult(test, ProbeStatus.FAILED, "two processes got one lock at the same time", advice)
        second.ask("unlock")
        if not ours.try_acquire():
            return ProbeResult(test, ProbeStatus.FAILED, "a released lock cannot be taken again", advice)
        if second.ask("lock"):
            return ProbeResult(test, ProbeStatus.FAILED, "two processes got one lock at the same time", advice)
    finally:
        ours.release()
        ours.close()
    return ProbeResult(test, ProbeStatus.OK, "while one process holds a lock, no other process gets it")


def _lock_ends(second: _Second, place: str) -> ProbeResult:
    test = "locks end"
    ours = FileLock(os.path.join(place, _LOCK), PATIENCE_S)
    shared = disk.open_lock(os.path.join(place, "shared"))
    try:
        second.ask("lock")
        second.ask("share")
        seen = disk.held_by_others(shared)
        second.kill()
        ends = time.monotonic() + PATIENCE_S
        while not (free := ours.try_acquire()) and time.monotonic() < ends:
            time.sleep(0.01)
        if not free or disk.held_by_others(shared):
            found = f"a lock is still held {PATIENCE_S:g} s after its holder was killed"
            advice = "keep manifests on a local disk; here every killed process would stop all others"
            return ProbeResult(test, ProbeStatus.FAILED, found, advice)
    finally:
        ours.release()
        ours.close()
        disk.close(shared)
    if not seen:
        found = "shared locks of other processes are not visible, so no writer knows that it is the last one"
        return ProbeResult(
            test, ProbeStatus.WARNING, found, "compact with `manifestlog compact --every 60s`, or use a local disk"
        )
    return ProbeResult(test, ProbeStatus.OK, "a lock ends with its process, even after kill -9")


def _rename(second: _Second, place: str) -> ProbeResult:
    target = os.path.join(place, "replaced")
    _replace(target, 0)
    second.ask("watch")
    ends = time.monotonic() + _RENAMES_S
    count = 0
    while count < _RENAMES or time.monotonic() < ends:
        count += 1
        _replace(target, count)
    reads, missing, half = second.ask("enough")
    measured = f"{count} replacements under {reads} reads"
    if missing or half:
        advice = "keep manifests on another file system: here a reader may see no file, or a part of one"
        return ProbeResult(
            "atomic rename",
            ProbeStatus.FAILED,
            f"{measured}: {missing} times no file, {half} times a partial file",
            advice,
        )
    return ProbeResult("atomic rename", ProbeStatus.OK, f"{measured}: always a whole file")


def _replace(target: str, number: int) -> None:
    fd = disk.create(f"{target}.new")
    try:
        disk.append(fd, bytes([number % 256]) * _WHOLE)
    finally:
        disk.close(fd)
    disk.replace(f"{target}.new", target)


# -- probes with one process -------------------------------------------------------------------------------------------


def _new(place: str, name: str) -> str:
    path = os.path.join(place, name)
    disk.close(disk.create(path))
    return path


def _hard_links(place: str) -> ProbeResult:
    test = "hard links"
    taken = _new(place, "taken")
    disk.publish_new(_new(place, "one"), os.path.join(place, "named"))
    try:
        disk.publish_new(_new(place, "two"), taken)
    except FileExistsError:
        pass
    else:
        advice = "keep manifests on another file system"
        return ProbeResult(test, ProbeStatus.FAILED, "a new file replaced an existing one", advice)
    try:
        disk.link(taken, os.path.join(place, "linked"))
    except OSError as error:
        found = f"not supported ({error.strerror}); new files are renamed under a lock instead, which is also safe"
        return ProbeResult(
            test, ProbeStatus.WARNING, found, "create a manifest (`manifestlog init`) before processes share it"
        )
    return ProbeResult(test, ProbeStatus.OK, "a new file never replaces an existing one")


def _directory_sync(place: str) -> ProbeResult:
    _new(place, "synced")
    disk.sync_directory(place)
    return ProbeResult("directory sync", ProbeStatus.OK, "a sync makes new names survive a power cut")


def _sync_cost(place: str) -> ProbeResult:
    fd = disk.create(os.path.join(place, "syncs"))
    took: list[float] = []
    ends = time.monotonic() + _SYNCS_S
    try:
        while len(took) < _SYNCS and (time.monotonic() < ends or len(took) < 3):
            began = time.perf_counter()
            disk.append(fd, _LINE)
            disk.sync_data(fd)
            took.append(time.perf_counter() - began)
    finally:
        disk.close(fd)
    middle = statistics.median(took)
    measured = f"{_span(middle)} for one addition (median of {len(took)}), {_span(max(took))} at most"
    if middle < _NO_SYNC_S:
        means = "implausibly fast; this disk may lose synced data in a power cut"
        return ProbeResult("sync cost", ProbeStatus.WARNING, f"{measured}; {means}", "ask the operator of this storage")
    if middle > _SLOW_SYNC_S:
        advice = "add many files at once; in Python, use add_many, or Durability.INTERVAL if losing the last second is acceptable"
        return ProbeResult("sync cost", ProbeStatus.WARNING, f"{measured}; a slow disk", advice)
    return ProbeResult("sync cost", ProbeStatus.OK, measured)


def _span(seconds: float) -> str:
    return f"{seconds * 1e6:.0f} µs" if seconds < 1e-3 else f"{seconds * 1e3:.1f} ms"


def _clock(place: str) -> ProbeResult:
    path = os.path.join(place, "clock")
    fd = disk.create(path)
    try:
        disk.append(fd, _LINE)
        first = disk.stamp(fd).mtime_ns
        apart = abs(time.time_ns() - first) / 1e9
        ends = time.monotonic() + _GRANULARITY_S
        while (step := disk.stamp(fd).mtime_ns - first) == 0 and time.monotonic() < ends:
            disk.append(fd, _LINE)
            time.sleep(1e-3)
    finally:
        disk.close(fd)
    measured = (
        f"file times differ from the system clock by {_span(apart)}, in steps of {_span(abs(step) / 1e9)} or less"
    )
    if step < 0 or apart > CLOCK_SLACK_S:
        found = f"file times differ from the system clock by {apart:,.1f} s: they come from another clock"
        return ProbeResult(
            "file times",
            ProbeStatus.WARNING,
            found,
            "synchronise both clocks by NTP; the order in a manifest is not affected",
        )
    if step == 0 or step >= 1_000_000_000:
        return ProbeResult(
            "file times", ProbeStatus.WARNING, f"{measured}: coarse", "keep manifests on a file system with finer times"
        )
    return ProbeResult("file times", ProbeStatus.OK, measured)
