"""What a manifest relies on, tried out in a folder: locks between two processes, renames, links, syncs, file times.

Invariants:

- What is tried is what the engine calls (`disk`, `lock`).
- The second process is a real one, with its own descriptors, and is killed for real.

Whose folder that is, and what becomes of it, is `doctor`'s business.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from enum import StrEnum
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

from manifestlog.pool import is_daemonic
from manifestlog.storage import disk
from manifestlog.storage.lock import FileLock

PATIENCE_S = 10.0
CLOCK_SLACK_S = 2.0
_RENAMES = 200
_RENAMES_S = 0.3
_SYNCS = 50
_SYNCS_S = 2.0
_GRANULARITY_S = 2.5
_LINE = b"x" * 299 + b"\n"
_WHOLE = 64 << 10
"""Bytes of the file that is replaced under a reader's eyes."""
_LOCK = "lock"
_SLOW_SYNC_S = 0.02
_NO_SYNC_S = 20e-6


class Verdict(StrEnum):
    """How a test ended.

    - `OK`: the folder is good enough in this respect.
    - `WARNING`: it works, with a limit that the finding names.
    - `FAILED`: a manifest must not lie here.
    """

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


class Finding(NamedTuple):
    """What a test found, what that means, and what to do about it (empty when nothing)."""

    test: str
    verdict: Verdict
    found: str
    advice: str = ""


def run(place: str) -> Iterator[Finding]:
    """Try everything, in a folder that nobody else uses."""
    yield from _with_second_process(place)
    trials = {
        "hard links": _hard_links,
        "directory sync": _directory_sync,
        "sync cost": _sync_cost,
        "file times": _clock,
    }
    for name, trial in trials.items():
        yield from _guarded(name, trial, place)


def _guarded(name: str, test: Callable[[str], Finding], place: str) -> Iterator[Finding]:
    try:
        yield test(place)
    except OSError as error:
        yield Finding(name, Verdict.FAILED, f"{error.strerror or error}", "keep manifests on another file system")


# -- tried by two processes --------------------------------------------------------------------------------------------


class _SecondError(Exception):
    """The second process does not do what it was told, with the reason."""


class _Second:
    """The other process, which does one thing after the other as it is told."""

    def __init__(self, place: str) -> None:
        context = multiprocessing.get_context("spawn")
        self.link, theirs = context.Pipe()
        self._theirs = theirs
        self._process = context.Process(target=_follow_orders, args=(theirs, place), daemon=True)

    def start(self) -> None:
        """Let it begin; whoever calls this ends it in any case (`kill`), as a signal may come out of here."""
        # Ctrl-C goes to the whole group; here it is for us, who then end the other one. Nor may either signal end us
        # before the other one was told what it is: it would say so in a traceback. The tracker first: where it is not
        # running yet, starting it lets both signals through again.
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
        return self.hear()

    def hear(self) -> Any:
        if not self.link.poll(PATIENCE_S):
            raise _SecondError(f"the second process got no answer from the file system within {PATIENCE_S:g} s")
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
    with suppress(EOFError, OSError):  # whoever gives the orders is gone
        while True:
            order = link.recv()
            try:
                answer = orders[order]()
            except OSError as error:
                answer = error
            link.send(answer)


def _watch(link: Connection[Any, Any], path: str) -> tuple[int, int, int]:
    """Read the file until something is sent: (how often, how often it was missing, how often it was no whole file)."""
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


def _with_second_process(place: str) -> Iterator[Finding]:
    if is_daemonic():
        found = "not tried: this process is daemonic, and Python gives it no second process"
        yield Finding("locks exclude", Verdict.WARNING, found, "run `manifestlog doctor` as a program of its own")
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
                yield Finding(name, Verdict.FAILED, str(error), advice)
    finally:
        second.kill()
        second.link.close()


def _exclusion(second: _Second, place: str) -> Finding:
    test, advice = (
        "locks exclude",
        "keep manifests on a local disk; here two writers would destroy each other's records",
    )
    ours = FileLock(os.path.join(place, _LOCK), PATIENCE_S)
    try:
        if not second.ask("lock"):
            return Finding(test, Verdict.FAILED, "a lock that nobody holds is not given", advice)
        if ours.try_acquire():
            return Finding(test, Verdict.FAILED, "two processes got one lock at the same time", advice)
        second.ask("unlock")
        if not ours.try_acquire():
            return Finding(test, Verdict.FAILED, "a lock that was given back is not given again", advice)
        if second.ask("lock"):
            return Finding(test, Verdict.FAILED, "two processes got one lock at the same time", advice)
    finally:
        ours.release()
        ours.close()
    return Finding(test, Verdict.OK, "a lock that one process holds is refused to another")


