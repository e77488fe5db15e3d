"""A crash at every call of a repair of the history: the records never notice, and what was intact is told in the end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from manifestlog.engines.filelog.recovery.check import check
from manifestlog.engines.filelog.recovery.repair import repair
from manifestlog.engines.reports import RepairOutcome
from manifestlog.names import resolve
from support.records import checksum

from .events import told
from .machine import simulated
from .scenario import PATH, make_record, new_disk, open_manifest
from .states import examine_each
from .test_crash_repair import _flip, _set_aside, _states
from .world import pack_history

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.counts import Count

    from .disk import SimDisk
    from .machine import Machine

IN_PACK = range(2)
LOST = 2
ALL = [checksum(n) for n in range(6)]


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    with simulated() as made:
        yield made


def _damaged(machine: Machine) -> tuple[SimDisk, dict[str, bytes]]:
    """The footer of a pack is hit, a line of a kept segment, and a whole one is missing; the damaged files by their names."""
    machine.boot(new_disk())
    with open_manifest() as manifest:
        for number in range(6):
            manifest.add(make_record(number))
            if number < 5:
                manifest.compact()
            if number == 1:
                pack_history(manifest)
    machine.power_off()
    disk = machine.disk.copy()
    disk.settle()
    history = [path for path in disk.files() if "/history/" in path]
    pack, hit, gone, _ = sorted(history)
    _flip(disk, pack, b"MLPACK01", 2)
    _flip(disk, hit, b'"op":"put"', 60)
    disk.rename_entries((*disk.place(gone), None))
    disk.settle()
    return disk, {path.rpartition("/")[2]: disk.files()[path] for path in (pack, hit)}


def _examine(machine: Machine, disk: SimDisk, originals: dict[str, bytes]) -> None:
    machine.boot(disk)
    with open_manifest(read_only=True) as manifest:
        assert sorted(manifest) == sorted(ALL)
    repair(resolve(PATH))
    assert not check(resolve(PATH)).damaged
    with open_manifest(read_only=True) as manifest:
        assert [one.checksum for one in told(manifest)] == [c for n, c in enumerate(ALL) if n not in (LOST, LOST + 1)]
    aside = _set_aside(machine.disk)
    missing = [name for name, data in originals.items() if (name, data) not in aside]
    assert missing == [], f"{missing} are not in quarantine as they were"
    before = machine.disk.files()
    assert repair(resolve(PATH)).outcome is RepairOutcome.NOTHING_TO_DO
    assert machine.disk.files() == before, "a third repair changed files"
    machine.boot(machine.disk)
    with open_manifest() as manifest:
        manifest.add(make_record(100))
        manifest.compact()
        pack_history(manifest)
        assert len(told(manifest)) == len(ALL) - 1
    assert not check(resolve(PATH)).damaged
    assert [path for path in machine.disk.files() if ".tmp-" in path] == []


def test_a_crash_at_every_call_of_a_repair_of_the_history(machine: Machine, count: Count) -> None:
    base, originals = _damaged(machine)
    states = _states(machine, base, samples=10)
    assert len(states) > 20
    count("crash states", examine_each(states, lambda disk: _examine(machine, disk, originals)))
