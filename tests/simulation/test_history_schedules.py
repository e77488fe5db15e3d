"""A reader and a follower of the history, stopped at each of their calls while others write, move, pack and cut it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from manifestlog import HistoryReachError
from manifestlog.model.events import Event, Query
from support.engines import engine_of
from support.records import MANUAL

from . import bases
from .events import check_followers, told
from .machine import simulated
from .scenario import make_record, open_manifest
from .world import pack_history

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.counts import Count

    from .machine import Machine
    from .world import Base

Judge = "Callable[[list[Event], list[Event]], None]"


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    with simulated() as made:
        yield made


def writes_and_packs() -> None:
    """Another process: two more events, one before a compaction that moves and packs, one behind it."""
    with open_manifest(MANUAL) as manifest:
        manifest.add(make_record(77))
        manifest.compact()
        pack_history(manifest)
        manifest.add(make_record(78))


def cuts() -> None:
    with open_manifest(MANUAL) as manifest:
        manifest.compact()
        pack_history(manifest, "off")


def at_each_call(machine: Machine, base: Base, body: Callable[[], None], elsewhere: Callable[[], None]) -> int:
    """Run `body` in a process of its own, once for each of its calls, before which `elsewhere` happens."""
    number, reached = 0, True
    while reached:
        number, reached = number + 1, False
        machine.boot(base.disk.copy())
        process = machine.spawn()
        calls = 0

        def stop(_number: int, _name: str, _args: tuple[Any, ...], process: Any = process, at: int = number) -> None:
            nonlocal calls, reached
            if machine.current is not process:
                return
            calls += 1
            if calls == at:
                reached = True
                with machine.running(machine.spawn()):
                    elsewhere()

        machine.before = stop
        with machine.running(process):
            body()
        machine.before = None
        machine.power_off()
    return number


def _check_new(found: list[Event]) -> None:
    """These are the first of the events that the other process adds."""
    assert [event.checksum for event in found] == [make_record(n).checksum for n in (77, 78)][: len(found)]


def _all(machine: Machine, base: Base) -> list[Event]:
    machine.boot(base.disk.copy())
    found = list(engine_of(open_manifest(MANUAL)).events(Query()))
    machine.power_off()
    return found


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("make", [bases.worked_on, bases.packed, bases.half_packed])
def test_a_reader_sees_every_event_once_while_the_history_is_moved_and_packed(
    machine: Machine, count: Count, make: Callable[[Machine], Base], *, reverse: bool
) -> None:
    base = make(machine)
    count("schedules", read_at_each_call(machine, base, reverse=reverse))


def read_at_each_call(machine: Machine, base: Base, *, reverse: bool = False) -> int:
    before = _all(machine, base)

    def body() -> None:
        engine = engine_of(open_manifest(MANUAL))
        found = list(engine.events(Query(reverse=reverse)))
        found = found[::-1] if reverse else found
        assert found[: len(before)] == before
        _check_new(found[len(before) :])

    return at_each_call(machine, base, body, writes_and_packs)


def test_a_follower_gets_every_event_once_while_the_history_is_moved_and_packed(machine: Machine, count: Count) -> None:
    """It asks three times, each time from the cursor of what it got last."""
    base = bases.packed(machine)
    before = _all(machine, base)

    def body() -> None:
        engine = engine_of(open_manifest(MANUAL))
        cursor = before[1].cursor
        got = before[:2]
        for _ in range(3):
            new = list(engine.events_after(cursor))
            got += new
            cursor = new[-1].cursor if new else cursor
        assert got[: len(before)] == before
        _check_new(got[len(before) :])

    count("schedules", at_each_call(machine, base, body, writes_and_packs))


def test_a_follower_is_told_when_events_that_it_has_not_seen_are_cut(machine: Machine, count: Count) -> None:
    """It gets all of them or an error, never some."""
    base = bases.packed(machine)
    before = _all(machine, base)

    def body() -> None:
        engine = engine_of(open_manifest(MANUAL))
        try:
            found = list(engine.events_after(before[0].cursor))
        except HistoryReachError:
            return
        assert found == before[1:]

    count("schedules", at_each_call(machine, base, body, cuts))


def test_every_cursor_of_every_base_leads_on(machine: Machine) -> None:
    for make in (bases.worked_on, bases.torn, bases.half_compacted, bases.packed, bases.half_packed):
        machine.boot(make(machine).disk.copy())
        manifest = open_manifest(MANUAL)
        told(manifest)
        check_followers(manifest)
        machine.power_off()
