"""The simulation itself: what a power cut keeps, loses and may leave; crashes, kills, forks, seeds."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Any

import pytest

from manifestlog.files import disk as real_disk, system as real_system
from support.integrity import check_manifest

from .crash import EVERY, crash_states
from .disk import SimDisk
from .kernel import Crash, Killed
from .machine import Machine, simulated
from .scenario import PATH, make_record, new_disk, open_manifest
from .scheduler import Scheduler, StuckError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def machine() -> Iterator[Machine]:
    """A booted machine with the folder `/d`, and a file `/d/f` that holds `old`, all of it certain."""
    with simulated(SimDisk("/d")) as made:
        fd = real_disk.create("/d/f")
        real_disk.append(fd, b"old")
        real_disk.sync_data(fd)
        real_disk.sync_directory("/d")
        real_disk.close(fd)
        yield made


def _states(machine: Machine, **kwargs: Any) -> list[dict[str, bytes]]:
    return [state.files() for state in crash_states(machine.disk, **kwargs)]


# -- what a power cut leaves ----------------------------------------------------------------------------------------------


def test_what_was_synced_is_in_every_state(machine: Machine) -> None:
    assert _states(machine) == [{"/d/f": b"old"}]


def test_an_unsynced_write_is_there_or_lost_or_cut_at_every_byte(machine: Machine) -> None:
    real_disk.append(real_disk.open_append("/d/f"), b"new")
    found = {state["/d/f"] for state in _states(machine, every_bytes=EVERY, fills=False)}
    assert found == {b"old", b"oldn", b"oldne", b"oldnew"}


def test_a_cut_write_may_be_filled_with_nuls_or_garbage(machine: Machine) -> None:
    real_disk.append(real_disk.open_append("/d/f"), b"new")
    found = {state["/d/f"] for state in _states(machine, every_bytes=EVERY)}
    assert {b"old\0\0\0", b"oldn\0\0", b"oldne\0"} < found
    assert len(found) == 4 + 3 + 3


def test_a_later_write_without_the_earlier_leaves_a_hole(machine: Machine) -> None:
    fd = real_disk.open_append("/d/f")
    real_disk.append(fd, b"one")
    real_disk.append(fd, b"two")
    assert b"old\0\0\0two" in {state["/d/f"] for state in _states(machine, fills=False)}


def test_a_synced_file_without_its_name_synced_may_have_no_name(machine: Machine) -> None:
    fd = real_disk.create("/d/g")
    real_disk.append(fd, b"x")
    real_disk.sync_data(fd)
    assert _states(machine) == [{"/d/f": b"old"}, {"/d/f": b"old", "/d/g": b"x"}]


def test_a_synced_name_without_synced_bytes_may_be_empty(machine: Machine) -> None:
    real_disk.append(real_disk.create("/d/g"), b"x")
    real_disk.sync_directory("/d")
    assert {state["/d/g"] for state in _states(machine, fills=False)} == {b"", b"x"}


def test_a_rename_may_be_kept_without_the_data(machine: Machine) -> None:
    real_disk.append(real_disk.create("/d/g"), b"new")
    real_disk.replace("/d/g", "/d/f")
    assert {"/d/f": b""} in _states(machine)


def test_a_rename_of_synced_data_leaves_the_old_or_the_new(machine: Machine) -> None:
    fd = real_disk.create("/d/g")
    real_disk.append(fd, b"new")
    real_disk.sync_data(fd)
    real_disk.sync_directory("/d")
    real_disk.replace("/d/g", "/d/f")
    assert _states(machine) == [{"/d/f": b"old", "/d/g": b"new"}, {"/d/f": b"new"}]


def test_a_removal_may_be_lost_until_the_directory_is_synced(machine: Machine) -> None:
    real_disk.remove("/d/f")
    assert _states(machine) == [{"/d/f": b"old"}, {}]
    real_disk.sync_directory("/d")
    assert _states(machine) == [{}]


def test_changes_of_names_are_lost_independently(machine: Machine) -> None:
    for name in ("/d/a", "/d/b"):
        real_disk.create(name)
    assert {frozenset(state) for state in _states(machine)} == {
        frozenset({"/d/f", *more}) for more in ((), ("/d/a",), ("/d/b",), ("/d/a", "/d/b"))
    }


def test_a_rename_between_directories_is_certain_when_both_are_synced(machine: Machine) -> None:
    real_disk.make_directory("/d/q")
    real_disk.sync_directory("/d")
    real_disk.replace("/d/f", "/d/q/f")
    real_disk.sync_directory("/d/q")
    assert _states(machine) == [{"/d/f": b"old"}, {"/d/q/f": b"old"}]
    real_disk.sync_directory("/d")
    assert _states(machine) == [{"/d/q/f": b"old"}]


def test_after_a_failed_sync_a_later_one_keeps_nothing(machine: Machine) -> None:
    fd = real_disk.open_append("/d/f")
    real_disk.append(fd, b"new")

    def fail(_number: int, name: str, _args: tuple[Any, ...]) -> None:
        if name == "fdatasync":
            raise OSError(errno.EIO, "no")

    machine.before = fail
    with pytest.raises(OSError, match="no"):
        real_disk.sync_data(fd)
    machine.before = None
    real_disk.sync_data(fd)
    assert b"old" in {state["/d/f"] for state in _states(machine)}


def test_beyond_the_limit_states_are_chosen_and_the_same_each_time(machine: Machine) -> None:
    fd = real_disk.open_append("/d/f")
    for number in range(8):
        real_disk.append(fd, b"%d" % number * 20)
    one, other = _states(machine), _states(machine)
    assert one == other
    assert {len(state["/d/f"]) for state in one} >= {3 + 20 * count for count in range(9)}


def test_a_state_can_be_used_without_changing_the_disk_it_came_from(machine: Machine) -> None:
    real_disk.append(real_disk.open_append("/d/f"), b"new")
    origin = machine.disk
    for state in crash_states(origin):
        machine.boot(state)
        real_disk.remove("/d/f")
    assert origin.files() == {"/d/f": b"oldnew"}


def test_a_kill_keeps_what_was_written_and_a_later_power_cut_may_take_it(machine: Machine) -> None:
    real_disk.append(real_disk.open_append("/d/f"), b"new")
    machine.boot(machine.disk.copy())
    assert machine.disk.files() == {"/d/f": b"oldnew"}
    assert {"/d/f": b"old"} in _states(machine)


# -- crashes, kills, faults ------------------------------------------------------------------------------------------------


def _crash_at(name: str) -> Callable[[int, str, tuple[Any, ...]], None]:
    def hook(_number: int, called: str, _args: tuple[Any, ...]) -> None:
        if called == name:
            raise Crash

    return hook


def test_after_a_crash_no_call_changes_anything(machine: Machine) -> None:
    machine.before = _crash_at("unlink")
    try:
        with pytest.raises(Crash):
            real_disk.remove("/d/f")
    finally:
        machine.before = None
        with pytest.raises(Crash):
            real_disk.create("/d/g")
    assert machine.disk.files() == {"/d/f": b"old"}


def test_a_crash_between_link_and_unlink_leaves_both_names(machine: Machine) -> None:
    machine.before = _crash_at("unlink")
    with pytest.raises(Crash):
        real_disk.publish_new("/d/f", "/d/g")
    assert machine.disk.files() == {"/d/f": b"old", "/d/g": b"old"}


def test_a_hook_shortens_a_write_and_the_disk_module_continues(machine: Machine) -> None:
    sizes = []

    def short(_number: int, name: str, args: tuple[Any, ...]) -> int | None:
        if name == "write":
            sizes.append(len(args[1]))
            return 1
        return None

    machine.before = short
    real_disk.append(real_disk.open_append("/d/f"), b"new")
    assert sizes == [3, 2, 1]
    assert machine.disk.files() == {"/d/f": b"oldnew"}


def test_a_killed_process_loses_its_locks_and_the_others_continue(machine: Machine) -> None:
    machine.lock_descriptor(real_disk.open_lock("/d/lock"), blocking=False)
    holder = machine.current
    assert holder is not None
    with machine.running(machine.spawn()):
        fd = real_disk.open_lock("/d/lock")
        assert not machine.lock_descriptor(fd, blocking=False)
        machine.kill(holder)
        assert machine.lock_descriptor(fd, blocking=False)


def test_a_mapped_file_may_not_be_changed(machine: Machine) -> None:
    fd = real_disk.open_append("/d/f")
    real_disk.map_read(fd)
    with pytest.raises(AssertionError, match="mapped"):
        real_disk.append(fd, b"x")


def test_the_kernel_tells_who_holds_a_lock(machine: Machine) -> None:
    machine.lock_descriptor(real_disk.open_lock("/d/lock"), blocking=False)
    assert real_system.lock_holder("/d/lock") == f"process {machine.getpid()} (simulated)"


def test_the_patches_are_gone_afterwards(tmp_path: Path) -> None:
    with simulated(SimDisk("/d")):
        assert real_disk.exists("/d")
    assert real_disk.exists(str(tmp_path))
    assert vars(real_disk)["os"] is os
    assert "open" not in vars(real_disk)


def test_what_the_engine_wrote_is_sound_as_real_files(tmp_path: Path) -> None:
    with simulated(new_disk()) as machine:
        with open_manifest() as manifest:
            manifest.add(make_record(1))
            manifest.compact()
            manifest.add(make_record(2))
        machine.disk.export(tmp_path)
    check_manifest(tmp_path / PATH.strip("/"))


# -- processes -------------------------------------------------------------------------------------------------------------


def _children(machine: Machine, action: Callable[[int], None]) -> bool:
    """Lock `/d/lock`, fork a child that does `action(fd)`; whether a third process then gets the lock."""
    got: list[bool] = []

    def other() -> None:
        got.append(machine.lock_descriptor(real_disk.open_lock("/d/lock"), blocking=False))

    with Scheduler(machine, 0, stay=1.0) as scheduler:

        def parent() -> None:
            fd = real_disk.open_lock("/d/lock")
            machine.lock_descriptor(fd, blocking=False)
            child = scheduler.fork(action, fd)
            while not child.dead:
                scheduler.stay = 0.0
                machine.sleep(1)
            scheduler.start(other)
            while not got:
                machine.sleep(1)

        scheduler.start(parent)
        scheduler.run()
    return got[0]


def test_a_forked_child_that_closes_leaves_the_parents_lock(machine: Machine) -> None:
    assert not _children(machine, real_disk.close)


def test_a_forked_child_that_unlocks_frees_the_parents_lock(machine: Machine) -> None:
    assert _children(machine, machine.unlock_descriptor)


def test_the_same_seed_gives_the_same_run(machine: Machine) -> None:
    def run(seed: int) -> list[int]:
        order: list[int] = []

        def body(number: int) -> None:
            for _ in range(5):
                real_disk.exists("/d/f")
                order.append(number)

        machine.boot(machine.disk)
        with Scheduler(machine, seed) as scheduler:
            for number in range(3):
                scheduler.start(body, number)
            scheduler.run()
        return order

    assert run(1) == run(1)
    assert len({tuple(run(seed)) for seed in range(10)}) > 5


def test_a_run_that_does_not_end_is_reported(machine: Machine) -> None:
    def body() -> None:
        while True:
            real_disk.exists("/d/f")

    with Scheduler(machine, 7, steps_max=100) as scheduler:
        scheduler.start(body)
        with pytest.raises(StuckError, match="no end") as caught:
            scheduler.run()
    assert "seed 7" in caught.value.__notes__[0]


def test_stopped_processes_that_nobody_resumes_are_reported(machine: Machine) -> None:
    with Scheduler(machine, 7) as scheduler:
        scheduler.stop(scheduler.start(real_disk.exists, "/d/f"))
        with pytest.raises(StuckError, match="stopped"):
            scheduler.run()


def test_an_error_of_a_process_is_the_runs_error(machine: Machine) -> None:
    with Scheduler(machine, 7) as scheduler:
        scheduler.start(real_disk.open_read, "/d/none")
        with pytest.raises(FileNotFoundError) as caught:
            scheduler.run()
    assert "open" in caught.value.__notes__[0]


def test_a_process_killed_in_a_hook_ends_alone(machine: Machine) -> None:
    def hook(_number: int, _name: str, _args: tuple[Any, ...]) -> None:
        if machine.current is first:
            raise Killed

    with Scheduler(machine, 3) as scheduler:
        first = scheduler.start(real_disk.exists, "/d/f")
        second = scheduler.start(real_disk.exists, "/d/f")
        machine.before = hook
        scheduler.run()
    assert (first.result, second.result) == (None, True)
