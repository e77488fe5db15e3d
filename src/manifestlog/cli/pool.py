"""The worker processes of `add`: started, fed one batch at a time, listened to, and never waited for in vain.

Invariants:

- Every worker has a pipe of its own and at most one batch: whoever dies takes nobody along, and we know what it had.
- A batch is handed out when its worker is idle, so the walk over the files is never far ahead.
- On the way out, however it came to that, no worker is left.
"""

import logging
import multiprocessing
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import islice
from multiprocessing.connection import Connection, wait
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from types import FrameType, TracebackType
from typing import Protocol, Self

from manifestlog.cli.verb import CommandError
from manifestlog.cli.walk import Failure
from manifestlog.cli.worker import Batch, Job, Tally, work

log = logging.getLogger(__name__)

_LOOK_EVERY_S = 0.2


class Listener(Protocol):
    """Who hears how it goes."""

    def read(self, count: int) -> None:
        """So many bytes more were hashed."""

    def done(self, tally: Tally) -> None:
        """A batch is done."""


class Interrupts:
    """Ctrl-C and SIGTERM, counted while this is entered instead of raising anywhere."""

    def __init__(self) -> None:
        self.count = 0
        self._before: dict[int, Callable[[int, FrameType | None], object] | int | None] = {}

    def _heard(self, _number: int, _frame: object) -> None:
        self.count += 1

    def __enter__(self) -> Self:
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

    def __init__(self, job: Job, batches: Iterator[Batch], jobs: int, context: BaseContext | None = None) -> None:
        self._job = job
        self._batches = batches
        self._context = context or multiprocessing.get_context()
        self._processes: dict[Connection, BaseProcess] = {}
        self._in_hand: dict[Connection, Batch] = {}
        self._fatal: Exception | None = None
        self._stopping = False
        for batch in list(islice(batches, jobs)):
            self._start(batch)

    def _start(self, batch: Batch) -> None:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(  # type: ignore[attr-defined]
            target=work, args=(theirs, self._job), name="manifestlog-add", daemon=True
        )
        process.start()
        theirs.close()  # the worker's is now the only copy: when it dies, we read an end of file
        self._processes[ours] = process
        self._give(ours, batch)

    def run(self, listener: Listener, interrupts: Interrupts) -> None:
        """See all batches through; raises what a worker could not go on with.

        After the first interrupt workers end what they are at; after a second one they are killed.
        """
        while self._processes:
            if interrupts.count:
                self._stop()
            if interrupts.count > 1:
                self._kill()
            for connection in wait(list(self._processes), timeout=_LOOK_EVERY_S):
                assert isinstance(connection, Connection)
                self._hear(connection, listener)
        if self._fatal is not None:
            raise self._fatal
        if not self._stopping and next(self._batches, None) is not None:
            raise CommandError("the system killed every worker; what is registered is kept: add the rest again")

    def _hear(self, connection: Connection, listener: Listener) -> None:
        try:
            message = connection.recv()
        except (EOFError, OSError):
            self._bury(connection, listener)
            return
        if isinstance(message, int):
            listener.read(message)
        elif isinstance(message, Tally):
            del self._in_hand[connection]
            listener.done(message)
            self._give(connection, None if self._stopping else next(self._batches, None))
        else:
            self._fatal = self._fatal or message
            self._in_hand.pop(connection, None)
            self._stop()

    def _give(self, connection: Connection, batch: Batch | None) -> None:
        if batch is not None:
            self._in_hand[connection] = batch
        with suppress(OSError):  # it has just died: the next look finds out
            connection.send(batch)

    def _bury(self, connection: Connection, listener: Listener) -> None:
        process = self._processes.pop(connection)
        connection.close()
        process.join()
        lost = self._in_hand.pop(connection, [])
        if process.exitcode and lost:
            how = _how(process.exitcode)
            said = f"not registered: the worker that had it {how}; add it again"
            listener.done(Tally(failures=[Failure(task.path, said) for task in lost]))

    def _stop(self) -> None:
        if self._stopping:
            return
        self._stopping = True
        for connection, process in self._processes.items():
            self._give(connection, None)
            process.terminate()

    def _kill(self) -> None:
        for process in self._processes.values():
            process.kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()
        for connection, process in self._processes.items():
            process.join()
            connection.close()
        self._processes.clear()


def _how(exit_code: int) -> str:
    if exit_code > 0:
        return f"ended with code {exit_code}"
    try:
        return f"was killed by {signal.Signals(-exit_code).name}"
    except ValueError:
        return f"was killed by signal {-exit_code}"
