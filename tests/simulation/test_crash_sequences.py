"""Every sequence of a few operations, by one process and by two, with a crash at every call of the last one."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest

from manifestlog import Durability
from support.records import MANUAL, QUICK

from .bases import worked_on
from .explore import Scenario, explore
from .machine import simulated
from .world import OPERATIONS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from support.counts import Count

    from .machine import Machine

NAMES = tuple(OPERATIONS)
OPTIONS = {Durability.POWER_CUT: MANUAL, Durability.PROCESS_KILL: QUICK}


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    with simulated() as made:
        yield made


def explore_all(machine: Machine, sequences: Iterable[tuple[str, ...]], durability: Durability) -> int:
    """Every crash of the last operation of each sequence; gives the number of states."""
    base = worked_on(machine)
    return sum(
        explore(
            machine,
            Scenario(
                f"{durability}: {', '.join(names)}",
                base,
                tuple(OPERATIONS[name] for name in names),
                OPTIONS[durability],
            ),
        )
        for names in sequences
    )


SOME_PAIRS = list(itertools.product(NAMES, NAMES))[::5]
"""A fifth of all pairs, in which each operation comes first and second: five and the number of operations share no factor."""
assert all({pair[place] for pair in SOME_PAIRS} == set(NAMES) for place in (0, 1))


@pytest.mark.parametrize("durability", OPTIONS)
@pytest.mark.parametrize("last", NAMES)
def test_a_crash_in_the_last_of_two_operations(
    machine: Machine, count: Count, last: str, durability: Durability
) -> None:
    """Or in the only one."""
    sequences = [(last,), *((first, last) for first in NAMES)]
    count("crash states", explore_all(machine, sequences, durability))


def some_pairs() -> Iterator[object]:
    """Every two operations; `make test` takes a fifth of them, in which each comes first and second."""
    for (at, first), (other, second) in itertools.product(enumerate(NAMES), repeat=2):
        marks = [pytest.mark.slow] if (at + other) % 5 else []
        yield pytest.param(first, second, marks=marks)


@pytest.mark.parametrize(("first", "second"), list(some_pairs()))
def test_a_crash_in_the_last_of_three_operations(machine: Machine, count: Count, first: str, second: str) -> None:
    sequences = itertools.product((first,), (second,), NAMES)
    count("crash states", explore_all(machine, sequences, Durability.POWER_CUT))


@pytest.mark.slow
@pytest.mark.parametrize("first", NAMES)
def test_a_crash_in_the_last_of_three_operations_that_sync_nothing(machine: Machine, count: Count, first: str) -> None:
    """A fifth of all there are: without syncs each has ten times as many states."""
    sequences = [(first, second, third) for second, third in SOME_PAIRS]
    count("crash states", explore_all(machine, sequences, Durability.PROCESS_KILL))


FOUR = [
    # All pairs take forty minutes of two cores.
    *((first, second, Durability.POWER_CUT) for first, second in SOME_PAIRS),
    # Without syncs each has ten times as many states.
    *(("add_many", second, Durability.PROCESS_KILL) for second in NAMES[::3]),
]


@pytest.mark.slow
@pytest.mark.parametrize(("first", "second", "durability"), FOUR)
def test_a_crash_in_the_last_of_four_operations(
    machine: Machine, count: Count, first: str, second: str, durability: Durability
) -> None:
    sequences = itertools.product((first,), (second,), NAMES, NAMES)
    count("crash states", explore_all(machine, sequences, durability))
