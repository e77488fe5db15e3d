"""A crash at every call of a repair, by a kill and by a power cut, and inside of the repair that follows."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from manifestlog import DamagedManifestError
from manifestlog.engines.filelog.recovery.check import check
from manifestlog.engines.filelog.recovery.repair import repair
from manifestlog.engines.reports import RepairOutcome
from manifestlog.names import resolve
from support.records import MANUAL, checksum

from .disk import Inode, SimDisk
from .events import told
from .machine import simulated
from .scenario import PATH, check_files, make_record, new_disk, open_manifest
from .states import examine_each, states_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.counts import Count

    from .machine import Machine
    from .states import State

FORGOTTEN, LOST = 1, 0
TOLD = [checksum(n) for n in (0, 1, 2, FORGOTTEN, 3, 4, 5, 6)]
"""No event is in the damaged lines."""
KEPT = {checksum(n) for n in range(7)} - {checksum(LOST), checksum(FORGOTTEN)}


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    with simulated() as made:
        yield made


def _flip(disk: SimDisk, path: str, text: bytes, place: int) -> None:
    inode = disk.node(path)
    assert isinstance(inode, Inode)
    at = inode.data.index(text) + place
    inode.data = inode.durable = inode.data[:at] + bytes([inode.data[at] ^ 1]) + inode.data[at + 1 :]


def _damaged(machine: Machine) -> SimDisk:
    """A record in the canonical is hit, and a seal; the log goes on behind it."""
    machine.boot(new_disk())
    with open_manifest(replace(MANUAL, segment_bytes_max=900)) as manifest:
        manifest.add_many([make_record(n) for n in range(3)])
        manifest.compact()
        manifest.forget(checksum(FORGOTTEN))
        for number in range(3, 7):
            manifest.add(make_record(number))
    machine.power_off()
    disk = machine.disk.copy()
    disk.settle()
    _flip(disk, PATH, checksum(LOST).encode() + b'": ', 100)
    sealed = next(path for path in _ledger(disk) if b'"op":"seal"' in disk.files()[path])
    _flip(disk, sealed, b'"op":"seal"', 12)
    return disk


def _originals(disk: SimDisk) -> dict[str, bytes]:
    return {path.rpartition("/")[2]: disk.files()[path] for path in _ledger(disk)}


def _ledger(disk: SimDisk) -> list[str]:
    """The canonical and the live segments."""
    return [path for path in disk.files() if path.endswith((".json", ".jsonl")) and "/history/" not in path]


def _set_aside(disk: SimDisk) -> list[tuple[str, bytes]]:
    return [(path.rpartition("/")[2], data) for path, data in disk.files().items() if "/quarantine/" in path]


def _states(machine: Machine, base: SimDisk, *, samples: int, limit: int = 40) -> list[State]:
    """Every distinct state that a crash of a repair of this disk may leave."""
    machine.boot(base.copy())

    def repaired() -> None:
        assert repair(resolve(PATH)).outcome is RepairOutcome.REPAIRED

    found = states_of(machine, repaired, samples=samples, limit=limit)
    machine.power_off()
    return found


def _reads() -> set[str] | None:
    """What a reader finds; None when it is told of damage."""
    try:
        with open_manifest(read_only=True) as manifest:
            return set(manifest)
    except DamagedManifestError:
        return None


def _told() -> list[str]:
    """The contents of the events."""
    with open_manifest(read_only=True) as manifest:
        return [one.checksum for one in told(manifest)]


def _examine(machine: Machine, disk: SimDisk, originals: dict[str, bytes]) -> None:
    """Damaged or repaired, never in between; the next repair ends it, a third one has nothing to do."""
    machine.boot(disk)
    read = _reads()
    assert read in (None, KEPT), f"a reader finds {read}"
    assert check(resolve(PATH)).damaged == (read is None)
    repair(resolve(PATH))
    assert _reads() == KEPT
    assert not check(resolve(PATH)).damaged
    assert _told() == TOLD
    aside = _set_aside(machine.disk)
    missing = [name for name, data in originals.items() if (name, data) not in aside]
    assert missing == [], f"{missing} are not in quarantine as they were"
    check_files(machine.disk)
    before = machine.disk.files()
    assert repair(resolve(PATH)).outcome is RepairOutcome.NOTHING_TO_DO
    assert machine.disk.files() == before, "a third repair changed files"
    machine.boot(machine.disk)
    with open_manifest() as manifest:
        manifest.add(make_record(100))
        manifest.compact()
        assert set(manifest) == KEPT | {checksum(100)}


def _examine_all(machine: Machine, states: list[State], originals: dict[str, bytes]) -> int:
    return examine_each(states, lambda disk: _examine(machine, disk, originals))


def test_a_crash_at_every_call_of_a_repair(machine: Machine, count: Count) -> None:
    base = _damaged(machine)
    states = _states(machine, base, samples=10)
    assert len(states) > 100
    count("crash states", _examine_all(machine, states, _originals(base)))


def _again(machine: Machine, count: Count, base: SimDisk, some: Callable[[list[State]], list[State]]) -> int:
    """Crash the repairs that follow some states of a first crash; gives how many there were."""
    followed = 0
    for text, disk in some(_states(machine, base, samples=2)):
        machine.boot(disk.copy())
        if _reads() is None:
            states = [(f"{text}, then {then}", state) for then, state in _states(machine, disk, samples=0, limit=12)]
            count("crash states", _examine_all(machine, states, _originals(base)))
            followed += 1
    return followed


def test_a_crash_inside_the_repair_that_follows_a_crash(machine: Machine, count: Count) -> None:
    assert _again(machine, count, _damaged(machine), lambda states: states[:: len(states) // 3]) > 1


def test_a_writer_syncs_a_segment_that_a_killed_repair_did_not_sync(machine: Machine, count: Count) -> None:
    """Killed right behind the new segment's name, and a power cut in the repair that goes on."""

    def named(states: list[State]) -> list[State]:
        return [state for state in states if state[0].startswith("kill") and ", link " in state[0]]

    assert _again(machine, count, _damaged(machine), named) == 1


@pytest.mark.slow
@pytest.mark.parametrize("part", range(2))
def test_a_crash_inside_the_repair_that_follows_many_a_crash(machine: Machine, count: Count, part: int) -> None:
    assert _again(machine, count, _damaged(machine), lambda states: states[part::24]) > 5
