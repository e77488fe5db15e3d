"""The managers that are open in this process: one a file, forgotten when closed, looked after at fork and exit.

Invariants:

- There is at most one open manager for a file, however its path is spelt.
- The hooks are installed when the first manager opens, never by an import.

This is the one place with state that outlives a call; everything else is reached through a manager.
"""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Callable
from contextlib import ExitStack
from typing import NamedTuple, Protocol

from manifestlog.naming import ManifestPaths


class Registered(Protocol):
    """What the registry asks of a manager."""

    def close(self) -> None: ...


class ForkHooks(NamedTuple):
    """What a manager has to do around a fork of its process; handed over, so that nobody else can call it."""

    before: Callable[[], None]
    after_in_parent: Callable[[], None]
    after_in_child: Callable[[], None]


class Entry(NamedTuple):
    """An open manager."""

    manager: Registered
    fork: ForkHooks


class Registry:
    """Open managers by file. Hold `lock` around a look followed by an `add`."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._open: dict[ManifestPaths, Entry] = {}
        self._paused: list[ForkHooks] = []
        self._hooked = False

    def get(self, paths: ManifestPaths) -> Registered | None:
        found = self._open.get(paths)
        return found.manager if found is not None else None

    def add(self, paths: ManifestPaths, manager: Registered, fork: ForkHooks) -> None:
        self._open[paths] = Entry(manager, fork)
        if not self._hooked:
            self._hooked = True
            atexit.register(self._close_all)
            os.register_at_fork(
                before=self._before_fork,
                after_in_parent=self._after_fork_in_parent,
                after_in_child=self._after_fork_in_child,
            )

    def remove(self, paths: ManifestPaths, manager: Registered) -> None:
        with self.lock:
            if self.get(paths) is manager:
                del self._open[paths]

    def _close_all(self) -> None:
        # A script that ends without close() still leaves a canonical that holds everything.
        for entry in list(self._open.values()):
            entry.manager.close()

    def _before_fork(self) -> None:
        self.lock.acquire()
        self._paused = []
        for entry in list(self._open.values()):
            entry.fork.before()
            # One by one: what fails here aborts no fork, and only what was halted is let go again.
            self._paused.append(entry.fork)

    def _after_fork_in_parent(self) -> None:
        try:
            with ExitStack() as all_of_them:  # whatever one of them raises
                for fork in self._paused:
                    all_of_them.callback(fork.after_in_parent)
        finally:
            self._paused = []
            self.lock.release()

    def _after_fork_in_child(self) -> None:
        self.lock = threading.RLock()
        for fork in self._paused:
            fork.after_in_child()
        self._paused = []


open_managers = Registry()
