"""Stops a worker: at once while it waits, otherwise at the next safe point.

A signal handler must not raise during an addition, or between the steps that complete a file. But a read from a slow
server may take a minute. So the handler raises only while a `Stop` is inside `interruptible`.

Invariants:

- After a stop request, no wait starts: `interruptible` raises `StopAskedError`.
- Outside `interruptible`, the handler only sets a flag.
- Only the thread that created the `Stop` is interrupted, since signal handlers run in one thread. The others look at the
  flag before each wait, and within `sleep`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SLICE_S = 0.5


class StopAskedError(BaseException):
    """A stop request to this worker. Its partial files are kept.

    Like `KeyboardInterrupt` it is not an `Exception`, so a library's `except Exception` cannot mistake it for a failed read.
    """


class Stop:
    """A stop request. Its method `ask` is a signal handler."""

    def __init__(self) -> None:
        self.asked = False
        self._thread = threading.get_ident()
        self._is_interruptible = False
        self.waiting: set[int] = set()
        """The other threads that are inside `interruptible`."""

    def ask(self, _number: int = 0, _frame: FrameType | None = None) -> None:
        """Request a stop at the next safe point."""
        self.asked = True
        if self._is_interruptible:
            raise StopAskedError  # on every signal: an exception inside a destructor is lost

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Allow `StopAskedError` inside the context, and raise it at the start after a stop request."""
        if threading.get_ident() != self._thread:
            with self._counted():
                yield
            return
        self._is_interruptible = True
        try:
            if self.asked:
                raise StopAskedError
            yield
        finally:
            self._is_interruptible = False

    @contextmanager
    def _counted(self) -> Iterator[None]:
        self.waiting.add(threading.get_ident())
        try:
            if self.asked:
                raise StopAskedError
            yield
        finally:
            self.waiting.discard(threading.get_ident())

    def sleep(self, seconds: float) -> None:
        """Sleep for `seconds`. Raises `StopAskedError` on a stop request."""
        end = time.monotonic() + seconds
        left = seconds
        while True:
            # In slices: a signal between the interpreter's last check and the kernel's sleep does not end the sleep.
            with self.interruptible():
                time.sleep(min(left, _SLICE_S))
            if (left := end - time.monotonic()) <= 0:
                return
