"""Runs several tasks of one process at once, each in its own thread.

Invariants:

- The main thread reads the pipe and receives signals. It starts a thread only if no other is idle.
- A stop request reaches every thread: at its next check, or through `WorkerLink.interrupt`, which wakes threads that
  wait for a server. A thread that does not end soon is left behind, and ends with the process; its bytes are on the
  disk.
- If the system refuses another thread, or something that a thread needs, the worker tells the pool to send it fewer
  tasks, and loses nothing.
"""

from __future__ import annotations

import errno
import select
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import parent_process
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import Any

from manifestlog.errors import ManifestError
from manifestlog.workers.inbox import Inbox
from manifestlog.workers.link import WorkerLink
from manifestlog.workers.messages import Done, Fewer, Given
from manifestlog.workers.scarcity import is_scarce
from manifestlog.workers.stop import StopAskedError

_LOOK_EVERY_S = 0.5
_WAKE_WITHIN_S, _END_WITHIN_S = 0.5, 5.0
"""How long to wait at a stop for threads that wait for a server, and for those that complete something."""
_POLL_S = 0.02


class TaskThreads:
    """The threads of a process that do its tasks."""

    def __init__(self, answer: Callable[[Any], Any], link: WorkerLink) -> None:
        self._answer, self._link = answer, link
        self._inbox: SimpleQueue[Given | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._unfinished = 0
        """Tasks that were given and not answered."""
        self.error: Exception | None = None
        """The error of a thread that ends the worker."""

    def give(self, given: Given) -> None:
        """Do a task, in an idle thread if there is one."""
        with self._lock:
            self._unfinished += 1
            all_busy = self._unfinished > len(self._threads)
        self._inbox.put(given)
        if all_busy:
            self._start()

    def _start(self) -> None:
        thread = threading.Thread(target=self._work, name="transfer", daemon=True)
        with self._lock:
            self._threads.append(thread)
        try:
            thread.start()
        except RuntimeError as error:  # a limit on threads; Python's error has no errno
            self._retire(thread, OSError(errno.EAGAIN, str(error)))

    def _retire(self, thread: threading.Thread, error: OSError) -> None:
        """Go on without this thread; the worker ends if it was the only one."""
        with self._lock:
            self._threads.remove(thread)
            left = len(self._threads)
        if left:
            self._link.send(Fewer(left, error))
        else:
            self.error = self.error or error

    def _work(self) -> None:
        while (given := self._inbox.get()) is not None:
            try:
                result = self._answer(given.task)
            except StopAskedError:
                return
            except OSError as error:
                if isinstance(error, ManifestError) or not is_scarce(error):
                    self.error = self.error or error
                else:
                    self._inbox.put(given)
                    self._retire(threading.current_thread(), error)
                return
            except Exception as error:  # noqa: BLE001 -- the worker ends with it, as it would without threads
                self.error = self.error or error
                return
            with self._lock:
                self._unfinished -= 1
            with suppress(OSError):  # the parent has died; the main thread finds that out
                self._link.send(Done(result, given.number))

    def end(self, *, leaves_some: bool = True) -> None:
        """Ask all threads to end, and wait for them: only a moment if it `leaves_some`, which end with the process."""
        if self._unfinished:
            self._link.stop.asked = True
            self._link.interrupt()
        for _ in self._threads:
            self._inbox.put(None)
        began = time.monotonic()
        while living := [thread for thread in self._threads if thread.is_alive()]:
            seconds = time.monotonic() - began
            only_wait = all(thread.ident in self._link.stop.waiting for thread in living)
            if leaves_some and seconds > (_WAKE_WITHIN_S if only_wait else _END_WITHIN_S):
                return
            living[0].join(_POLL_S)


def work_in_threads(parent: Connection[Any, Any], answer: Callable[[Any], Any], link: WorkerLink) -> None:
    """Do the tasks that come through the pipe until there are none. Raises the error that ends the worker."""
    threads = TaskThreads(answer, link)
    inbox, ready = Inbox(parent), _readiness(parent)
    try:
        while not link.stop.asked and threads.error is None:
            # In slices, for the reason given in `Stop.sleep`, and to see the error of a thread.
            with link.stop.interruptible():
                found = ready.poll(_LOOK_EVERY_S * 1000)
            if found and not _receive(parent, inbox, found, threads, link):
                break
    finally:
        threads.end()
    if threads.error is not None:
        raise threads.error


def _readiness(parent: Connection[Any, Any]) -> select.poll:
    """Return what tells that a message has come, or that the parent has died."""
    ready, starter = select.poll(), parent_process()
    for one in [parent.fileno()] + ([] if starter is None else [starter.sentinel]):
        ready.register(one, select.POLLIN)
    return ready


def _receive(
    parent: Connection[Any, Any], inbox: Inbox, ready: list[tuple[int, int]], threads: TaskThreads, link: WorkerLink
) -> bool:
    """Take what has arrived; return False if there are no more tasks, or if the parent was killed."""
    if parent.fileno() not in dict(ready):
        return False
    try:
        messages = inbox.take()
    except (EOFError, OSError):
        return False
    for message in messages:
        if message is None:
            return False
        if isinstance(message, Given):
            threads.give(message)
        else:
            link.on_told(message)
    return True
