"""An undo, crashed at each of its calls, and stopped at each of them while others write."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from manifestlog import DownloadManifestManager, EventKind, LockTimeoutError, UndoConflictError
from manifestlog.model.events import Event, Query
from support.engines import engine_of
from support.records import MANUAL

from . import bases, world
from .explore import CrashState, Scenario, crashes, examine
from .machine import simulated
from .scenario import PATH, make_record, open_manifest
from .test_history_schedules import at_each_call

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from manifestlog.model.rows import Row
    from support.counts import Count

    from .machine import Machine
    from .world import Records

HASTY = replace(MANUAL, lock_timeout_s=0.002)
"""Who waits for a process that is stopped gives up soon."""


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    with simulated() as made:
        yield made


# -- crashes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("run", [world.bad_run, world.moving_run])
def test_a_crash_at_every_call_of_an_undo(machine: Machine, count: Count, run: Callable[[world.World], None]) -> None:
    """All records are back or none, and the root not before them; the same undo then completes it."""
    count("crash states", crash_at_each_call(machine, run))


def crash_at_each_call(machine: Machine, run: Callable[[world.World], None]) -> int:
    base = bases.worked_on(machine)
    steps = (world.create_or_open, run, world.undo_run)
    scenario = Scenario(f"undo of {run.__name__}", base, steps, limit=200, samples=10, full_every=12, opened=False)
    states = crashes(machine, scenario)
    for state in states:
        _check_state(machine, state, base.records)
        examine(machine, state.disk, state.allowed, fully=state.fully)
    return len(states)


def _check_state(machine: Machine, state: CrashState, before_run: Records) -> None:
    where = f"{state.cut} after call {state.call} ({state.after})"
    machine.boot(state.disk.copy())
    with open_manifest(read_only=True) as manifest:
        is_back = dict(manifest.records.items()) == before_run
        assert is_back or not _root_is_back(manifest), f"{where}: the root is back, and its records are not"
        _check_runs(list(manifest.history()))
    machine.boot(state.disk.copy())
    manifest = DownloadManifestManager(PATH, options=MANUAL)
    run = world.run_of(manifest)
    manifest.undo(run=run)
    assert dict(manifest.records.items()) == before_run, f"{where}: the next undo does not complete it"
    assert str(manifest.metadata.root_dir) == world.ROOT, where
    assert manifest.undo(run=run).run is None, f"{where}: there is something left to undo"
    machine.power_off()


def _root_is_back(manifest: DownloadManifestManager) -> bool:
    """Whether an undo has written the root; the run may not have moved it at all."""
    return any(event.kind is EventKind.META and event.details.get("undoes") for event in manifest.history())


def _check_runs(events: list[Event]) -> None:
    """Whatever an undo has written lies between its begin and its end."""
    open_runs: set[str | None] = {None}
    for event in events:
        if event.kind is EventKind.BEGUN:
            open_runs.add(event.run)
        assert event.run in open_runs, f"{event.kind} at {event.cursor} is outside of its run"
        assert event.run or "undoes" not in event.details, f"{event.kind} at {event.cursor} is of no run"
        if event.kind is EventKind.ENDED:
            open_runs.discard(event.run)


# -- others ------------------------------------------------------------------------------------------------------------


def refreshes() -> None:
    """Another process has newer news of a content that the run has added."""
    with open_manifest(HASTY) as manifest, suppress(LockTimeoutError):
        last = list(manifest.history(run=world.run_of(manifest), kinds=["put"]))[-1]
        assert last.checksum is not None
        record = manifest.get(last.checksum)
        if record is not None:
            manifest.add(record.model_copy(update={"etag": '"newer"'}))


def goes_on() -> None:
    """Another process of the same run adds one more record."""
    with open_manifest(HASTY) as manifest, suppress(LockTimeoutError), manifest.join_run(world.run_of(manifest)):
        manifest.add(make_record(77))


@pytest.mark.parametrize("elsewhere", [refreshes, goes_on])
def test_an_undo_takes_into_account_what_others_write_until_it_is_written(
    machine: Machine, count: Count, elsewhere: Callable[[], None]
) -> None:
    count("schedules", undo_at_each_call(machine, elsewhere))


def undo_at_each_call(machine: Machine, elsewhere: Callable[[], None]) -> int:
    return at_each_call(machine, bases.after_a_bad_run(machine), _undo_and_judge, elsewhere)


def _undo_and_judge() -> None:
    manifest = open_manifest(MANUAL)
    run = world.run_of(manifest)
    refused = False
    try:
        manifest.undo(run=run)
    except UndoConflictError:
        refused = True
    _judge(list(engine_of(manifest).events(Query())), run, refused=refused)


def _judge(events: list[Event], run: str, *, refused: bool) -> None:
    """The undo has put back what was before the run, and has lost nothing that came later; or it was refused for that."""
    begin = next(number for number, event in enumerate(events) if event.run == run)
    undone = [number for number, event in enumerate(events) if event.kind is EventKind.UNDO]
    first, last = (undone[0], undone[-1]) if undone else (len(events), len(events))
    touched = {event.checksum for event in events[begin:first] if event.run == run and event.checksum}
    later = [event for event in events[begin:first] if event.run != run and event.checksum in touched]
    if refused:
        assert later, "it was refused, but nothing was changed again"
        assert undone == [], "it was refused, and has written all the same"
        return
    assert later == [], f"it has lost what {later} wrote"
    before, after = _rows(events[:begin]), _rows(events[: last + 1])
    assert {c: after.get(c) for c in touched} == {c: before.get(c) for c in touched}


def _rows(events: list[Event]) -> dict[str, Row | None]:
    found: dict[str, Any] = {}
    for event in events:
        if event.checksum is not None:
            found[event.checksum] = event.row
    return found
