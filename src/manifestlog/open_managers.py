"""Tracks the open managers of this process: one per manifest, handled at fork and at exit.

Invariants:

- A manifest has at most one open manager, even if its location is written in different ways.
- A manager closes when every holder has closed it: each opening adds a holder, each close removes one.
- The first opening installs the hooks; an import never does.

Only this module has global state. All other state belongs to a manager.
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
    """The part of a manager that this module uses."""

    def close(self) -> None: ...


@dataclass(slots=True)
class Entry:
    """An open manager, its engine, and its number of holders."""

    manager: Closable
    engine: Engine
    holders: int = 1


class OpenManagers:
    """Open managers by the key of their location. Hold `lock` around a `get` that an `add` follows."""

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
        """Remove one holder. Return whether it was the last one, or the manager is no longer open."""
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
        # A script that ends without close() still merges everything into the canonical file.
        for entry in list(self._open.values()):
            entry.holders = 1
            entry.manager.close()

    def _before_fork(self) -> None:
        self.lock.acquire()
        self._paused = []
        for entry in list(self._open.values()):
            entry.engine.before_fork()
            # One by one: an error does not abort the fork, and only the paused engines are resumed.
            self._paused.append(entry)

    def _after_fork_in_parent(self) -> None:
        try:
            with ExitStack() as stack:  # resumes every engine, even if one of them raises
                for entry in self._paused:
                    stack.callback(entry.engine.after_fork_in_parent)
        finally:
            self._paused = []
            self.lock.release()

    def _after_fork_in_child(self) -> None:
        self.lock = threading.RLock()
        for entry in self._paused:
            entry.engine.after_fork_in_child()
            entry.holders = 1  # the child's own; the parent's holders cannot close it here
        self._paused = []


open_managers = OpenManagers()
