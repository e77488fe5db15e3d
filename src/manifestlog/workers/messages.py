"""The messages between the pool and its workers.

::

    pool → worker     Given, None (there is no more to do), or anything else that the listener answers to progress
    worker → pool     Done, Fewer, an error that ends the worker, or progress of any other type
"""

from __future__ import annotations

from multiprocessing import parent_process
from multiprocessing.connection import Connection, wait
from typing import Any, NamedTuple


class Given(NamedTuple):
    """A task for a worker. Its number is free again once the worker has answered with it."""

    number: int
    task: Any


class Done(NamedTuple):
    """A worker's answer to the task with this number; 0 if it does one task at a time."""

    result: Any
    number: int = 0


class Fewer(NamedTuple):
    """A worker's message that it has room for this many tasks only, because of this error."""

    room: int
    error: OSError


def next_task(parent: Connection[Any, Any]) -> Any:
    """Wait for the next task. Return None if there is none, or if the parent was killed."""
    starter = parent_process()
    ready = wait([parent] if starter is None else [parent, starter.sentinel])
    return getattr(received(parent), "task", None) if parent in ready else None


def received(parent: Connection[Any, Any]) -> Any:
    """Receive a message; return None if there are no more tasks, or if the parent was killed."""
    try:
        return parent.recv()
    except (EOFError, OSError):
        return None
