"""Runs tasks in threads of this process, if worker processes are not wanted or cannot be started.

Invariants:

- The caller's thread takes the tasks and calls the listener, as in `Pool.run`. The other threads only do the tasks.
- No thread is left when the run ends. At a stop, threads that wait for a server are interrupted, and threads that are
  completing something finish it.
- If the system refuses another thread, or something that a thread needs, the run continues with fewer threads, and logs
  one warning.

A crash ends everything: only processes protect one task from another.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any

from manifestlog.workers.link import WorkerLink
from manifestlog.workers.main import Job
from manifestlog.workers.messages import Done, Fewer, Given
from manifestlog.workers.pool import Listener
from manifestlog.workers.scarcity import Scarcity
from manifestlog.workers.tasks import Tasks
from manifestlog.workers.threads import TaskThreads

_LOOK_EVERY_S = 0.2


class InProcess:
    """The threads of one run, `job.capacity` at most."""

    def __init__(self, job: Job, tasks: Tasks) -> None:
        self._job, self._tasks = job, tasks
        self._room = job.capacity
        self._running = 0
        self._inbox: SimpleQueue[Any] = SimpleQueue()
        self._scarcity = Scarcity(job.capacity, "transfers at once", "connections", "no thread can run")

    def run(self, listener: Listener, asked: Callable[[], int] = int) -> None:
        """Run all tasks, until `asked` returns a number of stop requests. Raises the error that ended a thread."""
        link = WorkerLink(self._inbox.put)
        with self._job.answering(link) as answer:
            threads = TaskThreads(answer, link)
            try:
                while not asked() and threads.error is None and self._start(threads):
                    self._receive(link, listener)
            finally:
                threads.end(leaves_some=False)
        while not self._inbox.empty():
            self._handle(self._inbox.get(), link, listener)
        if threads.error is not None:
            raise self._scarcity.explained(threads.error)

    def _start(self, threads: TaskThreads) -> bool:
        """Start every task that may start now; return whether there is anything left to do."""
        while self._running < self._room and (task := self._tasks.take()) is not None:
            self._running += 1
            threads.give(Given(self._running, task))
        return self._running > 0 or self._tasks.pause_s() is not None

    def _receive(self, link: WorkerLink, listener: Listener) -> None:
        """Handle the next message, or return when a task may start, or when it is time to look for stop requests."""
        pause = self._tasks.pause_s() if self._running < self._room else None
        timeout = min(_LOOK_EVERY_S, math.inf if pause is None else pause)
        try:
            message = self._inbox.get(timeout=timeout)
        except Empty:
            return
        self._handle(message, link, listener)

    def _handle(self, message: Any, link: WorkerLink, listener: Listener) -> None:
        if isinstance(message, Done):
            self._running -= 1
            listener.on_done(message.result)
        elif isinstance(message, Fewer):
            self._room = max(1, message.room)
            self._scarcity.warn(message.error)
        elif (reply := listener.on_progress(message)) is not None:
            link.on_told(reply)
