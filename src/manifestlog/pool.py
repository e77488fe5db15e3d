"""Worker processes: started, fed one task at a time, listened to, and never waited for in vain.

Invariants:

- Every worker has a pipe of its own and at most one task: whoever dies takes nobody along, and we know what it had.
- A task is handed out when its worker is idle, so whoever makes the tasks is never far ahead.
- Whoever died is replaced while there is something left to do.
- What the system refuses (descriptors, processes, threads, memory) makes the pool smaller, and it says so once. Where not
  even one worker can live, that is an error; it is never a wait for a worker that does not exist.
- On the way out, however it came to that, no worker is left; and a worker does not outlive the process that started it.

It does not know what a task is, nor what a worker does with it.
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
"""What the system says when it is out of descriptors, processes, threads or memory: fewer workers may do."""
_SPARE_FDS = 32
"""Descriptors that are left to a worker that inherits all of ours, for a manifest, its files and a connection."""
_LOOK_EVERY_S = 0.2

Work = Callable[["Connection[Any, Any]", Any], None]
"""What a worker process runs: given its end of the pipe, and the job that all workers share."""


class Done(NamedTuple):
    """A worker's answer to a task; anything else that it sends, but for an exception, is news of one."""

    result: Any


class Listener(Protocol):
    """Who hears how it goes."""

    def heard(self, news: Any) -> None:
        """A worker tells how far it is."""

    def done(self, result: Any) -> None:
        """A task is done."""

    def lost(self, task: Any, how: str) -> bool:
        """The worker that had this task died; true gives it to another one."""


class Interrupts:
    """Ctrl-C and SIGTERM, counted while this is entered instead of raising anywhere."""

    def __init__(self) -> None:
        self.count = 0
        self._before: dict[int, Callable[[int, FrameType | None], object] | int | None] = {}

    def _heard(self, _number: int, _frame: object) -> None:
        self.count += 1

    def asked(self) -> int:
        """How often it was asked to stop."""
        return self.count

    def __enter__(self) -> Self:
        if threading.current_thread() is not threading.main_thread():
            return self  # signals are the main thread's: whoever has it decides what they mean
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._heard)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


