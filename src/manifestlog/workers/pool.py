"""A pool of worker processes: starts them, gives each as many tasks as it has room for, and receives their messages.

Invariants:

- Every worker has its own pipe and at most `capacity` tasks. A crash affects no other worker, and the pool knows the
  lost tasks.
- The pool takes a new task only when a worker has room for it, so the source of tasks is never far ahead. Tasks go to
  the worker with the fewest, so that all workers have some before any has several.
- The pool replaces a dead worker while tasks are left. Its tasks run again. One that has lost two workers, and was not
  alone in the last one, runs alone next, so that no task has to answer for another one's crash.
- If the system runs out of descriptors, processes, threads or memory, the pool shrinks and logs one warning. If no worker
  can run, it raises an error. It never waits for a worker that does not exist.
- The pool leaves no worker behind, whatever ends it. A worker does not outlive the process that started it.

It does not know what a task is, or what a worker does with it.
"""

from __future__ import annotations

import errno
import logging
import math
import multiprocessing
import os
import resource
import select
import signal
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from multiprocessing import current_process
from multiprocessing.connection import Connection
from multiprocessing.context import BaseContext
from types import TracebackType
from typing import Any, Protocol, Self

from manifestlog.errors import ManifestError
from manifestlog.workers.inbox import Inbox, Outbox, framed
from manifestlog.workers.messages import Done, Fewer
from manifestlog.workers.scarcity import Scarcity, is_scarce, no_worker
from manifestlog.workers.tasks import InOrder, Tasks
from manifestlog.workers.workload import Turn, Worker

log = logging.getLogger(__name__)

_SPARE_FDS = 32
"""Descriptors that a worker needs besides the inherited ones, for a manifest, its files and a connection."""
_FDS_EACH = 4
"""Descriptors that each further task of a worker needs: a connection, its file, claims, and one for a moment."""
_LOOK_EVERY_S = 0.2

Work = Callable[["Connection[Any, Any]", Any], None]
"""The function of a worker process. It takes its end of the pipe, and the job that all workers share."""


class Listener(Protocol):
    """Receives the messages of the workers."""

    def on_progress(self, news: Any) -> Any:
        """Handle a progress message of a worker; return what to tell that worker, None for nothing."""

    def on_done(self, result: Any) -> None:
        """Handle the result of a task."""

    def on_worker_died(self, task: Any, how: str) -> bool:
        """Handle the death of the worker with this task. Return whether to retry the task."""


