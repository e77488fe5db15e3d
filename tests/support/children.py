"""Child processes: forked, so that they start in milliseconds, with a link to talk over and a deadline for everything."""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
import traceback
import warnings
from contextlib import contextmanager, suppress
from multiprocessing import Pipe
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.connection import Connection
    from typing import TypeAlias

    Link: TypeAlias = Connection[Any, Any]
    Start: TypeAlias = "Callable[..., Child]"

PATIENCE_S = 60.0
"""How long to wait for something that should take milliseconds before calling it hung."""


class Failure:
    """What a child sends when its function raised."""

    def __init__(self, text: str) -> None:
        self.text = text


class Child:
    """A forked process that runs `target(link, *args)`; its return value is the last thing that it sends."""

    def __init__(self, target: Callable[..., object], *args: object) -> None:
        self.link, theirs = Pipe()
        self.status: int | None = None
        with warnings.catch_warnings():
            # These children are few and short; that the library itself keeps quiet has a test of its own.
            warnings.simplefilter("ignore", DeprecationWarning)
            self.pid = os.fork()
        if self.pid == 0:
            self.link.close()
            _run(theirs, target, args)
        theirs.close()
        self._watch = os.pidfd_open(self.pid)

    def send(self, message: object) -> None:
        self.link.send(message)

    def receive(self, timeout_s: float = PATIENCE_S) -> Any:
        """The child's next message; what it raised comes out here."""
        assert self.link.poll(timeout_s), f"child {self.pid} said nothing for {timeout_s} s"
        message = self.link.recv()
        assert not isinstance(message, Failure), message.text
        return message

    def said(self) -> list[Any]:
        """Everything that a child has sent which has ended since."""
        self.join()
        found = []
        with suppress(EOFError):
            while True:
                found.append(self.link.recv())
        return found

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        if self.status is None:
            os.kill(self.pid, number)

    def ended_within(self, timeout_s: float) -> bool:
        """Wait for the end, but no longer; return whether it has come."""
        return self.status is not None or bool(select.select([self._watch], [], [], timeout_s)[0])

    def join(self, timeout_s: float = PATIENCE_S) -> int:
        """Wait for the end: the exit code, or minus the signal."""
        if self.status is None:
            ready, _, _ = select.select([self._watch], [], [], timeout_s)
            assert ready, f"child {self.pid} does not end"
            self.status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.status

    def result(self, timeout_s: float = PATIENCE_S) -> Any:
        """What the function returned, once the child has ended well."""
        value = self.receive(timeout_s)
        assert self.join(timeout_s) == 0
        return value

    def discard(self) -> None:
        """Kill it if it still runs, and let go of everything."""
        if self.status is None:
            with suppress(ProcessLookupError):
                self.kill()
            self.join()
        self.link.close()
        os.close(self._watch)


def _run(link: Link, target: Callable[..., object], args: tuple[object, ...]) -> None:
    code = 1
    try:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(900)  # nobody outlives a test run that was killed
        link.send(target(link, *args))
        code = 0
    except BaseException:
        text = traceback.format_exc()
        with suppress(OSError):
            link.send(Failure(text))
        print(text, file=sys.stderr, flush=True)
    finally:
        os._exit(code)


@contextmanager
def children() -> Iterator[Callable[..., Child]]:
    """A function that starts children, all gone on leaving."""
    started: list[Child] = []

    def start(target: Callable[..., object], *args: object) -> Child:
        child = Child(target, *args)
        started.append(child)
        return child

    try:
        yield start
    finally:
        for child in started:
            child.discard()


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Break a test that hangs, also one that waits for a lock."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(_number: int, _frame: object) -> None:
        raise TimeoutError(f"the test hangs: it ran for {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    outer, _ = signal.setitimer(signal.ITIMER_REAL, seconds, 5)  # again: a pool that is left waits for its threads
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        signal.setitimer(signal.ITIMER_REAL, outer)
