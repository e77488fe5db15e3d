"""A pool of worker processes: starts them, gives each one task at a time, and receives their messages.

Invariants:

- Every worker has its own pipe and at most one task. A crash affects no other worker, and the pool knows the lost task.
- The pool takes a new task only when a worker is idle, so the source of tasks is never far ahead.
- The pool replaces a dead worker while tasks are left.
- If the system runs out of descriptors, processes, threads or memory, the pool shrinks and logs one warning. If no worker
  can run, it raises an error. It never waits for a worker that does not exist.
- The pool leaves no worker behind, whatever ends it. A worker does not outlive the process that started it.

It does not know what a task is, or what a worker does with it.
"""

from __future__ import annotations

import errno
import logging
import multiprocessing
import os
import resource
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import islice
from multiprocessing import current_process, parent_process
from multiprocessing.connection import Connection, wait
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from types import FrameType, TracebackType
from typing import Any, NamedTuple, Protocol, Self

from manifestlog.errors import ManifestError

log = logging.getLogger(__name__)

_SCARCE = frozenset({errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM})
"""Errors that mean a lack of descriptors, processes, threads or memory: fewer workers may still fit."""
_SPARE_FDS = 32
"""Descriptors that a worker needs besides the inherited ones, for a manifest, its files and a connection."""
_LOOK_EVERY_S = 0.2

Work = Callable[["Connection[Any, Any]", Any], None]
"""The function of a worker process. It takes its end of the pipe, and the job that all workers share."""


class Done(NamedTuple):
    """A worker's answer to a task. Any other message is an exception or progress."""

    result: Any


class Listener(Protocol):
    """Receives the messages of the workers."""

    def on_progress(self, news: Any) -> None:
        """Handle a progress message of a worker."""

    def on_done(self, result: Any) -> None:
        """Handle the result of a task."""

    def on_worker_died(self, task: Any, how: str) -> bool:
        """Handle the death of the worker with this task. Return whether to retry the task."""


class Interrupts:
    """Counts Ctrl-C and SIGTERM inside the context, where they raise nothing."""

    def __init__(self) -> None:
        self.count = 0
        self._before: dict[int, Callable[[int, FrameType | None], object] | int | None] = {}

    def _heard(self, _number: int, _frame: object) -> None:
        self.count += 1

    def asked(self) -> int:
        """Return the number of stop requests."""
        return self.count

    def __enter__(self) -> Self:
        if threading.current_thread() is not threading.main_thread():
            return self  # only the main thread receives signals, and its code handles them
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._heard)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


