"""One of two processes is killed before each of its calls; the other one, which had the manifest open, goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from manifestlog import Verdict

from .bases import worked_on
from .explore import no_damage, read_all
from .kernel import Crash, Killed
from .machine import simulated
from .scenario import check_files, make_record, open_manifest
from .world import OPERATIONS, Base, World, create_or_open

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.counts import Count

    from .machine import Machine

NAMES = tuple(OPERATIONS)
EXTRA = make_record(999_983)


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    with simulated() as made:
        yield made


def _run(machine: Machine, base: Base, names: tuple[str, ...], calls: int) -> bool:
    """Kill whoever does the last operation after so many calls of it, and go on with the other; false when it ended first."""
    world = World(machine, base)
    create_or_open(world)
    with world.elsewhere() as other:
        len(other)
    *prefix, last = names
    for name in prefix:
        OPERATIONS[name](world)
    limit = machine.calls + calls

    def kill(number: int, _name: str, _args: tuple[Any, ...]) -> None:
        if number > limit:
            raise Killed

    machine.before = kill
    try:
        OPERATIONS[last](world)
    except Crash:
        machine.before = None
    else:
        return False
    (survivor,) = [process for process in machine.processes if not process.dead]
    with machine.running(survivor):
        manifest = open_manifest(world.options)
        found = read_all(manifest)
        assert found in (world.records, world.intended), "another content than before or after the killed operation"
        assert manifest.add(EXTRA).verdict is Verdict.NEW
        manifest.compact()
        expected = found | {EXTRA.checksum: EXTRA}
        assert read_all(manifest) == expected
        check_files(machine.disk, compacted=True)
        no_damage()
    machine.boot(machine.disk)
    assert read_all(open_manifest()) == expected
    return True


def _kill_everywhere(machine: Machine, names: tuple[str, ...]) -> int:
    base = worked_on(machine)
    calls = 0
    while True:
        try:
            if not _run(machine, base, names, calls):
                return calls
        except Exception as error:
            raise AssertionError(f"{', '.join(names)}: killed after {calls} calls: {error}") from error
        calls += 1


@pytest.mark.parametrize("name", NAMES)
def test_the_other_process_continues(machine: Machine, count: Count, name: str) -> None:
    count("crash states", _kill_everywhere(machine, (name,)))


@pytest.mark.slow
@pytest.mark.parametrize("first", NAMES)
@pytest.mark.parametrize("name", NAMES)
def test_the_other_process_continues_after_another_operation(
    machine: Machine, count: Count, name: str, first: str
) -> None:
    count("crash states", _kill_everywhere(machine, (first, name)))