def _lock_ends(second: _Second, place: str) -> Finding:
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
            found = f"{PATIENCE_S:g} s after its holder was killed, a lock is still held"
            advice = "keep manifests on a local disk; here every killed process would stop all others"
            return Finding(test, Verdict.FAILED, found, advice)
    finally:
        ours.release()
        ours.close()
        disk.close(shared)
    if not seen:
        found = "a shared lock of another process is not seen: nobody can tell who is the last writer"
        return Finding(test, Verdict.WARNING, found, "compact by `manifestlog compact --every 60s`, or on a local disk")
    return Finding(test, Verdict.OK, "a lock goes with its process, kill -9 included")


def _rename(second: _Second, place: str) -> Finding:
    target = os.path.join(place, "replaced")
    _replace(target, 0)
    second.ask("watch")
    ends = time.monotonic() + _RENAMES_S
    count = 0
    while count < _RENAMES or time.monotonic() < ends:
        count += 1
        _replace(target, count)
    reads, missing, half = second.ask("enough")
    told = f"{count} replacements under {reads} reads"
    if missing or half:
        advice = "keep manifests on another file system: here a reader may see no file, or half of one"
        return Finding("atomic rename", Verdict.FAILED, f"{told}: {missing} times no file, {half} times half", advice)
    return Finding("atomic rename", Verdict.OK, f"{told}: always a whole file")


def _replace(target: str, number: int) -> None:
    fd = disk.create(f"{target}.new")
    try:
        disk.append(fd, bytes([number % 256]) * _WHOLE)
    finally:
        disk.close(fd)
    disk.replace(f"{target}.new", target)


# -- tried by one ------------------------------------------------------------------------------------------------------


def _new(place: str, name: str) -> str:
    path = os.path.join(place, name)
    disk.close(disk.create(path))
    return path


def _hard_links(place: str) -> Finding:
    test = "hard links"
    taken = _new(place, "taken")
    disk.publish_new(_new(place, "one"), os.path.join(place, "named"))
    try:
        disk.publish_new(_new(place, "two"), taken)
    except FileExistsError:
        pass
    else:
        advice = "keep manifests on another file system"
        return Finding(test, Verdict.FAILED, "a new file took the place of one that was there", advice)
    try:
        disk.link(taken, os.path.join(place, "linked"))
    except OSError as error:
        found = f"none here ({error.strerror}); new files get their names by a rename under a lock, which does as well"
        return Finding(test, Verdict.WARNING, found, "create a manifest (`manifestlog init`) before processes share it")
    return Finding(test, Verdict.OK, "a new file never takes the place of one that is there")


def _directory_sync(place: str) -> Finding:
    _new(place, "synced")
    disk.sync_directory(place)
    return Finding("directory sync", Verdict.OK, "new names can be made to survive a power cut")


def _sync_cost(place: str) -> Finding:
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
    told = f"{_span(middle)} for one addition (median of {len(took)}), {_span(max(took))} at most"
    if middle < _NO_SYNC_S:
        means = "no disk is that fast: what is synced here may not survive a power cut"
        return Finding("sync cost", Verdict.WARNING, f"{told}; {means}", "ask whoever runs this storage")
    if middle > _SLOW_SYNC_S:
        advice = "add with add_many, or choose Durability.INTERVAL where the last second may be lost"
        return Finding("sync cost", Verdict.WARNING, f"{told}; a slow disk", advice)
    return Finding("sync cost", Verdict.OK, told)


def _span(seconds: float) -> str:
    return f"{seconds * 1e6:.0f} µs" if seconds < 1e-3 else f"{seconds * 1e3:.1f} ms"


def _clock(place: str) -> Finding:
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
    told = f"files' times are {_span(apart)} from the system's, in steps of {_span(abs(step) / 1e9)} or less"
    if step < 0 or apart > CLOCK_SLACK_S:
        found = f"files' times are {apart:,.1f} s from the system's: they come from another clock"
        return Finding(
            "file times", Verdict.WARNING, found, "set both clocks by NTP; order in a manifest is not affected"
        )
    if step == 0 or step >= 1_000_000_000:
        return Finding(
            "file times", Verdict.WARNING, f"{told}: coarse", "keep manifests on a file system with finer times"
        )
    return Finding("file times", Verdict.OK, told)
