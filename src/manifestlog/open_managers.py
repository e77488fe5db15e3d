"""The managers that are open in this process: one a manifest, looked after at fork and exit.

Invariants:

- There is at most one open manager for a manifest, however its location is spelt.
- A manager is closed when every holder has closed it: each opening counts, and each close takes one away.
- The hooks are installed when the first manager opens, never by an import.

This is the one place with state that outlives a call; everything else is reached through a manager.
"""

from __future__ import annotations

import atexit
import os
import threading
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from manifestlog.engines.protocol import Engine


class Closable(Protocol):
    """What the registry asks of a manager."""

    def close(self) -> None: ...


@dataclass(slots=True)
class Entry:
    """An open manager, the engine that it uses, and how many hold it."""

    manager: Closable
    engine: Engine
    holders: int = 1


class OpenManagers:
    """Open managers by the key of their location. Hold `lock` around a look followed by an `add`."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._open: dict[str, Entry] = {}
        self._paused: list[Entry] = []
        self._hooked = False

    def get(self, key: str) -> Entry | None:
        return self._open.get(key)

    def add(self, key: str, entry: Entry) -> None:
        self._open[key] = entry
        if not self._hooked:
            self._hooked = True
            atexit.register(self._close_all)
            os.register_at_fork(
                before=self._before_fork,
                after_in_parent=self._after_fork_in_parent,
                after_in_child=self._after_fork_in_child,
            )

    def release(self, key: str, manager: Closable) -> bool:
        """One holder less; true for the last one, and for a manager that is not open any more."""
        with self.lock:
            entry = self._open.get(key)
            if entry is None or entry.manager is not manager:
                return True
            entry.holders -= 1
            if entry.holders > 0:
                return False
            del self._open[key]
            return True

    def _close_all(self) -> None:
        # A script that ends without close() still leaves a canonical that holds everything.
        for entry in list(self._open.values()):
            entry.holders = 1
            entry.manager.close()

    def _before_fork(self) -> None:
        self.lock.acquire()
        self._paused = []
        for entry in list(self._open.values()):
            entry.engine.before_fork()
            # One by one: what fails here aborts no fork, and only what was halted is let go again.
            self._paused.append(entry)

    def _after_fork_in_parent(self) -> None:
        try:
            with ExitStack() as all_of_them:  # whatever one of them raises
                for entry in self._paused:
                    all_of_them.callback(entry.engine.after_fork_in_parent)
        finally:
            self._paused = []
            self.lock.release()

    def _after_fork_in_child(self) -> None:
        self.lock = threading.RLock()
        for entry in self._paused:
            entry.engine.after_fork_in_child()
            entry.holders = 1  # the child's own; those who held it in the parent are not there to close it
        self._paused = []


open_managers = OpenManagers()
