"""A crash at every call of each operation, every short write cut at every byte, and crashes inside of what follows the crash."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from manifestlog import Durability
from support.records import MANUAL

from . import bases, world
from .crash import EVERY, FEW
from .explore import Scenario, crashes, examine, explore, recoveries
from .machine import simulated
from .world import CLOSING_COMPACTS, ROTATING, Base, World

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.counts import Count

    from .machine import Machine

Steps = tuple["Callable[[World], None]", ...]

OPERATIONS: dict[str, tuple[Callable[[Machine], Base], Steps]] = {
    "create, with its folder": (bases.nothing, (world.create_or_open,)),
    "create": (bases.empty, (world.create_or_open,)),
    "create beside an old history": (bases.left_behind, (world.create_or_open,)),
    "open": (bases.worked_on, (world.create_or_open,)),
    "open with newer code": (bases.worked_on, (world.newer_version,)),
    "the first addition": (bases.created, (world.create_or_open, world.add_new)),
    "add": (bases.worked_on, (world.create_or_open, world.add_new)),
    "add after additions": (bases.worked_on, (world.create_or_open, world.add_new, world.add_new, world.add_new)),
    "add_many": (bases.worked_on, (world.create_or_open, world.add_many)),
    "add what is there": (bases.worked_on, (world.create_or_open, world.add_same)),
    "replay": (bases.worked_on, (world.create_or_open, world.replay)),
    "update": (bases.worked_on, (world.create_or_open, world.update)),
    "forget": (bases.worked_on, (world.create_or_open, world.forget)),
    "rotate": (bases.worked_on, (world.create_or_open, world.add_new, world.rotate)),
    "compact": (bases.worked_on, (world.create_or_open, world.add_new, world.compact)),
    "the first compaction": (bases.created, (world.create_or_open, world.add_many, world.compact)),
    "compact to nothing": (bases.worked_on, (world.create_or_open, world.forget, world.forget, world.compact)),
    "compact with nothing to merge": (bases.worked_on, (world.create_or_open, world.compact, world.compact)),
    "refresh": (bases.worked_on, (world.create_or_open, world.add_new, world.refresh_elsewhere)),
    "fence of a torn tail": (bases.torn, (world.create_or_open, world.add_new)),
    "compact over a torn tail": (bases.torn, (world.create_or_open, world.compact)),
    "sweep of leftovers": (bases.left_over, (world.create_or_open, world.compact)),
    "finish of a compaction": (bases.half_compacted, (world.create_or_open, world.compact)),
    "compact after a lost index": (bases.without_index, (world.create_or_open, world.compact)),
    "pack": (bases.worked_on, (world.create_or_open, world.add_many, world.compact, world.pack)),
    "pack once more": (bases.packed, (world.create_or_open, world.forget, world.compact, world.pack)),
    "compact over a pack": (bases.packed, (world.create_or_open, world.update, world.compact)),
    "finish of a packing": (bases.half_packed, (world.create_or_open, world.pack)),
    "compact after half a packing": (bases.half_packed, (world.create_or_open, world.compact)),
    "cut": (bases.packed, (world.create_or_open, world.compact, world.cut)),
    "close": (bases.worked_on, (world.create_or_open, world.add_new, world.close)),
}
"""What is crashed is the last step; the ones before it are done."""


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    with simulated() as made:
        yield made


def scenario(machine: Machine, name: str, durability: Durability, every_bytes: int = EVERY) -> Scenario:
    """One of `OPERATIONS`."""
    make, steps = OPERATIONS[name]
    options = CLOSING_COMPACTS if name == "close" else MANUAL
    return Scenario(
        f"{name}, {durability}",
        make(machine),
        steps,
        replace(options, durability=durability),
        every_bytes=every_bytes,
        limit=1500,
        samples=40,
        full_every=12,
        opened=False,
    )


BOTH = (Durability.POWER_CUT, Durability.PROCESS_KILL)


@pytest.mark.parametrize("durability", BOTH)
@pytest.mark.parametrize("name", OPERATIONS)
def test_a_crash_at_every_call(machine: Machine, count: Count, name: str, durability: Durability) -> None:
    count("crash states", explore(machine, scenario(machine, name, durability, FEW)))


@pytest.mark.parametrize("name", ["create", "add", "add_many", "update", "forget", "rotate", "fence of a torn tail"])
def test_a_crash_at_every_byte(machine: Machine, count: Count, name: str) -> None:
    count("crash states", explore(machine, scenario(machine, name, Durability.POWER_CUT)))


@pytest.mark.slow
@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("durability", BOTH)
def test_a_crash_at_every_byte_of_anything(machine: Machine, count: Count, name: str, durability: Durability) -> None:
    count("crash states", explore(machine, scenario(machine, name, durability)))


@pytest.mark.parametrize("durability", BOTH)
def test_a_crash_at_every_call_of_a_rotation_by_size(machine: Machine, count: Count, durability: Durability) -> None:
    """The addition that does not fit seals, starts the next segment, and lands there."""
    steps = (world.create_or_open, world.compact, *[world.add_new] * 3)
    options = replace(ROTATING, durability=durability)
    found = Scenario(f"rotate by size, {durability}", bases.worked_on(machine), steps, options, limit=300, opened=False)
    states = crashes(machine, found)
    assert any("link" in state.after for state in states), "it did not rotate"
    for state in states:
        examine(machine, state.disk, state.allowed, options, fully=state.fully)
    count("crash states", len(states))


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_crash_inside_what_follows_a_crash(machine: Machine, count: Count, name: str) -> None:
    """Opening, first addition and compaction are crashed in turn, for a sample of the states that the crash has left."""
    first = scenario(machine, name, Durability.POWER_CUT, FEW)
    found = recoveries(machine, first, world.go_on, sample=2)
    count("crash states", sum(explore(machine, second) for second in found))


MAKERS = {
    "create, with its folder": world.create_and_add,
    "create": world.create_and_add,
    "create beside an old history": world.go_on,
    "the first addition": world.create_and_add,
    "replay": world.create_and_add,
    "rotate": world.create_and_add,
    "compact": world.create_and_add,
    "pack": world.compact_again,
}
"""What gives something a name, and who relies on it next."""


@pytest.mark.parametrize("name", MAKERS)
def test_a_writer_syncs_a_name_that_its_killed_creator_did_not_sync(machine: Machine, count: Count, name: str) -> None:
    """A folder, a canonical, a segment, a pack: killed behind each call that names one, and a power cut in what another does."""
    first = scenario(machine, name, Durability.POWER_CUT, FEW)
    named = recoveries(
        machine,
        first,
        MAKERS[name],
        sample=1000,
        where=lambda state: state.cut == "kill" and state.after.startswith(("mkdir", "link", "rename", "unlink")),
    )
    count("crash states", sum(explore(machine, second) for second in named))


@pytest.mark.slow
@pytest.mark.parametrize("name", OPERATIONS)
def test_a_crash_inside_what_follows_any_crash(machine: Machine, count: Count, name: str) -> None:
    """The same for many more states."""
    first = scenario(machine, name, Durability.POWER_CUT, FEW)
    found = recoveries(machine, first, world.go_on, sample=60)
    count("crash states", sum(explore(machine, second) for second in found))
