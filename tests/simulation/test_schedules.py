"""Many processes under a seeded scheduler that switches at every call: each seed is one run, judged by `checker`.

A failure names its schedule; `play(machine, number, begin)` is that run again, call by call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from .machine import simulated
from .schedules import Start, play, starts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.counts import Count

    from .machine import Machine

EACH = 250
"""Schedules of one test."""
SLOW_EACH = 4_000


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    with simulated() as made:
        yield made


@pytest.fixture(scope="module")
def begin(machine: Machine) -> list[Start]:
    return starts(machine)


def _play_all(machine: Machine, begin: list[Start], seeds: range, count: Count, *, cut: bool) -> None:
    for seed in seeds:
        play(machine, seed, begin, cut=cut)
    count("schedules", len(seeds))


@pytest.mark.parametrize("part", range(5))
def test_every_answer_fits_one_order_of_everything(
    machine: Machine, begin: list[Start], count: Count, part: int
) -> None:
    """Writers, readers, compactors and forked children, some of them stopped or killed, writes and reads cut short."""
    _play_all(machine, begin, range(part * EACH, (part + 1) * EACH), count, cut=False)


@pytest.mark.parametrize("part", range(2))
def test_a_power_cut_in_the_middle_of_a_schedule_takes_nothing_acknowledged(
    machine: Machine, begin: list[Start], count: Count, part: int
) -> None:
    """Three states of the disk for each, chosen by dice."""
    _play_all(machine, begin, range(part * EACH, (part + 1) * EACH), count, cut=True)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(15))
def test_every_answer_fits_one_order_of_everything_in_many_more_schedules(
    machine: Machine, begin: list[Start], count: Count, part: int
) -> None:
    first = 1_000_000 + part * SLOW_EACH
    _play_all(machine, begin, range(first, first + SLOW_EACH), count, cut=False)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(5))
def test_a_power_cut_takes_nothing_acknowledged_in_many_more_schedules(
    machine: Machine, begin: list[Start], count: Count, part: int
) -> None:
    first = 1_000_000 + part * SLOW_EACH
    _play_all(machine, begin, range(first, first + SLOW_EACH), count, cut=True)


def test_a_schedule_is_the_same_run_every_time(machine: Machine, begin: list[Start]) -> None:
    """What a failure's number is worth."""

    def ending(seed: int) -> tuple[int, dict[str, bytes]]:
        play(machine, seed, begin)
        return machine.calls, machine.disk.files()

    for seed in range(20):
        assert ending(seed) == ending(seed)
