"""The disks that a crash may leave, at each call of something that writes, and what is said of one that is not right."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .crash import crash_states

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .disk import SimDisk
    from .machine import Machine

    State = tuple[str, SimDisk]

CHANGING = frozenset({"open", "write", "link", "unlink", "rename", "mkdir", "fsync", "fdatasync"})


def states_of(machine: Machine, act: Callable[[], object], *, samples: int, limit: int = 16) -> list[State]:
    """Every distinct state that a crash of `act` may leave, by a kill and by a power cut."""
    found: dict[bytes, State] = {}

    def look(number: int, name: str, args: tuple[Any, ...]) -> None:
        if name in CHANGING:
            text = f"call {number}, {name} {machine.describe(args)}"
            disks = [("kill", machine.disk.copy())]
            disks += [("power cut", disk) for disk in crash_states(machine.disk, limit=limit, samples=samples)]
            for cut, disk in disks:
                found.setdefault(disk.digest(), (f"{cut} after {text}", disk))

    machine.after = look
    act()
    machine.after = None
    return list(found.values())


def examine_each(states: Sequence[State], examine: Callable[[SimDisk], object]) -> int:
    """Examine each of these states; return how many they are. A failure says which state it was, and has its files."""
    for text, disk in states:
        kept = disk.copy()
        try:
            examine(disk)
        except Exception as error:
            raise AssertionError(f"{text}: {type(error).__name__}: {error}\n{sorted(kept.files())}") from error
    return len(states)
