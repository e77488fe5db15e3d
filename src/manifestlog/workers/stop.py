"""How a worker is stopped: at once where it only waits, at the next good moment where it does not.

A signal's handler must not raise in the middle of an addition or between the steps that complete a file; a read from a
slow server, though, may take a minute. So the handler raises only while a `Stop` is inside `interruptible`.

Invariants:

- Once asked, nothing that waits begins any more: `interruptible` raises `StopAskedError`.
- Outside of `interruptible` the handler only remembers.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SLICE_S = 0.5


class StopAskedError(BaseException):
    """Somebody wants this worker to end; what it has of a file is kept.

    No `Exception`, as `KeyboardInterrupt` is none: a library's `except Exception` must not take it for a failed read.
    """


class Stop:
    """Whether somebody asked to stop; its method `ask` is a signal handler."""

    def __init__(self) -> None:
        self.asked = False
        self._is_interruptible = False

    def ask(self, _number: int = 0, _frame: FrameType | None = None) -> None:
        """Stop as soon as it does no harm."""
        self.asked = True
        if self._is_interruptible:
            raise StopAskedError  # again each time: one that lands in a destructor is lost

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Around what only waits for others: raises `StopAskedError` in there, or at its beginning."""
        self._is_interruptible = True
        try:
            if self.asked:
                raise StopAskedError
            yield
        finally:
            self._is_interruptible = False

    def sleep(self, seconds: float) -> None:
        """Wait; ends early with `StopAskedError`."""
        end = time.monotonic() + seconds
        left = seconds
        while True:
            # In slices: a signal that lands between the interpreter's last look and the kernel's sleep does not end that.
            with self.interruptible():
                time.sleep(min(left, _SLICE_S))
            if (left := end - time.monotonic()) <= 0:
                return
