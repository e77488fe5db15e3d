"""The engine runs in the simulation: one process, crashes of one addition, two writers under many seeds, a fork."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from manifestlog import Verdict
from support.records import checksum

from .crash import crash_states
from .disk import SimDisk
from .kernel import Crash
from .machine import simulated
from .scenario import check_files, contents, make_record, new_disk, open_manifest
from .scheduler import Scheduler

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .machine import Machine


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    with simulated() as made:
        yield made


def _disk_with(machine: Machine, *numbers: int) -> SimDisk:
    """A disk with a manifest that holds these records, the last of them in the log only."""
    machine.boot(new_disk())
    with open_manifest() as manifest:
        for number in numbers:
            if number == numbers[-1]:
                manifest.compact()
            manifest.add(make_record(number))
    return machine.disk.copy()


def _numbers(found: dict[str, Any], among: range) -> set[int]:
    assert len(found) == sum(checksum(number) in found for number in among)
    return {number for number in among if checksum(number) in found}


def test_open_add_compact_reopen(machine: Machine) -> None:
    machine.boot(new_disk())
    with open_manifest() as manifest:
        assert manifest.add(make_record(1)).verdict is Verdict.NEW
        manifest.compact()
        manifest.add(make_record(2))
    check_files(machine.disk)
    machine.boot(machine.disk)
    with open_manifest() as manifest:
        assert dict(manifest.records.items()) == {checksum(n): make_record(n) for n in (1, 2)}
    machine.power_off()


def test_the_same_seed_writes_the_same_bytes(machine: Machine) -> None:
    assert _disk_with(machine, 1, 2, 3).files() == _disk_with(machine, 1, 2, 3).files()


def test_a_power_cut_around_every_call_of_an_add_loses_nothing_acknowledged(machine: Machine) -> None:
    """States are taken in the hooks of one run, which costs less than a run for each call."""
    machine.boot(_disk_with(machine, 1, 2))
    states: list[tuple[bool, SimDisk]] = []
    acknowledged = False

    def look(*_: object) -> None:
        states.extend((acknowledged, state) for state in crash_states(machine.disk, every_bytes=400, limit=2000))

    manifest = open_manifest()
    machine.before = machine.after = look
    manifest.add(make_record(3))
    acknowledged = True
    look()
    machine.power_off()
    seen = set()
    for acked, state in states:
        key = (acked, state.digest())
        if key not in seen:
            seen.add(key)
            assert _numbers(contents(machine, state), range(1, 4)) >= ({1, 2, 3} if acked else {1, 2})
    assert len(seen) > 900


def test_a_crash_before_every_call_of_a_compaction_loses_nothing(machine: Machine) -> None:
    base = _disk_with(machine, 1, 2)
    crashes = 0
    while True:
        machine.boot(base.copy())
        manifest = open_manifest()
        last = machine.calls + crashes

        def crash(number: int, _name: str, _args: tuple[Any, ...], last: int = last) -> None:
            if number > last:
                raise Crash

        machine.before = crash
        if machine.attempt(manifest.compact) is not None:
            break
        crashes += 1
        assert _numbers(contents(machine, machine.disk.copy()), range(1, 4)) == {1, 2}
    assert crashes > 50


def test_a_kill_inside_the_write_of_an_add_leaves_a_usable_manifest(machine: Machine) -> None:
    base = _disk_with(machine, 1, 2)
    for count in range(300):
        machine.boot(base.copy())
        manifest = open_manifest()

        def cut(_number: int, name: str, _args: tuple[Any, ...], count: int = count) -> int | None:
            return count if name == "write" else None

        def crash(_number: int, name: str, _args: tuple[Any, ...]) -> None:
            if name == "write":
                raise Crash

        machine.before, machine.after = cut, crash
        with pytest.raises(Crash):
            manifest.add(make_record(3))
        assert _numbers(contents(machine, machine.disk.copy()), range(1, 4)) == {1, 2}


@pytest.mark.parametrize("stay", [0.0, 0.8])
def test_two_writers_of_the_same_contents_agree_on_who_was_first(machine: Machine, stay: float) -> None:
    def writer(source: int) -> list[int]:
        first = []
        with open_manifest() as manifest:
            for number in range(3):
                verdict = manifest.add(make_record(number, source=f"s{source}")).verdict
                if verdict in (Verdict.NEW, Verdict.CHANGED):
                    first.append(number)
                assert checksum(number) in manifest
            if source == 1:
                manifest.compact()
        return first

    for seed in range(100):
        machine.boot(new_disk(), seed)
        with Scheduler(machine, seed, stay=stay) as scheduler:
            one, other = scheduler.start(writer, 1), scheduler.start(writer, 2)
            scheduler.run()
        assert sorted(one.result + other.result) == [0, 1, 2], f"seed {seed}"
        check_files(machine.disk)
        assert _numbers(contents(machine, machine.disk), range(3)) == {0, 1, 2}, f"seed {seed}"


def test_a_writer_killed_at_any_moment_leaves_the_other_to_continue(machine: Machine) -> None:
    def writer(first: int) -> int:
        done = 0
        with open_manifest() as manifest:
            for number in range(first, first + 3):
                manifest.add(make_record(number))
                done += 1
        return done

    def killer() -> None:
        for _ in range(scheduler.random.randrange(120)):
            machine.sleep(0)
        if not victim.dead:
            scheduler.kill(victim)

    for seed in range(60):
        machine.boot(_disk_with(machine, 100), seed)
        with Scheduler(machine, seed) as scheduler:
            victim = scheduler.start(writer, 0)
            scheduler.start(writer, 10)
            scheduler.start(killer)
            scheduler.run()
        assert _numbers(contents(machine, machine.disk), range(101)) >= {10, 11, 12, 100}, f"seed {seed}"


@pytest.mark.parametrize("hooks", [True, False])
def test_a_forked_child_writes_beside_its_parent(machine: Machine, hooks: bool) -> None:
    def child() -> None:
        manifest = open_manifest()
        manifest.add(make_record(2))
        assert checksum(1) in manifest
        manifest.close()

    def parent() -> None:
        with open_manifest() as manifest:
            manifest.add(make_record(1))
            scheduler.fork(child, hooks=hooks)
            manifest.add(make_record(3))
            manifest.compact()

    for seed in range(40):
        machine.boot(new_disk(), seed)
        with Scheduler(machine, seed) as scheduler:
            scheduler.start(parent)
            scheduler.run()
        assert _numbers(contents(machine, machine.disk), range(5)) == {1, 2, 3}, f"seed {seed}"
