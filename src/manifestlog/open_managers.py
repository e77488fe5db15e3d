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
from contextlib import ExitStack
from typing import Protocol

from manifestlog.names import ManifestPaths


class Registered(Protocol):
    """What the registry asks of a manager."""

    def before_fork(self) -> None: ...

    def after_fork_in_parent(self) -> None: ...

    def after_fork_in_child(self) -> None: ...

    def close(self) -> None: ...


class Registry:
    """Open managers by file. Hold `lock` around a look followed by an `add`."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._open: dict[ManifestPaths, Registered] = {}
        self._paused: list[Registered] = []
        self._hooked = False

    def get(self, paths: ManifestPaths) -> Registered | None:
        return self._open.get(paths)

    def add(self, paths: ManifestPaths, manager: Registered) -> None:
        self._open[paths] = manager
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
            if self._open.get(paths) is manager:
                del self._open[paths]

    def _close_all(self) -> None:
        # A script that ends without close() still leaves a canonical that holds everything.
        for manager in list(self._open.values()):
            manager.close()

    def _before_fork(self) -> None:
        self.lock.acquire()
        self._paused = []
        for manager in list(self._open.values()):
            manager.before_fork()
            # One by one: what fails here aborts no fork, and only what was halted is let go again.
            self._paused.append(manager)

    def _after_fork_in_parent(self) -> None:
        try:
            with ExitStack() as all_of_them:  # whatever one of them raises
                for manager in self._paused:
                    all_of_them.callback(manager.after_fork_in_parent)
        finally:
            self._paused = []
            self.lock.release()

    def _after_fork_in_child(self) -> None:
        self.lock = threading.RLock()
        for manager in self._paused:
            manager.after_fork_in_child()
        self._paused = []


open_managers = Registry()
