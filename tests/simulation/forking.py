"""A fork of a simulated process: descriptors that share their descriptions, and copies of its open managers.

What is copied is what a fork copies of a manager: store, session, both locks, state, log, current segment, base and canonical,
each one level deep, so that the child's `drop_inherited` closes its own descriptors and leaves the parent's objects alone.
Overlay and index are shared, for the child drops them unread. It happens between two operations of the process or at any
call of another thread of it (in real life the registry's hook waits for the end of an operation; `hooks=False` does not).
"""

from __future__ import annotations

import copy
import dataclasses
from typing import TYPE_CHECKING, Any

from manifestlog.engines.filelog.compaction.background import Background
from manifestlog.engines.filelog.view import View
from manifestlog.open_managers import Entry

if TYPE_CHECKING:
    from manifestlog.engines.filelog.lock import TwoLevelLock

    from .kernel import Process
    from .machine import Machine


def fork(machine: Machine, parent: Process) -> Process:
    """The child of `parent`: not running, its managers untouched as after a fork without hooks."""
    child = machine.spawn()
    child.fds = parent.fds.copy()
    for description in child.fds.values():
        description.users += 1
    child.registry._open = {key: _copy(entry) for key, entry in parent.registry._open.items()}
    return child


def run_hooks(child: Process) -> None:
    """What the registry does in a forked child; called in the child."""
    for entry in child.registry._open.values():
        entry.engine.after_fork_in_child()


def _copy_lock(lock: TwoLevelLock) -> TwoLevelLock:
    made = copy.copy(lock)
    made.file = copy.copy(lock.file)
    return made


def _copy(entry: Entry) -> Entry:
    manager: Any = entry.manager
    made = object.__new__(type(manager))
    made.__dict__.update(manager.__dict__)
    made._engine = engine = copy.copy(manager._engine)
    engine.session = session = copy.copy(engine.session)
    session._append_lock = _copy_lock(session._append_lock)
    session._compact_lock = _copy_lock(session._compact_lock)
    if not session.closed:
        session._state = state = copy.copy(session._state)
        if state.wal is not None:
            state.wal = copy.copy(state.wal)
            state.wal.current = copy.copy(state.wal.current)
        state.base = dataclasses.replace(state.base, canonical=copy.copy(state.base.canonical))
        state.view = View(state.base, (state.overlay,))
    engine.background = Background(session)
    return Entry(made, engine, entry.holders)