class Pool:
    """The workers of one run. Use it as a context manager, and create it before any thread, because it forks."""

    def __init__(
        self,
        work: Work,
        job: object,
        tasks: Iterator[Any],
        jobs: int,
        context: BaseContext | None = None,
        *,
        name: str = "manifestlog",
    ) -> None:
        if is_daemonic():
            raise ManifestError(
                "no worker process can be started: this process is daemonic (a worker of Celery, Airflow or"
                " multiprocessing.Pool), and Python forbids it to have children; run `manifestlog` as a separate program"
            )
        self._work, self._job, self._name = work, job, name
        self._tasks = tasks
        self._again: deque[Any] = deque()
        self._context = context or multiprocessing.get_context()
        self._processes: dict[Connection[Any, Any], BaseProcess] = {}
        self._assigned: dict[Connection[Any, Any], Any] = {}
        self._fatal: Exception | None = None
        self._stopping = False
        self._room = self._wanted = jobs
        self._short = False
        self._alone = jobs == 1
        """Whether the last started worker is the only one that fits."""
        # Take the first tasks before starting a worker, because producing them may take a while, or raise.
        self._again.extend(islice(tasks, jobs))
        try:
            for _ in range(len(self._again)):
                self._fill()
        except BaseException:
            self._end()
            raise

    def _fill(self) -> None:
        """Start a worker if there is room and a task for it."""
        if len(self._processes) >= self._room or (task := self._next()) is None:
            return
        self._alone = self._wanted == 1 or (self._short and not self._processes)
        try:
            self._start(task)
        except OSError as error:
            self._again.appendleft(task)
            if not self._processes:
                raise _no_worker(error) from error
            self._shrink(len(self._processes), error)

    def _start(self, task: Any) -> None:
        ours, theirs = self._context.Pipe()
        try:
            if self._processes:
                _leave_spare(theirs.fileno())
            process = self._context.Process(  # type: ignore[attr-defined]
                target=_enter, args=(self._work, theirs, self._job), name=self._name, daemon=True
            )
            process.start()
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()  # only the worker has a copy now: when it dies, this end reads end-of-file
        self._processes[ours] = process
        self._give(ours, task)

    def _shrink(self, room: int, error: OSError) -> None:
        """Continue with fewer workers."""
        if not self._short:
            log.warning(
                "the system cannot run %d worker processes (%s): the run continues with fewer;"
                " raise the limit (`ulimit -n` for files, `ulimit -u` for processes) or use fewer jobs",
                self._wanted,
                error.strerror or error,
            )
        self._short, self._room = True, max(1, room)

    @property
    def pids(self) -> list[int]:
        """The process ids of the living workers."""
        return [process.pid for process in self._processes.values() if process.pid is not None]

    def run(self, listener: Listener, asked: Callable[[], int] = int) -> None:
        """Run all tasks. Raises the error that ended a worker.

        `asked` returns the number of stop requests. After the first, workers finish their tasks; after the second, they
        are killed.
        """
        while self._processes:
            if asked():
                self._stop()
            if asked() > 1:
                self._kill()
            for connection in wait(list(self._processes), timeout=_LOOK_EVERY_S):
                assert isinstance(connection, Connection)
                self._receive(connection, listener)
        if self._fatal is not None:
            raise self._fatal

    def _receive(self, connection: Connection[Any, Any], listener: Listener) -> None:
        try:
            message = connection.recv()
        except (EOFError, OSError):
            self._handle_death(connection, listener)
            return
        if isinstance(message, Done):
            del self._assigned[connection]
            listener.on_done(message.result)
            self._give(connection, self._next())
        elif isinstance(message, Exception):
            self._failed(connection, message)
        else:
            listener.on_progress(message)

    def _failed(self, connection: Connection[Any, Any], error: Exception) -> None:
        """Handle an error that ended a worker: end the run, unless the other workers can continue."""
        task = self._assigned.pop(connection, None)
        if self._stopping or self._alone or not _is_scarce(error):
            self._fatal = self._fatal or (_no_worker(error) if _is_scarce(error) else error)
            self._stop()
            return
        assert isinstance(error, OSError)
        if task is not None:
            self._again.append(task)
        self._shrink(min(self._room, len(self._processes)) - 1, error)

    def _next(self) -> Any:
        if self._stopping:
            return None
        return self._again.popleft() if self._again else next(self._tasks, None)

    def _give(self, connection: Connection[Any, Any], task: Any) -> None:
        if task is not None:
            self._assigned[connection] = task
        with suppress(OSError):  # it has just died; the next `recv` reports that
            connection.send(task)

    def _handle_death(self, connection: Connection[Any, Any], listener: Listener) -> None:
        process = self._processes.pop(connection)
        connection.close()
        process.join()
        task = self._assigned.pop(connection, None)
        if self._stopping:
            return
        # The exit code does not matter: a SIGTERM from another process ends a worker with 0, in the middle of a task.
        if task is not None and listener.on_worker_died(task, _how(process.exitcode or 0)):
            self._again.append(task)
        self._fill()

    def _stop(self) -> None:
        """Ask every worker to end. The run repeats this, because a worker that has just started may miss it."""
        for connection, process in self._processes.items():
            if not self._stopping:
                self._give(connection, None)
            process.terminate()
        self._stopping = True

    def _kill(self) -> None:
        for process in self._processes.values():
            process.kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _end(self) -> None:
        self._stop()
        for connection, process in self._processes.items():
            process.join()
            connection.close()
        self._processes.clear()


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


def _no_worker(error: Exception) -> ManifestError:
    why = error.strerror if isinstance(error, OSError) and error.strerror else error
    return ManifestError(
        f"no worker process can run: {why}; raise the limit (`ulimit -n` for files, `ulimit -u` for processes),"
        " or end other programs of this user"
    )


def _is_scarce(error: Exception) -> bool:
    return isinstance(error, OSError) and error.errno in _SCARCE


def _leave_spare(newest_fd: int) -> None:
    """Raise `OSError` if a worker, which inherits all descriptors, would have too few left to open.

    The kernel gives the lowest free number, so all numbers below the newest one are in use.
    """
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most != resource.RLIM_INFINITY and newest_fd + _SPARE_FDS > most:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


# -- in the worker -----------------------------------------------------------------------------------------------------


def _enter(work: Work, parent: Connection[Any, Any], job: object) -> None:
    try:
        work(parent, job)
    except OSError as error:  # during setup; later, `work` handles its own errors
        with suppress(OSError):
            parent.send(error)


def next_task(parent: Connection[Any, Any]) -> Any:
    """Wait for the next task. Return None if there is none, or if the parent was killed."""
    starter = parent_process()
    ready = wait([parent] if starter is None else [parent, starter.sentinel])
    if parent not in ready:
        return None
    try:
        return parent.recv()
    except (EOFError, OSError):
        return None
