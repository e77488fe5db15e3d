"""What simulated processes do: small domains, so that they get into each other's way all the time.

Invariants:

- Everything follows from the dice that a body is given; nothing else is random.
- Each call goes through the history, with answers as plain as the checker wants them.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from manifestlog import (
    DownloadManifestManager,
    Durability,
    ManifestNotFoundError,
    ManifestOptions,
    ManifestRecord,
    RecordNotFoundError,
)
from support.engines import engine_of
from support.records import EPOCH, checksum

from .scenario import open_manifest

if TYPE_CHECKING:
    from .history import History
    from .kernel import Process
    from .scheduler import Scheduler

CHECKSUMS = [checksum(number) for number in range(5)]
SOURCES = ["s0", "s1", "s2"]
DATASETS = ["d0", "d0", "d1"]
ETAGS = ["e0", "e1"]
PATHS = ["/p0", "/p1"]


class Event(NamedTuple):
    """A content as a source delivers it, at so many seconds."""

    checksum: str
    source: str
    dataset: str
    time: int
    etag: str
    path: str


@cache
def event_of(event: Event) -> ManifestRecord:
    """The record that says so."""
    return ManifestRecord(
        source_id=event.source,
        dataset=event.dataset,
        checksum=event.checksum,
        file_path=Path(event.path),
        file_size=100,
        etag=event.etag,
        ts_downloaded=EPOCH + timedelta(seconds=event.time),
        version="1.0.0",
    )


def options(dice: random.Random, *, durable: bool) -> ManifestOptions:
    """Segments that are full after one line, after a few, or never; without `durable`, some without syncs."""
    return _options(dice.choice((1, 1_500, 1 << 20)), not durable and dice.random() < 0.3, dice.random() < 0.5)


@cache
def _options(segment_bytes_max: int, quick: bool, on_close: bool) -> ManifestOptions:
    return ManifestOptions(
        durability=Durability.PROCESS_KILL if quick else Durability.POWER_CUT,
        segment_bytes_max=segment_bytes_max,
        auto_compact=False,
        compact_on_close=on_close,
    )


class Client:
    """One process's manager, its dice, and the history that it is written down in."""

    def __init__(self, history: History, manifest: DownloadManifestManager, dice: random.Random) -> None:
        self.history = history
        self.manifest = manifest
        self.dice = dice

    def _event(self) -> Event:
        choice = self.dice.choice
        return Event(
            choice(CHECKSUMS), choice(SOURCES), choice(DATASETS), self.dice.randrange(4), choice(ETAGS), choice(PATHS)
        )

    def add(self) -> None:
        event = self._event()
        self.history.call("add", (event,), lambda: str(self.manifest.add(event_of(event)).verdict))

    def add_many(self) -> None:
        events = tuple(self._event() for _ in range(self.dice.randrange(1, 4)))

        def do() -> dict[str, int]:
            counts = self.manifest.add_many([event_of(event) for event in events])
            return {str(verdict): count for verdict, count in counts.items() if count}

        self.history.call("add_many", (events,), do)

    def update(self) -> None:
        key, etag, path = self.dice.choice(CHECKSUMS), self.dice.choice(ETAGS), self.dice.choice(PATHS)
        value = {"checksum": key, "etag": etag, "file_path": path, "file_size": 100}
        with suppress(RecordNotFoundError):
            self.history.call("update", (key, etag, path), lambda: str(self.manifest.update(key, value).verdict))

    def forget(self) -> None:
        key = self.dice.choice(CHECKSUMS)
        self.history.call("forget", (key,), lambda: self.manifest.forget(key))

    def has(self) -> None:
        key = self.dice.choice(CHECKSUMS)
        self.history.call("has", (key,), lambda: self.manifest.has_checksum(key))

    def get(self) -> None:
        key = self.dice.choice(CHECKSUMS)
        self.history.call("get", (key,), lambda: self.manifest.get(key))

    def source(self) -> None:
        pair = self.dice.choice(SOURCES), self.dice.choice((None, *DATASETS))
        self.history.call("source", pair, lambda: self.manifest.get_record_by_source(*pair))

    def length(self) -> None:
        self.history.call("len", (), lambda: len(self.manifest))

    def items(self) -> None:
        self.history.call("items", (), lambda: dict(self.manifest.records.items()))

    def compact(self) -> None:
        self.history.call("compact", (), lambda: str(self.manifest.compact().outcome))

    def save(self) -> None:
        self.history.call("save", (), lambda: str(self.manifest.save().outcome))

    def close(self) -> None:
        """And nothing of it stays open, but what a process that was forked off a busy one has of its parent's stack."""
        self.history.call("close", (), self.manifest.close)
        process = self.history.machine.current
        assert process is not None
        not_ours = self.history.not_ours.get(process.pid, frozenset())
        assert process.dead or process.fds.keys() <= not_ours, (
            f"left open by {process}: {[d.path for d in process.fds.values()]}"
        )


