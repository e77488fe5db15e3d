"""What crash explorations do to a manifest, and the dict that says what must be there afterwards.

Invariants:

- `OPERATIONS` is the alphabet of the sequences; a new one (repair, say) is a function of a `World` and a line there.
- An operation says what it is about to change (`intending`) before it calls the engine. So at every moment the manifest
  holds `records`, or, as long as the operation has not returned, `records` or `intended`, whole.
- Records follow from a counter, so a sequence of operations always writes the same.

It crashes nothing and checks no files (`explore`).
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from manifestlog import DownloadManifestManager
from manifestlog.engines.filelog.history import keep
from manifestlog.model import codec
from manifestlog.model.batches import encoded
from manifestlog.model.events import Event, EventKind
from manifestlog.options import parse_history
from support.engines import engine_of
from support.records import EPOCH, MANUAL

from .disk import SimDisk
from .scenario import PATH, make_record, open_manifest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from manifestlog import ManifestOptions, ManifestRecord

    from .kernel import Process
    from .machine import Machine

Records = dict[str, "ManifestRecord"]
ROOT, MOVED_ROOT = "/srv/etl", "/srv/moved"


class Base(NamedTuple):
    """A disk to begin with, and what its manifest holds.

    `others`: what it may hold as well after the next power cut, since the disk was left by a kill and not all is synced.
    """

    disk: SimDisk
    records: Records
    others: tuple[Records, ...] = ()
    certain: bool = True
    whole: bool = True
    """Whether its history goes back to the beginning."""


class World:
    """One machine with up to two processes on one manifest, and the model of what it holds."""

    def __init__(self, machine: Machine, base: Base, options: ManifestOptions = MANUAL) -> None:
        disk = base.disk.copy()
        self.machine = machine
        self.options = options
        self.records = base.records
        self.intended = base.records
        self.others = base.others
        self.past: list[Records] = [base.records, *base.others]
        """What it held since the last moment at which all of it was certainly on the disk, whatever the durability."""
        self.batches: list[frozenset[str]] = []
        self.created = base.certain and PATH in disk.files()
        self.whole = base.whole
        """Whether the history goes back to the beginning."""
        self.before_run = base.records
        """What it held before the last run began."""
        self._first = machine.boot(disk)
        self._second: Process | None = None
        self._number = disk.boots * 100  # other records than before any earlier crash

    def _second_process(self) -> Process:
        if self._second is None:
            self._second = self.machine.spawn()
        return self._second

    def open(self) -> DownloadManifestManager:
        """The manager of the first process, opened or created when it is not open yet."""
        return open_manifest(self.options)

    @contextmanager
    def elsewhere(self) -> Iterator[DownloadManifestManager]:
        """The second process runs, with its manager."""
        with self.machine.running(self._second_process()):
            yield open_manifest(self.options)

    @contextmanager
    def intending(self, intended: Records) -> Iterator[None]:
        """When the block ends, the manifest holds this."""
        before, self.intended = self.records, intended
        self.past.append(intended)
        self.others += tuple(_same_change(before, intended, other) for other in self.others)
        yield
        self.records = intended
        self.others, self.created = (), True

    def all_durable(self) -> None:
        self.past, self.batches, self.others, self.created = [self.records], [], (), True

    def next_number(self) -> int:
        self._number += 1
        return self._number

    def new_record(self) -> ManifestRecord:
        return make_record(self.next_number())

    def oldest(self) -> str | None:
        return next(iter(self.records), None)

    def newest(self) -> str | None:
        return next(reversed(self.records), None)


def _same_change(before: Records, after: Records, other: Records) -> Records:
    kept = {c: record for c, record in other.items() if c in after or c not in before}
    return kept | {c: record for c, record in after.items() if before.get(c) != record}


def create_or_open(world: World) -> None:
    """Create the manifest when there is none, open it otherwise."""
    missing = PATH not in world.machine.disk.files()
    world.open()
    world.created |= missing


def add_new(world: World) -> None:
    record = world.new_record()
    with world.intending(world.records | {record.checksum: record}):
        world.open().add(record)


def add_same(world: World) -> None:
    """The newest content again, with another ETag: a refresh of its observation."""
    key = world.newest()
    if key is None:
        return
    old = world.records[key]
    number = world.next_number()  # later than any before it: of an event that is not, the manifest takes no notice
    new = old.model_copy(update={"etag": f'"again-{number}"', "ts_downloaded": EPOCH + timedelta(days=number)})
    with world.intending(world.records | {new.checksum: new}):
        world.open().add(new)


def add_many(world: World) -> None:
    """Two records as one line: both or none."""
    pair = [world.new_record(), world.new_record()]
    world.batches.append(frozenset(record.checksum for record in pair))
    with world.intending(world.records | {record.checksum: record for record in pair}):
        world.open().add_many(pair)


def replay(world: World) -> None:
    """Two events of another manifest, as a copy that catches up writes them: both or none."""
    pair = [world.new_record(), world.new_record()]
    engine = engine_of(world.open())
    rows = [codec.loads(encoded(record, world.options)[0]) for record in pair]
    events = [Event("", "2026-01-01T00:00:00.000000Z", EventKind.PUT, row["checksum"], row, {}) for row in rows]
    world.batches.append(frozenset(record.checksum for record in pair))
    with world.intending(world.records | {record.checksum: record for record in pair}):
        engine.replay(events, engine.cursor())


def update(world: World) -> None:
    key = world.oldest()
    if key is None:
        return
    changed = world.records[key].model_copy(update={"file_path": Path(f"/srv/moved-{world.machine.calls}")})
    with world.intending(world.records | {key: changed}):
        world.open().update(key, changed.model_dump(mode="json"))


def forget(world: World) -> None:
    key = world.oldest()
    if key is None:
        return
    with world.intending({other: record for other, record in world.records.items() if other != key}):
        world.open().forget(key)


def bad_run(world: World) -> None:
    """A run that forgets a record, refreshes one and adds two."""
    world.before_run = world.records
    with world.open().run("bad"):
        forget(world)
        add_same(world)
        add_many(world)


def moving_run(world: World) -> None:
    """A run that also moves every path and the root. The manifest must not be opened with the old root after it."""
    world.before_run = world.records
    manifest = world.open()
    with manifest.run("moving"):
        forget(world)
        add_many(world)
        moved = {c: _moved(record) for c, record in world.records.items()}
        with world.intending(moved):
            manifest.relocate(ROOT, MOVED_ROOT)


def _moved(record: ManifestRecord) -> ManifestRecord:
    path = str(record.file_path).replace(f"{ROOT}/", f"{MOVED_ROOT}/", 1)
    return record.model_copy(update={"file_path": Path(path)})


def undo_run(world: World) -> None:
    """Take the last run back, wherever its root is."""
    manifest = DownloadManifestManager(PATH, options=world.options)
    with world.intending(world.before_run):
        manifest.undo(run=run_of(manifest))


def run_of(manifest: DownloadManifestManager) -> str:
    """The id of the only run that is no undo."""
    (found,) = [event.run for event in manifest.history(kinds=["begun"]) if event.details["name"] != "undo"]
    assert found is not None
    return found


def rotate(world: World) -> None:
    def act(state: object) -> None:
        log = state.start_log()  # type: ignore[attr-defined]  # a `State`, which only the engine names
        log.prepare(0, world.options.segment_bytes_max)
        log.rotate()

    engine_of(world.open()).session.transact(act)


def compact(world: World) -> None:
    world.open().compact()
    world.all_durable()


def pack(world: World) -> None:
    """Pack the history, however short it is."""
    _tidy(world, "forever")


def cut(world: World) -> None:
    """Cut the history to nothing."""
    world.whole = False
    _tidy(world, "off")


def _tidy(world: World, history: str) -> None:
    pack_history(world.open(), history)


def pack_history(manifest: DownloadManifestManager, history: str = "forever") -> None:
    """Do what a compaction does with the history when that is long, and keep this much of it."""
    engine = engine_of(manifest)
    created = engine.metadata()["ts_created"]
    with engine.session.compaction_lock(wait=True):
        keep.tidy(engine.paths, created, parse_history(history), keep.NO_FLOOR, segments_max=1)


def reopen(world: World) -> None:
    world.open().close()
    world.open()


def close(world: World) -> None:
    world.open().close()


def newer_version(world: World) -> None:
    """Opened by newer code, which is noted in the log."""
    world.open().close()
    open_manifest(world.options, version="2.0.0")


def refresh_elsewhere(world: World) -> None:
    with world.elsewhere() as manifest:
        assert set(manifest) == set(world.records)


def add_elsewhere(world: World) -> None:
    record = world.new_record()
    with world.intending(world.records | {record.checksum: record}), world.elsewhere() as manifest:
        manifest.add(record)


def compact_elsewhere(world: World) -> None:
    with world.elsewhere() as manifest:
        manifest.compact()
    world.all_durable()


def create_and_add(world: World) -> None:
    """An addition by a process that has not opened the manifest yet."""
    create_or_open(world)
    add_new(world)


def compact_again(world: World) -> None:
    """A compaction by a process that has not opened the manifest yet."""
    create_or_open(world)
    compact(world)


def go_on(world: World) -> None:
    """What follows a crash: the opening, the first write, a compaction."""
    create_and_add(world)
    compact(world)


OPERATIONS: dict[str, Callable[[World], None]] = {
    function.__name__: function
    for function in (
        add_new, add_same, add_many, update, forget, rotate, compact, pack, reopen,
        refresh_elsewhere, add_elsewhere, compact_elsewhere,
    )
}  # fmt: skip

CLOSING_COMPACTS = replace(MANUAL, compact_on_close=True)
ROTATING = replace(MANUAL, segment_bytes_max=900)
"""A segment takes one or two records."""
