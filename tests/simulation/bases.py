"""Disks that crash explorations begin with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .disk import Inode, SimDisk
from .kernel import Crash
from .scenario import DIRECTORY, new_disk
from .world import Base, World, add_many, add_new, bad_run, compact, create_or_open, forget, pack

if TYPE_CHECKING:
    from collections.abc import Callable

    from .machine import Machine


def nothing(_machine: Machine) -> Base:
    """Not even the directory."""
    return Base(SimDisk(), {})


def empty(_machine: Machine) -> Base:
    """The directory, and no manifest in it."""
    return Base(new_disk(), {})


def _after(machine: Machine, *operations: Callable[[World], None]) -> Base:
    """What these leave, all of it certain."""
    world = World(machine, Base(new_disk(), {}))
    for operation in operations:
        operation(world)
    machine.power_off()
    disk = machine.disk.copy()
    disk.settle()
    return Base(disk, world.records)


def created(machine: Machine) -> Base:
    """A manifest without records and log."""
    return _after(machine, create_or_open)


def worked_on(machine: Machine) -> Base:
    """A record in the canonical and one in the log."""
    return _after(machine, create_or_open, add_new, compact, add_new)


def after_a_bad_run(machine: Machine) -> Base:
    """The same, and then a run that has forgotten one, refreshed one and added two."""
    return _after(machine, create_or_open, add_new, compact, add_new, bad_run)


def torn(machine: Machine) -> Base:
    """The same with a torn tail behind it."""
    base = worked_on(machine)
    (segment,) = [path for path in base.disk.files() if ".wal-" in path and "/history/" not in path]
    inode = base.disk.node(segment)
    assert isinstance(inode, Inode)
    base.disk.write(inode, len(inode.data), b'{"op":"put","ts":"20')
    base.disk.settle()
    return base


def left_over(machine: Machine) -> Base:
    """The same with unfinished files of writers that are dead."""
    base = worked_on(machine)
    fresh = base.disk
    for number, kind in enumerate(("json", "idx", "wal-000007.jsonl")):
        inode = fresh.new_inode(0o644)
        fresh.rename_entries((*fresh.place(f"{DIRECTORY}/systems_download.manifest.{kind}.tmp-99-{number}"), inode))
        fresh.write(inode, 0, b"unfinished")
    fresh.settle()
    return base


def half_compacted(machine: Machine) -> Base:
    """A compaction that was killed behind its rename."""
    base = worked_on(machine)
    world = World(machine, base)
    create_or_open(world)

    def stop(_number: int, name: str, args: tuple[object, ...]) -> None:
        if name == "rename" and str(args[1]).endswith(".json"):
            raise Crash

    machine.after = stop
    assert machine.attempt(world.open().compact) is None
    disk = machine.disk.copy()
    disk.settle()
    return Base(disk, base.records)


def packed(machine: Machine) -> Base:
    """A pack of two segments in the history, a segment behind it, a record in the log."""
    return _after(machine, create_or_open, add_new, compact, forget, compact, pack, add_new, compact, add_new)


def half_packed(machine: Machine) -> Base:
    """A compaction that was killed behind the rename of its pack: the segments that it holds are there as well."""
    base = _after(machine, create_or_open, add_new, compact, add_many, compact, add_new)
    world = World(machine, base)
    create_or_open(world)

    def stop(_number: int, name: str, args: tuple[object, ...]) -> None:
        if name == "rename" and str(args[1]).endswith(".zst"):
            raise Crash

    machine.after = stop
    assert machine.attempt(lambda: pack(world)) is None
    disk = machine.disk.copy()
    disk.settle()
    return Base(disk, base.records)


def left_behind(machine: Machine) -> Base:
    """The history of a manifest whose other files were deleted."""
    base = _after(machine, create_or_open, add_new, compact)
    for path in base.disk.files():
        if "/history/" not in path:
            directory, name = base.disk.place(path)
            base.disk.rename_entries((directory, name, None))
    base.disk.settle()
    return Base(base.disk, {})


def without_index(machine: Machine) -> Base:
    """The index was deleted."""
    base = worked_on(machine)
    directory, name = base.disk.place(f"{DIRECTORY}/systems_download.manifest.idx")
    base.disk.rename_entries((directory, name, None))
    base.disk.settle()
    return base
