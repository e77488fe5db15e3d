"""Disks that crash explorations begin with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .disk import SimDisk
from .scenario import new_disk
from .world import Base, World, add_new, compact, create_or_open

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
    world = World(machine, empty(machine))
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


def torn(machine: Machine) -> Base:
    """The same with a torn tail behind it."""
    base = worked_on(machine)
    (segment,) = [path for path in base.disk.files() if ".wal-" in path]
    inode = base.disk.node(segment)
    base.disk.write(inode, len(base.disk.files()[segment]), b'{"op":"put","ts":"20')  # type: ignore[arg-type]  # a file
    base.disk.settle()
    return base
