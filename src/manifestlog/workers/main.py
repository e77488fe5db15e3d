"""The main function of every worker process: signals, logging, watching the parent, and tasks.

Invariants:

- A worker answers every task, unless a stop request interrupts it; its completed work is then kept.
- A worker never outlives the process that started it.
- A worker closes everything that it opened for its work before it ends.
- With a `capacity` above 1, tasks run in threads (`threads`); otherwise in the main thread, where a stop request interrupts
  any wait.

It works in forked and spawned processes, and does not know what a task is.
"""

from __future__ import annotations

import errno
import gc
import logging
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from multiprocessing import parent_process
from multiprocessing.connection import Connection, wait
from multiprocessing.context import BaseContext
from typing import Any, NamedTuple

from manifestlog.errors import ManifestError
from manifestlog.workers.link import Sender, WorkerLink
from manifestlog.workers.messages import Done, next_task
from manifestlog.workers.pool import Listener, Pool, is_daemonic
from manifestlog.workers.stop import Stop, StopAskedError
from manifestlog.workers.threads import work_in_threads

log = logging.getLogger(__name__)

Answer = Callable[[Any], Any]
"""Turns a task into its result."""


class Job(NamedTuple):
    """The work of a run, which every worker receives. Must be picklable if processes are not forked."""

    answering: Callable[[WorkerLink], AbstractContextManager[Answer]]
    """Opens the resources of the work, and closes them at the end."""
    initializer: Callable[[], None] | None = None
    """Called first in every worker process, for example to configure logging."""
    capacity: int = 1
    """How many tasks a worker does at once, in threads."""


def work(parent: Connection[Any, Any], job: Job) -> None:
    """Run a worker process until there are no tasks or it is asked to stop."""
    stop, send = Stop(), Sender(parent).send
    # Ctrl-C reaches the whole process group. The parent handles it, and sends SIGTERM to its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, stop.ask)
    _end_with_parent()
    # Never collect inherited objects here: a signal during a destructor would print a traceback.
    gc.freeze()
    if job.initializer is not None:
        job.initializer()
    with suppress(BrokenPipeError, StopAskedError):
        try:
            link = WorkerLink(send, stop)
            with job.answering(link) as answer:
                if job.capacity > 1:
                    work_in_threads(parent, answer, link)
                    return
                while not stop.asked and (task := next_task(parent)) is not None:
                    send(Done(answer(task)))
        except (ManifestError, OSError) as error:
            send(error)
        finally:
            parent.close()


def run_tasks(
    job: Job,
    tasks: Iterator[Any],
    listener: Listener,
    jobs: int,
    *,
    name: str,
    on_start: Callable[[], None],
    asked_to_stop: Callable[[], int] | None,
    context: BaseContext | None = None,
) -> None:
    """Run all tasks in `jobs` worker processes. Raises the error that ended a worker.

    `context` is how to start them [default: Python's default].
    `asked_to_stop` is as for `Pool.run`. Without it, the tasks run in this process if one worker is enough, or if this
    process is daemonic (such as a worker of Celery) and may not have children.
    """
    if asked_to_stop is None and (jobs == 1 or is_daemonic()):
        if jobs > 1:
            log.warning(
                "this process is daemonic and cannot start workers: it does the work of %d workers itself", jobs
            )
        on_start()
        _work_here(job, tasks, listener)
        return
    with Pool(work, job, tasks, jobs, context, name=name) as pool:
        on_start()
        pool.run(listener, asked_to_stop or int)


def _work_here(job: Job, tasks: Iterator[Any], listener: Listener) -> None:
    with job.answering(WorkerLink(listener.on_progress)) as answer:
        for task in tasks:
            listener.on_done(answer(task))


def _end_with_parent() -> None:
    """Send this worker SIGTERM when its parent dies, whatever it is waiting for.

    The pipe cannot show the parent's death, because a fork holds both ends, and a silent server may block for minutes.
    """
    try:
        threading.Thread(target=_watch_parent, name="watch-parent", daemon=True).start()
    except RuntimeError as error:  # a limit on threads; Python's error has no errno
        raise OSError(errno.EAGAIN, str(error)) from error


def _watch_parent() -> None:
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        # To the main thread, not to the process: only a signal to the thread ends its wait.
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)