class Pool:
    """Workers for one run; use it as a context manager, started before any thread is (a fork wants none)."""

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
                " multiprocessing.Pool), and Python gives those no children; run `manifestlog` as a program of its own there"
            )
        self._work, self._job, self._name = work, job, name
        self._tasks = tasks
        self._again: deque[Any] = deque()
        self._context = context or multiprocessing.get_context()
        self._processes: dict[Connection[Any, Any], BaseProcess] = {}
        self._in_hand: dict[Connection[Any, Any], Any] = {}
        self._fatal: Exception | None = None
        self._stopping = False
        self._room = self._wanted = jobs
        self._short = False
        self._alone = jobs == 1
        """Whether the system had no room for more than the one worker that was started last."""
        # All tasks that are there at once, before any worker: making them may take a while, or raise.
        self._again.extend(islice(tasks, jobs))
        try:
            for _ in range(len(self._again)):
                self._fill()
        except BaseException:
            self._end()
            raise

    def _fill(self) -> None:
        """Start a worker if there is room for one, and something to do."""
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
            theirs.close()  # the worker's is now the only copy: when it dies, we read an end of file
        self._processes[ours] = process
        self._give(ours, task)

    def _shrink(self, room: int, error: OSError) -> None:
        """Go on with fewer workers."""
        if not self._short:
            log.warning(
                "the system has no room for %d worker processes (%s): the run goes on with fewer;"
                " raise the limit (`ulimit -n` for files, `ulimit -u` for processes) or ask for fewer jobs",
                self._wanted,
                error.strerror or error,
            )
        self._short, self._room = True, max(1, room)

    @property
    def pids(self) -> list[int]:
        """The living workers."""
        return [process.pid for process in self._processes.values() if process.pid is not None]

    def run(self, listener: Listener, asked: Callable[[], int] = int) -> None:
        """See all tasks through; raises what a worker could not go on with.

        `asked` tells how often we were asked to stop: after the first time workers end what they are at, after the
        second they are killed.
        """
        while self._processes:
            if asked():
                self._stop()
            if asked() > 1:
                self._kill()
            for connection in wait(list(self._processes), timeout=_LOOK_EVERY_S):
                assert isinstance(connection, Connection)
                self._hear(connection, listener)
        if self._fatal is not None:
            raise self._fatal

    def _hear(self, connection: Connection[Any, Any], listener: Listener) -> None:
        try:
            message = connection.recv()
        except (EOFError, OSError):
            self._bury(connection, listener)
            return
        if isinstance(message, Done):
            del self._in_hand[connection]
            listener.done(message.result)
            self._give(connection, self._next())
        elif isinstance(message, Exception):
            self._failed(connection, message)
        else:
            listener.heard(message)

    def _failed(self, connection: Connection[Any, Any], error: Exception) -> None:
        """A worker could not go on: the run ends, unless it can do without this one."""
        task = self._in_hand.pop(connection, None)
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
            self._in_hand[connection] = task
        with suppress(OSError):  # it has just died: the next look finds out
            connection.send(task)

    def _bury(self, connection: Connection[Any, Any], listener: Listener) -> None:
        process = self._processes.pop(connection)
        connection.close()
        process.join()
        task = self._in_hand.pop(connection, None)
        if self._stopping:
            return
        # Whatever its exit code: somebody else's SIGTERM makes it end well, in the middle of things.
        if task is not None and listener.lost(task, _how(process.exitcode or 0)):
            self._again.append(task)
        self._fill()

    def _stop(self) -> None:
        """Ask every worker to end; again and again, because one that has just begun may not hear it yet."""
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


def is_daemonic() -> bool:
    """Whether this process may have no children: Python's rule for daemonic processes."""
    return current_process().daemon


def _no_worker(error: Exception) -> ManifestError:
    why = error.strerror if isinstance(error, OSError) and error.strerror else error
    return ManifestError(
        f"not even one worker process can run: {why}; raise the limit (`ulimit -n` for files, `ulimit -u` for processes),"
        " or end other programs of this user"
    )


def _is_scarce(error: Exception) -> bool:
    return isinstance(error, OSError) and error.errno in _SCARCE


def _leave_spare(newest_fd: int) -> None:
    """Raise `OSError` when a worker that inherits all our descriptors could open hardly any.

    The kernel gives the lowest free number, so all below the newest one are in use.
    """
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most != resource.RLIM_INFINITY and newest_fd + _SPARE_FDS > most:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


# -- in the worker -----------------------------------------------------------------------------------------------------


def _enter(work: Work, parent: Connection[Any, Any], job: object) -> None:
    try:
        work(parent, job)
    except OSError as error:  # while it was setting up; later its own errors are its own business
        with suppress(OSError):
            parent.send(error)


def next_task(parent: Connection[Any, Any]) -> Any:
    """Wait for the next task; None when there is none, or when the parent was killed."""
    starter = parent_process()
    ready = wait([parent] if starter is None else [parent, starter.sentinel])
    if parent not in ready:
        return None
    try:
        return parent.recv()
    except (EOFError, OSError):
        return None


def end_with_parent() -> None:
    """Have this worker told to end (SIGTERM) when whoever started it dies, whatever it is waiting for by then.

    Its pipe would not tell, as a fork holds both ends, and a server that says nothing may keep it for minutes.
    """
    try:
        threading.Thread(target=_watch_parent, name="watch-parent", daemon=True).start()
    except RuntimeError as error:  # a limit on threads, which Python gives no number
        raise OSError(errno.EAGAIN, str(error)) from error


def _watch_parent() -> None:
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        # To the main thread, not to the process: only its own signal ends its wait.
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)
