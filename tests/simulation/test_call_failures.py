"""The n-th call of an operation fails, for n = 1, 2, … until the operation ends without a failure; once, and for ever.

After each: the operation has succeeded or raised what it may, nothing half-written shows, everything acknowledged before is
there, now, after a power cut and after reopening; the manager goes on as soon as the failure is over; no lock, no descriptor
and, behind the next compaction, no temporary file is left. After a failed sync the segment is left alone (`faults`).
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest

from manifestlog import (
    AddManyStoppedError,
    DiskFullError,
    DownloadManifestManager,
    ManifestError,
    ManifestOptions,
    ManifestRecord,
)
from support.records import MANUAL, checksum

from .crash import least_state
from .disk import SimDisk
from .faults import FAULTS, Failing, Fault
from .history import holds
from .kernel import Crash
from .machine import simulated
from .scenario import check_files, contents, make_record, new_disk, open_manifest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.counts import Count

    from .machine import Machine

Outcome = type[BaseException] | None
"""The class of what was raised, if anything was."""

Held = dict[str, ManifestRecord]
"""What a manifest holds, by checksum."""

SMALL = replace(MANUAL, segment_bytes_max=1)
ON_CLOSE = replace(MANUAL, compact_on_close=True)
LATER, LATEST = make_record(800), make_record(801)
"""Added when the failure is over, and after reopening."""


@dataclass(frozen=True)
class Operation:
    """What is done while calls fail, to a disk that holds records 1 to 4; `changes` is what it does to them."""

    do: Callable[[DownloadManifestManager], object] | None
    changes: dict[int, ManifestRecord | None]
    options: ManifestOptions = MANUAL
    disk: str = "usual"
    meanwhile: Callable[[], None] | None = None
    """What another process does, after the manifest was opened and before calls fail."""
    own: tuple[int, ...] = ()
    """Records that the manager itself adds before calls fail."""


def _updated(number: int) -> ManifestRecord:
    return make_record(number).model_copy(update={"etag": "updated"})


def _update(manifest: DownloadManifestManager) -> None:
    record = _updated(4)
    value = {"checksum": record.checksum, "etag": record.etag, "file_path": record.file_path, "file_size": 5}
    manifest.update(record.checksum, value)


def _read(manifest: DownloadManifestManager) -> None:
    assert manifest.has_checksum(checksum(1))
    assert manifest.get(checksum(3)) == make_record(3)
    assert manifest.get_record_by_source("source-2") == make_record(2)
    assert len(dict(manifest.records.items())) == len(manifest)


def _others_compact() -> None:
    with open_manifest(SMALL) as manifest:
        manifest.add(make_record(20))
        manifest.compact()
        manifest.add(make_record(21))


OPERATIONS = {
    "create": Operation(None, {}, disk="empty"),
    "open": Operation(None, {}),
    "add": Operation(lambda m: m.add(make_record(10)), {10: make_record(10)}),
    "add the first": Operation(lambda m: m.add(make_record(10)), {10: make_record(10)}, disk="created"),
    "add again": Operation(lambda m: m.add(make_record(4)), {}),
    "add_many": Operation(
        lambda m: m.add_many([make_record(n) for n in (10, 3, 11)]), {10: make_record(10), 11: make_record(11)}
    ),
    "update": Operation(_update, {4: _updated(4)}),
    "forget": Operation(lambda m: m.forget(checksum(3)), {3: None}),
    "rotate": Operation(lambda m: m.add(make_record(10)), {10: make_record(10)}, SMALL),
    "fence": Operation(lambda m: m.add(make_record(10)), {10: make_record(10)}, disk="torn"),
    "compact": Operation(lambda m: m.compact(), {}),
    "save": Operation(lambda m: m.save(), {}, SMALL),
    "refresh": Operation(lambda m: m.refresh(), {}, meanwhile=_others_compact),
    "add after others": Operation(
        lambda m: m.add(make_record(10)), {10: make_record(10)}, meanwhile=_others_compact
    ),
    "read": Operation(_read, {}),
    "close": Operation(lambda m: m.close(), {}, ON_CLOSE),
    "close and compact": Operation(lambda m: m.close(), {}, ON_CLOSE, own=(10,)),
}  # fmt: skip


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    with simulated() as made:
        yield made


@pytest.fixture(scope="module")
def disks(machine: Machine) -> dict[str, SimDisk]:
    return made_disks(machine)


def made_disks(machine: Machine) -> dict[str, SimDisk]:
    """What operations begin with."""
    found = {"empty": new_disk()}
    machine.boot(new_disk())
    open_manifest().close()
    found["created"] = machine.disk.copy()
    with open_manifest() as manifest:
        manifest.add_many([make_record(1), make_record(2)])
        manifest.compact()
        manifest.add(make_record(3))
        manifest.add(make_record(4))
    found["usual"] = machine.disk.copy()
    manifest = open_manifest()
    machine.before = lambda _number, name, _args: 100 if name == "write" else None
    machine.after = _die_behind_a_write
    machine.attempt(lambda: manifest.add(make_record(5)))
    found["torn"] = machine.disk.copy()
    return found


def _die_behind_a_write(_number: int, name: str, _args: tuple[Any, ...]) -> None:
    if name == "write":
        raise Crash


class Trial:
    """One operation with one failure, and everything that must hold afterwards."""

    def __init__(self, machine: Machine, disk: SimDisk, operation: Operation, what: str) -> None:
        self.machine = machine
        self.operation = operation
        self.what = what
        self._cuts: list[tuple[SimDisk, Held]] = []
        self._again = self._unknowable = False
        machine.boot(disk.copy())
        self.manifest = open_manifest(operation.options) if operation.do is not None else None
        if operation.meanwhile is not None:
            with machine.running(machine.spawn()) as other:
                operation.meanwhile()
            machine.end(other)
        numbers = {"empty": (), "created": ()}.get(operation.disk, (1, 2, 3, 4))
        others = (20, 21) if operation.meanwhile is not None else ()
        for number in operation.own:
            assert self.manifest is not None
            self.manifest.add(make_record(number))
        self.before: Held = {checksum(n): make_record(n) for n in (*numbers, *others, *operation.own)}
        changed = self.before | {checksum(n): record for n, record in operation.changes.items()}
        self.after = {key: record for key, record in changed.items() if record is not None}

    def run(self, fault: Fault, number: int, *, sticky: bool) -> bool:
        """Gives whether anything failed."""
        self._failing = failing = Failing(self.machine, fault, number, sticky=sticky)
        error = self._do()
        failing.armed = False
        self._again = error is not None and self.operation.do is not None and bool(self.operation.changes)
        assert error is None or failing.hit, f"{self.what}: {error} out of nothing"
        self._check(error)
        return failing.hit

    def _do(self) -> Outcome:
        try:
            if self.operation.do is None:
                self.manifest = open_manifest(self.operation.options)
            else:
                assert self.manifest is not None
                self.operation.do(self.manifest)
        except (ManifestError, OSError, MemoryError) as error:
            cause = error.cause if isinstance(error, AddManyStoppedError) else error
            return type(cause)  # not itself: its traceback would keep a half-opened manager alive
        return None

    def _check(self, error: Outcome) -> None:
        legal = self._legal(error)
        if error is None:
            self.before = self.after  # what is acknowledged without an error is kept by the power cuts below
        held = self._goes_on(legal)
        self._note_power_cut(held)
        assert self.manifest is not None
        self.manifest.close()
        self._nothing_stays_open()
        with self.machine.running(self.machine.spawn()), open_manifest() as again:
            again.add(LATEST)
            held[LATEST.checksum] = LATEST
            assert dict(again.records.items()) == held, f"{self.what}: after reopening"
            self._note_power_cut(held)
            again.compact()
            check_files(self.machine.disk, compacted=True)
            assert dict(again.records.items()) == held, f"{self.what}: after a compaction"
        self._check_power_cuts()

    def _legal(self, error: Outcome) -> list[Held]:
        """What the manifest may hold after this outcome."""
        if error is None:
            return [self.after]
        return [self.before] if issubclass(error, DiskFullError) else [self.before, self.after]

    def _goes_on(self, legal: list[Held]) -> Held:
        """The failure is over: the manager reads, adds and keeps as if nothing had been."""
        if self.manifest is None or self.operation.options is ON_CLOSE:
            self._nothing_stays_open()
            self._unknowable = self._failing.pardon()
            self.manifest = open_manifest()
        found = dict(self.manifest.records.items())
        assert found in legal, f"{self.what}: it holds {found}, and may hold {legal}"
        self.manifest.add(LATER)
        found[LATER.checksum] = LATER
        if self._again:
            # As the errors advise. What is answered now is acknowledged, "already there" and "not there" included.
            assert self.operation.do is not None
            self.operation.do(self.manifest)
            found = self.after | {LATER.checksum: LATER}
            self.before = self.after
        assert dict(self.manifest.records.items()) == found, f"{self.what}: the next addition is not kept"
        return found

    def _note_power_cut(self, held: Held) -> None:
        """Keep what a power cut would leave now, and what it has to hold; looked at in the end, as that takes a reboot."""
        process = self.machine.current
        assert process is not None
        locks = [d.path for d in process.fds.values() if d.path.endswith(".lock") and holds(d)]
        assert locks == [], f"{self.what}: still locked"
        if not self._unknowable:
            self._cuts.append((least_state(self.machine.disk), dict(held)))

    def _check_power_cuts(self) -> None:
        for state, held in self._cuts:
            found = contents(self.machine, state)
            for key in held.keys() | found.keys():
                legal = [held.get(key)]
                if key not in (LATER.checksum, LATEST.checksum):
                    legal += [self.before.get(key), self.after.get(key)]
                assert found.get(key) in legal, (
                    f"{self.what}: {found.get(key)} after a power cut, and {held.get(key)} before it"
                )

    def _nothing_stays_open(self) -> None:
        process = self.machine.current
        assert process is not None
        if process.fds:
            gc.collect()  # errors and the frames that they came through hold each other
        assert process.fds == {}, f"{self.what}: left open {[d.path for d in process.fds.values()]}"


def fail_each(machine: Machine, disks: dict[str, SimDisk], name: str, fault: Fault, *, sticky: bool) -> int:
    """Let the first call fail, then the second, … until the operation has no more calls; gives how many failed."""
    operation = OPERATIONS[name]
    number = 1
    while True:
        what = f"{name}, {fault.name} at call {number}{' and all behind it' if sticky else ''}"
        try:
            hit = Trial(machine, disks[operation.disk], operation, what).run(fault, number, sticky=sticky)
        except Exception as error:
            error.add_note(what)
            raise
        if not hit:
            return number - 1
        number += 1


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", OPERATIONS)
def test_a_call_that_fails_once_costs_nothing_acknowledged(
    machine: Machine, disks: dict[str, SimDisk], count: Count, name: str, fault: str
) -> None:
    count("failed calls", fail_each(machine, disks, name, FAULTS[fault], sticky=False))


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", OPERATIONS)
def test_calls_that_fail_from_then_on_cost_nothing_acknowledged(
    machine: Machine, disks: dict[str, SimDisk], count: Count, name: str, fault: str
) -> None:
    count("failed calls", fail_each(machine, disks, name, FAULTS[fault], sticky=True))
