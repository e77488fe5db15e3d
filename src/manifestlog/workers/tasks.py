"""The protocol of a pool's source of tasks, and the simplest source: tasks in order."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Protocol


class Tasks(Protocol):
    """Where the pool takes tasks from."""

    def take(self) -> Any:
        """Return the next task; None if none may start now."""

    def pause_s(self) -> float | None:
        """Return in how many seconds `take` may return a task again by time alone, infinite if then none; None if no
        task waits.
        """


class InOrder:
    """Tasks that an iterator yields, in its order."""

    def __init__(self, tasks: Iterator[Any]) -> None:
        self._tasks = tasks
        self._is_over = False

    def take(self) -> Any:
        task = None if self._is_over else next(self._tasks, None)
        self._is_over = task is None
        return task

    def pause_s(self) -> float | None:
        return None if self._is_over else math.inf
