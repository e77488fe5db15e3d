"""The main function of every worker process, whatever its work: signals, logging, the watch over its parent, its tasks.

Invariants:

- A worker answers every task, unless it is asked to stop in the middle of one; then it keeps what has come of it.
- A worker never outlives the process that started it.
- What it opened for its work is closed before it ends.

It works the same whether the process was forked or spawned, and does not know what a task is.
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
from typing import Any, NamedTuple

from manifestlog.errors import ManifestError
from manifestlog.workers.link import WorkerLink
from manifestlog.workers.pool import Done, Listener, Pool, is_daemonic, next_task
from manifestlog.workers.stop import Stop, StopAskedError

log = logging.getLogger(__name__)

Answer = Callable[[Any], Any]
"""What makes a result of a task."""


class Job(NamedTuple):
    """What every worker of a run is given; picklable where processes are not forked."""

    answering: Callable[[WorkerLink], AbstractContextManager[Answer]]
    """Opens what the work needs, and closes it again."""
    initializer: Callable[[], None] | None = None
    """What every worker process calls first, to set up its logging for instance."""


def work(parent: Connection[Any, Any], job: Job) -> None:
    """What a worker process runs."""
    stop = Stop()
    # Ctrl-C reaches the whole process group; the parent decides what it means, and says so with SIGTERM.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, stop.ask)
    _end_with_parent()
    # What was inherited is never collected here: a destructor that is interrupted by a signal would tell the terminal.
    gc.freeze()
    if job.initializer is not None:
        job.initializer()
    with suppress(BrokenPipeError, StopAskedError):
        try:
            with job.answering(WorkerLink(parent.send, stop)) as answer:
                while not stop.asked and (task := next_task(parent)) is not None:
                    parent.send(Done(answer(task)))
        except (ManifestError, OSError) as error:
            parent.send(error)
    parent.close()


def see_through(
    job: Job,
    tasks: Iterator[Any],
    listener: Listener,
    jobs: int,
    *,
    name: str,
    on_start: Callable[[], None],
    asked_to_stop: Callable[[], int] | None,
) -> None:
    """Do all tasks in so many worker processes; raises what a worker could not go on with.

    `asked_to_stop` is what `Pool.run` takes. Without it, the tasks are done in this process where one worker is enough, and where
    it is daemonic (a worker of Celery, say) and may have no children.
    """
    if asked_to_stop is None and (jobs == 1 or is_daemonic()):
        if jobs > 1:
            log.warning(
                "this process is daemonic and may have no worker processes: it does the work of %d itself", jobs
            )
        on_start()
        _work_here(job, tasks, listener)
        return
    with Pool(work, job, tasks, jobs, name=name) as pool:
        on_start()
        pool.run(listener, asked_to_stop or int)


def _work_here(job: Job, tasks: Iterator[Any], listener: Listener) -> None:
    with job.answering(WorkerLink(listener.on_progress)) as answer:
        for task in tasks:
            listener.on_done(answer(task))


def _end_with_parent() -> None:
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