class Pool:
    """The workers of one run. Use it as a context manager, and create it before any thread, because it forks."""

    def __init__(
        self,
        work: Work,
        job: object,
        tasks: Iterator[Any] | Tasks,
        jobs: int,
        context: BaseContext | None = None,
        *,
        capacity: int = 1,
        name: str = "manifestlog",
    ) -> None:
        if is_daemonic():
            raise ManifestError(
                "no worker process can be started: this process is daemonic (a worker of Celery, Airflow or"
                " multiprocessing.Pool), and Python forbids it to have children; run `manifestlog` as a separate program"
            )
        self._work, self._job, self._name = work, job, name
        self._tasks: Tasks = InOrder(tasks) if isinstance(tasks, Iterator) else tasks
        self._context = context or multiprocessing.get_context()
        self._again: deque[Turn] = deque()
        self._suspects: deque[Turn] = deque()
        self._workers: dict[Connection[Any, Any], Worker] = {}
        self._by_descriptor: dict[int, Connection[Any, Any]] = {}
        self._readiness = select.poll()
        """Tells which of them have sent something."""
        self._fatal: Exception | None = None
        self._stopping = False
        self._room = self._wanted = jobs
        self._capacity = capacity
        what = ("worker processes", "jobs") if capacity == 1 else ("transfers at once", "connections")
        self._scarcity = Scarcity(jobs * capacity, *what)
        self._alone = jobs == 1
        """Whether the last started worker is the only one that fits."""
        # Take the first tasks before starting a worker, because producing them may take a while, or raise.
        first = [task for task in (self._tasks.take() for _ in range(jobs)) if task is not None]
        try:
            self._start_with(first)
            self._fill()
        except BaseException:
            self._end()
            raise

    def _start_with(self, tasks: list[Any]) -> None:
        """Start a worker for each of these tasks, as far as they fit."""
        for number, task in enumerate(tasks):
            if len(self._workers) >= self._room or not self._start_worker(Turn(task)):
                self._again.extend(map(Turn, tasks[number:]))
                return

    def _fill(self) -> None:
        """Give waiting tasks to workers with room, starting workers as long as there may be more."""
        while not self._stopping:
            can_start = len(self._workers) < self._room
            connection = max(self._workers, key=lambda one: self._workers[one].free, default=None)
            worker = None if connection is None else self._workers[connection]
            if not can_start and (worker is None or worker.free <= 0):
                break
            is_idle = can_start or (worker is not None and not worker.turns)
            if (turn := self._next(is_idle=is_idle)) is None:
                break
            if can_start:
                if not self._start_worker(turn):
                    self._again.appendleft(turn)
            elif connection is not None:
                self._give(connection, turn)
        for connection, worker in self._workers.items():
            if worker.unsent:
                self._send(connection)

    def _next(self, *, is_idle: bool) -> Turn | None:
        """Return the next task for a worker, which may have no other ones; None if none may start now."""
        if self._suspects:  # nothing else starts meanwhile, so that a worker becomes idle
            return self._suspects.popleft() if is_idle else None
        if self._again:
            return self._again.popleft()
        task = self._tasks.take()
        return None if task is None else Turn(task)

    def _start_worker(self, turn: Turn) -> bool:
        """Start a worker for a task; return whether it fits."""
        self._alone = self._wanted == 1 or (self._scarcity.is_known and not self._workers)
        try:
            self._start(turn)
        except OSError as error:
            if not self._workers:
                raise no_worker(error) from error
            self._shrink(len(self._workers), error)
            return False
        return True

    def _start(self, turn: Turn) -> None:
        ours, theirs = self._context.Pipe()
        try:
            fits = self._tasks_that_fit(theirs.fileno())
            process = self._context.Process(  # type: ignore[attr-defined]
                target=_enter, args=(self._work, theirs, self._job), name=self._name, daemon=True
            )
            process.start()
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()  # only the worker has a copy now: when it dies, this end reads end-of-file
        self._workers[ours] = Worker(process, Inbox(ours), Outbox(ours), fits)
        self._by_descriptor[ours.fileno()] = ours
        self._readiness.register(ours.fileno(), select.POLLIN)
        self._give(ours, turn)

    def _tasks_that_fit(self, newest_fd: int) -> int:
        """Return how many tasks at once a new worker has descriptors for, which inherits all open ones.

        Raises `OSError` if there are too few for any, unless it is the only worker. The kernel gives the lowest free
        number, so all numbers below the newest one are in use.
        """
        most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        fits = self._capacity if most == resource.RLIM_INFINITY else 1 + (most - newest_fd - _SPARE_FDS) // _FDS_EACH
        if fits < self._capacity:
            error = OSError(errno.EMFILE, os.strerror(errno.EMFILE))
            if fits < 1 and self._workers:
                raise error
            if self._capacity > 1:
                self._scarcity.warn(error)
        return max(1, min(fits, self._capacity))

    def _shrink(self, room: int, error: OSError) -> None:
        """Continue with fewer workers."""
        self._scarcity.warn(error)
        self._room = max(1, room)

    @property
    def pids(self) -> list[int]:
        """The process ids of the living workers."""
        return [one.process.pid for one in self._workers.values() if one.process.pid is not None]

    def run(self, listener: Listener, asked: Callable[[], int] = int) -> None:
        """Run all tasks. Raises the error that ended a worker.

        `asked` returns the number of stop requests. After the first, workers finish their tasks; after the second, they
        are killed.
        """
        while self._workers or self._is_waiting():
            if asked():
                self._stop()
            if asked() > 1:
                self._kill()
            for connection in self._ready():
                self._receive(connection, listener)
            self._fill()
            self._let_go()
        if self._fatal is not None:
            raise self._fatal

    def _is_waiting(self) -> bool:
        """Return whether tasks wait for their time, and no worker is left."""
        return not (self._stopping or self._is_over)

    @property
    def _is_over(self) -> bool:
        """Whether no task waits; one that runs may still have to run again."""
        return not self._again and not self._suspects and self._tasks.pause_s() is None

    def _ready(self) -> list[Connection[Any, Any]]:
        """Wait until workers have sent messages, a task may start, or it is time to look for stop requests."""
        pause = self._tasks.pause_s()
        timeout_s = _LOOK_EVERY_S if pause is None else min(_LOOK_EVERY_S, pause)
        return [self._by_descriptor[fd] for fd, _ in self._readiness.poll(math.ceil(timeout_s * 1000))]

    def _let_go(self) -> None:
        """End workers that have nothing to do, if no task waits."""
        if self._stopping or not self._is_over:
            return
        for connection, worker in self._workers.items():
            if not worker.turns and not worker.is_ending:
                self._send(connection, None)
                worker.is_ending = True

    def _receive(self, connection: Connection[Any, Any], listener: Listener) -> None:
        try:
            messages = self._workers[connection].inbox.take()
        except (EOFError, OSError):
            self._handle_death(connection, listener)
            return
        for message in messages:
            self._handle(connection, message, listener)

    def _handle(self, connection: Connection[Any, Any], message: Any, listener: Listener) -> None:
        worker = self._workers[connection]
        if isinstance(message, Done):
            worker.turns.pop(message.number, None)
            listener.on_done(message.result)
        elif isinstance(message, Fewer):
            worker.room = max(1, message.room)
            self._scarcity.warn(message.error)
        elif isinstance(message, Exception):
            self._failed(worker, message)
        elif (reply := listener.on_progress(message)) is not None:
            self._send(connection, reply)

    def _failed(self, worker: Worker, error: Exception) -> None:
        """Handle an error that ended a worker: end the run, unless the other workers can continue."""
        worker.is_ending = True
        if self._stopping or self._alone or not is_scarce(error):
            worker.turns.clear()
            self._fatal = self._fatal or self._scarcity.explained(error)
            self._stop()
            return
        assert isinstance(error, OSError)
        self._again.extend(worker.turns.values())
        worker.turns.clear()
        self._shrink(min(self._room, len(self._workers)) - 1, error)

    def _give(self, connection: Connection[Any, Any], turn: Turn) -> None:
        worker = self._workers[connection]
        if turn.losses and not worker.process.is_alive():
            worker.is_ending = True  # it was killed with the other one, and is no second loss
            self._again.append(turn)
            return
        worker.unsent.append(framed(worker.assign(turn)))  # `_fill` sends what it gives together

    def _send(self, connection: Connection[Any, Any], *messages: Any) -> None:
        """Send a worker what waits for it, and then these messages."""
        worker = self._workers[connection]
        worker.unsent += map(framed, messages)
        with suppress(OSError):  # it has just died; the next read reports that
            worker.outbox.send(worker.unsent)
        worker.unsent.clear()

    def _handle_death(self, connection: Connection[Any, Any], listener: Listener) -> None:
        worker = self._workers.pop(connection)
        self._readiness.unregister(connection.fileno())
        del self._by_descriptor[connection.fileno()]
        connection.close()
        worker.process.join()
        if self._stopping:
            return
        # The exit code does not matter: a SIGTERM from another process ends a worker with 0, in the middle of a task.
        in_company = len(worker.turns) > 1
        for turn in worker.turns.values():
            if in_company and turn.losses:
                turn.is_suspect = True
                self._suspects.append(turn)
            elif listener.on_worker_died(turn.task, _how(worker.process.exitcode or 0)):
                turn.losses += 1
                self._again.append(turn)

    def _stop(self) -> None:
        """Ask every worker to end. The run repeats this, because a worker that has just started may miss it."""
        for connection, worker in self._workers.items():
            if not self._stopping:
                self._send(connection, None)
            worker.process.terminate()
        self._stopping = True

    def _kill(self) -> None:
        for worker in self._workers.values():
            worker.process.kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _end(self) -> None:
        self._stop()
        for connection, worker in self._workers.items():
            worker.process.join()
            connection.close()
        self._workers.clear()


def _how(exit_code: int) -> str:
    if exit_code >= 0:
        return f"ended with code {exit_code}"
    try:
        return f"was killed by {signal.Signals(-exit_code).name}"
    except ValueError:
        return f"was killed by signal {-exit_code}"


def usable_cpus() -> int:
    """Return how many CPUs this process may use, which is the default number of workers."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def is_daemonic() -> bool:
    """Return whether this process is daemonic, so that Python forbids it to have children."""
    return current_process().daemon


# -- in the worker -----------------------------------------------------------------------------------------------------


def _enter(work: Work, parent: Connection[Any, Any], job: object) -> None:
    try:
        work(parent, job)
    except OSError as error:  # during setup; later, `work` handles its own errors
        with suppress(OSError):
            parent.send(error)