Step = Callable[[Client], None]

WRITES: list[Step] = [*[Client.add] * 6, Client.add_many, Client.update, *[Client.forget] * 2]
READS: list[Step] = [Client.has, Client.get, Client.source, Client.length, Client.items]
MERGES: list[Step] = [Client.compact, Client.save]
MIXED: list[Step] = WRITES + READS


def opened(history: History, chosen: ManifestOptions, dice: random.Random, *, read_only: bool = False) -> Client:
    """Open, or create, the manifest in the running process."""
    manifest = history.call("open", (), lambda: open_manifest(chosen, read_only=read_only))
    return Client(history, manifest, dice)


def client(history: History, scheduler: Scheduler, seed: str, steps: list[Step], *, forks: bool, durable: bool) -> bool:
    """A process that opens, does these steps and closes; with `forks`, it has a child in the middle.

    Gives whether it closes as somebody who, being the last, leaves nothing in the log.
    """
    dice = random.Random(seed)
    chosen = options(dice, durable=durable)
    me = opened(history, chosen, dice)
    for number, step in enumerate(steps):
        if forks and number == len(steps) // 2:
            scheduler.fork(child, history, chosen, seed + "f", hooks=dice.random() < 0.5)
        step(me)
    me.close()
    return chosen.compact_on_close


def child(history: History, chosen: ManifestOptions, seed: str, busy: bool = False) -> bool:
    """A forked process: it goes on with the manager that it has inherited."""
    dice = random.Random(seed)
    process = history.machine.current
    assert process is not None
    if busy:
        history.not_ours[process.pid] = frozenset(process.fds) - _locks(process)
    me = opened(history, chosen, dice)
    for _ in range(2):
        dice.choice(MIXED)(me)
    me.close()
    return chosen.compact_on_close


def _locks(process: Process) -> set[int]:
    """The descriptors of locks that the managers of a process know, and that a child has to close."""
    sessions = [cast("Any", entry.engine).session for entry in process.registry._open.values()]
    return {lock.file._fd for session in sessions for lock in (session._append_lock, session._compact_lock)}


def _opens_a_lock(process: Process) -> bool:
    """Whether it has just opened a lock's file, and its manager does not know the descriptor yet.

    A child that is made then, around every hook, cannot close what it does not know: were its parent killed with the lock
    in its hands, that would stay locked until the child ends. Nobody can mend that; docs/TESTING.md says so.
    """
    known = _locks(process)
    return any(found.path.endswith(".lock") for fd, found in process.fds.items() if fd not in known)


def reader(history: History, seed: str, steps: list[Step]) -> bool:
    """A process that never writes."""
    dice = random.Random(seed)
    try:
        me = opened(history, ManifestOptions(), dice, read_only=True)
    except ManifestNotFoundError:
        return True
    for step in steps:
        step(me)
    me.close()
    return True


def gremlin(history: History, scheduler: Scheduler, seed: str) -> None:
    """Stops others for long, kills them, forks them wherever they stand."""
    dice, machine = random.Random(seed), history.machine
    me = machine.current
    for _ in range(dice.randrange(1, 4)):
        _wait(machine.sleep, dice.randrange(1, 60))
        others = [p for p in machine.processes if p is not me and not p.dead and scheduler.is_running(p)]
        if not others:
            return
        victim = dice.choice(others)
        what = dice.random()
        if what < 0.5:
            scheduler.stop(victim)
            _wait(machine.sleep, dice.randrange(1, 120))
            scheduler.resume(victim)
        elif what < 0.9:
            scheduler.kill(victim)
        elif (
            (chosen := _manager_of(victim)) is not None
            and not engine_of(chosen).session.read_only
            and not _opens_a_lock(victim)
        ):
            scheduler.fork(child, history, engine_of(chosen).options, seed + "f", True, hooks=False, parent=victim)


def _manager_of(process: Process) -> Any:
    entry = next(iter(process.registry._open.values()), None)
    return None if entry is None else entry.manager


def _wait(sleep: Callable[[float], None], turns: int) -> None:
    for _ in range(turns):
        sleep(0)
